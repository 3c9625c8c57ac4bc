package fleet

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/internal/wirebytes"
)

// Another process can go on as this node (an upgrade), with the same sessions: the loops rest, and then this side of the process does (Rest). What is in its mail goes
// into the node (Settle) and the node as bytes to the other process (Export, Import). That one listens to the bus before; so what comes in between comes
// to both, and nodes take everything twice.

// Moves tells whether copies of partitions are on their way to or from this node, so that Export would fail. It waits for all loops. Safe from any goroutine.
func (f *Fleet) Moves(ctx context.Context) (moves bool, err error) {
	answers := make(chan bool, len(f.sides))
	for _, s := range f.sides {
		f.loops.Run(s.loop, 0, func() { answers <- s.holder.Moves() })
	}
	for range f.sides {
		select {
		case m := <-answers:
			moves = moves || m
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	return moves, nil
}

// Rest stops Run between two turns, until Resume or Cede, and gives up after so long. Nothing is sent, and what comes waits. It is called when the loops rest, and once
// at a time.
func (f *Fleet) Rest(within time.Duration) error {
	for end := time.Now().Add(within); !f.turning.TryLock(); time.Sleep(restEvery) {
		if time.Now().After(end) {
			return errors.New("the fleet's side of this process does not come to rest")
		}
	}
	return nil
}

// restEvery is how often Rest looks: turns are short.
const restEvery = 100 * time.Microsecond

// Resume has Run go on, as if nothing had been.
func (f *Fleet) Resume() {
	f.turning.Unlock()
	f.ring()
}

// Cede ends Run: another process is the node now. This one never sends anything in its name again.
func (f *Fleet) Cede() {
	f.ceded = true
	f.Resume()
}

// Settle takes in what the loops have posted, and tells whether there was anything: it may have led to mail for them, which must be carried out before Settle is
// called again. Between Rest and Resume, while the loops rest.
func (f *Fleet) Settle() (any bool) {
	for _, s := range f.sides {
		s.holder.Flush()
	}
	for more := true; more; {
		more = f.mail.Drain(math.MaxInt, func(l *letter) {
			any = any || l.packet == nil && l.nobody == "" // those wait in the node, and go along
			f.take(l)
		})
	}
	return any
}

// Export encodes the node and what its loops hold for it, once Settle has found nothing. clock is a monotonic clock that both processes have, in ns. With
// cluster.ErrMoving it has to be tried again later. It changes nothing.
func (f *Fleet) Export(clock int64) ([]byte, error) {
	if slices.ContainsFunc(f.sides, func(s *side) bool { return s.holder.Moves() }) { // before anything is encoded, which takes its time
		return nil, cluster.ErrMoving
	}
	node, err := f.node.Export()
	if err != nil {
		return nil, err
	}
	b := wirebytes.AppendUints(nil, uint64(clock-f.clock()), uint64(len(f.sides)))
	b = wirebytes.AppendBlock(b, node)
	for _, s := range f.sides {
		holder, err := s.holder.Export()
		if err != nil {
			return nil, err
		}
		b = wirebytes.AppendBlock(b, holder)
	}
	return b, nil
}

// Import makes the Fleet, which was joined and has not turned, what the one was that has exported b. Its clock goes on there, with the time that has passed.
// After an error it must not be used.
func (f *Fleet) Import(b []byte, clock int64) error {
	r := wirebytes.NewReader(b)
	malformed := errors.New("the state of this node of the fleet is malformed")
	zero, sides, node := int64(r.UpTo(math.MaxInt64)), r.Uint(), r.Block()
	if !r.OK() || sides != uint64(len(f.sides)) || zero > clock {
		return malformed
	}
	if err := f.node.Import(node); err != nil {
		return err
	}
	f.began = time.Now().Add(-time.Duration(clock - zero))
	self := f.node.Self()
	for _, s := range f.sides {
		if err := s.holder.Import(f.node.View(), self, r.Block()); err != nil {
			return err
		}
		s.self = self
	}
	if !r.End() {
		return malformed
	}
	if news := f.node.News(); len(news) > 0 && f.cfg.News != nil { // before anybody is served
		f.cfg.News(news)
	}
	f.survey() // gates know of connectors at once
	f.report()
	return nil
}
