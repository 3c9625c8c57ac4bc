package netpoll

import "sync"

// Mailbox carries messages from any goroutine to the loop that owns it, in the order they were posted. It is
// unbounded by itself: what may be posted is decided by the poster before it posts (admission), so that nothing that
// has been promised is ever dropped here.
type Mailbox[M any] struct {
	ring func()

	mu    sync.Mutex
	queue []M // guarded by mu

	// Owned by the loop.
	batch []M  // taken from the queue
	at    int  // what comes next in batch
	spare []M  // the last batch's memory, to be swapped in
	ended bool // EndSlice was called
}

// maxSpareMail is how many messages' worth of memory a mailbox keeps between batches.
const maxSpareMail = 4096

// NewMailbox makes a mailbox that calls ring (Loop.Ring) when it stops being empty.
func NewMailbox[M any](ring func()) *Mailbox[M] { return &Mailbox[M]{ring: ring} }

// Post queues messages, next to one another. Safe from any goroutine.
func (b *Mailbox[M]) Post(messages ...M) {
	b.mu.Lock()
	first := len(b.queue) == 0 && len(messages) > 0
	b.queue = append(b.queue, messages...)
	b.mu.Unlock()
	if first {
		b.ring()
	}
}

// Drain calls f for up to most messages, oldest first, and tells whether some are left: then the loop must turn again. What f posts is left.
// Runs on the loop.
func (b *Mailbox[M]) Drain(most int, f func(*M)) (more bool) {
	if b.at == len(b.batch) {
		b.take()
	}
	b.ended = false
	for end := b.at + min(most, len(b.batch)-b.at); b.at < end && !b.ended; {
		m := &b.batch[b.at]
		b.at++ // first, in case f panics
		f(m)
	}
	if b.at < len(b.batch) {
		return true
	}
	if cap(b.batch) <= maxSpareMail {
		clear(b.batch)
		b.spare = b.batch[:0]
	}
	b.batch, b.at = nil, 0
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) > 0 // its ring may have been answered while the batch was under way
}

// EndSlice has Drain call f no more this time: what it did so far has taken long enough. Only f may call it.
func (b *Mailbox[M]) EndSlice() { b.ended = true }

// take begins a new batch with all that has been posted so far.
func (b *Mailbox[M]) take() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.batch, b.at = b.queue, 0
	b.queue = b.spare[:0]
	b.spare = nil
}

// Empty tells whether nothing waits. Runs on the loop.
func (b *Mailbox[M]) Empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) == 0 && b.at == len(b.batch)
}
