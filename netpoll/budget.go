package netpoll

import "sync/atomic"

// Budget is what loops have in common: a bound on what they buffer for conns, unsent or received in part, and how many sockets each
// listener's tag has. Safe from any goroutine, except where noted.
type Budget struct {
	// Gate is asked about new sockets; nil lets all in. Set it before a loop turns.
	Gate Gate
	// Handshakes carries out the handshakes of conns that speak TLS (Loop.Secure); nil where none may. Set it before a loop turns.
	Handshakes *Handshakes
	// RoundTrip sends all that moves between loops through its encoding (ConnState), as if the loops were in two processes. For tests.
	// Set it before a loop turns.
	RoundTrip bool

	limit    atomic.Int64
	buffered atomic.Int64      // bytes, in both directions
	in       atomic.Int64      // of these, those received
	slow     atomic.Int64      // conns with unsent bytes
	unread   atomic.Int64      // sockets that are not read
	open     [256]atomic.Int64 // by tag
	loops    []*ledger         // static once all loops are made
}

// NewBudget makes a budget of limit bytes for the loops that will be made with it.
func NewBudget(limit int64) *Budget {
	b := new(Budget)
	b.limit.Store(limit)
	return b
}

// SetLimit changes the bound. If it is less than before, all loops are made to turn, and end conns where too much is buffered.
func (b *Budget) SetLimit(limit int64) {
	if b.limit.Swap(limit) > limit {
		for _, k := range b.loops {
			k.bell.Ring()
		}
	}
}

// Slow is the number of conns, of all loops, that have unsent bytes. Safe from any goroutine.
func (b *Budget) Slow() int { return int(b.slow.Load()) }

// Unread is the number of sockets that are not read at present: what their peers send waits in the kernel. Safe from any goroutine.
func (b *Budget) Unread() int { return int(b.unread.Load()) }

// Buffered is how many bytes all loops buffer for conns, in both directions. What several slow conns share counts once. Safe from any
// goroutine.
func (b *Budget) Buffered() int64 { return b.buffered.Load() }

// Inbound is the part of Buffered that was received: incomplete messages, and what else could not be handled yet. Safe from any goroutine.
func (b *Budget) Inbound() int64 { return b.in.Load() }

// over tells whether that is more than it may be.
func (b *Budget) over() bool { return b.buffered.Load() > b.limit.Load() }

// askToShed asks the loop that has most buffered; among equals the asker.
func (b *Budget) askToShed(asker *ledger) {
	most := asker
	for _, k := range b.loops {
		if k.buffered.Load() > most.buffered.Load() {
			most = k
		}
	}
	if !most.shedding.Swap(true) {
		most.bell.Ring()
	}
}
