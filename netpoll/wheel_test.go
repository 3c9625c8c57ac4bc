package netpoll

import (
	"testing"

	"github.com/pomelod/pomelod/internal/seed"
)

// Conns whose deadlines are set, moved and taken away at random are each returned once, in the first second that is not before the deadline
// they had last; when work runs out the rest comes with the next turns, and nothing that is set meanwhile comes at once.
func TestWheel(t *testing.T) {
	rng := seed.Rand(t)
	var conns slots
	now := clock{now: 1}
	w := wheel{conns: &conns, clock: &now, at: 1}
	want := map[*Conn]uint32{} // the second in which it is to be returned
	set := func(c *Conn, due uint32) {
		w.SetDue(c, due)
		delete(want, c)
		if due != 0 {
			want[c] = max(due, now.now+1)
		}
	}
	var all []*Conn
	for range 500 {
		all = append(all, conns.take())
	}
	turns, returned := 0, 0
	for range 1000 {
		for range 20 {
			c := all[rng.IntN(len(all))]
			switch rng.IntN(4) {
			case 0:
				set(c, 0)
			case 1:
				set(c, now.now+uint32(rng.IntN(3*wheelSlots)))
			default:
				set(c, max(now.now, 3)-3+uint32(rng.IntN(10))) // many at once, some of them late already
			}
		}
		now.now += uint32(rng.IntN(5))
		for {
			work := turnWork / 16
			for c := w.next(&work); c != nil; c = w.next(&work) {
				if due, ok := want[c]; !ok || due > now.now || c.due != 0 || c.filed != 0 {
					t.Fatalf("second %d: slot %d returned, due %d (%v)", now.now, c.slot, due, ok)
				}
				delete(want, c)
				returned++
				if rng.IntN(2) == 0 {
					set(c, now.now+uint32(rng.IntN(3)))
				}
			}
			if !w.behind() {
				break
			}
			turns++
		}
		for c, due := range want {
			if due <= now.now {
				t.Fatalf("second %d: slot %d was not returned, due %d", now.now, c.slot, due)
			}
		}
	}
	if turns == 0 || returned < 1000 {
		t.Errorf("%d returned, work ran out %d times", returned, turns)
	}
}
