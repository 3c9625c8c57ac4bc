package cluster_test

import (
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
)

// Schedules that chance seldom finds, each with the fault that it was first thought of for.

const all = channel.Everybody

// A name is still taken after its owner has died, whoever asks the new owner first.
func TestDuplicateNameAfterTakeover(t *testing.T) {
	s := formed(t, "cccnn", 0)
	c1, c2 := s.procs[3], s.procs[4]
	part := s.partOf(s.procs[1])
	x, y := s.enter(c1, part, "x"), s.enter(c2, part, "y")
	s.owner(part).kill()
	second := s.come(c2, part, "x", false)
	s.until("the second x is refused", 5000, func() bool { return second.ended })
	s.here(x, y)
	s.says(y, "x", 1000)
	s.end()
}

// Owner and follower end while the third node is a joiner that has not got everything: it is not made the owner of what it has. The partition is born

// anew, and members are told.
func TestJoinerOwnsWhatNobodyHandedOver(t *testing.T) {
	s := formed(t, "ccn", 0)
	part := s.partOf(s.procs[0])
	x := s.enter(s.procs[2], part, "x")
	s.procs[1].kill()
	s.until("the follower has gone", 4500, func() bool { return s.follower(part) == nil })
	s.procs[1].boot()
	joins := func() bool { return s.view().Shares[part].Joiner != cluster.None }
	s.net.Filter = func(from, to string, b []byte) int64 { // snapshots arrive, and nobody hears of it
		if from == "n1" && to == "n0" && packetNames[b[0]] == "batch" {
			return -1
		}
		return 0
	}
	s.until("it joins", 6000, joins)
	s.says(x, all, 1000)
	s.pass(20)
	s.procs[0].kill()
	s.until("members are told", 5000, func() bool { return x.ended })
	s.end()
}

// A partition moves while what its old owner has sent a connector is under way for half a second: what the new owner sends does not overtake it.
func TestNewOwnersFirstPushOvertakesTheOldOnesLast(t *testing.T) {
	s := formed(t, "cccnn", 0)
	part := s.partOf(s.procs[1], s.procs[0]) // the maker has nothing to do with it
	x, y := s.enter(s.procs[3], part, "x"), s.enter(s.procs[4], part, "y")
	old := s.owner(part)
	s.net.Filter = func(from, to string, b []byte) int64 {
		if from == old.name && to == "n4" && packetNames[b[0]] == "batch" {
			return 500 * ms
		}
		return 0
	}
	for range 20 {
		x.c.say(all)
		s.pass(2)
	}
	s.maker().node.Shift(part)
	s.until("it has moved", 1000, func() bool { return s.owner(part) != old })
	s.chats(800, x, y)
	s.end()
	s.here(x, y)
}

// The maker dies at any moment of a move: before anybody has the view that moves, after some have it, before and after the one that swaps. The

// partition has one owner in the end, and nothing is lost.
func TestMakerDiesInAMove(t *testing.T) {
	for after := int64(0); after < 40; after += 2 {
		s := formed(t, "cccnn", 0)
		maker := s.maker()
		var part uint16
		for part = 0; s.owner(part) == maker || s.follower(part) == maker; part++ {
		}
		x, y := s.enter(s.procs[3], part, "x"), s.enter(s.procs[4], part, "y")
		maker.node.Shift(part)
		s.until("it begins to move", 1000, func() bool {
			return s.view().Shares[part].Moving.View != 0 || s.view().Shares[part].Epoch == s.view().ID
		})
		for till := s.now + after; s.now < till; s.pass(1) {
			x.c.say(all)
		}
		maker.kill()
		s.chats(3000, x, y)
		s.end()
		s.here(x, y)
	}
}

// The process dies that owns the room and has the sender's connector, at each moment around its answer. What it has acknowledged comes to those who

