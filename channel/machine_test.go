package channel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/internal/race"
	"github.com/pomelod/pomelod/internal/seed"
)

// plant is a random life of a few rooms on two nodes of two loops each: everything a partition can be asked, time that passes, outlets that
// are full now and then, nodes that end.
type plant struct {
	rng     *rand.Rand
	stage   *stage
	now     int64
	limits  Limits
	history History
	rooms   []string
	users   []string
	nodes   [2]uint16         // their incarnations, under the numbers 0 and 1
	serial  int               // numbers sessions
	present map[string][]Addr // by room and name, who may be there: addresses that were used
	asked   map[channelKey]uint64
}

type channelKey struct {
	part uint16
	node Node
}

func newPlant(t testing.TB, rng *rand.Rand, limits Limits, history History) *plant {
	p := &plant{rng: rng, stage: newStage(t), limits: limits, history: history, present: map[string][]Addr{}, asked: map[channelKey]uint64{}}
	p.stage.w.SetLimits(limits, new(atomic.Int64), func() int64 { return p.now })
	p.history.Wall = func() int64 { return 1_000_000 + p.now/int64(time.Millisecond) }
	p.stage.w.KeepHistory(p.history)
	for _, first := range []string{"r", "q"} { // partitions with several rooms
		for i, n := 0, 0; n < 3; i++ {
			if name := fmt.Sprint(first, i); Partition(name) == Partition(first) {
				p.rooms = append(p.rooms, name)
				n++
			}
		}
		for i, n := 0, 0; n < 2; i++ { // whose sessions are counted there
			if name := fmt.Sprint("user of ", first, i); Partition(name) == Partition(first) {
				p.users = append(p.users, name)
				n++
			}
		}
	}
	for i := range p.nodes {
		p.nodes[i] = 1
	}
	for id := range 2 * 2 {
		outlet := p.stage.outlet(id/2<<8 | id%2)
		outlet.full = func(RoomID) bool { return p.rng.IntN(20) == 0 }
	}
	return p
}

func (p *plant) node(i int) Node { return NewNode(uint16(i), uint64(p.nodes[i])) }

// request is something that anybody may ask for.
func (p *plant) request() Request {
	room := p.rooms[p.rng.IntN(len(p.rooms))]
	user, fold := p.spelled()
	key := room + "*" + user
	r := Request{Part: Partition(room), Room: room, User: user, Req: uint32(p.rng.IntN(3) * 7)}
	if list := p.present[key]; len(list) > 0 && p.rng.IntN(10) > 0 {
		r.From = list[p.rng.IntN(len(list))]
	} else {
		p.serial++
		r.From = Addr{Node: p.node(p.rng.IntN(2)), Ref: Ref(p.rng.IntN(2))<<56 | Ref(p.serial)}
	}
	target, targetFold := p.spelled()
	if p.rng.IntN(2) == 0 {
		target = Everybody
	}
	switch n := p.rng.IntN(45); {
	case n < 14:
		r.Op, r.Key, r.Fold, r.Near, r.Short = OpEnter, uint64(p.rng.IntN(3)), fold, uint64(p.rng.IntN(3)), p.rng.IntN(20) == 0
		r.Pass = []uint64{0, 1, 2, PassAll}[p.rng.IntN(4)]
		if p.rng.IntN(4) == 0 { // the name it has, if it has one
			r.Prev, _ = p.spelled()
			if list := p.present[room+"*"+r.Prev]; len(list) > 0 {
				r.From = list[len(list)-1]
			}
		}
		p.present[key] = append(p.present[key], r.From)
		p.extended(&r)
	case n < 22:
		r.Op, r.Cut, r.Near = OpLeave, p.rng.IntN(2) == 0, uint64(p.rng.IntN(3))
		if p.rng.IntN(4) == 0 {
			r.Handed = Unheard
		}
		if room := p.stage.w.state.parts[r.Part].rooms[room]; room != nil && r.Handed == 0 && p.rng.IntN(2) == 0 {
			r.Handed = room.seq - min(room.seq, uint64(p.rng.IntN(12)))
		}
	case n < 33:
		r.Op, r.Target, r.Fold, r.Content = OpSend, target, targetFold, fmt.Appendf(nil, `"%d"`, p.rng.IntN(1000))
		if p.rng.IntN(20) == 0 {
			r.Content = fmt.Appendf(nil, `"%2000d"`, 1)
		}
		p.extended(&r)
	case n < 34:
		r.Op = OpHistory
		p.extended(&r)
	case n < 35:
		r.Op = OpMembers
		p.extended(&r)
	case n < 36:
		r.Op, r.Target, r.Route, r.Content = []Op{OpPush, OpPushExcept, OpSay}[p.rng.IntN(3)], target, "onNews", []byte(`{"a":1}`)
		if r.Op == OpSay {
			r.Target = Everybody
		}
		if r.Op != OpPushExcept {
			p.extended(&r)
		}
	case n < 37:
		r.Op, r.Target, r.Content = OpKick, target, []byte(`"go"`)
	case n < 38:
		r.Op, r.Content = OpSlow, fmt.Append(nil, p.rng.IntN(300)-50)
	case n < 39:
		r.Op, r.Room, r.User, r.Key = OpClaim, "", p.users[p.rng.IntN(len(p.users))], uint64(p.rng.IntN(3))
		if r.Part = Partition(r.User); p.rng.IntN(3) == 0 {
			r.Op = OpRelease
		}
	case n < 40:
		r.Op = Op(p.rng.IntN(int(ops) + 2))
	case n < 43:
		r.From.Ref = r.From.Ref >> 56 << 56
		r.Op, r.Content = p.sets()
	default:
		r.Op, r.From.Ref, r.Ext = OpDelete, r.From.Ref>>56<<56, p.deletes(r.Part, room)
		if r.Ext.Mid != 0 {
			r.Content = []byte(`"a mid of sixteen"`)
		}
	}
	if p.rng.IntN(2) == 0 { // numbered, as one that comes over a link is
		in, _ := p.stage.w.state.parts[r.Part].counters(r.From.Node)
		r.N = in + 1
	}
	return r
}

