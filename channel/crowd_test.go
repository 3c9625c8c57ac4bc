package channel

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/race"
	"github.com/pomelod/pomelod/internal/seed"
)

// names is the answer to an enter, or a page of members.
type names struct {
	Users []string
	Count int
	More  *bool
	Next  string
	Seq   string
	Code  int
}

func namesOf(t testing.TB, body string) (n names) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &n); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return n
}

// read is a page of members as a member is told it.
func (s *stage) read(from Addr, user, room string, after string, limit int) names {
	s.t.Helper()
	x := &Extended{Most: uint32(limit)}
	if after != "" {
		x.Since, _ = codec.ParseSeq(after)
		x.HasSince = true
	}
	s.items = nil
	s.handle(Request{Op: OpMembers, From: from, User: user, Room: room, Ext: x})
	if len(s.items) != 1 || s.items[0].Kind != ItemReply || s.items[0].Req != s.req {
		s.t.Fatalf("members answered %v", s.take())
	}
	body := string(s.items[0].Body) + s.items[0].End()
	s.items = nil
	return namesOf(s.t, body)
}

// Whoever is in a room for as long as somebody reads its members, in pages of any size, is told exactly once, in order of entry, however others come, go, change their names and
// take each other's places, and wherever the room is meanwhile. Nobody is told who was never there.
func TestMembersAreToldOnce(t *testing.T) {
	rng := seed.Rand(t)
	for round := range 6 {
		s := newStage(t)
		s.w.SetLimits(Limits{List: []int{0, 50, 5000}[round%3]}, new(atomic.Int64), func() int64 { return 0 })
		w, number := s.w, 0
		type one struct {
			addr Addr
			key  uint64
		}
		here := map[string]*one{}
		var list []string // who is here, in no order
		enter := func() {
			number++
			name := fmt.Sprint("n", number)
			o := &one{addr: at(rng.IntN(3), number), key: uint64(rng.IntN(2)) * uint64(2*number+1)}
			s.handle(Request{Op: OpEnter, From: o.addr, User: name, Room: "r", Key: o.key})
			here[name], list = o, append(list, name)
		}
		leave := func(i int) string {
			name := list[i]
			list[i] = list[len(list)-1]
			list = list[:len(list)-1]
			delete(here, name)
			return name
		}
		size := []int{30, 700, 3000}[rng.IntN(3)]
		for range size {
			enter()
		}
		type reader struct {
			after string
			told  []string
			all   map[string]bool // who was here at any time
			there map[string]bool // who was here all the time
		}
		var readers []*reader
		begin := func() *reader {
			r := &reader{all: map[string]bool{}, there: map[string]bool{}}
			for name := range here {
				r.all[name], r.there[name] = true, true
			}
			return r
		}
		finished := 0
		for step := 0; finished < 12; step++ {
			if len(readers) < 3 {
				readers = append(readers, begin())
			}
			for range rng.IntN(20) {
				switch n := rng.IntN(20); {
				case n < 9 || len(list) < 5:
					enter()
				case n < 17 && len(list) > size/2:
					i := rng.IntN(len(list))
					if rng.IntN(3) == 0 { // from the end of the list, where pages are not yet
						i = len(list) - 1
					}
					o := here[list[i]]
					name := leave(i)
					s.leave(o.addr, name, "r")
					for _, r := range readers {
						delete(r.there, name)
					}
				case n < 18: // another name
					i := rng.IntN(len(list))
					o := here[list[i]]
					old := leave(i)
					number++
					name := fmt.Sprint("n", number)
					s.handle(Request{Op: OpEnter, From: o.addr, User: name, Prev: old, Room: "r", Key: o.key})
					here[name], list = &one{addr: o.addr, key: o.key}, append(list, name)
					for _, r := range readers {
						delete(r.there, old)
					}
				case n < 19: // another session in its place
					name := list[rng.IntN(len(list))]
					if o := here[name]; o.key != 0 {
						number++
						o.addr = at(rng.IntN(3), number)
						s.handle(Request{Op: OpEnter, From: o.addr, User: name, Room: "r", Key: o.key})
					}
				case rng.IntN(10) == 0: // the room goes elsewhere
					part := Partition("r")
					other := newWorker(w.outlet)
					other.SetLimits(w.limits, new(atomic.Int64), w.nanos)
					other.Release(part)
					if err := other.Import(part, testEpoch, w.Export(nil, part)); err != nil {
						t.Fatal(err)
					}
					s.w, w = other, other
				}
				for _, r := range readers { // who has entered, if somebody has
					r.all[list[len(list)-1]] = true
				}
			}
			s.items = nil
			i := rng.IntN(len(readers))
			r, me := readers[i], list[rng.IntN(len(list))]
			page := s.read(here[me].addr, me, "r", r.after, 1+rng.IntN(600))
			if page.Count != len(list) {
				t.Fatalf("counts %d, there are %d", page.Count, len(list))
			}
			r.told = append(r.told, page.Users...)
			if r.after = page.Next; r.after != "" {
				continue
			}
			times := map[string]int{}
			for _, name := range r.told {
				if times[name]++; times[name] > 1 || !r.all[name] {
					t.Fatalf("round %d: %s is told %d times, and was here: %v", round, name, times[name], r.all[name])
				}
			}
			for name := range r.there {
				if times[name] != 1 {
					t.Fatalf("round %d: %s was here all the time, and is told %d times", round, name, times[name])
				}
			}
			if !slices.IsSortedFunc(r.told, func(a, b string) int { return numberIn(a) - numberIn(b) }) {
				t.Fatalf("round %d: not in order of entry", round)
			}
			readers = slices.Delete(readers, i, i+1)
			finished++
		}
		checkState(t, &s.w.state)
	}
}

