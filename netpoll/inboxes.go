package netpoll

import "bytes"

// maxInboxKept is how large a buffer an inbox may keep in the pool, or for a few bytes.
const maxInboxKept = 4 << 10

// What a turn does about peers that do not finish what they have begun: to look at a conn costs next to nothing, but to end one does (see dueCalls).
const (
	lateLooks = 2048
	lateCalls = 32
)

// inbox is what is kept of what a conn's peer has sent: the bytes nobody has consumed, and what the handler has made of those it did
// consume (Keep).
type inbox struct {
	b      []byte // received and not consumed
	kept   int    // bytes that the handler keeps
	at     int    // its place in inboxes.conns
	begun  uint32 // tick since which the peer owes what belongs to b
	since  uint32 // tick since which the peer owes what belongs to what is kept; 0: it owes nothing
	sealed uint32 // bytes that are kept because the peer speaks TLS
	owed   uint32 // tick since which the peer owes the rest of a record; 0: it owes nothing
}

// weight is what an inbox counts for in the budget: the memory it takes, not only what is in it.
func (i *inbox) weight() int {
	if i == nil {
		return 0
	}
	return cap(i.b) + i.kept + int(i.sealed)
}

// inboxes are those of a loop's conns. A conn has one, and stands in conns, only while there is something in it. ledger.inbound is what they
// weigh. Owned by the loop.
type inboxes struct {
	clock  *clock
	ledger *ledger
	limit  uint32 // Limits.Unfinished

	conns    []*Conn // that have an inbox
	unlooked int     // conns[:unlooked] have yet to be looked at: are their peers late?
	pool     []*inbox
}

// Keep says that the handler keeps so many bytes for c, all in all, beside those that it has left unconsumed: half of a message,
// say, whose other half has yet to come. They count in the Budget, and c may be ended for them, until it is said that they are fewer.
// since is the tick (Now) at which the peer began what it has yet to finish, 0 if it owes nothing: from then on it has
// Limits.Unfinished, whatever else it sends. Runs on the loop, also within Handler.Data of c.
func (x *inboxes) Keep(c *Conn, bytes int, since uint32) {
	if c.in == nil && bytes == 0 || !c.Alive() { // mostly
		return
	}
	i := x.of(c)
	x.ledger.inbound += bytes - i.kept
	i.kept, i.since = bytes, since
	x.tidy(c)
}

// seal says that so many bytes are kept for c because its peer speaks TLS. begun tells that a record has begun of which the peer owes the rest from
// now on.
func (x *inboxes) seal(c *Conn, bytes int, begun bool) {
	if c.in == nil && bytes == 0 || !c.Alive() {
		return
	}
	i := x.of(c)
	x.ledger.inbound += bytes - int(i.sealed)
	switch i.sealed = uint32(bytes); {
	case bytes == 0:
		i.owed = 0
	case begun:
		i.owed = x.clock.now
	}
	x.tidy(c)
}

// TakeInput returns what Handler.Data has left unconsumed of c's input, and forgets it. Not from within Handler.Data of c. Runs
// on the loop.
func (x *inboxes) TakeInput(c *Conn) []byte {
	if c.in == nil {
		return nil
	}
	b := bytes.Clone(c.in.b)
	x.retain(c, nil, false)
	return b
}

// Unread is the number of bytes that wait until Handler.Data takes them.
func (c *Conn) Unread() int {
	if c.in == nil {
		return 0
	}
	return len(c.in.b)
}

// of is c's inbox, which it is given if it has none.
func (x *inboxes) of(c *Conn) *inbox {
	if c.in == nil {
		if n := len(x.pool); n > 0 {
			c.in = x.pool[n-1]
			x.pool = x.pool[:n-1]
		} else {
			c.in = new(inbox)
		}
		c.in.at = len(x.conns)
		x.conns = append(x.conns, c)
		x.ledger.inbound += c.in.weight()
	}
	return c.in
}

// fill makes b the unconsumed bytes of c.
func (x *inboxes) fill(c *Conn, b []byte) {
	x.ledger.inbound += cap(b) - cap(c.in.b)
	c.in.b = b
}

// join is b, which has just come, behind what c's peer sent before it.
func (x *inboxes) join(c *Conn, b []byte) []byte {
	if c.Unread() == 0 {
		return b
	}
	x.fill(c, append(c.in.b, b...))
	return c.in.b
}

// retain keeps rest, which the handler has left unconsumed. moved tells that something has come to an end since the peer began it: the
// handler has consumed what was before it, or there was nothing before it.
func (x *inboxes) retain(c *Conn, rest []byte, moved bool) {
	if len(rest) == 0 {
		if c.in != nil {
			c.in.b = c.in.b[:0]
			x.tidy(c)
		}
		return
	}
	i := x.of(c)
	if moved {
		i.begun = x.clock.now
	}
	if cap(i.b) > maxInboxKept && len(rest) < cap(i.b)/4 { // a few bytes must not hold what a long package needed
		x.fill(c, bytes.Clone(rest))
	} else {
		x.fill(c, append(i.b[:0], rest...))
	}
}

// restart gives c's peer its time anew: until now it was the loop that did not read on.
func (x *inboxes) restart(c *Conn) {
	if c.in != nil {
		c.in.begun = x.clock.now
		if c.in.owed != 0 {
			c.in.owed = x.clock.now
		}
	}
}

// tidy gives back what of c's inbox is empty.
func (x *inboxes) tidy(c *Conn) {
	switch i := c.in; {
	case len(i.b) > 0:
	case i.kept == 0 && i.sealed == 0:
		x.drop(c)
	case cap(i.b) > 0:
		x.fill(c, nil)
	}
}

// drop forgets all that is kept of what c's peer has sent.
func (x *inboxes) drop(c *Conn) {
	i := c.in
	if i == nil {
		return
	}
	x.ledger.inbound -= i.weight()
	last := len(x.conns) - 1
	x.conns[i.at] = x.conns[last]
	x.conns[i.at].in.at = i.at
	x.conns[last] = nil
	x.conns = x.conns[:last]
	c.in = nil
	if cap(i.b) <= maxInboxKept && len(x.pool) < maxPooledBuffers {
		*i = inbox{b: i.b[:0]}
		x.pool = append(x.pool, i)
	}
}

// lookAtAll has nextLate begin again, with all that there are now.
func (x *inboxes) lookAtAll() { x.unlooked = len(x.conns) }

// nextLate is a conn whose peer has not finished in time what it has begun, however busy it is with other things meanwhile; nil when all have been
// looked at, or as many as looks says. It goes down, so a conn that takes the place of one that has gone has been looked at.
func (x *inboxes) nextLate(looks *int) *Conn {
	for x.unlooked = min(x.unlooked, len(x.conns)); x.unlooked > 0 && *looks > 0; *looks-- {
		x.unlooked--
		if c := x.conns[x.unlooked]; c.Alive() && x.late(c) {
			*looks--
			return c
		}
	}
	return nil
}

// late tells whether c's peer has owed the rest of something for too long. While the loop does not read on, no time runs.
func (x *inboxes) late(c *Conn) bool {
	i := c.in
	if x.limit == 0 || c.waits&(waitsBlocked|waitsResumed) != 0 {
		return false
	}
	now := x.clock.now
	return i.since != 0 && now-i.since > x.limit || i.owed != 0 && now-i.owed > x.limit || len(i.b) > 0 && now-i.begun > x.limit
}
