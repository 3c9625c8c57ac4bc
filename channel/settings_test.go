package channel

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// set has a program set something of a room, and returns the answer.
func (s *stage) set(op Op, room, content string) string {
	s.t.Helper()
	s.items = nil
	s.handle(Request{Op: op, From: at(9, 0), Room: room, Content: []byte(content)})
	if len(s.items) != 1 || s.items[0].Kind != ItemReply {
		s.t.Fatalf("%s: answered %v", content, s.take())
	}
	body := string(s.items[0].Body)
	s.items = nil
	return body
}

// known is what there is to know of a room.
func (s *stage) known(room string) string { return s.set(OpRoom, room, "") }

// comes enters, and returns the answer's body.
func (s *stage) comes(from Addr, user, room string, key, pass uint64) string {
	s.t.Helper()
	s.items = nil
	s.handle(Request{Op: OpEnter, From: from, User: user, Room: room, Key: key, Pass: pass})
	for _, it := range s.items {
		if it.To == from && (it.Kind == ItemReply || it.Kind == ItemEnter) {
			s.items = nil
			return string(it.Body) + it.End()
		}
	}
	s.t.Fatalf("no answer: %v", s.take())
	return ""
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %s, want %s", what, got, want)
	}
}

// settingStage is a stage whose rooms keep what is set of them for an hour when nobody is there.
func settingStage(t testing.TB, limits Limits) (s *stage, now *int64) {
	h := keeping(ReadersPresent)
	h.Vacancy = time.Hour
	return keepingStage(t, h, limits)
}

// What a program sets of a room that nobody is in holds for the first who enters, and for as long as anybody is there.
func TestSettings(t *testing.T) {
	s, _ := settingStage(t, Limits{Members: 3, Grace: testGrace})
	expect(t, "no room", s.known("r"), string(Absent))
	expect(t, "nothing", s.set(OpSet, "r", `{"locked":false,"capacity":0,"pass":0}`), `{}`)
	expect(t, "no room still", s.known("r"), string(Absent))
	expect(t, "capacity", s.set(OpSet, "r", `{"capacity":2}`), `{}`)
	expect(t, "password", s.set(OpSet, "r", `{"pass":7}`), `{}`)
	expect(t, "data", s.set(OpData, "r", `{"data":{"mode":"duel"}}`), `{}`)
	expect(t, "all of it", s.known("r"), `{"name":"r","members":0,"capacity":2,"password":true,"data":{"mode":"duel"}}`)

	refused := `{"code":500,"error":true,"reason":"password"}`
	expect(t, "no password", s.comes(at(0, 1), "a", "r", 0, 0), refused)
	expect(t, "another one", s.comes(at(0, 1), "a", "r", 0, 8), refused)
	expect(t, "the password", s.comes(at(0, 1), "a", "r", 11, 7), `{"users":["a"]}`)
	expect(t, "a program", s.comes(at(0, 2), "b", "r", 0, PassAll), `{"users":["a","b"]}`)
	full := `{"code":500,"error":true,"reason":"room_members"}`
	expect(t, "full", s.comes(at(0, 3), "c", "r", 0, 7), full)
	expect(t, "full for a program too", s.comes(at(0, 3), "c", "r", 0, PassAll), full)
	expect(t, "more", s.set(OpSet, "r", `{"capacity":9,"locked":true}`), `{}`)
	locked := `{"code":500,"error":true,"reason":"room_locked"}`
	expect(t, "locked", s.comes(at(0, 3), "c", "r", 0, 7), locked)
	expect(t, "a member by another session", s.comes(at(0, 4), "a", "r", 11, 0), `{"users":["a","b"]}`)
	s.handle(Request{Op: OpEnter, From: at(0, 2), User: "bb", Prev: "b", Room: "r"})
	s.items = nil
	s.cut(at(0, 4), "a", 70, 1)
	expect(t, "who was cut off", s.comes(at(0, 5), "a", "r", 11, 0), `{"users":["a","bb"]}`)
	expect(t, "a program, locked", s.comes(at(0, 3), "c", "r", 0, PassAll), `{"users":["a","bb","c"]}`)
	expect(t, "the operator's limit", s.comes(at(0, 6), "d", "r", 0, PassAll), full)
	expect(t, "unlocked", s.set(OpSet, "r", `{"locked":false,"capacity":0,"pass":0}`), `{}`)
	expect(t, "the data is left", s.known("r"), `{"name":"r","members":3,"data":{"mode":"duel"}}`)
	for i, name := range []string{"a", "bb", "c"} {
		s.leave([]Addr{at(0, 5), at(0, 2), at(0, 3)}[i], name, "r")
	}
	expect(t, "left", s.known("r"), `{"name":"r","members":0,"data":{"mode":"duel"}}`)
	expect(t, "no data", s.set(OpData, "r", `{"data":null}`), `{}`)
	if s.known("r") != string(Absent) || s.room("r") != nil || s.w.Stats().EmptyRooms != 0 || s.w.Stats().KeptBytes != 0 {
		t.Errorf("%s, %+v", s.known("r"), s.w.Stats())
	}
	for _, content := range []string{`{"locked":1}`, `{"capacity":-1}`, fmt.Sprintf(`{"capacity":%d}`, MaxCapacity+1), `{"pass":"x"}`, `{"other":1}`, `[]`, `{"data":"` + strings.Repeat("x", MaxData-1) + `"}`} {
		expect(t, content, s.set(OpSet, "r", content), string(Refused))
	}
	s.handle(Request{Op: OpSet, From: at(0, 1), Room: "r", Content: []byte(`{"locked":true}`)})
	s.want(`0 reply 1 {"code":500}`)
}

