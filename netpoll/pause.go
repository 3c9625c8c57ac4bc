package netpoll

import "slices"

const (
	throttleBytes = 64 << 10 // unsent bytes above which what a conn asks for has to wait
	shareNanos    = 1e5      // time of one turn for what one conn asks for; the rest waits for the next
	shareAsks     = 32       // things after which that is looked at
	resumeNanos   = 25e4     // time of one turn for conns that go on with what they have asked for before
	lateNanos     = 25e4     // the same for conns of clients that have had their share
	clientAsks    = 64       // things of one turn, beyond one a read, for what all conns of one client ask for
	clients       = 256      // shares told apart, by pass: clients whose passes are equal in their last bits have one together
)

// share is what a client has asked for in a turn: things beyond one a read. So those who ask for one thing and wait for the answer, as
// all do who mean well, are never put off because of others who do likewise.
type share struct{ turn, asked uint32 }

// waits is a set of reasons why a conn is not read, or not yet.
type waits uint8

const (
	waitsPaused    waits = 1 << iota // Pause: Handler.Data is not called
	waitsThrottled                   // Throttle: not until it has taken what it has asked for, or until another turn
	waitsHeld                        // Hold: Handler.Data is not called, but the peer's end is noticed
	waitsResumed                     // it stands in Loop.resumed, to be read on
	waitsTurn                        // it stands in Loop.yielded or Loop.putOff, for a later turn
)

// waitsBlocked are the reasons for not calling Handler.Data.
const waitsBlocked = waitsPaused | waitsThrottled | waitsHeld

func (w waits) blocked() bool { return w&waitsBlocked != 0 }

// Pause stops Handler.Data for c after the current call. Reading stops when more arrives than one read.
func (l *Loop) Pause(c *Conn) { c.waits |= waitsPaused }

// Paused tells whether Pause is in force.
func (c *Conn) Paused() bool { return c.waits&waitsPaused != 0 }

// Resume ends a Pause; Handler.Data is called in this turn or the next.
func (l *Loop) Resume(c *Conn) { l.unblock(c, waitsPaused) }

// Hold is a Pause during which what the peer sends is still read, within a bound, so that its end is noticed.
func (l *Loop) Hold(c *Conn) { c.waits |= waitsHeld }

// Release ends a Hold as Resume ends a Pause.
func (l *Loop) Release(c *Conn) { l.unblock(c, waitsHeld) }

// Throttle stops Handler.Data for c, if more than throttleBytes wait to be written to it, until all of that has been
// taken, or if c has had its share of this turn, until the next. It tells whether it did. A handler asks after each thing it has
// done for c: a peer may not make us keep more for it than that by asking faster than it takes the answers, nor keep others
// waiting by asking for thousands of things in one read; nor by asking for dozens on each of a thousand conns. So conns of one client
// (Pass) have a share of each turn together. When it is used up they are read no further, and go on behind all others.
func (l *Loop) Throttle(c *Conn) bool {
	switch {
	case !c.Alive():
		return false
	case c.Queued() > throttleBytes:
		l.stats.Throttled++
	case l.shareLeft(c):
		return false
	default:
		l.yield(c)
		return true
	}
	c.waits |= waitsThrottled
	return true
}

// yield has c wait for a later turn.
func (l *Loop) yield(c *Conn) {
	c.waits |= waitsThrottled | waitsTurn
	if l.spent(c) {
		l.putOff = append(l.putOff, c)
		l.stats.PutOff++
	} else {
		l.yielded = append(l.yielded, c)
		l.stats.Yielded++
	}
}

// spent tells whether c's client has had its share of this turn.
func (l *Loop) spent(c *Conn) bool {
	s := &l.shares[c.pass%clients]
	return s.asked > clientAsks && s.turn == l.turns && c.pass != 0 && c.pass != PassAlone
}

