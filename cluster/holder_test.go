package cluster

import (
	"testing"

	"github.com/pomelod/pomelod/channel"
)

// populated is a fleet of three: 1 owns, 2 follows, "a" and "b" sit on 3 and "c" on 2.
func populated(t *testing.T) *fleet {
	f := newFleet(t, 3)
	f.owned(2, None)
	f.enter(3, 1, "a")
	f.enter(3, 2, "b")
	f.settle()
	f.enter(2, 3, "c")
	f.settle()
	f.same(1, 2)
	f.answered()
	f.want(3, `1 {"users":["a"]}`, told("onAdd", "b"), `2 {"users":["a","b"]}`, told("onAdd", "c"))
	f.want(2, `3 {"users":["a","b","c"]}`)
	return f
}

// Nothing leaves an owner before its follower has it; and then it does.
func TestOutputWaitsForTheFollower(t *testing.T) {
	f := populated(t)
	f.shut[[2]int{1, 2}] = true
	f.send(3, 1, "a", "one")
	f.settle()
	f.want(3)
	f.shut[[2]int{1, 2}] = false
	f.settle()
	f.want(3, chat("a", "one"), `1 {}`)
	f.want(2, chat("a", "one"))
	f.answered()
}

// What the follower has is sent by it when the owner dies: once to whom it had not reached, and not again to whom it had.
func TestTakeOverWithKeptItems(t *testing.T) {
	f := populated(t)
	f.shut[[2]int{1, 3}] = true
	f.send(3, 1, "a", "one")
	f.settle()
	f.want(2, chat("a", "one"))
	f.want(3)
	f.kill(1)
	f.shut = map[[2]int]bool{}
	f.promote()
	f.settle()
	f.want(3, chat("a", "one"), `1 {}`)
	f.want(2)
	f.answered()
	if s := f.nodes[2].holder.Stats(); s.Takeovers != 1 || s.Empty != 0 {
		t.Errorf("%+v", s)
	}
	f.send(3, 2, "b", "two")
	f.settle()
	f.want(3, chat("b", "two"), `2 {}`)
	f.want(2, chat("b", "two"))
}

// What was applied and confirmed only to the dead owner comes again and is dropped; it is confirmed anew, so nothing is kept for ever.
func TestItemsKnownAlreadyAreConfirmedAgain(t *testing.T) {
	f := populated(t)
	f.shut[[2]int{3, 1}] = true
	f.shut[[2]int{2, 1}] = true
	f.ask(2, channel.Request{Op: channel.OpMembers, Req: 9}) // makes no difference to 3
	f.shut[[2]int{2, 1}] = false
	f.shut[[2]int{3, 1}] = false
	f.send(3, 1, "a", "one")
	for range 4 { // request, records, ack, items
		f.round()
	}
	f.shut[[2]int{3, 1}] = true // the confirmation does not arrive
	f.settle()
	f.want(3, chat("a", "one"), `1 {}`)
	f.kill(1)
	f.shut = map[[2]int]bool{}
	f.promote()
	f.settle()
	f.want(3)
	f.answered()
	if f.nodes[3].desk.stats.Known == 0 {
		t.Error("nothing came again")
	}
}

// A request that the owner had executed, and nobody else knew of, is executed by the next one, once: nothing of the first time had left.
func TestExecutedButUnanswered(t *testing.T) {
	f := populated(t)
	f.shut[[2]int{1, 2}] = true
	f.send(3, 1, "a", "one")
	f.leave(3, 2, "b")
	f.settle()
	f.kill(1)
	f.shut = map[[2]int]bool{}
	f.promote()
	f.settle()
	f.want(3, chat("a", "one"), `1 {}`, told("onLeave", "b"))
	f.want(2, chat("a", "one"), told("onLeave", "b"))
	f.answered()
}

// A leave that was on its way to the owner when it died is executed by the next one; one that was executed is not executed again.
func TestLeaveInFlight(t *testing.T) {
	for _, executed := range []bool{false, true} {
		f := populated(t)
		if executed {
			f.shut[[2]int{1, 3}] = true // the owner executes it, the follower knows it, its node does not
		} else {
			f.shut[[2]int{3, 1}] = true
		}
		f.leave(3, 2, "b")
		f.settle()
		f.kill(1)
		f.shut = map[[2]int]bool{}
		f.promote()
		f.settle()
		f.want(3, told("onLeave", "b"))
		f.want(2, told("onLeave", "b"))
		f.answered()
	}
}

