package netpoll

// A turn passes on logs for sliceNanos, and visits at most sliceConns members of one group at a time, so that neither a
// room of 19,000 nor a thousand small rooms keep the loop from reading for longer. The rest waits for the next turn.
const (
	sliceConns = 256
	sliceNanos = 500_000
)

// A push to a group that had none for mergeNanos is written at the end of the event that brought it, without a turn: the doorbell
// would cost three system calls, and there is nothing to merge with. Events that follow each other closely may spend
// earlyNanos on that, so that in a burst all are read before anybody is written to, as in a turn.
const (
	mergeNanos = 200_000
	earlyNanos = sliceNanos
)

// writeAtOnce writes what an event has left for the turn, if no turn is due anyway and waiting would merge nothing.
func (l *Loop) writeAtOnce() {
	if len(l.active) == 0 || l.rung.Load() {
		return
	}
	now := l.nanos()
	if now-l.passed > mergeNanos {
		l.early = 0
	}
	if l.early > earlyNanos {
		return
	}
	for _, g := range l.active {
		if now-g.passed <= mergeNanos {
			return
		}
	}
	l.writeStaged(now)
	l.early += l.passed - now
}

// log is the part of a group's stream that some member may lack, and the pass that brings it to them: a cursor that goes
// round the members. Each gets, at its visit, everything that has been pushed until then (up to chunkBytes), in one write. So
// under load a push waits for no pass to end: who is visited next has it at once, everybody has it one round later, and a
// write carries what came within a round.
type log struct {
	chunks []chunk
	cursor int    // conns[:cursor] have been visited in this round
	todo   int    // whoever lacks something is among the next todo visits
	low    uint64 // the least cut of those visited in this round
	copies []piece
	fresh  bool // something was pushed since the last slice
}

// chunk is one stretch of the stream, whole pushes only.
type chunk struct {
	base uint64
	b    []byte
}

func (k *chunk) end() uint64 { return k.base + uint64(len(k.b)) }

// piece is an exact copy of a stretch of the stream that conns with a backlog refer to; made once, by the first who
// needs it. So chunks can always be recycled, and a frozen conn never pins a large buffer for a small push. The pieces of
// a log are next to each other and begin and end between pushes.
type piece struct {
	base uint64
	*shared
}

func (s *piece) end() uint64 { return s.base + uint64(len(s.b)) }

// base is where the log begins. It always has a chunk.
func (p *log) base() uint64 { return p.chunks[0].base }

// appendTo appends the stream from from on to dst.
func (p *log) appendTo(dst []byte, from, to uint64) []byte {
	for i := range p.chunks {
		if k := &p.chunks[i]; from < k.end() && to > k.base {
			dst = append(dst, k.b[max(from, k.base)-k.base:min(to, k.end())-k.base]...)
		}
	}
	return dst
}

// reach is how far a conn that has everything before from gets at a visit: as much as a healthy socket takes in one write.
func (p *log) reach(from, end uint64) (to uint64) {
	if end-from <= chunkBytes {
		return end
	}
	for i := range p.chunks {
		if k := &p.chunks[i]; k.end() > from && (to == 0 || k.end()-from <= chunkBytes) {
			to = k.end()
		}
	}
	return to
}

// runPasses gives every active group a slice in turn, for as long as a turn may take from now on.
func (l *Loop) runPasses(now int64) {
	deadline := now + sliceNanos
	i, n := 0, len(l.active)
	for ; i < n; i++ {
		g := l.active[i]
		more := l.runSlice(g, deadline)
		l.passed = l.nanos()
		g.passed = l.passed
		if g.active = more; more {
			l.active = append(l.active, g)
		}
		if l.passed > deadline {
			i++
			break
		}
	}
	kept := copy(l.active, l.active[i:])
	clear(l.active[kept:])
	l.active = l.active[:kept]
}

// runSlice visits the next members of g. It returns false when nobody lacks anything.
func (l *Loop) runSlice(g *Group, deadline int64) bool {
	if g.log != nil {
		g.log.fresh = false
	}
	for n := 1; g.log != nil && g.log.todo > 0; n++ {
		p := g.log
		c := g.conns[p.cursor]
		p.cursor++
		p.todo--
		l.visit(g, c)
		if p.cursor == len(g.conns) && p.todo > 0 {
			l.stats.Rounds++
			l.turnRound(g)
		}
		if n == l.slice || n&31 == 0 && l.nanos() > deadline {
			break
		}
	}
	if g.log != nil && g.log.todo > 0 {
		return true
	}
	if g.log != nil {
		l.stats.Rounds++
		l.dropLog(g)
	}
	return false
}

