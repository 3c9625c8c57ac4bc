package netpoll

// A pass writes at most sealBytes at once (one push may be longer): with the send buffer of 128 KiB that listeners ask
// for, a healthy conn takes a pass in one write.
const sealBytes = 64 << 10

// A turn passes on logs for sliceNanos, and at most sliceConns members of one group at a time, so that neither a room of
// 19,000 nor a thousand small rooms keep the loop from reading for longer. The rest waits for the next turn.
const (
	sliceConns = 256
	sliceNanos = 1_000_000
)

// Group is a set of conns that get the same bytes, and the log of the bytes they have yet to get. The log is a stream
// with absolute offsets, cut into chunks at push boundaries; the first chunk is sealed while a pass writes it. A conn has had
// everything before max(its cut, the first chunk, or the second one if the running pass has served it).
// Owned by the loop. The zero value is an empty group.
type Group struct {
	conns   []*Conn
	cursor  int // conns[:cursor] have been served by the running pass
	chunks  []chunk
	end     uint64 // of the stream
	running bool   // a pass is writing chunks[0]
	active  bool   // stands in loop.active
}

// chunk is one stretch of the stream, whole pushes only.
type chunk struct {
	base uint64
	b    []byte
	// slow is an exact copy of b that conns with a backlog refer to; made once a chunk, by the first who
	// needs it. So b itself can always be recycled, and a frozen conn never pins a large buffer for a small push.
	slow *shared
}

func (k *chunk) end() uint64 { return k.base + uint64(len(k.b)) }

// Len is the number of members.
func (g *Group) Len() int { return len(g.conns) }

// Backlog is how many bytes of the stream are still to be written to somebody.
func (g *Group) Backlog() int {
	n := 0
	for i := range g.chunks {
		n += len(g.chunks[i].b)
	}
	return n
}

// Join puts c, which must be in no group, into g. It gets what is pushed from now on.
func (l *Loop) Join(c *Conn, g *Group) {
	c.group, c.pos, c.cut = g, uint32(len(g.conns)), g.end
	g.conns = append(g.conns, c)
}

// Leave takes c out of its group. What the group had for c so far is staged for it, unless c is ending.
func (l *Loop) Leave(c *Conn) {
	g := c.group
	if g == nil {
		return
	}
	if c.Alive() {
		l.bringUp(c)
	}
	i, last := int(c.pos), len(g.conns)-1
	if i < g.cursor { // keep the served in front: the last served one takes the gap, the last of all takes its place
		g.cursor--
		g.move(g.cursor, i)
		i = g.cursor
	}
	g.move(last, i)
	g.conns[last] = nil
	g.conns = g.conns[:last]
	c.group = nil
	if last == 0 {
		g.conns = nil
		l.dropLog(g)
	}
}

// bringUp stages what c's group has for it so far.
func (l *Loop) bringUp(c *Conn) {
	if g := c.group; g != nil && c.cut < g.end && l.pendingFrom(c) < g.end {
		l.Commit(c, l.Stage(c))
	}
}

func (g *Group) move(from, to int) {
	c := g.conns[from]
	g.conns[to] = c
	c.pos = uint32(to)
}

// Push appends one encoded push to the group's stream. frame is copied.
func (l *Loop) Push(g *Group, frame []byte) {
	if len(g.conns) == 0 || len(frame) == 0 {
		return
	}
	n := len(g.chunks)
	if sealed := g.running && n == 1; n == 0 || sealed || len(g.chunks[n-1].b)+len(frame) > sealBytes {
		if g.chunks == nil {
			g.chunks = l.takeChunks()
		}
		g.chunks = append(g.chunks, chunk{base: g.end, b: l.logs.get()})
		n++
	}
	k := &g.chunks[n-1]
	k.b = append(k.b, frame...)
	g.end += uint64(len(frame))
	l.backlog += len(frame)
	if !g.active {
		g.active = true
		l.active = append(l.active, g)
	}
}

// pendingFrom is where the part of the stream begins that c has not been given.
func (l *Loop) pendingFrom(c *Conn) uint64 {
	g := c.group
	if len(g.chunks) == 0 {
		return g.end
	}
	from := g.chunks[0].base
	if g.running && int(c.pos) < g.cursor {
		from = g.chunks[0].end()
	}
	return max(from, c.cut)
}

