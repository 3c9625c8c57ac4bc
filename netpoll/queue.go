package netpoll

import "bytes"

// segmentBytes is what a queue takes for each segment beside the bytes, which many may share: it may have room for twice as many as it has.
// A queue of short pushes takes more for its segments than for what they say.
const segmentBytes = 64

// maxQueueKept is for how many segments an empty queue keeps memory.
const maxQueueKept = 64

// queue is what a conn has not been able to send, in order. Its bytes are private to the conn, or shared: then each segment that refers to them is
// one of their refs. The sums are those of the segments, and what a queue holds is counted in the ledger (by sharing) as long as it is there.
type queue struct {
	segments []segment
	bytes    int    // in all
	first    int    // of these, what is left of the write with which the queue began: it was let in whatever its size, and counts for nothing
	own      int    // of these, those that no other conn shares
	pushed   int    // of these, those at the end that are nothing but the stream of the conn's group
	moved    uint32 // tick at which the socket last took a byte
}

// segment is a stretch of unsent bytes: private to the conn, or a part of shared memory.
type segment struct {
	b      []byte
	shared *shared
}

// add puts a segment at the end.
func (q *queue) add(s segment, m *sharing) {
	m.ledger.segments++
	if s.shared != nil {
		s.shared.refs++
	} else {
		m.ledger.unsent += len(s.b)
		q.own += len(s.b)
	}
	q.segments = append(q.segments, s)
	q.bytes += len(s.b)
	q.pushed = 0
}

// consume takes n bytes off the front.
func (q *queue) consume(n int, m *sharing) {
	q.bytes -= n
	q.first = max(q.first-n, 0)
	q.pushed = min(q.pushed, q.bytes)
	done := 0
	for done < len(q.segments) && n >= len(q.segments[done].b) {
		n -= len(q.segments[done].b)
		q.forget(&q.segments[done], m)
		done++
	}
	if done > 0 {
		q.segments = drop(q.segments, done)
	}
	if n > 0 {
		s := &q.segments[0]
		if s.shared == nil {
			m.ledger.unsent -= n
			q.own -= n
		}
		s.b = s.b[n:]
	}
}

// forget ends what a segment counts for.
func (q *queue) forget(s *segment, m *sharing) {
	m.ledger.segments--
	if s.shared != nil {
		m.release(s.shared)
	} else {
		m.ledger.unsent -= len(s.b)
		q.own -= len(s.b)
	}
	*s = segment{}
}

// clear throws everything away.
func (q *queue) clear(m *sharing) {
	for i := range q.segments {
		q.forget(&q.segments[i], m)
	}
	q.segments, q.bytes, q.pushed = q.segments[:0], 0, 0
}

// front is what is to be written next: the first segment, or in scratch, which is returned too, as many as a healthy socket takes in one
// write, so that a backlog of many pushes costs few.
func (q *queue) front(scratch []byte) (b, _ []byte) {
	b = q.segments[0].b
	if len(q.segments) == 1 || len(b) >= chunkBytes {
		return b, scratch
	}
	scratch = scratch[:0]
	for i := range q.segments {
		if len(scratch) > 0 && len(scratch)+len(q.segments[i].b) > chunkBytes {
			break
		}
		scratch = append(scratch, q.segments[i].b...)
	}
	return scratch, scratch
}

// appendTo appends everything to dst.
func (q *queue) appendTo(dst []byte) []byte {
	for i := range q.segments {
		dst = append(dst, q.segments[i].b...)
	}
	return dst
}

// shared is immutable memory that several conns refer to: a copy of a stretch of a group's stream, or what was lent. It counts
// once, until nobody refers to it.
type shared struct {
	b    []byte
	refs int  // segments, and one of the piece of a log while that lives
	lent bool // stands in sharing.lent
}

// sharing keeps account of what queues refer to. Owned by the loop.
type sharing struct {
	ledger *ledger
	lent   map[*byte]*shared // what was lent and is queued, by its first byte
}

// copy is a copy of b, of which the caller has a reference.
func (m *sharing) copy(b []byte) *shared {
	s := &shared{b: bytes.Clone(b), refs: 1}
	m.ledger.unsent += len(b)
	return s
}

// loan is the memory of b, which was lent: the same for all that begins there. Lists that grow at their end are one text: it counts as often as it
// is there, once. The caller must add a segment of it.
func (m *sharing) loan(b []byte) *shared {
	s := m.lent[&b[0]]
	if s == nil {
		if m.lent == nil {
			m.lent = make(map[*byte]*shared)
		}
		s = &shared{lent: true}
		m.lent[&b[0]] = s
	}
	if len(b) > len(s.b) {
		m.ledger.unsent += len(b) - len(s.b)
		s.b = b
	}
	return s
}

// release gives a reference back.
func (m *sharing) release(s *shared) {
	if s.refs--; s.refs == 0 {
		m.ledger.unsent -= len(s.b)
		if s.lent {
			delete(m.lent, &s.b[0])
		}
	}
}
