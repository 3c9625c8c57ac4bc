package channel

import (
	"bytes"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// kept is a Keeper that passes the records on and posts the items to the stage's outlets.
type kept struct {
	stage   *stage
	records func(part uint16, records []Record)
}

func (k *kept) outlet(id OutletID) *recorder {
	return k.stage.outlet(int(id.Node.Number())<<8 | int(id.Loop))
}

func (k *kept) Keep(part uint16, records []Record, items []Item) {
	if k.records != nil {
		k.records(part, records)
	}
	for _, it := range items {
		k.outlet(it.To.Outlet()).Post(&it)
	}
}

func (k *kept) Full(id OutletID) bool { return k.outlet(id).Full(0) }

// framed is the encoding of records as a snapshot has them.
func framed(records []Record) (b []byte) {
	for i := range records {
		b = appendFramed(b, &records[i])
	}
	return b
}

// parsed are records as they come out of their encoding.
func parsed(t *testing.T, records []Record) (got []Record) {
	for i := range records {
		r, err := ParseRecord(AppendRecord(nil, &records[i]))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	return got
}

// Partitions are followed from any moment on, by snapshots that come in parts while everything goes on, and who follows takes over at
// any moment; who watches the outlets cannot tell. The other stage has one owner all the time.
func TestTakeOversAreNotNoticed(t *testing.T) {
	forPlants(t, func(t *testing.T, p *plant) {
		p.limits.Rooms = 0
		still := p.stage.w
		still.limits.Rooms = 0
		full := map[OutletID]bool{}
		moved := newStage(t)
		for _, o := range p.stage.outlets {
			o.full = func(RoomID) bool { return full[OutletID{NewNode(uint16(o.id>>8), 0), uint8(o.id)}] }
			moved.outlet(o.id).full = o.full
		}
		var workers [2]*Worker
		rooms := new(atomic.Int64)
		for i := range workers {
			i := i
			workers[i] = NewWorker(nil)
			workers[i].SetLimits(p.limits, rooms, func() int64 { return p.now + int64(i)*12345 })
			workers[i].KeepHistory(p.history)
			workers[i].KeepBack(&kept{stage: moved, records: func(part uint16, records []Record) {
				if to := workers[1-i]; to.Shadows(part) {
					if err := to.Apply(part, parsed(t, records)); err != nil {
						t.Fatal(err)
					}
				}
			}})
		}
		type share struct {
			owner    int // of workers
			snapshot *Snapshot
			whole    bool
		}
		shares := map[uint16]*share{}
		for _, name := range p.rooms {
			if part := Partition(name); shares[part] == nil {
				shares[part] = &share{}
				workers[0].Own(part, testEpoch)
			}
		}
		takeovers := 0
		for step := range 3000 {
			part := Partition(p.rooms[p.rng.IntN(len(p.rooms))])
			s := shares[part]
			from, to := workers[s.owner], workers[1-s.owner]
			switch n := p.rng.IntN(20); {
			case n == 0: // a new follower
				to.Shadow(part)
				if s.snapshot != nil {
					s.snapshot.End()
				}
				s.snapshot, s.whole = from.Snapshot(part), false
			case n < 8 && to.Shadows(part) && !s.whole:
				b, last := s.snapshot.Part(1 + p.rng.IntN(400))
				whole, err := to.ApplySnapshot(part, b)
				if left := len(from.state.parts[part].snapshots); err != nil || whole != last || last != (left == 0) {
					t.Fatalf("step %d: %v, whole %v, last %v, %d are being taken", step, err, whole, last, left)
				}
				s.whole = whole
			case n == 8 && s.whole: // a move, or a crash
				takeovers++
				last := from.state.parts[part] // else time would go on from the last decision for which it mattered
				last.now = from.now(last)
				to.shadows[part].now = last.now
				if p.rng.IntN(2) == 0 {
					from.Demote(part)
				} else {
					from.Release(part)
					s.whole = false
				}
				to.Promote(part, testEpoch)
				s.owner = 1 - s.owner
			case n == 9: // stopped, and goes on
				from.Demote(part)
				if from.Owns(part) || from.Handle(&Request{Part: part}) {
					t.Fatal("decides although it was stopped")
				}
				from.Promote(part, testEpoch)
			}
			if s.whole {
				if got, want := workers[1-s.owner].State(nil, part), workers[s.owner].State(nil, part); !bytes.Equal(got, want) {
					t.Fatalf("step %d, partition %d: the follower has\n%q\nthe owner\n%q", step, part, got, want)
				}
			}
			for _, o := range p.stage.outlets {
				full[OutletID{NewNode(uint16(o.id>>8), 0), uint8(o.id)}] = p.rng.IntN(20) == 0
			}
			if p.rng.IntN(40) == 0 {
				gone := p.node(p.rng.IntN(2))
				still.DropNode(gone)
				workers[0].DropNode(gone)
				workers[1].DropNode(gone)
				sortByPart(p.stage.items)
				sortByPart(moved.items)
			} else {
				r := p.request()
				still.Handle(&r)
				if !workers[shares[r.Part].owner].Handle(&r) {
					t.Fatalf("step %d: not the owner", step)
				}
			}
			p.now += int64(p.rng.IntN(20)) * int64(time.Millisecond)
			if p.rng.IntN(10) == 0 {
				still.Tick()
				workers[0].Tick()
				workers[1].Tick()
				sortByPart(p.stage.items)
				sortByPart(moved.items)
			}
			if got, want := moved.wire(), p.stage.wire(); !slices.Equal(got, want) {
				t.Fatalf("step %d: got\n%q\nwant\n%q", step, got, want)
			}
			a, b := workers[0].Stats(), workers[1].Stats()
			if s := still.Stats(); inhabited(workers[0])+inhabited(workers[1]) != inhabited(still) || int64(a.Rooms+a.EmptyRooms+b.Rooms+b.EmptyRooms) != rooms.Load() || a.Members+b.Members != s.Members {
				t.Fatalf("step %d: %d + %d rooms, counted %d, want %d; %d + %d members, want %d",
					step, a.Rooms, b.Rooms, rooms.Load(), s.Rooms, a.Members, b.Members, s.Members)
			}
		}
		if takeovers < 20 {
			t.Errorf("only %d take-overs", takeovers)
		}
		for i, w := range workers {
			for part := range shares {
				w.Release(part)
			}
			forgetReleased(w)
			if s := &w.state; len(s.index)+len(s.keys)+len(s.folds.by)+len(s.folds.of)+len(s.voices)+len(s.cuts)+len(s.doubts)+len(s.away)+s.rooms+w.shadowMembers != 0 || len(s.free) != len(s.members) {
				t.Errorf("worker %d: after a release %d members, %d keys, %d voices, %d rooms are left", i, len(s.index), len(s.keys), len(s.voices), s.rooms)
			}
		}
		if rooms.Load() != 0 {
			t.Errorf("%d rooms are counted and none is there", rooms.Load())
		}
	})
}

// inhabited is how many rooms with members a worker owns. Empty ones that keep messages are forgotten at its leisure.
func inhabited(w *Worker) (n int) {
	for _, p := range w.state.parts {
		if p != nil {
			for _, room := range p.rooms {
				if room.count > 0 {
					n++
				}
			}
		}
	}
	return n
}

// Records that do not fit are an error, and nothing is left of what the follower had when it is forgotten.
func TestApplyTellsWhatDiffers(t *testing.T) {
	s := newStage(t)
	var last []Record
	s.w.KeepBack(&kept{stage: s, records: func(_ uint16, records []Record) { last = parsed(t, records) }})
	s.enter(at(0, 1), "a", "r")
	s.enter(at(0, 2), "b", "r")
	part := Partition("r")
	f := NewWorker(nil)
	f.Shadow(part)
	if whole, err := f.ApplySnapshot(part, s.w.Export(nil, part)); !whole || err != nil {
		t.Fatal(whole, err)
	}
	if err := f.Apply(part, last); err == nil {
		t.Error("b is added again, and that is no error")
	}
	if n := f.Stats(); n.Rooms+n.Members != 0 {
		t.Errorf("counts what others own: %+v", n)
	}
	f.Release(part)
	forgetReleased(f)
	if f.Shadows(part) || len(f.state.index)+f.shadowMembers != 0 {
		t.Error("something is left")
	}
}

// A partition's nodes can end one by one; other partitions keep theirs.
func TestDropNodeIn(t *testing.T) {
	s := newStage(t)
	s.enter(at(0, 1), "a", "r")
	s.enter(at(256, 2), "b", "r")
	s.enter(at(256, 3), "c", "q")
	part, node := Partition("r"), NewNode(1, 0)
	if got := s.w.AppendNodes(nil, part); !slices.Equal(got, []Node{NewNode(0, 0), node}) {
		t.Errorf("nodes %v", got)
	}
	if in, out := s.w.Counters(part, node); in != 1 || out != 1 {
		t.Errorf("in %d, out %d", in, out)
	}
	s.items = nil
	s.w.DropNodeIn(part, node)
	s.want("0 " + userText(2, "onLeave", "b"))
	if got := fmt.Sprint(s.w.AppendNodes(nil, part), s.members("q")); got != fmt.Sprint([]Node{NewNode(0, 0)}, `{"users":["c"]}`) {
		t.Error(got)
	}
}

// OpNothing has a number, like every request, and no other effect.
func TestNothing(t *testing.T) {
	s := newStage(t)
	s.enter(at(0, 1), "a", "r")
	s.items = nil
	r := Request{Op: OpNothing, Part: Partition("r"), Room: "r", From: at(0, 1), N: 2, Req: 7}
	if !s.w.Handle(&r) || len(s.items) != 0 || r.Sheddable() {
		t.Errorf("posted %v", s.items)
	}
	if in, _ := s.w.Counters(r.Part, r.From.Node); in != 2 {
		t.Errorf("in %d", in)
	}
}

// A state goes out as it came in, whole and in parts.
func TestSnapshotSaysAll(t *testing.T) {
	part := Partition("r")
	state := framed([]Record{
		{Kind: RecordRoom, Room: "r", Num: 3, Time: int64(time.Second), Place: 4}, {Kind: RecordPush, Room: "r", Num: 5}, {Kind: RecordPanic, Room: "r", Num: 1},
		{Kind: RecordAdd, Room: "r", User: "a", Addr: at(0, 1), Key: 7, Place: 2}, {Kind: RecordSpoke, Room: "r", User: "a", Time: 11},
		{Kind: RecordSlow, Room: "r", Num: 1, Time: int64(time.Second)}, {Kind: RecordIn, Addr: at(0, 0), Num: 4}, {Kind: RecordOut, Addr: at(0, 0), Num: 6},
		{Kind: RecordPartition, Num: 3, Time: 11, Key: 20},
	})
	f := NewWorker(nil)
	f.Shadow(part)
	if whole, err := f.ApplySnapshot(part, state); !whole || err != nil {
		t.Fatal(whole, err)
	}
	if got := f.State(nil, part); !bytes.Equal(got, state) {
		t.Errorf("got\n%q\nwant\n%q", got, state)
	}
	if got, whole := f.Snapshot(part).Part(1 << 20); !whole || !bytes.Equal(got, state) {
		t.Errorf("got in a part\n%q\nwant\n%q", got, state)
	}
}

// A large room comes in parts of about the length that was asked for, and in each of them there may be changes before the next.
func TestSnapshotOfALargeRoom(t *testing.T) {
	w := NewWorker(nil)
	f := NewWorker(nil)
	part := Partition("r")
	w.Own(part, testEpoch)
	f.Shadow(part)
	w.KeepBack(&kept{stage: newStage(t), records: func(part uint16, records []Record) {
		if f.Shadows(part) && f.shadows[part].records > 0 {
			if err := f.Apply(part, parsed(t, records)); err != nil {
				t.Fatal(err)
			}
		}
	}})
	for i := range 5000 {
		w.Handle(&Request{Op: OpEnter, Part: part, Room: "r", User: fmt.Sprint("user", i), From: at(0, i), Silent: true})
	}
	parts := 0
	for s, whole := w.Snapshot(part), false; !whole; parts++ {
		var b []byte
		if b, whole = s.Part(4096); len(b) > 4096+200 {
			t.Fatalf("part %d has %d bytes", parts, len(b))
		}
		if _, err := f.ApplySnapshot(part, b); err != nil {
			t.Fatal(err)
		}
		i := parts * 97 // one that has come, and one that has not
		w.Handle(&Request{Op: OpLeave, Part: part, Room: "r", User: fmt.Sprint("user", i), From: at(0, i)})
		w.Handle(&Request{Op: OpLeave, Part: part, Room: "r", User: fmt.Sprint("user", 4999-parts), From: at(0, 4999-parts)})
		w.Handle(&Request{Op: OpEnter, Part: part, Room: "r", User: fmt.Sprint("user", i), From: at(0, 10_000+i), Silent: true})
	}
	if parts < 30 {
		t.Errorf("%d parts", parts)
	}
	if !bytes.Equal(w.State(nil, part), f.State(nil, part)) {
		t.Error("the follower has another state")
	}
}

// BenchmarkSnapshotRoom takes a whole snapshot of a room of so many members, and tells its longest part: a turn of the owner.
func BenchmarkSnapshotRoom(b *testing.B) {
	for _, members := range []int{1000, 95_000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			w := benchWorker(b, members, 1)
			var longest time.Duration
			size := 0
			for b.Loop() {
				size = 0
				for s, whole := w.Snapshot(Partition("r")), false; !whole; {
					var part []byte
					began := time.Now()
					part, whole = s.Part(1 << 18)
					longest, size = max(longest, time.Since(began)), size+len(part)
				}
			}
			b.SetBytes(int64(size))
			b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
		})
	}
}

