package channel

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/seed"
)

// Who is there learns of a newcomer first, once an outlet; the newcomer gets its list and never its own onAdd; and an outlet
// without members gets nothing.
func TestEnter(t *testing.T) {
	s := newStage(t)
	s.enter(at(0, 1), "a", "r")
	s.want(`0 enter 1 #0 {"users":["a"]}`)
	s.enter(at(1, 2), "b", "r")
	s.want("0 "+userText(1, "onAdd", "b"), `1 enter 2 #1 {"users":["a","b"]}`)
	s.enter(at(0, 3), "c", "r")
	s.want("0 "+userText(2, "onAdd", "c"), "1 "+userText(2, "onAdd", "c"), `0 enter 3 #2 {"users":["a","b","c"]}`)
	s.leave(at(1, 2), "b", "r")
	s.want("0 " + userText(3, "onLeave", "b"))
	s.enter(at(256, 4), `d"`, "r") // of another node
	s.want(`0 push #4 onAdd {"route":"onAdd","user":"d\""}`, `256 enter 4 #4 {"users":["a","c","d\""]}`)
	if got := s.w.Stats(); got.Rooms != 1 || got.Members != 3 || got.Enters != 4 || got.Leaves != 1 || got.Pushes != 5 {
		t.Errorf("%+v", got)
	}
}

// A name is one session's. The same session may ask again, when an answer was lost, and nothing happens twice.
func TestEnterAgain(t *testing.T) {
	s := newStage(t)
	s.enter(at(0, 1), "a", "r")
	s.enter(at(1, 2), "b", "r")
	s.take()
	s.enter(at(1, 9), "a", "r")
	s.want(`1 reply 9 {"code":500,"error":true}`)
	s.enter(at(0, 1), "a", "r")
	s.want(`0 enter 1 #1 {"users":["a","b"]}`)
	if got := s.w.Stats(); got.Members != 2 || got.Enters != 2 || got.EntersRefused != 1 {
		t.Errorf("%+v", got)
	}
	s.enter(at(1, 9), "a", "other") // the name is the room's
	s.want(`1 enter 9 #0 {"users":["a"]}`)
}

// A rename is one step: out, the others told of both, and in. Alone in a room there is nobody to tell.
func TestRename(t *testing.T) {
	rename := func(s *stage, from Addr, prev, user string) {
		s.handle(Request{Op: OpEnter, From: from, Room: "r", User: user, Prev: prev})
	}
	s := newStage(t)
	s.enter(at(0, 1), "a", "r")
	first := s.items[0].Room
	s.take()
	rename(s, at(0, 1), "a", "b")
	second := s.items[1].Room
	s.want(`0 leave 1 #0`, `0 enter 1 #0 {"users":["b"]}`)
	if first == second || first.Partition() != Partition("r") || second.Partition() != Partition("r") {
		t.Errorf("rooms %x and %x", first, second)
	}
	s.enter(at(1, 2), "c", "r")
	s.enter(at(0, 3), "d", "r")
	s.take()
	rename(s, at(0, 1), "b", "e")
	s.want(`0 leave 1 #2`,
		"0 "+userText(3, "onLeave", "b"), "1 "+userText(3, "onLeave", "b"), "0 "+userText(4, "onAdd", "e"), "1 "+userText(4, "onAdd", "e"),
		`0 enter 1 #4 {"users":["c","d","e"]}`)
	rename(s, at(0, 1), "e", "d")
	s.want(`0 reply 1 {"code":500,"error":true}`)
	rename(s, at(0, 9), "d", "f") // d is somebody else's: a newcomer
	s.want("0 "+userText(5, "onAdd", "f"), "1 "+userText(5, "onAdd", "f"), `0 enter 9 #5 {"users":["c","d","e","f"]}`)
}

