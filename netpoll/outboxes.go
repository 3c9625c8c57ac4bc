package netpoll

import "syscall"

// outbox is what a conn has to be sent: first what its socket did not take (queue), then what has been staged since. Most conns
// have none.
type outbox struct {
	queue
	stage     stage
	skips     *[]skip // stretches of its group's stream that its conn was left out of; nil: none
	index     uint32  // in outboxes.queued, while there are bytes in the queue
	dirty     bool    // stands in outboxes.dirty
	noBuffers bool    // the kernel had no memory for it: tried again by the next tick, as the socket itself has room
}

// outboxes are those of a loop's conns, and the only way by which bytes leave the loop. A conn has one only while there is something in it, or
// it stands in dirty. In queued are those whose socket did not take everything; they are watched for writing, and nothing overtakes
// what is in their queue. Owned by the loop.
//
// Nothing is called back from here but Handler.Write, and that only for conns without a socket, outside of passes: what fails, or exceeds a limit,
// only marks a conn (ends).
type outboxes struct {
	driver  Driver
	clock   *clock
	ends    *ends
	sockets *sockets
	secures *secures
	waiting *waiting
	offers  *offers
	memory  *sharing
	limits  *Limits

	dirty   []*Conn // have something staged, to be written in this event or the turn
	queued  []*Conn
	pool    []*outbox
	scratch []byte

	written, writes, noBuffers uint64 // since the start: bytes, calls, and calls for which the kernel had no memory
}

// Stage returns the conn's staging buffer, in which everything the conn's group has for it comes first; what was lent (Lend) is
// not in it. The caller appends to it and gives it back with Commit before anything else happens on the loop. Runs on the loop.
func (x *outboxes) Stage(c *Conn) []byte {
	o := x.of(c)
	x.catchUp(c, o)
	return o.stage.b
}

// Commit takes back what Stage gave. It is written at the end of the conn's own event, or in the turn. Runs on the loop.
func (x *outboxes) Commit(c *Conn, b []byte) {
	o := c.out
	o.stage.b = b
	if !o.dirty && o.stage.len() > 0 {
		o.dirty = true
		x.dirty = append(x.dirty, c)
	}
}

// Write stages b, which is copied, behind everything the conn's group has for it. On a conn that is
// ending it does nothing. Runs on the loop.
func (x *outboxes) Write(c *Conn, b []byte) {
	if c.Alive() {
		x.Commit(c, append(x.Stage(c), b...))
	}
}

// Lend stages b, which nobody may change any more. While many conns are to be sent the same long bytes, these are in memory once: no stage
// grows for them, and a conn whose socket does not take them refers to them. What is lent at different times may begin at the same place and end
// at others. Runs on the loop.
func (x *outboxes) Lend(c *Conn, b []byte) {
	if !c.Alive() {
		return
	}
	staged := x.Stage(c)
	if o := c.out; len(b) >= leastLent && o.stage.lent == nil && !c.IsPull() { // a peer that fetches must be offered whole pushes
		o.stage.lend(b)
	} else {
		staged = append(staged, b...)
	}
	x.Commit(c, staged)
}

// Waiting is for how many conns there are bytes that their sockets have not taken. Runs on the loop.
func (x *outboxes) Waiting() int { return len(x.queued) }

// Queued is the number of bytes the conn's socket has not taken yet.
func (c *Conn) Queued() int {
	if c.out == nil {
		return 0
	}
	return c.out.bytes + c.out.stage.len()
}

// of is c's outbox, which it is given if it has none.
func (x *outboxes) of(c *Conn) *outbox {
	if c.out == nil {
		if n := len(x.pool); n > 0 {
			c.out = x.pool[n-1]
			x.pool = x.pool[:n-1]
		} else {
			c.out = new(outbox)
		}
	}
	return c.out
}

