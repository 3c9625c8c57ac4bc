package netpoll

import (
	"bytes"
	"syscall"
)

// outbox is what a conn has staged or not yet been able to send. Most conns have none; the loop pools them.
type outbox struct {
	stage     []byte // of this turn, not yet offered to the socket; comes after queue
	lent      []byte // immutable: staged as well, and not copied (Lend); nil mostly
	at        int    // its place in stage
	queue     []segment
	bytes     int    // in queue
	first     int    // of these, what is left of the write with which the queue began: it was let in whatever its size, and counts for nothing
	own       int    // of these, those that no other conn shares
	moved     uint32 // tick at which the socket last took a byte of queue
	index     int    // in loop.queued, while bytes > 0
	dirty     bool   // stands in loop.dirty
	noBuffers bool   // the kernel had no memory for it: tried again by the next tick, as the socket itself has room
}

// segment is a stretch of unsent bytes: private to the conn, or a part of a shared copy.
type segment struct {
	b      []byte
	shared *shared
}

// segmentBytes is what a queue takes for each segment beside the bytes, which many may share: it may have room for twice as many as it has.
// A queue of short pushes takes more for its segments than for what they say.
const segmentBytes = 64

// shared is immutable memory that several conns refer to: a copy of a chunk for slow conns of the group, or what was lent. It counts
// once.
type shared struct {
	b    []byte
	refs int  // conns' segments, and one of the chunk while that lives
	lent bool // stands in Loop.loans
}

// Stage returns the conn's staging buffer, in which everything the conn's group has for it comes first; what was lent (Lend) is
// not in it. The caller appends to it and gives it back with Commit before anything else happens on the loop. Runs on the loop.
func (l *Loop) Stage(c *Conn) []byte {
	o := l.outbox(c)
	l.catchUp(c, o)
	return o.stage
}

// Commit takes back what Stage gave. It is written at the end of the conn's own event, or in the turn.
func (l *Loop) Commit(c *Conn, b []byte) {
	o := c.out
	o.stage = b
	if !o.dirty && o.staged() > 0 {
		o.dirty = true
		l.dirty = append(l.dirty, c)
	}
}

// Write stages b, which is copied, behind everything the conn's group has for it. On a conn that is
// ending it does nothing. Runs on the loop.
func (l *Loop) Write(c *Conn, b []byte) {
	if c.Alive() {
		l.Commit(c, append(l.Stage(c), b...))
	}
}

// Lend stages b, which nobody may change any more. While many are to be given the same long bytes, these are there once: no stage
// grows for them, and who does not take them refers to them. What is lent at different times may begin at the same place and end
// at others. Runs on the loop.
func (l *Loop) Lend(c *Conn, b []byte) {
	if !c.Alive() {
		return
	}
	stage := l.Stage(c)
	if o := c.out; len(b) >= leastLent && o.lent == nil && !c.IsPull() { // a peer that fetches must be offered whole pushes
		o.lent, o.at = b, len(stage)
	} else {
		stage = append(stage, b...)
	}
	l.Commit(c, stage)
}

// leastLent is the length from which on not copying pays: shorter ones fit into stages as they are pooled.
const leastLent = 4 << 10

// staged is the number of bytes that are staged.
func (o *outbox) staged() int { return len(o.stage) + len(o.lent) }

// appendStaged appends what is staged from from up to, but not including, to.
func (o *outbox) appendStaged(dst []byte, from, to int) []byte {
	at, n := o.at, len(o.lent)
	if from < at {
		dst = append(dst, o.stage[from:min(to, at)]...)
	}
	if from < at+n && to > at {
		dst = append(dst, o.lent[max(from-at, 0):min(to-at, n)]...)
	}
	if to > at+n {
		dst = append(dst, o.stage[max(from-n, at):to-n]...)
	}
	return dst
}

// Queued is the number of bytes the conn's socket has not taken yet.
func (c *Conn) Queued() int {
	if c.out == nil {
		return 0
	}
	return c.out.bytes + c.out.staged()
}

func (l *Loop) outbox(c *Conn) *outbox {
	if c.out == nil {
		if n := len(l.outboxes); n > 0 {
			c.out = l.outboxes[n-1]
			l.outboxes = l.outboxes[:n-1]
		} else {
			c.out = new(outbox)
		}
	}
	return c.out
}

// catchUp appends what the conn's group still has for it to the stage.
func (l *Loop) catchUp(c *Conn, o *outbox) {
	g := c.group
	if g == nil || c.cut >= g.end {
		return
	}
	o.stage = g.log.appendTo(o.stage, c.cut, g.end)
	c.cut = g.end
}