// A refusal has its turn among the answers, over a take-over too.
func TestRefusalBetweenTwo(t *testing.T) {
	f := populated(t)
	f.shut[[2]int{1, 3}] = true
	f.send(3, 1, "a", "one")
	f.ask(3, channel.Request{Op: channel.OpSend, Req: 7, From: channel.Addr{Ref: 7}, User: "nobody", Target: channel.Everybody, Content: []byte(`"no"`)})
	f.send(3, 1, "a", "two")
	f.settle()
	f.kill(1)
	f.shut = map[[2]int]bool{}
	f.promote()
	f.settle()
	f.want(3, chat("a", "one"), `1 {}`, `7 {"code":500}`, chat("a", "two"), `1 {}`)
	f.answered()
}

// A run that ended is executed by whoever is the owner: also when it is the one who takes over from another who died at the same time.
func TestTheDeadLeave(t *testing.T) {
	f := newFleet(t, 4)
	f.owned(2, None)
	f.enter(3, 1, "a")
	f.enter(4, 2, "b")
	f.enter(2, 3, "c")
	f.settle()
	f.forgetLogs()
	f.kill(1)
	f.kill(3)
	f.promote()
	f.settle()
	f.want(2, told("onLeave", "a"))
	f.want(4, told("onLeave", "a"))
	f.answered()
	if got := f.nodes[2].worker.AppendNodes(nil, thePart); len(got) != 2 {
		t.Errorf("channels of %v", got)
	}
	f.kill(4) // under an owner that goes on
	f.change(func(*Share, ViewID) {})
	f.settle()
	f.want(2, told("onLeave", "b"))
}

// seal begins a move to the follower, and swap ends it.
func (f *fleet) seal(who ...int) {
	f.change(func(s *Share, id ViewID) { s.Moving = id }, who...)
}

func (f *fleet) swap(who ...int) {
	f.t.Helper()
	if m := f.wish(KindReady); m == nil || m.Moving != f.view.Shares[thePart].Moving {
		f.t.Fatal("the follower is not ready")
	}
	f.change(func(s *Share, id ViewID) {
		*s = Share{Owner: s.Follower, Follower: s.Owner, Epoch: id, Following: id, Born: s.Born}
	}, who...)
}

// A planned move loses nothing, also of requests that were on their way, and the old owner follows without a snapshot.
func TestMove(t *testing.T) {
	f := populated(t)
	f.send(3, 1, "a", "one")   // on its way when the owner stops
	f.seal(1, 2)               // node 3 learns of it later
	f.send(3, 2, "b", "two")   // also sent
	f.settle()                 // both wait
	f.nodes[3].adopt(f.view)   //
	f.send(3, 1, "a", "three") // waits at its node
	f.settle()
	f.want(3)
	if n := len(f.nodes[1].holder.parts[thePart].owner.queue); n != 2 {
		t.Errorf("%d requests wait at the owner", n)
	}
	f.swap(1, 2)
	f.nodes[3].adopt(f.view)
	f.settle()
	f.want(3, chat("a", "one"), `1 {}`, chat("b", "two"), `2 {}`, chat("a", "three"), `1 {}`)
	f.answered()
	f.same(1, 2)
	if s := f.nodes[2].holder.Stats(); s.Takeovers != 1 || s.Snapshots != 0 {
		t.Errorf("%+v", s)
	}
	f.seal() // and back
	f.settle()
	f.swap()
	f.settle()
	f.send(3, 1, "a", "four")
	f.settle()
	f.want(3, chat("a", "four"), `1 {}`)
	f.same(1, 2)
	f.answered()
}

// A move that is called off leaves no trace but a wait.
func TestMoveCancelled(t *testing.T) {
	f := populated(t)
	f.send(3, 1, "a", "one")
	f.seal(1, 2)
	f.settle()
	f.nodes[3].adopt(f.view)
	f.send(3, 2, "b", "two")
	f.settle()
	f.want(3)
	f.change(func(s *Share, id ViewID) { s.Moving = ViewID{} })
	f.settle()
	f.want(3, chat("a", "one"), `1 {}`, chat("b", "two"), `2 {}`)
	f.answered()
	f.same(1, 2)
}

// A request that reaches who owned the partition once is answered not owner, and executed by who does.
func TestRequestOvertakesTheView(t *testing.T) {
	f := populated(t)
	f.seal(1, 2)
	f.settle()
	f.swap(1, 2)
	f.settle()
	f.send(3, 1, "a", "one") // to 1, under the old epoch
	f.settle()
	f.want(3)
	f.nodes[3].adopt(f.view) // the answer waited for it, as everything that is sent under a newer view
	f.settle()
	if n := f.nodes[3].desk.stats.NotOwner; n != 1 {
		t.Errorf("%d times not owner", n)
	}
	f.want(3, chat("a", "one"), `1 {}`)
	f.answered()
}

