package netpoll

import "bytes"

// inbox is what is kept of what a conn's peer has sent: the bytes nobody has consumed, and what the handler has made of those it did
// consume (Keep). All of it counts in the Budget. A conn has one only while there is something in it. Pooled by the loop.
type inbox struct {
	b     []byte // received and not consumed
	begun uint32 // tick since which the peer owes what belongs to b
	kept  int    // bytes that the handler keeps
	since uint32 // tick since which the peer owes what belongs to those; 0: it owes nothing
	at    int    // its place in loop.inboxed
}

// weight is what an inbox counts for in the budget: the memory it takes, not only what is in it.
func (i *inbox) weight() int {
	if i == nil {
		return 0
	}
	return cap(i.b) + i.kept
}

// Keep says that the handler keeps so many bytes for c, all in all, beside those that it has left unconsumed: half of a message,
// say, whose other half has yet to come. They count in the Budget, and c may be ended for them, until it is said that they are fewer.
// since is the tick (Now) at which the peer began what it has yet to finish, 0 if it owes nothing: from then on it has
// Limits.Unfinished, whatever else it sends. Runs on the loop, also within Handler.Data of c.
func (l *Loop) Keep(c *Conn, bytes int, since uint32) {
	if c.in == nil && bytes == 0 || !c.Alive() { // mostly
		return
	}
	i := l.inbox(c)
	l.ledger.inbound += bytes - i.kept
	i.kept, i.since = bytes, since
	l.tidyInbox(c)
}

// inbox gives c an inbox, from the pool.
func (l *Loop) inbox(c *Conn) *inbox {
	if c.in == nil {
		if n := len(l.inboxes); n > 0 {
			c.in = l.inboxes[n-1]
			l.inboxes = l.inboxes[:n-1]
		} else {
			c.in = new(inbox)
		}
		c.in.at = len(l.inboxed)
		l.inboxed = append(l.inboxed, c)
		l.ledger.inbound += c.in.weight()
	}
	return c.in
}

// fill makes b the unconsumed bytes of c, and counts them.
func (l *Loop) fill(c *Conn, b []byte) {
	l.ledger.inbound += cap(b) - cap(c.in.b)
	c.in.b = b
}

// retain keeps rest, which the handler has left unconsumed. moved tells that something has come to an end since the peer began it: the
// handler has consumed what was before it, or there was nothing before it.
func (l *Loop) retain(c *Conn, rest []byte, moved bool) {
	if len(rest) == 0 {
		if c.in != nil {
			c.in.b = c.in.b[:0]
			l.tidyInbox(c)
		}
		return
	}
	i := l.inbox(c)
	if moved {
		i.begun = l.now
	}
	if cap(i.b) > maxInboxKept && len(rest) < cap(i.b)/4 { // a few bytes must not hold what a long package needed
		l.fill(c, bytes.Clone(rest))
	} else {
		l.fill(c, append(i.b[:0], rest...))
	}
}

// tidyInbox gives back what of c's inbox is empty.
func (l *Loop) tidyInbox(c *Conn) {
	switch i := c.in; {
	case len(i.b) > 0:
	case i.kept == 0:
		l.dropInbox(c)
	case cap(i.b) > 0:
		l.fill(c, nil)
	}
}

// dropInbox forgets all that is kept of what c's peer has sent.
func (l *Loop) dropInbox(c *Conn) {
	i := c.in
	if i == nil {
		return
	}
	l.ledger.inbound -= i.weight()
	last := len(l.inboxed) - 1
	l.inboxed[i.at] = l.inboxed[last]
	l.inboxed[i.at].in.at = i.at
	l.inboxed[last] = nil
	l.inboxed = l.inboxed[:last]
	c.in = nil
	if cap(i.b) <= maxInboxKept && len(l.inboxes) < maxPooledBuffers {
		*i = inbox{b: i.b[:0]}
		l.inboxes = append(l.inboxes, i)
	}
}

// TakeInput returns what Handler.Data has left unconsumed of c's input, and forgets it. Not from within Handler.Data of c. Runs
// on the loop.
func (l *Loop) TakeInput(c *Conn) []byte {
	if c.in == nil {
		return nil
	}
	b := bytes.Clone(c.in.b)
	l.retain(c, nil, false)
	return b
}

// Unread is the number of bytes that wait until Handler.Data takes them.
func (c *Conn) Unread() int {
	if c.in == nil {
		return 0
	}
	return len(c.in.b)
}

// What a turn does about those who do not finish what they have begun: looking at a conn costs next to nothing, but ending one does (see dueCalls).
const (
	lateLooks = 2048
	lateCalls = 32
)

// callLate tells the handler of those who have begun something and not finished it in Limits.Unfinished, however busy they are with other
// things meanwhile. Each tick has all conns looked at that have an inbox, a share of them in each turn.
func (l *Loop) callLate() {
	l.unlooked = min(l.unlooked, len(l.inboxed))
	for looks, calls := lateLooks, lateCalls; l.unlooked > 0 && looks > 0 && calls > 0; looks-- {
		l.unlooked-- // downwards: who takes the place of one that has gone has been looked at
		if c := l.inboxed[l.unlooked]; c.Alive() && l.unfinished(c) {
			l.call.late(c)
			calls--
		}
	}
}

// unfinished tells whether c's peer has owed the rest of something for too long. While it is we who do not read on, no time runs.
func (l *Loop) unfinished(c *Conn) bool {
	i, most := c.in, l.limits.Unfinished
	if most == 0 || c.waits&(waitsBlocked|waitsResumed) != 0 {
		return false
	}
	return i.since != 0 && l.now-i.since > most || len(i.b) > 0 && l.now-i.begun > most
}
