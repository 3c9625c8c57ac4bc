package channel

import (
	"slices"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// History says what rooms keep of what is said in them, so that members can return without a gap (Worker.KeepHistory).
type History struct {
	Messages int           // of one room; 0: none is kept
	Bytes    int           // of the messages of one room, each counting 64 (messageCost) more
	Age      time.Duration // after that a message is told to nobody; 0: no limit
	Memory   int64         // bytes of all rooms that the worker owns, what it keeps of members included; 0: no limit
	// Readers says who may read what a room of that name keeps. nil: ReadersPresent for all.
	Readers func(room string) Readers
	// Wall is the time in Unix milliseconds, on a clock that is never set back.
	Wall func() int64
	// Vacancy is how long what is set of a room holds while nobody is in it; 0: no limit. Vacant is how many such rooms the worker owns at the most; 0: no limit.
	Vacancy time.Duration
	Vacant  int
	// Salt is a number that no other process has: rooms' incarnations are made of it.
	Salt uint64
}

// Readers says who may read what was said in a room.
type Readers uint8

// The kinds of readers.
const (
	// ReadersPresent: members, from their entry on; one that comes again, and proves by a secret to be the same, from its first entry on.
	ReadersPresent Readers = iota
	// ReadersEveryone: every member, all of it.
	ReadersEveryone
	// ReadersNobody: nothing is kept.
	ReadersNobody

	readersKinds
)

// What something that is kept counts beside its bytes, and how much of a room is kept beside messages.
const (
	historyCost = 400 // the room itself included, which may have nobody in it (TestHistoryFootprint)
	messageCost = 64
	midCost     = 32
	pastCost    = 96   // with its place in a map (TestPastFootprint)
	maxMids     = 64   // of messages of members, and as many of what operators publish
	maxPast     = 4096 // a large room whose proxy has ended; a user that comes and goes must do it that often to push others out
)

// history is what a room keeps.
type history struct {
	room  *Room
	ring  []said // the last messages; the oldest at head, n of them. Its length is a power of two
	head  int32
	n     int32
	bytes int32   // of the messages, messageCost of each included
	gone  int32   // how many of the messages are deleted
	floor uint64  // number of the last onChat that is not in the ring; 0: all are
	at    int64   // when something was last added, Unix ms
	about *abouts // nil: nothing

	// The owner's (shelves).
	counted    int32 // bytes, in shelves.bytes
	messages   int32 // in shelves.messages
	shelf      *shelf
	next, prev *history
	empty      bool // in shelves.empty
}

// abouts is what a room keeps beside messages, which few rooms do.
type abouts struct {
	mids []mid // the last messages that had an id, oldest first; members' do not push out operators', nor the other way round
	past formers
	// What was said to members that are away, by slot, and how much it counts in memory.
	letters     map[uint32][]letter
	letterBytes int
	lettersAt   int64 // when the last one was said, Unix ms
	set         *settings
}

// mids is the last messages that had an id.
func (h *history) mids() []mid {
	if h.about == nil {
		return nil
	}
	return h.about.mids
}

// past is what is known of a user that has left; nil: nothing is.
func (h *history) past(key uint64) *past {
	if h.about == nil {
		return nil
	}
	return h.about.past.by[key]
}

// said is a message.
type said struct {
	seq  uint64
	time int64  // Unix ms
	body []byte // of the onChat; immutable, and the push's own. Empty: it is deleted
}

// deleted tells whether only the message's place is left.
func (m *said) deleted() bool { return len(m.body) == 0 }

func (m *said) cost() int { return len(m.body) + messageCost }

// mid says that a message with an id was sent.
type mid struct {
	place, id, seq uint64
	time           int64
}

// past is a user that has left.
type past struct {
	key, first uint64
	time       int64
	next, prev *past
}

// formers are those who have left, maxPast at most, in the order in which they left last. A mass that leaves and returns asks for each of its
// members, so they are found by key.
type formers struct {
	by          map[uint64]*past
	first, last *past
}

// leave notes that a user has left at a time, having entered first at a number, as far as that is known. The one that left longest ago goes for it.
func (f *formers) leave(key, first uint64, time int64) {
	p := f.by[key]
	switch {
	case p != nil:
		f.unlink(p)
		first = min(first, p.first)
	case len(f.by) == maxPast:
		p = f.first
		f.unlink(p)
		delete(f.by, p.key)
	default:
		p = new(past)
	}
	if f.by == nil {
		f.by = make(map[uint64]*past)
	}
	*p = past{key: key, first: first, time: time, prev: f.last}
	f.by[key] = p
	if f.last != nil {
		f.last.next = p
	} else {
		f.first = p
	}
	f.last = p
}

func (f *formers) unlink(p *past) {
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		f.first = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		f.last = p.prev
	}
}