// flush offers the stage to the socket, together with anything its group has for it: one write.
func (l *Loop) flush(c *Conn) {
	o := c.out
	if o == nil {
		return
	}
	o.dirty = false
	if !c.life.writable() {
		l.tidyOutbox(c)
		return
	}
	if c.Alive() {
		l.catchUp(c, o)
	}
	n := 0
	if o.bytes == 0 && o.staged() > 0 {
		var errno syscall.Errno
		if n, errno = l.writeStage(c, o); errno != 0 {
			l.fail(c)
			return
		}
	}
	if total := o.staged(); n < total && l.mayQueue(c, total-n) { // counted only now: a peer's handler may have staged more when it was offered this
		l.queueStaged(o, n, total)
	}
	l.tidyOutbox(c)
}

// queueStaged queues what is staged from from up to, but not including, to: what was lent as it is, the rest as copies.
func (l *Loop) queueStaged(o *outbox, from, to int) {
	copied := func(from, to int) {
		if from < to {
			l.queue(o, segment{b: o.appendStaged(make([]byte, 0, to-from), from, to)})
		}
	}
	begin, end := o.at, o.at+len(o.lent)
	if o.lent == nil || from >= end {
		copied(from, to)
		return
	}
	copied(from, begin)
	l.queue(o, segment{b: o.lent[max(from-begin, 0):], shared: l.loan(o.lent)})
	copied(max(from, end), to)
}

// loan is the shared memory of what was lent. Lists that grow at their end are one text: it counts as often as it is there, once.
func (l *Loop) loan(b []byte) *shared {
	s := l.loans[&b[0]]
	if s == nil {
		if l.loans == nil {
			l.loans = make(map[*byte]*shared)
		}
		s = &shared{lent: true}
		l.loans[&b[0]] = s
	}
	if len(b) > len(s.b) {
		l.ledger.unsent += len(b) - len(s.b)
		s.b = b
	}
	return s
}

// writeStage writes as much of the stage as the socket takes: in one write, but for very long lists.
func (l *Loop) writeStage(c *Conn, o *outbox) (n int, errno syscall.Errno) {
	if o.lent == nil {
		return l.write(c, o.stage)
	}
	for total := o.staged(); n < total && errno == 0; {
		l.scratch = o.appendStaged(l.scratch[:0], n, min(total, n+chunkBytes))
		var taken int
		taken, errno = l.write(c, l.scratch)
		if n += taken; taken < len(l.scratch) {
			break
		}
	}
	return n, errno
}

// tidyOutbox empties the stage and gives the outbox back to the pool if the conn needs it no longer.
func (l *Loop) tidyOutbox(c *Conn) {
	o := c.out
	if cap(o.stage) > maxStageKept {
		o.stage = nil
	}
	o.stage, o.lent, o.at = o.stage[:0], nil, 0
	if o.bytes > 0 || o.dirty {
		return
	}
	c.out = nil
	l.waiting.emptied(c)
	o.queue, o.moved, o.first, o.noBuffers = o.queue[:0], 0, 0, false
	if cap(o.queue) > maxQueueKept {
		o.queue = nil
	}
	if len(l.outboxes) < maxPooledBuffers {
		l.outboxes = append(l.outboxes, o)
	}
}

const (
	maxStageKept = 16 << 10 // bytes of stage a pooled outbox keeps
	maxQueueKept = 64       // segments a pooled outbox keeps
)

// write is the one place from which bytes leave. EAGAIN is 0 bytes and no error.
func (l *Loop) write(c *Conn, b []byte) (int, syscall.Errno) {
	if c.IsPull() {
		return l.offer(c, b), 0
	}
	n, errno := l.sockets.driver.Write(int(c.fd), b)
	l.stats.Writes++
	l.stats.BytesWritten += uint64(n)
	if n > 0 {
		c.active = l.now
	}
	switch errno {
	case syscall.EAGAIN:
		return 0, 0
	case syscall.ENOBUFS, syscall.ENOMEM:
		l.stats.WritesNoBuffers++
		l.outbox(c).noBuffers = true
		return 0, 0
	}
	return n, errno
}

// enqueue keeps a segment until the socket takes it, unless the conn is ended for it.
func (l *Loop) enqueue(c *Conn, s segment) {
	if l.mayQueue(c, len(s.b)) {
		l.queue(c.out, s)
	}
}

