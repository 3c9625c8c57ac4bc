package router

import "github.com/pomelod/pomelod/netpoll"

// A hop from one loop to another costs as much as writing to one to three members. So a session that enters a room moves to the
// loop of the room's worker first, connection and all; in small rooms nothing has to hop after that, at any number of
// loops. Large rooms use all loops.

// baggage is what a session takes along to another loop. It is filled in by Closed, when everything else is done.
type baggage struct {
	session session
	stash   []byte
	left    uint32 // seconds until alive
	key     uint64
}

// maxHops is how often a session moves for one enter: to the loop of the worker, and, if the room is large, away from it.
const maxHops = 2

// follow begins a session's move to where its room is. It tells whether it did; then the request must be left unconsumed, and is
// carried out there. A session that an App knows stays: its handle names the loop.
func (l *loop) follow(s *session, c *call) bool {
	if !c.route.handle.follows || !l.node.follow || s.room != nil || s.hops >= maxHops || s.handle != nil || s.conn.IsPull() || s.inflight() > 0 {
		return false
	}
	if l.node.broadcasts.Load() > 0 || l.node.closing.Load() { // it must not slip to where Drain has looked already
		return false
	}
	body, ok := c.object()
	_, rawRoom, _ := enterMembers(&body)
	room := nameValue(rawRoom)
	if !ok || body.Err() != nil || room == "" {
		return false
	}
	to := l.node.placement.Load()[c.partition(room)].loop
	if to == l {
		if _, large := l.large[room]; !large { // as those who have entered it here were told; large is what it is until all of them have left
			return false
		}
		for _, other := range l.node.loops {
			if other.np.Open() < to.np.Open() {
				to = other
			}
		}
		if to == l {
			return false
		}
	}
	l.payOwed(s)
	l.counters.moves++
	l.baggage = new(baggage)
	s.state = stateMoved
	l.np.MoveWith(s.conn, to.np, l.baggage)
	return true
}

// pack fills in the baggage of a session that leaves this loop.
func (l *loop) pack(s *session) {
	b := l.baggage
	b.session = session{
		variant: s.variant, state: stateWorking, wire: s.wire, transport: s.transport, pinged: s.pinged, hops: s.hops + 1, ws: s.ws,
	}
	b.key = l.keys[s.conn.Slot()]
	if s.alive > l.np.Now() {
		b.left = s.alive - l.np.Now()
	}
	if s.x != nil {
		b.stash = s.x.stash
	}
}

// unpack makes s what it was on the loop it comes from.
func (l *loop) unpack(s *session, b *baggage) {
	conn, profile := s.conn, s.profile
	*s = b.session
	s.conn, s.profile, s.transport = conn, profile, transportNone
	l.countTransport(s, b.session.transport)
	if b.key != 0 {
		l.keys[conn.Slot()] = b.key
	}
	if len(b.stash) > 0 {
		l.extra(s).stash = b.stash
	}
	l.beginMeter(s) // full again, which a session can do maxHops times
	s.alive = l.np.Now() + b.left
	l.np.SetDue(conn, s.alive)
}

// left ends what a move began: on the way the socket may have died.
func (l *loop) left(s *session, why netpoll.Reason) {
	switch {
	case why == netpoll.ReasonMoved && l.baggage != nil:
		l.pack(s)
	case why != netpoll.ReasonMoved && l.taker != 0: // a session that gave up polling for it has nothing now
		if c := l.np.Find(l.taker); c != nil {
			l.np.Kill(c, why)
		}
	}
	l.baggage, l.taker = nil, 0
}
