package netpoll

import (
	"container/heap"
	"slices"
	"time"
)

// Pace has a round of g begin at most once in every so often, so that what is pushed meanwhile goes to each member in one write. 0, as at first: a round
// begins as soon as something is pushed. The first push after a while is not kept waiting, and what a member is written for another reason takes
// along what the group has for it. At most maxPace. Runs on the loop.
func (s *passes) Pace(g *Group, every time.Duration) {
	g.pace = min(int64(every), maxPace)
}

// maxPace is the longest time between two rounds of a group: a member hears of nothing later than that.
const maxPace = int64(time.Second)

// Hurry has the next round of g begin as soon as something is pushed, or at once if something was, whatever its pace; but at most once in hurryNanos, else
// it has no effect. Runs on the loop.
func (s *passes) Hurry(g *Group) {
	now := s.clock.nanos()
	if g.pace == 0 || now-g.hurried < hurryNanos && g.hurried != 0 {
		return
	}
	g.hurried, g.begun = now, now-g.pace
	if g.resting {
		heap.Remove(&s.resting, slices.Index(s.resting, g))
		g.resting, g.active = false, true
		s.active = append(s.active, g)
	}
}

// hurryNanos is the least time between two rounds that Hurry has begin: a rare announcement is told at once, and frequent ones have the room's pace.
const hurryNanos = 100_000_000

// paces tells whether g is between two rounds and its next one may not begin yet.
func (g *Group) paces(now int64) bool {
	return (g.log == nil || g.log.cursor == 0) && now-g.begun < g.pace
}

// rest has g wait for its next round.
func (s *passes) rest(g *Group) {
	g.resting, g.wake = true, g.begun+g.pace
	heap.Push(&s.resting, g)
}

// wakeDue has those begin their next round whose time has come. It tells whether there were any.
func (s *passes) wakeDue(now int64) (any bool) {
	for len(s.resting) > 0 && s.resting[0].wake <= now {
		g := heap.Pop(&s.resting).(*Group)
		g.resting = false
		if g.log != nil || g.waits() { // else no member lacks anything
			g.active, any = true, true
			s.active = append(s.active, g)
		}
	}
	return any
}

// Resting tells whether groups wait for their next round, and how long the first of them will, in nanoseconds: then Wake is to be called. Runs
// on the loop.
func (l *Loop) Resting() (nanos int64, any bool) {
	if len(l.passes.resting) == 0 {
		return 0, false
	}
	return max(l.passes.resting[0].wake-l.nanos(), 0), true
}

// Wake tells the loop that time has passed for groups that wait for their next round (Pace). Runs on the loop.
func (l *Loop) Wake() {
	l.clock.event = 0
	if l.passes.wakeDue(l.EventNanos()) {
		l.writeAtOnce()
		l.endEvent()
	}
}

// resting are groups by when they wake, the first one on top.
type resting []*Group

func (r resting) Len() int           { return len(r) }
func (r resting) Less(i, j int) bool { return r[i].wake < r[j].wake }
func (r resting) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *resting) Push(g any)        { *r = append(*r, g.(*Group)) }
func (r *resting) Pop() any {
	last := len(*r) - 1
	g := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	return g
}