// Only the session that has the name can give it up.
func TestLeave(t *testing.T) {
	s := newStage(t)
	s.enter(at(0, 1), "a", "r")
	s.enter(at(0, 2), "b", "r")
	s.take()
	s.leave(at(0, 3), "b", "r")
	s.leave(at(1, 2), "b", "r")
	s.leave(at(0, 2), "a", "r")
	s.leave(at(0, 2), "b", "elsewhere")
	s.leave(at(0, 2), "nobody", "r")
	s.want()
	s.leave(at(0, 2), "b", "r")
	s.want("0 " + userText(2, "onLeave", "b"))
	s.leave(at(0, 2), "b", "r") // a second time
	s.leave(at(0, 1), "a", "r") // the last one
	s.want()
	if got := s.w.Stats(); got.Rooms != 0 || got.Members != 0 || got.Leaves != 2 {
		t.Errorf("%+v", got)
	}
}

// What is said goes to the room or to one, before the answer; who is not there is heard by nobody.
func TestSend(t *testing.T) {
	s := newStage(t)
	s.enter(at(0, 1), "a", "r")
	s.enter(at(1, 2), "b", "r")
	s.take()
	s.send(at(0, 1), "a", "r", Everybody, `"hi"`)
	chat := ` onChat {"msg":"hi","from":"a","target":"*"}`
	s.want("0 push #2"+chat, "1 push #2"+chat, "0 reply 1 {}")
	s.send(at(1, 2), "b", "r", "a", `[1]`)
	s.want(`0 direct 1 #2 onChat {"msg":[1],"from":"b","target":"a"}`, "1 reply 2 {}")
	s.send(at(1, 2), "b", "r", "b", `""`)
	s.want(`1 direct 2 #2 onChat {"msg":"","from":"b","target":"b"}`, "1 reply 2 {}")
	s.ask(Request{Op: OpSend, From: at(0, 1), User: "a", Room: "r", Target: "b", Content: []byte(`1`)}) // a notify
	s.want(`1 direct 2 #2 onChat {"msg":1,"from":"a","target":"b"}`)
	for _, r := range []Request{
		{From: at(0, 1), User: "a", Room: "r", Target: "c"},
		{From: at(0, 1), User: "a", Room: "r", Target: ""},
		{From: at(0, 1), User: "a", Room: "q", Target: Everybody},
		{From: at(0, 1), User: "b", Room: "r", Target: Everybody}, // somebody else's name
		{From: at(0, 1), User: "c", Room: "r", Target: Everybody},
	} {
		r.Op = OpSend
		s.handle(r)
		s.want(`0 reply 1 {"code":500}`)
	}
	if got := s.w.Stats(); got.Sends != 4 || got.SendsRefused != 5 || got.Busy != 0 {
		t.Errorf("%+v", got)
	}
	s.handle(Request{Op: ops, From: at(0, 1)})
	s.want(`0 reply 1 {"code":500}`)
}

// The server's own pushes go to a room or to one of its members like a message, but from nobody.
func TestPushOfTheServer(t *testing.T) {
	s := newStage(t)
	push := func(room, target string) {
		s.handle(Request{Op: OpPush, From: at(9, 9), Room: room, Target: target, Route: "onNews", Content: []byte(`{"n":1}`)})
	}
	s.enter(at(0, 1), "a", "r")
	s.enter(at(1, 2), "b", "r")
	s.take()
	push("r", Everybody)
	s.want(`0 push #2 onNews {"n":1}`, `1 push #2 onNews {"n":1}`, "9 reply 9 {}")
	push("r", "b")
	s.want(`1 direct 2 #2 onNews {"n":1}`, "9 reply 9 {}")
	push("r", "c")
	push("q", Everybody)
	s.want(`9 reply 9 {"code":404}`, `9 reply 9 {"code":404}`)
	s.outlet(1).full = func(RoomID) bool { return true }
	push("r", Everybody)
	push("r", "b")
	s.want(`9 reply 9 {"code":500}`, `9 reply 9 {"code":500}`)
	if n := s.w.Stats().Busy; n != 2 {
		t.Errorf("busy counted %d times", n)
	}
}

