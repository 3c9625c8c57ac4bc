package cluster_test

import (
	"fmt"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/internal/race"
)

// Schedules of planned moves under load, and of nodes that stood still for a moment: how long users wait.

// crowd enters so many members without a session into the room of a partition, a third of them by each of the connectors. They are told nothing that anybody looks at.
func (s *stage) crowd(part uint16, users int, watch *session, by ...*proc) {
	s.t.Helper()
	before := len(watch.seat.list)
	for i := range users {
		p := by[i%len(by)]
		p.refs++
		r := &channel.Request{Op: channel.OpEnter, Part: part, From: channel.Addr{Node: p.node.Self(), Ref: p.refs}, Room: simRooms[part], User: fmt.Sprint("u", i), Silent: true}
		if err := p.post(r); err != nil {
			s.t.Fatal(err)
		}
		if i%500 == 0 {
			s.pass(10)
		}
	}
	s.until("all are in", 10_000, func() bool { return len(watch.seat.list) == before+users })
}

// longestWait lets some talk each ms until something is so, and tells for how long nobody had an answer, at most.
func (s *stage) longestWait(what string, most int64, list []*session, is func() bool) (longest int64) {
	s.t.Helper()
	answered := func() (n int) {
		for _, m := range s.sends[1:] {
			if m.done != 0 {
				n++
			}
		}
		return n
	}
	last, before := s.now, answered()
	s.until(what, most, func() bool {
		for _, x := range list {
			x.c.say(all)
		}
		if n := answered(); n > before {
			before, last = n, s.now
		}
		longest = max(longest, s.now-last)
		return is()
	})
	return longest
}

// A room moves to its follower, and then its owner drains, so that it moves to a node that has to be given all of it first. Under a message each millisecond by two, who wait for an
// answer no longer in a room of 19,000 than in one of ten: what grows with a room is copied while it goes on.
func TestAMoveTakesNoLongerForALargeRoom(t *testing.T) {
	if testing.Short() || race.Enabled {
		t.Skip("takes some seconds, with the race detector half a minute, in one goroutine")
	}
	var waits [2][2]int64
	for i, users := range []int{10, 19_000} {
		s := formed(t, "cccnn", 0)
		part := s.partOf(s.procs[1], s.procs[0]) // the maker has nothing to do with it
		x, y := s.enter(s.procs[3], part, "x"), s.enter(s.procs[4], part, "y")
		s.crowd(part, users, y, s.procs[3], s.procs[4])
		s.calm()
		old := s.owner(part)
		s.maker().node.Shift(part)
		waits[i][0] = s.longestWait("it has moved", 1000, []*session{x, y}, func() bool { return s.owner(part) != old })
		s.pass(500)
		old = s.owner(part)
		old.draining = true
		old.node.Drain(true)
		waits[i][1] = s.longestWait("who drains has nothing any more", 5000, []*session{x, y}, func() bool {
			return s.owner(part) != old && s.follower(part) != old && s.follower(part) != nil
		})
		old.draining = false
		old.node.Drain(false)
		s.pass(500)
		s.here(x, y)
		for _, m := range s.sends[1:] { // s.end would look for the sessions of the crowd
			if m.done == 0 || !s.got(m, x, y) {
				t.Fatalf("%d was not acknowledged, or has not come", m.number)
			}
		}
	}
	t.Logf("ms without an answer: moved, drained; few %v, many %v", waits[0], waits[1])
	for i, few := range waits[0] {
		if many := waits[1][i]; many > few+10 || few > 60 {
			t.Errorf("%d ms without an answer in a small room, %d in a large one", few, many)
		}
	}
}

// The node to which a partition is about to move dies. Its owner has stopped for it, and goes on before users would have waited for a second: by the maker, who
// learns of the death only then.
func TestTheTargetOfAMoveDies(t *testing.T) {
	for after := range int64(4) { // ms from the view that says so: by then the owner has it, or has stopped, or the target has all
		s := formed(t, "cccnn", 0)
		part := s.partOf(s.procs[1], s.procs[0])
		x, y := s.enter(s.procs[3], part, "x"), s.enter(s.procs[4], part, "y")
		target, owner := s.follower(part), s.owner(part)
		s.maker().node.Shift(part)
		s.until("it is about to move", 100, func() bool { return s.view().Shares[part].Moving != (cluster.ViewID{}) })
		s.pass(after)
		if s.owner(part) != owner {
			t.Fatalf("%d ms on it has moved", after)
		}
		target.kill()
		began := s.now
		wait := s.longestWait("it has another follower", 6000, []*session{x, y}, func() bool {
			f := s.follower(part)
			return s.now-began > 3000 && f != nil && f != target
		})
		t.Logf("%d ms on: %d ms without an answer", after, wait)
		if wait > 800 {
			t.Errorf("%d ms on: %d ms without an answer", after, wait)
		}
		s.here(x, y)
	}
}

// A connector stands still for longer than a second. When it goes on, it sends requests as soon as the maker of views has answered, which does not wait for its next heartbeat; and
// so it is with all when the bus is back. What is said meanwhile waits for that, and is not refused.
func TestWhoWakesServesSoon(t *testing.T) {
	for _, what := range []string{"a connector wakes", "the maker wakes", "the bus is back"} {
		for after := int64(0); after < 500; after += 90 { // where in the rhythm of heartbeats
			s := formed(t, "cccnn", 0)
			x := s.enter(s.procs[3], s.partOf(s.procs[2]), "x")
			s.pass(after)
			switch what {
			case "a connector wakes":
				s.procs[3].paused = s.now + 1500
			case "the maker wakes":
				s.maker().paused = s.now + 1500
			default:
				s.noBus(1500, s.procs...)
			}
			s.pass(1500)
			if what == "the bus is back" {
				s.pass(12) // else the process does not know yet
			}
			m := x.c.say(all)
			if took := s.until("all serve", 3000, func() bool {
				for _, p := range s.procs {
					if p.node.Suspended() {
						return false
					}
				}
				return true
			}); took > 60 {
				t.Errorf("%s, %d ms on: all serve after %d ms", what, after, took)
			}
			if s.pass(20); m.done == 0 {
				t.Errorf("%s, %d ms on: what was said then is not acknowledged", what, after)
			}
			s.end()
			s.here(x)
		}
	}
}
