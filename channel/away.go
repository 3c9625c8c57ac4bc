package channel

import (
	"time"

	"github.com/pomelod/pomelod/codec"
)

// A member that was cut off may return: it is away for Limits.Grace. Its name is kept and listed, others are told nothing, and no session is behind
// it. Back in time it has its place again, and is told what was said meanwhile; otherwise it leaves then. A member that has given a secret returns by that
// alone, and the place is kept from all others. One that has given none returns from the address at which it was; for any other, its name is free.

// away is what is known of a member that is away, beside when it was cut off (state.cuts).
type away struct {
	handed uint64 // number of the last push that its session was sent
	near   uint64 // where it was (Request.Near); 0: unknown
}

// A member that is back is in doubt for as long as it might have been away: it has its place again, but what it is told may be on its way to a session that
// ended in the meantime. That one's leave says so (Unheard), and then it is away as before, with all that is kept for it. What is known of a member in doubt
// is in state.away too, and when it came back in state.doubts.

// letter is a private message that is kept for a member that is away.
type letter struct {
	seq  uint64 // the room's pushes had come to that
	time int64  // Unix ms
	body []byte // of the onChat; immutable
}

// Bounds of what is kept for members that are away. Places of one address in one room are at most a tenth of its members, or leastGhosts; beyond that a cut
// is a leave.
const (
	maxLetters     = 32
	maxLetterBytes = 16 << 10
	leastGhosts    = 100
	// awayCost is what one that is away takes beside a member: its places in three maps (TestAwayFootprint).
	awayCost = 256
)

// ghosts names the places in a room of members that were cut off at one address.
type ghosts struct {
	room RoomID
	near uint64
}

// setAway notes that a member was cut off. With Key 1 it was in doubt, and what was kept for it is kept.
func (s *state) setAway(p *partition, slot uint32, r *Record) {
	if r.Key != 1 || !s.undoubt(p, slot) {
		s.setPresent(p, slot) // a follower may hear of it twice
	}
	m := s.member(slot)
	s.move(slot, Addr{})
	s.away[slot] = away{handed: r.Num, near: r.Place}
	p.cut.put(s.cuts, slot, r.Time)
	p.now = max(p.now, r.Time)
	p.away++
	if r.Place != 0 {
		if p.ghosts == nil {
			p.ghosts = make(map[ghosts]int)
		}
		p.ghosts[ghosts{m.room.id, r.Place}]++
	}
}

// awayIn is what follows the list of a room's members: the names of those that are away, in the order in which they were cut off; nothing where there are none.
func (d *decision) awayIn(room *Room) string {
	const begin = `],"away":[`
	b := []byte(begin)
	for slot := d.p.cut.first; slot != 0; slot = d.state.cuts[slot].next {
		if m := d.state.member(slot); m.room == room {
			if len(b) > len(begin) {
				b = append(b, ',')
			}
			b = codec.AppendString(b, m.name)
		}
	}
	if len(b) == len(begin) {
		return ""
	}
	return string(append(b, ListEnd...))
}

// uncut takes a member out of those that are away, and tells whether it was one.
func (s *state) uncut(p *partition, slot uint32) bool {
	for _, x := range p.snapshots {
		x.rest.passed(&x.rest.cut, slot, s.cuts)
	}
	if !p.cut.take(s.cuts, slot) {
		return false
	}
	if of := (ghosts{s.member(slot).room.id, s.away[slot].near}); of.near != 0 {
		if p.ghosts[of]--; p.ghosts[of] == 0 {
			delete(p.ghosts, of)
		}
	}
	p.away--
	return true
}

// undoubt takes a member out of those in doubt, and tells whether it was one.
func (s *state) undoubt(p *partition, slot uint32) bool {
	for _, x := range p.snapshots {
		x.rest.passed(&x.rest.doubt, slot, s.doubts)
	}
	return p.doubt.take(s.doubts, slot)
}

