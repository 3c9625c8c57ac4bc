package netpoll

import "sync/atomic"

// Budget is what loops have in common: a bound on the bytes they keep for conns, unsent or received in part, and how many sockets each listener's tag has. Safe from
// any goroutine, except where noted.
type Budget struct {
	// Gate is asked about new sockets; nil lets all in. Set it before a loop turns.
	Gate Gate

	limit atomic.Int64
	total atomic.Int64      // bytes kept in both directions
	in    atomic.Int64      // of these, those received
	slow  atomic.Int64      // conns with unsent bytes
	open  [256]atomic.Int64 // by tag
	loops []*Loop           // static once all loops are made
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

// Total is the number of bytes that all loops keep for conns, in both directions. What several slow conns share counts once.
func (b *Budget) Total() int64 { return b.total.Load() }

// Inbound is how many of these belong to messages that have begun to arrive, and to what else could not be handled yet. Inboxes of
// some kilobytes do not count.
func (b *Budget) Inbound() int64 { return b.in.Load() }

func (b *Budget) add(l *Loop) { b.loops = append(b.loops, l) }

// publish tells what l holds and, when all loops hold too much, has the one that holds the most end its largest
// backlogs. Runs on l.
func (b *Budget) publish(l *Loop) {
	l.account()
	if d := int64(len(l.queued)) - l.slow; d != 0 {
		l.slow += d
		b.slow.Add(d)
	}
	if l.shedding.Load() {
		l.shedding.Store(false)
		l.shed()
	}
	if b.total.Load() <= b.limit.Load() {
		return
	}
	worst := l
	for _, o := range b.loops {
		if o.held.Load() > worst.held.Load() {
			worst = o
		}
	}
	if worst == l {
		l.shed()
	} else if !worst.shedding.Swap(true) {
		worst.Ring()
	}
}

// account tells the budget what l holds.
func (l *Loop) account() {
	if d := int64(l.inbound) - l.heldIn; d != 0 {
		l.heldIn += d
		l.budget.in.Add(d)
	}
	if d := int64(l.unsent+l.inbound) - l.held.Load(); d != 0 {
		l.held.Add(d)
		l.budget.total.Add(d)
	}
}

// shed ends the conns for which this loop keeps most until all loops together are within the budget. What a conn
// alone holds comes first: ending one that shares its backlog with others frees nothing.
func (l *Loop) shed() {
	for l.budget.total.Load() > l.budget.limit.Load() {
		var worst *Conn
		most, bytes := -1, 0
		for _, list := range [][]*Conn{l.queued, l.large} {
			for _, c := range list {
				own, all := c.holds()
				if own > most || own == most && all > bytes {
					worst, most, bytes = c, own, all
				}
			}
		}
		if worst == nil {
			return
		}
		l.Kill(worst, ReasonMemory)
		l.discard(worst)
		l.dropInbox(worst)
		l.account()
	}
}

// holds is how many bytes are kept for c alone, and with those that it shares with others.
func (c *Conn) holds() (own, all int) {
	own = c.in.weight()
	all = own
	if c.out != nil {
		own, all = own+c.out.own, all+c.out.bytes
	}
	return own, all
}