// spelled is a name in one of its spellings, and its fold.
func (p *plant) spelled() (name, fold string) {
	fold = fmt.Sprint("user", p.rng.IntN(10))
	if n := p.rng.IntN(6); n > 3 {
		return fmt.Sprint("~", n, fold), fold
	}
	return fold, ""
}

// step lets one thing happen to w, which is the stage's worker or one beside it.
func (p *plant) step() func(w *Worker) {
	switch n := p.rng.IntN(400); {
	case n < 30:
		p.now += int64(p.rng.IntN(100)) * int64(time.Millisecond)
		return func(w *Worker) { w.Tick() }
	case n == 30:
		i := p.rng.IntN(2)
		gone := p.node(i)
		p.nodes[i]++
		for key, list := range p.present {
			p.present[key] = slices.DeleteFunc(list, func(a Addr) bool { return a.Node == gone })
		}
		return func(w *Worker) { w.DropNode(gone) }
	}
	r := p.request()
	return func(w *Worker) { w.Handle(&r) }
}

// forPlants runs f over random lives under different limits.
func forPlants(t *testing.T, f func(t *testing.T, p *plant)) {
	for i, limits := range []Limits{{}, {List: 3, Slow: 100 * time.Millisecond, Grace: time.Second, Sessions: Sessions{2, false}}, {List: 2, Sessions: Sessions{1, true}, Members: 4, Rooms: 4, Slow: 30 * time.Millisecond, Grace: 300 * time.Millisecond}} {
		t.Run(fmt.Sprintf("members=%d,slow=%v", limits.Members, limits.Slow), func(t *testing.T) {
			rng := seed.Rand(t)
			for range race.Fewer(3) {
				f(t, newPlant(t, rng, limits, historyOf(6*i)))
			}
		})
	}
}

// historyOf keeps so many messages, of which some are too long, for a time in which rooms come and go. Its rooms have all kinds of readers.
func historyOf(messages int) History {
	return History{
		Messages: messages, Bytes: 10 * (messageCost + 40), Age: 3 * time.Second, Salt: 11, Vacancy: 2 * time.Second,
		Readers: func(room string) Readers { return Readers(room[len(room)-1]) % readersKinds },
	}
}