// Data is changed only by who knows what it is, if that is asked for.
func TestDataIsCompared(t *testing.T) {
	s, _ := settingStage(t, Limits{})
	expect(t, "none yet", s.set(OpData, "r", `{"was":null,"data":1}`), `{}`)
	expect(t, "there is some", s.set(OpData, "r", `{"was":null,"data":2}`), string(Conflict))
	expect(t, "another", s.set(OpData, "r", `{"data":2,"was":3}`), string(Conflict))
	expect(t, "that", s.set(OpData, "r", `{"data":2,"was":1}`), `{}`)
	expect(t, "it is", s.known("r"), `{"name":"r","members":0,"data":2}`)
	expect(t, "away with it", s.set(OpData, "r", `{"data":null,"was":2}`), `{}`)
	expect(t, "none", s.known("r"), string(Absent))
}

// What is set of a room that nobody is in lapses, an hour after it was set or the last member left, whether or not a Tick comes; with that the room.
func TestSettingsLapse(t *testing.T) {
	s, now := settingStage(t, Limits{})
	after := func(d time.Duration) { *now += int64(d) }
	s.set(OpSet, "r", `{"locked":true}`)
	after(time.Hour - time.Second)
	expect(t, "in time", s.comes(at(0, 1), "a", "r", 0, PassAll), `{"users":["a"]}`)
	after(5 * time.Hour)
	s.w.Tick()
	s.leave(at(0, 1), "a", "r")
	after(time.Hour - time.Second)
	s.w.Tick()
	expect(t, "left", s.known("r"), `{"name":"r","members":0,"locked":true}`)
	after(time.Second)
	expect(t, "for an hour", s.known("r"), string(Absent))
	if due := s.w.Due(); due == 0 || due > *now {
		t.Errorf("due at %d, it is %d", due, *now)
	}
	expect(t, "and open to all", s.comes(at(0, 2), "b", "r", 0, 0), `{"users":["b"]}`)
	expect(t, "another room", s.known("r"), `{"name":"r","members":1}`)
	s.set(OpSet, "q", `{"locked":true}`)
	after(2 * time.Hour)
	s.w.Tick()
	if s.room("q") != nil || s.w.Stats().Rooms != 1 || s.w.Stats().EmptyRooms != 0 {
		t.Errorf("after a Tick there is %v; %+v", s.room("q"), s.w.Stats())
	}
	// What was said before nobody is told any more, and what is set holds.
	s.say(at(0, 2), "b", "one")
	s.leave(at(0, 2), "b", "r")
	expect(t, "nobody is there, and nothing set", s.known("r"), string(Absent))
	s.set(OpSet, "r", `{"capacity":3}`)
	after(20 * time.Minute)
	s.w.Tick()
	expect(t, "only the messages are old", s.known("r"), `{"name":"r","members":0,"capacity":3}`)
	if n := s.w.Stats().Kept; n != 0 {
		t.Errorf("%d messages are kept", n)
	}
	checkState(t, &s.w.state)
}

