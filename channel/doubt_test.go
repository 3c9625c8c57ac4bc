package channel

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Whose session ends before it has the answer to its return has been told nothing: what was kept for it is there when it returns again, private messages
// too, however often that happens. Who has had its answer is told nothing twice, and nothing is kept for it for longer than it might have been away.
func TestReturnThatWasNotHeard(t *testing.T) {
	s, now := awayStage(t)
	s.enter(at(0, 1), "a", "r")
	s.handle(Request{Op: OpEnter, From: at(1, 2), User: "b", Room: "r", Key: 7, Near: 5})
	s.cut(at(1, 2), "b", 5, 0)
	s.say(at(0, 1), "a", "one")
	s.send(at(0, 1), "a", "r", "b", `"whisper"`)
	want := []string{"one", "whisper"}
	for i := range 3 {
		if got := s.back(at(1, 3+i), "b", 7, 5); !slices.Equal(got, want) {
			t.Fatalf("return %d: told %v, want %v", i, got, want)
		}
		text := fmt.Sprint("while ", i)
		s.say(at(0, 1), "a", text)
		want = append(want, text)
		s.items = nil
		s.handle(Request{Op: OpLeave, From: at(1, 3+i), User: "b", Room: "r", Cut: i < 2, Near: 5, Handed: Unheard}) // the last one gave up
		s.want()
	}
	if got := s.back(at(1, 9), "b", 7, 5); !slices.Equal(got, want) {
		t.Fatalf("told %v, want %v", got, want)
	}
	if s.room("r").history.about.letterBytes == 0 {
		t.Error("nothing is kept while it is in doubt")
	}
	*now += int64(testGrace)
	if s.w.Due() > *now {
		t.Errorf("due at %d", s.w.Due())
	}
	s.w.Tick()
	if len(s.w.state.doubts)+len(s.w.state.away)+s.room("r").history.about.letterBytes != 0 {
		t.Error("something is kept for ever")
	}
	s.cut(at(1, 9), "b", 5, 0)
	if got := s.back(at(1, 10), "b", 7, 5); len(got) != 0 {
		t.Errorf("told %v again", got)
	}
	s.items = nil
	s.leave(at(1, 10), "b", "r") // a goodbye is one in doubt, too
	s.want("0 " + userText(6, "onLeave", "b"))
	checkState(t, &s.w.state)
}

// An enter that was given up, of somebody who was not there before, is a leave.
func TestEnterThatWasNotHeard(t *testing.T) {
	s, _ := awayStage(t)
	s.enter(at(0, 1), "a", "r")
	s.handle(Request{Op: OpEnter, From: at(1, 2), User: "b", Room: "r", Key: 7, Near: 5})
	s.items = nil
	s.handle(Request{Op: OpLeave, From: at(1, 2), User: "b", Room: "r", Handed: Unheard})
	s.want("0 " + userText(2, "onLeave", "b"))
}

// Who returns without a place, and asks for the last messages, gets them, and all that it has missed at least.
func TestReturnAsksForTheLastMessages(t *testing.T) {
	for most, want := range map[uint32]string{0: "three four", 1: "three four", 2: "three four", 3: "two three four", 200: "one two three four"} {
		s, _ := awayStage(t)
		s.enter(at(0, 1), "a", "r")
		s.handle(Request{Op: OpEnter, From: at(1, 2), User: "b", Room: "r", Key: 7})
		s.say(at(0, 1), "a", "one")
		s.say(at(0, 1), "a", "two")
		s.cut(at(1, 2), "b", 0, s.room("r").seq)
		s.say(at(0, 1), "a", "three")
		s.say(at(0, 1), "a", "four")
		s.items = nil
		s.handle(Request{Op: OpEnter, From: at(1, 3), User: "b", Room: "r", Key: 7, Ext: &Extended{Most: most}})
		if got := strings.Join(s.told(at(1, 3)), " "); got != want {
			t.Errorf("%d messages asked for: %s, want %s", most, got, want)
		}
	}
}

// Places end that somebody wants to end, by name and by where they were, as many as are wanted at once, and others hear of it.
func TestEndAway(t *testing.T) {
	s, _ := awayStage(t)
	s.enter(at(0, 1), "a", "r")
	for i := range 6 {
		name, near := fmt.Sprint("n", i), uint64(5+i%2)
		s.handle(Request{Op: OpEnter, From: at(1, 2+i), User: name, Room: "r", Key: 7, Near: near})
		s.cut(at(1, 2+i), name, near, 0)
	}
	part := Partition("r")
	end := func(most int, match func(string, uint64) bool, wantEnded int, wantMore bool, left ...string) {
		t.Helper()
		s.items = nil
		if ended, more := s.w.EndAway(part, most, match); ended != wantEnded || more != wantMore {
			t.Errorf("%d ended, more %v", ended, more)
		}
		if n := len(s.items); n != wantEnded {
			t.Errorf("%d items", n)
		}
		s.items = nil
		if got := s.members("r"); got != listText(append([]string{"a"}, left...), left) {
			t.Error(got)
		}
	}
	end(9, func(string, uint64) bool { return false }, 0, false, "n0", "n1", "n2", "n3", "n4", "n5")
	end(9, func(user string, _ uint64) bool { return user == "n4" }, 1, false, "n0", "n1", "n2", "n3", "n5")
	end(1, func(_ string, near uint64) bool { return near == 6 }, 1, true, "n0", "n2", "n3", "n5")
	end(1, func(_ string, near uint64) bool { return near == 6 }, 1, true, "n0", "n2", "n5")
	end(9, func(_ string, near uint64) bool { return near == 6 }, 1, false, "n0", "n2")
	end(9, func(string, uint64) bool { return true }, 2, false)
	if ended, more := NewWorker(nil).EndAway(part, 9, func(string, uint64) bool { return true }); ended != 0 || more {
		t.Error("ended what somebody else owns")
	}
	checkState(t, &s.w.state)
}