// An owner that is none any more, and does not know it, is not heard by who knows.
func TestOldOwnerIsFenced(t *testing.T) {
	f := newFleet(t, 3)
	f.owned(None, None) // without a follower it keeps nothing back
	f.enter(3, 1, "a")
	f.enter(1, 2, "b")
	f.settle()
	f.forgetLogs()
	f.change(func(s *Share, id ViewID) { *s = Share{Owner: 2, Epoch: id, Born: id} }, 2, 3) // 1 sleeps
	f.send(1, 2, "b", "stale")
	f.settle()
	f.want(3, "LOST "+whyBorn)
	if n := f.nodes[3].desk.stats.Fenced; n == 0 {
		t.Error("nothing was fenced")
	}
	if f.nodes[3].last != 0 {
		t.Errorf("took item %d of the old owner", f.nodes[3].last)
	}
}

// Owner and follower are lost: the partition begins empty, members are told, and what had no answer is refused.
func TestBornAnew(t *testing.T) {
	f := populated(t)
	f.enter(1, 9, "z")
	f.settle()
	f.forgetLogs()
	f.shut[[2]int{3, 1}] = true
	f.send(3, 1, "a", "lost")
	f.leave(3, 2, "b")
	f.settle()
	f.kill(1)
	f.kill(2)
	f.shut = map[[2]int]bool{}
	f.change(func(s *Share, id ViewID) { *s = Share{Owner: 3, Epoch: id, Born: id} })
	f.settle()
	f.want(3, "REFUSED 1 sent=true", "LOST "+whyBorn)
	f.answered()
	f.enter(3, 5, "a")
	f.settle()
	f.want(3, `5 {"users":["a"]}`)
	f.answered()
}

// A follower that does not acknowledge costs 300 ms: the owner asks to go on alone, and does when the view says so.
func TestStuckFollowerIsDropped(t *testing.T) {
	f := populated(t)
	f.pass(6000 * ms) // quiet is not stuck
	if m := f.wish(KindDropFollower); m != nil {
		t.Fatal("a quiet follower is called stuck")
	}
	f.shut[[2]int{1, 2}] = true
	f.send(3, 1, "a", "one")
	f.settle()
	f.pass(280 * ms)
	if f.wish(KindDropFollower) != nil {
		t.Error("called stuck too early")
	}
	f.pass(60 * ms)
	s := f.view.Shares[thePart]
	if m := f.wish(KindDropFollower); m == nil || m.Naming != s.Following || m.Epoch != s.Epoch {
		t.Fatalf("the maker was told %+v", m)
	}
	f.want(3)
	f.change(func(s *Share, id ViewID) { s.Follower, s.Following = None, ViewID{} })
	f.settle()
	f.want(3, chat("a", "one"), `1 {}`)
	f.shut = map[[2]int]bool{}
	f.settle() // what was on its way to the follower finds it dropped
	if f.nodes[2].holder.parts[thePart] != nil {
		t.Error("it still follows")
	}
	f.join(2)
	f.follow()
	f.send(3, 1, "a", "two")
	f.settle()
	f.want(3, chat("a", "two"), `1 {}`)
	f.same(1, 2)
	f.answered()
}

// An owner that slept has not waited for its follower.
func TestSleepIsNotStuck(t *testing.T) {
	f := populated(t)
	f.shut[[2]int{1, 2}] = true
	f.send(3, 1, "a", "one")
	f.settle()
	f.pass(20 * ms)
	f.now += 6000 * ms
	f.pass(20 * ms)
	if f.wish(KindDropFollower) != nil {
		t.Error("called stuck after a sleep")
	}
}

// A joiner is called in step only when it has acknowledged everything that was ever released, and from the moment before nothing is released
// that it lacks.
func TestJoinerIsCalledInStepByTheOwner(t *testing.T) {
	f := newFleet(t, 3)
	f.owned(None, None)
	f.enter(3, 1, "a")
	f.settle()
	f.shut[[2]int{2, 1}] = true // its acks wait
	f.join(2)
	f.send(3, 1, "a", "one") // released at once: there is no follower
	f.settle()
	f.forgetLogs()
	if f.wish(KindInStep) != nil {
		t.Fatal("in step without an ack")
	}
	acks := f.queues[[2]int{2, 1}]
	f.queues[[2]int{2, 1}] = acks[1:] // of the snapshot, and not of the record
	f.nodes[1].deliver(f.nodes[2].node(), acks[0].m)
	f.settle()
	if f.wish(KindInStep) != nil {
		t.Error("in step, and lacks what was released")
	}
	f.send(3, 1, "a", "two")
	f.settle()
	f.want(3) // it awaits the joiner by now
	f.shut = map[[2]int]bool{}
	f.settle()
	f.want(3, chat("a", "two"), `1 {}`)
	f.follow()
	f.same(1, 2)
}