// visit gives c, a member of g, what it lacks.
func (l *Loop) visit(g *Group, c *Conn) {
	from := c.cut
	if from >= g.end || !c.Alive() {
		return
	}
	p := g.log
	to := p.reach(from, g.end)
	if to < g.end {
		p.todo = len(g.conns)
	}
	c.cut, p.low = to, min(p.low, to)
	if o := c.out; o != nil {
		if o.stage.len() > 0 { // staged since the flush of this turn: keep order, and one write
			o.stage.b = p.appendTo(o.stage.b, from, to)
			return
		}
		if o.bytes > 0 {
			l.refer(c, from, from, to)
			return
		}
	}
	for i := range p.chunks {
		k := &p.chunks[i]
		if from >= k.end() || to <= k.base {
			continue
		}
		off := max(from, k.base)
		b := k.b[off-k.base:] // to is the end of a chunk
		n, errno := l.outboxes.write(c, b)
		if errno != 0 {
			l.fail(c)
			return
		}
		if n < len(b) {
			l.refer(c, from, off+uint64(n), to)
			return
		}
	}
}

// refer queues the stream from off to to for a conn whose socket takes no more, without copying it for each such conn. from
// is the last end of a push before off.
func (l *Loop) refer(c *Conn, from, off, to uint64) {
	p := c.group.log
	if n := len(p.copies); n == 0 {
		p.copies = append(p.copies, l.copyOf(p, from, to))
	} else {
		if first := p.copies[0].base; from < first {
			p.copies = append(p.copies, piece{})
			copy(p.copies[1:], p.copies)
			p.copies[0] = l.copyOf(p, from, first)
			n++
		}
		if last := p.copies[n-1].end(); last < to {
			p.copies = append(p.copies, l.copyOf(p, last, to))
		}
	}
	for i := range p.copies {
		if s := &p.copies[i]; off < s.end() && to > s.base && c.Alive() {
			l.outboxes.enqueue(c, segment{b: s.b[max(off, s.base)-s.base : min(to, s.end())-s.base], shared: s.shared})
		}
	}
}

func (l *Loop) copyOf(p *log, from, to uint64) piece {
	return piece{from, l.memory.copy(p.appendTo(make([]byte, 0, to-from), from, to))}
}

// turnRound begins the next round of a pass: what all have got in the last one is forgotten, and the log with it when that was
// all there was.
func (l *Loop) turnRound(g *Group) {
	p := g.log
	done := 0
	for ; done < len(p.chunks) && p.chunks[done].end() <= p.low; done++ {
		l.recycle(&p.chunks[done])
	}
	if p.chunks = drop(p.chunks, done); len(p.chunks) == 0 {
		l.dropLog(g)
		return
	}
	if p.base() < p.low {
		k := &p.chunks[0]
		n := int(p.low - k.base)
		k.b = k.b[:copy(k.b, k.b[n:])]
		k.base = p.low
		l.backlog -= n
	}
	done = 0
	for ; done < len(p.copies) && p.copies[done].end() <= p.low; done++ {
		l.memory.release(p.copies[done].shared)
	}
	p.copies = drop(p.copies, done)
	p.cursor, p.low = 0, g.end
}

// drop takes the first n away and keeps nothing of them.
func drop[T any](list []T, n int) []T {
	kept := copy(list, list[n:])
	clear(list[kept:])
	return list[:kept]
}

// dropLog ends a pass: nobody lacks anything, or nobody is there.
func (l *Loop) dropLog(g *Group) {
	p := g.log
	if p == nil {
		return
	}
	g.log = nil
	for i := range p.chunks {
		l.recycle(&p.chunks[i])
	}
	for i := range p.copies {
		l.memory.release(p.copies[i].shared)
	}
	if cap(p.chunks) <= maxChunksKept && cap(p.copies) <= maxChunksKept && len(l.spareLogs) < maxPooledBuffers {
		*p = log{chunks: drop(p.chunks, len(p.chunks)), copies: drop(p.copies, len(p.copies))}
		l.spareLogs = append(l.spareLogs, p)
	}
}

// takeLog is an empty log of a stream that has this end; an idle group has none.
func (l *Loop) takeLog(end uint64) *log {
	n := len(l.spareLogs)
	if n == 0 {
		return &log{low: end}
	}
	p := l.spareLogs[n-1]
	l.spareLogs = l.spareLogs[:n-1]
	p.low = end
	return p
}

const maxChunksKept = 8

func (l *Loop) recycle(k *chunk) {
	l.backlog -= len(k.b)
	l.logs.put(k.b)
}

// bufferPool keeps a loop's recently used buffers. Bounded in number and in the size of what it keeps.
type bufferPool struct{ free [][]byte }

const (
	maxPooledBuffers = 64
	maxPooledBytes   = 2 * chunkBytes
)

func (p *bufferPool) get() []byte {
	n := len(p.free)
	if n == 0 {
		return nil
	}
	b := p.free[n-1]
	p.free[n-1] = nil
	p.free = p.free[:n-1]
	return b
}

func (p *bufferPool) put(b []byte) {
	if cap(b) > 0 && cap(b) <= maxPooledBytes && len(p.free) < maxPooledBuffers {
		p.free = append(p.free, b[:0])
	}
}