// stay; so does a private message.
func TestOwnerAndSendersConnectorDieInOneProcess(t *testing.T) {
	for _, target := range []string{all, "y"} {
		for after := int64(0); after < 16; after++ {
			s := formed(t, "aaa", 0)
			part := s.partOf(s.procs[1])
			x, y, z := s.enter(s.procs[1], part, "x"), s.enter(s.procs[0], part, "y"), s.enter(s.procs[2], part, "z")
			m := x.c.say(target)
			s.pass(after)
			s.procs[1].kill()
			acknowledged := m.done != 0
			s.until("y hears that x has gone", 6000, func() bool { return !y.seat.list["x"] && !z.seat.list["x"] })
			if acknowledged && !s.got(m, y) {
				t.Fatalf("died %d ms after: what was acknowledged has not come", after)
			}
			s.end()
			s.here(y, z)
		}
	}
}

// A leave is on its way when the owner dies. The user goes once.
func TestLeaveInFlightWhenTheOwnerDies(t *testing.T) {
	for after := int64(0); after < 12; after++ {
		s := formed(t, "cccnn", 0)
		part := s.partOf(s.procs[1])
		x, y := s.enter(s.procs[3], part, "x"), s.enter(s.procs[4], part, "y")
		x.c.hangUp()
		s.pass(after)
		s.owner(part).kill()
		s.until("y hears that x has gone", 5000, func() bool { return !y.seat.list["x"] })
		s.end()
		s.here(y)
	}
}

// The owner dies with users of its own: they go from the room, and their names are free.
func TestUsersOfTheDeadOwnersOwnNode(t *testing.T) {
	s := formed(t, "aaa", 0)
	part := s.partOf(s.procs[1])
	s.enter(s.procs[1], part, "x")
	y := s.enter(s.procs[0], part, "y")
	s.procs[1].kill()
	s.until("y hears that x has gone", 5000, func() bool { return !y.seat.list["x"] })
	s.in(s.come(s.procs[2], part, "x", false))
	s.end()
	s.here(y)
}

// A connector dies, and the owner before it has heard of that: the new owner executes the end of the connector, whose members it has.
func TestUsersOfAConnectorThatDiedEarlier(t *testing.T) {
	for _, between := range []int64{0, 500, 900, 1100, 1500, 3000} {
		s := formed(t, "cccnn", 0)
		part := s.partOf(s.procs[1])
		s.enter(s.procs[3], part, "x")
		y := s.enter(s.procs[4], part, "y")
		s.procs[3].kill()
		s.pass(between)
		s.owner(part).kill()
		s.until("y hears that x has gone", 8000, func() bool { return !y.seat.list["x"] })
		s.end()
		s.here(y)
	}
}

// Requests are on their way when the owner stops for a move, one each millisecond: each is executed once, by one of the two.
func TestRequestOnItsWayAtTheSeal(t *testing.T) {
	s := formed(t, "cccnn", 0)
	part := s.partOf(s.procs[1])
	x, y := s.enter(s.procs[3], part, "x"), s.enter(s.procs[4], part, "y")
	for range 10 {
		epoch := s.view().Shares[part].Epoch
		s.maker().node.Shift(part)
		took := s.until("it has moved", 1000, func() bool {
			x.c.say(all)
			y.c.say("x")
			return s.view().Shares[part].Epoch != epoch
		})
		if took > 200 {
			t.Errorf("a move took %d ms", took)
		}
		s.pass(100)
	}
	s.end()
	s.here(x, y)
	for _, m := range s.sends[1:] {
		if m.done == 0 {
			t.Fatalf("%d was not acknowledged", m.number)
		}
	}
}

// What an owner has sent last is lost, and then it dies; and an old route delivers everything once more, up to 2.5 s later.
func TestLostTailAndOldRoutes(t *testing.T) {
	s := formed(t, "cccnn", 0)
	s.net.Late, s.net.Twice = 1, 0.5
	part := s.partOf(s.procs[1])
	x, y := s.enter(s.procs[3], part, "x"), s.enter(s.procs[4], part, "y")
	owner := s.owner(part)
	s.net.Filter = func(from, to string, b []byte) int64 {
		if from == owner.name && to == "n4" {
			return -1
		}
		return 0
	}
	s.says(x, all, 1000)
	s.says(x, "y", 1000)
	owner.kill()
	s.until("y has it from the new owner", 5000, func() bool { return s.got(s.sends[1], y) && s.got(s.sends[2], y) })
	s.chats(4000, x, y)
	s.end()
	s.here(x, y)
}

