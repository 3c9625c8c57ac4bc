package netpoll

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// Budget is what loops have in common: a bound on the bytes they keep for conns, unsent or received in part, and how many sockets each listener's tag has. Safe from
// any goroutine, except where noted.
type Budget struct {
	// Gate is asked about new sockets; nil lets all in. Set it before a loop turns.
	Gate Gate
	// RoundTrip sends all that moves between loops through its encoding (ConnState), as if the loops were in two processes. For tests.
	// Set it before a loop turns.
	RoundTrip bool

	limit  atomic.Int64
	total  atomic.Int64      // bytes kept in both directions
	in     atomic.Int64      // of these, those received
	slow   atomic.Int64      // conns with unsent bytes
	unread atomic.Int64      // sockets that are not read
	open   [256]atomic.Int64 // by tag
	loops  []*Loop           // static once all loops are made
}

// NewBudget makes a budget of limit bytes for the loops that will be made with it.
func NewBudget(limit int64) *Budget {
	b := new(Budget)
	b.limit.Store(limit)
	return b
}

// SetLimit changes the bound. Loops that hold too much end conns as soon as they turn, which they are made to.
func (b *Budget) SetLimit(limit int64) {
	if b.limit.Swap(limit) > limit {
		for _, l := range b.loops {
			l.Ring()
		}
	}
}

// Slow is the number of conns that have unsent bytes.
func (b *Budget) Slow() int { return int(b.slow.Load()) }

// Unread is the number of sockets that are not read: what their peers send stays in the kernel, up to what a socket may have there.
func (b *Budget) Unread() int { return int(b.unread.Load()) }

// Total is the number of bytes that all loops keep for conns, in both directions. What several slow conns share counts once.
func (b *Budget) Total() int64 { return b.total.Load() }

// over tells whether they are more than they may be.
func (b *Budget) over() bool { return b.total.Load() > b.limit.Load() }

// Inbound is how many of these belong to messages that have begun to arrive, and to what else could not be handled yet.
func (b *Budget) Inbound() int64 { return b.in.Load() }

func (b *Budget) add(l *Loop) { b.loops = append(b.loops, l) }

// publish tells what l holds and, when all loops hold too much, has the one that holds the most end those for whom it is most, in
// its next turn. Runs on l.
func (b *Budget) publish(l *Loop) {
	l.account()
	if d := int64(len(l.queued)) - l.slowPublished; d != 0 {
		l.slowPublished += d
		b.slow.Add(d)
	}
	if d := int64(l.unread) - l.waiting; d != 0 {
		l.waiting += d
		b.unread.Add(d)
	}
	if !b.over() {
		return
	}
	worst := l
	for _, o := range b.loops {
		if o.published.Load() > worst.published.Load() {
			worst = o
		}
	}
	if !worst.shedding.Swap(true) {
		worst.Ring()
	}
}

// account tells the budget what l holds.
func (l *Loop) account() {
	if d := int64(l.inbound) - l.inboundPublished; d != 0 {
		l.inboundPublished += d
		l.budget.in.Add(d)
	}
	if d := int64(l.unsent+l.inbound+l.segments*segmentBytes) - l.published.Load(); d != 0 {
		l.published.Add(d)
		l.budget.total.Add(d)
	}
}

// shedConns is how many conns a turn ends at most for want of memory: about a millisecond's work, see dueCalls. Until there have been
// turns enough nobody is read for whom more would be kept (Loop.read).
const shedConns = 64

// holder is a conn and what is kept for it: alone, and with others.
type holder struct {
	c        *Conn
	own, all int
}

// less tells whether h comes after g when conns have to go. What a conn alone holds comes first: ending one that shares its
// backlog with others frees nothing.
func (h holder) less(g holder) bool { return h.own < g.own || h.own == g.own && h.all < g.all }

// shed ends conns for which this loop keeps most, until all loops together are within the budget or it has ended shedConns. It looks
// once at each conn that holds something.
func (l *Loop) shed() {
	l.shedding.Store(false)
	l.account()
	if !l.budget.over() {
		return
	}
	var space [shedConns]holder
	top := space[:0] // a heap, the least of the largest in front
	for _, c := range l.queued {
		top = offerHolder(top, c)
	}
	for _, c := range l.inboxed {
		if c.out == nil || c.out.bytes == 0 { // else it has been looked at
			top = offerHolder(top, c)
		}
	}
	slices.SortFunc(top, func(a, b holder) int {
		return cmp.Or(cmp.Compare(b.own, a.own), cmp.Compare(b.all, a.all))
	})
	for _, h := range top {
		if !l.budget.over() {
			return
		}
		l.Kill(h.c, ReasonMemory)
		l.discard(h.c)
		l.dropInbox(h.c)
		l.account()
	}
}

// offerHolder puts c into the heap, unless that is full of larger ones.
func offerHolder(top []holder, c *Conn) []holder {
	h := holder{c: c, own: c.in.weight()}
	h.all = h.own
	if o := c.out; o != nil {
		h.own += o.own + len(o.queue)*segmentBytes
		h.all += o.bytes
	}
	if n := len(top); n < cap(top) { // up
		top = append(top, h)
		for up := (n - 1) / 2; n > 0 && h.less(top[up]); up = (n - 1) / 2 {
			top[n], n = top[up], up
		}
		top[n] = h
		return top
	}
	if !top[0].less(h) {
		return top
	}
	at := 0 // down
	for child := 1; child < len(top); child = 2*at + 1 {
		if child+1 < len(top) && top[child+1].less(top[child]) {
			child++
		}
		if !top[child].less(h) {
			break
		}
		top[at], at = top[child], child
	}
	top[at] = h
	return top
}
