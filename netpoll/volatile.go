package netpoll

import "slices"

// Volatile frames are worth something only as long as there is no later one of their kind, say where something is now: they wait for the next round of their group, and a later one takes the
// place of one that waits. A round begins them when all members have had those before. A member with unsent bytes gets none: in its stream they are left out (skip).

// latest is what a group has of such frames.
type latest struct {
	frames []latestFrame // that wait
	end    uint64        // of the last one in the stream
}

type latestFrame struct {
	kind string
	b    []byte
}

// skip is a stretch of a group's stream that a conn, which had unsent bytes, was left out of.
type skip struct{ from, to uint64 }

// maxKinds is how many frames wait for a round of a group; of more the oldest goes.
const maxKinds = 16

// waits tells whether frames wait for the next round.
func (g *Group) waits() bool { return g.latest != nil && len(g.latest.frames) > 0 }

// PushVolatile appends a frame, which is copied, to the group's stream when its next round begins, for those who have no unsent bytes, unless there is a later one of its kind by then. Runs on
// the loop.
func (s *passes) PushVolatile(g *Group, kind string, frame []byte) {
	if len(g.conns) == 0 || len(frame) == 0 {
		return
	}
	if g.latest == nil {
		g.latest = new(latest)
	}
	l := g.latest
	b := []byte(nil)
	if i := slices.IndexFunc(l.frames, func(f latestFrame) bool { return f.kind == kind }); i >= 0 || len(l.frames) == maxKinds {
		i = max(i, 0)
		b = l.frames[i].b[:0]
		l.frames = slices.Delete(l.frames, i, i+1)
		s.outdated++
	}
	l.frames = append(l.frames, latestFrame{kind, append(b, frame...)})
	s.activate(g)
}

// release appends to the stream of g, whose next round is about to begin, what waits for that, unless somebody lacks an earlier one.
func (s *passes) release(g *Group) {
	l := g.latest
	if len(l.frames) == 0 || g.log != nil && g.log.base() < l.end {
		return
	}
	from, slow := g.end, s.outboxes.queued
	if len(g.conns) < len(slow) { // many on the loop may have unsent bytes, of whom a small group has few
		slow = g.conns
	}
	for _, c := range slow {
		if c.group == g && c.unsent() && c.cut < from {
			s.bringAside(c, from)
		}
	}
	for i := range l.frames {
		s.append(g, l.frames[i].b)
	}
	for _, c := range slow {
		if c.group == g && c.unsent() && c.cut == from {
			c.skip(skip{from, g.end})
			s.withheld += uint64(len(l.frames))
		}
	}
	g.log.low = g.end // nobody has been visited in this round, in which all get so far
	clear(l.frames)
	l.frames, l.end = l.frames[:0], g.end
}

// Withholds tells whether c has unsent bytes, and so is not to be given what is volatile; it counts those. Runs on the loop.
func (s *passes) Withholds(c *Conn) bool {
	if !c.unsent() {
		return false
	}
	s.withheld++
	return true
}

// bringAside queues, or stages, what the group has for c, which has unsent bytes.
func (s *passes) bringAside(c *Conn, to uint64) {
	from := c.cut
	if !c.Alive() {
		return
	}
	if o := c.out; o.stage.len() > 0 {
		o.stage.b = c.group.log.appendTo(o.stage.b, from, to)
	} else {
		s.refer(c, from, from, to)
	}
	c.cut = to
}

// unsent tells whether there are bytes that the conn's socket has not taken.
func (c *Conn) unsent() bool { return c.out != nil && c.out.bytes > 0 }

// skip has the conn, which has been given all before a stretch of its group's stream, be left out of that.
func (c *Conn) skip(s skip) {
	o := c.out
	if o.skips == nil {
		o.skips = new([]skip)
	}
	list := *o.skips
	n := len(list)
	switch {
	case n > 0 && list[n-1].to == s.from:
		list[n-1].to = s.to
	case n == cap(list) && o.stage.len() == 0: // of who is never done with what waits, only those among that are kept
		for had := c.before(o.pushed); len(list) > 0 && list[0].to <= had; {
			list = list[1:]
		}
		list = append(make([]skip, 0, 2*len(list)+2), list...)
		fallthrough
	default:
		list = append(list, s)
	}
	*o.skips, c.cut = list, s.to
}

// before is the offset of what the conn was given of its group's stream so many bytes before its cut.
func (c *Conn) before(bytes int) uint64 {
	at, left := c.cut, uint64(bytes)
	if c.out.skips != nil {
		for _, s := range slices.Backward(*c.out.skips) {
			if left <= at-s.to {
				break
			}
			left -= at - s.to
			at = s.from
		}
	}
	return at - left
}
