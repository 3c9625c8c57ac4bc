package netpoll

// Close ends c after all that is staged, queued or pushed to its group so far has been sent. Nothing more is read. A peer that has closed its end
// (ReasonPeer) is sent what is staged, if its socket takes that at once. Runs on the loop.
func (l *Loop) Close(c *Conn, why Reason) {
	if c.Alive() {
		if why != ReasonPeer { // or nobody knew what it has not been sent of its group's stream (Conn.Written)
			l.outboxes.bringUp(c)
		}
		l.ends.close(c, why)
	}
}

// CloseBriefly is Close for a peer that sends more than it may: of what it goes on sending no more is read than was under way. Runs on the
// loop.
func (l *Loop) CloseBriefly(c *Conn, why Reason) {
	if c.Alive() {
		c.waits |= waitsBriefly
		l.Close(c, why)
	}
}

// KillAll ends every conn at once, also those that only wait for their peer to close: for the end of the process, when there is no
// more time. Runs on the loop.
func (l *Loop) KillAll(why Reason) {
	for slot := range uint32(l.slots.len()) {
		l.Kill(l.slots.at(slot), why)
	}
}

// reap goes on with the conns that were ended. The handler may end others meanwhile.
func (l *Loop) reap() {
	for i := 0; i < len(l.ends.marked); i++ {
		c := l.ends.marked[i]
		if c.life == lifeEnding || c.life == lifeBroken {
			l.tellEnd(c)
		}
		if c.life == lifeGone {
			l.finalize(c)
		}
	}
	clear(l.ends.marked)
	l.ends.marked = l.ends.marked[:0]
}

const (
	lingerSeconds = 2         // a closed conn's peer has this long to read the goodbye and close its end
	lingerBytes   = 512 << 10 // of what it sends meanwhile, and at least lingerLeast counts for a read; a peer that goes on sending has its connection reset
	lingerLeast   = 64
	lingerBriefly = 2 * receiveBuffer // instead of lingerBytes, after CloseBriefly
)

// receiveBuffer is what clients may send ahead of us (SO_RCVBUF of a listener). Linux doubles it, for what packets take beside their bytes, and that is
// what an unread conn has at most in the kernel: 63 KB, measured with pieces of 1 byte to 16 KiB. Without it that is 134 KB, and up to
// tcp_rmem's megabytes for one that was read fast before. Making it small only when we stop reading would do as well, but for what is
// there by then, and cost a system call each time. A message of 256 KiB takes eight round trips instead of two.
const receiveBuffer = 32 << 10

// tellEnd tells the handler that c has ended, and lets its socket linger: closing it while the peer's bytes are unread
// would reset the connection and destroy what we sent last (RFC 1122 §4.2.2.13).
func (l *Loop) tellEnd(c *Conn) {
	switch {
	case c.life == lifeBroken:
	case c.IsPull(): // also what is queued is offered once more: nobody can come for it later
		l.Fetch(c)
	default:
		l.outboxes.flush(c)
	}
	l.Leave(c)
	l.inboxes.drop(c)
	l.SetDue(c, 0)
	l.counts.closed[c.reason]++
	l.call.closed(c)
	if c.secured {
		l.endSecured(c)
	}
	c.gen++
	if c.life == lifeBroken || c.reason == ReasonPeer || c.IsPull() { // nobody is there to read what is still queued
		c.life = lifeGone
		return
	}
	brief := c.waits&waitsBriefly != 0
	c.life, c.waits, c.pos = lifeLingering, 0, 0
	if brief {
		c.pos = lingerBytes - lingerBriefly
	}
	l.SetDue(c, l.now+lingerSeconds)
	l.watch(c, c.watched|Readable)
	l.lingered(c)
}

// lingered sends the end of a lingering conn's stream once everything before it is sent.
func (l *Loop) lingered(c *Conn) {
	if c.life == lifeLingering && c.Queued() == 0 {
		if c.secured && !l.secures.notify(c) { // the socket is full; it comes again when it is not (Ready)
			l.watch(c, c.watched|Writable)
			return
		}
		l.sockets.finish(c)
	}
}

// readRest throws away what a lingering conn's peer still sends, until it closes or has sent lingerBytes.
func (l *Loop) readRest(c *Conn) {
	b, ended := l.sockets.receive(c)
	if b == nil && !ended {
		return
	}
	if c.pos += uint32(max(len(b), lingerLeast)); ended || c.pos > lingerBytes {
		l.fail(c)
	}
}

// finalize closes the socket and frees the slot of a conn that is gone.
func (l *Loop) finalize(c *Conn) {
	l.outboxes.discard(c)
	c.out = nil
	l.SetDue(c, 0)
	l.counts.giveUp(c)
	if c.secured {
		l.secures.notify(c)
		l.secures.take(c)
	}
	if !c.IsPull() {
		l.sockets.close(c)
	}
	l.counts.remove(c)
	l.slots.put(c)
}

// vacate ends a conn whose socket belongs to another from now on.
func (l *Loop) vacate(c *Conn) {
	c.life, c.reason = lifeGone, ReasonMoved // first: what the handler does to it now must not end it again
	l.inboxes.drop(c)
	l.call.closed(c)
	l.SetDue(c, 0)
	c.out = nil // it is empty
	l.slots.put(c)
}