func numberIn(name string) (n int) {
	_, _ = fmt.Sscanf(name, "n%d", &n)
	return n
}

// Who may read pages, and what comes of bad cursors and bounds.
func TestWhoMayReadMembers(t *testing.T) {
	s := newStage(t)
	for i := range 1200 {
		s.enter(at(0, i), fmt.Sprint("n", i), "r")
	}
	s.enter(at(1, 5000), "stranger", "q")
	for _, tc := range []struct {
		name       string
		from       Addr
		user, room string
		after      string
		limit      int
		code       int
		users      int
	}{
		{"a member", at(0, 1), "n1", "r", "", 200, 0, 200},
		{"a member that wants more than there may be", at(0, 1), "n1", "r", "", 1e6, 0, pageMembers},
		{"a member that wants none", at(0, 1), "n1", "r", "", 0, 0, 1},
		{"somebody under another's name", at(0, 2), "n1", "r", "", 200, 500, 0},
		{"who is elsewhere", at(1, 5000), "stranger", "r", "", 200, 500, 0},
		{"a room that is not", at(1, 5000), "stranger", "none", "", 200, 500, 0},
		{"a cursor of another room", at(0, 1), "n1", "r", "zzz.7", 200, 500, 0},
		{"a cursor of nothing", at(0, 1), "n1", "r", "nonsense", 200, 500, 0},
		{"a cursor beyond the last", at(0, 1), "n1", "r", cursor(s, 1201), 200, 500, 0},
		{"a cursor far beyond it", at(0, 1), "n1", "r", cursor(s, 1<<32+5), 200, 500, 0},
		{"the last cursor", at(0, 1), "n1", "r", cursor(s, 1200), 200, 0, 0},
	} {
		got := s.read(tc.from, tc.user, tc.room, tc.after, tc.limit)
		if got.Code != tc.code || len(got.Users) != tc.users || tc.code == 0 && got.Count != 1200 {
			t.Errorf("%s: %d names, %+v", tc.name, len(got.Users), got)
		}
	}
	s.outlet(0).full = func(RoomID) bool { return true }
	if got := s.read(at(0, 1), "n1", "r", "", 200); got.Code != 500 {
		t.Errorf("whose outlet is full is told %d names", len(got.Users))
	}
	if n := s.w.Stats().MemberPages; n != 4 {
		t.Errorf("%d pages are counted", n)
	}
	long := strings.Repeat("x", 1000)
	for i := range 300 {
		s.enter(at(1, 6000+i), fmt.Sprint(long, i), "long")
	}
	if got := s.read(at(1, 6000), long+"0", "long", "", 500); len(got.Users) != 66 || got.Next == "" {
		t.Errorf("a page has %d names of 1000 bytes", len(got.Users))
	}
}

