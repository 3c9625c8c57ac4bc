package channel

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// limitedStage is a stage with limits, whose clock stands still; it returns the clock.
func limitedStage(t *testing.T, limits Limits) (*stage, *int64) {
	s, now := newStage(t), new(int64)
	s.w.SetLimits(limits, new(atomic.Int64), func() int64 { return *now })
	return s, now
}

const (
	roomFull  = `reply %d {"code":500,"error":true,"reason":"room_members"}`
	roomsFull = `reply %d {"code":500,"error":true,"reason":"rooms"}`
	tooSoon   = `reply %d {"code":500,"reason":"slow_mode","wait":1}`
)

// A full room takes nobody more, tells nobody, and takes somebody again when somebody has left. Who is in may change the name or be
// replaced.
func TestMembersAreBounded(t *testing.T) {
	s, _ := limitedStage(t, Limits{Members: 2})
	s.enter(at(0, 1), "a", "r")
	s.handle(Request{Op: OpEnter, From: at(0, 2), User: "b", Room: "r", Key: 7})
	s.take()
	s.enter(at(0, 3), "c", "r")
	s.want("0 " + fmt.Sprintf(roomFull, 3))
	s.handle(Request{Op: OpEnter, From: at(0, 4), User: "b", Room: "r", Key: 7})
	s.want(`0 kick 2 #1 replaced by a new session of yours`, `0 enter 4 #1 {"users":["a","b"]}`)
	s.handle(Request{Op: OpEnter, From: at(0, 1), User: "A", Room: "r", Prev: "a"})
	s.take()
	if got := s.members("r"); got != `{"users":["b","A"]}` {
		t.Error(got)
	}
	s.enter(at(0, 3), "c", "other")
	s.leave(at(0, 1), "A", "r")
	s.take()
	s.enter(at(0, 3), "c", "r")
	s.want("0 "+userText(5, "onAdd", "c"), `0 enter 3 #5 {"users":["b","c"]}`)
	if got := s.w.Stats(); got.Limited[ReasonMembers] != 1 || got.EntersRefused != 1 {
		t.Errorf("%+v", got)
	}
}

// An enter that is refused as there is too much to write is answered as any other; one that no client reads says so.
func TestSilentEntersAreToldOfBusyRooms(t *testing.T) {
	s := newStage(t)
	s.enter(at(0, 1), "a", "r")
	s.outlet(0).full = func(RoomID) bool { return true }
	s.take()
	s.enter(at(1, 2), "b", "r")
	s.want(`1 reply 2 {"code":500,"error":true}`)
	s.handle(Request{Op: OpEnter, From: at(1, 2), User: "b", Room: "r", Silent: true})
	s.want(`1 reply 2 {"code":503,"error":true}`)
	s.handle(Request{Op: OpEnter, From: at(1, 2), User: "a", Room: "r", Silent: true})
	s.want(`1 reply 2 {"code":500,"error":true}`)
}

// Workers that share a count make no more rooms together than they may; an empty room makes way for another.
func TestRoomsAreBounded(t *testing.T) {
	s, _ := limitedStage(t, Limits{Rooms: 3})
	count := new(atomic.Int64)
	s.w.SetLimits(Limits{Rooms: 3}, count, func() int64 { return 0 })
	other := newStage(t)
	other.w.SetLimits(Limits{Rooms: 3}, count, func() int64 { return 0 })
	s.enter(at(0, 1), "a", "1")
	s.enter(at(0, 2), "a", "2")
	other.enter(at(0, 3), "a", "3")
	s.take()
	other.take()
	s.enter(at(0, 4), "a", "4")
	s.want("0 " + fmt.Sprintf(roomsFull, 4))
	s.enter(at(0, 4), "b", "2") // there already
	s.take()
	s.handle(Request{Op: OpEnter, From: at(0, 1), User: "b", Room: "1", Prev: "a"}) // alone, it makes its room anew
	s.want(`0 leave 1 #0`, `0 enter 1 #0 {"users":["b"]}`)
	other.leave(at(0, 3), "a", "3")
	s.enter(at(0, 5), "a", "4")
	s.want(`0 enter 5 #0 {"users":["a"]}`)
	other.enter(at(0, 3), "a", "3")
	other.want("0 " + fmt.Sprintf(roomsFull, 3))
	if got := s.w.Stats(); got.Limited[ReasonRooms] != 1 || count.Load() != 3 {
		t.Errorf("%d rooms, %+v", count.Load(), got)
	}
}

