package fleet

import (
	"sync/atomic"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
)

// side is the Holder of one loop: the partitions that this node owns or follows and that run there.
type side struct {
	// Static after construction.
	f      *Fleet
	loop   int
	holder *cluster.Holder

	// Safe from any goroutine.
	ticking atomic.Bool // a tick is in the loop's mail: a stuck loop must not gather them
	now     atomic.Int64

	// Owned by the loop.
	self channel.Node // in the newest view that the Holder has
	run  uint64       // Fleet.run, as the Holder has it
}

func newSide(f *Fleet, loop int, w *channel.Worker) *side {
	s := &side{f: f, loop: loop}
	s.holder = cluster.NewHolder(w, s.post)
	s.holder.Bound(f.window, f.linkFull)
	s.holder.Only(func(part uint16) bool { return int(part)%f.count == loop })
	w.KeepBack(keeper{s.holder, s})
	return s
}

// post sends a message of the Holder's. Runs on the loop.
func (s *side) post(to channel.Node, m *cluster.Message) {
	weight := weightOf(m)
	s.f.out.Add(int64(weight))
	s.f.mail.Post(letter{message: m, to: to, run: s.run, weight: weight})
}

// weightOf is about how many bytes a message keeps alive.
func weightOf(m *cluster.Message) int {
	n := 256 + len(m.State) + 96*len(m.Records) + len(m.Request.Content)
	for i := range m.Items {
		it := &m.Items[i]
		n += 96 + len(it.Body)
		if it.Push != nil && (i == 0 || m.Items[i-1].Push != it.Push) {
			n += len(it.Push.Body)
		}
	}
	return n
}

// wantTick has the Holder told the time.
func (s *side) wantTick(now int64) {
	s.now.Store(now)
	if s.ticking.CompareAndSwap(false, true) {
		s.f.loops.Run(s.loop, 0, s.tick)
	}
}

// tick runs on the loop.
func (s *side) tick() {
	s.ticking.Store(false)
	s.holder.Tick(s.now.Load())
}

// adopt runs on the loop.
func (s *side) adopt(v *cluster.View, self channel.Node) {
	s.self = self
	s.holder.Adopt(v, self)
}

// restart runs on the loop. What the Holder has sent before is of the old run.
func (s *side) restart(run uint64) {
	s.holder.Restart()
	s.self, s.run = 0, run
}

// keeper is what a worker asks whether something may be admitted: its Holder, which knows what nodes have to confirm, and what waits in this process.
type keeper struct {
	*cluster.Holder
	s *side
}

// Full implements channel.Keeper.
func (k keeper) Full(id channel.OutletID) bool {
	f := k.s.f
	return f.out.Load() > f.mostOut || k.Holder.Full(id) || id.Node == k.s.self && int(id.Loop) < f.count && f.loops.Busy(int(id.Loop))
}
