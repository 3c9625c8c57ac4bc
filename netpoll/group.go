package netpoll

// A write of a pass is at most chunkBytes (one push may be longer): with the send buffer of 128 KiB that listeners ask
// for, a healthy conn takes it in one go.
const chunkBytes = 64 << 10

// Group is a set of conns that get the same bytes: a stream with absolute offsets, of which each conn has had everything
// before its cut. The part that somebody still lacks is the group's log (pass.go). Owned by the loop. The zero value is an empty
// group.
type Group struct {
	conns   []*Conn
	end     uint64  // of the stream
	log     *log    // nil when nobody lacks anything
	latest  *latest // nil until it has volatile frames (volatile.go)
	active  bool    // stands in passes.active
	resting bool    // stands in passes.resting
	passed  int64   // when it was last given a slice

	pace    int64 // least ns from the beginning of one round to that of the next (pace.go); 0: none
	begun   int64 // when its last round began, if it has a pace
	wake    int64 // when the next may, while it is resting
	hurried int64 // when Hurry had a round begin before its time
}

// Len is the number of members.
func (g *Group) Len() int { return len(g.conns) }

// Backlog is how many bytes of the stream are kept because somebody may lack them.
func (g *Group) Backlog() int {
	if g.log == nil {
		return 0
	}
	return int(g.end - g.log.base())
}

// Join puts c, which must be in no group, into g. It gets what is pushed from now on. Runs on the loop.
func (s *passes) Join(c *Conn, g *Group) {
	c.group, c.pos, c.cut = g, uint32(len(g.conns)), g.end
	if c.out != nil {
		c.out.pushed, c.out.skips = 0, nil // what waits is of another stream
	}
	g.conns = append(g.conns, c)
	if g.log != nil {
		g.log.todo++ // the pass may yet come around to it
	}
}

// Leave takes c out of its group. What the group had for c so far is staged for it, unless c is ending. Runs on the loop.
func (s *passes) Leave(c *Conn) {
	g := c.group
	if g == nil {
		return
	}
	if c.Alive() {
		s.outboxes.bringUp(c)
	}
	i, last := int(c.pos), len(g.conns)-1
	if p := g.log; p != nil {
		if i < p.cursor { // keep the visited in front: the last visited one takes the gap, the last of all takes its place
			p.cursor--
			g.move(p.cursor, i)
			i = p.cursor
		}
		p.todo = last
	}
	g.move(last, i)
	g.conns[last] = nil
	g.conns = g.conns[:last]
	c.group = nil
	if last == 0 {
		g.conns, g.latest = nil, nil
		s.dropLog(g)
	} else if g.log != nil && g.log.cursor == last {
		s.turnRound(g) // c was the only one still to be visited
	}
}

// Written is how much of the stream of its group c's socket has surely taken, or is owed: what it was told of is not more than that. It says so until
// Closed returns, when c has left the group. While other things wait among what was pushed, all of that counts as taken. Runs on the loop.
func (c *Conn) Written() uint64 {
	switch {
	case c.out == nil, c.out.stage.len() > 0:
		return c.cut
	case c.life == lifeBroken, c.life == lifeEnding && c.reason == ReasonPeer, c.IsPull(): // what waits is thrown away
		return c.before(c.out.pushed)
	}
	return c.cut // a conn that is closed is sent what there is
}

// End is the offset behind what was pushed last.
func (g *Group) End() uint64 { return g.end }

func (g *Group) move(from, to int) {
	c := g.conns[from]
	g.conns[to] = c
	c.pos = uint32(to)
}

// Push appends one encoded push to the group's stream. frame is copied. Runs on the loop.
func (s *passes) Push(g *Group, frame []byte) {
	if len(g.conns) == 0 || len(frame) == 0 {
		return
	}
	s.append(g, frame)
	s.activate(g)
}

// append appends to the stream.
func (s *passes) append(g *Group, frame []byte) {
	p := g.log
	if p == nil {
		p = s.takeLog(g.end)
		g.log = p
	}
	n := len(p.chunks)
	if n == 0 || len(p.chunks[n-1].b)+len(frame) > chunkBytes {
		p.chunks = append(p.chunks, chunk{base: g.end, b: s.buffers.get()})
		n++
	}
	k := &p.chunks[n-1]
	k.b = append(k.b, frame...)
	g.end += uint64(len(frame))
	s.backlog += len(frame)
	p.todo, p.fresh = len(g.conns), true
}

// activate has g's next round begin as soon as it may.
func (s *passes) activate(g *Group) {
	switch {
	case g.active || g.resting:
	case g.pace > 0 && g.paces(s.clock.nanos()):
		s.rest(g)
	default:
		g.active = true
		s.active = append(s.active, g)
	}
}