// A joiner that is made the owner by mistake does not have everything, says so, and members are told: no loss is silent.
func TestJoinerIsNotPromoted(t *testing.T) {
	for parts := range 2 {
		f := newFleet(t, 3)
		f.nodes[1].holder.partBytes = 1
		f.owned(None, None)
		f.enter(3, 1, "a")
		f.enterRoom(3, 2, "a", otherRoom())
		f.settle()
		f.shut[[2]int{2, 1}] = true // only the first part goes out
		f.shut[[2]int{1, 2}] = parts == 0
		f.join(2)
		f.send(3, 1, "a", "one")
		f.settle()
		f.forgetLogs()
		if p := f.nodes[2].holder.parts[thePart]; p.trail.parts != uint64(parts) || p.trail.whole {
			t.Fatalf("it has %d parts", p.trail.parts)
		}
		f.kill(1)
		f.shut = map[[2]int]bool{}
		f.change(func(s *Share, id ViewID) { *s = Share{Owner: 2, Epoch: id, Born: s.Born} })
		f.settle()
		f.want(3, "LOST "+whyLost)
		if s := f.nodes[2].holder.Stats(); s.Empty != 1 || s.Takeovers != 0 {
			t.Errorf("%+v", s)
		}
		f.enter(3, 3, "a")
		f.settle()
		f.want(3, `3 {"users":["a"]}`)
		f.answered()
	}
}

// A follower that its owner does not know as a joiner is in step when it has the whole snapshot, and output waits for that.
func TestFollowerWithAPartOfTheSnapshot(t *testing.T) {
	f := newFleet(t, 3)
	f.nodes[1].holder.partBytes = 1
	f.owned(None, None)
	f.enter(3, 1, "a")
	f.enterRoom(3, 2, "a", otherRoom())
	f.settle()
	f.forgetLogs()
	f.change(func(s *Share, id ViewID) { s.Follower, s.Following = 2, id })
	f.round()
	f.shut[[2]int{1, 2}] = true // the second part waits
	f.settle()
	f.send(3, 1, "a", "one")
	f.settle()
	h := f.nodes[1].holder
	h.Receive(f.nodes[2].node(), &Message{Kind: KindAck, Part: thePart, Epoch: f.view.Shares[thePart].Epoch, Naming: f.view.Shares[thePart].Following,
		Index: h.parts[thePart].index, In: 1}) // the records have overtaken it
	f.settle()
	f.want(3)
	f.shut = map[[2]int]bool{}
	f.settle()
	f.want(3, chat("a", "one"), `1 {}`)
	f.same(1, 2)
}

// What a follower acknowledged before it was dropped says nothing of what it has when it joins again.
func TestAckOfAnotherNaming(t *testing.T) {
	f := populated(t)
	f.shut[[2]int{2, 1}] = true
	f.send(3, 1, "a", "one")
	f.settle()
	f.change(func(s *Share, id ViewID) { s.Follower, s.Following = None, ViewID{} })
	f.settle()
	f.shut[[2]int{1, 2}], f.shut[[2]int{2, 1}] = true, false
	f.queues[[2]int{2, 1}] = append(f.queues[[2]int{2, 1}], f.queues[[2]int{2, 1}]...)
	old := f.queues[[2]int{2, 1}]
	f.queues[[2]int{2, 1}] = nil
	f.change(func(s *Share, id ViewID) { s.Joiner, s.Joining = 2, id })
	f.queues[[2]int{2, 1}] = old
	f.settle()
	if f.wish(KindInStep) != nil && f.wish(KindInStep).Naming == f.view.Shares[thePart].Joining {
		t.Error("in step without a snapshot")
	}
	f.shut = map[[2]int]bool{}
	f.settle()
	f.follow()
	f.same(1, 2)
}

