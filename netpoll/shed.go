package netpoll

import (
	"cmp"
	"slices"
)

// shedConns is how many conns a turn ends at most for want of memory: about a millisecond's work, see dueCalls. Until there have been
// turns enough, no conn is read for which more would be kept (Loop.read).
const shedConns = 64

// shed ends conns for which this loop keeps most, until all loops together are within the budget or it has ended shedConns. It looks
// once at each conn for which something is kept.
func (l *Loop) shed() {
	l.ledger.shedding.Store(false)
	l.ledger.publishBytes()
	if !l.budget.over() {
		return
	}
	var space [shedConns]holder
	for _, h := range heaviest(space[:0], l.outboxes.queued, l.inboxes.conns, &l.secures) {
		if !l.budget.over() {
			return
		}
		l.Kill(h.conn, ReasonMemory)
		l.outboxes.discard(h.conn)
		l.inboxes.drop(h.conn)
		if h.conn.secured {
			l.secures.drop(h.conn)
		}
		l.ledger.publishBytes()
	}
}

// holder is a conn and how many bytes are kept for it: for it alone, and for it and others together.
type holder struct {
	conn     *Conn
	own, all int
}

func holderOf(c *Conn, x *secures) holder {
	h := holder{conn: c, own: c.in.weight()}
	if c.secured {
		h.own += x.of(c).counted
	}
	h.all = h.own
	if o := c.out; o != nil {
		h.own += o.own + len(o.segments)*segmentBytes
		h.all += o.bytes
	}
	return h
}

// less tells whether g has to go before h. What is kept for a conn alone decides: ending one that shares what it waits for
// with others frees nothing.
func (h holder) less(g holder) bool { return h.own < g.own || h.own == g.own && h.all < g.all }

// heaviest are the conns for which most is kept, the first of them first, as many as top has room for. queued are the conns that have unsent
// bytes, inboxed those that have an inbox; some are both. What is sealed beside them is too little to look for (ownBytes).
func heaviest(top []holder, queued, inboxed []*Conn, x *secures) []holder {
	for _, c := range queued {
		top = addHeaviest(top, holderOf(c, x))
	}
	for _, c := range inboxed {
		if c.out == nil || c.out.bytes == 0 { // else it is one of queued
			top = addHeaviest(top, holderOf(c, x))
		}
	}
	slices.SortFunc(top, func(a, b holder) int {
		return cmp.Or(cmp.Compare(b.own, a.own), cmp.Compare(b.all, a.all))
	})
	return top
}

// addHeaviest puts h into top, a heap with the least in front, unless that is full of heavier ones.
func addHeaviest(top []holder, h holder) []holder {
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
