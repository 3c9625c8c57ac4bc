package cluster_test

import "testing"

// Schedules of a fleet with a quorum in which those end who know what has happened.

// A node is cut off, the others go on without it by a new view, and both end before it hears them again. What they have acknowledged its clients have
// not got: it does not go on from the view before, but begins anew with whoever is there, and its clients are told.
func TestNewestViewEndsWithItsNodes(t *testing.T) {
	for _, alone := range []bool{false, true} {
		s := newStage(t, "aaa", 2)
		s.alone = alone
		for _, p := range s.procs {
			p.boot()
		}
		s.until("all serve", 8000, func() bool {
			return s.procs[0].serves() && s.procs[1].serves() && s.procs[2].serves() && len(s.view().Names) == 3
		})
		s.pass(3000)
		part := s.partOf(s.procs[2]) // so it has all that was said before, and could go on
		x, y := s.enter(s.procs[2], part, "x"), s.enter(s.procs[0], part, "y")
		s.apart(8000, s.procs[2:], s.procs[:2])
		healed := s.now + 8000
		s.until("the others go on without it", 5000, func() bool {
			return !s.view().Has(s.procs[2].node.Self()) && s.procs[0].serves() && s.procs[1].serves()
		})
		if !y.ended { // its room was born anew: there is no follower
			s.says(y, all, 3000)
		}
		s.pass(100)
		s.procs[0].kill()
		s.procs[1].kill()
		s.until("it hears others again, as soon as there are any", 8000, func() bool { return s.now > healed })
		if x.ended {
			t.Fatal("x was told before anybody could know")
		}
		s.procs[0].boot()
		s.procs[1].boot()
		s.until("x is told", 15_000, func() bool { return x.ended })
		s.until("all serve again", 10_000, func() bool { return s.procs[0].serves() && s.procs[1].serves() && s.procs[2].serves() })
		z := s.enter(s.procs[2], 1, "z")
		s.says(z, all, 1000)
		s.here(z)
	}
}

// Two of three end and come again, and the third was never cut off. It cannot know that: they may have had a view without it. But where one of the two was back before the
// other one ended, it would know; so the third goes on, and nobody is ended.
func TestWhoWasThereBeforeRemembers(t *testing.T) {
	for _, between := range []int64{0, 1700} { // ms from the return of the first to the end of the second: it was heard, and is no member yet
		s := formed(t, "aaa", 2)
		part := s.partOf(s.procs[2])
		x := s.enter(s.procs[2], part, "x")
		s.procs[0].kill()
		s.pass(50)
		s.procs[0].boot()
		s.pass(between)
		s.procs[1].kill()
		s.pass(100)
		s.procs[1].boot()
		s.pass(12_000)
		if x.ended != (between == 0) {
			t.Errorf("%d ms between: ended %v", between, x.ended)
		}
		s.end()
	}
}
