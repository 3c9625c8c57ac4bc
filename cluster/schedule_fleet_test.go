package cluster_test

import (
	"fmt"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/internal/race"
)

// Schedules of views and nodes.

// An owner is stopped for so long that another one takes its place, wakes, and executes what had come: nobody gets any of it.
func TestStoppedOwnerWakesAndAnswers(t *testing.T) {
	s := formed(t, "cccnn", 0)
	part := s.partOf(s.procs[1])
	x, y := s.enter(s.procs[3], part, "x"), s.enter(s.procs[4], part, "y")
	old := s.owner(part)
	run := old.node.Self()
	old.paused = s.now + 6000
	m := x.c.say(all)
	s.until("what was said goes to the new owner", 4500, func() bool { return m.done != 0 })
	s.chats(2500, x, y)
	s.end()
	s.here(x, y)
	if old.node.Self() == run {
		t.Error("who was left out goes on as the same run")
	}
}

// An owner that has just lost its follower is stopped, another node begins its partitions anew, and it wakes before any word of that has come. Until it
// has heard it takes nothing from its clients, and tells them nothing: somebody else may have the name by now.
func TestWokenOwnerWithoutAFollower(t *testing.T) {
	s := formed(t, "aaa", 0)
	old := s.procs[2]
	part := s.partOf(old, s.procs[0]) // the maker does not follow it
	x, z, follower := s.enter(old, part, "x"), s.enter(s.procs[0], part, "z"), s.follower(part)
	s.net.Filter = func(from, to string, b []byte) int64 {
		if from == old.name && to == follower.name && packetNames[b[0]] == "batch" {
			return -1
		}
		return 0
	}
	x.c.say(all)
	s.until("the owner goes on alone", 2000, func() bool { return old.holder.RoleOf(part) == "unprotected" })
	w := s.come(old, part, "w", false) // on its way when the process is stopped
	old.paused = s.now + 6000
	asleep := z.c.say(all) // is there when it wakes
	s.pass(10)
	s.net.Filter = func(_, to string, _ []byte) int64 {
		if to == old.name {
			return -1
		}
		return 0
	}
	s.until("somebody else owns it", 4500, func() bool { return s.owner(part) != nil && s.owner(part) != old })
	y := s.enter(s.procs[0], part, "w")
	s.until("the owner is about to wake", 6000, func() bool { return s.now == old.paused-1 })
	m := x.c.say(all)
	s.pass(300)
	if m.done != 0 {
		t.Error("what was said when it woke is acknowledged, and nobody elsewhere will get it")
	}
	if s.got(asleep, x) {
		t.Error("what was asked of it while it slept has gone to a client, and somebody else owns the room")
	}
	if w.room != 0 {
		t.Error("two have the name w: one has entered where the partition began anew, and one here")
	}
	s.net.Filter = nil
	s.until("its clients are told", 4000, func() bool { return x.ended && w.ended })
	s.end()
	s.here(y)
}

// The fleet falls in two halves with two makers. Without a quorum both go on, and in the end there is one.
func TestBothHalvesOfASplit(t *testing.T) {
	s := formed(t, "aaaa", 0)
	x, y := s.enter(s.procs[0], 0, "x"), s.enter(s.procs[2], 0, "y")
	s.apart(6000, s.procs[:2], s.procs[2:])
	s.until("both halves make views", 6000, func() bool {
		return s.procs[0].node.View().ID.Maker.Number() != s.procs[2].node.View().ID.Maker.Number()
	})
	s.chats(1500, x, y)
	z := s.come(s.procs[3], 0, "x", false) // a name that the other half has, maybe
	s.chats(2000, x, y, z)
	s.end()
}

// With a quorum the lesser half refuses, and names are unique; the greater half goes on.
func TestBothHalvesOfASplitWithAQuorum(t *testing.T) {
	s := formed(t, "aaa", 2)
	x, y := s.enter(s.procs[0], 0, "x"), s.enter(s.procs[2], 0, "y")
	s.apart(8000, s.procs[:2], s.procs[2:])
	s.until("the lesser half does not serve", 3000, func() bool { return !s.procs[2].serves() })
	s.until("the greater half does again", 4500, func() bool { return s.procs[0].serves() && s.owner(0) != s.procs[2] })
	if !x.ended {
		s.says(x, all, 4500)
	}
	z := s.come(s.procs[1], 0, "y", false)
	s.until("y comes again where it is served", 5000, func() bool { return z.room != 0 || z.ended })
	s.chats(2000, x, y, z)
	s.end()
}