// A client comes again by another connector at once, while its old connector is silent, dead or well: it takes its own place, and only that.
func TestReturnThroughAnotherConnectorAtOnce(t *testing.T) {
	for _, how := range []string{"well", "silent", "dead"} {
		s := formed(t, "cccnn", 0)
		x, y := s.come(s.procs[3], 1, "x", true), s.come(s.procs[4], 1, "y", true)
		s.in(x, y)
		switch how {
		case "silent":
			s.procs[3].paused = s.now + 2000
		case "dead":
			s.procs[3].kill()
		}
		stranger := s.come(s.procs[4], 1, "x", true)
		back := s.again(x.c, s.procs[4])
		s.until("x is back", 5000, func() bool { return back.room != 0 })
		if !stranger.ended {
			t.Errorf("%s: somebody else has the name", how)
		}
		s.says(y, "x", 1000)
		s.end()
		s.here(back, y)
		if !x.ended {
			t.Errorf("%s: the old session goes on", how)
		}
	}
}

// A request that is refused stands between two that are not, and the owner dies: the answers keep their order.
func TestRefusalBetweenTwoAdmittedRequests(t *testing.T) {
	for after := int64(0); after < 12; after += 2 {
		s := formed(t, "cccnn", 0)
		part := s.partOf(s.procs[1])
		x, y := s.enter(s.procs[3], part, "x"), s.enter(s.procs[4], part, "y")
		first, refused, second := x.c.say(all), x.c.say("nobody"), x.c.say("y")
		s.pass(after)
		s.owner(part).kill()
		s.until("both are acknowledged", 5000, func() bool { return first.done != 0 && second.done != 0 })
		if refused.done != 0 || len(x.c.pending) > 0 || s.sums["refused"] != 1 {
			t.Errorf("what goes to nobody was answered %d times with a refusal, pending %d", s.sums["refused"], len(x.c.pending))
		}
		s.end()
		s.here(x, y)
	}
}

// A leave was executed, the connector does not know, and the owner dies: the leave that is sent again finds its number taken, also when the name

// belongs to somebody else by then.
func TestLeaveExecutedBeforeTheCrash(t *testing.T) {
	s := formed(t, "cccnn", 0)
	part := s.partOf(s.procs[1])
	x, y := s.enter(s.procs[3], part, "x"), s.enter(s.procs[4], part, "y")
	owner := s.owner(part)
	s.net.Filter = func(from, to string, b []byte) int64 {
		if from == owner.name && to == "n3" {
			return -1
		}
		return 0
	}
	x.c.hangUp()
	s.until("y hears that x has gone", 1000, func() bool { return !y.seat.list["x"] })
	other := s.enter(s.procs[4], part, "x")
	owner.kill()
	s.chats(5000, y, other)
	s.end()
	s.here(y, other)
}

// A connector with 400 users dies. Their leaves are one decision, whose items are on their way to another connector when that is cut off, and when the

// owner dies: each leave comes once.
func TestBigDecisionIsCutInTheMiddle(t *testing.T) {
	for _, dies := range []bool{false, true} {
		s := formed(t, "cccnn", 0)
		part := s.partOf(s.procs[1])
		y := s.enter(s.procs[4], part, "y")
		var users []*session
		for i := range 400 {
			users = append(users, s.come(s.procs[3], part, "u"+string(rune('a'+i/26/26))+string(rune('a'+i/26%26))+string(rune('a'+i%26)), false))
		}
		s.in(users...)
		owner, n := s.owner(part), 0
		s.net.Filter = func(from, to string, b []byte) int64 {
			if from == owner.name && to == "n4" && packetNames[b[0]] == "batch" && len(b) > 10_000 {
				if n++; n < 4 {
					return -1
				}
			}
			return 0
		}
		s.procs[3].kill()
		s.until("the decision is on its way", 5000, func() bool { return n > 0 })
		if dies {
			owner.kill()
		}
		s.until("y hears of all leaves", 5000, func() bool { return len(y.seat.list) == 1 })
		s.end()
		s.here(y)
	}
}