// catchUp stages what the conn's group still has for it.
func (x *outboxes) catchUp(c *Conn, o *outbox) {
	g := c.group
	if g == nil || c.cut >= g.end {
		return
	}
	o.stage.b = g.log.appendTo(o.stage.b, c.cut, g.end)
	c.cut = g.end
}

// bringUp stages what c's group has for it so far.
func (x *outboxes) bringUp(c *Conn) {
	if g := c.group; g != nil && c.cut < g.end {
		x.Commit(c, x.Stage(c))
	}
}

// flushDirty writes everything that is staged.
func (x *outboxes) flushDirty() {
	for i := 0; i < len(x.dirty); i++ {
		x.flush(x.dirty[i])
	}
	clear(x.dirty)
	x.dirty = x.dirty[:0]
}

// flushOwn writes what c's own event has staged for it.
func (x *outboxes) flushOwn(c *Conn) {
	if n := len(x.dirty); x.dirty[n-1] == c {
		x.dirty = x.dirty[:n-1]
	}
	x.flush(c)
}

// flush offers the stage to the socket, together with anything its group has for it: one write.
func (x *outboxes) flush(c *Conn) {
	o := c.out
	if o == nil {
		return
	}
	o.dirty = false
	if !c.life.writable() {
		x.tidy(c)
		return
	}
	if c.Alive() {
		x.catchUp(c, o)
	}
	n := 0
	if o.bytes == 0 && o.stage.len() > 0 {
		var errno syscall.Errno
		if n, errno = x.writeStage(c, o); errno != 0 {
			x.ends.fail(c)
			return
		}
	}
	if total := o.stage.len(); n < total && x.mayQueue(c, total-n) { // counted only now: a peer's handler may have staged more when it was offered this
		x.queueStage(o, n, total)
	}
	x.tidy(c)
}

// writeStage writes as much of the stage as the socket takes: in one write, but for very long lists.
func (x *outboxes) writeStage(c *Conn, o *outbox) (n int, errno syscall.Errno) {
	if o.stage.lent == nil {
		return x.write(c, o.stage.b)
	}
	for total := o.stage.len(); n < total && errno == 0; {
		x.scratch = o.stage.appendTo(x.scratch[:0], n, min(total, n+chunkBytes))
		var taken int
		taken, errno = x.write(c, x.scratch)
		if n += taken; taken < len(x.scratch) {
			break
		}
	}
	return n, errno
}

// queueStage queues what is staged from from up to, but not including, to: what was lent as it is, the rest as copies.
func (x *outboxes) queueStage(o *outbox, from, to int) {
	copied := func(from, to int) {
		if from < to {
			o.queue.add(segment{b: o.stage.appendTo(make([]byte, 0, to-from), from, to)}, x.memory)
		}
	}
	lent := o.stage.lent
	begin, end := o.stage.at, o.stage.at+len(lent)
	if lent == nil || from >= end {
		copied(from, to)
		return
	}
	copied(from, begin)
	o.queue.add(segment{b: lent[max(from-begin, 0):], shared: x.memory.loan(lent)}, x.memory)
	copied(max(from, end), to)
}

// tidy empties the stage and gives the outbox back to the pool if the conn needs it no longer.
func (x *outboxes) tidy(c *Conn) {
	o := c.out
	o.stage.clear()
	if o.bytes > 0 || o.dirty {
		return
	}
	c.out = nil
	x.waiting.emptied(c)
	o.segments, o.moved, o.first, o.noBuffers, o.skips = o.segments[:0], 0, 0, false, nil
	if cap(o.segments) > maxQueueKept {
		o.segments = nil
	}
	if len(x.pool) < maxPooledBuffers {
		x.pool = append(x.pool, o)
	}
}

