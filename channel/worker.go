package channel

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
)

// Worker owns the partitions that run on one loop, and executes what is asked of them. Its methods must be called by one goroutine at a
// time.
type Worker struct {
	// Static after construction.
	outlet     func(OutletID) Outlet
	limits     Limits
	limitsOf   func(room string) RoomLimits // nil: limits are those of all rooms
	noGrace    func(room string) bool       // RoomLimits.NoGrace; nil with limitsOf
	limitsAt   uint64                       // how often the limits of rooms were others (Relimit); 0: they are nobody's
	roomsOfAll *atomic.Int64                // rooms of all workers that share the count
	nanos      func() int64
	keeper     Keeper // nil: items go to outlets
	history    History
	journal    Journal // nil: what rooms keep ends with the process
	holds      bool    // Journal.Holds

	state    state
	d        decision
	counted  int // of state.rooms, in roomsOfAll
	counters [counters]uint64
	nodes    []nodeWays
	touched  []*way // outlets that must be flushed
	due      int64  // by the worker's clock, when a partition wants a Tick; 0: none does
	forgetAt int64  // the same for what rooms keep (forgetOld)
	lapseAt  int64  // and for what is set of rooms that nobody is in (lapse)

	shadows       map[uint16]*partition // that others own and the worker follows; nil while there are none
	leaving       []leaving             // what neither is any more
	shadowMembers int                   // of both, in state.index

	// Where Handle stands, for the recovery from a panic.
	applying bool
	next     int    // item to be posted
	held     int    // item that the journal posts; -1: none
	before   uint64 // number of the room's last message before the decision, where there is a journal
	lost     RoomID // room of an item whose outlet panicked
}

// nodeWays are the outlets of a node, by loop.
type nodeWays struct {
	node Node
	ways []*way
}

// way is an outlet that has been found.
type way struct {
	Outlet
	touched bool
}

// counter numbers a worker's figures.
type counter uint8

const (
	countEnters counter = iota
	countEntersRefused
	countLeaves
	countReplaced
	countSends
	countSendsRefused
	countBusy
	countPushes
	countPanics
	countTwice
	countRepeated
	countIncomplete
	countPages
	countMids
	countForgotten
	countAway
	countReturned
	countExpired
	countLettersLost
	countCounts
	countMemberPages
	countLimited
	counters = countLimited + counter(Reasons)
)

func counterOf(r Reason) counter { return countLimited + counter(r) }

// Stats are a worker's figures: counters since the start, then gauges.
type Stats struct {
	Enters, EntersRefused uint64
	Leaves                uint64
	Replaced              uint64 // enters that took the place of an older session of the same user
	Sends, SendsRefused   uint64
	Busy                  uint64 // of the refused: because an outlet was full
	Pushes                uint64 // pushes posted, each counted once per outlet
	Panics                uint64
	Twice                 uint64          // requests that came again, or before one that is missing
	Limited               [Reasons]uint64 // of the refused: because of Limits

	Repeated    uint64 // messages that a session was told when it entered, as they had been said before
	Incomplete  uint64 // returns for which not all was there that had been missed
	Pages       uint64 // of history that members asked for
	SentAgain   uint64 // sends that were answered and not carried out, as they had been before
	Cuts        uint64 // members that were cut off, and whose place was kept
	Returned    uint64 // of these, those that came back in time
	Expired     uint64 // of these, those that did not
	Unread      uint64 // of these, those for whom private messages were kept
	Counts      uint64 // times that extended sessions in a large room were told how many there are
	MemberPages uint64 // of members that members asked for
	Forgotten   uint64 // rooms that lost what they kept for want of memory, or of rooms

	Rooms, Members int   // rooms with members
	Away           int   // of the members, those that were cut off and may return
	EmptyRooms     int   // that keep what was said, or set by a program
	LargeRooms     int   // with more members than are listed
	Kept           int   // messages that rooms keep
	KeptBytes      int64 // of all that is kept, in memory
	FollowedBytes  int64 // the same of rooms that others own
}

// NewWorker makes a worker that owns nothing (Own, Import). outlet finds an outlet; it is asked once for each.
func NewWorker(outlet func(OutletID) Outlet) *Worker {
	w := &Worker{outlet: outlet, roomsOfAll: new(atomic.Int64), nanos: func() int64 { return 0 }, state: newState()}
	w.d.state = &w.state
	return w
}