// setPresent forgets that a member is away, or in doubt, if it is, and what is kept for it.
func (s *state) setPresent(p *partition, slot uint32) {
	if p.cut.first == 0 && p.doubt.first == 0 {
		return
	}
	if s.uncut(p, slot) || s.undoubt(p, slot) {
		s.forgetAway(p, slot)
	}
}

// setSure ends the doubt about a member, if there is any.
func (s *state) setSure(p *partition, slot uint32) {
	if s.undoubt(p, slot) {
		s.forgetAway(p, slot)
	}
}

// setDoubt notes that a member that was away is back, at a time.
func (s *state) setDoubt(p *partition, slot uint32, at int64) {
	if !s.uncut(p, slot) {
		s.setPresent(p, slot) // a follower does not know yet that it was away
		return
	}
	p.doubt.put(s.doubts, slot, at)
	p.now = max(p.now, at)
}

func (s *state) forgetAway(p *partition, slot uint32) {
	delete(s.away, slot)
	room := s.member(slot).room
	if h := room.history; h != nil && h.dropLetters(slot) {
		s.shelve(p, room)
	}
}

// isAway tells whether a member, or 0 for nobody, is away.
func (s *state) isAway(slot uint32) bool {
	_, is := s.cuts[slot]
	return is
}

// isInDoubt tells whether a member is.
func (s *state) isInDoubt(slot uint32) bool {
	_, is := s.doubts[slot]
	return is
}

// letters are the private messages that are kept for a member.
func (r *Room) letters(slot uint32) []letter {
	if r.history == nil || r.history.about == nil {
		return nil
	}
	return r.history.about.letters[slot]
}

func (h *history) keepLetter(slot uint32, l letter) {
	a := h.needAbout()
	if a.letters == nil {
		a.letters = make(map[uint32][]letter)
	}
	a.letters[slot] = append(a.letters[slot], l)
	a.letterBytes += len(l.body) + messageCost
	a.lettersAt = max(a.lettersAt, l.time)
}

// keepLetter keeps a letter for a member that is away.
func (s *state) keepLetter(p *partition, slot uint32, r *Record) error {
	if !s.isAway(slot) {
		return errRecord
	}
	room := s.member(slot).room
	if room.history == nil {
		room.history = &history{room: room}
	}
	room.history.keepLetter(slot, letter{r.Num, r.Time, r.Body})
	s.shelve(p, room)
	return nil
}

// dropLetters forgets what was kept for a member, and tells whether anything was.
func (h *history) dropLetters(slot uint32) bool {
	if h.about == nil || h.about.letters[slot] == nil {
		return false
	}
	for _, l := range h.about.letters[slot] {
		h.about.letterBytes -= len(l.body) + messageCost
	}
	delete(h.about.letters, slot)
	return true
}

// snapshotAway are the records that tell of a member that is, or was, away, and has been so, or back, since a time.
func (s *state) snapshotAway(slot uint32, at int64, emit func(Record)) {
	m, a := s.member(slot), s.away[slot]
	emit(Record{Kind: RecordAway, Room: m.room.name(), User: m.name, Num: a.handed, Place: a.near, Time: at})
	for _, l := range m.room.letters(slot) {
		emit(Record{Kind: RecordLetter, Room: m.room.name(), User: m.name, Num: l.seq, Time: l.time, Body: l.body})
	}
}

// leave is protocol.md §9.6, unless the session was cut off and its place can be kept.
func (d *decision) leave(slot uint32) {
	r := d.r
	unheard := r.Handed == Unheard && d.state.isInDoubt(slot)
	near := r.Near
	if unheard && !r.Cut {
		near = d.state.away[slot].near
	}
	if !r.Cut && !unheard || !d.mayReturn(slot, near) {
		d.drop(slot, false)
		return
	}
	handed := d.of.room.seq // a client that does not know what it was sent is told nothing twice
	switch {
	case unheard:
		handed = d.state.away[slot].handed
	case r.Handed != 0:
		handed = min(handed, r.Handed)
	}
	rec := d.cutOff(slot, handed, near)
	if unheard {
		rec.Key = 1
	}
}