// A kick is only told to the session's loop, full or not: the member leaves when the session has ended.
func TestKick(t *testing.T) {
	s := newStage(t)
	kick := func(room, name string) {
		s.handle(Request{Op: OpKick, From: at(9, 9), Room: room, Target: name, Content: []byte(`"be \"nice\""`)})
	}
	s.enter(at(0, 1), "a", "r")
	s.take()
	s.outlet(0).full = func(RoomID) bool { return true }
	kick("r", "a")
	s.want(`0 kick 1 #0 be "nice"`, "9 reply 9 {}")
	kick("r", "b")
	kick("q", "a")
	s.want(`9 reply 9 {"code":404}`, `9 reply 9 {"code":404}`)
	if got := s.members("r"); got != `{"users":["a"]}` {
		t.Error(got)
	}
}

// Nobody enters a room whose list of names could then not be sent to anybody.
func TestListBound(t *testing.T) {
	s := newStage(t)
	name := func(i int) string { return strings.Repeat(string(rune('a'+i)), maxListed/12) }
	for i := range 3 { // four of them would be as long as may be, but for quotes and commas
		s.enter(at(0, i), name(i), "r")
	}
	s.items = nil
	s.enter(at(0, 3), name(3), "r")
	s.want(`0 reply 3 {"code":500,"error":true}`)
	s.leave(at(0, 0), name(0), "r")
	s.items = nil
	s.enter(at(0, 3), name(3), "r")
	if last := s.items[len(s.items)-1]; last.Kind != ItemEnter {
		t.Errorf("refused although there is room again: kind %d", last.Kind)
	}
}

// Over any joins, leaves and replaces, in small rooms and in large ones, the list is who is there in order of entry, every push has the
// next number, and an outlet is told everything from its first member to its last, and nothing else.
func TestRandomJoinsAndLeaves(t *testing.T) {
	for _, size := range []int{smallRoom, 4 * smallRoom, 60 * smallRoom} {
		t.Run(fmt.Sprintf("size=%d", size), func(t *testing.T) {
			rng := seed.Rand(t)
			s := newStage(t)
			type resident struct {
				name string
				addr Addr
			}
			present := map[string][]resident{} // by room
			heard := map[string]uint64{}       // by room and outlet: the last number; absent without members
			last := map[string]uint64{}        // by room
			rooms := []string{"small", "large"}
			for step := range 20 * size {
				room := rooms[rng.IntN(2)]
				list := present[room]
				most := map[string]int{"small": smallRoom, "large": size}[room]
				before := map[int]int{}
				for _, r := range list {
					before[outletOf(r.addr)]++
				}
				if len(list) == 0 || len(list) < most && rng.IntN(2+len(list)*2/most) < 2 {
					r := resident{fmt.Sprintf("n%d", step), at(rng.IntN(3), step)}
					s.handle(Request{Op: OpEnter, From: r.addr, User: r.name, Room: room, Key: 7})
					list = append(list, r)
					names := make([]string, len(list))
					for i := range list {
						names[i] = list[i].name
					}
					want := `{"users":["` + strings.Join(names, `","`) + `"]}`
					if it := s.items[len(s.items)-1]; it.Kind != ItemEnter || string(it.Body)+it.End() != want {
						t.Fatalf("step %d: got %v, want %s", step, it, want)
					}
				} else if i := rng.IntN(len(list)); rng.IntN(4) == 0 {
					old, r := list[i], resident{list[i].name, at(rng.IntN(3), step)}
					s.handle(Request{Op: OpEnter, From: r.addr, User: r.name, Room: room, Key: 7})
					list = slices.Clone(list)
					list[i] = r
					kick, enter := s.items[0], s.items[len(s.items)-1]
					if len(s.items) != 2 || kick.Kind != ItemKick || kick.To != old.addr || enter.Kind != ItemEnter || enter.To != r.addr || enter.Seq != last[room] {
						t.Fatalf("step %d: replaced %v by %v: %v", step, old, r, s.items)
					}
					if before[outletOf(old.addr)] == 1 { // it is counted no more, and is told nothing from now on
						delete(heard, fmt.Sprint(room, outletOf(old.addr)))
					}
					clear(before) // nobody is told
				} else {
					r := list[i]
					s.leave(r.addr, r.name, room)
					list = slices.Delete(slices.Clone(list), i, i+1)
					if before[outletOf(r.addr)]--; before[outletOf(r.addr)] == 0 {
						delete(before, outletOf(r.addr))
						delete(heard, fmt.Sprint(room, outletOf(r.addr)))
					}
				}
				present[room] = list
				told := map[int]int{}
				for _, it := range s.items {
					key := fmt.Sprint(room, it.outlet)
					switch it.Kind {
					case ItemPush:
						told[it.outlet]++
						if it.Seq != last[room]+1 || it.Seq != heard[key]+1 {
							t.Fatalf("step %d: %v after #%d, of which the outlet has #%d", step, it, last[room], heard[key])
						}
						heard[key] = it.Seq
					case ItemEnter:
						if seq, has := heard[key]; has && seq != it.Seq {
							t.Fatalf("step %d: %v, but the outlet has #%d", step, it, seq)
						}
						heard[key] = it.Seq
					}
				}
				for id := range before {
					if told[id] != 1 {
						t.Fatalf("step %d: outlet %d was told %d times", step, id, told[id])
					}
				}
				if len(told) != len(before) {
					t.Fatalf("step %d: told %v, members at %v", step, told, before)
				}
				if len(told) > 0 {
					last[room]++
				}
				if len(list) == 0 {
					last[room] = 0 // forgotten
				}
				s.items = s.items[:0]
			}
		})
	}
}