// SetLimits bounds the worker's rooms before it owns anything. rooms counts those of all workers that share it; nanos is a
// monotonic clock.
func (w *Worker) SetLimits(limits Limits, rooms *atomic.Int64, nanos func() int64) {
	w.limits, w.roomsOfAll, w.nanos = limits, rooms, nanos
}

// Limit bounds the worker's rooms otherwise from now on; rooms that have more stay as they are. LimitRooms comes before it, where that says something.
func (w *Worker) Limit(limits Limits) { w.limits = limits }

// Own makes the worker the owner of a partition that begins empty.
func (w *Worker) Own(part uint16, epoch Epoch) {
	w.state.parts[part] = &partition{number: part, epoch: epoch, begin: w.nanos(), owned: true}
}

// Owns tells whether the worker is the owner of a partition.
func (w *Worker) Owns(part uint16) bool { return w.state.parts[part] != nil }

// Epoch is the one in which the worker became the owner of a partition that it owns.
func (w *Worker) Epoch(part uint16) Epoch { return w.state.parts[part].epoch }

// Stats tells what the worker has counted, and what it has now.
func (w *Worker) Stats() Stats {
	c := &w.counters
	s := Stats{
		Enters: c[countEnters], EntersRefused: c[countEntersRefused], Leaves: c[countLeaves], Replaced: c[countReplaced],
		Sends: c[countSends], SendsRefused: c[countSendsRefused], Busy: c[countBusy], Pushes: c[countPushes], Panics: c[countPanics],
		Twice: c[countTwice], Rooms: w.state.rooms - w.state.shelves.empty, EmptyRooms: w.state.shelves.empty, Members: len(w.state.index) - w.shadowMembers,
		Repeated: c[countRepeated], Incomplete: c[countIncomplete], Pages: c[countPages], SentAgain: c[countMids], Forgotten: c[countForgotten],
		Cuts: c[countAway], Returned: c[countReturned], Expired: c[countExpired], Unread: c[countLettersLost], Away: w.away(),
		Counts: c[countCounts], MemberPages: c[countMemberPages], LargeRooms: w.large(),
		Kept: w.state.shelves.messages, KeptBytes: w.state.shelves.bytes, FollowedBytes: w.state.shelves.followed,
	}
	copy(s.Limited[:], c[countLimited:])
	return s
}

// Handle executes one request, or nothing and tells false, when the worker does not own its partition. A request that has been executed
// before is dropped, as its answer is on its way; so is one that has come before one that is missing, as both will be sent again.
//
// A panic in a room costs the request, and the second one the room.
func (w *Worker) Handle(r *Request) (mine bool) {
	p := w.state.parts[r.Part]
	if p == nil {
		return false
	}
	if r.N != 0 {
		if in, _ := p.counters(r.From.Node); r.N != in+1 {
			w.counters[countTwice]++
			return true
		}
	}
	kept := w.state.shelves.bytes
	w.makeRoom(p, r)
	if w.decide(p, r) {
		w.post()
	}
	w.relieve(2*kept-w.state.shelves.bytes, tickEntries)
	return true
}

// decide admits, decides and applies.
func (w *Worker) decide(p *partition, r *Request) (done bool) {
	defer func() {
		if x := recover(); x != nil {
			w.panicked(p, r, x)
		}
	}()
	d := &w.d
	d.reset(p, r)
	d.of = w.state.subjectOf(p, r)
	w.fillInput(&d.input, p, r, d.of)
	d.decide()
	w.apply()
	return true
}

// fillInput fills in what a decision is given beside the state; in is empty. The clock is read only where time matters.
func (w *Worker) fillInput(in *input, p *partition, r *Request, of subject) {
	in.list, in.sessions, in.grace, in.noGrace = w.limits.List, w.limits.Sessions, w.limits.Grace, w.noGrace
	in.refusal, in.history, in.wall = w.admit(r, of), &w.history, w.wall(p)
	if r.Op == OpEnter || r.Op == OpSlow || r.Op == OpSet || r.Op == OpData {
		limits := w.roomLimits(r.Room)
		in.slow, in.ruled, in.list = limits.Slow, limits.Ruled, limits.List
	}
	if r.Op == OpPush && r.Room == "" {
		in.full = w.fullOf(r)
	}
	if in.slow > 0 || r.Cut || r.Handed == Unheard || r.Op == OpEnter && of.user != 0 && w.state.isAway(of.user) || len(p.slow) > 0 || of.room != nil && (of.room.slow > 0 || r.Op == OpEnter && in.list > 0 && int(of.room.count) >= in.list) {
		in.now = w.now(p)
	}
}

