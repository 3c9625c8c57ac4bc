package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Over socket.io a Pomelo client sends strings and gets JSON, in packets that differ from generation to generation. A
// dialect is one generation; how its packets travel is pushed's (WebSocket) and polling's business.
type dialect interface {
	// path of an HTTP request: before the session is open of the one that opens it, later of the session.
	path(transport string) string
	// opened takes the answer to the request that opens a session; packets in it are for take.
	opened(body []byte, take func(packet []byte) error) error

	// take takes a packet, and may return one that is to be sent at once.
	take(packet []byte, s sink) (reply string, err error)
	// appendRequest and heartbeat make packets.
	appendRequest(dst []byte, id uint32, route string, body []byte) []byte
	heartbeat() string

	// payload cuts the body of an answer to a GET into packets, appendPayload makes one for a POST, accepted is what that is
	// answered with.
	payload(body []byte, take func(packet []byte) error) error
	appendPayload(dst []byte, packets [][]byte) []byte
	accepted() string
}

// appendString appends a request in the string format: four characters of id and one of the route's length, the low byte of
// each counting, the route, the body.
func appendString(dst []byte, id uint32, route string, body []byte) []byte {
	for _, c := range [5]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id), byte(len(route))} {
		dst = utf8.AppendRune(dst, rune(c))
	}
	dst = append(dst, route...)
	return append(dst, body...)
}

// appendEscaped appends text as it stands inside of a JSON string.
func appendEscaped(dst, text []byte) []byte {
	for _, c := range text {
		switch {
		case c < ' ':
			dst = fmt.Appendf(dst, `\u%04x`, c)
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// spelling is how the JSON of a server mostly looks: plain, or as it stands inside of a JSON string.
//
//	{"route":"onChat",...}      flat or with a body inside
//	{"id":3,"body":{}}
type spelling struct{ route, id, quote, body string }

var (
	plain   = spelling{`{"route":"`, `{"id":`, `"`, `,"body":`}
	escaped = spelling{`{\"route\":\"`, `{\"id\":`, `\"`, `,\"body\":`}
)

// quick takes an element without parsing it: what the load generator spends on each delivery limits the load. It returns
// false, having done nothing, when that does not look as usual and must go the long way.
func (l *spelling) quick(b []byte, s sink) bool {
	if len(b) == 0 || b[len(b)-1] != '}' {
		return false
	}
	if rest, ok := bytes.CutPrefix(b, []byte(l.route)); ok {
		i := bytes.Index(rest, []byte(l.quote))
		if i <= 0 || string(rest[:i]) == "onKick" || bytes.IndexByte(rest[:i], '\\') >= 0 {
			return false
		}
		s.pushed(rest[:i], b)
		return true
	}
	rest, ok := bytes.CutPrefix(b, []byte(l.id))
	id := uint32(0)
	for len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' && id < 1<<27 {
		id = id*10 + uint32(rest[0]-'0')
		rest = rest[1:]
	}
	body, also := bytes.CutPrefix(rest, []byte(l.body))
	body, whole := bytes.CutSuffix(body, []byte("}}"))
	if !ok || !also || !whole || id == 0 || bytes.IndexByte(body, '\\') >= 0 {
		return false
	}
	s.answered(id, rest[len(l.body):len(rest)-1])
	return true
}

// takeText is the long way: text is one element or an array of them.
func takeText(text []byte, s sink) error {
	elements := []json.RawMessage{text}
	if bytes.HasPrefix(text, []byte("[")) {
		if err := json.Unmarshal(text, &elements); err != nil {
			return fmt.Errorf("%w: %.100q", err, text)
		}
	}
	for _, e := range elements {
		var x struct {
			ID     uint32
			Route  string
			Body   json.RawMessage
			Reason json.RawMessage
		}
		switch err := json.Unmarshal(e, &x); {
		case err != nil:
			return fmt.Errorf("%w: %.100q", err, e)
		case x.ID != 0 && x.Body != nil:
			s.answered(x.ID, x.Body)
		case x.Route == "onKick":
			return fmt.Errorf("kicked: %.100s", x.Reason)
		case x.Route != "":
			s.pushed([]byte(x.Route), e)
		default:
			return fmt.Errorf("neither answer nor push: %.100q", e)
		}
	}
	return nil
}

var errPacket = errors.New("packet that no server should send")

// pushed is a socket.io client by WebSocket: packets are text frames.
type pushed struct {
	websocket
	dialect dialect
	host    string
	shake   bool // the session is opened by HTTP first, on the same connection
}

func newPushed(d dialect) *pushed {
	_, shake := d.(*sio09)
	return &pushed{websocket: websocket{opcode: wsText}, dialect: d, shake: shake}
}

func (p *pushed) hello(s sink, host string) {
	if p.host = host; p.shake {
		s.send(appendGet(s.buffer(), host, p.dialect.path("websocket")))
	} else {
		s.send(appendUpgrade(s.buffer(), host, p.dialect.path("websocket")))
	}
}

func (p *pushed) read(b []byte, s sink) (int, error) {
	at := 0
	if p.shake {
		body, n, err := readResponse(b)
		if n == 0 || err != nil {
			return 0, err
		}
		if err := p.dialect.opened(body, nil); err != nil {
			return 0, err
		}
		p.shake, at = false, n
		s.send(appendUpgrade(s.buffer(), p.host, p.dialect.path("websocket")))
	}
	n, err := p.websocket.read(b[at:], s, func(sink) {}, p.take)
	return at + n, err
}

func (p *pushed) take(packet []byte, s sink) error {
	reply, err := p.dialect.take(packet, s)
	if reply != "" && err == nil {
		s.send(p.seal(append(p.begin(s.buffer()), reply...), wsText))
	}
	return err
}

func (p *pushed) heartbeat(s sink) {
	s.send(p.seal(append(p.begin(s.buffer()), p.dialect.heartbeat()...), wsText))
}

func (p *pushed) request(s sink, id uint32, route string, body []byte) {
	s.send(p.seal(p.dialect.appendRequest(p.begin(s.buffer()), id, route, body), wsText))
}