// overtaken is the leave of a session that a program was told of as away, and whose place another one had taken before that. It tells that one, if it is there, that it has returned: so whoever
// is told that somebody is away is told of the return behind that. One that is away itself returns later, and one that has left was told of.
func (d *decision) overtaken() {
	room := d.of.room
	if room == nil {
		return
	}
	if slot := d.state.find(room, d.r.User); slot != 0 && !d.state.isAway(slot) && d.state.keys[slot] == d.r.Key {
		d.post(ItemEnter, d.state.addr(slot), room.id).Count = returned | uint32(room.count)
	}
}

// mayReturn tells whether a member that was cut off at an address may be away.
func (d *decision) mayReturn(slot uint32, near uint64) bool {
	if d.state.keys[slot] == 0 && near == 0 {
		return false // nothing tells it from others
	}
	room := d.state.member(slot).room
	if d.input.grace <= 0 || d.input.noGrace != nil && d.input.noGrace(room.name()) {
		return false
	}
	return near == 0 || d.p.ghosts[ghosts{room.id, near}] < max(leastGhosts, int(room.count)/10)
}

func (d *decision) cutOff(slot uint32, handed, near uint64) *Record {
	d.note(countAway)
	rec := d.recordOf(RecordAway, d.state.member(slot).room, slot)
	rec.Num, rec.Place, rec.Time = handed, near, d.input.now
	return rec
}

// isFree tells whether a member is away and its name anybody's.
func (d *decision) isFree(m uint32) bool { return d.state.isAway(m) && d.state.keys[m] == 0 }

// isAnother tells whether a session that is a member has become another user of the same name, by another login: what is kept for that member's proof is not its.
func (d *decision) isAnother(m uint32) bool {
	return m != 0 && d.r.Key != 0 && d.state.keys[m] != 0 && d.state.keys[m] != d.r.Key && d.state.addr(m) == d.r.From
}

// returns tells whether a session that enters with the name of a member that is away is that member.
func (d *decision) returns(slot uint32) bool {
	key, near := d.state.keys[slot], d.state.away[slot].near
	return key == d.r.Key && (key != 0 || near != 0 && near == d.r.Near)
}

// back gives a member its place again. Others are told nothing; it is told what was said since the place that it names, or since what its last session
// was sent, and what was said to it alone.
func (d *decision) back(slot uint32) {
	room, entry := d.of.room, d.state.member(slot).mark.entry()
	if d.of.prev != 0 {
		d.drop(d.of.prev, true)
	}
	d.note(countReturned)
	rec := d.recordOf(RecordReplace, room, slot)
	rec.Addr, rec.Num, rec.Time = d.r.From, 1, d.input.now
	d.list = len(d.items)
	it := d.post(ItemEnter, d.r.From, room.id)
	it.Req, it.Count = d.r.Req, returned
	var s span
	x := d.r.Ext
	if x != nil {
		s = d.tell(it, room, room.id, entry)
	}
	if x == nil || !x.HasSince {
		missed := d.since(room, entry, d.state.away[slot].handed)
		if s.from == s.to || missed.from < missed.to && missed.from < s.from { // a client that asks for the last messages gets at least what it has missed
			s = missed
		}
	}
	d.repeat(room, room.id, s, room.letters(slot))
}

// since is what a member that entered at a number is told of what was said behind another one.
func (d *decision) since(room *Room, entry, handed uint64) span {
	behind := max(handed, d.readsFrom(room, d.r.Key, entry))
	if room.history == nil || d.input.history.Messages == 0 || room.readers == ReadersNobody {
		return span{}
	}
	all, lost := d.readable(room, behind)
	s := room.history.last(all, pageMessages)
	if lost > behind || s != all {
		d.note(countIncomplete)
	}
	return s
}