// In slow mode a member has to wait between two messages and before the first. Others need not wait for it, what was refused does not
// count, and neither coming back nor another name helps.
func TestSlowMode(t *testing.T) {
	s, now := limitedStage(t, Limits{Slow: time.Second})
	say := func(n int, user, target string) string {
		s.send(at(0, n), user, "r", target, `"x"`)
		items := s.take()
		return items[len(items)-1]
	}
	want := func(got, want string) {
		t.Helper()
		if got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	s.enter(at(0, 1), "a", "r")
	s.enter(at(0, 2), "b", "r")
	s.take()
	want(say(1, "a", "*"), "0 "+fmt.Sprintf(tooSoon, 1))
	*now += 999_999_999
	want(say(1, "a", "*"), "0 "+fmt.Sprintf(tooSoon, 1))
	*now++
	want(say(1, "a", "nobody"), `0 reply 1 {"code":500}`)
	want(say(1, "a", "*"), "0 reply 1 {}")
	want(say(1, "a", "b"), "0 "+fmt.Sprintf(tooSoon, 1))
	*now += 5e8
	want(say(2, "b", "a"), "0 reply 2 {}")
	s.handle(Request{Op: OpEnter, From: at(0, 1), User: "A", Room: "r", Prev: "a"})
	*now += 5e8
	want(say(1, "A", "*"), "0 "+fmt.Sprintf(tooSoon, 1))
	s.leave(at(0, 1), "A", "r")
	s.enter(at(0, 1), "A", "r")
	*now += 5e8
	want(say(1, "A", "*"), "0 "+fmt.Sprintf(tooSoon, 1))
	*now += 5e8
	want(say(1, "A", "*"), "0 reply 1 {}")
	if got := s.w.Stats(); got.Limited[ReasonSlow] != 5 || got.SendsRefused != 6 {
		t.Errorf("%+v", got)
	}
	s.leave(at(0, 1), "A", "r")
	s.leave(at(0, 2), "b", "r")
	if n := len(s.w.state.voices); n != 0 {
		t.Errorf("%d who have left are remembered", n)
	}
}

// A room's own slow mode outlives its members, and wins over that of all rooms until it is taken back.
func TestSlowModeOfOneRoom(t *testing.T) {
	s, _ := limitedStage(t, Limits{Slow: time.Second})
	set := func(ms, want string) {
		t.Helper()
		s.handle(Request{Op: OpSlow, From: at(0, 9), Room: "r", Content: []byte(ms)})
		s.want("0 reply 9 " + want)
	}
	is := func(room string, want time.Duration) {
		t.Helper()
		s.enter(at(0, 1), "a", room)
		s.take()
		if got := s.room(room).slow; got != want {
			t.Errorf("%s: %v, want %v", room, got, want)
		}
		s.leave(at(0, 1), "a", room)
	}
	is("r", time.Second)
	set("0", `{}`)
	is("r", 0)
	set("2500", `{}`)
	is("r", 2500*time.Millisecond)
	is("other", time.Second)
	for _, bad := range []string{"", "x", "1.5", `"1"`, "86400001"} {
		set(bad, `{"code":500}`)
	}
	is("r", 2500*time.Millisecond)
	set("-1", `{}`)
	is("r", time.Second)
	s.enter(at(0, 1), "a", "r")
	s.take()
	set("0", `{}`)
	if got := s.room("r").slow; got != 0 {
		t.Errorf("with members: %v", got)
	}
	s.send(at(0, 1), "a", "r", "a", `"x"`)
	if n := len(s.w.state.voices); s.items[len(s.items)-1].String() != "0 reply 1 {}" || n != 1 {
		t.Errorf("%v, %d remembered", s.take(), n)
	}
}

// Who asks for many rooms and does not take what it is told is told no more.
func TestRoomsAreNotToldToWhoTakesNothing(t *testing.T) {
	s := newStage(t)
	s.enter(at(0, 1), "ann", "lobby")
	s.take()
	r := Request{Op: OpRooms, Part: Partition("lobby"), From: at(256, 0)}
	ask := func(want string) {
		t.Helper()
		s.req++
		r.Req = s.req
		again := r
		s.w.Handle(&again)
		s.want(want)
	}
	ask(`256 reply 0 {"rooms":[{"name":"lobby","members":1}],"more":false}`)
	s.outlet(256).full = func(RoomID) bool { return true }
	ask(`256 reply 0 {"code":500}`)
}