// A node is cut off and back again and again, for as long as it takes to be left out: each time the fleet has one view in the end.
func TestViewsBounce(t *testing.T) {
	s := formed(t, "aaaa", 0)
	x := s.enter(s.procs[1], s.partOf(s.procs[0]), "x")
	for range 4 {
		s.apart(3300, s.procs[3:], s.procs[:3])
		s.chats(3700, x)
	}
	s.end()
	s.here(x)
}

// Nobody has the bus for 5 s: what is asked is refused within a second, and when it is back nobody has left and no node was left out.
func TestBusAwayForFiveSeconds(t *testing.T) {
	for _, nodes := range []string{"cccnn", "aa"} {
		s := formed(t, nodes, 0)
		last := len(s.procs) - 1
		x, y := s.enter(s.procs[last-1], 1, "x"), s.enter(s.procs[last], 1, "y")
		members := s.view().Members
		s.noBus(5000, s.procs...)
		s.pass(1000)
		before := s.sums["refused, not sent"]
		if x.c.say(all); s.sums["refused, not sent"] != before+1 {
			t.Error("what was said without a bus was not refused at once")
		}
		s.pass(4000)
		s.until("it serves again", 2000, s.procs[last-1].serves)
		s.here(x, y)
		s.says(x, "y", 1000)
		s.end()
		s.here(x, y)
		if s.view().Members != members {
			t.Error("nodes were left out because nobody had the bus")
		}
	}
}

// The bus is started anew, and nodes come back to it one after the other, on a machine on which packets take long. Who may judge again before the maker does takes its
// place, and the maker must not make views of its own beside that: of two that come after the same one, each ends the sessions of those who had the other.
func TestBusComesBackToOneAfterTheOther(t *testing.T) {
	for round := range int64(race.Fewer(40)) {
		s := formed(t, "gnnnccc", 0)
		s.net.MinDelay, s.net.MaxDelay = 5*ms, 60*ms
		var list []*session
		for i, p := range s.procs[1:4] {
			list = append(list, s.enter(p, uint16(i), fmt.Sprint("x", i)))
		}
		s.pass(1000)
		for i, p := range s.procs {
			s.noBus(200+(int64(i)*37+round*53)%150, p)
		}
		s.chats(6000, list...)
		s.here(list...)
		s.end()
		s.here(list...)
	}
}

// The least name, which makes the views, is stopped for 8 s: another one does meanwhile, and it begins anew.
func TestLeastNameStoppedForEightSeconds(t *testing.T) {
	s := formed(t, "aaa", 0)
	x, y := s.enter(s.procs[1], 2, "x"), s.enter(s.procs[2], 2, "y")
	s.procs[0].paused = s.now + 8000
	s.until("another one makes views", 5500, func() bool { return s.procs[1].node.View().ID.Maker.Number() != s.procs[0].node.Self().Number() })
	s.says(x, "y", 3000)
	s.chats(3000, x, y)
	s.end()
	s.here(x, y)
}

// A connector is stopped for 2.3 s, which is not dead: it has missed nothing and lost nobody.
func TestConnectorOnlySlept(t *testing.T) {
	s := formed(t, "cccnn", 0)
	x, y := s.enter(s.procs[3], 1, "x"), s.enter(s.procs[4], 1, "y")
	s.procs[3].paused = s.now + 2300
	var last *said
	for range 20 {
		last = y.c.say(all)
		s.pass(100)
	}
	s.until("x has all of it", 3000, func() bool { return s.got(last, x, y) })
	s.end()
	s.here(x, y)
	s.says(x, all, 1000)
}