// A full outlet refuses whatever would add to it, before anything has changed. A leave is never refused.
func TestFullOutlets(t *testing.T) {
	full := func(RoomID) bool { return true }
	type step func(s *stage)
	for _, tc := range []struct {
		name    string
		outlet  int // the full one
		of      func(RoomID) bool
		do      step
		refusal string // "": it goes through
	}{
		{"enter a room with members there", 1, full, func(s *stage) { s.enter(at(0, 9), "z", "r") }, `0 reply 9 {"code":500,"error":true}`},
		{"enter from there", 2, full, func(s *stage) { s.enter(at(2, 9), "z", "r") }, `2 reply 9 {"code":500,"error":true}`},
		{"enter an empty room from there", 2, full, func(s *stage) { s.enter(at(2, 9), "z", "new") }, `2 reply 9 {"code":500,"error":true}`},
		{"rename", 1, full, func(s *stage) {
			s.handle(Request{Op: OpEnter, From: at(0, 1), Room: "r", User: "z", Prev: "a"})
		}, `0 reply 1 {"code":500,"error":true}`},
		{"send to all", 1, full, func(s *stage) { s.send(at(0, 1), "a", "r", Everybody, `1`) }, `0 reply 1 {"code":500}`},
		{"send to one there", 1, full, func(s *stage) { s.send(at(0, 1), "a", "r", "b", `1`) }, `0 reply 1 {"code":500}`},
		{"send to one elsewhere", 1, full, func(s *stage) { s.send(at(0, 1), "a", "r", "a", `1`) }, ""},
		{"enter a room without members there", 1, full, func(s *stage) { s.enter(at(0, 9), "z", "new") }, ""},
		{"enter again", 1, full, func(s *stage) { s.enter(at(1, 2), "b", "r") }, ""},
		{"leave", 1, full, func(s *stage) { s.leave(at(1, 2), "b", "r") }, ""},
		{"ask for the members", 1, full, func(s *stage) { s.handle(Request{Op: OpMembers, From: at(1, 2), Room: "r"}) }, ""},
		{"send to all, the other room is crowded", 1, func(r RoomID) bool { return r.Partition() == Partition("other") }, func(s *stage) { s.send(at(0, 1), "a", "r", Everybody, `1`) }, ""},
		{"send to all, the room is crowded", 1, func(r RoomID) bool { return r.Partition() == Partition("r") }, func(s *stage) { s.send(at(0, 1), "a", "r", Everybody, `1`) }, `0 reply 1 {"code":500}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStage(t)
			s.enter(at(0, 1), "a", "r")
			s.enter(at(1, 2), "b", "r")
			s.enter(at(1, 3), "c", "other")
			s.take()
			s.outlet(tc.outlet).full = tc.of
			tc.do(s)
			if tc.refusal == "" {
				if got := s.take(); len(got) == 0 || strings.Contains(fmt.Sprint(got), "500") {
					t.Fatalf("got %q", got)
				}
				if n := s.w.Stats().Busy; n != 0 {
					t.Errorf("busy counted %d times", n)
				}
				return
			}
			s.want(tc.refusal)
			if got := s.w.Stats(); got.Busy != 1 || got.EntersRefused+got.SendsRefused != 1 || got.Rooms != 2 || got.Members != 3 {
				t.Errorf("%+v", got)
			}
			s.outlet(tc.outlet).full = nil
			s.send(at(0, 1), "a", "r", Everybody, `1`) // the next number, as if nothing had been
			if first := s.items[0]; first.Kind != ItemPush || first.Seq != 2 {
				t.Errorf("the next push is %v", first)
			}
			s.items = nil
			if got := s.members("r"); got != `{"users":["a","b"]}` {
				t.Error(got)
			}
		})
	}
}

// The first panic in a room costs the request that panicked, the second closes the room, the other rooms notice neither.
func TestPanics(t *testing.T) {
	boom := func(RoomID) bool { panic("as the test wants it") }
	for _, tc := range []struct {
		name    string
		do      func(s *stage)
		refusal string
	}{
		{"send", func(s *stage) { s.send(at(0, 1), "a", "r", Everybody, `1`) }, `0 reply 1 {"code":500}`},
		{"enter", func(s *stage) { s.enter(at(0, 9), "z", "r") }, `0 reply 9 {"code":500,"error":true}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStage(t)
			s.enter(at(0, 1), "a", "r")
			s.enter(at(1, 2), "b", "r")
			s.enter(at(1, 3), "c", "other")
			s.take()
			s.outlet(1).full = boom
			tc.do(s)
			s.want(tc.refusal)
			s.outlet(1).full = nil
			s.send(at(1, 2), "b", "r", Everybody, `1`)
			chat := ` onChat {"msg":1,"from":"b","target":"*"}`
			s.want("0 push #2"+chat, "1 push #2"+chat, "1 reply 2 {}")

			s.outlet(1).full = boom
			tc.do(s)
			s.want(`0 kick 1 #2 room closed after an internal error`, `1 kick 2 #2 room closed after an internal error`, tc.refusal)
			s.outlet(1).full = nil
			if got := s.w.Stats(); got.Panics != 2 || got.Rooms != 1 || got.Members != 1 {
				t.Errorf("%+v", got)
			}
			s.leave(at(0, 1), "a", "r") // as the kicked session's end does
			s.want()
			if got := s.members("other"); got != `{"users":["c"]}` {
				t.Error(got)
			}
			s.enter(at(0, 5), "a", "r")
			s.want(`0 enter 5 #0 {"users":["a"]}`)
		})
	}
}

