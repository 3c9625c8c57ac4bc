package channel

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// ruled is a stage whose rooms have limits of their own.
func ruled(t *testing.T, limits map[string]RoomLimits) (*stage, *int64) {
	s, now := limitedStage(t, Limits{})
	s.w.LimitRooms(func(room string) RoomLimits { return limits[room] })
	return s, now
}

// follow has the stage's rooms follow limits that have changed.
func (s *stage) follow() {
	s.w.Relimit()
	for s.w.FollowLimits(1) {
	}
	if s.w.LimitsWait() {
		s.t.Error("rooms wait for their limits behind that")
	}
}

// replies are the answers since the last take.
func (s *stage) replies() (bodies []string) {
	for _, line := range s.take() {
		if parts := strings.SplitN(line, " ", 4); parts[1] == "reply" {
			bodies = append(bodies, parts[3])
		}
	}
	return bodies
}

const (
	slowFor2 = `{"code":500,"reason":"slow_mode","wait":2}`
	slowFor1 = `{"code":500,"reason":"slow_mode","wait":1}`
)

// A room that is there is as slow as its limits say when they change, whoever is in it, and whatever a program has said if they are an operator's.
func TestRoomsFollowLimits(t *testing.T) {
	limits := map[string]RoomLimits{}
	s, now := ruled(t, limits)
	s.enter(at(0, 2), "b", "r")
	s.enter(at(0, 2), "b", "other")
	says := func(want ...string) {
		t.Helper()
		*now += int64(time.Hour)
		s.take()
		for range 2 {
			s.handle(Request{Op: OpSend, From: at(0, 2), User: "b", Room: "r", Target: Everybody, Content: []byte(`"x"`)})
		}
		if got := s.replies(); !slices.Equal(got, want) {
			t.Errorf("answered %q, want %q", got, want)
		}
	}
	set := func(l RoomLimits) { limits["r"] = l; s.follow() }
	program := func(ms, want string) {
		t.Helper()
		s.take()
		s.handle(Request{Op: OpSlow, From: at(0, 2), Room: "r", Content: []byte(ms)})
		if got := s.replies(); !slices.Equal(got, []string{want}) {
			t.Errorf("the program is answered %q, want %s", got, want)
		}
	}
	says("{}", "{}")
	set(RoomLimits{Slow: 2 * time.Second})
	says("{}", slowFor2)
	program("1000", "{}")
	set(RoomLimits{Slow: 3 * time.Second})
	says("{}", slowFor1)
	set(RoomLimits{Slow: 2 * time.Second, Ruled: true})
	says("{}", slowFor2)
	program("1000", string(Ruled))
	says("{}", slowFor2)
	set(RoomLimits{Slow: 2 * time.Second})
	program("0", "{}")
	says("{}", "{}")
	set(RoomLimits{})
	if n := len(s.w.state.parts[Partition("r")].slow); n != 1 {
		t.Errorf("%d rooms have a slow mode of their own", n)
	}
}

// A room with more members than are listed by now is large at once, once, and not before.
func TestRoomsBecomeLargeByLimits(t *testing.T) {
	limits := map[string]RoomLimits{}
	s, _ := ruled(t, limits)
	for i, name := range []string{"a", "b", "c"} {
		s.enter(at(0, i+1), name, "r")
	}
	s.take()
	limits["r"] = RoomLimits{List: 3}
	s.follow()
	s.want()
	limits["r"] = RoomLimits{List: 2}
	s.follow()
	s.want(`0 push #3 onCount {"count":3,"joined":0,"left":0}`)
	s.follow()
	s.want()
	s.leave(at(0, 3), "c", "r")
	s.want()
	if n := s.w.Stats().LargeRooms; n != 1 {
		t.Errorf("%d rooms are large", n)
	}
}

// Rooms follow when the worker comes to own them: they may have been another's when the limits changed.
func TestRoomsThatComeFollowLimits(t *testing.T) {
	limits := map[string]RoomLimits{}
	s, _ := ruled(t, limits)
	s.enter(at(0, 1), "a", "r")
	s.follow()
	part := Partition("r")
	s.w.Demote(part)
	limits["r"] = RoomLimits{Slow: time.Second}
	s.follow() // it is not this worker's to decide
	s.w.Promote(part, testEpoch)
	if room, _ := s.w.Room("r"); room.Slow != 0 || !s.w.LimitsWait() {
		t.Fatalf("%+v, %v", room, s.w.LimitsWait())
	}
	for s.w.FollowLimits(1) {
	}
	if room, _ := s.w.Room("r"); room.Slow != time.Second {
		t.Errorf("%+v", room)
	}
}