// runPasses gives every active group a slice in turn, for as long as a turn may take.
func (l *Loop) runPasses() {
	if len(l.active) == 0 {
		return
	}
	deadline := l.nanos() + sliceNanos
	i, n := 0, len(l.active)
	for ; i < n; i++ {
		g := l.active[i]
		if l.runSlice(g, deadline) {
			l.active = append(l.active, g)
		} else {
			g.active = false
		}
		if l.nanos() > deadline {
			i++
			break
		}
	}
	kept := copy(l.active, l.active[i:])
	clear(l.active[kept:])
	l.active = l.active[:kept]
}

// runSlice serves the next members of g's pass. It returns false when nothing is left to pass on.
func (l *Loop) runSlice(g *Group, deadline int64) bool {
	if len(g.chunks) == 0 {
		return false
	}
	if !g.running {
		g.running, g.cursor = true, 0
	}
	k := &g.chunks[0]
	limit := min(len(g.conns), g.cursor+sliceConns)
	for g.cursor < limit {
		c := g.conns[g.cursor]
		g.cursor++
		l.serve(c, k)
		if g.cursor&31 == 0 && l.nanos() > deadline {
			break
		}
	}
	if g.cursor < len(g.conns) {
		return true
	}
	l.stats.Passes++
	l.endPass(g)
	return len(g.chunks) > 0
}

// serve gives c what it lacks of chunk k, which is being passed on.
func (l *Loop) serve(c *Conn, k *chunk) {
	from := max(k.base, c.cut)
	if from >= k.end() || !c.Alive() {
		return
	}
	b := k.b[from-k.base:]
	if o := c.out; o != nil {
		if len(o.stage) > 0 { // staged since the flush of this turn: keep order, and one write
			o.stage = append(o.stage, b...)
			c.cut = k.end()
			return
		}
		if o.bytes > 0 {
			l.refer(c, k, len(k.b)-len(b))
			return
		}
	}
	n, errno := l.write(c, b)
	if errno != 0 {
		l.fail(c)
	} else if n < len(b) {
		l.refer(c, k, len(k.b)-len(b)+n)
	}
}

// refer queues k.b[off:] for a conn whose socket takes no more, without copying it for each such conn.
func (l *Loop) refer(c *Conn, k *chunk, off int) {
	if k.slow == nil {
		k.slow = l.share(k.b)
	}
	l.enqueue(c, segment{b: k.slow.b[off:], shared: k.slow})
}

func (l *Loop) endPass(g *Group) {
	l.recycle(&g.chunks[0])
	n := copy(g.chunks, g.chunks[1:])
	g.chunks[n] = chunk{}
	g.chunks = g.chunks[:n]
	g.running, g.cursor = false, 0
	if n == 0 {
		l.putChunks(g)
	}
}

// takeChunks and putChunks lend groups the memory of their list of chunks: an idle one holds none.
func (l *Loop) takeChunks() []chunk {
	n := len(l.chunks)
	if n == 0 {
		return make([]chunk, 0, 1)
	}
	list := l.chunks[n-1]
	l.chunks = l.chunks[:n-1]
	return list
}

func (l *Loop) putChunks(g *Group) {
	if g.chunks != nil && cap(g.chunks) <= maxChunksKept && len(l.chunks) < maxPooledBuffers {
		l.chunks = append(l.chunks, g.chunks[:0])
	}
	g.chunks = nil
}

const maxChunksKept = 8

func (l *Loop) dropLog(g *Group) {
	for i := range g.chunks {
		l.recycle(&g.chunks[i])
	}
	clear(g.chunks)
	l.putChunks(g)
	g.running, g.cursor = false, 0
}

func (l *Loop) recycle(k *chunk) {
	l.backlog -= len(k.b)
	l.logs.put(k.b)
	if k.slow != nil {
		l.release(k.slow)
	}
}

// bufferPool keeps a loop's recently used buffers. Bounded in number and in the size of what it keeps.
type bufferPool struct{ free [][]byte }

const (
	maxPooledBuffers = 64
	maxPooledBytes   = 2 * sealBytes
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