// wall is the time of what is pushed, in Unix milliseconds; it never goes back.
func (w *Worker) wall(p *partition) int64 {
	if w.history.Wall == nil {
		return p.wall
	}
	return max(p.wall, w.history.Wall())
}

// now is the partition's time: it goes on where it was, whichever node is the owner.
func (w *Worker) now(p *partition) int64 { return max(p.now, w.nanos()-p.begin) }

// apply changes the state as was decided.
func (w *Worker) apply() {
	d := &w.d
	w.applying = true
	if w.journal != nil {
		w.before = d.of.room.lastSaid()
	}
	for i := range d.records {
		if err := w.state.apply(d.p, &d.records[i]); err != nil {
			panic(err)
		}
	}
	for _, c := range d.noted {
		w.counters[c]++
	}
	if d.list >= 0 { // the list of those who are there now
		it, room := &d.items[d.list], d.p.rooms[d.r.Room]
		if it.Kind == ItemEnter {
			it.Count |= uint32(room.count)
		}
		if it.Kind != ItemEnter || !d.r.Silent {
			if it.Kind == ItemEnter && room.large() {
				it.Body, it.Tail = w.state.newest(room, w.state.find(room, d.r.User), it.Tail), ""
			} else {
				it.Body, it.Open = w.state.list(room)
			}
			if it.Tail != "" && !it.Open {
				it.Body, it.Open = it.Body[:len(it.Body)-len(ListEnd)], true
			}
		}
	}
	w.countRooms()
	if d.p.waits() {
		w.wantTick(d.p)
	}
	w.wantForgetting()
	w.wantLapse()
	w.applying = false
}

// countRooms publishes how many rooms there are.
func (w *Worker) countRooms() {
	if n := w.state.rooms - w.counted; n != 0 {
		w.roomsOfAll.Add(int64(n))
		w.counted = w.state.rooms
	}
}

// post hands out the items of the decision. An outlet that panics loses an item, which its loop will miss; the others get theirs. The
// item's room has one more chance.
func (w *Worker) post() {
	if w.keeper != nil {
		w.keep()
		return
	}
	w.next, w.lost, w.held = 0, 0, -1
	if w.journal != nil {
		w.held = w.journalize()
	}
	for !w.postRest() {
	}
	if w.lost != 0 {
		p := w.d.p
		if room := p.byID(w.lost); room != nil {
			w.fail(p, nil, subject{room: room})
		}
	}
}

// keep is post for a worker whose decisions are kept back.
func (w *Worker) keep() {
	for i := range w.d.items {
		if w.d.items[i].Kind == ItemPush {
			w.counters[countPushes]++
		}
	}
	w.keeper.Keep(w.d.p.number, w.d.records, w.d.items)
}

func (w *Worker) postRest() (done bool) {
	d := &w.d
	defer func() {
		if x := recover(); x != nil {
			w.postPanicked(x)
		}
	}()
	for w.next < len(d.items) {
		it := &d.items[w.next] // posted only once, also if that panics
		if w.next++; w.next-1 == w.held {
			continue
		}
		if it.Kind == ItemPush {
			w.counters[countPushes]++
		}
		to := w.way(it.To.Outlet())
		if !to.touched {
			to.touched = true
			w.touched = append(w.touched, to)
		}
		to.Post(it)
	}
	for n := len(w.touched); n > 0; n = len(w.touched) {
		to := w.touched[n-1]
		w.touched = w.touched[:n-1]
		to.touched = false
		to.Flush()
	}
	return true
}

// way finds an outlet.
func (w *Worker) way(id OutletID) *way {
	for i := range w.nodes {
		if n := &w.nodes[i]; n.node == id.Node {
			if int(id.Loop) < len(n.ways) && n.ways[id.Loop] != nil {
				return n.ways[id.Loop]
			}
			return w.newWay(n, id)
		}
	}
	w.nodes = append(w.nodes, nodeWays{node: id.Node})
	return w.newWay(&w.nodes[len(w.nodes)-1], id)
}

