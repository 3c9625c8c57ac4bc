package channel

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// RecordKind says what a Record changes.
type RecordKind uint8

// The kinds of records. A node that does not know a kind must not follow.
const (
	// RecordIn: requests of Addr.Node have been executed up to number Num.
	RecordIn RecordKind = iota + 1
	// RecordOut: items for Addr.Node have been numbered up to Num.
	RecordOut
	// RecordGone: Addr.Node has ended, and its channel with it.
	RecordGone
	// RecordRoom: Room comes to be, with the serial Num, the slow mode Time and the incarnation Key; the last entry had the serial Place (0: there was none).
	RecordRoom
	// RecordAdd: User is Room's last member, at Addr, entered first when pushes were numbered up to Num, and proves to be the same user by Key.
	// Place is the serial of the entry, which is greater than any before. Body is the fold of the name, if that is not the name itself.
	RecordAdd
	// RecordRemove: User is no longer a member of Room. With the last one the room is forgotten, unless it keeps messages.
	RecordRemove
	// RecordReplace: User's place in Room belongs to Addr now. If User was away it is no longer; with Num 1 it has been in doubt since Time then.
	RecordReplace
	// RecordPush: Room's pushes are numbered up to Num, the last one at Time.
	RecordPush
	// RecordSpoke: User has said something in Room at Time.
	RecordSpoke
	// RecordQuiet: when User spoke last no longer matters.
	RecordQuiet
	// RecordSlow: Room's slow mode is Time from now on; Num is 1 if it stays with the name, and 0 if the name has none any more.
	RecordSlow
	// RecordPanic: Num of the requests to Room have panicked.
	RecordPanic
	// RecordPartition: the partition has made Num rooms, its time is Time, the last push was at Place, and Key records have led to what it is.
	RecordPartition
	// RecordSaid: Room's push Num, at Time, is kept, and is Body; those up to Key are forgotten before.
	RecordSaid
	// RecordUnkept: Room's push Num, at Time, is an onChat that is not kept.
	RecordUnkept
	// RecordForget: Room keeps no onChat up to Num any more; with Key 1 nothing else either but letters, with Key 2 not even these. Without members and messages the room is forgotten.
	RecordForget
	// RecordMid: a member whose place is Place, or an operator (publishPlace), has sent the message with the id Key to Room, at Time, which became push Num (0: a private one).
	RecordMid
	// RecordPast: the user that proves to be Key was in Room when pushes were numbered up to Num, and later, and left at Time.
	RecordPast
	// RecordReaders: Num says who may read what Room keeps (Readers).
	RecordReaders
	// RecordAway: User was cut off at Time, when its session had been sent Room's pushes up to Num, at the address Place, and is away from now on. With Key 1
	// it was in doubt, and the letters that were kept for it are kept.
	RecordAway
	// RecordLetter: Body, said to User alone at Time when Room's pushes were numbered up to Num, is kept for User, who is away.
	RecordLetter
	// RecordMore, only in snapshots: the room of the serial Key has more members, which come in later parts (Num 1), or there are no more (0),
	// and Place is the serial of its last entry; with Time 1 it is large.
	RecordMore
	// RecordCounted: Room is large, and extended sessions were told at Time, when the last entry had the serial Num, that there are Key members.
	RecordCounted
	// RecordRenumber: the serials of Room's members are 1, 2 and so on from now on.
	RecordRenumber
	// RecordSure: User is in doubt no longer.
	RecordSure
	// RecordClaim: the session at Addr is the last of User's, with the key Key.
	RecordClaim
	// RecordRelease: the session at Addr is none of User's any more.
	RecordRelease
	// RecordDelete: what Room's push Num said is deleted; its place stays.
	RecordDelete
	// RecordSettings: Room has the capacity Num>>1, is locked if Num is odd, and lets clients in that show Key; its data is Body. 0, and empty, is none of that. It was set, or
	// the last member left, at Time. Without members, messages and all of that the room is forgotten.
	RecordSettings

	recordKinds
)

// Record is one change of a partition's state: what was decided, whatever asked for it.
type Record struct {
	Kind  RecordKind
	Room  string // its name
	User  string
	Addr  Addr
	Num   uint64
	Key   uint64
	Time  int64  // ns of the partition's time, or a duration in ns; of what is kept, Unix ms
	Place uint64 // RecordMid: what tells the sender from others, also when it returns; RecordAway: where the client was; RecordPartition: Unix ms; else as its kind says
	Body  []byte // immutable

	// What the name stands for, if the decision has found it already. Not part of the encoding.
	room *Room
	slot uint32
}

// errRecord is the error of records that do not fit the state they are applied to.
var errRecord = errors.New("record does not fit")

// apply changes p by a record. Nothing else changes the state of a partition. An error means that the record does not fit, and that
// nothing was changed.
func (s *state) apply(p *partition, r *Record) error {
	if err := s.change(p, r); err != nil {
		return fmt.Errorf("partition %d, record %d of kind %d: %w", p.number, p.records+1, r.Kind, err)
	}
	p.records++
	if r.Kind == RecordPartition {
		p.records = r.Key
	}
	return nil
}

