package netpoll

import "sync/atomic"

// ledger counts what is buffered for the conns of one loop, and tells the Budget, which the loop shares with others. Whoever buffers something
// counts it when it begins and ends to exist: after each event the sums are what is there.
type ledger struct {
	// Static after construction.
	budget *Budget
	bell   *doorbell

	// Owned by the loop.
	unsent   int // bytes that exist only for conns that could not take them; what several of them share counts once
	segments int // in the queues of all conns
	inbound  int // bytes of inboxes
	unread   int // sockets that are not watched for reading
	told     struct{ inbound, slow, unread int64 }

	// Safe from any goroutine.
	buffered atomic.Int64 // sum, when the budget was told last
	shedding atomic.Bool  // the budget asks this loop to end the conns for which most is buffered
}

// sum is how many bytes are buffered for the conns of this loop.
func (k *ledger) sum() int64 {
	return int64(k.unsent) + int64(k.segments)*segmentBytes + int64(k.inbound)
}

// publish tells the budget how much is buffered, how many conns have unsent bytes (slow) and how many sockets are not read. If it is too much
// for all loops together, the loop that has most is asked to shed in its next turn.
func (k *ledger) publish(slow int) {
	k.publishBytes()
	publish(&k.budget.slow, &k.told.slow, int64(slow))
	publish(&k.budget.unread, &k.told.unread, int64(k.unread))
	if k.budget.over() {
		k.budget.askToShed(k)
	}
}

// publishBytes is the first half of publish.
func (k *ledger) publishBytes() {
	publish(&k.budget.in, &k.told.inbound, int64(k.inbound))
	if d := k.sum() - k.buffered.Load(); d != 0 {
		k.buffered.Add(d)
		k.budget.buffered.Add(d)
	}
}

// publish adds to a sum of all loops what this loop's part of it has grown by since it was told last.
func publish(sum *atomic.Int64, told *int64, now int64) {
	if d := now - *told; d != 0 {
		*told = now
		sum.Add(d)
	}
}