// There are not more rooms that nobody is in, for what is set of them, than there may be: no new ones are made, and of those that are left the first goes.
func TestVacantRoomsAreBounded(t *testing.T) {
	s, now := keepingStage(t, History{Vacant: 2, Messages: 4, Bytes: 1000}, Limits{Rooms: 4})
	*now = int64(time.Second)
	for _, room := range []string{"a", "b"} {
		expect(t, room, s.set(OpSet, room, `{"locked":true}`), `{}`)
	}
	expect(t, "too many", s.set(OpSet, "c", `{"locked":true}`), string(RoomsRefused))
	expect(t, "of one that is there", s.set(OpSet, "a", `{"capacity":3}`), `{}`)
	s.enter(at(0, 1), "x", "c")
	expect(t, "of one that somebody is in", s.set(OpSet, "c", `{"locked":true}`), `{}`)
	s.leave(at(0, 1), "x", "c")
	s.w.Tick()
	expect(t, "set last", s.known("a"), `{"name":"a","members":0,"locked":true,"capacity":3}`)
	expect(t, "set first", s.known("b"), string(Absent))
	expect(t, "left last", s.known("c"), `{"name":"c","members":0,"locked":true}`)

	// They count in the rooms that there may be, and are not forgotten for others; what others keep is.
	for i, room := range []string{"d", "e"} {
		s.enter(at(0, 10+i), "x", room)
		s.send(at(0, 10+i), "x", room, Everybody, `"hi"`)
		s.leave(at(0, 10+i), "x", room)
	}
	s.enter(at(0, 20), "x", "f")
	s.enter(at(0, 21), "x", "g")
	if s.room("a") == nil || s.room("c") == nil || s.room("d") != nil || s.room("e") != nil || s.w.Stats().Rooms != 2 || s.w.Stats().EmptyRooms != 2 {
		t.Errorf("%+v", s.w.Stats())
	}
	expect(t, "no room for more", s.comes(at(0, 22), "x", "h", 0, 0), `{"code":500,"error":true,"reason":"rooms"}`)
	checkState(t, &s.w.state)
}

// A room of which something is set stays, so what was said there is not forgotten for a room more.
func TestSetRoomsKeepHistoryWhereOthersGo(t *testing.T) {
	s, _ := keepingStage(t, History{Messages: 4, Bytes: 1000}, Limits{Rooms: 2})
	for i, room := range []string{"set", "other"} {
		s.enter(at(0, 1+i), "x", room)
		s.send(at(0, 1+i), "x", room, Everybody, `"hi"`)
		if room == "set" {
			s.set(OpSet, room, `{"locked":true}`)
		}
		s.leave(at(0, 1+i), "x", room)
	}
	s.enter(at(0, 5), "x", "new")
	if s.room("new") == nil || s.room("other") != nil || s.room("set") == nil || s.room("set").history.told() != 1 {
		t.Errorf("%+v", s.w.Stats())
	}
	expect(t, "no room for more", s.comes(at(0, 6), "x", "more", 0, 0), `{"code":500,"error":true,"reason":"rooms"}`)
	if s.room("set").history.told() != 1 {
		t.Error("what was said is forgotten, and nothing is won")
	}
	checkState(t, &s.w.state)
}

