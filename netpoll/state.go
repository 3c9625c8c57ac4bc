package netpoll

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// ConnState is all that a conn takes along when its socket goes to another loop, beside the socket itself. Its encoding is what a hand-over
// to another process sends beside the descriptor.
type ConnState struct {
	Tag  uint8
	Pass Pass
	Peer netip.AddrPort

	Unread []byte // received, and not consumed by the handler
	Unsent []byte // staged or queued, and not taken by the peer

	// Handler is what Handler.Open is given: the State of the Transfer.
	Handler []byte
}

// connStateVersion is the first byte of the encoding.
const connStateVersion = 1

// ErrConnState is the error of ParseConnState: the input was not written by Append, or by that of a newer version.
var ErrConnState = errors.New("malformed state of a connection")

// Append appends the encoding of s to dst: a version, the tag, the peer's port and address (16 bytes, IPv6 form), then as varints the
// pass, and each of the three texts behind its length; the handler's length is one more than it has bytes, 0 for nil.
func (s *ConnState) Append(dst []byte) []byte {
	dst = append(dst, connStateVersion, s.Tag)
	dst = binary.BigEndian.AppendUint16(dst, s.Peer.Port())
	addr := s.Peer.Addr().As16()
	dst = append(dst, addr[:]...)
	dst = binary.AppendUvarint(dst, uint64(s.Pass))
	dst = append(binary.AppendUvarint(dst, uint64(len(s.Unread))), s.Unread...)
	dst = append(binary.AppendUvarint(dst, uint64(len(s.Unsent))), s.Unsent...)
	if s.Handler == nil {
		return append(dst, 0)
	}
	return append(binary.AppendUvarint(dst, uint64(len(s.Handler))+1), s.Handler...)
}

// ParseConnState decodes what Append has encoded. The state's bytes lie in b.
func ParseConnState(b []byte) (ConnState, error) {
	const head = 2 + 2 + 16
	if len(b) < head || b[0] != connStateVersion {
		return ConnState{}, ErrConnState
	}
	s := ConnState{
		Tag:  b[1],
		Peer: netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[4:head])).Unmap(), binary.BigEndian.Uint16(b[2:])),
	}
	b = b[head:]
	var bad bool
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			bad = true
			return 0
		}
		b = b[n:]
		return v
	}
	text := func(n uint64) []byte {
		if bad || n > uint64(len(b)) {
			bad = true
			return nil
		}
		t := b[:n:n]
		b = b[n:]
		return t
	}
	pass := number()
	s.Pass = Pass(pass)
	s.Unread = text(number())
	s.Unsent = text(number())
	if n := number(); n > 0 {
		s.Handler = text(n - 1)
	}
	if bad || uint64(s.Pass) != pass || len(b) > 0 {
		return ConnState{}, ErrConnState
	}
	return s, nil
}