// keepLetter keeps a private message for a member that is away. It tells whether it may.
func (d *decision) keepLetter(slot uint32, p *codec.Push) bool {
	room := d.of.room
	if d.state.keys[slot] == 0 || d.input.history.Messages == 0 {
		return false
	}
	letters, bytes := room.letters(slot), len(p.Body)
	for i := range letters {
		bytes += len(letters[i].body)
	}
	if len(letters) == maxLetters || bytes > maxLetterBytes {
		return false
	}
	rec := d.recordOf(RecordLetter, room, slot)
	rec.Num, rec.Time, rec.Body = d.seq, p.Time, p.Body
	return true
}

// endAway has a member leave that is away.
func (d *decision) endAway(slot uint32) {
	room := d.state.member(slot).room
	d.of.room = room
	d.room, d.seq = room.id, room.seq
	if n := len(room.letters(slot)); n > 0 {
		d.note(countLettersLost)
	}
	d.drop(slot, false)
	d.end()
}

// expired is the member that has been away for too long and longest; 0: none has.
func (w *Worker) expired(p *partition) uint32 {
	if slot := p.cut.first; slot != 0 && w.now(p)-w.state.cuts[slot].at >= int64(w.limits.Grace) {
		return slot
	}
	return 0
}

// expire has members leave that have been away for too long, as many as are left to be done, and returns how many are left then. Each is a decision of
// its own.
func (w *Worker) expire(p *partition, left int) int {
	for ; left > 0; left-- {
		slot := w.expired(p)
		if slot == 0 {
			break
		}
		w.alone(p, func(d *decision) {
			d.note(countExpired)
			d.endAway(slot)
		})
	}
	return left
}

// EndAway has members of a partition that the worker owns leave that are away, where match says so of their names and of where they were (Request.Near). It
// ends most at most, tells how many, and whether there may be more.
func (w *Worker) EndAway(part uint16, most int, match func(user string, near uint64) bool) (ended int, more bool) {
	p := w.state.parts[part]
	if p == nil {
		return 0, false
	}
	for slot := p.cut.first; slot != 0; {
		next := w.state.cuts[slot].next
		if !match(w.state.member(slot).name, w.state.away[slot].near) {
			slot = next
			continue
		}
		if ended == most {
			return ended, true
		}
		w.alone(p, func(d *decision) { d.endAway(slot) })
		ended++
		if next != 0 && !w.state.isAway(next) { // a panic has closed its room
			return ended, true
		}
		slot = next
	}
	return ended, false
}

// away is how many members are away of the partitions that the worker owns.
func (w *Worker) away() (n int) {
	for _, p := range w.state.parts {
		if p != nil {
			n += p.away
		}
	}
	return n
}

// wantTick notes when something of a partition is due next: who spoke first need no longer be remembered, who was cut off
// first leaves, or how many are in a large room must be told.
func (w *Worker) wantTick(p *partition) {
	s := &w.state
	due := func(slot uint32, in places, after time.Duration) {
		if slot == 0 {
			return
		}
		if at := max(1, in[slot].at+int64(after)+p.begin); w.due == 0 || at < w.due {
			w.due = at
		}
	}
	if slot := p.heard.first; slot != 0 {
		due(slot, s.voices, s.member(slot).room.slow)
	}
	due(p.cut.first, s.cuts, w.limits.Grace)
	if len(p.changed) > 0 {
		if at := max(1, p.countAt+p.begin); w.due == 0 || at < w.due {
			w.due = at
		}
	}
	due(p.doubt.first, s.doubts, w.limits.Grace)
}

// waits tells whether time matters to a partition.
func (p *partition) waits() bool {
	return p.heard.first != 0 || p.cut.first != 0 || p.doubt.first != 0 || len(p.changed) > 0
}