// A partition that comes from another owner brings rooms that were set before those that are here: they lapse when they would have there, and the first goes first.
func TestSettingsThatHaveComeKeepTheirOrder(t *testing.T) {
	s, now := settingStage(t, Limits{})
	minutes := func(n int) { *now += int64(n) * int64(time.Minute) }
	minutes(1)
	s.set(OpSet, "b", `{"locked":true}`)
	minutes(20)
	s.set(OpSet, "a", `{"locked":true}`)
	minutes(20)
	s.set(OpSet, "c", `{"locked":true}`)
	var exports [3][]byte
	rooms := []string{"c", "a", "b"} // in which order they come
	for i, room := range rooms {
		exports[i] = s.w.Export(nil, Partition(room))
	}
	to, _ := settingStage(t, Limits{})
	to.w.history.Wall, to.w.nanos = s.w.history.Wall, s.w.nanos
	for i, room := range rooms {
		if err := to.w.Import(Partition(room), Epoch{}, exports[i]); err != nil {
			t.Fatal(err)
		}
	}
	to.w.Tick()
	there := func() (list string) {
		for _, room := range []string{"b", "a", "c"} {
			if to.room(room) != nil {
				list += room
			}
		}
		return list
	}
	for _, want := range []string{"bac", "ac", "c", ""} {
		if got := there(); got != want {
			t.Fatalf("there is %q, want %q", got, want)
		}
		minutes(20)
		if due := to.w.Due(); due != 0 && due <= *now {
			to.w.Tick()
		}
	}

	full, _ := settingStage(t, Limits{})
	full.w.history.Wall, full.w.nanos, full.w.history.Vacancy, full.w.history.Vacant = s.w.history.Wall, s.w.nanos, 0, 1
	for i, room := range rooms {
		if err := full.w.Import(Partition(room), Epoch{}, exports[i]); err != nil {
			t.Fatal(err)
		}
	}
	full.w.Tick()
	if full.room("c") == nil || full.room("a") != nil || full.room("b") != nil {
		t.Error("of more than there may be the last one is to be left")
	}
	checkState(t, &full.w.state)
}

// What rooms keep is forgotten for want of memory, but not what is set of them; and that counts.
func TestSettingsOutliveHistory(t *testing.T) {
	s, _ := keepingStage(t, History{Messages: 4, Bytes: 1000, Memory: 4000}, Limits{})
	for i := range 8 {
		room := fmt.Sprint("room", i)
		s.enter(at(0, 1+i), "x", room)
		s.send(at(0, 1+i), "x", room, Everybody, `"hi"`)
		s.set(OpSet, room, `{"locked":true}`)
		if i%2 == 0 {
			s.leave(at(0, 1+i), "x", room)
		}
	}
	for range 3 {
		s.w.Tick()
	}
	for i := range 8 {
		if x := s.room(fmt.Sprint("room", i)).set(); x == nil || !x.locked {
			t.Errorf("room %d is not locked any more", i)
		}
	}
	if n := s.w.Stats(); n.Kept != 0 || n.KeptBytes != 8*(historyCost+settingsCost) {
		t.Errorf("%+v", n)
	}
	checkState(t, &s.w.state)
}

// A room that is closed takes along what is set of it.
func TestSettingsEndWithTheRoom(t *testing.T) {
	s, _ := settingStage(t, Limits{})
	for _, members := range []int{0, 2} {
		s.set(OpSet, "r", `{"locked":true,"capacity":5}`)
		for i := range members {
			s.comes(at(0, 1+i), fmt.Sprint("x", i), "r", 0, PassAll)
			s.say(at(0, 1+i), fmt.Sprint("x", i), "hi")
		}
		s.handle(Request{Op: OpKick, From: at(9, 0), Room: "r", Target: Everybody, Content: []byte(`"over"`)})
		expect(t, "closed", s.known("r"), string(Absent))
	}
	checkState(t, &s.w.state)
}

