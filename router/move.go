package router

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pomelod/pomelod/channel"
)

// A partition moves from one loop to another while everything runs, and nobody can tell: nothing is lost, done twice, refused, or done in
// another order. First the placement changes: from now on requests go to the new loop, where they wait. Then a word goes through
// every loop to the old one, which has executed all earlier requests when it has had the word of each: whatever a loop has posted is
// in the old loop's mail before its word is. The old loop exports the partition and the new one imports it, and executes what waits.
// Items keep their order, because the export is posted behind all that the old loop has posted.

// move is a partition on its way.
type move struct {
	part     uint16
	epoch    channel.Epoch
	from, to *loop
	words    int           // that have come; owned by from
	done     chan struct{} // closed by to
}

// MovePartition has another loop of this node own a partition. It returns when that loop does, or with ErrStuck when ctx ends before; the
// move goes on then. One partition moves at a time. Safe from any goroutine but a loop's.
func (n *Node) MovePartition(ctx context.Context, part uint16, to int) error {
	if part >= channel.Partitions || to < 0 || to >= len(n.loops) {
		return fmt.Errorf("partition %d, loop %d: there are %d partitions and %d loops", part, to, channel.Partitions, len(n.loops))
	}
	select {
	case n.moving <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: another partition is still on its way", ErrStuck)
	}
	m := n.beginMove(part, n.loops[to])
	if m == nil {
		<-n.moving
		return nil
	}
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: partition %d is still on its way to loop %d", ErrStuck, part, to)
	}
}

// beginMove begins a move, if the partition is not where it should be. n.moving is held until it is done.
func (n *Node) beginMove(part uint16, to *loop) *move {
	n.posting.Lock() // a goroutine outside of the loops has posted, or will see the new placement
	defer n.posting.Unlock()
	old := n.placement.Load()
	m := &move{part: part, from: old[part].loop, to: to, done: make(chan struct{})}
	if m.from == to || m.from == nil { // nil: it is on another node
		return nil
	}
	next := *old
	next[part] = place{(*mailInlet)(to), to}
	n.placement.Store(&next)
	for _, l := range n.loops {
		l.postRun(0, func() { m.from.postRun(0, m.word) })
	}
	return m
}

// word runs on the old loop once for each loop.
func (m *move) word() {
	w := m.from.worker
	if m.words++; m.words < len(m.from.node.loops) {
		return
	}
	m.epoch = w.Epoch(m.part)
	b := w.Export(nil, m.part)
	w.Release(m.part)
	m.to.postRun(len(b), func() { m.arrive(b) })
}

// arrive runs on the new loop.
func (m *move) arrive(b []byte) {
	l := m.to
	if err := l.worker.Import(m.part, m.epoch, b); err != nil { // a bug; its members are told so when they next ask for something
		l.counters.panics++
		slog.Error("a partition was lost on its way from one loop to another", "partition", m.part, "err", err)
		l.worker.Own(m.part, m.epoch)
	}
	waiting := l.arriving[m.part]
	delete(l.arriving, m.part)
	for i := range waiting {
		l.inbox.Add(-waiting[i].Weight())
		(*ownInlet)(l).Post(waiting[i])
	}
	<-l.node.moving
	close(m.done)
}

// execute carries out a request, at once if its partition is here, and when it comes if it is on its way.
func (l *loop) execute(r *channel.Request) {
	if l.worker.Handle(r) {
		return
	}
	if at := l.node.placement.Load()[r.Part]; at.loop != l {
		at.inlet.Post(*r)
		return
	}
	waits := *r
	waits.Content = append([]byte(nil), r.Content...)
	l.inbox.Add(waits.Weight())
	if l.arriving == nil {
		l.arriving = make(map[uint16][]channel.Request)
	}
	l.arriving[r.Part] = append(l.arriving[r.Part], waits)
}