// mayQueue tells whether n bytes of one write may be queued. An empty queue takes one write of any size, which then counts for nothing
// until it has gone: who is sent a long list must not be ended for the next word that anybody says. Otherwise a conn that would hold more
// than Limits.Outbound is ended: a member gets every message or is disconnected, never a hole.
func (l *Loop) mayQueue(c *Conn, n int) bool {
	o := l.outbox(c)
	if o.bytes == 0 {
		o.moved, o.first = l.now, n
		o.index = len(l.queued)
		l.queued = append(l.queued, c)
		if !o.noBuffers {
			l.watch(c, c.watched|Writable)
		}
	} else if o.bytes-o.first+n > l.limits.Outbound {
		l.Kill(c, ReasonSlow)
		return false
	}
	return true
}

// queue puts a segment at the end of the queue, in which it may stand (mayQueue).
func (l *Loop) queue(o *outbox, s segment) {
	if s.shared != nil {
		s.shared.refs++
	} else {
		l.ledger.unsent += len(s.b)
		o.own += len(s.b)
	}
	l.ledger.segments++
	o.queue = append(o.queue, s)
	o.bytes += len(s.b)
}

// drain sends what it can of the queue. Small segments are gathered, so that a backlog of many pushes costs few writes.
func (l *Loop) drain(c *Conn) {
	o := c.out
	for o.bytes > 0 {
		b := o.queue[0].b
		if len(o.queue) > 1 && len(b) < chunkBytes {
			b = l.gather(o.queue)
		}
		n, errno := l.write(c, b)
		if errno != 0 {
			l.fail(c)
			return
		}
		l.consume(o, n)
		if n > 0 {
			o.moved = l.now
		}
		if o.noBuffers { // the socket goes on saying that it can be written to
			l.watch(c, c.watched&^Writable)
		}
		if n < len(b) {
			return
		}
	}
	l.unqueue(c)
	o.noBuffers = false
	l.watch(c, c.watched&^Writable)
	if o.staged() == 0 {
		l.tidyOutbox(c)
	}
}

func (l *Loop) gather(queue []segment) []byte {
	l.scratch = l.scratch[:0]
	for i := range queue {
		if len(l.scratch) > 0 && len(l.scratch)+len(queue[i].b) > chunkBytes {
			break
		}
		l.scratch = append(l.scratch, queue[i].b...)
	}
	return l.scratch
}

// consume takes n sent bytes off the front of the queue.
func (l *Loop) consume(o *outbox, n int) {
	o.bytes -= n
	o.first = max(o.first-n, 0)
	done := 0
	for done < len(o.queue) && n >= len(o.queue[done].b) {
		n -= len(o.queue[done].b)
		l.forget(o, &o.queue[done])
		done++
	}
	if done > 0 {
		kept := copy(o.queue, o.queue[done:])
		clear(o.queue[kept:])
		o.queue = o.queue[:kept]
	}
	if n > 0 {
		s := &o.queue[0]
		if s.shared == nil {
			l.ledger.unsent -= n
			o.own -= n
		}
		s.b = s.b[n:]
	}
}

func (l *Loop) forget(o *outbox, s *segment) {
	l.ledger.segments--
	if s.shared != nil {
		l.release(s.shared)
	} else {
		l.ledger.unsent -= len(s.b)
		o.own -= len(s.b)
	}
	*s = segment{}
}

func (l *Loop) unqueue(c *Conn) {
	i, last := c.out.index, len(l.queued)-1
	l.queued[i] = l.queued[last]
	l.queued[i].out.index = i
	l.queued[last] = nil
	l.queued = l.queued[:last]
}

// discard throws away everything unsent of a conn that is going.
func (l *Loop) discard(c *Conn) {
	o := c.out
	if o == nil {
		return
	}
	if o.bytes > 0 {
		for i := range o.queue {
			l.forget(o, &o.queue[i])
		}
		o.bytes = 0
		l.unqueue(c)
	}
	o.queue = o.queue[:0]
	l.tidyOutbox(c)
}

func (l *Loop) share(b []byte) *shared {
	s := &shared{b: bytes.Clone(b), refs: 1}
	l.ledger.unsent += len(b)
	return s
}

func (l *Loop) release(s *shared) {
	if s.refs--; s.refs == 0 {
		l.ledger.unsent -= len(s.b)
		if s.lent {
			delete(l.loans, &s.b[0])
		}
	}
}

// checkQueues runs once a second: peers that take nothing are ended, and those are tried again for whom there was no memory.
func (l *Loop) checkQueues() {
	for i := len(l.queued) - 1; i >= 0; i-- {
		c := l.queued[i]
		if l.now-c.out.moved >= l.limits.Stuck && !c.IsPull() { // how long a peer may stay away is the handler's to judge
			l.Kill(c, ReasonStuck)
		} else if c.out.noBuffers {
			c.out.noBuffers = false
			l.watch(c, c.watched|Writable)
		}
	}
}
