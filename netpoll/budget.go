package netpoll

import "sync/atomic"

// Budget is what loops have in common: a bound on their unsent bytes, and how many sockets each listener's tag has. Safe from
// any goroutine, except where noted.
type Budget struct {
	// Gate is asked about new sockets; nil lets all in. Set it before a loop turns.
	Gate Gate

	limit atomic.Int64
	total atomic.Int64
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

// Total is the number of unsent bytes of all loops. What several slow conns share counts once.
func (b *Budget) Total() int64 { return b.total.Load() }

func (b *Budget) add(l *Loop) { b.loops = append(b.loops, l) }

// publish tells what l holds and, when all loops hold too much, has the one that holds the most end its largest
// backlogs. Runs on l.
func (b *Budget) publish(l *Loop) {
	if d := int64(l.unsent) - l.held.Load(); d != 0 {
		l.held.Store(int64(l.unsent))
		b.total.Add(d)
	}
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

// shed ends the conns with the largest backlogs of this loop until all loops together are within the budget. What a conn
// alone holds comes first: ending one that shares its backlog with others frees nothing.
func (l *Loop) shed() {
	for l.budget.total.Load() > l.budget.limit.Load() {
		var worst *Conn
		for _, c := range l.queued {
			if worst == nil || c.out.own > worst.out.own || c.out.own == worst.out.own && c.out.bytes > worst.out.bytes {
				worst = c
			}
		}
		if worst == nil {
			return
		}
		l.Kill(worst, ReasonMemory)
		l.discard(worst)
		d := int64(l.unsent) - l.held.Load()
		l.held.Store(int64(l.unsent))
		l.budget.total.Add(d)
	}
}