// count counts one thing more of c's client.
func (l *Loop) count(c *Conn) {
	s := &l.shares[c.pass%clients]
	if s.turn != l.turns {
		*s = share{turn: l.turns}
		l.Ring() // or this turn would not end before there is something else to do
	}
	s.asked++
}

// shareLeft tells whether the conn that is being served may go on. Its time begins with the first look at the clock, so that who asks
// for little costs none.
func (l *Loop) shareLeft(c *Conn) bool {
	l.asked++
	if l.asked > 1 && c.pass != 0 && c.pass != PassAlone {
		l.count(c)
		if !l.serving && l.spent(c) {
			return false
		}
	}
	if l.asked%shareAsks > 0 {
		return true
	}
	now := l.nanos()
	if l.asked == shareAsks {
		l.began = now
	}
	return now-l.began < shareNanos
}

// Throttled tells whether Throttle is in force.
func (c *Conn) Throttled() bool { return c.waits&waitsThrottled != 0 }

// unblock takes away a reason for not reading c.
func (l *Loop) unblock(c *Conn, reason waits) {
	if c.waits&reason == 0 || !c.Alive() {
		return
	}
	c.waits &^= reason
	switch {
	case c.waits&waitsBlocked == waitsHeld: // it may not have been watched for reading meanwhile, and its end is to be noticed again
		l.watch(c, c.watched|Readable)
	case c.waits&(waitsBlocked|waitsResumed) == 0:
		c.waits |= waitsResumed
		l.resumed = append(l.resumed, c)
	}
}

// deliverResumed lets those go on who had to wait. It stops when that has taken long, so that others are heard in between.
func (l *Loop) deliverResumed() {
	l.turns++
	if len(l.yielded)+len(l.resumed)+len(l.putOff) == 0 { // mostly
		return
	}
	for _, c := range l.yielded {
		if c.waits&waitsTurn == 0 { // another conn, in the slot of one that is gone
			continue
		}
		c.waits &^= waitsTurn
		if c.Queued() <= throttleBytes { // else it goes on when that has been taken
			l.unblock(c, waitsThrottled)
		}
	}
	clear(l.yielded)
	l.yielded = l.yielded[:0]
	done := 0
	for until := l.nanos() + resumeNanos; done < len(l.resumed); {
		c := l.resumed[done]
		done++
		if c.waits&waitsResumed == 0 { // another conn, in the slot of one that is gone
			continue
		}
		c.waits &^= waitsResumed
		if !c.Alive() || c.waits&waitsBlocked != 0 {
			continue
		}
		l.watch(c, c.watched|Readable)
		if c.in != nil { // until now it was we who did not read on
			c.in.begun = l.now
		}
		l.deliver(c, nil)
		if l.nanos() >= until {
			break
		}
	}
	l.resumed = slices.Delete(l.resumed, 0, done)
	l.deliverLate()
}

// deliverLate lets those go on whose clients had had their share, in the order in which they came to wait: each as much as one conn may,
// for so long that others are not kept.
func (l *Loop) deliverLate() {
	if len(l.putOff) == 0 {
		return
	}
	l.serving = true
	done, waiting := 0, len(l.putOff)
	for until := l.nanos() + lateNanos; done < waiting; {
		c := l.putOff[done]
		done++
		if c.waits&waitsTurn == 0 || !c.Alive() || c.Queued() > throttleBytes { // the last goes on when that has been taken
			c.waits &^= waitsTurn
			continue
		}
		c.waits &^= waitsTurn | waitsThrottled
		switch {
		case c.waits&waitsBlocked == waitsHeld:
			l.watch(c, c.watched|Readable)
			continue
		case c.waits&(waitsBlocked|waitsResumed) != 0:
			continue
		}
		l.watch(c, c.watched|Readable)
		if c.in == nil && !c.IsPull() {
			l.receive(c)
		} else {
			l.deliver(c, nil)
		}
		if l.nanos() >= until {
			break
		}
	}
	l.putOff = slices.Delete(l.putOff, 0, done)
	l.serving = false
}