// A panic in what a worker does at its leisure, or as a node ends, is counted and survived, and done the next time.
func TestPanicAtLeisure(t *testing.T) {
	s, now := awayStage(t)
	s.enter(at(0, 1), "a", "r")
	s.handle(Request{Op: OpEnter, From: at(256, 2), User: "b", Room: "r", Key: 7})
	s.handle(Request{Op: OpEnter, From: at(256, 3), User: "c", Room: "r"})
	s.cut(at(256, 2), "b", 0, 0)
	wall := s.w.history.Wall
	booms := 1
	s.w.history.Wall = func() int64 {
		if booms--; booms >= 0 {
			panic("as the test wants it")
		}
		return wall()
	}
	*now += int64(testGrace)
	s.items = nil
	s.w.Tick()
	s.w.Tick()
	s.want("0 "+userText(3, "onLeave", "b"), "256 "+userText(3, "onLeave", "b"))
	booms = 1
	s.w.DropNode(NewNode(1, 0))
	s.w.DropNode(NewNode(1, 0))
	s.want("0 " + userText(4, "onLeave", "c"))
	if n := s.w.Stats().Panics; n != 2 {
		t.Errorf("%d panics", n)
	}
	checkState(t, &s.w.state)
}

// What follows the rooms in a snapshot comes in parts of about the length that was asked for, too, while members come, go, are cut off, return and are told
// things in private.
func TestSnapshotOfManyAway(t *testing.T) {
	now := int64(0)
	s, clock := keepingStage(t, keeping(ReadersPresent), Limits{Grace: testGrace, Slow: time.Millisecond})
	part := Partition("r")
	f := NewWorker(nil)
	f.Shadow(part)
	begun := false
	s.w.KeepBack(&kept{stage: s, records: func(part uint16, records []Record) {
		if begun {
			if err := f.Apply(part, parsed(t, records)); err != nil {
				t.Fatal(err)
			}
		}
	}})
	const members = 1000
	who := func(i int) (Addr, string, uint64) { return at(1, 2+i), fmt.Sprint("n", i), uint64(2*i + 1) }
	enter := func(i int) {
		from, name, key := who(i)
		s.handle(Request{Op: OpEnter, From: from, User: name, Room: "r", Key: key, Silent: true})
	}
	cut := func(i int, handed uint64) {
		from, name, _ := who(i)
		s.handle(Request{Op: OpLeave, From: from, User: name, Room: "r", Cut: true, Handed: handed})
	}
	tell := func(i int) {
		now += int64(time.Millisecond)
		*clock = now
		_, name, _ := who(i)
		s.send(at(0, 1), "a", "r", name, `"`+strings.Repeat("x", 200)+`"`)
	}
	s.enter(at(0, 1), "a", "r")
	for i := range members {
		enter(i)
	}
	for i := range members - 100 {
		cut(i, 0)
		tell(i)
	}
	for i, n := 0, 0; n < 200; i++ {
		if room := fmt.Sprint("slow ", i); Partition(room) == part {
			s.handle(Request{Op: OpSlow, Room: room, Content: []byte("5")})
			n++
		}
	}
	s.items = nil
	parts := 0
	for x, whole := s.w.Snapshot(part), false; !whole; parts++ {
		var b []byte
		if b, whole = x.Part(4096); len(b) > 4096+maxLetterBytes {
			t.Fatalf("part %d has %d bytes", parts, len(b))
		}
		if _, err := f.ApplySnapshot(part, b); err != nil {
			t.Fatal(err)
		}
		begun = true
		i := parts * 7 % (members - 200)
		switch parts % 4 {
		case 0:
			enter(i) // returns
		case 1:
			enter(i)
			cut(i, Unheard)
			tell(i)
		case 2:
			cut(members-1-parts%100, 0)
			tell(members - 1 - parts%100)
		case 3:
			from, name, _ := who(i)
			enter(i)
			s.handle(Request{Op: OpLeave, From: from, User: name, Room: "r"})
			tell(i + 1)
		}
		s.items = nil
	}
	if parts < 60 {
		t.Errorf("%d parts", parts)
	}
	if !bytes.Equal(s.w.State(nil, part), f.State(nil, part)) {
		t.Error("the follower has another state")
	}
}