// A request that was sent to an owner once, and comes late, is not executed by the same node when it is the owner again: numbers may have begun
// anew since.
func TestRequestOfAnotherEpoch(t *testing.T) {
	f := newFleet(t, 3)
	f.owned(2, None)
	f.shut[[2]int{3, 1}] = true
	f.enter(3, 1, "a")
	f.seal()
	f.settle()
	f.swap()
	f.settle()
	f.want(3, `1 {"users":["a"]}`)
	f.change(func(s *Share, id ViewID) { s.Follower, s.Following = None, ViewID{} })
	f.settle()
	f.kill(2)
	f.change(func(s *Share, id ViewID) { *s = Share{Owner: 1, Epoch: id, Born: id} })
	f.enter(3, 2, "b")
	f.shut = map[[2]int]bool{}
	f.settle()
	f.want(3, "LOST "+whyBorn, `2 {"users":["b"]}`)
	f.answered()
}

// A new owner that lacks the tail is found out by the nodes that have seen it, and they go on by its numbers.
func TestWitness(t *testing.T) {
	f := populated(t)
	f.shut[[2]int{1, 2}] = true
	f.send(3, 1, "a", "lost")
	f.settle()
	h := f.nodes[1].holder // as if it had not waited
	h.parts[thePart].owner.follower.acked = h.parts[thePart].index
	h.release(h.parts[thePart])
	f.settle()
	f.want(3, chat("a", "lost"), `1 {}`)
	f.kill(1)
	f.shut = map[[2]int]bool{}
	f.send(3, 2, "b", "later")
	f.promote()
	f.settle()
	log := f.nodes[3].log
	if len(log) == 0 || log[0] != "LOST "+whyLost || f.nodes[3].desk.stats.Lost != 1 {
		t.Errorf("node 3 was told %q", log)
	}
	f.answered()
}

// Nothing is handed on with a hole: what is missing is asked for.
func TestGapIsSentAgain(t *testing.T) {
	f := populated(t)
	f.shut[[2]int{1, 3}] = true
	f.send(3, 1, "a", "one")
	f.settle()
	q := f.queues[[2]int{1, 3}]
	f.queues[[2]int{1, 3}] = nil // as no link would
	if len(q) == 0 {
		t.Fatal("nothing was sent")
	}
	f.shut = map[[2]int]bool{}
	f.send(3, 2, "b", "two")
	f.settle()
	f.want(3, chat("a", "one"), `1 {}`, chat("b", "two"), `2 {}`)
	f.answered()
	if n := f.nodes[3].desk.stats.Gaps; n != 1 {
		t.Errorf("%d gaps", n)
	}
}

// A request at which two owners died is not given to a third.
func TestPoison(t *testing.T) {
	f := newFleet(t, 4)
	f.owned(2, None)
	f.enter(4, 1, "a")
	f.settle()
	f.forgetLogs()
	f.shut[[2]int{4, 1}], f.shut[[2]int{4, 2}] = true, true
	f.send(4, 1, "a", "poison")
	f.kill(1)
	f.promote()
	f.settle()
	f.join(3)
	f.follow()
	f.want(4)
	f.kill(2)
	f.promote()
	f.settle()
	f.want(4, "REFUSED 1 sent=true")
	f.send(4, 1, "a", "good")
	f.settle()
	f.want(4, chat("a", "good"), `1 {}`)
	f.answered()
}

// Who waits for too long is refused, and told whether it was sent. What takes its place keeps its number; a leave is never given up.
func TestRequestsGiveUp(t *testing.T) {
	f := populated(t)
	f.shut[[2]int{3, 1}] = true
	f.send(3, 1, "a", "sent")
	f.leave(3, 2, "b")
	f.pass(5100 * ms)
	f.want(3, "REFUSED 1 sent=true")
	f.seal() // now nothing is sent
	f.send(3, 1, "a", "unsent")
	f.pass(1900 * ms) // a maker would have cancelled the move
	f.want(3)
	f.pass(200 * ms)
	f.want(3, "REFUSED 1 sent=false")
	f.change(func(s *Share, id ViewID) { s.Moving = ViewID{} })
	f.shut = map[[2]int]bool{}
	f.settle()
	f.want(3, chat("a", "sent"), `1 {}`, told("onLeave", "b")) // it was under way; the answer finds nobody who waits
	f.answered()
}

// What waits for an owner is bounded; what sets things free is taken all the same.
func TestDeskIsBounded(t *testing.T) {
	f := populated(t)
	f.shut[[2]int{3, 1}] = true
	big := channel.Request{Op: channel.OpSend, Part: thePart, Room: "r", User: "a", From: channel.Addr{Ref: 1}, Target: "*", Content: make([]byte, 1<<20)}
	n := 0
	for ; f.nodes[3].desk.request(&big, f.now) == nil; n++ {
		if n > 100 {
			t.Fatal("there is no bound")
		}
	}
	if n != 15 {
		t.Errorf("took %d MiB", n)
	}
	f.leave(3, 2, "b")
}
