package channel

import (
	"cmp"
	"slices"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// state is the state of the partitions of one worker. Decisions read it, and records change it (apply).
type state struct {
	parts [Partitions]*partition // nil where somebody else is the owner

	// Shared by the partitions, so that 1024 of them cost no more for each member than one would.
	index   map[memberKey]seat
	members []member
	free    []uint32          // slots
	keys    map[uint32]uint64 // by slot: Key of members that have one; a field of each would cost everybody
	folds   folds
	voices  places          // who has spoken in a slow room
	cuts    places          // who is away
	doubts  places          // who was away, is back, and may not know of it
	away    map[uint32]away // of both, by slot
	nodes   []nodeUse       // of members; an index stays while anybody is there
	rooms   int             // of all partitions
	shelves shelves         // what the rooms of partitions that the worker owns keep
}

// partition is one machine. Its maps are made at first use.
type partition struct {
	number uint16
	epoch  Epoch // of its owner, which is not part of the state
	partly bool  // followed, and only some rooms have come; not part of the state
	owned  bool  // its histories are on the worker's shelves; not part of the state
	open   *Room // followed, and only some members of this one have come; not part of the state

	records   uint64 // have led to this state
	serial    uint64 // of the last room
	now       int64  // the time of the last decision for which time mattered, in ns since the partition began
	wall      int64  // the time of the last push, in Unix ms
	rooms     map[string]*Room
	slow      map[string]time.Duration // by room, also of empty ones: slow modes of their own (OpSlow)
	nodes     []nodeChannel            // in order of nodes
	claims    map[string][]claim       // by user, in order (OpClaim)
	heard     order                    // members of slow rooms, as they spoke last
	cut       order                    // members that are away, as they were cut off
	away      int                      // how many these are
	doubt     order                    // members in doubt, as they came back
	ghosts    map[ghosts]int           // of these, those of one address in one room
	large     int                      // how many rooms are large
	changed   []*Room                  // of these, those of which extended sessions do not know how many are there, in order of ids
	countAt   int64                    // when the first of these is due, at the earliest
	snapshots []*Snapshot              // that are being taken; not part of the state
	begin     int64                    // the owner's clock when the partition's time was 0; not part of the state
	limitsAt  uint64                   // Worker.limitsAt, when the rooms were last made to follow their limits; not part of the state
}

// inOrder are the rooms in the order in which they were made.
func (p *partition) inOrder() []*Room {
	rooms := make([]*Room, 0, len(p.rooms))
	for _, room := range p.rooms {
		rooms = append(rooms, room)
	}
	slices.SortFunc(rooms, func(a, b *Room) int { return cmp.Compare(a.id, b.id) })
	return rooms
}

// twins tells whether two rooms have one id, as only in what no owner has written.
func (p *partition) twins() bool {
	rooms := p.inOrder()
	return len(slices.CompactFunc(rooms, func(a, b *Room) bool { return a.id == b.id })) < len(p.rooms)
}

// byID is the room of an id; nil: there is none. It looks at all.
func (p *partition) byID(id RoomID) *Room {
	for _, room := range p.rooms {
		if room.id == id {
			return room
		}
	}
	return nil
}

// nodeChannel is the partition's channel to one node: the numbers of the last request from it and of the last item for it.
type nodeChannel struct {
	node    Node
	in, out uint64
}

// Room is one channel: its members in the order they entered, and how many of them sit behind which outlet.
type Room struct {
	id      RoomID
	stream  codec.Stream // its name and its incarnation; static, as pushes refer to it
	seq     uint64
	count   int32
	listed  int32  // bytes the list of users may take, at most
	first   uint32 // member slots, a list
	last    uint32
	serial  uint32 // of the last entry
	panics  uint16
	readers Readers
	slow    time.Duration // least time between two messages of a member; 0: none
	outlets []outletCount // in order, so that it does not depend on the past
	crowd   *crowd        // nil where there have never been many
	history *history      // nil until something is kept
}

func (r *Room) name() string { return r.stream.Room }

// maxListed bounds the list of users that answers an enter: a message of the format ends at 16 MiB. It is room for 380,000
// names of ten bytes.
const maxListed = 12 << 20

// listedBytes is what a name may take in the list: three times its length when all of it is escaped, quotes and a comma.
func listedBytes(name string) int { return 3*len(name) + 3 }

type outletCount struct {
	id    OutletID
	count int32
}

// member is one name in one room. Slots are indices into state.members plus 1, so that 0 is nobody.
type member struct {
	name       string
	ref        Ref // of its address; the node is in mark. 0: it is away
	room       *Room
	next, prev uint32 // slots
	mark       mark
}

// mark is what a member's node is (an index into state.nodes): 16 bits, and its entry, the number that the room's pushes had come to when it
// entered, or in an earlier stay that it has proved: 48 bits. They share a word, so that an entry costs no member a byte.
type mark uint64

func newMark(node int, entry uint64) mark { return mark(node)<<48 | mark(entry&(1<<48-1)) }

func (m mark) node() int     { return int(m >> 48) }
func (m mark) entry() uint64 { return uint64(m & (1<<48 - 1)) }

// nodeUse is a node that members are on, and how many.
type nodeUse struct {
	node    Node
	members int
}

// hold finds the index of a node for one more member.
func (s *state) hold(node Node) int {
	free := -1
	for i := range s.nodes {
		switch n := &s.nodes[i]; {
		case n.members == 0:
			free = i
		case n.node == node:
			n.members++
			return i
		}
	}
	if free < 0 {
		free = len(s.nodes)
		s.nodes = append(s.nodes, nodeUse{})
	}
	s.nodes[free] = nodeUse{node, 1}
	return free
}

// addr is where a member is; the zero Addr if it is away.
func (s *state) addr(slot uint32) Addr {
	m := s.member(slot)
	return Addr{s.nodes[m.mark.node()].node, m.ref}
}

// move gives a member's place to another address, or takes it from the one that it has and gives it to none.
func (s *state) move(slot uint32, to Addr) {
	m := s.member(slot)
	m.room.uncount(s.addr(slot))
	s.nodes[m.mark.node()].members--
	m.ref, m.mark = to.Ref, newMark(s.hold(to.Node), m.mark.entry())
	m.room.count1(to)
}

// memberKey finds a member by name. A room's id does not: the partition may have come again before the worker has forgotten what it had of it (leaving).
type memberKey struct {
	room *Room
	name string
}

func newState() state {
	return state{index: make(map[memberKey]seat), keys: make(map[uint32]uint64), voices: make(places), cuts: make(places), doubts: make(places), away: make(map[uint32]away)}
}

func (s *state) member(slot uint32) *member { return &s.members[slot-1] }

// find is the slot of a name, or 0.
func (s *state) find(r *Room, name string) uint32 { return s.index[memberKey{r, name}].slot }

// add makes somebody the last member of r.
func (s *state) add(p *partition, r *Room, rec *Record) {
	var slot uint32
	if n := len(s.free); n > 0 {
		slot, s.free = s.free[n-1], s.free[:n-1]
	} else {
		s.members = append(s.members, member{})
		slot = uint32(len(s.members))
	}
	*s.member(slot) = member{name: rec.User, ref: rec.Addr.Ref, room: r, prev: r.last, mark: newMark(s.hold(rec.Addr.Node), rec.Num)}
	if r.last != 0 {
		s.member(r.last).next = slot
	} else {
		r.first = slot
	}
	r.last = slot
	r.count++
	r.listed += int32(listedBytes(rec.User))
	at := seat{slot, uint32(rec.Place)}
	s.index[memberKey{r, rec.User}] = at
	if rec.Key != 0 {
		s.keys[slot] = rec.Key
	}
	s.fold(slot, string(rec.Body))
	s.seated(p, r, at)
	r.count1(rec.Addr)
	if r.count == 1 && r.history != nil {
		s.shelve(p, r)
	}
}

// remove takes a member out of its room, which is forgotten when it is empty.
func (s *state) remove(p *partition, slot uint32) {
	m := s.member(slot)
	r := m.room
	for _, x := range p.snapshots {
		x.leaves(slot, m.prev)
	}
	s.setPresent(p, slot)
	key := memberKey{r, m.name}
	at := s.index[key]
	delete(s.index, key)
	if m.prev != 0 {
		s.member(m.prev).next = m.next
	} else {
		r.first = m.next
	}
	if m.next != 0 {
		s.member(m.next).prev = m.prev
	} else {
		r.last = m.prev
	}
	r.count--
	r.listed -= int32(listedBytes(m.name))
	s.unseated(p, r, at, m.next)
	r.uncount(s.addr(slot))
	s.nodes[m.mark.node()].members--
	s.unfold(slot)
	delete(s.keys, slot)
	s.hush(p, slot)
	*m = member{}
	s.free = append(s.free, slot)
	if r.count == 0 {
		s.emptied(p, r)
	}
}

// emptied forgets a room that nobody is in, unless it keeps messages, or members come.
func (s *state) emptied(p *partition, r *Room) {
	if r == p.open {
		return
	}
	if r.keeps() {
		p.disperse(r)
		s.shelve(p, r)
		return
	}
	s.forgetRoom(p, r)
}

func (s *state) forgetRoom(p *partition, r *Room) {
	if r.history != nil {
		s.uncount(p, r.history)
	}
	p.disperse(r)
	delete(p.rooms, r.name())
	s.rooms--
}

// count1 notes a member behind addr's outlet. One that is away is behind none.
func (r *Room) count1(addr Addr) {
	if addr.Ref == 0 {
		return
	}
	id := addr.Outlet()
	i := 0
	for ; i < len(r.outlets) && r.outlets[i].id.less(id); i++ {
	}
	if i < len(r.outlets) && r.outlets[i].id == id {
		r.outlets[i].count++
		return
	}
	r.outlets = append(r.outlets, outletCount{})
	copy(r.outlets[i+1:], r.outlets[i:])
	r.outlets[i] = outletCount{id, 1}
}

// uncount undoes count1.
func (r *Room) uncount(addr Addr) {
	if addr.Ref == 0 {
		return
	}
	id := addr.Outlet()
	for i := range r.outlets {
		if o := &r.outlets[i]; o.id == id {
			if o.count--; o.count == 0 {
				r.outlets = append(r.outlets[:i], r.outlets[i+1:]...)
			}
			return
		}
	}
}

// hasNode tells whether a member is behind a node.
func (r *Room) hasNode(node Node) bool {
	return slices.ContainsFunc(r.outlets, func(o outletCount) bool { return o.id.Node == node })
}

// voice notes that a member of a slow room has spoken, as the last one.
func (s *state) voice(p *partition, slot uint32, at int64) { p.heard.put(s.voices, slot, at) }

// hush forgets when a member spoke, if it has.
func (s *state) hush(p *partition, slot uint32) {
	for _, x := range p.snapshots {
		x.rest.passed(&x.rest.heard, slot, s.voices)
	}
	p.heard.take(s.voices, slot)
}

// list is {"users":[names in order of entry]}, or that without its end when open. Of a room that only grows the list is kept, and
// written behind what was given out before: so all the lists that N newcomers get are one, and neither N times N escapes nor N
// copies. Nothing given out ever changes. Small rooms are written anew each time and keep nothing. The room may be nil.
func (s *state) list(r *Room) (body []byte, open bool) {
	if r == nil {
		return []byte(listBegin + ListEnd), false
	}
	c := r.crowd
	if c == nil || c.users == nil {
		size := len(listBegin) + int(r.listed/3+2*r.count) // exact unless something has to be escaped
		if r.count > smallRoom {
			size += size / 8 // for those who come next
		}
		b := append(make([]byte, 0, size+len(ListEnd)), listBegin...)
		for slot := r.first; slot != 0; slot = s.member(slot).next {
			if slot != r.first {
				b = append(b, ',')
			}
			b = codec.AppendString(b, s.member(slot).name)
		}
		if r.count <= smallRoom {
			return append(b, ListEnd...), false
		}
		c.users = b
	}
	return c.users[:len(c.users):len(c.users)], true
}

const listBegin = `{"users":[`

// smallRoom is the number of members up to which no list of users is kept.
const smallRoom = 8