// A new owner goes on to forget who has spoken in slow rooms, when the time comes by its own clock.
func TestPromotedWantsTick(t *testing.T) {
	s, now := limitedStage(t, Limits{Slow: time.Second})
	s.enter(at(0, 1), "a", "r")
	*now = int64(500 * time.Millisecond)
	s.enter(at(0, 2), "b", "r")
	part := Partition("r")
	f := NewWorker(func(OutletID) Outlet { return nowhere{} })
	f.SetLimits(Limits{}, new(atomic.Int64), func() int64 { return *now + 1000 })
	f.Shadow(part)
	if whole, err := f.ApplySnapshot(part, s.w.Export(nil, part)); !whole || err != nil {
		t.Fatal(whole, err)
	}
	if f.Due() != 0 {
		t.Errorf("a follower wants a tick at %d", f.Due())
	}
	f.Promote(part, testEpoch)
	if want := int64(time.Second) + 1000; f.Due() != want {
		t.Errorf("due at %d, want %d", f.Due(), want)
	}
}

// A partition that is handed over is the same for who takes it, as owner and as one who follows, at the time that it had.
func TestHandedOver(t *testing.T) {
	s, now := lived(t)
	for _, name := range livedNames {
		part := Partition(name)
		for _, owns := range []bool{true, false} {
			state, clock := s.w.State(nil, part), s.w.now(s.w.copyOf(part))
			b := s.w.Hand(nil, part)
			w := NewWorker(nil)
			later := *now + int64(time.Hour) // of another process
			w.SetLimits(Limits{Grace: testGrace}, new(atomic.Int64), func() int64 { return later })
			for i := range b {
				if w.Take(part, Epoch{View: 1}, owns, b[:i]) == nil {
					t.Errorf("%d of %d bytes are taken", i, len(b))
				}
				if w.Owns(part) || w.Shadows(part) || w.Stats().Members > 0 {
					t.Fatal("something of what could not be read is there")
				}
			}
			if err := w.Take(part, Epoch{View: 1}, owns, b); err != nil {
				t.Fatal(err)
			}
			if w.Owns(part) != owns || w.Shadows(part) == owns || !bytes.Equal(w.State(nil, part), state) {
				t.Errorf("partition %d is another one now (owner: %v)", part, owns)
			}
			if got := w.now(w.copyOf(part)); got != clock {
				t.Errorf("its clock is at %d, was at %d (owner: %v)", got, clock, owns)
			}
		}
	}
}
