package netpoll

// A turn passes on logs for sliceNanos, and visits at most sliceConns members of one group at a time, so that neither a
// room of 19,000 nor a thousand small rooms keep the loop from reading for longer. The rest waits for the next turn.
const (
	sliceConns = 256
	sliceNanos = 500_000
)

// A push to a group that had none for mergeNanos is written at the end of the event that brought it, without a turn: that
// would cost one more epoll_wait, and there is nothing to merge with. Events that follow each other closely may go on like that
// for earlyNanos, so that in a longer burst all are read before anybody is written to, as in a turn.
const (
	mergeNanos = 200_000
	earlyNanos = sliceNanos
)

// lookVisits is after how many visits the clock is looked at: what the many groups of one member have cost by then is as much as a look at each would.
const lookVisits = 16

// passes bring to the members of groups what was pushed: a pass is a log with a cursor that goes round the members. A group has a log
// while a member may lack something of its stream, and then it stands in active; backlog is how many bytes all logs have. Nobody is given
// bytes twice or out of order: what a member has had is told by its cut. Owned by the loop.
type passes struct {
	clock    *clock
	ends     *ends
	outboxes *outboxes
	memory   *sharing
	slice    int // sliceConns; tests have less

	active  []*Group
	resting resting
	last    int64 // when the last slice ended, or before that by less than lookVisits visits
	visits  int   // since then
	burst   int64 // since when events have been written to at once that follow each other closely; 0: since the last turn none was
	backlog int
	buffers bufferPool
	spare   []*log
	rounds  uint64 // since the start

	outdated, withheld uint64 // since the start: volatile frames that a later one has replaced, and those left out of the stream of somebody who was slow
}

// Backlog is the number of bytes pushed to groups and not yet passed on. Runs on the loop.
func (s *passes) Backlog() int { return s.backlog }

// mayMerge tells whether c's group was pushed to since it was last served: then c's own answer waits for the turn, and k
// senders in one batch of events cost every member, senders included, one write.
func (s *passes) mayMerge(c *Conn) bool {
	g := c.group
	return g != nil && g.log != nil && g.log.fresh && !g.resting
}

// mayBegin tells whether passes may run at the end of an event: whether waiting for a turn would merge nothing, and there is time.
func (s *passes) mayBegin(now int64) bool {
	if s.burst == 0 || now-s.last > mergeNanos {
		s.burst = now
	}
	if now-s.burst > earlyNanos {
		return false
	}
	for _, g := range s.active {
		if now-g.passed <= mergeNanos {
			return false
		}
	}
	return true
}

// run gives every active group a slice in turn, for as long as a turn may take from now on.
func (s *passes) run(now int64) {
	if len(s.active) == 0 {
		return
	}
	deadline := now + sliceNanos
	s.last, s.visits = now, 0
	i, n := 0, len(s.active)
	for ; i < n; i++ {
		g := s.active[i]
		more := s.runSlice(g, deadline)
		if s.visits >= lookVisits {
			s.last, s.visits = s.clock.nanos(), 0
		}
		g.passed = s.last
		switch g.active = more; {
		case more && g.pace > 0 && g.paces(s.clock.nanos()):
			g.active = false
			s.rest(g)
		case more:
			s.active = append(s.active, g)
		}
		if s.last > deadline {
			i++
			break
		}
	}
	kept := copy(s.active, s.active[i:])
	clear(s.active[kept:])
	s.active = s.active[:kept]
}

// runSlice visits the next members of g. It returns false when nobody lacks anything.
func (s *passes) runSlice(g *Group, deadline int64) bool {
	if g.latest != nil && (g.log == nil || g.log.cursor == 0) {
		s.release(g)
	}
	if g.log != nil {
		g.log.fresh = false
	}
	for n := 1; g.log != nil && g.log.todo > 0; n++ {
		p := g.log
		if p.cursor == 0 {
			if g.pace > 0 {
				if n > 1 {
					break // the next round has its time
				}
				g.begun = s.clock.nanos()
			}
			if n > 1 && g.latest != nil {
				s.release(g)
			}
		}
		c := g.conns[p.cursor]
		p.cursor++
		p.todo--
		s.visits++
		s.visit(g, c)
		if p.cursor == len(g.conns) && p.todo > 0 {
			s.rounds++
			s.turnRound(g)
		}
		if n == s.slice || n&31 == 0 && s.clock.nanos() > deadline {
			break
		}
	}
	if g.log != nil && g.log.todo > 0 {
		return true
	}
	if g.log != nil {
		s.rounds++
		s.dropLog(g)
	}
	return g.waits()
}

