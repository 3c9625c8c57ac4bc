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
		for range rng.IntN(40) {
			c := new(Conn)
			if rng.IntN(2) == 0 {
				c.out = &outbox{queue: queue{bytes: 1 + rng.IntN(5), segments: make([]segment, rng.IntN(3))}}
				c.out.own = rng.IntN(c.out.bytes + 1)
				queued = append(queued, c)
			}
			if c.out == nil || rng.IntN(2) == 0 {
				c.in = &inbox{b: make([]byte, rng.IntN(4)), kept: rng.IntN(4)}
				inboxed = append(inboxed, c)
			}
			all = append(all, holderOf(c))
		}
		heavier := func(a, b holder) int { return cmp.Or(b.own-a.own, b.all-a.all) }
		slices.SortFunc(all, heavier)
		top := heaviest(make([]holder, 0, 1+rng.IntN(20)), queued, inboxed)
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