// Partitions move all the time while a node that has begun anew catches up.
func TestViewsChangeWhileANodeCatchesUp(t *testing.T) {
	s := formed(t, "cccnn", 0)
	x, y := s.enter(s.procs[3], 1, "x"), s.enter(s.procs[4], 1, "y")
	s.procs[2].kill()
	s.chats(500, x, y)
	s.procs[2].boot()
	s.shifts = true
	s.chats(6000, x, y)
	s.shifts = false
	s.end()
	s.here(x, y)
}

// One node after the other is drained, ended and begun again, while clients chat and one more dies.
func TestRollingRestartWithAKill(t *testing.T) {
	for _, when := range []int64{300, 1700, 3100, 4500} {
		s := formed(t, "cccnn", 0)
		x, y := s.enter(s.procs[3], 1, "x"), s.enter(s.procs[4], 2, "y")
		kill := s.now + when
		for _, p := range s.procs[:3] {
			p.draining = true
			for i := 0; i < 100 && p.up; i++ {
				s.chats(20, x, y)
				if s.now >= kill && kill > 0 {
					kill = 0
					s.procs[2].kill()
				}
			}
			if p.draining = false; p.up {
				p.kill()
			}
			s.chats(200, x, y)
			for _, q := range s.procs[:3] {
				if !q.up {
					q.boot()
				}
			}
			s.calm()
		}
		s.end()
	}
}

// Wall clocks differ by hours, and one jumps back while the fleet works. Views and incarnations go on, as their numbers never do.
func TestClocksThatDiffer(t *testing.T) {
	s := newStage(t, "aaa", 0)
	for i, p := range s.procs {
		p.skew = int64(i) * 3_600_000
		p.boot()
	}
	s.calm()
	part := s.partOf(s.procs[2])
	x, y := s.enter(s.procs[0], part, "x"), s.enter(s.procs[1], part, "y")
	for _, p := range s.procs {
		p.skew = 0
	}
	before := s.view()
	s.procs[2].kill()
	s.pass(100)
	s.procs[2].boot() // with a clock that is hours before its last run's
	s.chats(6000, x, y)
	s.end()
	s.here(x, y)
	if !cluster.Less(before.ID, s.view().ID) || s.procs[2].node.Self() == 0 {
		t.Error("the numbers of views went back with the clock")
	}
}

// Owner and follower have other limits: the follower does as the owner has decided.
func TestFlagsThatDiffer(t *testing.T) {
	s := newStage(t, "cccnn", 0)
	for i, p := range s.procs {
		p.limits = channel.Limits{Members: 2 + i}
		p.boot()
	}
	s.calm()
	part := s.partOf(s.procs[2]) // 4 members
	var in []*session
	for _, name := range []string{"a", "b", "c", "d"} {
		in = append(in, s.enter(s.procs[3], part, name))
	}
	s.owner(part).kill()
	s.until("the new owner serves", 4500, func() bool { return s.owner(part) != nil })
	s.says(in[3], "a", 4500)
	s.end()
	s.here(in...)
}

// Two nodes begin in the same millisecond: one fleet.
func TestColdStartOfTwo(t *testing.T) {
	s := newStage(t, "aa", 0)
	for _, p := range s.procs {
		p.skew = 0
		p.boot()
	}
	s.calm()
	x := s.enter(s.procs[1], 3, "x")
	s.says(x, all, 100)
	s.end()
}

// that: the fresh fleet's is newer, and it joins.
func TestFreshFleetAndANodeThatSleptThroughItsStart(t *testing.T) {
	s := formed(t, "aaa", 0)
	s.split = true // two fleets, for a while
	for range 30 { // many views, in little time
		s.maker().node.Shift(s.partOf(s.procs[1]))
		s.pass(30)
	}
	s.procs[2].paused = s.now + 9000
	s.procs[0].kill()
	s.procs[1].kill()
	s.pass(10)
	s.procs[0].boot()
	s.procs[1].boot()
	s.until("they form a fleet", 5000, func() bool { return s.procs[0].node.Self() != 0 && s.procs[1].node.Self() != 0 })
	x := s.enter(s.procs[0], 1, "x")
	s.end()
	s.here(x)
}