// extended makes a request one of an extended session, now and then.
func (p *plant) extended(r *Request) {
	if p.rng.IntN(2) == 0 {
		return
	}
	x := &Extended{Most: uint32(p.rng.IntN(8)), Mid: uint64(p.rng.IntN(6))}
	if room := p.stage.w.state.parts[r.Part]; p.rng.IntN(3) > 0 {
		x.HasSince, x.Since.Number = true, uint64(p.rng.IntN(60))
		if room := room.rooms[r.Room]; room != nil && p.rng.IntN(6) > 0 {
			x.Since = room.seqOf(room.seq - min(room.seq, uint64(p.rng.IntN(12))))
		}
	}
	r.Ext = x
}

// all is the export of every partition.
func all(w *Worker) []byte {
	var b []byte
	for part := range uint16(Partitions) {
		if p := w.state.parts[part]; p != nil && p.records > 0 {
			b = w.Export(b, part)
		}
	}
	return b
}

// text is a decision's result, every byte of it.
func (d *decision) text() string {
	var b []byte
	for i := range d.records {
		b = appendFramed(b, &d.records[i])
	}
	for i := range d.items {
		it := d.items[i]
		if i == d.list {
			it.Body, it.Open, it.Count = nil, false, 0 // of the state that follows
		}
		b = AppendItem(append(b, '|'), &it)
	}
	return fmt.Sprintf("%x %v %d", b, d.noted, d.list)
}

// Deciding is pure: it changes no state, and twice the same input gives twice the same records and items. So does a state that has gone
// through an export, which shares nothing with the first but what an export says.
func TestDecideIsPure(t *testing.T) {
	forPlants(t, func(t *testing.T, p *plant) {
		w := p.stage.w
		again := func(d *decision, s *state, r *Request, part *partition, in input) string {
			d.state = s
			d.reset(part, r)
			d.of, d.input = s.subjectOf(part, r), in
			d.decide()
			return d.text()
		}
		for step := range 1500 {
			if p.rng.IntN(10) == 0 {
				p.step()(w)
			} else {
				r := p.request()
				part := w.state.parts[r.Part]
				before := all(w)
				in := input{}
				w.fillInput(&in, part, &r, w.state.subjectOf(part, &r))
				first := again(new(decision), &w.state, &r, part, in)
				second := again(new(decision), &w.state, &r, part, in)
				if !bytes.Equal(before, all(w)) {
					t.Fatalf("step %d: %+v changed the state", step, r)
				}
				copied := newWorker(nil)
				copied.nanos = w.nanos
				if err := copied.Import(r.Part, part.epoch, w.Export(nil, r.Part)); err != nil {
					t.Fatal(err)
				}
				third := again(new(decision), &copied.state, &r, copied.state.parts[r.Part], in)
				if first != second || first != third {
					t.Fatalf("step %d: %+v\n%s\n%s\n%s", step, r, first, second, third)
				}
				w.Handle(&r)
			}
			p.stage.items = p.stage.items[:0]
		}
	})
}

// A follower that gets every record, each through its encoding, is at every moment what the owner is; and an import is what was exported.
func TestRecordsMakeTheSameState(t *testing.T) {
	forPlants(t, func(t *testing.T, p *plant) {
		w := p.stage.w
		follower := newWorker(nil) // it has no outlets and no limits, and its clock stands still
		w.KeepBack(&kept{stage: p.stage, records: func(part uint16, records []Record) {
			if err := follower.state.read(follower.state.parts[part], framed(records)); err != nil {
				t.Fatal(err)
			}
		}})
		for step := range 1500 {
			p.step()(w)
			p.stage.items = p.stage.items[:0]
			if step%10 > 0 {
				continue
			}
			for _, room := range p.rooms {
				part := Partition(room)
				at := w.state.parts[part]
				want := exportAt(w, part, at.now)
				if got := exportAt(follower, part, follower.state.parts[part].now); !bytes.Equal(got, want) {
					t.Fatalf("step %d, partition %d: the follower has\n%q\nthe owner\n%q", step, part, got, want)
				}
				copied := NewWorker(nil)
				if err := copied.Import(part, at.epoch, want); err != nil {
					t.Fatal(err)
				}
				if got := exportAt(copied, part, at.now); !bytes.Equal(got, want) {
					t.Fatalf("step %d, partition %d: imported\n%q\nexported\n%q", step, part, got, want)
				}
				copied.Release(part)
				forgetReleased(copied)
				if s := &copied.state; len(s.index)+len(s.keys)+len(s.folds.by)+len(s.folds.of)+len(s.voices)+len(s.cuts)+len(s.doubts)+len(s.away)+s.rooms != 0 || len(s.free) != len(s.members) || copied.roomsOfAll.Load() != 0 {
					t.Fatalf("step %d: after a release %d members, %d keys, %d voices, %d rooms are left", step, len(s.index), len(s.keys), len(s.voices), s.rooms)
				}
			}
		}
		checkState(t, &w.state)
	})
}

