package router

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/internal/seed"
)

// moveSome lets a partition of the model's rooms begin to move, if none is on its way.
func (m *model) moveSome() {
	n := m.r.node
	select {
	case n.moving <- struct{}{}:
		if n.beginMove(channel.Partition(m.room(m.rng.IntN(modelRooms))), n.loops[m.rng.IntN(len(n.loops))]) == nil {
			<-n.moving
		} else {
			m.moves++
		}
	default:
	}
}

// While clients do whatever they like, the rooms' partitions go from loop to loop: nothing is lost, doubled, reordered or refused.
func TestModelWhilePartitionsMove(t *testing.T) {
	for _, sh := range []shape{{loops: 3}, {loops: 3, roundTrip: true}, {loops: 3, follow: true}} {
		t.Run(fmt.Sprintf("encoded=%v,follow=%v", sh.roundTrip, sh.follow), func(t *testing.T) {
			rng := seed.Rand(t)
			moves, rounds := 0, fewer(60)
			for round := range rounds {
				m := newModel(t, rng, sh)
				m.moving = true
				m.run(600)
				m.verify()
				moves += m.moves
				for _, l := range m.r.node.loops {
					if len(l.arriving) != 0 || l.counters.panics != 0 {
						t.Errorf("loop %d: %d partitions have not arrived, %d panics", l.index, len(l.arriving), l.counters.panics)
					}
				}
				if n := m.r.inbox(); n != 0 {
					t.Errorf("%d still wait", n)
				}
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
			}
			if moves < 8*rounds {
				t.Errorf("only %d moves", moves)
			}
		})
	}
}

// What a program asks for while a partition moves is done in the order asked, once.
func TestPushesWhilePartitionsMove(t *testing.T) {
	a := app.New()
	r := appRig(t, shape{loops: 3}, a)
	c := r.login(atConnector, true)
	c.enter("a", "r")
	c.take()
	part := channel.Partition("r")
	for _, to := range []int{r.home("r").index, (r.home("r").index + 1) % 3} {
		if err := r.asked(func() error { return r.node.MovePartition(context.Background(), part, to) }); err != nil || r.home("r").index != to {
			t.Fatalf("%v; it is on loop %d, not %d", err, r.home("r").index, to)
		}
	}
	var want []string
	for i := range 60 {
		if i%3 == 0 {
			to := (r.home("r").index + 1) % 3
			r.node.moving <- struct{}{}
			if r.node.beginMove(part, r.node.loops[to]) == nil || r.home("r").index != to {
				t.Fatalf("it does not move to loop %d", to)
			}
		}
		if i%3 == 2 {
			r.net.Settle()
		}
		if err := a.Room("r").Push("n", map[string]int{"n": i}); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf(`push 0 n {"n":%d}`, i))
	}
	r.net.Settle()
	c.want(want...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.node.MovePartition(ctx, part, (r.home("r").index+1)%3); !errors.Is(err, ErrStuck) { // nobody turns the loops
		t.Errorf("got %v", err)
	}
	r.net.Settle()
	if err := r.node.MovePartition(t.Context(), part, 9); err == nil {
		t.Error("there is no loop 9")
	}
}
