package channel

import (
	"math"
	"slices"

	"github.com/pomelod/pomelod/internal/wirebytes"
)

// Keeper takes what a worker decides, so that nothing leaves before others know of it. It takes the place of all outlets.
type Keeper interface {
	// Keep is given each decision after it was applied. The partition has Worker.Records records then. Slices are valid until it returns;
	// what they refer to is immutable. It must not call the worker.
	Keep(part uint16, records []Record, items []Item)
	// Full is Outlet.Full for all rooms: nothing new may be admitted that is for that loop.
	Full(OutletID) bool
}

// KeepBack gives everything the worker decides to k, and nothing to its outlets. Called before the worker owns anything.
func (w *Worker) KeepBack(k Keeper) {
	w.keeper, w.outlet = k, func(id OutletID) Outlet { return keptBack{k, id} }
}

// keptBack is an outlet that is only asked whether it is full.
type keptBack struct {
	k  Keeper
	id OutletID
}

func (o keptBack) Post(*Item)       {}
func (o keptBack) Full(RoomID) bool { return o.k.Full(o.id) }
func (o keptBack) Flush()           {}

// Shadow makes the worker follow a partition that somebody else owns: it has a copy of the state, which begins empty and is filled by
// ApplySnapshot, kept up by Apply, and becomes the worker's own by Promote. What it had of the partition is forgotten.
func (w *Worker) Shadow(part uint16) {
	w.Release(part)
	if w.shadows == nil {
		w.shadows = make(map[uint16]*partition)
	}
	w.shadows[part] = &partition{number: part, partly: true, begin: math.MaxInt64}
}

// Shadows tells whether the worker follows a partition.
func (w *Worker) Shadows(part uint16) bool { return w.shadows[part] != nil }

// Promote makes the worker the owner of a partition that it follows and has in whole. Nothing is copied. Time goes on from the last
// decision for which it mattered.
func (w *Worker) Promote(part uint16, epoch Epoch) {
	p := w.shadows[part]
	if p == nil || p.partly {
		panic("channel: promoted without a whole state")
	}
	delete(w.shadows, part)
	p.epoch = epoch
	p.begin = min(p.begin, w.nanos()-p.now)
	w.state.parts[part] = p
	w.shelve(p)
	w.shadowMembers -= p.members()
	w.state.rooms += len(p.rooms)
	w.countRooms()
	w.wantTick(p)
}

// Demote makes the worker a follower of a partition that it owns. It decides nothing any more, until Promote.
func (w *Worker) Demote(part uint16) {
	p := w.state.parts[part]
	w.state.parts[part] = nil
	w.state.unshelve(p)
	if w.shadows == nil {
		w.shadows = make(map[uint16]*partition)
	}
	w.shadows[part] = p
	w.shadowMembers += p.members()
	w.state.rooms -= len(p.rooms)
	w.countRooms()
}

// members is how many there are in all rooms.
func (p *partition) members() (n int) {
	for _, room := range p.rooms {
		n += int(room.count)
	}
	return n
}

// Apply changes a partition that the worker follows by the records of one decision. Of one that it does not have in whole yet, records
// of rooms that have not come are skipped, as the room will come with what they say. An error means that the two states differ: the caller
// must forget this one.
func (w *Worker) Apply(part uint16, records []Record) error {
	p := w.shadows[part]
	return w.aside(func() error {
		for i := range records {
			r := records[i]
			r.room, r.slot = nil, 0 // the owner's
			if p.partly && !w.state.takes(p, &r) {
				continue
			}
			if err := w.state.apply(p, &r); err != nil {
				return err
			}
		}
		return nil
	})
}

// aside changes shadows by f. What is counted is what the worker owns.
func (w *Worker) aside(f func() error) error {
	rooms, members := w.state.rooms, len(w.state.index)
	err := f()
	w.state.rooms = rooms
	w.shadowMembers += len(w.state.index) - members
	if most := w.mayKeep(); most > 0 && w.state.shelves.bytes > most {
		w.forgetAt = max(1, w.nanos()) // what others own has grown
	}
	return err
}

// Records is how many records have led to what a partition is, which the worker owns or follows.
func (w *Worker) Records(part uint16) uint64 { return w.copyOf(part).records }

// copyOf is a partition that the worker owns or follows.
func (w *Worker) copyOf(part uint16) *partition {
	if p := w.state.parts[part]; p != nil {
		return p
	}
	return w.shadows[part]
}

// State appends the state of a partition that the worker owns or follows, as Export has it, but at the time of its last decision: the
// owner and followers have the same.
func (w *Worker) State(dst []byte, part uint16) []byte {
	p := w.copyOf(part)
	for r := range w.state.snapshot(p, p.now) {
		dst = appendFramed(dst, &r)
	}
	return dst
}

// AppendNodes appends the nodes to which a partition has a channel, in order, which the worker owns or follows.
func (w *Worker) AppendNodes(dst []Node, part uint16) []Node {
	for _, c := range w.copyOf(part).nodes {
		dst = append(dst, c.node)
	}
	return dst
}

// Counters are those of a partition's channel to a node: the last request that was executed and the last item. Zero without a channel.
func (w *Worker) Counters(part uint16, node Node) (in, out uint64) {
	return w.copyOf(part).counters(node)
}

// DropNodeIn executes, for one partition that the worker owns, the leaves of all members behind a node that has ended.
func (w *Worker) DropNodeIn(part uint16, node Node) {
	p := w.state.parts[part]
	for !w.alone(p, func(d *decision) { d.dropNode(node) }) {
		if w.d.room == 0 { // it is no room's fault
			return
		}
	}
}

// DropWays forgets the outlets of a node that has ended.
func (w *Worker) DropWays(node Node) {
	w.nodes = slices.DeleteFunc(w.nodes, func(n nodeWays) bool { return n.node == node })
}

// Hand appends a partition that the worker owns, or follows in whole, for the worker that takes this one's place (Take): its state as it was after its last
// decision, which is what others who have a copy have too, and how far its clock has gone on since.
func (w *Worker) Hand(dst []byte, part uint16) []byte {
	p, age := w.copyOf(part), uint64(0)
	if p.begin != math.MaxInt64 {
		age = 1 + uint64(w.nanos()-p.begin)
	}
	return w.State(wirebytes.AppendUints(dst, age), part)
}

// Take makes the worker the owner of a partition, or a follower of it, as the worker was that has handed it over. An error means that b was not written by
// Hand, and that the worker has nothing of the partition. Strings are copied out of b.
func (w *Worker) Take(part uint16, epoch Epoch, owns bool, b []byte) error {
	r := wirebytes.NewReader(b)
	age := r.UpTo(math.MaxInt64)
	w.Shadow(part)
	p := w.shadows[part]
	p.epoch = epoch
	whole, err := w.ApplySnapshot(part, r.Rest())
	if !r.OK() || err == nil && !whole {
		err = errRecord
	}
	if err != nil {
		w.Release(part)
		return err
	}
	if age > 0 {
		p.begin = w.nanos() - int64(age-1)
	}
	if owns {
		w.Promote(part, epoch)
	}
	return nil
}