// A room is small until it has more than so many members, and large until it is empty. The model says what everybody is told: in a small room
// of who comes and goes, and all names; in a large one the newest, and, extended sessions only, how many there are: at once, then within two seconds of a change and a tick, and never more often.
func TestLargeRooms(t *testing.T) {
	rng := seed.Rand(t)
	const list, second = 20, int64(time.Second)
	for range race.Fewer(8) {
		s, now := limitedStage(t, Limits{List: list})
		var here []string // in order of entry
		at := map[string]Addr{}
		large, number := false, 0
		toldAt, changedAt := int64(0), int64(-1) // of onCount; of the first change since, -1: none
		toldCount, joined, left := 0, 0, 0
		check := func(what string, others []string, own string) {
			t.Helper()
			var got []string
			for _, it := range s.items {
				switch {
				case it.Kind == ItemPush && it.Push.Route == "onCount":
					var c struct{ Count, Joined, Left int }
					_ = json.Unmarshal(it.Push.Body, &c)
					if !it.Push.ForExtended || it.Push.Seq == 0 || c.Count != len(here) || c.Joined != joined || c.Left != left || toldCount+joined-left != c.Count {
						t.Fatalf("%s: told %s; there are %d, %d + %d - %d", what, it.Push.Body, len(here), toldCount, joined, left)
					}
					if changedAt < 0 || large && toldAt >= 0 && *now-toldAt < countEvery {
						t.Fatalf("%s: told %s, %d ms after the last time, changed %v", what, it.Push.Body, (*now-toldAt)/1e6, changedAt >= 0)
					}
					toldAt, changedAt, toldCount, joined, left = *now, -1, c.Count, 0, 0
				case it.Kind == ItemPush:
					got = append(got, it.Push.Route+" "+string(it.Push.Body))
				case it.Kind == ItemEnter:
					n := namesOf(t, string(it.Body)+it.End())
					want := here
					if large {
						want = here[max(0, len(here)-newestMembers):]
						if n.Count != len(here) || n.More == nil || *n.More != (len(here) > newestMembers) {
							t.Fatalf("%s: %+v of %d", what, n, len(here))
						}
					} else if n.Count != 0 || n.More != nil {
						t.Fatalf("%s: %+v in a small room", what, n)
					}
					if !slices.Equal(n.Users, want) || n.Users[len(n.Users)-1] != own {
						t.Fatalf("%s: told %v, there are %v", what, n.Users, here)
					}
				}
			}
			if !slices.Equal(got, others) {
				t.Fatalf("%s: others are told %v, want %v", what, got, others)
			}
			s.items = nil
		}
		for range 3000 {
			*now += rng.Int64N(second / 4)
			growing := *now/(60*second)%2 == 0
			switch n := rng.IntN(10); {
			case n == 0:
				before := changedAt
				s.w.Tick()
				check("a tick", nil, "")
				if before >= 0 && *now-max(before, toldAt) >= countEvery && changedAt >= 0 {
					t.Fatalf("a change is %d ms old, and nobody is told", (*now-before)/1e6)
				}
			case len(here) == 0 || n < 6 && growing || n < 2:
				number++
				name := fmt.Sprint("n", number)
				at[name] = addrAt(number)
				var others []string
				if len(here) > 0 && !large && len(here) < list {
					others = []string{fmt.Sprintf(`onAdd {"route":"onAdd","user":"%s"}`, name)}
				}
				here = append(here, name)
				if joined++; !large && len(here) > list {
					large, toldAt, toldCount, joined, left = true, -countEvery, len(here)-1, 1, 0
				}
				if large && changedAt < 0 {
					changedAt = *now
				}
				if !large {
					joined = 0
				}
				s.enter(at[name], name, "r")
				check("an enter", others, name)
				if large && len(here) == list+1 && toldAt < 0 {
					t.Fatal("the room is large, and nobody is told")
				}
			default:
				i := rng.IntN(len(here))
				name := here[i]
				here = slices.Delete(here, i, i+1)
				var others []string
				if !large && len(here) > 0 {
					others = []string{fmt.Sprintf(`onLeave {"route":"onLeave","user":"%s"}`, name)}
				}
				if large {
					left++
					if changedAt < 0 {
						changedAt = *now
					}
				}
				if len(here) == 0 {
					large, changedAt, joined, left = false, -1, 0, 0
				}
				s.leave(at[name], name, "r")
				check("a leave", others, "")
			}
			if want := map[bool]int{true: 1}[large]; s.w.Stats().LargeRooms != want {
				t.Fatalf("%d large rooms, want %d", s.w.Stats().LargeRooms, want)
			}
		}
		checkState(t, &s.w.state)
	}
}

// cursor is that behind the entry of a serial.
func cursor(s *stage, serial uint64) string { return string(s.room("r").seqOf(serial).Append(nil)) }

