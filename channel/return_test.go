package channel

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// A page is not made for whose outlet has too much to write already; a full one of somebody else does not matter.
func TestPagesOfFullOutlets(t *testing.T) {
	s, _ := keepingStage(t, keeping(ReadersPresent), Limits{})
	s.enter(at(0, 1), "a", "r")
	s.enter(at(1, 2), "b", "r")
	s.say(at(0, 1), "a", "said")
	s.outlet(1).full = func(RoomID) bool { return true }
	if texts, _, _ := s.page(at(1, 2), "b", Extended{Most: 9}); !slices.Equal(texts, []string{"refused"}) {
		t.Errorf("a full outlet is told %v", texts)
	}
	if texts, _, _ := s.page(at(0, 1), "a", Extended{Most: 9}); !slices.Equal(texts, []string{"said"}) {
		t.Errorf("another one is told %v", texts)
	}
	if texts, _, _ := s.page(at(1, 3), "b", Extended{Most: 9}); !slices.Equal(texts, []string{"refused"}) {
		t.Errorf("who is not in the room is told %v", texts)
	}
	if got := s.w.Stats(); got.Busy != 1 || got.Pages != 1 {
		t.Errorf("%+v", got)
	}
}

// All members behind a node that has ended return to what they missed, also where what the room kept was old by then.
func TestReturnsToANodeThatEnded(t *testing.T) {
	s, now := keepingStage(t, keeping(ReadersPresent), Limits{})
	s.enter(at(0, 1), "a", "r")
	var since [4]Extended
	for i := range since {
		since[i] = Extended{Since: s.extendedEnter(at(256, 2+i), fmt.Sprint("b", i), uint64(2*i+1), Extended{}).last, HasSince: true}
	}
	s.say(at(0, 1), "a", "old")
	*now += int64(11 * time.Minute)
	s.w.DropNode(NewNode(1, 0))
	s.say(at(0, 1), "a", "missed")
	for i, x := range since {
		back := s.extendedEnter(at(512, 2+i), fmt.Sprint("b", i), uint64(2*i+1), x)
		if !slices.Equal(back.missed, []string{"missed"}) || *back.Complete { // "old" is gone
			t.Errorf("b%d is told %v, complete %v", i, back.missed, *back.Complete)
		}
	}
	checkState(t, &s.w.state)
}

// Who changes its name in a room stays who it is if it has a secret, also where it takes the place of another session of its own.
func TestReturnsUnderAnotherName(t *testing.T) {
	for _, tc := range []struct {
		name          string
		first, second uint64 // what it proves before and after
		replaces      bool
		missed        string
	}{
		{"with its secret", 7, 7, false, "one two"},
		{"with another one", 7, 9, false, ""},
		{"without", 0, 0, false, ""},
		{"in the place of its own session", 7, 7, true, "one two"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := keepingStage(t, keeping(ReadersPresent), Limits{})
			s.enter(at(0, 1), "a", "r")
			since := s.extendedEnter(at(0, 2), "b", tc.first, Extended{}).last
			s.say(at(0, 1), "a", "one")
			s.say(at(0, 1), "a", "two")
			if tc.replaces {
				s.extendedEnter(at(0, 3), "c", tc.first, Extended{})
			}
			s.items = nil
			s.handle(Request{Op: OpEnter, From: at(0, 2), User: "c", Prev: "b", Room: "r", Key: tc.second, Ext: &Extended{Since: since, HasSince: true}})
			var missed []string
			complete := false
			for _, it := range s.items {
				switch it.Kind {
				case ItemEnter:
					complete = strings.Contains(it.End(), `"complete":true`)
				case ItemDirect:
					missed = append(missed, said1(it.Push.Body))
				}
			}
			if got := strings.Join(missed, " "); got != tc.missed || complete != (tc.missed != "") {
				t.Errorf("told %q, complete %v", got, complete)
			}
			if texts, _, _ := s.page(at(0, 2), "c", Extended{Most: 9}); strings.Join(texts, " ") != tc.missed {
				t.Errorf("may read %v", texts)
			}
			checkState(t, &s.w.state)
		})
	}
}

// All of a large room that are cut off at once return without a gap.
func TestALargeRoomReturns(t *testing.T) {
	const members = 2000
	s, _ := keepingStage(t, keeping(ReadersPresent), Limits{})
	s.enter(at(0, 1), "a", "r")
	for i := range members {
		s.handle(Request{Op: OpEnter, From: at(1, 2+i), User: fmt.Sprint("b", i), Room: "r", Key: uint64(2*i + 1), Silent: true})
	}
	since := Extended{Since: s.room("r").seqOf(s.room("r").seq), HasSince: true}
	s.say(at(0, 1), "a", "before")
	for i := range members {
		s.leave(at(1, 2+i), fmt.Sprint("b", i), "r")
	}
	s.say(at(0, 1), "a", "after")
	for i := range members {
		back := s.extendedEnter(at(1, 2+members+i), fmt.Sprint("b", i), uint64(2*i+1), since)
		if !slices.Equal(back.missed, []string{"before", "after"}) || !*back.Complete {
			t.Fatalf("b%d is told %v, complete %v", i, back.missed, *back.Complete)
		}
	}
}

// Others that come and go do not push out what is known of a member, as long as fewer than maxPast do so while it is away; how many do while it is
// there, or before it left last, does not matter.
func TestFormersAreRemembered(t *testing.T) {
	s, _ := keepingStage(t, keeping(ReadersPresent), Limits{})
	others := uint64(1 << 20)
	pass := func(n int) {
		for range n {
			others++
			s.handle(Request{Op: OpEnter, From: at(0, 9), User: "other", Room: "r", Key: 2*others + 1, Silent: true})
			s.leave(at(0, 9), "other", "r")
		}
		s.items = nil
	}
	s.enter(at(0, 1), "a", "r")
	since := Extended{Since: s.extendedEnter(at(0, 2), "b", 7, Extended{}).last, HasSince: true}
	s.say(at(0, 1), "a", "said")
	for i, n := range []int{maxPast - 1, maxPast - 1, 2 * maxPast} {
		s.leave(at(0, 2), "b", "r")
		if i < 2 {
			pass(n)
		}
		if back := s.extendedEnter(at(0, 2), "b", 7, since); !slices.Equal(back.missed, []string{"said"}) || !*back.Complete {
			t.Fatalf("return %d: told %v, complete %v", i, back.missed, *back.Complete)
		}
		pass(n)
	}
	s.leave(at(0, 2), "b", "r")
	if back := s.extendedEnter(at(0, 2), "b", 7, since); !slices.Equal(back.missed, []string{"said"}) {
		t.Errorf("told %v", back.missed)
	}
	if n := len(s.room("r").history.about.past.by); n != maxPast {
		t.Errorf("%d are remembered", n)
	}
	checkState(t, &s.w.state)
	s.leave(at(0, 2), "b", "r")
	pass(maxPast)
	if back := s.extendedEnter(at(0, 2), "b", 7, since); len(back.missed) > 0 || *back.Complete {
		t.Errorf("one that has been pushed out is told %v", back.missed)
	}
}

// Who has left counts at least what it takes.
func TestPastFootprint(t *testing.T) {
	const rooms = 16
	var all [rooms]formers
	before := heap()
	for i := range all {
		for key := range uint64(3*maxPast + 100*uint64(i)) {
			all[i].leave(key, 1, 1)
		}
	}
	if took := heap() - before; took > rooms*maxPast*pastCost {
		t.Errorf("%d bytes each", took/(rooms*maxPast))
	}
	runtime.KeepAlive(&all)
}
