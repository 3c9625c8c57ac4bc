package channel

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
)

// forgetReleased has the worker forget all that it has released.
func forgetReleased(w *Worker) {
	for len(w.leaving) > 0 {
		w.forgetLeft()
	}
}

// What a partition had that is released is forgotten in slices, so that other rooms of the loop do not wait for a large one. From the beginning nothing of it is counted, and the partition
// may come again, as owned or followed, with the same rooms and members, before all of it is forgotten.
func TestReleasedRoomsAreForgottenInSlices(t *testing.T) {
	const members = 5*forgetEntries + 7
	for name, follows := range map[string]bool{"owned": false, "followed": true} {
		t.Run(name, func(t *testing.T) {
			part, rooms := Partition("r"), new(atomic.Int64)
			from := newStage(t)
			for i := range members {
				from.enter(at(i%3, i+1), fmt.Sprint("m", i), "r")
			}
			state := from.w.State(nil, part)
			w := NewWorker(func(OutletID) Outlet { return nowhere{} })
			w.SetLimits(Limits{}, rooms, func() int64 { return 1 })
			take := func() {
				t.Helper()
				if !follows {
					if err := w.Import(part, testEpoch, state); err != nil {
						t.Fatal(err)
					}
				} else if w.Shadow(part); true {
					if whole, err := w.ApplySnapshot(part, state); !whole || err != nil {
						t.Fatal(whole, err)
					}
				}
				if got := w.State(nil, part); !bytes.Equal(got, state) {
					t.Fatal("the partition has come with another state")
				}
			}
			take()
			counts := func() (kept int) { return len(w.state.index) }
			w.Release(part)
			if s := w.Stats(); s.Members+s.Rooms != 0 || rooms.Load() != 0 || w.Owns(part) || w.Shadows(part) {
				t.Fatalf("%d members and %d rooms are counted after a release, %d in all", s.Members, s.Rooms, rooms.Load())
			}
			turn := func(most int) {
				t.Helper()
				before := counts()
				w.Tick()
				if did := before - counts(); did > most || did == 0 && before > 0 {
					t.Fatalf("a turn has forgotten %d of %d members, at most %d are its share", did, before, most)
				}
			}
			if counts() != members || w.Due() == 0 {
				t.Fatalf("%d of %d members are left after a release, and the next turn is due at %d", counts(), members, w.Due())
			}
			turn(forgetEntries)
			take() // with what is left of the last time in the way
			w.Release(part)
			take()
			for turns := 0; w.Due() != 0; turns++ {
				if turn(forgetEntries); turns > 2*members/forgetEntries+2 {
					t.Fatalf("%d of %d members are left after %d turns", counts()-members, 2*members, turns)
				}
			}
			if got := w.State(nil, part); !bytes.Equal(got, state) || counts() != members || len(w.state.members)-len(w.state.free) != members {
				t.Fatalf("what was released has taken something with it: %d members are there, want %d", counts(), members)
			}
			w.Release(part)
			forgetReleased(w)
			if s := &w.state; len(s.index)+s.rooms+w.shadowMembers != 0 || len(s.free) != len(s.members) || w.Due() != 0 {
				t.Errorf("%d members are left, %d slots are not free, the next turn is due at %d", len(s.index), len(s.members)-len(s.free), w.Due())
			}
		})
	}
}