// write is the one place from which bytes leave. EAGAIN is 0 bytes and no error.
func (x *outboxes) write(c *Conn, b []byte) (int, syscall.Errno) {
	if c.IsPull() {
		return x.offers.offer(c, b), 0
	}
	var n int
	var errno syscall.Errno
	if c.secured {
		n, errno = x.secures.write(c, b)
	} else {
		n, errno = x.driver.Write(int(c.fd), b)
	}
	x.writes++
	x.written += uint64(n)
	if n > 0 {
		c.active = x.clock.now
	}
	switch errno {
	case 0: // nearly always
		return n, 0
	case syscall.EAGAIN:
		return 0, 0
	case syscall.ENOBUFS, syscall.ENOMEM:
		x.noBuffers++
		x.of(c).noBuffers = true
		return 0, 0
	}
	return n, errno
}

// enqueue keeps a segment until the socket takes it, unless the conn is ended for it.
func (x *outboxes) enqueue(c *Conn, s segment) {
	if x.mayQueue(c, len(s.b)) {
		c.out.queue.add(s, x.memory)
	}
}

// mayQueue tells whether n bytes of one write may be queued. An empty queue takes one write of any size, which then counts for nothing
// until it has gone: a member that is sent a long list must not be ended for the next word that anybody says. Otherwise a conn that would hold more
// than Limits.Outbound is ended: a member gets every message or is disconnected, never a hole.
func (x *outboxes) mayQueue(c *Conn, n int) bool {
	o := x.of(c)
	if o.bytes == 0 {
		o.moved, o.first = x.clock.now, n
		o.index = uint32(len(x.queued))
		x.queued = append(x.queued, c)
		if !o.noBuffers {
			x.sockets.watch(c, c.watched|Writable)
		}
	} else if o.bytes-o.first+n > x.limits.Outbound {
		x.ends.Kill(c, ReasonSlow)
		return false
	}
	return true
}

// drain sends what it can of the queue.
func (x *outboxes) drain(c *Conn) {
	o := c.out
	for o.bytes > 0 {
		var b []byte
		b, x.scratch = o.queue.front(x.scratch)
		n, errno := x.write(c, b)
		if errno != 0 {
			x.ends.fail(c)
			return
		}
		o.queue.consume(n, x.memory)
		if n > 0 {
			o.moved = x.clock.now
		}
		if o.noBuffers { // the socket goes on saying that it can be written to
			x.sockets.watch(c, c.watched&^Writable)
		}
		if n < len(b) {
			return
		}
	}
	x.unqueue(c)
	o.noBuffers = false
	x.sockets.watch(c, c.watched&^Writable)
	if o.stage.len() == 0 {
		x.tidy(c)
	}
}

func (x *outboxes) unqueue(c *Conn) {
	i, last := c.out.index, uint32(len(x.queued)-1)
	x.queued[i] = x.queued[last]
	x.queued[i].out.index = i
	x.queued[last] = nil
	x.queued = x.queued[:last]
}

// take is everything that is unsent, in order; it is thrown away here.
func (x *outboxes) take(c *Conn) []byte {
	o := c.out
	if o == nil {
		return nil
	}
	b := o.queue.appendTo(make([]byte, 0, o.bytes+o.stage.len()))
	b = o.stage.appendTo(b, 0, o.stage.len())
	x.discard(c)
	return b
}

// discard throws away everything unsent of a conn that is going.
func (x *outboxes) discard(c *Conn) {
	o := c.out
	if o == nil {
		return
	}
	if o.bytes > 0 {
		o.queue.clear(x.memory)
		x.unqueue(c)
	}
	x.tidy(c)
}

// check runs once a second: peers that take nothing are ended, and those for which there was no memory are tried again.
func (x *outboxes) check() {
	for i := len(x.queued) - 1; i >= 0; i-- {
		c := x.queued[i]
		if x.clock.now-c.out.moved >= x.limits.Stuck && !c.IsPull() { // how long a peer may stay away is the handler's to judge
			x.ends.Kill(c, ReasonStuck)
		} else if c.out.noBuffers {
			c.out.noBuffers = false
			x.sockets.watch(c, c.watched|Writable)
		}
	}
}