// A node is cut off, left out and heard again before it has learned of that. Its old run is not admitted again.
func TestLeftOutAndReadmittedBeforeItKnew(t *testing.T) {
	s := formed(t, "aaa", 0)
	x, y := s.enter(s.procs[0], 1, "x"), s.enter(s.procs[2], 1, "y")
	old := s.procs[2].node.Self()
	s.net.Filter = func(from, to string, b []byte) int64 { // views are slow, everything else is not
		if to == "n2" && packetNames[b[0]] == "view" {
			return 1500 * ms
		}
		return 0
	}
	s.apart(3600, s.procs[2:], s.procs[:2])
	s.until("it is left out", 4500, func() bool { return !s.view().Has(old) })
	for range 4000 {
		s.pass(1)
		if s.view().Has(old) {
			t.Fatal("a run that was left out is a member again")
		}
	}
	s.chats(500, x, y)
	s.end()
	s.here(x)
}

// All nodes but one end, one after the other. The last one has everything.
func TestLastSurvivor(t *testing.T) {
	s := formed(t, "aaa", 0)
	x := s.enter(s.procs[2], 1, "x")
	var others []*session
	for part := range uint16(simParts) {
		others = append(others, s.enter(s.procs[2], part, "somebody"))
	}
	s.procs[0].kill()
	s.calm()
	s.procs[1].kill()
	s.calm()
	s.here(append(others, x)...)
	s.says(x, all, 100)
	s.end()
}

// Two chat nodes do not hear each other, and a third node hears both: there is one fleet all the same, without one of them as long as that lasts.
func TestTwoMakersHeardByAThird(t *testing.T) {
	s := formed(t, "ccnn", 0)
	x, y := s.enter(s.procs[2], 1, "x"), s.enter(s.procs[3], 2, "y")
	s.apart(9000, s.procs[:1], s.procs[1:2])
	s.chats(5000, x, y)
	views := s.sums["views"]
	s.chats(3000, x, y)
	if n := s.sums["views"] - views; n > 20 {
		t.Errorf("%d views in 3 s: the fleet does not come to rest", n)
	}
	s.end()
}

// One connector is stopped for a while, and another one dies: nobody else is left out.
func TestPausedConnectorWhileAnotherDies(t *testing.T) {
	s := formed(t, "cccnnn", 0)
	x := s.enter(s.procs[3], 1, "x")
	s.procs[4].paused = s.now + 2500
	s.pass(300)
	s.procs[5].kill()
	s.chats(6000, x)
	s.end()
	s.here(x)
	if s.sums["left out"] != 1 {
		t.Errorf("%d were left out", s.sums["left out"])
	}
}

// A node is admitted, and left out again before it has had any view. It learns of both at once, and begins anew.
func TestLeftOutBeforeItsFirstView(t *testing.T) {
	s := newStage(t, "aaa", 0)
	for _, p := range s.procs[:2] {
		p.boot()
	}
	s.calm()
	s.net.Filter = func(from, to string, b []byte) int64 {
		if kind := packetNames[b[0]]; to == "n2" && (kind == "view" || kind == "answer") {
			return -1
		}
		return 0
	}
	s.procs[2].boot()
	s.until("it is admitted", 5000, func() bool { return len(s.view().Names) == 3 && s.view().Names[2].Run != 0 })
	s.oneWay(4000, s.procs[2:], s.procs[:2]) // it hears them, so it does not begin a fleet of its own
	s.until("it is left out", 4500, func() bool { return s.view().Names[2].Run == 0 })
	if s.procs[2].node.View() != nil {
		t.Fatal("it has a view")
	}
	s.end()
}

// A node has the view of a fleet that it is not in, and all of that fleet ends. Nothing is sent to the dead for any other reason, so it asks
// whether they are there: else it would take itself for the one who does not hear, for ever.
func TestAllEndBeforeANewcomerJoins(t *testing.T) {
	s := newStage(t, "aaa", 0)
	for _, p := range s.procs[:2] {
		p.boot()
	}
	s.calm()
	s.procs[2].boot()
	s.until("it has their view", 1500, func() bool { return s.procs[2].node.View() != nil })
	s.procs[0].kill()
	s.procs[1].kill()
	if s.procs[2].node.Self() != 0 {
		t.Fatal("it is a member")
	}
	s.until("it makes a fleet of its own", 6000, func() bool { return s.procs[2].node.Self() != 0 && s.procs[2].serves() })
	s.says(s.enter(s.procs[2], 1, "x"), all, 100)
	s.end()
}