// An outlet that panics loses what it was given: its loop finds the gap. The others get theirs, and the worker goes on; the second time it
// closes the room.
func TestPanicInPost(t *testing.T) {
	s := newStage(t)
	s.enter(at(0, 1), "a", "r")
	s.enter(at(1, 2), "b", "r")
	s.take()
	s.outlet(1).post = func(it Item) {
		if it.Kind == ItemPush {
			panic("as the test wants it")
		}
	}
	chat := ` onChat {"msg":1,"from":"a","target":"*"}`
	s.send(at(0, 1), "a", "r", Everybody, `1`)
	s.want("0 push #2"+chat, `0 reply 1 {}`)
	s.send(at(0, 1), "a", "r", "a", `1`)
	s.want(`0 direct 1 #2 onChat {"msg":1,"from":"a","target":"a"}`, "0 reply 1 {}")
	s.send(at(0, 1), "a", "r", Everybody, `1`)
	s.want("0 push #3"+chat, `0 reply 1 {}`, `0 kick 1 #3 room closed after an internal error`, `1 kick 2 #3 room closed after an internal error`)
	if got := s.w.Stats(); got.Rooms != 0 || got.Members != 0 || got.Panics != 2 {
		t.Errorf("%+v", got)
	}
}

// Members come and go without the worker growing.
func TestSlotsAreReused(t *testing.T) {
	const most = 50
	s := newStage(t)
	for i := range 100_000 {
		room := fmt.Sprint("r", i%7)
		s.enter(at(i%3, i), fmt.Sprint("n", i), room)
		if j := i - most + 1; j >= 0 {
			s.leave(at(j%3, j), fmt.Sprint("n", j), fmt.Sprint("r", j%7))
		}
		s.items = s.items[:0]
	}
	st := &s.w.state
	if n := len(st.members); n > most || len(st.free)+len(st.index) != n || len(st.index) != most-1 || st.rooms != 7 {
		t.Errorf("%d slots, %d free, %d in use, %d rooms", n, len(st.free), len(st.index), st.rooms)
	}
}