// exportAt is Export at a time of one's choice.
func exportAt(w *Worker, part uint16, now int64) (b []byte) {
	for r := range w.state.snapshot(w.state.parts[part], now) {
		b = appendFramed(b, &r)
	}
	return b
}

// The items of a partition for a node are numbered without gaps, whatever loop they go to, and so are the requests that were executed;
// a number that has been used is never executed again, and one too far ahead is not executed yet.
func TestChannelsAreNumbered(t *testing.T) {
	forPlants(t, func(t *testing.T, p *plant) {
		w, out := p.stage.w, map[channelKey]uint64{}
		for step := range 3000 {
			if p.rng.IntN(8) > 0 {
				p.step()(w)
			} else {
				r := p.request()
				in, _ := w.state.parts[r.Part].counters(r.From.Node)
				r.N = in + 2 - 2*uint64(p.rng.IntN(2))
				if r.N > 0 {
					before := all(w)
					if !w.Handle(&r) || !bytes.Equal(before, all(w)) || len(p.stage.items) > 0 {
						t.Fatalf("step %d: number %d was executed after %d", step, r.N, in)
					}
				}
			}
			for _, it := range p.stage.items {
				key := channelKey{it.Part, it.To.Node}
				if out[key]++; it.N != out[key] || it.Epoch != testEpoch || it.Room != 0 && it.Room.Partition() != it.Part {
					t.Fatalf("step %d: item %+v, want number %d", step, it.Item, out[key])
				}
			}
			p.stage.items = p.stage.items[:0]
		}
	})
}

// Partitions go from one worker to another while everything goes on: who follows the outlets cannot tell. The other stage stays where it is.
func TestMovesAreNotNoticed(t *testing.T) {
	forPlants(t, func(t *testing.T, p *plant) {
		p.limits.Rooms = 0
		still := p.stage.w
		still.limits.Rooms = 0
		full := map[OutletID]bool{}
		for _, o := range p.stage.outlets {
			o.full = func(RoomID) bool { return full[OutletID{NewNode(uint16(o.id>>8), 0), uint8(o.id)}] }
		}
		moved := newStage(t)
		other := NewWorker(moved.w.outlet)
		other.SetLimits(p.limits, new(atomic.Int64), func() int64 { return p.now + 12345 }) // clocks need not agree
		other.KeepHistory(p.history)
		moved.w.KeepHistory(p.history)
		moved.w.SetLimits(p.limits, new(atomic.Int64), func() int64 { return p.now })
		for _, o := range p.stage.outlets {
			moved.outlet(o.id).full = o.full
		}
		owners := map[uint16]*Worker{}
		ownerOf := func(part uint16) *Worker {
			if owners[part] == nil {
				owners[part] = moved.w
			}
			return owners[part]
		}
		for step := range 1500 {
			if p.rng.IntN(5) == 0 {
				part := Partition(p.rooms[p.rng.IntN(len(p.rooms))])
				from := ownerOf(part)
				to := map[*Worker]*Worker{moved.w: other, other: moved.w}[from]
				b := from.Export(nil, part)
				from.Release(part)
				if err := to.Import(part, testEpoch, b); err != nil {
					t.Fatal(err)
				}
				owners[part] = to
			}
			for _, o := range p.stage.outlets {
				full[OutletID{NewNode(uint16(o.id>>8), 0), uint8(o.id)}] = p.rng.IntN(20) == 0
			}
			if p.rng.IntN(20) == 0 {
				gone := p.node(p.rng.IntN(2))
				still.DropNode(gone)
				moved.w.DropNode(gone)
				other.DropNode(gone)
				sortByPart(p.stage.items)
				sortByPart(moved.items)
			} else {
				r := p.request()
				still.Handle(&r)
				if !ownerOf(r.Part).Handle(&r) {
					t.Fatalf("step %d: not the owner", step)
				}
			}
			p.now += int64(p.rng.IntN(20)) * int64(time.Millisecond)
			if p.rng.IntN(10) == 0 {
				still.Tick()
				moved.w.Tick()
				other.Tick()
				sortByPart(p.stage.items)
				sortByPart(moved.items)
			}
			if got, want := moved.wire(), p.stage.wire(); !slices.Equal(got, want) {
				t.Fatalf("step %d: got\n%q\nwant\n%q", step, got, want)
			}
		}
	})
}

