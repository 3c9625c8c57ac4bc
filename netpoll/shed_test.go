package netpoll

import (
	"cmp"
	"slices"
	"testing"

	"github.com/pomelod/pomelod/internal/seed"
)

// The heaviest conns are those that come first when all are sorted, each once.
func TestHeaviest(t *testing.T) {
	rng := seed.Rand(t)
	for range 200 {
		var queued, inboxed []*Conn
		var all []holder
		x := &secures{bySlot: make([]*secure, 40)}
		for i := range rng.IntN(40) {
			c := &Conn{slot: uint32(i), secured: rng.IntN(2) == 0}
			x.bySlot[i] = &secure{counted: rng.IntN(4)}
			if rng.IntN(2) == 0 {
				c.out = &outbox{queue: queue{bytes: 1 + rng.IntN(5), segments: make([]segment, rng.IntN(3))}}
				c.out.own = rng.IntN(c.out.bytes + 1)
				queued = append(queued, c)
			}
			if c.out == nil || rng.IntN(2) == 0 {
				c.in = &inbox{b: make([]byte, rng.IntN(4)), kept: rng.IntN(4)}
				inboxed = append(inboxed, c)
			}
			h := holderOf(c, x)
			if want := c.in.weight() + x.bySlot[i].counted; c.secured && c.out == nil && h.own != want {
				t.Fatalf("%d own, want %d", h.own, want)
			}
			all = append(all, h)
		}
		heavier := func(a, b holder) int { return cmp.Or(b.own-a.own, b.all-a.all) }
		slices.SortFunc(all, heavier)
		top := heaviest(make([]holder, 0, 1+rng.IntN(20)), queued, inboxed, x)
		if len(top) != min(len(all), cap(top)) {
			t.Fatalf("%d of %d", len(top), len(all))
		}
		seen := map[*Conn]bool{}
		for i, h := range top {
			if seen[h.conn] {
				t.Fatal("one conn stands there twice")
			}
			if seen[h.conn] = true; heavier(h, all[i]) != 0 {
				t.Fatalf("place %d: %d own, %d in all; want %d, %d", i, h.own, h.all, all[i].own, all[i].all)
			}
		}
	}
}
