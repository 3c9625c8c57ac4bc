package netpoll

import "net/netip"

// noSocket is the descriptor of a conn whose peer comes and fetches.
const noSocket = -1

// OpenPull makes a conn without a socket, for a peer that fetches its output by other conns (long polling). It is like a conn
// whose socket is mostly full: what it cannot give away waits within the same bounds, and shares memory with other
// slow members of its group. Its input comes by Feed. It counts as no socket. Handler.Open is not called for it.
// Runs on the loop.
func (l *Loop) OpenPull(tag uint8, peer netip.AddrPort) *Conn {
	c := l.newConn()
	c.fd, c.tag, c.peer, c.peerPort = noSocket, tag, peer.Addr().As16(), peer.Port()
	c.state, c.active = connOpen, l.now
	l.pulls.Add(1)
	l.stats.Opened++
	return c
}

// Pulls is the number of conns without a socket. Safe from any goroutine.
func (l *Loop) Pulls() int { return int(l.pulls.Load()) }

// IsPull tells whether c has no socket.
func (c *Conn) IsPull() bool { return c.fd == noSocket }

// Feed hands c bytes as if its socket had received them. b may be changed. Runs on the loop, but not within Handler.Data of c.
func (l *Loop) Feed(c *Conn, b []byte) {
	if c.Alive() {
		c.active = l.now
		l.deliver(c, b)
	}
}

// Fetch says that the peer of c, a conn without a socket, is there: what waits for it goes to Handler.Write, and so does what
// is staged. Runs on the loop, but not within Handler.Write: what that was given would be given again, or change under it.
func (l *Loop) Fetch(c *Conn) {
	if c.out != nil && c.out.bytes > 0 {
		l.drain(c)
	}
	if c.out != nil && c.out.staged() > 0 && c.out.bytes == 0 {
		l.flush(c)
	}
}

// offer is what stands in for a write to the socket of c. A pass only notes that it has something for c: the handler may
// push to any group and change its members, also those the pass is going through.
func (l *Loop) offer(c *Conn, b []byte) (n int) {
	switch {
	case c.state&connBroken != 0: // killed, perhaps by the offer before this one
		return 0
	case l.passing:
		l.offers = append(l.offers, c)
		return 0
	}
	defer l.rescue(c)
	if n = l.handler.Write(c, b); n > 0 {
		c.active = l.now
	}
	return n
}

// offerPassed offers what the passes of this turn had for conns without a socket.
func (l *Loop) offerPassed() {
	for _, c := range l.offers {
		l.Fetch(c)
	}
	clear(l.offers)
	l.offers = l.offers[:0]
}

// TakeOutput takes c out of its group and returns everything c has not been given yet, in order. The handler stages it
// again, mostly in another form. Runs on the loop.
func (l *Loop) TakeOutput(c *Conn) []byte {
	l.Leave(c)
	return l.takeUnsent(c)
}

// takeUnsent is TakeOutput without what c's group has for it.
func (l *Loop) takeUnsent(c *Conn) []byte {
	o := c.out
	if o == nil {
		return nil
	}
	b := make([]byte, 0, o.bytes+o.staged())
	for i := range o.queue {
		b = append(b, o.queue[i].b...)
	}
	b = o.appendStaged(b, 0, o.staged())
	l.discard(c)
	return b
}

// Attach gives the socket of from to c, which has none and no unread input: c keeps its name, its deadline and its group, and
// is from now on what from was. from has ended (ReasonMoved). Only from within Handler.Data of from; it takes effect when
// that has returned, and then c is given what from has left unconsumed, and the peer what from has unsent, before anything of
// c. If one of the two has ended by then, the other stays as it is.
func (l *Loop) Attach(c, from *Conn) { l.moving, l.attachTo, l.moveTo = from, c, nil }

// Move gives c to another loop: there it is opened anew and given what it has left unconsumed here. Here it ends (ReasonMoved).
// Only from within Handler.Data of c; it takes effect when that has returned.
func (l *Loop) Move(c *Conn, to *Loop) { l.MoveWith(c, to, nil) }

// MoveWith is Move with luggage, which Luggage gives to Handler.Open on the other loop. The handler may fill it in until
// Handler.Closed of c returns.
func (l *Loop) MoveWith(c *Conn, to *Loop, luggage any) {
	l.moving, l.attachTo, l.moveTo, l.luggage = c, nil, to, luggage
}

// Luggage is what the conn that Handler.Open is called for brings along from another loop, nil when it is new.
func (l *Loop) Luggage() any { return l.luggage }

// moved carries out what Attach or Move asked for, and tells whether it could. rest is what c's handler has not consumed.
func (l *Loop) moved(c *Conn, rest []byte) bool {
	to, other := l.attachTo, l.moveTo
	luggage := l.luggage
	l.moving, l.attachTo, l.moveTo, l.luggage = nil, nil, nil, nil
	if c.Alive() {
		l.flush(c)
	}
	if !c.Alive() || to != nil && !to.Alive() {
		return false
	}
	if other != nil {
		l.ship(c, other, rest, luggage)
		return true
	}
	fd := c.fd
	rest = append([]byte(nil), rest...) // it may lie in c's inbox
	unsent := l.TakeOutput(c)
	to.fd, to.watched, to.active = fd, c.watched, c.active
	l.giveUp(to)
	to.tag, to.peer, to.peerPort, to.pass = c.tag, c.peer, c.peerPort, c.pass // the tag under which the socket is counted
	l.pulls.Add(-1)
	l.fds[fd] = to.slot + 1
	l.vacate(c)
	if o := to.out; o != nil && o.bytes > 0 { // what a peer did not fetch goes to the socket as well
		unsent = append(unsent, l.takeUnsent(to)...)
	}
	if len(unsent) > 0 {
		l.enqueue(to, segment{b: unsent})
	}
	l.watch(to, to.watched|Readable) // from may have been blocked until now
	if to.Alive() {
		l.deliver(to, rest)
	}
	return true
}

// ship posts c's socket to another loop.
func (l *Loop) ship(c *Conn, to *Loop, rest []byte, luggage any) {
	a := Accepted{
		FD: c.fd, Tag: c.tag, Peer: c.peer, Port: c.peerPort, Pass: c.pass,
		moved: true, inbox: append([]byte(nil), rest...), unsent: l.TakeOutput(c), luggage: luggage,
	}
	if err := l.driver.Watch(int(c.fd), c.watched, None); err != nil {
		l.fail(c)
		return
	}
	l.unread -= unreadOf(c)
	l.fds[c.fd] = 0
	to.open.Add(1) // first: whoever adds all loops up must not miss it
	l.vacate(c)
	l.open.Add(-1)
	to.accepted.Post(a)
}
