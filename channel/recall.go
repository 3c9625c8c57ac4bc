package channel

import (
	"math"
	"strconv"

	"github.com/pomelod/pomelod/codec"
)

// What is decided about what rooms keep: who is told of it, and that a message which came twice is said once.

// Bounds of what one answer tells of what was said; a message that is longer alone is told alone.
const (
	pageMessages = 200
	pageBytes    = 64 << 10
)

// readers says who may read what is said in a room of that name that is made now.
func (in *input) readers(room string) Readers {
	switch {
	case in.history.Messages == 0, in.history.Readers == nil:
		return ReadersPresent
	}
	return in.history.Readers(room)
}

// incarnation is a number for a stream that begins: of this process, this ownership of the partition and this room. No clock is asked.
func (d *decision) incarnation(id RoomID) uint64 {
	h := d.input.history.Salt
	for _, n := range [...]uint64{d.p.epoch.View, uint64(d.p.epoch.Maker), uint64(id)} { // splitmix64
		h += 0x9e3779b97f4a7c15 ^ n
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// keep has rec, the record of p, keep what p says.
func (d *decision) keep(rec *Record, room *Room, p *codec.Push) {
	lim := d.input.history
	cost := len(p.Body) + messageCost
	switch {
	case lim.Messages == 0, room.readers == ReadersNobody:
	case cost > lim.Bytes:
		rec.Kind = RecordUnkept
	default:
		rec.Kind, rec.Body, rec.Key = RecordSaid, p.Body, room.history.fit(lim, cost, d.input.wall)
	}
}

// recent is what a room keeps, unless it is so old that nobody is told of it.
func (d *decision) recent(room *Room) *history {
	if h := room.history; h != nil && !d.input.history.old(h.since(), d.input.wall) {
		return h
	}
	return nil
}

// fresh tells whether a room that nobody is in is still there, for what it keeps.
func (d *decision) fresh(room *Room) bool {
	return d.tells(room) || d.holding(room) != nil
}

// tells tells whether there is a message in it that may be told.
func (d *decision) tells(room *Room) bool {
	h := room.history
	return h != nil && h.n > 0 && !d.input.history.old(h.newest().time, d.input.wall)
}

// refresh forgets what is so old that nobody is told of it, before something is added that would make it count again.
func (d *decision) refresh(room *Room) {
	if h := room.history; h != nil && d.recent(room) == nil && h.ages() {
		d.forget(room, false)
	}
}

// remember notes since when somebody who leaves, and can prove to have been here, has been in the room, as long as others may say something
// or somebody did. What is old has been forgotten before (refresh).
func (d *decision) remember(room *Room, slot uint32) {
	key := d.state.keys[slot]
	if key == 0 || d.input.history.Messages == 0 || room.readers != ReadersPresent || d.left(room) == 1 && !d.fresh(room) {
		return
	}
	rec := d.recordOf(RecordPast, room, 0)
	rec.Key, rec.Num, rec.Time = key, d.state.member(slot).mark.entry(), d.input.wall
}

// readsFrom is the number behind which a member may read that entered at a number and proves to be key.
func (d *decision) readsFrom(room *Room, key, entry uint64) uint64 {
	switch room.readers {
	case ReadersEveryone:
		return 0
	case ReadersNobody:
		return math.MaxUint64
	}
	return d.firstEntry(room, key, entry)
}

// firstEntry is the number at which a member entered first, as far as it is known, that has entered at a number now and proves to be key.
func (d *decision) firstEntry(room *Room, key, entry uint64) uint64 {
	if key == 0 {
		return entry
	}
	for _, own := range [...]uint32{d.of.prev, d.of.alike} { // they leave with this decision, so there is no note of them yet
		if own != 0 && d.state.keys[own] == key {
			entry = min(entry, d.state.member(own).mark.entry())
		}
	}
	if h := d.recent(room); h != nil {
		if p := h.past(key); p != nil {
			entry = min(entry, p.first)
		}
	}
	return entry
}

// span is a part of what a room keeps: messages from, up to and without to.
type span struct{ from, to int }

// readable are the messages behind a number that are told to somebody who reads from there on. lost is the number of the last onChat that is not
// there any more.
func (d *decision) readable(room *Room, behind uint64) (s span, lost uint64) {
	h := room.history
	if h == nil {
		return span{}, 0
	}
	lost, s.to = h.floor, int(h.n)
	for ; s.from < s.to; s.from++ {
		if m := h.message(s.from); d.input.history.old(m.time, d.input.wall) {
			lost = max(lost, m.seq)
		} else if m.seq > behind {
			break
		}
	}
	return s, lost
}

// last is the end of a part that fits into an answer, of at most so many messages. It is empty only where none are wanted: who reads page by page
// would come no further otherwise. Deleted ones do not count, and where only such are before it they are a part of it: there is nothing more to be told.
func (h *history) last(s span, most int) span {
	bytes, told, from, reached := 0, 0, s.to, s.to
	for ; from > s.from; from-- {
		m := h.message(from - 1)
		if m.deleted() {
			continue
		}
		if bytes += m.cost(); told == most || bytes > pageBytes && told > 0 {
			return span{reached, s.to}
		}
		told++
		reached = from - 1
	}
	return span{from, s.to}
}

// recall adds to the answer to an enter what extended sessions are told, and posts what was missed, or the last messages that are wanted, behind it.
func (d *decision) recall(it *Item, room *Room, id RoomID, entry uint64) {
	d.repeat(room, id, d.tell(it, room, id, entry), nil)
}

// tell adds to the answer to an enter what extended sessions are told, and returns what they are to be told of what was said.
func (d *decision) tell(it *Item, room *Room, id RoomID, entry uint64) (s span) {
	x := d.r.Ext
	complete, rest, incarnation := false, false, uint64(0)
	if room == nil {
		incarnation = d.incarnation(id)
	} else {
		incarnation = room.stream.Incarnation
		s, complete, rest = d.missed(room, entry)
	}
	tail := append(make([]byte, 0, 64), `],"seq":"`...)
	tail = append(codec.Seq{Incarnation: incarnation, Number: d.seq}.Append(tail), '"')
	if x.HasSince {
		tail = strconv.AppendBool(append(tail, `,"complete":`...), complete)
		if !complete {
			d.note(countIncomplete)
		}
		if rest {
			tail = append(tail, `,"rest":true`...)
		}
	}
	it.Tail = string(append(tail, '}'))
	return s
}

// repeat posts what was said, and letters, in the order in which they were said.
func (d *decision) repeat(room *Room, id RoomID, s span, letters []letter) {
	d.repeatDeleted(room, id)
	for i := s.from; i < s.to || len(letters) > 0; {
		if i < s.to && room.history.message(i).deleted() {
			i++
			continue
		}
		d.note(countRepeated)
		p := &codec.Push{Route: "onChat"}
		if i == s.to || len(letters) > 0 && letters[0].seq < room.history.message(i).seq {
			p.Body, p.Time = letters[0].body, letters[0].time
			letters = letters[1:]
		} else {
			m := room.history.message(i)
			p.Body, p.Seq, p.Time = m.body, m.seq, m.time
			i++
		}
		p.Stream = &room.stream
		d.post(ItemDirect, d.r.From, id).Push = p
	}
}

// missed is what who enters is told of what was said before, and whether with that it knows every onChat after Since. If not, rest tells whether it does with the pages of
// history before that.
func (d *decision) missed(room *Room, entry uint64) (s span, complete, rest bool) {
	x := d.r.Ext
	first := d.readsFrom(room, d.r.Key, entry)
	known := x.HasSince && x.Since.Incarnation == room.stream.Incarnation && x.Since.Number <= d.seq
	switch {
	case d.input.history.Messages == 0, room.readers == ReadersNobody: // nobody knows what was said
		return span{}, known && x.Since.Number == room.seq, false
	case room.history == nil: // nothing was said
		return span{}, known && first <= x.Since.Number, false
	}
	behind := first
	if known {
		behind = max(first, x.Since.Number)
	}
	all, lost := d.readable(room, behind)
	complete = known && first <= x.Since.Number && lost <= x.Since.Number
	if all.from == all.to {
		return span{}, complete, false
	}
	most := pageMessages
	if !x.HasSince {
		most = min(most, int(x.Most))
	}
	s = room.history.last(all, most)
	return s, complete && s == all, complete && s != all
}

// page answers a member with what was said.
func (d *decision) page() {
	room, slot := d.of.room, d.of.user
	operator := d.r.From.Asker()
	if operator && room == nil {
		d.reply(Absent)
		return
	}
	if slot == 0 && !operator || d.r.Ext == nil {
		d.reply(Refused)
		return
	}
	if d.input.refusal != admitted {
		d.noteRefusal()
		d.reply(Refused)
		return
	}
	x := d.r.Ext
	d.note(countPages)
	behind := uint64(0)
	if !operator {
		behind = d.readsFrom(room, d.state.keys[slot], d.state.member(slot).mark.entry())
	}
	s, _ := d.readable(room, behind)
	if x.HasSince {
		if x.Since.Incarnation != room.stream.Incarnation {
			s.to = s.from
		}
		for s.to > s.from && room.history.message(s.to-1).seq >= x.Since.Number {
			s.to--
		}
	}
	part := s
	if s.from < s.to {
		part = room.history.last(s, min(pageMessages, int(x.Most)))
	}
	b := []byte(`{"messages":[`)
	for i := part.from; i < part.to; i++ {
		m := room.history.message(i)
		if m.deleted() {
			continue
		}
		if b[len(b)-1] == '}' {
			b = append(b, ',')
		}
		b = codec.AppendPlace(append(b, '{'), room.seqOf(m.seq), m.time)
		b = append(append(b, ','), m.body[1:]...)
	}
	b = strconv.AppendBool(append(b, `],"more":`...), part.from > s.from)
	d.reply(append(b, '}'))
}

// forget forgets all that a room keeps, letters to members that are away only if so.
func (d *decision) forget(room *Room, letters bool) {
	rec := d.recordOf(RecordForget, room, 0)
	if h := room.history; h.n > 0 {
		rec.Num = h.newest().seq
	}
	if rec.Key = 1; letters {
		rec.Key = 2
	}
}

// place is what stays the same when a member returns: what it proves, or its entry.
func (d *decision) place(slot uint32) uint64 {
	if key := d.state.keys[slot]; key != 0 {
		return key
	}
	return d.state.member(slot).mark.entry() << 1 // keys are odd (router's secretKey)
}

// sentBefore answers a send that was carried out before, if it was, as the first time.
func (d *decision) sentBefore(room *Room, sender uint32) bool {
	if d.r.Ext == nil || d.r.Ext.Mid == 0 {
		return false
	}
	h := d.recent(room)
	if h == nil {
		return false
	}
	place, mids := d.place(sender), h.mids()
	for i := range mids {
		if m := &mids[i]; m.id == d.r.Ext.Mid && m.place == place {
			d.note(countMids)
			d.reply(sentBody(room, m.seq, m.time))
			return true
		}
	}
	return false
}

// sent answers an extended session's send, and keeps the message's id.
func (d *decision) sent(room *Room, sender uint32, p *codec.Push) {
	if mid := d.r.Ext.Mid; mid != 0 {
		rec := d.recordOf(RecordMid, room, 0)
		rec.Num, rec.Time, rec.Key, rec.Place = p.Seq, p.Time, mid, d.place(sender)
	}
	d.reply(sentBody(room, p.Seq, p.Time))
}

func sentBody(room *Room, seq uint64, time int64) []byte {
	b := append(make([]byte, 0, 64), '{')
	return append(codec.AppendPlace(b, room.seqOf(seq), time), '}')
}