// Rooms are told with what is set of them, also those that nobody is in; so many bytes at a time.
func TestRoomsTellSettings(t *testing.T) {
	s, now := settingStage(t, Limits{})
	s.enter(at(0, 1), "x", "r")
	s.set(OpData, "r", `{"data":[1]}`)
	s.w.Handle(&Request{Op: OpRooms, From: at(9, 0), Part: Partition("r"), Req: 1})
	if got := string(s.items[0].Body); got != `{"rooms":[{"name":"r","members":1,"data":[1]}],"more":false}` {
		t.Error(got)
	}
	n := 0
	for i := 0; n < 100; i++ {
		if room := fmt.Sprint("full", i); Partition(room) == Partition("r") {
			s.set(OpData, room, `{"data":"`+strings.Repeat("x", MaxData-2)+`"}`)
			n++
		}
	}
	s.items = nil
	s.w.Handle(&Request{Op: OpRooms, From: at(9, 0), Part: Partition("r"), Target: "full", Req: 1})
	if b := s.items[0].Body; len(b) > pageBytes+2*MaxData || len(b) < pageBytes || !strings.HasSuffix(string(b), `],"more":true}`) {
		t.Errorf("%d bytes, %s", len(b), b[len(b)-20:])
	}
	*now += int64(time.Hour)
	s.items = nil
	s.w.Handle(&Request{Op: OpRooms, From: at(9, 0), Part: Partition("r"), Target: "full", Req: 1})
	expect(t, "lapsed", string(s.items[0].Body), `{"rooms":[],"more":false}`)
}

// What is set of rooms that nobody is in counts at least what it takes.
func TestSettingsFootprint(t *testing.T) {
	const rooms = 50_000
	w := newWorker(func(OutletID) Outlet { return nowhere{} })
	h := keeping(ReadersPresent)
	h.Wall = func() int64 { return 1 }
	w.KeepHistory(h)
	before := heap()
	for i := range rooms {
		room := fmt.Sprint("room", i)
		w.Handle(&Request{Op: OpData, From: at(0, 0), Req: 1, Room: room, Part: Partition(room), Content: []byte(`{"data":{"mode":"duel","seats":2}}`)})
	}
	took, stats := heap()-before, w.Stats()
	if stats.EmptyRooms != rooms || took > stats.KeptBytes {
		t.Errorf("%d rooms take %d bytes and count as %d", stats.EmptyRooms, took, stats.KeptBytes)
	}
	t.Logf("%d bytes each, counted as %d", took/rooms, stats.KeptBytes/rooms)
	runtime.KeepAlive(w)
}

// sets is something that a program sets of a room, or asks of that.
func (p *plant) sets() (op Op, content []byte) {
	data := fmt.Sprint(`"data":`, []any{"null", 1, 2}[p.rng.IntN(3)])
	switch p.rng.IntN(6) {
	case 0:
		return OpSet, fmt.Appendf(nil, `{"locked":%v}`, p.rng.IntN(3) == 0)
	case 1:
		return OpSet, fmt.Appendf(nil, `{"capacity":%d}`, p.rng.IntN(4))
	case 2:
		return OpSet, fmt.Appendf(nil, `{"pass":%d}`, p.rng.IntN(3))
	case 3:
		return OpData, fmt.Appendf(nil, `{%s}`, data)
	case 4:
		return OpData, fmt.Appendf(nil, `{"was":%d,%s}`, p.rng.IntN(3), data)
	}
	return OpRoom, nil
}

// What is known of who has left becomes old where settings keep a room as it does elsewhere, also if the last member leaves later: it decides nothing then, whether a
// Tick has taken it out of memory or not.
func TestPastEndsWhereSettingsKeepARoom(t *testing.T) {
	for _, ticks := range []bool{false, true} {
		h := keeping(ReadersPresent)
		h.Bytes, h.Vacancy = messageCost+10, time.Hour
		s, now := keepingStage(t, h, Limits{})
		expect(t, "capacity", s.set(OpSet, "r", `{"capacity":9}`), `{}`)
		s.extendedEnter(at(0, 1), "a", 7, Extended{})
		s.extendedEnter(at(0, 2), "b", 9, Extended{})
		s.leave(at(0, 1), "a", "r")
		s.say(at(0, 2), "b", "too long to be kept")
		seen := s.room("r").seqOf(s.room("r").seq)
		s.extendedEnter(at(0, 3), "c", 0, Extended{}) // is told, and counted
		s.leave(at(0, 3), "c", "r")
		*now += int64(11 * time.Minute)
		if ticks {
			s.w.Tick()
		}
		s.leave(at(0, 2), "b", "r")
		if a := s.extendedEnter(at(0, 1), "a", 7, Extended{HasSince: true, Since: seen}); a.Complete == nil || *a.Complete {
			t.Errorf("with a Tick: %v; who left eleven minutes ago is told that it has missed nothing", ticks)
		}
	}
}
