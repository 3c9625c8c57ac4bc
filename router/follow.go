package router

import "github.com/pomelod/pomelod/netpoll"

// A hop from one loop to another costs as much as writing to one to three members. So a session that enters a room moves to the
// loop of the room's worker first, connection and all; in small rooms nothing has to hop after that, at any number of
// loops. Large rooms use all loops.

// maxHops is how often a session moves for one enter: to the loop of the worker, and, if the room is large, away from it.
const maxHops = 2

// follow begins a session's move to where its room is. It tells whether it did; then the request must be left unconsumed, and is
// carried out there. A session that an App knows stays: its handle names the loop.
func (l *loop) follow(s *session, c *call) bool {
	if !c.route.handle.follows || !l.node.follow || s.hops >= maxHops || s.movable() != 0 {
		return false
	}
	if l.node.broadcasts.Load() > 0 || l.node.closing.Load() { // it must not slip to where Drain has looked already
		return false
	}
	body, ok := c.object()
	rawRoom := enterMembers(&body).room
	room := nameValue(rawRoom)
	if !ok || body.Err() != nil || room == "" {
		return false
	}
	to := l.node.loopOf(c.partition(room))
	if to == l {
		if _, large := l.rooms.large[room]; !large { // as those who have entered it here were told; large is what it is until all of them have left
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
	s.hops++
	l.extra(s).to = to
	return true
}

// loopOf is the loop on which a partition runs; if that is on another node, one of this one's that all members of its small rooms here share.
func (n *Node) loopOf(part uint16) *loop {
	if l := n.placement.Load()[part].loop; l != nil {
		return l
	}
	return n.loops[int(part)%len(n.loops)]
}

// transfer is what has been decided about the socket of s while its bytes were handled.
func (l *loop) transfer(s *session) (t netpoll.Transfer) {
	switch x := s.x; {
	case x.heir != 0:
		t.Heir = x.heir
	case x.to != nil:
		t.To = x.to.np
		if s.phase == working { // else it has no session yet, and only its bytes go along
			t.State = l.exportSession(s)
		}
	}
	return t
}

// leaving tells whether the socket of s belongs to another session, or will when Data returns: what has arrived is for others.
func (s *session) leaving() bool { return s.x != nil && (s.x.to != nil || s.x.heir != 0) }
