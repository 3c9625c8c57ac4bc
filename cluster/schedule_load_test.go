package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/internal/race"
)

// Schedules of full windows, large decisions, and of those who ask without a session.

// Two nodes do not hear each other, and each has more for the other than the window of its link. New requests are refused as not sent, and nothing
// else is: leaves wait. When they hear each other again everything is answered, although each needs the other's acknowledgements for it: what comes to its owner while the way to the follower is
// still full is refused as busy.
func TestTwoNodesFillTheirWindows(t *testing.T) {
	const memory = 256 << 10 // of which one link may have a quarter
	s := newStage(t, "aa", 0)
	for _, p := range s.procs {
		p.memory = memory
		p.boot()
	}
	s.calm()
	a, b := s.procs[0], s.procs[1]
	ofA, ofB := s.partOf(a), s.partOf(b)
	x, y := s.enter(a, ofB, "x"), s.enter(b, ofA, "y")
	leaves := []*session{s.enter(a, ofB, "u"), s.enter(b, ofA, "v")}
	s.pad = strings.Repeat(" long", 800)
	s.apart(2000, s.procs[:1], s.procs[1:])
	refused := func(x *session) bool {
		before := s.sums["refused, not sent"]
		x.c.say(all)
		return s.sums["refused, not sent"] > before
	}
	for full := 0; full < 2; s.pass(1) {
		if full = 0; refused(x) {
			full++
		}
		if refused(y) {
			full++
		}
		if s.now > 20_000 {
			t.Fatal("the windows have no end")
		}
	}
	for _, l := range leaves {
		l.c.hangUp()
	}
	s.pass(500)
	for _, p := range s.procs {
		if n := p.node.LinksKeep(); n < memory/4 || n > memory/2 {
			t.Errorf("%s keeps %d bytes", p.name, n)
		}
	}
	waited := len(x.c.pending) + len(y.c.pending)
	s.until("everything is answered", 5000, func() bool { return len(x.c.pending)+len(y.c.pending) == 0 })
	s.until("the leaves are told", 1000, func() bool { return !x.seat.list["u"] && !y.seat.list["v"] })
	if n := s.sums["acknowledged sends"]; n < 2 || n+s.sums["refused"] != waited {
		t.Errorf("of %d %d were acknowledged, %d refused", waited, n, s.sums["refused"])
	}
	s.pad = ""
	s.says(x, all, 200)
	s.end()
	s.here(x, y)
}

// An owner, a follower or a connector stands still for two seconds, under more than the links may keep: all that any node keeps for others stays within
// its -link-memory, also the smallest that there may be. What does not fit is refused as not sent, or because the way is full, and everything else has its answer when the node goes on.
func TestLinkMemoryHoldsWhileANodeIsStopped(t *testing.T) {
	memories := []int64{1 << 20, 16 << 20}
	if race.Enabled {
		memories = memories[:1] // the small one is full sooner, and one goroutine does it all
	}
	for _, memory := range memories {
		for _, stopped := range []string{"owner", "follower", "connector"} {
			linkMemoryHolds(t, memory, stopped)
		}
	}
}

func linkMemoryHolds(t *testing.T, memory int64, stopped string) {
	s := newStage(t, "cccnn", 0)
	for _, p := range s.procs {
		p.memory = memory
		p.boot()
	}
	s.calm()
	part := s.partOf(s.procs[1], s.procs[0]) // the maker has nothing to do with it
	x, y := s.enter(s.procs[3], part, "x"), s.enter(s.procs[4], part, "y")
	p := map[string]*proc{"owner": s.owner(part), "follower": s.follower(part), "connector": s.procs[4]}[stopped]
	p.paused = s.now + 2200
	s.pad = strings.Repeat(" long", 800)
	most := int64(0)
	for s.now < p.paused {
		for _, c := range []*session{x, y} {
			if c.p.running() {
				c.c.say(all)
			}
		}
		s.pass(1)
		for _, q := range s.procs {
			most = max(most, q.node.LinksKeep())
		}
	}
	t.Logf("the %s is stopped: a node keeps %d of %d bytes at most, %d messages were refused as not sent, %d as busy", stopped, most, memory, s.sums["refused, not sent"], s.sums["refused"])
	if most > memory {
		t.Errorf("the %s is stopped: a node keeps %d bytes of %d", stopped, most, memory)
	}
	if stopped == "owner" && (most < memory/8 || s.sums["refused, not sent"] == 0) || s.sums["refused, not sent"]+s.sums["refused"] == 0 {
		t.Error("that did not fill anything")
	}
	if v := s.view(); stopped == "follower" && (s.follower(part) == p || s.procOf(v, v.Shares[part].Joiner) == p) {
		t.Error("it was dropped as a follower, and named again while it stands still")
	}
	s.pad = ""
	s.until("everything is answered", 8000, func() bool { return len(x.c.pending)+len(y.c.pending) == 0 })
	s.until("links have room again", 8000, func() bool {
		return !slices.ContainsFunc(s.procs, func(q *proc) bool { return q.node.LinksKeep() > memory/16 })
	})
	s.says(x, all, 500)
	s.end()
	s.here(x, y)
}

