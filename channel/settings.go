package channel

import (
	"bytes"
	"strconv"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// What a program has set of a room: whether clients may enter it, how many members it has room for, and a small JSON. A room keeps that as it keeps messages, beside
// which it stands: while anybody is in the room, and after that for History.Vacancy. So a room may be made before anybody is in it. Only rooms of which something is set take memory for it.

// settings are what is set of a room.
type settings struct {
	at       int64  // when they were set last, or the last member left; Unix ms
	pass     uint64 // Request.Pass that a client must show; 0: none
	capacity uint32 // members that there may be; 0: any number
	locked   bool   // no client may enter that is not a member
	data     []byte // canonical JSON, immutable; nil: none

	// The owner's (vacancies).
	room       *Room
	vacant     bool // it stands in the list
	next, prev *settings
}

// Bounds of what is set of a room, and what it counts beside the data (TestSettingsFootprint).
const (
	MaxData      = 1 << 10 // bytes of the data
	MaxCapacity  = 1 << 24
	MaxVacant    = 10_000    // rooms that nobody is in, of a process (History.Vacant)
	Vacancy      = time.Hour // how long they are there (History.Vacancy)
	settingsCost = 192
)

// PassAll is Request.Pass of an enter that a program asks for: what programs have locked is locked for clients.
const PassAll = 1<<64 - 1

// Conflict is the answer to an OpData whose room has other data than it was to have.
var Conflict = []byte(`{"code":409}`)

// RoomsRefused is the answer to an OpSet or OpData where there are as many rooms without members as there may be.
var RoomsRefused = RefusedFor(ReasonNames[ReasonRooms])

// blank tells whether nothing is set.
func (x *settings) blank() bool { return x.pass == 0 && x.capacity == 0 && !x.locked && x.data == nil }

// set is what is set of a room, which may be nil; nil: nothing is.
func (r *Room) set() *settings {
	if r == nil || r.history == nil || r.history.about == nil {
		return nil
	}
	return r.history.about.set
}

// cost is what x counts in memory.
func (x *settings) cost() int {
	if x == nil {
		return 0
	}
	return settingsCost + len(x.data)
}

// record is the one that makes a room's settings what they are.
func (x *settings) record(room *Room) Record {
	r := Record{Kind: RecordSettings, Room: room.name(), Num: uint64(x.capacity) << 1, Key: x.pass, Time: x.at, Body: x.data}
	if x.locked {
		r.Num |= 1
	}
	return r
}

// applySettings is RecordSettings.
func (s *state) applySettings(p *partition, room *Room, r *Record) error {
	if len(r.Body) > MaxData || r.Num>>1 > MaxCapacity {
		return errRecord
	}
	is := settings{at: r.Time, pass: r.Key, capacity: uint32(r.Num >> 1), locked: r.Num&1 != 0, room: room}
	if len(r.Body) > 0 {
		is.data = r.Body
	}
	x := room.set()
	if x != nil {
		s.shelves.occupy(x)
	}
	switch {
	case !is.blank():
		if room.history == nil {
			room.history = &history{room: room}
		}
		room.history.needAbout().set = &is
	case x != nil:
		room.history.about.set = nil
	}
	if h := room.history; h != nil && p.owned {
		s.shelves.recount(h) // its place among what is forgotten first is that of what is said
	} else if h != nil {
		s.shelves.follow(h)
	}
	if room.count == 0 && !room.keeps() && room != p.open {
		s.forgetRoom(p, room)
	}
	return nil
}

// vacancies are the rooms that nobody is in and that a worker owns, of which something is set: the one that was left, or set, longest ago first.
type vacancies struct {
	first, last *settings
	n           int
}

// vacate puts a room of which something is set, and that nobody is in, into the list, if it is not there: at its end, but for one that has come from another owner.
func (v *vacancies) vacate(x *settings) {
	if x.vacant {
		return
	}
	before := v.last
	for before != nil && before.at > x.at {
		before = before.prev
	}
	x.vacant, x.prev, x.next = true, before, v.first
	if before != nil {
		x.next, before.next = before.next, x
	} else {
		v.first = x
	}
	if x.next != nil {
		x.next.prev = x
	} else {
		v.last = x
	}
	v.n++
}

// occupy takes a room out of the list, if it is there.
func (v *vacancies) occupy(x *settings) {
	if !x.vacant {
		return
	}
	if x.prev != nil {
		x.prev.next = x.next
	} else {
		v.first = x.next
	}
	if x.next != nil {
		x.next.prev = x.prev
	} else {
		v.last = x.prev
	}
	x.vacant, x.next, x.prev = false, nil, nil
	v.n--
}

// lapsed tells whether what is set of a room holds no longer, as nobody has been there for too long. Unix ms, now.
func (lim *History) lapsed(room *Room, now int64) bool {
	x := room.set()
	return x != nil && room.count == 0 && lim.Vacancy > 0 && now-x.at >= lim.Vacancy.Milliseconds()
}

// holding is what is set of a room, which may be nil, and holds; nil: nothing.
func (lim *History) holding(room *Room, now int64) *settings {
	if room == nil || lim.lapsed(room, now) {
		return nil
	}
	return room.set()
}

// holding is what is set of a room and holds.
func (d *decision) holding(room *Room) *settings { return d.input.history.holding(room, d.input.wall) }

// unset forgets what is set of a room, if anything is.
func (d *decision) unset(room *Room) {
	if room.set() != nil {
		d.recordOf(RecordSettings, room, 0)
	}
}

// touch has what is set of a room hold from now on, as its last member leaves.
func (d *decision) touch(room *Room) {
	if x := room.set(); x != nil {
		d.change(room, *x)
	}
}

// change makes a room's settings x, from now on.
func (d *decision) change(room *Room, x settings) {
	x.at = d.input.wall
	r := x.record(room)
	rec := d.recordOf(RecordSettings, room, 0)
	rec.Num, rec.Key, rec.Time, rec.Body = r.Num, r.Key, r.Time, r.Body
}

// forgetAll forgets all that a room without members keeps, and with that the room.
func (d *decision) forgetAll(room *Room) {
	if room.remembers() {
		d.forget(room, true)
	}
	d.unset(room)
}

// change1 is one member of the Content of an OpSet or OpData.
func (x *settings) change1(key string, value []byte) (ok bool) {
	switch key {
	case "locked":
		x.locked = string(value) == "true"
		return x.locked || string(value) == "false"
	case "capacity":
		n, err := strconv.ParseUint(string(value), 10, 64)
		x.capacity = uint32(n)
		return err == nil && n <= MaxCapacity
	case "pass":
		n, err := strconv.ParseUint(string(value), 10, 64)
		x.pass = n
		return err == nil && n != PassAll
	case "data":
		if x.data = nil; string(value) != "null" {
			x.data = bytes.Clone(value)
		}
		return len(value) <= MaxData
	}
	return false
}

// setRoom is OpSet and OpData. The room need not be there.
func (d *decision) setRoom() {
	r, room := d.r, d.of.room
	if !r.From.Asker() || r.Room == "" || Partition(r.Room) != d.p.number {
		d.reply(Refused)
		return
	}
	was := d.holding(room)
	var now settings
	if was != nil {
		now = *was
	}
	var expected []byte
	ok := true
	members := codec.ScanObject(r.Content)
	for key, value, more := members.Next(); more; key, value, more = members.Next() {
		if string(key) == "was" {
			expected = value
		} else {
			ok = now.change1(string(key), value) && ok
		}
	}
	switch {
	case !ok || members.Err() != nil:
		d.reply(Refused)
		return
	case expected != nil && string(expected) != string(was.told()):
		d.reply(Conflict)
		return
	case now.blank():
		if room != nil {
			d.unset(room)
		}
		d.reply(Done)
		return
	case d.input.refusal != admitted:
		d.noteRefusal()
		d.reply(RoomsRefused)
		return
	}
	if room != nil && room.count == 0 && !d.fresh(room) { // it has ended, and what is known of it may be told to nobody
		d.forgetAll(room)
		room = nil
	}
	if room == nil {
		d.found()
		x := now.record(&Room{stream: codec.Stream{Room: r.Room}})
		rec := d.record(RecordSettings)
		*rec = x
		rec.Time = d.input.wall
	} else {
		d.change(room, now)
	}
	d.reply(Done)
}

// told is the data, as JSON.
func (x *settings) told() []byte {
	if x == nil || x.data == nil {
		return []byte("null")
	}
	return x.data
}

// describe answers with what there is to know of a room: {"name":…,"members":…}, and of what is set only that.
func (d *decision) describe() {
	switch room := d.of.room; {
	case d.input.refusal != admitted:
		d.noteRefusal()
		d.reply(Refused)
	case room == nil || room.count == 0 && d.holding(room) == nil: // what it keeps of what was said is told by its history
		d.reply(Absent)
	default:
		d.reply(d.appendRoom(nil, room))
	}
}

// appendRoom appends what there is to know of a room.
func (d *decision) appendRoom(b []byte, room *Room) []byte {
	b = codec.AppendString(append(b, `{"name":`...), room.name())
	b = strconv.AppendUint(append(b, `,"members":`...), uint64(room.count), 10)
	if x := d.holding(room); x != nil {
		if x.locked {
			b = append(b, `,"locked":true`...)
		}
		if x.capacity > 0 {
			b = strconv.AppendUint(append(b, `,"capacity":`...), uint64(x.capacity), 10)
		}
		if x.pass != 0 {
			b = append(b, `,"password":true`...)
		}
		if x.data != nil {
			b = append(append(b, `,"data":`...), x.data...)
		}
	}
	return append(b, '}')
}

// bars tells whether what is set of a room keeps a session out that is no member, and does not return.
func (w *Worker) bars(r *Request, of subject) refusal {
	x := w.history.holding(of.room, w.wall(w.state.parts[r.Part]))
	switch {
	case x == nil || r.Pass == PassAll || of.prev != 0 || of.user != 0 && r.Key != 0 && w.state.keys[of.user] == r.Key:
	case x.locked:
		return refusedLocked
	case x.pass != 0 && x.pass != r.Pass:
		return refusedPassword
	}
	return admitted
}

// admitSetting tells whether something may be set of a room: there are not too many for that already.
func (w *Worker) admitSetting(of subject) refusal {
	switch room := of.room; {
	case room != nil && (room.count > 0 || room.set() != nil):
	case w.history.Vacant > 0 && w.state.shelves.vacancies.n >= w.history.Vacant:
		return refusedRooms
	case room == nil && w.limits.Rooms > 0 && w.roomsOfAll.Load() >= int64(w.limits.Rooms):
		return refusedRooms
	}
	return admitted
}

// wantLapse notes when the first room is to be forgotten for what is set of it: that was left too long ago, or there are too many.
func (w *Worker) wantLapse() {
	v := &w.state.shelves.vacancies
	switch {
	case v.n == 0:
	case w.history.Vacant > 0 && v.n > w.history.Vacant:
		w.lapseAt = max(1, w.nanos())
	case w.lapseAt == 0 && w.history.Vacancy > 0:
		w.lapseAt = max(1, w.nanos()+int64(w.history.Vacancy))
	}
}

// lapse forgets what is set of rooms that nobody has been in for too long, or of which there are too many, so many at most.
func (w *Worker) lapse(rooms int) {
	w.lapseAt = 0
	v := &w.state.shelves.vacancies
	for x := v.first; x != nil; x = v.first {
		now := w.wall(w.state.parts[x.room.id.Partition()])
		if !w.history.lapsed(x.room, now) && (w.history.Vacant == 0 || v.n <= w.history.Vacant) {
			if w.history.Vacancy > 0 {
				left := min(max(0, x.at+w.history.Vacancy.Milliseconds()-now), w.history.Vacancy.Milliseconds()) // another owner's clock may have been ahead
				w.lapseAt = max(1, w.nanos()+left*int64(time.Millisecond))
			}
			return
		}
		if rooms == 0 {
			w.lapseAt = max(1, w.nanos())
			return
		}
		rooms--
		w.counters[countForgotten]++
		w.d.reset(w.state.parts[x.room.id.Partition()], nil)
		w.d.unset(x.room)
		w.apply()
		w.post()
	}
}
