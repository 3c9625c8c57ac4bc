package netpoll

import "slices"

const (
	throttleBytes = 64 << 10 // unsent bytes above which what a conn asks for has to wait
	shareNanos    = 1e5      // time of one turn for what one conn asks for; the rest waits for the next
	shareThings   = 32       // things after which that is looked at
	resumeNanos   = 25e4     // time of one turn for conns that go on with what they have asked for before
)

// Pause stops Handler.Data for c after the current call. Reading stops when more arrives than one read.
func (l *Loop) Pause(c *Conn) { c.state |= connPaused }

// Paused tells whether Pause is in force.
func (c *Conn) Paused() bool { return c.state&connPaused != 0 }

// Resume ends a Pause; Handler.Data is called in this turn or the next.
func (l *Loop) Resume(c *Conn) { l.unblock(c, connPaused) }

// Hold is a Pause during which what the peer sends is still read, within a bound, so that its end is noticed.
func (l *Loop) Hold(c *Conn) { c.state |= connHeld }

// Release ends a Hold as Resume ends a Pause.
func (l *Loop) Release(c *Conn) { l.unblock(c, connHeld) }

// Throttle stops Handler.Data for c, if more than throttleBytes wait to be written to it, until all of that has been
// taken, or if c has had its share of this turn, until the next. It tells whether it did. A handler asks after each thing it has
// done for c: a peer may not make us keep more for it than that by asking faster than it takes the answers, nor keep others
// waiting by asking for thousands of things in one read.
func (l *Loop) Throttle(c *Conn) bool {
	switch {
	case !c.Alive():
		return false
	case c.Queued() > throttleBytes:
		l.stats.Throttled++
	case l.shareLeft():
		return false
	default:
		l.yielded = append(l.yielded, c)
		l.stats.Yielded++
	}
	c.state |= connThrottled
	return true
}

// shareLeft tells whether the conn that is being served may go on. Its time begins with the first look at the clock, so that who asks
// for little costs none.
func (l *Loop) shareLeft() bool {
	if l.things++; l.things%shareThings > 0 {
		return true
	}
	now := l.nanos()
	if l.things == shareThings {
		l.began = now
	}
	return now-l.began < shareNanos
}

// Throttled tells whether Throttle is in force.
func (c *Conn) Throttled() bool { return c.state&connThrottled != 0 }

// unblock takes away a reason for not reading c.
func (l *Loop) unblock(c *Conn, reason connState) {
	if c.state&reason == 0 || !c.Alive() {
		return
	}
	c.state &^= reason
	switch {
	case c.state&connBlocked == connHeld: // it may not have been watched for reading meanwhile, and its end is to be noticed again
		l.watch(c, c.watched|Readable)
	case c.state&(connBlocked|connResumed) == 0:
		c.state |= connResumed
		l.resumed = append(l.resumed, c)
	}
}

// deliverResumed lets those go on who had to wait. It stops when that has taken long, so that others are heard in between.
func (l *Loop) deliverResumed() {
	if len(l.yielded)+len(l.resumed) == 0 { // mostly
		return
	}
	for _, c := range l.yielded {
		if c.Queued() <= throttleBytes { // else it goes on when that has been taken
			l.unblock(c, connThrottled)
		}
	}
	clear(l.yielded)
	l.yielded = l.yielded[:0]
	done := 0
	for until := l.nanos() + resumeNanos; done < len(l.resumed); {
		c := l.resumed[done]
		done++
		if c.state&connResumed == 0 { // another conn, in the slot of one that is gone
			continue
		}
		c.state &^= connResumed
		if !c.Alive() || c.state&connBlocked != 0 {
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
}
