package router

import (
	"fmt"

	"github.com/pomelod/pomelod/codec"
)

// CESU8 says which clients get characters above U+FFFF in protobuf strings as two surrogates of three bytes each (protocol.md §2.6):
// browser builds of pomelo-protobuf read nothing else. NetEase's own clients for cocos2d-js and Node tell the same type in
// their handshake and read nothing but UTF-8.
type CESU8 uint8

// What CESU8 may be. All but CESU8Never mean clients of type js-websocket only.
const (
	// CESU8Auto: those whose upgrade request had an Origin, as browsers' have, until one of their own texts is UTF-8.
	CESU8Auto   CESU8 = iota
	CESU8Always       // all of them
	CESU8Never        // none
)

var cesu8Names = [...]string{CESU8Auto: "auto", CESU8Always: "always", CESU8Never: "never"}

// MarshalText writes the policy as the flag -cesu8 has it.
func (p CESU8) MarshalText() ([]byte, error) { return []byte(cesu8Names[p]), nil }

// UnmarshalText reads what MarshalText writes.
func (p *CESU8) UnmarshalText(text []byte) error {
	for i, name := range cesu8Names {
		if string(text) == name {
			*p = CESU8(i)
			return nil
		}
	}
	return fmt.Errorf("%q: must be auto, always or never", text)
}

// chooseText gives a session the variant for the text that its client reads, as far as the handshake tells.
func (l *loop) chooseText(s *session, client *clientSys, handshake []byte) {
	origin := false
	if s.x != nil && s.x.origin {
		origin, s.x.origin = true, false
		l.tidy(s)
	}
	if client.clientType != "js-websocket" || l.profile(s).Protos == nil {
		return
	}
	switch l.node.cesu8 {
	case CESU8Never:
		return
	case CESU8Auto:
		if !origin || codec.HasFourByteUTF8(handshake) {
			return
		}
	}
	s.variant = l.profile(s).variant(l.variant(s).Framing, true)
}

// learnText looks whether a client that gets CESU-8 wrote UTF-8 itself: then it reads it as well. It does so from the next push on.
func (l *loop) learnText(s *session, c *call) {
	utf8 := false
	if c.isProto() {
		utf8 = c.route.request.HasFourByteUTF8(c.body)
	} else {
		utf8 = codec.HasFourByteUTF8(c.body)
	}
	if utf8 {
		l.rooms.changeVariant(s, l.profile(s).variant(l.variant(s).Framing, false))
	}
}
