package netpoll

import "slices"

const (
	throttleBytes = 64 << 10 // unsent bytes above which what a conn asks for has to wait
	heldBytes     = 16 << 10 // unconsumed bytes of a held conn above which it is not read
	resumeNanos   = 250_000  // time of one turn for conns that go on with what they have asked for before
	lateNanos     = 250_000  // the same for conns of clients that have had their share
)

// waits is a set of reasons why a conn is not read, or not yet.
type waits uint8

const (
	waitsPaused    waits = 1 << iota // Pause: Handler.Data is not called
	waitsThrottled                   // Throttle: not until it has taken what it has asked for, or until another turn
	waitsHeld                        // Hold: Handler.Data is not called, but the peer's end is noticed
	waitsResumed                     // it stands in waiting.resumed, to be read on
	waitsTurn                        // it stands in waiting.yielded or waiting.putOff, for a later turn
	waitsBriefly                     // CloseBriefly: it is closed, and lingers for little
)

// waitsBlocked are the reasons for not calling Handler.Data.
const waitsBlocked = waitsPaused | waitsThrottled | waitsHeld

func (w waits) blocked() bool { return w&waitsBlocked != 0 }

// waiting has the conns whose peers have to wait although they are open: it knows why (waits, in the conn), and in which order they go on.
//
// A conn is blocked, or in resumed, or free to be read. It stands in at most one line, and the bit of that line says so: one that
// is gone leaves its place, and a newer conn in its slot is not meant. Owned by the loop.
type waiting struct {
	clock   *clock
	sockets *sockets
	shares  shares

	resumed line // are read on in this turn, or the next
	yielded line // wait for the next turn
	putOff  line // wait for a turn in which their client has something left

	throttles, yields, putOffs uint64 // since the start
}

// line is conns that wait, in the order in which they came.
type line struct {
	conns []*Conn
	at    int // conns[:at] have been served
}

func (q *line) add(c *Conn) { q.conns = append(q.conns, c) }
func (q *line) len() int    { return len(q.conns) }

// next serves one, of the first end of them; nil is none.
func (q *line) next(end int) *Conn {
	if q.at >= end {
		return nil
	}
	q.at++
	return q.conns[q.at-1]
}

// forget takes out those that have been served.
func (q *line) forget() {
	q.conns = slices.Delete(q.conns, 0, q.at)
	q.at = 0
}

// Pause stops Handler.Data for c after the current call. Reading stops when more arrives than one read. Runs on the loop.
func (w *waiting) Pause(c *Conn) { c.waits |= waitsPaused }

// Paused tells whether Pause is in force.
func (c *Conn) Paused() bool { return c.waits&waitsPaused != 0 }

// Resume ends a Pause; Handler.Data is called in this turn or the next. Runs on the loop.
func (w *waiting) Resume(c *Conn) { w.unblock(c, waitsPaused) }

// Hold is a Pause during which what the peer sends is still read, within a bound, so that its end is noticed. Runs on the loop.
func (w *waiting) Hold(c *Conn) { c.waits |= waitsHeld }

// Release ends a Hold as Resume ends a Pause. Runs on the loop.
func (w *waiting) Release(c *Conn) { w.unblock(c, waitsHeld) }

// Throttle stops Handler.Data for c, if more than throttleBytes wait to be written to it, until all of that has been
// taken, or if c has had its share of this turn, until the next. It tells whether it did. A handler asks after each thing it has
// done for c: a peer may not make us keep more for it than that by asking faster than it takes the answers, nor keep others
// waiting by asking for thousands of things in one read; nor by asking for dozens on each of a thousand conns. So conns of one client
// (Pass) have a share of each turn together. When it is used up they are read no further, and go on behind all others. Runs on the loop.
func (w *waiting) Throttle(c *Conn) bool {
	switch {
	case !c.Alive():
		return false
	case c.Queued() > throttleBytes:
		w.throttles++
	case w.shares.ask(c.pass):
		return false
	default:
		w.yield(c)
		return true
	}
	c.waits |= waitsThrottled
	return true
}

// Throttled tells whether Throttle is in force.
func (c *Conn) Throttled() bool { return c.waits&waitsThrottled != 0 }

// yield has c wait for a later turn.
func (w *waiting) yield(c *Conn) {
	c.waits |= waitsThrottled | waitsTurn
	if w.shares.spent(c.pass) {
		w.putOff.add(c)
		w.putOffs++
	} else {
		w.yielded.add(c)
		w.yields++
	}
}

// emptied says that c has taken all that was to be written to it.
func (w *waiting) emptied(c *Conn) {
	if c.waits&waitsTurn == 0 {
		w.unblock(c, waitsThrottled)
	}
}

// unblock takes away a reason for not reading c.
func (w *waiting) unblock(c *Conn, reason waits) {
	if c.waits&reason == 0 || !c.Alive() {
		return
	}
	c.waits &^= reason
	switch {
	case c.waits&waitsBlocked == waitsHeld: // it may not have been watched for reading meanwhile, and its end is to be noticed again
		w.sockets.watch(c, c.watched|Readable)
	case c.waits&(waitsBlocked|waitsResumed) == 0:
		c.waits |= waitsResumed
		w.resumed.add(c)
	}
}

// any tells whether a turn has to come for a conn that waits.
func (w *waiting) any() bool { return w.resumed.len()+w.yielded.len()+w.putOff.len() > 0 }

// newTurn begins a turn, in which conns that have yielded go on.
func (w *waiting) newTurn() {
	w.shares.newTurn()
	if w.yielded.len() == 0 { // mostly
		return
	}
	for c := w.yielded.next(w.yielded.len()); c != nil; c = w.yielded.next(w.yielded.len()) {
		if c.waits&waitsTurn == 0 { // another conn, in the slot of one that is gone
			continue
		}
		c.waits &^= waitsTurn
		if c.Queued() <= throttleBytes { // else it goes on when that has been taken
			w.unblock(c, waitsThrottled)
		}
	}
	w.yielded.forget()
}

// nextResumed is one that is to be read on, those included that are resumed meanwhile.
func (w *waiting) nextResumed() *Conn {
	for c := w.resumed.next(w.resumed.len()); c != nil; c = w.resumed.next(w.resumed.len()) {
		if c.waits&waitsResumed == 0 { // another conn, in the slot of one that is gone
			continue
		}
		c.waits &^= waitsResumed
		if c.Alive() && !c.waits.blocked() {
			return c
		}
	}
	return nil
}

// nextPutOff is one of the first end that were put off.
func (w *waiting) nextPutOff(end int) *Conn {
	for c := w.putOff.next(end); c != nil; c = w.putOff.next(end) {
		if c.waits&waitsTurn == 0 || !c.Alive() || c.Queued() > throttleBytes { // the last goes on when that has been taken
			c.waits &^= waitsTurn
			continue
		}
		c.waits &^= waitsTurn | waitsThrottled
		switch {
		case c.waits&waitsBlocked == waitsHeld:
			w.sockets.watch(c, c.watched|Readable)
		case c.waits&(waitsBlocked|waitsResumed) == 0:
			return c
		}
	}
	return nil
}

// endTurn takes conns that have gone on out of the lines.
func (w *waiting) endTurn() {
	w.resumed.forget()
	w.putOff.forget()
}