// A second process is started under the name of one that lives. It ends with a sentence, and nobody notices it: neither the fleet nor the clients.
func TestNamesakeIsRefused(t *testing.T) {
	for _, how := range []string{"alive", "stopped for 200 ms", "with a clock that is behind", "the bus is away at first"} {
		s := formed(t, "aaa", 0)
		x := s.enter(s.procs[2], s.partOf(s.procs[1]), "x")
		view := s.view().ID
		twin := &proc{w: s.world, i: 3, name: "n2", roles: s.procs[2].roles, host: "h9", skew: 5000, base: 77 * ms}
		switch how {
		case "stopped for 200 ms":
			s.procs[2].paused = s.now + 200
		case "with a clock that is behind":
			twin.skew = -900_000
		case "the bus is away at first":
			twin.awayTill = s.now + 700
		}
		twin.boot()
		s.procs = append(s.procs, twin)
		s.until("it ends", 3000, func() bool { return twin.node.Err() != nil })
		twin.up = false
		twin.port.Close()
		s.procs = s.procs[:3]
		s.pass(4000)
		if s.view().Members != view && s.view().Members.View > view.View {
			t.Errorf("%s: the fleet has noticed: members changed", how)
		}
		s.here(x)
		s.says(x, all, 100)
		s.end()
	}
}

// Two processes of one name begin at the same time: one of them goes on.
func TestTwinsBegin(t *testing.T) {
	s := newStage(t, "aaa", 0)
	s.procs[2].name = "n1"
	s.procs[2].skew = s.procs[1].skew + 7
	for _, p := range s.procs {
		p.boot()
	}
	s.until("one of them ends", 1000, func() bool { return s.procs[1].node.Err() != nil || s.procs[2].node.Err() != nil })
	for i := len(s.procs) - 1; i > 0; i-- {
		if p := s.procs[i]; p.node.Err() != nil {
			p.up = false
			p.port.Close()
			s.procs = append(s.procs[:i:i], s.procs[i+1:]...)
		}
	}
	if len(s.procs) != 2 {
		t.Fatalf("%d go on", len(s.procs))
	}
	s.end()
}

// A node is stopped for so long that another process takes its name. When it wakes it ends, and does not take the name back.
func TestSleeperWhoseNameWasTaken(t *testing.T) {
	s := formed(t, "aaa", 0)
	sleeper := s.procs[2]
	sleeper.paused = s.now + 6000
	s.pass(3500)
	heir := &proc{w: s.world, i: 2, name: "n2", roles: sleeper.roles, host: "h1", skew: sleeper.skew, base: 5 * ms}
	s.procs[2] = heir
	heir.boot()
	s.until("the heir is a member", 4000, func() bool { return heir.node.Self() != 0 })
	s.procs = append(s.procs, sleeper)
	s.until("the sleeper ends", 6000, func() bool { return sleeper.running() && sleeper.node.Err() != nil })
	sleeper.port.Close()
	s.procs = s.procs[:3]
	x := s.enter(heir, 1, "x")
	s.end()
	s.here(x)
}

// A node that drains gives away what it owns and what it follows, and then ends: no message waits for that.
func TestDrainedNodeEnds(t *testing.T) {
	s := formed(t, "cccnn", 0)
	x, y := s.enter(s.procs[3], 1, "x"), s.enter(s.procs[4], 2, "y")
	leaver := s.procs[1]
	leaver.draining = true
	took := s.until("it has no part in anything", 10_000, leaver.node.Drained)
	t.Logf("drained after %d ms", took)
	for part := range uint16(simParts) {
		if s.follower(part) == nil {
			t.Errorf("partition %d has no follower", part)
		}
	}
	leaver.kill()
	for range 20 {
		s.says(x, all, 50)
		s.says(y, all, 50)
		s.pass(200)
	}
	if n := s.sums["promotions"] + s.sums["born anew"]; n != 0 {
		t.Errorf("%d partitions were missed", n)
	}
	s.end()
	s.here(x, y)
}
