package channel

import "slices"

// What rooms keep may outlive the process: a worker tells a Journal what it decides to keep, and is given it back when another process begins (Restore).
// The journal is no part of the machine: it sees decisions when they have been made, as a follower does, but takes only what is needed to have the same rings again.

// Journal takes what is to outlive the process. It is declared here because workers use it; package history is one. All methods are called on the
// workers' loops, must not block, and are safe from several of them.
type Journal interface {
	// Keep takes an entry; what it refers to is immutable. answer is the answer to the request: with it the journal must post the answer, when the entry
	// is safe. Nil if nobody waits; with a message also if Holds says false. Both are valid until it returns. A deletion holds whether it can be written or not: while it
	// cannot, its answer is posted at once, as Unwritten.
	Keep(e *Entry, answer *Item)
	// Holds tells whether senders are answered only when what they said is safe. It never changes. Who deletes something is always answered only then.
	Holds() bool
	// Failing tells that nothing can be made safe at present: while answers are held, nothing may be said in rooms that keep it.
	Failing() bool
}

// Unwritten is the answer to a deletion that cannot be written down at present: done, but after a restart what was deleted may be there again.
func Unwritten(answer []byte) []byte {
	return append(answer[:len(answer)-1:len(answer)-1], `,"unwritten":true}`...)
}

// EntryKind says what an Entry is.
type EntryKind uint8

// The kinds of entries.
const (
	EntrySaid      EntryKind = iota + 1 // a message
	EntryUnkept                         // a message that was too long to be kept
	EntryMember                         // a user that can prove by Key to have been in the room from Seq on
	EntryForgotten                      // the room was closed, or had to go: what it kept up to Seq is told to nobody any more
	EntryDeleted                        // the message Seq is told to nobody any more
)

// Entry is one thing of a room that outlives the process. It stands by itself: it says of which stream it is.
type Entry struct {
	Kind        EntryKind
	Readers     Readers // of the room
	Room        string
	Incarnation uint64 // of its stream
	Seq         uint64 // a message's number; of a member, how far the room's pushes had come at its first entry
	Prev        uint64 // number of the room's message before; 0: there was none
	Time        int64  // Unix ms
	Mid, Key    uint64 // of a message that had an id: that and the place of who said it; of a member, what proves it. 0: none
	Body        []byte // of the onChat; in what is restored empty if it is deleted
}

// KeptRoom is what is known of a room of an earlier process.
type KeptRoom struct {
	Name        string
	Incarnation uint64
	Readers     Readers
	Seq         uint64  // greater than the number of any push
	Floor       uint64  // number of the last message that is not in Said; 0: all are
	Said        []Entry // messages, the oldest first
	Members     []Entry // users that were there, those of longest ago first
}

// UseJournal has a worker tell j what rooms keep. Called before it owns anything.
func (w *Worker) UseJournal(j Journal) { w.journal, w.holds = j, j.Holds() }

// Restore gives the worker's partitions what rooms kept in an earlier process, as far as limits allow; the room that is to be forgotten first comes first. Nobody
// is in them. Readers are those of the room or of this process, whichever tell less. Called after Own, before Handle; it returns how many rooms there are now.
func (w *Worker) Restore(rooms []KeptRoom) (restored int) {
	for i := range rooms {
		k := &rooms[i]
		p := w.state.parts[Partition(k.Name)]
		if p == nil || p.rooms[k.Name] != nil || len(k.Said) == 0 || w.limits.Rooms > 0 && w.roomsOfAll.Load() >= int64(w.limits.Rooms) {
			continue
		}
		in := input{history: &w.history}
		readers := stricter(k.Readers, in.readers(k.Name))
		if readers == ReadersNobody || w.history.Messages == 0 {
			continue
		}
		for _, r := range k.records(p.serial+1, readers) {
			if err := w.state.apply(p, &r); err != nil {
				panic(err) // the room was not there
			}
		}
		w.countRooms()
		restored++
	}
	w.relieve(0, len(rooms))
	w.wantForgetting()
	return restored
}

// stricter is the one of two policies by which fewer may read.
func stricter(a, b Readers) Readers {
	switch {
	case a == ReadersNobody || b == ReadersNobody:
		return ReadersNobody
	case a == b:
		return a
	}
	return ReadersPresent
}

