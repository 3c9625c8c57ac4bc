package netpoll

import "sync"

// Mailbox carries messages from any goroutine to the loop that owns it, in the order they were posted. It is
// unbounded by itself: what may be posted is decided by the poster before it posts (admission), so that nothing that
// has been promised is ever dropped here.
type Mailbox[M any] struct {
	ring func()

	mu    sync.Mutex
	queue []M // guarded by mu

	spare []M // owned by the loop: last batch's memory, to be swapped in
}

// maxSpareMail is how many messages' worth of memory a mailbox keeps between batches.
const maxSpareMail = 4096

// NewMailbox makes a mailbox that calls ring (Loop.Ring) when it stops being empty.
func NewMailbox[M any](ring func()) *Mailbox[M] { return &Mailbox[M]{ring: ring} }

// Post queues messages: one Drain gets all of them. Safe from any goroutine.
func (b *Mailbox[M]) Post(messages ...M) {
	b.mu.Lock()
	first := len(b.queue) == 0 && len(messages) > 0
	b.queue = append(b.queue, messages...)
	b.mu.Unlock()
	if first {
		b.ring()
	}
}

// Drain calls f for each message posted so far, oldest first. Runs on the loop.
func (b *Mailbox[M]) Drain(f func(*M)) {
	b.mu.Lock()
	batch := b.queue
	b.queue = b.spare[:0]
	b.spare = nil
	b.mu.Unlock()
	for i := range batch {
		f(&batch[i])
	}
	if cap(batch) <= maxSpareMail {
		clear(batch)
		b.spare = batch[:0]
	}
}

// Empty tells whether nothing waits. Safe from any goroutine.
func (b *Mailbox[M]) Empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) == 0
}