func addrAt(n int) Addr { return at(0, n) }

// Nothing is due of a large room of which everything is told, or that has ended; many rooms at once are told in slices.
func TestQuietLargeRooms(t *testing.T) {
	s, now := limitedStage(t, Limits{List: 1})
	var rooms []string
	for i := 0; len(rooms) < 2*tickEntries; i++ {
		if name := fmt.Sprint("r", i); Partition(name) == Partition("r0") {
			rooms = append(rooms, name)
		}
	}
	for i, room := range rooms {
		s.enter(at(0, 2*i+1), "a", room)
		s.enter(at(0, 2*i+2), "b", room)
	}
	if s.w.Due() != 0 || s.w.Stats().LargeRooms != len(rooms) {
		t.Fatalf("due at %d, %d large rooms", s.w.Due(), s.w.Stats().LargeRooms)
	}
	for i, room := range rooms {
		s.enter(at(0, 10_000+i), "c", room)
	}
	if s.w.Due() != countEvery {
		t.Errorf("due at %d", s.w.Due())
	}
	*now = countEvery - 1
	s.items = nil
	s.w.Tick()
	s.want()
	*now = countEvery
	for left := len(rooms); left > 0; left -= tickEntries {
		s.items = nil
		if s.w.Tick(); len(s.items) != tickEntries {
			t.Fatalf("%d rooms are told in a slice", len(s.items))
		}
	}
	if s.w.Due() != 0 {
		t.Errorf("due at %d when all are told", s.w.Due())
	}
	s.leave(at(0, 1), "a", rooms[0])
	s.leave(at(0, 2), "b", rooms[0])
	s.leave(at(0, 10_000), "c", rooms[0])
	*now += 2 * countEvery
	s.items = nil
	s.w.Tick()
	s.want()
	if n := s.w.Stats(); s.w.Due() != 0 || n.LargeRooms != len(rooms)-1 || n.Counts != uint64(len(rooms)) {
		t.Errorf("due at %d, %+v", s.w.Due(), n)
	}
	s.enter(at(0, 1), "a", rooms[0]) // it begins small
	s.enter(at(1, 2), "b", rooms[0])
	if n := s.w.Stats().LargeRooms; n != len(rooms) {
		t.Errorf("%d large rooms", n)
	}
}

// Serials that have come to their end begin anew, in order, and followers do the same.
func TestSerialsBeginAnew(t *testing.T) {
	part := Partition("r")
	s, now := limitedStage(t, Limits{List: 10})
	for i := range 300 {
		s.enter(at(0, i), fmt.Sprint("n", i), "r")
	}
	s.w.state.parts[part].rooms["r"].serial = maxSerial - 1
	s.w.state.parts[part].rooms["r"].crowd.told.serial = maxSerial - 1 - 290
	f := NewWorker(nil)
	f.Shadow(part)
	if whole, err := f.ApplySnapshot(part, s.w.Export(nil, part)); !whole || err != nil {
		t.Fatal(whole, err)
	}
	s.w.KeepBack(&kept{stage: s, records: func(part uint16, records []Record) {
		if err := f.Apply(part, parsed(t, records)); err != nil {
			t.Fatal(err)
		}
	}})
	for i := 300; i < 305; i++ {
		s.enter(at(0, i), fmt.Sprint("n", i), "r")
	}
	s.leave(at(0, 7), "n7", "r")
	*now += countEvery
	s.items = nil
	s.w.Tick()
	if got := s.take(); len(got) != 1 || !strings.HasSuffix(got[0], `onCount {"count":304,"joined":295,"left":2}`) {
		t.Errorf("told %q", got)
	}
	var all []string
	for after := ""; ; {
		page := s.read(at(0, 0), "n0", "r", after, 100)
		all = append(all, page.Users...)
		if after = page.Next; after == "" {
			break
		}
	}
	if len(all) != 304 || all[0] != "n0" || all[303] != "n304" {
		t.Errorf("%d are told: %v", len(all), all)
	}
	if string(f.State(nil, part)) != string(s.w.State(nil, part)) {
		t.Error("the follower has another state")
	}
	checkState(t, &s.w.state)
}

