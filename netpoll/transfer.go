package netpoll

import "bytes"

// Transfer is what Handler.Data decides about its conn's socket. The zero Transfer leaves it where it is. Otherwise the conn ends with
// ReasonMoved, and another conn gets its socket: a new one on the loop To, or Heir, a conn of this loop that has no socket (OpenPull).
//
// The loop carries it out when Data has returned. Nothing happens if the conn has ended by then, perhaps by a failed write, if its heir
// has ended, or if the conn has no socket.
type Transfer struct {
	// To is the loop that gets the socket. It opens a new conn for it, and gives that what Data has left unconsumed.
	To *Loop
	// State is passed to Handler.Open on the loop To, and belongs to netpoll from now on. Handler.Open gets nil for conns that are new.
	State []byte

	// Heir is the conn that takes the socket over. It must have no unread input (TakeInput). It keeps its ID, its deadline and its group,
	// and is given what Data has left unconsumed. The peer first gets what this conn has unsent, then what the heir has.
	Heir ID
}

// moves tells whether the socket is to go elsewhere.
func (t *Transfer) moves() bool { return t.To != nil || t.Heir != 0 }

// transfer carries out what c's handler has decided, and tells whether it could. rest is what the handler has not consumed.
func (l *Loop) transfer(c *Conn, rest []byte, next *Transfer) bool {
	if c.IsPull() {
		return false
	}
	if c.Alive() {
		l.outboxes.flush(c)
	}
	if !c.Alive() {
		return false
	}
	if next.To != nil {
		l.move(c, next.To, rest, next.State)
		return true
	}
	heir := l.Find(next.Heir)
	if heir == nil || !heir.IsPull() {
		return false
	}
	l.attach(heir, c, rest)
	return true
}

// move posts c's socket to another loop, with all that belongs to it.
func (l *Loop) move(c *Conn, to *Loop, rest, state []byte) {
	in := incoming{fd: c.fd, moved: true, ConnState: ConnState{
		Tag: c.tag, Pass: c.pass, Peer: c.Peer(), Unread: bytes.Clone(rest), Unsent: l.TakeOutput(c), Handler: state,
	}}
	if l.budget.RoundTrip {
		var err error
		if in.ConnState, err = ParseConnState(in.Append(nil)); err != nil {
			panic(err) // the encoder has written what its decoder refuses
		}
	}
	if !l.sockets.release(c) {
		return
	}
	in.secure = l.secures.take(c)
	to.open.Add(1) // first: a sum over all loops must not miss it
	l.vacate(c)
	l.open.Add(-1)
	to.accepted.Post(in)
}

// attach gives the socket of c to heir.
func (l *Loop) attach(heir, c *Conn, rest []byte) {
	rest = bytes.Clone(rest) // it may lie in c's inbox
	unsent := l.TakeOutput(c)
	l.sockets.hand(c, heir)
	s := l.secures.take(c)
	if s != nil {
		l.secures.add(heir, s)
		l.weigh(heir, s, true)
	}
	heir.active = c.active
	l.counts.giveUp(heir)
	heir.tag, heir.peer, heir.peerPort, heir.pass = c.tag, c.peer, c.peerPort, c.pass // the tag under which the socket is counted
	l.pulls.Add(-1)
	l.vacate(c)
	if o := heir.out; o != nil && o.bytes > 0 { // what a peer did not fetch goes to the socket as well
		unsent = append(unsent, l.outboxes.take(heir)...)
	}
	if len(unsent) > 0 {
		l.outboxes.enqueue(heir, segment{b: unsent})
	}
	l.watch(heir, heir.watched|Readable) // c may have been blocked until now
	l.deliver(heir, rest)
	if s != nil {
		l.settle(heir, s, recordEnd(s.raw) > 0)
	}
}
