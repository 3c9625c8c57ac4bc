package router

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/netpoll"
)

// What a loop tells the owner of a room of how a member went: whether it said goodbye, what it had been sent, and where it was. The owner decides
// what becomes of its place (channel.Request.Cut).

// isCut tells whether a session that ends for a reason was cut off. All else is a goodbye, of its client or of ours: a close frame, Engine.IO's and
// socket.io's own packets, a kick, what breaks the protocol or a limit. The end of a stream is the only goodbye that raw TCP has. A record of TLS that is
// not right is none: its sender is not the client, or something on the way has changed it.
func (l *loop) isCut(s *session, why netpoll.Reason) bool {
	switch why {
	case netpoll.ReasonPeer:
		v := l.variant(s)
		return v != nil && (v.Framing.WebSocket() || s.conn.IsPull())
	case netpoll.ReasonReset, netpoll.ReasonSlow, netpoll.ReasonStuck, netpoll.ReasonMemory, netpoll.ReasonTLS, netpoll.ReasonPanic, reasonSilent, reasonUnfinished, reasonShutdown:
		return true
	}
	return false
}

// endOf is what a leave says of how its session ends.
func (l *loop) endOf(s *session, why netpoll.Reason) (end channel.Request) {
	if l.node.ghosts.grace == 0 || s.room == nil && (s.x == nil || s.x.entering == "" && s.changing() == nil) || !l.isCut(s, why) && (s.appClient() == nil || s.appClient().replaced == 0) {
		return end
	}
	near := l.node.access.near(s.conn.Peer().Addr())
	if l.node.ghosts.take(near, l.np.Nanos()) {
		end.Cut, end.Near = true, near
	}
	return end
}

// handed is the number of the last push that a session, which leaves its room here, was sent.
func (l *loop) handed(s *session) uint64 {
	r, v := s.room, l.variant(s)
	if x := s.x; x != nil && x.pull != nil && (x.pull.get != 0 || x.pull.waits(l.node.ending.Load())) { // a GET is answered with all there is
		return r.seq
	}
	for _, vg := range r.groups {
		if vg.variant == v {
			return vg.numberAt(s.conn.Written(), r.seq)
		}
	}
	return r.seq
}

// mark says how far a group's stream had come with a push.
type mark struct{ end, seq uint64 }

// maxMarks is of how many pushes that somebody may lack it is known where they end: of the first one, of the first one that the group still has for
// anybody, and of the last maxMarks/2 at least.
const maxMarks = 128

// mark notes where a push ends that was just added. fresh tells that everything before it has been sent to everybody, so everything before the first mark always
// has. Only slow members lack what the group has no longer: all others lack nothing before its first push, which in a room that is held (Policy.Hold) may be
// long ago.
func (vg *variantGroup) mark(seq uint64, fresh bool) {
	switch n := len(vg.marks); {
	case fresh:
		vg.marks = vg.marks[:0]
	case n == maxMarks:
		kept := vg.marks[:1]
		passed := vg.group.End() - uint64(vg.group.Backlog())
		if i := slices.IndexFunc(vg.marks, func(m mark) bool { return m.end > passed }); i > 0 && i < n/2 {
			kept = append(kept, vg.marks[i])
		}
		vg.marks = append(kept, vg.marks[n/2:]...)
	}
	vg.marks = append(vg.marks, mark{vg.group.End(), seq})
}

// numberAt is the number of the last push that ends within so much of the group's stream; last is the one of the last push of all. Of a push of which it
// is not known where it ends, that is said, too: nobody must be told anything twice.
func (vg *variantGroup) numberAt(written, last uint64) uint64 {
	next := last + 1 // of the first push that is known to end behind it
	if written >= vg.group.End() || len(vg.marks) == 0 {
		return last
	}
	for i := len(vg.marks) - 1; i >= 0; i-- {
		m := vg.marks[i]
		if m.end == written {
			return m.seq
		}
		if m.end < written {
			break
		}
		next = m.seq
	}
	return next - 1
}

// near is an address as channel.Request.Near: that of IPv4, and the network of 64 bits of IPv6. 0 for this machine's and trusted proxies', behind which
// are others.
func (a *access) near(addr netip.Addr) uint64 {
	switch {
	case !addr.IsValid() || addr.IsLoopback() || a.trusts(addr):
		return 0
	case addr.Is4():
		b := addr.As4()
		return 1<<32 | uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := addr.As16()
	return binary.BigEndian.Uint64(b[:8])
}

// nearPrefix is what near has made a number of; none for 0.
func nearPrefix(near uint64) netip.Prefix {
	switch {
	case near == 0:
		return netip.Prefix{}
	case near>>32 == 1:
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(near)))), 32)
	}
	return netip.PrefixFrom(netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, near), 0))), 64)
}

// ghosts bounds how many members are away, of one address and in all: so many may be cut off within the time for which they are. Safe from any goroutine.
type ghosts struct {
	grace int64 // ns; 0: nobody is away

	// Guarded by mu.
	mu    sync.Mutex
	most  int // of an address
	all   int
	by    map[uint64]int
	queue []ghost // by until
}

type ghost struct {
	near  uint64
	until int64
}

// maxGhosts is how many an address may have, if it may have so many connections; maxAway how many there are in all, if there may be so many connections.
const (
	maxGhosts = 1000
	maxAway   = 100_000
)

// newGhosts makes the ghosts of a node on which an address may have so many connections, and all addresses so many; 0: any number.
func newGhosts(grace int64, conns, all int) *ghosts {
	g := &ghosts{grace: grace, by: make(map[uint64]int)}
	g.bound(conns, all)
	return g
}

// bound has other bounds hold. Members that are away keep their places.
func (g *ghosts) bound(conns, all int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.most, g.all = maxGhosts, maxAway
	if conns > 0 {
		g.most = min(g.most, conns)
	}
	if all > 0 {
		g.all = min(g.all, all)
	}
}

// take tells whether another member of an address may be away from now on. A member without an address of its own counts only among all.
func (g *ghosts) take(near uint64, now int64) bool {
	if g.grace == 0 {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	done := 0
	for ; done < len(g.queue) && g.queue[done].until <= now; done++ {
		if at := g.queue[done].near; g.by[at] == 1 {
			delete(g.by, at)
		} else {
			g.by[at]--
		}
	}
	if g.queue = g.queue[done:]; len(g.queue) == 0 {
		g.queue = nil
	}
	if len(g.queue) >= g.all || near != 0 && g.by[near] >= g.most {
		return false
	}
	g.by[near]++
	g.queue = append(g.queue, ghost{near, now + g.grace})
	return true
}