// keeps tells whether there is something that outlives the last member: messages, or what is set.
func (r *Room) keeps() bool { return r.history != nil && r.history.n > 0 || r.set() != nil }

// message is the i-th message, the oldest being 0.
func (h *history) message(i int) *said { return &h.ring[(int(h.head)+i)&(len(h.ring)-1)] }

// ages tells whether there is something that becomes too old to be told. Letters do not: the member they are for returns before, or not at all.
func (h *history) ages() bool {
	return h.n > 0 || h.about != nil && len(h.about.mids)+len(h.about.past.by) > 0
}

// since is the time from which what is kept becomes old, letters aside: with nobody in the room, that of the last message. What is old decides nothing: when it is taken
// out of memory is the worker's own affair.
func (h *history) since() int64 {
	if h.room.count == 0 && h.n > 0 {
		return h.newest().time
	}
	return h.at
}

// told is how many messages there are that are not deleted.
func (h *history) told() int32 { return h.n - h.gone }

// newest is the last message, if there is one.
func (h *history) newest() *said { return h.message(int(h.n) - 1) }

// spare is what may be forgotten of h counts in memory: all but what is set.
func (h *history) spare() int {
	n := int(h.bytes)
	if a := h.about; a != nil {
		n += midCost*len(a.mids) + pastCost*len(a.past.by) + a.letterBytes
	}
	return n
}

// size is what h counts in memory; 0 if there is nothing in it.
func (h *history) size() int {
	n := h.spare() + h.room.set().cost()
	if n > 0 {
		n += historyCost
	}
	return n
}

// applyHistory changes what a room keeps.
func (s *state) applyHistory(p *partition, room *Room, r *Record) {
	if room.history == nil {
		room.history = &history{room: room}
	}
	h := room.history
	switch r.Kind {
	case RecordSaid:
		p.numbered(room, r)
		h.forget(r.Key)
		h.push(said{r.Num, r.Time, r.Body})
	case RecordUnkept:
		p.numbered(room, r)
		h.floor = max(h.floor, r.Num)
	case RecordForget:
		h.forget(r.Num)
		if h.floor = max(h.floor, r.Num); r.Key != 0 {
			about := h.about
			*h = history{room: room, floor: h.floor, shelf: h.shelf, counted: h.counted, messages: h.messages, next: h.next, prev: h.prev, empty: h.empty}
			if about != nil && (about.letterBytes > 0 && r.Key == 1 || about.set != nil) {
				h.about = &abouts{set: about.set}
				if r.Key == 1 {
					h.about.letters, h.about.letterBytes, h.about.lettersAt = about.letters, about.letterBytes, about.lettersAt
				}
			}
		}
		if room.count == 0 && !room.keeps() && room != p.open {
			s.forgetRoom(p, room)
			return
		}
	case RecordMid:
		a := h.needAbout()
		a.note(mid{r.Place, r.Key, r.Num, r.Time})
	case RecordPast:
		h.needAbout().past.leave(r.Key, r.Num, r.Time)
	}
	h.at = max(h.at, r.Time)
	s.shelve(p, room)
}

// note keeps an id. The oldest of its kind goes for it.
func (a *abouts) note(m mid) {
	oldest, n := -1, 0
	for i := range a.mids {
		if isPublish(a.mids[i].place) != isPublish(m.place) {
			continue
		}
		if n++; oldest < 0 {
			oldest = i
		}
	}
	if n == maxMids {
		a.mids = slices.Delete(a.mids, oldest, oldest+1)
	}
	a.mids = append(a.mids, m)
}