// A push is shared by several outlets, and only then keeps its frames.
func TestPushesToSeveralOutletsAreShared(t *testing.T) {
	s := newStage(t)
	s.enter(at(0, 1), "a", "r")
	s.take()
	say := func() (pushes []*codec.Push) {
		s.send(at(0, 1), "a", "r", Everybody, `1`)
		for _, it := range s.items {
			if it.Kind == ItemPush {
				pushes = append(pushes, it.Push)
			}
		}
		s.items = nil
		return pushes
	}
	if p := say(); len(p) != 1 || p[0].Shared != nil {
		t.Errorf("one outlet: %d pushes, shared %v", len(p), p[0].Shared != nil)
	}
	s.enter(at(1, 2), "b", "r")
	s.take()
	if p := say(); len(p) != 2 || p[0] != p[1] || p[0].Shared == nil {
		t.Errorf("two outlets: %d pushes", len(p))
	}
}

// Partitions of room names are for ever: a cluster's nodes must agree on them across versions.
func TestPartition(t *testing.T) {
	for room, want := range map[string]uint16{"": 2166136261 % Partitions, "a": 0xe40c292c % Partitions, "foobar": 0xbf9cf968 % Partitions} {
		if got := Partition(room); got != want {
			t.Errorf("%q: %d, want %d", room, got, want)
		}
	}
}

// Of thousands of messages each is numbered, posted to every outlet that has members, and only then answered.
func TestNoPushIsLost(t *testing.T) {
	s := newStage(t)
	s.enter(at(0, 1), "a", "r")
	s.enter(at(1, 2), "b", "r")
	seq := s.room("r").seq
	for i := range 5000 {
		s.items = s.items[:0]
		s.send(at(i%2, 1+i%2), "ab"[i%2:][:1], "r", Everybody, fmt.Sprintf(`"#%d."`, i))
		seq++
		if len(s.items) != 3 || s.items[0].outlet+s.items[1].outlet != 1 || s.items[2].Kind != ItemReply || string(s.items[2].Body) != string(Done) {
			t.Fatalf("message %d: %v", i, s.items)
		}
		for _, it := range s.items[:2] {
			if it.Kind != ItemPush || it.Seq != seq || !strings.Contains(string(it.Push.Body), fmt.Sprintf(`"#%d."`, i)) {
				t.Fatalf("message %d: %v", i, s.items)
			}
		}
	}
}