// records are those that make the room.
func (k *KeptRoom) records(serial uint64, readers Readers) []Record {
	newest := k.Said[len(k.Said)-1].Time
	records := []Record{
		{Kind: RecordRoom, Num: serial, Key: k.Incarnation},
		{Kind: RecordReaders, Num: uint64(readers)},
		{Kind: RecordUnkept, Num: k.Floor, Time: k.Said[0].Time},
	}
	for i := range k.Said {
		e := &k.Said[i]
		records = append(records, Record{Kind: RecordSaid, Num: e.Seq, Time: e.Time, Body: e.Body})
		if e.Mid != 0 {
			records = append(records, Record{Kind: RecordMid, Num: e.Seq, Key: e.Mid, Place: e.Key, Time: e.Time})
		}
	}
	for i := range k.Members {
		records = append(records, Record{Kind: RecordPast, Num: k.Members[i].Seq, Key: k.Members[i].Key, Time: min(k.Members[i].Time, newest)})
	}
	records = append(records, Record{Kind: RecordPush, Num: k.Seq, Time: newest})
	for i := range records {
		records[i].Room = k.Name
	}
	return records
}

// journalize tells the journal what was decided to keep. Called before anything is posted; it returns which item the journal posts, or -1.
func (w *Worker) journalize() (held int) {
	held = -1
	d := &w.d
	for i := range d.records {
		switch r := &d.records[i]; r.Kind {
		case RecordSaid:
			e := w.entry(EntrySaid, r)
			e.Prev, e.Body = w.before, r.Body
			for k := i + 1; k < len(d.records); k++ {
				if m := &d.records[k]; m.Kind == RecordMid {
					e.Mid, e.Key = m.Key, m.Place
				}
			}
			var answer *Item
			if w.holds {
				if held = d.answer(); held >= 0 {
					answer = &d.items[held]
				}
			}
			w.journal.Keep(&e, answer)
		case RecordUnkept:
			e := w.entry(EntryUnkept, r)
			e.Prev = w.before
			w.journal.Keep(&e, nil)
		case RecordDelete:
			e := w.entry(EntryDeleted, r)
			var answer *Item
			if !slices.ContainsFunc(d.records[i+1:], func(r Record) bool { return r.Kind == RecordDelete }) { // the last one: those before are safe then, too
				if held = d.answer(); held >= 0 {
					answer = &d.items[held]
				}
			}
			w.journal.Keep(&e, answer)
		case RecordForget:
			if r.Key == 2 { // else a newer entry says it, or its age
				e := Entry{Kind: EntryForgotten, Readers: r.room.readers, Room: r.Room, Incarnation: r.room.stream.Incarnation, Seq: r.Num, Time: d.input.wall}
				w.journal.Keep(&e, nil) // the room may be gone by now
			}
		case RecordAdd, RecordPast:
			if room := d.p.rooms[r.Room]; r.Key != 0 && room != nil && room.readers == ReadersPresent {
				e := w.entry(EntryMember, r)
				if e.Key = r.Key; r.Kind == RecordAdd {
					e.Time = d.input.wall
				}
				w.journal.Keep(&e, nil)
			}
		}
	}
	return held
}

// entry is a record as an entry; its room is there.
func (w *Worker) entry(kind EntryKind, r *Record) Entry {
	room := w.d.p.rooms[r.Room]
	return Entry{Kind: kind, Readers: room.readers, Room: r.Room, Incarnation: room.stream.Incarnation, Seq: r.Num, Time: r.Time}
}

// answer is which item answers the request; -1: none does.
func (d *decision) answer() int {
	for i := len(d.items) - 1; i >= 0 && d.r != nil && d.r.Req != 0; i-- {
		if it := &d.items[i]; it.Kind == ItemReply && it.Req == d.r.Req && it.To == d.r.From {
			return i
		}
	}
	return -1
}

// lastSaid is the number of the room's last message, kept or not; 0: there was none, or it is not known.
func (r *Room) lastSaid() uint64 {
	switch {
	case r == nil || r.history == nil:
		return 0
	case r.history.n > 0:
		return max(r.history.floor, r.history.newest().seq)
	}
	return r.history.floor
}