func (h *history) needAbout() *abouts {
	if h.about == nil {
		h.about = new(abouts)
	}
	return h.about
}

// push adds the newest message.
func (h *history) push(m said) {
	if int(h.n) == len(h.ring) {
		ring := make([]said, max(1, 2*len(h.ring)))
		for i := range h.ring {
			ring[i] = *h.message(i)
		}
		h.ring, h.head = ring, 0
	}
	h.n++
	*h.newest() = m
	h.bytes += int32(m.cost())
	if m.deleted() {
		h.gone++
	}
}

// erase deletes the message with a number, if it is there, and tells whether it is. Its place stays: a client that has read up to it, or says it again by its id, is answered as before.
func (h *history) erase(seq uint64) bool {
	for i := int(h.n) - 1; i >= 0; i-- {
		if m := h.message(i); m.seq == seq {
			if !m.deleted() {
				h.gone++
			}
			h.bytes -= int32(len(m.body))
			m.body = nil
			return true
		}
	}
	return false
}

// forget drops the messages up to a number.
func (h *history) forget(upTo uint64) {
	for h.n > 0 && h.ring[h.head].seq <= upTo {
		m := &h.ring[h.head]
		h.floor = max(h.floor, m.seq)
		h.bytes -= int32(m.cost())
		if m.deleted() {
			h.gone--
		}
		*m = said{}
		h.head = (h.head + 1) & int32(len(h.ring)-1)
		h.n--
	}
	if h.n == 0 {
		h.ring, h.head = nil, 0
	}
}

// remembers tells whether a snapshot says anything of what the room keeps: a history in which nothing is left, letters that were dropped for one, decides
// as if there were none.
func (r *Room) remembers() bool {
	h := r.history
	if h == nil {
		return false
	}
	a := h.about
	return h.n > 0 || h.floor != 0 || h.at != 0 || a != nil && (len(a.mids) > 0 || len(a.letters) > 0 || a.past.first != nil)
}

// snapshotHistory are the records of which it consists.
func (r *Room) snapshotHistory(yield func(Record) bool) bool {
	h := r.history
	if h == nil {
		return true
	}
	if (h.floor != 0 || h.at != 0) && !yield(Record{Kind: RecordUnkept, Room: r.name(), Num: h.floor, Time: h.at}) {
		return false
	}
	for i := range int(h.n) {
		m := h.message(i)
		if !yield(Record{Kind: RecordSaid, Room: r.name(), Num: m.seq, Time: m.time, Body: m.body}) {
			return false
		}
	}
	for _, m := range h.mids() {
		if !yield(Record{Kind: RecordMid, Room: r.name(), Num: m.seq, Key: m.id, Place: m.place, Time: m.time}) {
			return false
		}
	}
	if h.about == nil {
		return true
	}
	for p := h.about.past.first; p != nil; p = p.next {
		if !yield(Record{Kind: RecordPast, Room: r.name(), Num: p.first, Key: p.key, Time: p.time}) {
			return false
		}
	}
	return true
}

// fit is the number up to which messages must go so that one more of so many bytes can be kept. Unix ms, now.
func (h *history) fit(lim *History, cost int, now int64) (upTo uint64) {
	if h == nil {
		return 0
	}
	bytes := int(h.bytes) + cost
	for i := range int(h.n) {
		m := h.message(i)
		if int(h.n)-i < lim.Messages && bytes <= lim.Bytes && !lim.old(m.time, now) {
			break
		}
		upTo = m.seq
		bytes -= m.cost()
	}
	return upTo
}

// old tells whether what was at a time, in Unix ms, is told to nobody any more.
func (lim *History) old(at, now int64) bool {
	return lim.Age > 0 && now-at >= lim.Age.Milliseconds()
}

// seqOf is a place in a room's stream.
func (r *Room) seqOf(n uint64) codec.Seq {
	return codec.Seq{Incarnation: r.stream.Incarnation, Number: n}
}
