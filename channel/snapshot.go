package channel

import "slices"

// Snapshot is a snapshot of a partition that is taken in parts, while the partition goes on. Each part is of the moment in which it is taken.
// A follower gets every record from the first part on, and applies those that are of something it has: what has not come yet will come as it is
// then. Rooms come in the order in which they were made, and members in that in which they entered, so a part may end behind any member.
type Snapshot struct {
	w     *Worker
	p     *partition
	rooms []*Room // that were there when it began and have not come; those made later come as records
	begun bool    // some members of the first of rooms have come
	last  uint32  // slot: the last of these that is still there; 0: none is
	rest  rest    // how far it has come behind the rooms
}

// Snapshot begins a snapshot of a partition that the worker owns, or has owned until it was demoted. It must be taken to its end, or be ended.
func (w *Worker) Snapshot(part uint16) *Snapshot {
	p := w.copyOf(part)
	s := &Snapshot{w: w, p: p, rooms: p.inOrder()}
	p.snapshots = append(p.snapshots, s)
	return s
}

// End ends a snapshot before its last part, if it has not ended.
func (s *Snapshot) End() {
	for i, x := range s.p.snapshots {
		if x == s {
			s.p.snapshots = append(s.p.snapshots[:i:i], s.p.snapshots[i+1:]...)
			return
		}
	}
}

// Part is the next part. It is so many bytes long, or longer by the last thing in it: a member, with the letters that are kept for it, or what a room keeps. The
// last part (whole) has two records for each node besides.
func (s *Snapshot) Part(bytes int) (b []byte, whole bool) {
	for len(s.rooms) > 0 {
		room := s.rooms[0]
		more := &Record{Kind: RecordMore, Room: room.name(), Key: room.id.serial()}
		if room.large() {
			more.Time = 1
		}
		if s.p.rooms[room.name()] == room { // it has not ended since
			if len(b) >= bytes {
				return b, false
			}
			cut := false
			if b, cut = s.room(b, room, bytes); cut {
				s.begun, more.Num = true, 1
				return appendFramed(b, more), false
			}
		}
		if s.begun {
			more.Place = uint64(room.serial)
			b = appendFramed(b, more)
		}
		s.rooms, s.begun, s.last = s.rooms[1:], false, 0
	}
	if whole = s.w.state.snapshotRest(s.p, s.p.now, &s.rest, func(r Record) { b = appendFramed(b, &r) }, func() bool { return len(b) >= bytes }); whole {
		s.End()
	}
	return b, whole
}

// room appends what has not come of a room, until there are so many bytes; cut tells whether members are left.
func (s *Snapshot) room(b []byte, room *Room, bytes int) (_ []byte, cut bool) {
	state, slot := &s.w.state, room.first
	switch {
	case !s.begun:
		for r := range snapshotHead(room) {
			b = appendFramed(b, &r)
		}
	case s.last != 0:
		slot = state.member(s.last).next
	}
	b = slices.Grow(b, min(max(bytes-len(b), 0), int(room.count)*memberBytes)+recordBytes)
	for ; slot != 0; slot = state.member(slot).next {
		if len(b) >= bytes {
			return b, true
		}
		r := state.snapshotMember(slot)
		b = appendFramed(b, &r)
		s.last = slot
	}
	return b, false
}

// A part has room at once for about so many bytes a member, and for a record at its end: a large room would have it grow, and copied, a dozen times.
const memberBytes, recordBytes = 48, 256

// leaves is told before a member leaves: a snapshot that has come to it goes on behind the one before.
func (s *Snapshot) leaves(slot, prev uint32) {
	if s.last == slot {
		s.last = prev
	}
}

// ApplySnapshot takes a part of a snapshot of a partition that the worker follows, and tells whether its state is whole now. Strings are
// copied out of b. After an error the caller must forget the partition.
func (w *Worker) ApplySnapshot(part uint16, b []byte) (whole bool, err error) {
	p := w.shadows[part]
	err = w.aside(func() error { return w.state.read(p, b) })
	if err == nil && !p.partly && p.twins() {
		err = errRecord
	}
	return !p.partly, err
}

// takes tells whether a record can be applied to a partition of which only some has come: one of a room that has, or a new room's. In a room of
// which only some members have come it is one of these; who enters now comes behind those who have not. When members spoke, were cut off and came back follows
// the rooms, in order: what is added comes there, and what ends is applied to those of whom it has come.
func (s *state) takes(p *partition, r *Record) bool {
	room := p.rooms[r.Room]
	switch r.Kind {
	case RecordRoom, RecordSlow:
		return true
	case RecordAdd:
		return room != nil && room != p.open
	case RecordRemove, RecordReplace:
		return room != nil && (room != p.open || s.find(room, r.User) != 0)
	case RecordQuiet, RecordSure:
		return room != nil && s.find(room, r.User) != 0
	case RecordLetter:
		return room != nil && s.isAway(s.find(room, r.User))
	case RecordPush, RecordPanic, RecordCounted, RecordRenumber, RecordSaid, RecordUnkept, RecordForget, RecordDelete, RecordMid, RecordPast, RecordReaders, RecordSettings:
		return room != nil
	}
	return false
}

// more notes whether more members of a room come in later parts of a snapshot. The owner's room may have ended since.
func (s *state) more(p *partition, r *Record) error {
	room := p.rooms[r.Room]
	switch {
	case r.Num != 0 && (room == nil || room.id.serial() != r.Key):
		return errRecord
	case r.Num != 0:
		p.open = room
	case p.open != nil && p.open.id.serial() == r.Key:
		p.open.serial = max(p.open.serial, uint32(min(r.Place, maxSerial))) // who entered meanwhile and has left was skipped
		if r.Time == 0 {                                                    // it ended and began anew meanwhile, which a follower with only some of its members cannot tell
			p.small(p.open)
		}
		if p.open.crowd != nil {
			p.noteChange(p.open)
		}
		s.whole(p)
	}
	return nil
}

// whole ends the waiting for members of a room.
func (s *state) whole(p *partition) {
	room := p.open
	if p.open = nil; room != nil && room.count == 0 {
		s.emptied(p, room)
	}
}
