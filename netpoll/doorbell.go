package netpoll

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// slowAnswer is how long a ring may wait for its turn; after a longer wait the loop goes on ringing, so that it notices the end of that.
const slowAnswer = 10 * time.Millisecond

// doorbell asks the driver for a turn, and knows how long that took. A ring is a system call, unless it is the loop's own; while one waits to be
// answered, others cost nothing. Nothing posted before a Ring is missed: a turn allows the next ring before it looks at what there is.
type doorbell struct {
	// Static after construction.
	driver Driver
	clock  *clock
	asks   bool // the driver is an asker

	// Safe from any goroutine.
	rung   atomic.Bool
	rangAt atomic.Int64 // when the ring that waits, or was answered last, came

	// Owned by the loop.
	again  bool     // the ring that waits is the loop's own, of which the driver was not told
	waited [2]int64 // ns for which the last two rings waited
	waits  Waits    // of all rings
}

// asker is a driver that looks at doorbell.again before it waits for events, as Epoll does: a loop need not ring for itself.
type asker interface{ looksAgain() }

// waitBuckets is how many sorts of waits are told apart: up to 32 µs, and up to twice as long each; the last is of all that took longer than half a second.
const waitBuckets = 16

// Waits are for how long rings have waited for their turns, and so events for a loop, since the start.
type Waits struct {
	Count [waitBuckets]uint64 // Count[i]: those of WaitBound(i) at most, and longer than WaitBound(i-1)
	Sum   time.Duration
}

// WaitBound is the longest wait that Waits.Count[i] counts; of the last there is no bound.
func WaitBound(i int) time.Duration { return 1 << (waitBound0 + i) }

// waitBound0 is the logarithm of the first bound in ns.
const waitBound0 = 15

// add counts a wait, in ns.
func (w *Waits) add(ns int64) {
	w.Count[min(max(bits.Len64(uint64(max(ns-1, 0)))-waitBound0, 0), waitBuckets-1)]++
	w.Sum += time.Duration(ns)
}

// Ring makes the loop turn soon. Safe from any goroutine.
func (d *doorbell) Ring() {
	if d.rung.CompareAndSwap(false, true) {
		d.rangAt.Store(d.clock.nanos())
		d.driver.Ring()
	}
}

// ringOwn is Ring by the loop itself, which will look for itself whether it shall turn again: no system call has to tell it.
func (d *doorbell) ringOwn() {
	if !d.asks {
		d.Ring()
	} else if d.rung.CompareAndSwap(false, true) {
		d.rangAt.Store(d.clock.nanos())
		d.again = true
	}
}

// Overrun tells whether events have to wait for longer than limit until the loop comes to them. A ring stands in the
// queue of events like a socket, so what it waits they wait. One long wait is a stall (of the machine, say) that is over
// when it is noticed; it takes two in a row. Runs on the loop.
func (d *doorbell) Overrun(limit time.Duration) bool {
	return d.waited[0] > int64(limit) && d.waited[1] > int64(limit)
}

// answer begins the turn that was asked for.
func (d *doorbell) answer() {
	d.waited = [2]int64{d.waited[1], max(d.clock.EventNanos()-d.rangAt.Load(), 0)}
	d.waits.add(d.waited[1])
	if d.again {
		d.again = false
	} else {
		d.driver.Quiet() // first: a ring between the two would be silenced and yet keep others from ringing
	}
	d.rung.Store(false)
}

// slow tells whether the last ring had to wait long.
func (d *doorbell) slow() bool { return d.waited[1] > int64(slowAnswer) }