func (w *Worker) newWay(n *nodeWays, id OutletID) *way {
	for int(id.Loop) >= len(n.ways) {
		n.ways = append(n.ways, nil)
	}
	n.ways[id.Loop] = &way{Outlet: w.outlet(id)}
	return n.ways[id.Loop]
}

// alone executes a decision that nobody asks for. A panic in it is its room's (decision.room), as that of a request is; it tells whether there was none.
func (w *Worker) alone(p *partition, decide func(*decision)) (done bool) {
	if done = w.decideAlone(p, decide); done {
		w.post()
	}
	return done
}

func (w *Worker) decideAlone(p *partition, decide func(*decision)) (done bool) {
	w.d.reset(p, nil)
	defer func() {
		if x := recover(); x != nil {
			w.panickedAlone(p, x)
		}
	}()
	w.d.input = input{now: w.now(p), wall: w.wall(p), history: &w.history, grace: w.limits.Grace, noGrace: w.noGrace}
	decide(&w.d)
	w.apply()
	return true
}

// panickedAlone is panicked for a decision that nobody asked for.
func (w *Worker) panickedAlone(p *partition, x any) {
	w.counters[countPanics]++
	slog.Error("panic in a partition at its leisure; the room may be closed", "partition", p.number, "panic", fmt.Sprint(x), "stack", string(debug.Stack()))
	if room := p.byID(w.d.room); room != nil {
		w.fail(p, nil, subject{room: room})
	}
}

// panicked answers for a request that panicked.
func (w *Worker) panicked(p *partition, r *Request, x any) {
	w.counters[countPanics]++
	slog.Error("panic in a room; the request is refused", "room", r.Room, "op", r.Op, "panic", fmt.Sprint(x), "stack", string(debug.Stack()))
	w.fail(p, r, w.state.subjectOf(p, r))
}

// postPanicked notes that an item is lost.
func (w *Worker) postPanicked(x any) {
	w.counters[countPanics]++
	it := &w.d.items[w.next-1]
	slog.Error("panic in an outlet; what it was given is lost", "room", it.Room, "kind", it.Kind, "panic", fmt.Sprint(x), "stack", string(debug.Stack()))
	w.lost = max(w.lost, it.Room)
}

// fail decides what becomes of a room in which something panicked, and answers r if there is one.
func (w *Worker) fail(p *partition, r *Request, of subject) {
	half := w.applying
	w.d.reset(p, r)
	w.d.of, w.d.input.wall, w.d.input.history = of, p.wall, &w.history
	w.d.failed(half)
	w.apply()
	w.post()
}

// Tick does what partitions wanted to be done by now (Due), up to so many entries. If there is more, Due says so.
func (w *Worker) Tick() {
	w.forgetLeft()
	now := w.nanos()
	left := tickEntries
	if w.forgetAt != 0 && now >= w.forgetAt {
		w.relieve(0, w.forgetOld(left))
	}
	if w.lapseAt != 0 && now >= w.lapseAt {
		w.lapse(left)
	}
	if w.due == 0 || now < w.due {
		return
	}
	w.due = 0
	for _, p := range w.state.parts {
		switch {
		case p == nil || !p.waits():
		case left == 0:
			w.wantTick(p)
		default:
			due := w.due // that of the others: decisions below say when something was due before them
			w.alone(p, func(d *decision) {
				d.tick(left)
				left -= len(d.records)
			})
			left = w.expire(p, left)
			left = w.tellCounts(p, left)
			w.due = due
			w.wantTick(p)
		}
	}
}

// Due is when Tick is wanted, by the worker's clock; 0 means never.
func (w *Worker) Due() int64 {
	if len(w.leaving) > 0 {
		return 1
	}
	due := w.due
	for _, at := range [...]int64{w.forgetAt, w.lapseAt} {
		if due == 0 || at != 0 && at < due {
			due = at
		}
	}
	return due
}

// DropNode executes, for every partition, the leaves of all members behind a node that has ended.
func (w *Worker) DropNode(node Node) {
	for part, p := range w.state.parts {
		if p != nil {
			w.DropNodeIn(uint16(part), node)
		}
	}
	w.DropWays(node)
}