// Who returns to a large room is at the end of the list, whenever it entered.
func TestReturnToALargeRoom(t *testing.T) {
	s, _ := limitedStage(t, Limits{List: 10, Grace: time.Minute})
	for i := range 500 {
		s.handle(Request{Op: OpEnter, From: at(0, i), User: fmt.Sprint("n", i), Room: "r", Key: uint64(2*i + 1)})
	}
	for _, i := range []int{3, 450} {
		s.handle(Request{Op: OpLeave, From: at(0, i), User: fmt.Sprint("n", i), Room: "r", Cut: true})
		s.items = nil
		s.handle(Request{Op: OpEnter, From: at(1, i), User: fmt.Sprint("n", i), Room: "r", Key: uint64(2*i + 1), Ext: &Extended{}})
		if len(s.items) != 1 {
			t.Fatalf("posted %v", s.take())
		}
		n := namesOf(t, string(s.items[0].Body)+s.items[0].End())
		last := n.Users[len(n.Users)-1]
		if len(n.Users) != newestMembers || last != fmt.Sprint("n", i) || slices.Index(n.Users, last) != newestMembers-1 || n.Users[newestMembers-2] != "n499" || n.Count != 500 || n.Seq == "" {
			t.Errorf("n%d is told %+v", i, n)
		}
	}
}

// Entering a large room leads to one item, whatever its size, and to a bounded number of bytes.
func TestEnterOfALargeRoomIsConstant(t *testing.T) {
	s, _ := limitedStage(t, Limits{List: 1000})
	for i := range 1001 {
		s.enter(at(i%4, i), fmt.Sprint("m", i), "r")
	}
	for i := 1001; i < 10_000; i++ {
		s.items = nil
		s.enter(at(i%4, i), fmt.Sprint("m", i), "r")
		if len(s.items) != 1 || len(s.items[0].Body) > newestMembers*10+60 {
			t.Fatalf("with %d members: %d items, %d bytes", i, len(s.items), len(s.items[0].Body))
		}
	}
}

// BenchmarkEnterLarge is an enter into a room of so many, who are told nothing; the room grows on.
func BenchmarkEnterLarge(b *testing.B) {
	for _, members := range []int{1_500, 10_000, 90_000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			w := newWorker(func(OutletID) Outlet { return nowhere{} })
			w.limits.List = 1000
			enter := func(i int) {
				w.Handle(&Request{Op: OpEnter, From: at(i%4, i), Req: 1, Room: "r", Part: Partition("r"), User: fmt.Sprint("m", i)})
			}
			for i := range members {
				enter(i)
			}
			b.ReportAllocs()
			i := members
			for b.Loop() {
				enter(i)
				w.Handle(&Request{Op: OpLeave, From: at(i%4, i), Room: "r", Part: Partition("r"), User: fmt.Sprint("m", i)})
				i++
			}
		})
	}
}

// BenchmarkMembersPage is a page of 200 out of the middle of a room.
func BenchmarkMembersPage(b *testing.B) {
	for _, members := range []int{1_000, 10_000, 90_000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			w := benchWorker(b, members, 1)
			room := w.state.parts[Partition("r")].rooms["r"]
			rng := rand.New(rand.NewPCG(1, 1))
			for b.Loop() {
				x := Extended{HasSince: true, Most: 200, Since: room.seqOf(uint64(rng.IntN(members)))}
				w.Handle(&Request{Op: OpMembers, From: at(0, 0), Req: 1, Room: "r", Part: Partition("r"), User: "m0", Ext: &x})
			}
		})
	}
}

// A large room that is empty is small, also where it stays for what it keeps.
func TestEmptyRoomThatKeepsIsSmall(t *testing.T) {
	s, _ := keepingStage(t, keeping(ReadersPresent), Limits{List: 2})
	for i, name := range []string{"a", "b", "c"} {
		s.enter(at(0, i+1), name, "r")
	}
	if s.w.large() != 1 {
		t.Fatal("a room of three is not large")
	}
	s.send(at(0, 1), "a", "r", Everybody, `"kept"`)
	for i, name := range []string{"a", "b", "c"} {
		s.leave(at(0, i+1), name, "r")
	}
	if n := s.w.large(); n != 0 || s.w.state.rooms != 1 {
		t.Errorf("%d rooms of %d are large, and nobody is there", n, s.w.state.rooms)
	}
	s.items = nil
	s.enter(at(0, 4), "d", "r")
	for _, it := range s.items {
		if it.Kind == ItemEnter {
			if n := namesOf(t, string(it.Body)+it.End()); n.Count != 0 || n.More != nil {
				t.Errorf("who enters is told %+v", n)
			}
		}
	}
}