func (s *state) change(p *partition, r *Record) error {
	switch r.Kind {
	case RecordIn:
		p.channel(r.Addr.Node).in = r.Num
		return nil
	case RecordOut:
		p.channel(r.Addr.Node).out = r.Num
		return nil
	case RecordGone:
		p.dropChannel(r.Addr.Node)
		return nil
	case RecordSlow:
		s.applySlow(p, r)
		return nil
	case RecordClaim:
		return p.applyClaim(r)
	case RecordRelease:
		return p.applyRelease(r)
	case RecordPartition:
		s.whole(p)
		p.serial, p.now, p.wall, p.partly = r.Num, r.Time, int64(r.Place), false
		return nil
	case RecordMore:
		return s.more(p, r)
	case RecordRoom:
		if room := p.open; room != nil && room.name() == r.Room && room.count == 0 && !room.keeps() { // the owner's has ended
			s.whole(p)
		}
		if p.rooms[r.Room] != nil || Partition(r.Room) != p.number || r.Place > maxSerial {
			return errRecord
		}
		s.addRoom(p, r)
		return nil
	}
	room := r.room
	if room == nil {
		if room = p.rooms[r.Room]; room == nil {
			return errRecord
		}
	}
	switch r.Kind {
	case RecordPush:
		p.numbered(room, r)
		return nil
	case RecordSaid, RecordUnkept, RecordForget, RecordMid, RecordPast:
		s.applyHistory(p, room, r)
		return nil
	case RecordDelete:
		if room.history == nil || !room.history.erase(r.Num) {
			return errRecord
		}
		s.shelve(p, room)
		return nil
	case RecordSettings:
		return s.applySettings(p, room, r)
	case RecordReaders:
		if r.Num >= uint64(readersKinds) {
			return errRecord
		}
		room.readers = Readers(r.Num)
		return nil
	case RecordPanic:
		room.panics = uint16(min(r.Num, math.MaxUint16))
		return nil
	case RecordCounted:
		s.applyCounted(p, room, r)
		return nil
	case RecordRenumber:
		if room == p.open { // of members that have yet to come it is not known
			return errRecord
		}
		s.renumber(room)
		return nil
	case RecordAdd:
		if s.find(room, r.User) != 0 {
			return errRecord
		}
		if r.Place == 0 || r.Place > maxSerial || room.last != 0 && s.serialOf(room.last) >= uint32(r.Place) {
			return errRecord
		}
		if len(r.Body) > 0 && s.folds.by[memberKey{room, string(r.Body)}] != 0 {
			return errRecord
		}
		s.add(p, room, r)
		return nil
	}
	slot := r.slot
	if slot == 0 {
		if slot = s.find(room, r.User); slot == 0 {
			return errRecord
		}
	}
	switch r.Kind {
	case RecordRemove:
		s.remove(p, slot)
	case RecordReplace:
		if r.Num == 1 {
			s.setDoubt(p, slot, r.Time)
		} else {
			s.setPresent(p, slot)
		}
		s.move(slot, r.Addr)
	case RecordAway:
		s.setAway(p, slot, r)
	case RecordLetter:
		return s.keepLetter(p, slot, r)
	case RecordSpoke:
		s.hush(p, slot)
		s.voice(p, slot, r.Time)
		p.now = max(p.now, r.Time)
	case RecordQuiet:
		s.hush(p, slot)
	case RecordSure:
		s.setSure(p, slot)
	default:
		return errRecord
	}
	return nil
}

// numbered notes how far a room's pushes have come. Their time never goes back, whichever node is the owner.
func (p *partition) numbered(room *Room, r *Record) {
	room.seq = r.Num
	p.wall = max(p.wall, r.Time)
}

func (s *state) addRoom(p *partition, r *Record) {
	if p.rooms == nil {
		p.rooms = make(map[string]*Room)
	}
	p.serial = max(p.serial, r.Num)
	p.rooms[r.Room] = &Room{id: newRoomID(p.number, r.Num), serial: uint32(r.Place), stream: codec.Stream{Room: r.Room, Incarnation: r.Key}, slow: time.Duration(r.Time)}
	s.rooms++
}

func (s *state) applySlow(p *partition, r *Record) {
	if r.Num == 0 {
		delete(p.slow, r.Room)
	} else {
		if p.slow == nil {
			p.slow = make(map[string]time.Duration)
		}
		p.slow[r.Room] = time.Duration(r.Time)
	}
	if room := p.rooms[r.Room]; room != nil {
		room.slow = time.Duration(r.Time)
	}
}

// channel is the channel to a node, which begins when it is first asked for.
func (p *partition) channel(node Node) *nodeChannel {
	for i := range p.nodes {
		if p.nodes[i].node == node {
			return &p.nodes[i]
		}
	}
	i, _ := slices.BinarySearchFunc(p.nodes, node, compareChannel)
	p.nodes = slices.Insert(p.nodes, i, nodeChannel{node: node})
	return &p.nodes[i]
}

// counters are those of the channel to a node, whether or not there is one yet.
func (p *partition) counters(node Node) (in, out uint64) {
	for i := range p.nodes {
		if c := &p.nodes[i]; c.node == node {
			return c.in, c.out
		}
	}
	return 0, 0
}

func (p *partition) dropChannel(node Node) {
	if i, has := slices.BinarySearchFunc(p.nodes, node, compareChannel); has {
		p.nodes = slices.Delete(p.nodes, i, i+1)
	}
}

func compareChannel(c nodeChannel, node Node) int {
	switch {
	case c.node < node:
		return -1
	case c.node > node:
		return 1
	}
	return 0
}
