package netpoll

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"

	"github.com/pomelod/pomelod/internal/wirebytes"
)

// ConnState is all that a conn takes along when its socket goes to another loop, beside the socket itself. Its encoding is what a hand-over
// to another process sends beside the descriptor.
type ConnState struct {
	Tag  uint8
	Pass Pass
	Peer netip.AddrPort

	Unread []byte // received, and not consumed by the handler
	Unsent []byte // staged, queued or pushed to its group, and not taken by the peer

	// Handler is what Handler.Open is given: the State of the Transfer. nil is what new conns have.
	Handler []byte

	// Kept is what else there is to a conn that keeps its name (Export).
	Kept Kept
}

// Kept is what a conn keeps that goes to a loop in the place of its own (Export, Import). A conn that goes to another loop begins anew in all
// of this, under a name of that loop. Times are seconds until now, so that no clock goes along.
type Kept struct {
	Name    ID     // 0: it goes to another loop, and has nothing else of this
	Waits   uint8  // why it is not read: a set of waits that a loop can take up again
	Lingers uint32 // one more than the seconds that are left for its last bytes, if the handler has heard of its end; else 0
	Idle    uint32 // since a byte last passed in either direction
	Stuck   uint32 // since the peer last took some of Unsent
	Exempt  uint32 // of Unsent, the bytes that do not count for Limits.Outbound
	Begun   uint32 // since the peer owes what belongs to Unread
}

// connStateVersion is the first byte of the encoding.
const connStateVersion = 2

// ErrConnState is the error of ParseConnState: the input was not written by Append, or by that of another version.
var ErrConnState = errors.New("malformed state of a connection")

// Append appends the encoding of s to dst: a version, the tag, the peer's port and address (16 bytes, IPv6 form), the pass, unread and unsent
// bytes, 1 and the handler's state or 0 for nil, and Kept in the order of its fields. Numbers are varints, bytes stand behind their length.
func (s *ConnState) Append(dst []byte) []byte {
	dst = append(dst, connStateVersion, s.Tag)
	dst = binary.BigEndian.AppendUint16(dst, s.Peer.Port())
	addr := s.Peer.Addr().As16()
	dst = append(dst, addr[:]...)
	dst = binary.AppendUvarint(dst, uint64(s.Pass))
	dst = wirebytes.AppendBlock(wirebytes.AppendBlock(dst, s.Unread), s.Unsent)
	if s.Handler == nil {
		dst = append(dst, 0)
	} else {
		dst = wirebytes.AppendBlock(append(dst, 1), s.Handler)
	}
	k := &s.Kept
	return wirebytes.AppendUints(dst, uint64(k.Name), uint64(k.Waits), uint64(k.Lingers), uint64(k.Idle), uint64(k.Stuck), uint64(k.Exempt), uint64(k.Begun))
}

// ParseConnState decodes what Append has encoded. The state's bytes lie in b.
func ParseConnState(b []byte) (ConnState, error) {
	r := wirebytes.NewReader(b)
	version, tag, port, addr := r.Byte(), r.Byte(), r.Take(2), r.Take(16)
	if version != connStateVersion || !r.OK() {
		return ConnState{}, ErrConnState
	}
	s := ConnState{Tag: tag, Peer: netip.AddrPortFrom(netip.AddrFrom16([16]byte(addr)).Unmap(), binary.BigEndian.Uint16(port))}
	s.Pass = Pass(r.UpTo(math.MaxUint32))
	s.Unread, s.Unsent = r.Block(), r.Block()
	if r.UpTo(1) == 1 {
		s.Handler = append([]byte{}, r.Block()...)
	}
	s.Kept = Kept{
		Name: ID(r.Uint()), Waits: uint8(r.UpTo(uint64(waitsKept))), Lingers: r.Uint32(), Idle: r.Uint32(), Stuck: r.Uint32(), Exempt: r.Uint32(),
		Begun: r.Uint32(),
	}
	if !r.End() {
		return ConnState{}, ErrConnState
	}
	return s, nil
}
