package natsbus

import "sync"

// queue is a bounded FIFO between goroutines. Any of them adds, one takes. Guarded by mu.
type queue struct {
	most int // bytes

	mu    sync.Mutex
	items []item
	spare []item // what was taken last, to be used again
	bytes int    // of both
	taken int    // of those
	shut  bool

	wake chan struct{} // has one element when something was added
}

// item is a packet on its way, or, on the way in, what happened between two packets.
type item struct {
	kind   itemKind
	name   string // of the receiver; of whom nobody answers for
	packet []byte
	err    error // of a change
}

type itemKind uint8

const (
	announced   itemKind = iota // on the way out: to everybody
	sent                        // on the way out: to name
	received                    // on the way in
	noResponder                 // on the way in: nobody has name
	changed                     // on the way in: err is why the bus carries nothing, nil: it carries
)

// itemCost is what an item costs beside its packet, in bytes, so that many small ones are bounded too.
const itemCost = 128

func newQueue(most int) *queue { return &queue{most: most, wake: make(chan struct{}, 1)} }

// add appends an item, and tells false if it is dropped: there are enough bytes already, or the queue is shut. extra is how many bytes more than
// others this one may find.
func (q *queue) add(it item, extra int) bool {
	q.mu.Lock()
	ok := !q.shut && q.bytes < q.most+extra
	if ok {
		q.items = append(q.items, it)
		q.bytes += itemCost + len(it.packet)
	}
	q.mu.Unlock()
	if ok {
		q.ring()
	}
	return ok
}

func (q *queue) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// keepItems is the longest list of items whose memory is used again.
const keepItems = 4096

// take is everything there is, in order, valid until the next take. What was taken counts until then: the bound holds for both together.
func (q *queue) take() []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.spare)
	if cap(q.spare) > keepItems {
		q.spare = nil
	}
	q.items, q.spare = q.spare[:0], q.items
	q.bytes -= q.taken
	q.taken = q.bytes
	return q.spare
}

// empty forgets what is there, and opens or shuts the queue.
func (q *queue) empty(shut bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.items)
	q.items, q.bytes, q.shut = q.items[:0], q.taken, shut
}