func sortByPart(items []posted) {
	slices.SortStableFunc(items, func(a, b posted) int { return int(a.Part) - int(b.Part) })
}

// wire takes what was posted, every byte of it.
func (s *stage) wire() (lines []string) {
	for _, p := range s.items {
		lines = append(lines, string(AppendItem(fmt.Append(nil, p.outlet, " "), &p.Item)))
	}
	s.items = s.items[:0]
	return lines
}

// A node that ends takes its members along, in every partition. The others are told of each, and nobody there is told anything.
func TestDropNode(t *testing.T) {
	s := newStage(t)
	s.enter(at(0, 1), "a", "r")
	s.enter(at(256, 2), "b", "r")
	s.enter(at(257, 3), "c", "r")
	s.enter(at(256, 4), "d", "q")
	s.enter(at(1, 5), "e", "r")
	s.items = nil
	s.w.DropNode(NewNode(1, 0))
	s.want("0 "+userText(4, "onLeave", "b"), "1 "+userText(4, "onLeave", "b"), "0 "+userText(5, "onLeave", "c"), "1 "+userText(5, "onLeave", "c"))
	if got := s.members("r"); got != `{"users":["a","e"]}` {
		t.Error(got)
	}
	if in, out := s.w.state.parts[Partition("r")].counters(NewNode(1, 0)); in != 0 || out != 0 {
		t.Errorf("its channel is still there: %d, %d", in, out)
	}
	s.w.DropNode(NewNode(1, 0))
	s.enter(at(256, 9), "b", "r") // it is back
	s.want("0 "+userText(6, "onAdd", "b"), "1 "+userText(6, "onAdd", "b"), `256 enter 9 #6 {"users":["a","e","b"]}`)
	if n := s.w.Stats(); n.Rooms != 1 || n.Members != 3 || n.Leaves != 3 {
		t.Errorf("%+v", n)
	}
}

// Time is an input: who spoke in a slow room is forgotten when it no longer matters, in slices, and a Tick is wanted only until then.
func TestTick(t *testing.T) {
	s, now := limitedStage(t, Limits{Slow: time.Second})
	if s.w.Due() != 0 {
		t.Error("a tick is wanted of empty rooms")
	}
	for i := range 3 * tickEntries {
		s.enter(at(0, i), fmt.Sprint("n", i), "r")
	}
	if s.w.Due() != int64(time.Second) {
		t.Errorf("due at %d", s.w.Due())
	}
	*now = int64(time.Second) - 1
	s.w.Tick()
	if n := len(s.w.state.voices); n != 3*tickEntries {
		t.Errorf("%d are remembered before their time", n)
	}
	*now++
	for left := 2 * tickEntries; left >= 0; left -= tickEntries {
		if s.w.Tick(); len(s.w.state.voices) != left {
			t.Fatalf("%d are remembered, want %d", len(s.w.state.voices), left)
		}
	}
	if s.w.Due() != 0 {
		t.Errorf("due at %d", s.w.Due())
	}
	s.items = nil
	s.send(at(0, 1), "n1", "r", "n2", `1`)
	if got := s.items[1].String(); got != "0 reply 1 {}" || s.w.Due() != *now+int64(time.Second) {
		t.Errorf("%s, due at %d", got, s.w.Due())
	}
}