// A follower began from a snapshot while a connector had not confirmed what it was sent. When the owner dies it sends that again.
func TestFollowerFromASnapshotWhileAConnectorLagged(t *testing.T) {
	s := formed(t, "ccnn", 0)
	part := s.partOf(s.procs[0])
	x, y := s.enter(s.procs[2], part, "x"), s.enter(s.procs[3], part, "y")
	s.procs[1].kill()
	s.until("the follower has gone", 4500, func() bool { return s.follower(part) == nil })
	s.procs[1].boot()
	s.net.Filter = func(from, to string, b []byte) int64 {
		if from == "n0" && to == "n3" && packetNames[b[0]] == "batch" {
			return -1
		}
		return 0
	}
	s.says(x, all, 1000)
	s.says(x, "y", 1000)
	s.until("there is a follower again", 8000, func() bool { return s.follower(part) != nil })
	s.procs[0].kill()
	s.until("y has it from the new owner", 5000, func() bool { return s.got(s.sends[1], y) && s.got(s.sends[2], y) })
	s.end()
	s.here(x, y)
}

// A follower is removed because it acknowledges nothing, and then the owner dies: it is not promoted, although it lives. Members are told.
func TestRemovedFollowerIsNotPromoted(t *testing.T) {
	s := formed(t, "ccn", 0)
	part := s.partOf(s.procs[0])
	x := s.enter(s.procs[2], part, "x")
	s.oneWay(1500, s.procs[:1], s.procs[1:2])
	m := x.c.say(all)
	s.until("it is removed", 1000, func() bool { return s.follower(part) == nil })
	s.until("what was said is acknowledged", 1000, func() bool { return m.done != 0 })
	s.procs[0].kill()
	s.until("members are told", 6000, func() bool { return x.ended })
	s.end()
}

// A follower ends and begins anew under its name within the time in which nobody would notice, and the owner dies. What the name stands for in the

// old view is not what it has.
func TestFollowerRestartedUnderItsName(t *testing.T) {
	for _, between := range []int64{0, 5, 50, 300} {
		s := formed(t, "ccn", 0)
		part := s.partOf(s.procs[0])
		x := s.enter(s.procs[2], part, "x")
		s.procs[1].kill()
		s.procs[1].boot()
		s.pass(between)
		s.says(x, all, 5000)
		s.procs[0].kill()
		s.until("members are told", 8000, func() bool { return x.ended })
		s.end()
	}
}

// Only the link from the owner to its follower is cut: it goes on without within a second.
func TestLinkFromOwnerToFollowerCutOnly(t *testing.T) {
	s := formed(t, "cccnn", 0)
	part := s.partOf(s.procs[1], s.procs[0])
	x, y := s.enter(s.procs[3], part, "x"), s.enter(s.procs[4], part, "y")
	s.oneWay(3000, []*proc{s.owner(part)}, []*proc{s.follower(part)})
	if took := s.says(x, all, 1000); took < 200 {
		t.Errorf("acknowledged after %d ms, without a follower's acknowledgement", took)
	}
	s.chats(3000, x, y)
	s.end()
	s.here(x, y)
}

// A connector has the view that makes an owner before that owner has it. What it sends waits there.
func TestRequestOvertakesTheView(t *testing.T) {
	s := formed(t, "cccnn", 0)
	part := s.partOf(s.procs[1], s.procs[0])
	x, y := s.enter(s.procs[3], part, "x"), s.enter(s.procs[4], part, "y")
	old, next := s.owner(part), s.follower(part)
	var slow int64 = 300 * ms
	s.net.Filter = func(from, to string, b []byte) int64 {
		if to == next.name && packetNames[b[0]] == "view" {
			return slow
		}
		return 0
	}
	old.kill()
	s.until("the connector knows the new owner", 4500, func() bool { return s.procs[3].node.View().Shares[part].Owner == next.node.Self().Number() })
	if next.node.View().ID == s.procs[3].node.View().ID {
		t.Fatal("the new owner knows it too")
	}
	s.says(x, all, 1000)
	s.end()
	s.here(x, y)
}

// Everybody but one node, which is stopped, ends and begins anew as a fresh fleet. The node wakes with a view of its own that has nothing to do with