// A connector with 19,000 users dies. Their leaves are one decision of as many items, which is on its way to another connector when that is cut off,
// and when the owner dies: each leave comes once.
func TestNineteenThousandItemsAreCutInTheMiddle(t *testing.T) {
	const users = 19_000
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	for _, dies := range []bool{false, true} {
		s := formed(t, "cccnn", 0)
		part := s.partOf(s.procs[1])
		y := s.enter(s.procs[4], part, "y")
		for i := range users { // without a session each: their clients' lists would be 361 million names
			p := s.procs[3]
			p.refs++
			r := &channel.Request{Op: channel.OpEnter, Part: part, From: channel.Addr{Node: p.node.Self(), Ref: p.refs}, Room: simRooms[part], User: fmt.Sprint("u", i), Silent: true}
			if err := p.post(r); err != nil {
				t.Fatal(err)
			}
			if i%500 == 0 {
				s.pass(10)
			}
		}
		s.until("all are in", 10_000, func() bool { return len(y.seat.list) == users+1 })
		owner, lost := s.owner(part), 0
		s.net.Filter = func(from, to string, b []byte) int64 {
			if from == owner.name && to == "n4" && packetNames[b[0]] == "batch" && len(b) > 100_000 {
				if lost++; lost < 4 {
					return -1
				}
			}
			return 0
		}
		s.procs[3].kill()
		s.until("the decision is on its way", 5000, func() bool { return lost > 0 })
		if dies {
			owner.kill()
		}
		s.until("y hears of all leaves", 5000, func() bool { return len(y.seat.list) == 1 })
		s.end()
		s.here(y)
	}
}

// question is a request of somebody who has no session, and what came of it.
type question struct {
	answers []string
	over    bool // it was given up, so nobody waits for an answer
}

// ask has somebody at p ask who is in the room of a partition.
func (s *stage) ask(p *proc, part uint16) *question {
	p.refs++
	q, ref := &question{}, p.refs
	p.asks[ref] = q
	r := &channel.Request{Op: channel.OpMembers, Part: part, Req: 1, From: channel.Addr{Node: p.node.Self(), Ref: ref}, Room: simRooms[part]}
	if err := p.post(r); err != nil {
		q.answers = append(q.answers, "not sent")
	}
	return q
}

// whom is what was answered, nothing else and nothing more.
func (s *stage) whom(q *question, want string) {
	s.t.Helper()
	s.until("the asker has an answer", 6000, func() bool { return len(q.answers) > 0 })
	s.pass(500)
	if got := strings.Join(q.answers, "; "); got != want {
		s.t.Errorf("answered %q, want %q", got, want)
	}
}

// Who is asked dies, at each moment around the answer: who comes after it answers, once.
func TestAskersPartnerDies(t *testing.T) {
	for after := int64(0); after < 14; after++ {
		s := formed(t, "cccnn", 0)
		part := s.partOf(s.procs[1])
		x := s.enter(s.procs[3], part, "x")
		q := s.ask(s.procs[4], part)
		s.pass(after)
		s.owner(part).kill()
		s.whom(q, `{"users":["x"]}`)
		s.end()
		s.here(x)
	}
}

// All who could answer die: it is not known whether it happened. Whoever takes their place has nothing of the room, and answers the next question.
func TestAskersPartnersAllDie(t *testing.T) {
	s := formed(t, "ccnn", 0)
	part := s.partOf(s.procs[1])
	x := s.enter(s.procs[2], part, "x")
	s.net.Filter = func(from, to string, b []byte) int64 { // the question arrives, and no answer
		if to == "n3" && packetNames[b[0]] == "batch" {
			return -1
		}
		return 0
	}
	q := s.ask(s.procs[3], part)
	s.pass(20)
	s.procs[0].kill()
	s.procs[1].kill()
	s.pass(20)
	s.procs[0].boot()
	s.whom(q, "unknown")
	s.net.Filter = nil
	s.until("there is a fleet again", 10_000, func() bool { return s.procs[3].serves() && s.owner(part) == s.procs[0] })
	s.whom(s.ask(s.procs[3], part), `{"users":[]}`)
	if !x.ended {
		t.Error("who was there was not told")
	}
	s.end()
}

// Who is asked does not answer. Within the time that a request may take the asker knows that it may have happened; an answer that comes later finds
// nobody. A question that cannot be sent is refused at once.
func TestAskersPartnerIsSilent(t *testing.T) {
	s := formed(t, "cn", 0)
	s.split = true
	s.procs[0].paused = s.now + 2900 // not dead yet
	q := s.ask(s.procs[1], 3)
	s.pass(2500)
	s.procs[0].paused = s.now + 2500
	s.whom(q, "unknown")
	s.end()
	s.noBus(1000, s.procs[1])
	s.pass(20)
	s.whom(s.ask(s.procs[1], 3), "not sent")
	s.end()
	s.whom(s.ask(s.procs[1], 3), `{"users":[]}`)
}

// questionRefused and questionAnswered tell who has no session what came of the request, and false if it was no such one.
func (p *proc) questionRefused(r *channel.Request, sent bool) bool {
	q := p.asks[r.From.Ref]
	if q != nil {
		q.answers, q.over = append(q.answers, map[bool]string{false: "not sent", true: "unknown"}[sent]), true
	}
	return q != nil
}

func (p *proc) questionAnswered(it *channel.Item) bool {
	q := p.asks[it.To.Ref]
	if q != nil && !q.over {
		q.answers = append(q.answers, string(it.Body)+it.End())
	}
	return q != nil
}
