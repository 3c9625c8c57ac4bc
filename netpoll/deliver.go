package netpoll

import "bytes"

// read reads c, if it may be read now.
func (l *Loop) read(c *Conn) {
	switch {
	case c.life == lifeLingering:
		l.readRest(c)
		return
	case c.life != lifeOpen:
		return
	case c.waits&(waitsPaused|waitsThrottled) != 0, c.waits&waitsHeld != 0 && c.Unread() > heldBytes, // level triggering would spin
		c.waits&waitsResumed != 0 && c.in != nil: // what it has sent before comes first
		l.watch(c, c.watched&^Readable)
		return
	case c.secured && l.secures.of(c).waitsFull(): // no more than the handshake needs
		l.watch(c, c.watched&^Readable)
		return
	case c.in != nil && l.budget.over(): // nobody may keep more while others are ended for it
		l.ringOwn()
		return
	case l.waiting.shares.spent(c.pass):
		l.waiting.yield(c)
		return
	}
	l.receive(c)
}

// receive reads c once.
func (l *Loop) receive(c *Conn) {
	switch b, ended := l.sockets.receive(c); {
	case ended:
		l.Close(c, ReasonPeer)
	case b == nil:
	case c.secured:
		l.waiting.shares.read(c.pass, len(b))
		l.receiveSealed(c, b)
	default:
		l.waiting.shares.read(c.pass, len(b))
		l.deliver(c, b)
	}
}

// deliverRest goes on with what c's peer has sent before.
func (l *Loop) deliverRest(c *Conn) {
	if !c.secured {
		l.deliver(c, nil)
		return
	}
	if s := l.secures.of(c); s.open {
		more := false
		l.deliver(c, l.decrypt(c, s, nil, &more))
		l.settle(c, s, more)
	}
}

// deliver hands the handler what has arrived and keeps what it leaves.
func (l *Loop) deliver(c *Conn, b []byte) {
	if !c.Alive() { // its socket may have failed before it came to this
		return
	}
	first := c.Unread() == 0
	b = l.inboxes.join(c, b)
	used, next, plain := 0, Transfer{}, !c.secured
	if !c.waits.blocked() {
		l.waiting.shares.serve()
		used, next = l.call.data(c, b)
	}
	rest := b[used:]
	if next.moves() && l.transfer(c, rest, &next) {
		return
	}
	if !c.Alive() {
		l.inboxes.drop(c)
		return
	}
	if plain && c.secured { // since just now: the rest is for crypto/tls
		rest = bytes.Clone(rest) // it may lie in the inbox
		l.inboxes.retain(c, nil, false)
		l.receiveSealed(c, rest)
		return
	}
	l.inboxes.retain(c, rest, first || used > 0)
}

// goOn reads conns that had to wait, for as long as a turn may take for that, so that other conns are heard in between. Behind them come
// those whose clients had had their share, each for as much as one conn may have.
func (l *Loop) goOn() {
	l.waiting.newTurn()
	if !l.waiting.any() { // mostly, and then nobody looks at the clock
		return
	}
	until := l.nanos() + resumeNanos
	for c := l.waiting.nextResumed(); c != nil; c = l.waiting.nextResumed() {
		l.watch(c, c.watched|Readable)
		l.inboxes.restart(c)
		l.deliverRest(c)
		if l.nanos() >= until {
			break
		}
	}
	if n := l.waiting.putOff.len(); n > 0 {
		l.goOnPutOff(n)
	}
	l.waiting.endTurn()
}

// goOnPutOff is the second half of goOn, for the first n conns that were put off.
func (l *Loop) goOnPutOff(n int) {
	l.waiting.shares.exempt = true
	until := l.nanos() + lateNanos
	for c := l.waiting.nextPutOff(n); c != nil; c = l.waiting.nextPutOff(n) {
		l.watch(c, c.watched|Readable)
		if c.in == nil && !c.IsPull() {
			l.receive(c)
		} else {
			l.deliverRest(c)
		}
		if l.nanos() >= until {
			break
		}
	}
	l.waiting.shares.exempt = false
}