// visit gives c, a member of g, what it lacks.
func (s *passes) visit(g *Group, c *Conn) {
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
			s.refer(c, from, from, to)
			return
		}
	}
	for i := range p.chunks {
		k := &p.chunks[i]
		if from >= k.end() {
			continue
		}
		b := k.b[from-k.base:]
		switch n, errno := s.outboxes.write(c, b); {
		case errno != 0:
			c.cut = from // Conn.Written
			s.ends.fail(c)
			return
		case n < len(b):
			s.refer(c, from, from+uint64(n), to)
			return
		}
		if from += uint64(len(b)); from == to { // which is the end of a chunk
			return
		}
	}
}

// refer queues the stream from off to to for a conn whose socket takes no more, without copying it for each such conn. from
// is the last end of a push before off.
func (s *passes) refer(c *Conn, from, off, to uint64) {
	p := c.group.log
	if n := len(p.copies); n == 0 {
		p.copies = append(p.copies, s.copyOf(p, from, to))
	} else {
		if first := p.copies[0].base; from < first {
			p.copies = append(p.copies, piece{})
			copy(p.copies[1:], p.copies)
			p.copies[0] = s.copyOf(p, from, first)
			n++
		}
		if last := p.copies[n-1].end(); last < to {
			p.copies = append(p.copies, s.copyOf(p, last, to))
		}
	}
	pushed := int(to - off)
	if c.out != nil {
		pushed += c.out.pushed
	}
	for i := range p.copies {
		if k := &p.copies[i]; off < k.end() && to > k.base && c.Alive() {
			s.outboxes.enqueue(c, segment{b: k.b[max(off, k.base)-k.base : min(to, k.end())-k.base], shared: k.shared})
		}
	}
	c.out.pushed = pushed // also if it was too much: then c has not had it either (Conn.Written)
}

func (s *passes) copyOf(p *log, from, to uint64) piece {
	return piece{from, s.memory.copy(p.appendTo(make([]byte, 0, to-from), from, to))}
}

// turnRound begins the next round of a pass: what all have got in the last one is forgotten, and the log with it when that was
// all there was.
func (s *passes) turnRound(g *Group) {
	p := g.log
	done := 0
	for ; done < len(p.chunks) && p.chunks[done].end() <= p.low; done++ {
		s.recycle(&p.chunks[done])
	}
	if p.chunks = drop(p.chunks, done); len(p.chunks) == 0 {
		s.dropLog(g)
		return
	}
	if p.base() < p.low {
		k := &p.chunks[0]
		n := int(p.low - k.base)
		k.b = k.b[:copy(k.b, k.b[n:])]
		k.base = p.low
		s.backlog -= n
	}
	done = 0
	for ; done < len(p.copies) && p.copies[done].end() <= p.low; done++ {
		s.memory.release(p.copies[done].shared)
	}
	p.copies = drop(p.copies, done)
	p.cursor, p.low = 0, g.end
}

// dropLog ends a pass: nobody lacks anything, or nobody is there.
func (s *passes) dropLog(g *Group) {
	p := g.log
	if p == nil {
		return
	}
	g.log = nil
	for i := range p.chunks {
		s.recycle(&p.chunks[i])
	}
	for i := range p.copies {
		s.memory.release(p.copies[i].shared)
	}
	if cap(p.chunks) <= maxChunksKept && cap(p.copies) <= maxChunksKept && len(s.spare) < maxPooledBuffers {
		clear(p.chunks) // their memory is somebody else's now
		clear(p.copies)
		*p = log{chunks: p.chunks[:0], copies: p.copies[:0]}
		s.spare = append(s.spare, p)
	}
}

// takeLog is an empty log of a stream that has this end; an idle group has none.
func (s *passes) takeLog(end uint64) *log {
	n := len(s.spare)
	if n == 0 {
		return &log{low: end}
	}
	p := s.spare[n-1]
	s.spare = s.spare[:n-1]
	p.low = end
	return p
}

const maxChunksKept = 8

func (s *passes) recycle(k *chunk) {
	s.backlog -= len(k.b)
	s.buffers.put(k.b)
}
