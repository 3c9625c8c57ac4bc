package channel

import (
	"strconv"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// decision is one input and what was decided about it. Deciding reads the state and the input and writes the result below, and does
// nothing else: the same state and input give the same records and items, byte for byte.
type decision struct {
	// The input.
	state *state
	p     *partition
	r     *Request // nil for a Tick, and when a node has ended
	input input
	of    subject

	// The result. Memory is used again for the next decision.
	records []Record
	items   []Item
	noted   []counter
	list    int           // the item whose body is the list of the room as it is after the decision; -1: none
	outs    []nodeChannel // what out has come to, of the nodes that get items
	room    RoomID        // the room in which seq is
	seq     uint64        // of room, so far
	gone    int           // members of it that this decision has dropped
}

// input is what a decision is given besides state and request.
type input struct {
	now     int64                  // the partition's time; 0 where time does not matter
	grace   time.Duration          // how long a member that was cut off may be away
	noGrace func(room string) bool // nil: that holds for all rooms
	slow    time.Duration          // slow mode of a room that has none of its own
	ruled   bool                   // slow goes before one of a room's own
	list    int                    // Limits.List
	refusal refusal                // what admission says
	wall    int64                  // the time of what is pushed, in Unix ms
	history *History               // nil where nothing is pushed
	// sessions says how many a user may have.
	sessions Sessions
	full     []Addr // OpPush without a room: those of User's sessions that have too much to take already
}

// subject is what a request names, found once.
type subject struct {
	room   *Room  // nil: there is none
	user   uint32 // slots; 0: not a member
	alike  uint32 // OpEnter: the member whose name looks like User, if no member has that name
	prev   uint32 // only if it is From's
	target uint32
}

func (s *state) subjectOf(p *partition, r *Request) (of subject) {
	room := p.rooms[r.Room]
	if room == nil || r.Op == OpClaim || r.Op == OpRelease || r.Op == OpBind || r.Op == OpRooms {
		return subject{}
	}
	of.room = room
	switch r.Op {
	case OpEnter:
		if of.user = s.find(room, r.User); of.user == 0 {
			of.alike = s.alike(room, r.User, r.Fold)
		}
		if r.Prev != "" {
			if of.prev = s.find(room, r.Prev); of.prev != 0 && s.addr(of.prev) != r.From {
				of.prev = 0
			}
		}
	case OpLeave, OpSend, OpHistory, OpMembers:
		if of.user = s.find(room, r.User); of.user != 0 && s.addr(of.user) != r.From {
			of.user = 0 // the name is somebody else's by now
		}
	}
	if r.Target != "" && r.Target != Everybody {
		if of.target = s.find(room, r.Target); of.target == 0 {
			of.target = s.alike(room, r.Target, r.Fold)
		}
	}
	return of
}

// reset forgets the last decision.
func (d *decision) reset(p *partition, r *Request) {
	d.records, d.items = emptied(d.records), emptied(d.items)
	d.p, d.r, d.input, d.of = p, r, input{}, subject{}
	d.noted, d.outs = d.noted[:0], d.outs[:0]
	d.list, d.room, d.seq, d.gone = -1, 0, 0, 0
}

// emptied is a list without anything in it, whose memory is used again unless a rare decision has made it long.
func emptied[T any](list []T) []T {
	clear(list) // it keeps names and bodies alive
	if cap(list) > maxKept {
		return nil
	}
	return list[:0]
}

// maxKept is how many records and items are kept between decisions: only a node that ends, and closing a large room, need more.
const maxKept = 256

// decide executes d.r.
func (d *decision) decide() {
	d.begin()
	switch d.r.Op {
	case OpEnter:
		d.enter()
	case OpLeave:
		if d.of.user != 0 { // protocol.md §9.6
			d.leave(d.of.user)
		} else if d.r.Key != 0 {
			d.overtaken()
		}
	case OpSend:
		d.send()
	case OpMembers:
		d.members()
	case OpHistory:
		d.page()
	case OpPush:
		d.pushTo()
	case OpPushExcept:
		d.pushExcept()
	case OpSay:
		d.say()
	case OpCount:
		d.count()
	case OpKick:
		d.kick()
	case OpSlow:
		d.setSlow()
	case OpClaim:
		d.claim()
	case OpRelease:
		d.release()
	case OpBind:
		d.bind()
	case OpLife:
		d.life()
	case OpRooms:
		d.rooms()
	case OpDelete:
		d.delete()
	case OpSet, OpData:
		d.setRoom()
	case OpRoom:
		d.describe()
	case OpNothing:
	default:
		d.reply(Refused)
	}
	d.end()
}

// begin notes that the request has been executed, whatever comes of it.
func (d *decision) begin() {
	n := d.r.N
	if n == 0 {
		in, _ := d.p.counters(d.r.From.Node)
		n = in + 1
	}
	rec := d.record(RecordIn)
	rec.Addr.Node, rec.Num = d.r.From.Node, n
	if room := d.of.room; room != nil {
		d.room, d.seq = room.id, room.seq
	}
}

// end notes how far the numbers of items have come.
func (d *decision) end() {
	for i := range d.outs {
		rec := d.record(RecordOut)
		rec.Addr.Node, rec.Num = d.outs[i].node, d.outs[i].out
	}
}

// record adds a record, to be filled in: its memory is that of an earlier one, which reset has cleared.
func (d *decision) record(kind RecordKind) *Record {
	if n := len(d.records); n < cap(d.records) {
		d.records = d.records[:n+1]
	} else {
		d.records = append(d.records, Record{})
	}
	r := &d.records[len(d.records)-1]
	r.Kind = kind
	return r
}

// recordOf is record for a room and, if slot is not 0, a member of it.
func (d *decision) recordOf(kind RecordKind, room *Room, slot uint32) *Record {
	r := d.record(kind)
	r.Room, r.room, r.slot = room.name(), room, slot
	if slot != 0 {
		r.User = d.state.member(slot).name
	}
	return r
}

func (d *decision) note(c counter) { d.noted = append(d.noted, c) }

// post adds an item with its number, to be filled in. room is 0 for a reply.
func (d *decision) post(kind ItemKind, to Addr, room RoomID) *Item {
	i := 0
	for ; i < len(d.outs) && d.outs[i].node != to.Node; i++ {
	}
	if i == len(d.outs) {
		_, out := d.p.counters(to.Node)
		d.outs = append(d.outs, nodeChannel{node: to.Node, out: out})
	}
	d.outs[i].out++
	if n := len(d.items); n < cap(d.items) {
		d.items = d.items[:n+1]
	} else {
		d.items = append(d.items, Item{})
	}
	it := &d.items[len(d.items)-1]
	it.Kind, it.Part, it.Epoch, it.N, it.To = kind, d.p.number, d.p.epoch, d.outs[i].out, to
	if room != 0 {
		it.Room, it.Seq = room, d.seq
	}
	return it
}

// push gives p the room's next number and posts it to every outlet that has members of the room, but for who leaves with this decision
// (a slot, or 0).
// It returns the record of that, nil when nobody is there to get it.
func (d *decision) push(room *Room, p *codec.Push, leaver uint32) *Record {
	var alone OutletID // the outlet that only the leaver had
	skip := false
	if leaver != 0 && !d.state.isAway(leaver) {
		alone = d.state.addr(leaver).Outlet()
		for i := range room.outlets {
			if o := &room.outlets[i]; o.id == alone {
				skip = o.count == 1
			}
		}
	}
	n := len(room.outlets)
	if skip {
		n--
	}
	if n == 0 {
		return nil
	}
	rec := d.numbered(room, p)
	if n > 1 {
		p.Shared = new(codec.SharedFrames)
	}
	for i := range room.outlets {
		if id := room.outlets[i].id; !skip || id != alone {
			d.post(ItemPush, id.addr(), room.id).Push = p
		}
	}
	return rec
}

// numbered gives p the room's next number.
func (d *decision) numbered(room *Room, p *codec.Push) *Record {
	d.seq++
	p.Stream, p.Seq, p.Time = &room.stream, d.seq, d.input.wall
	rec := d.recordOf(RecordPush, room, 0)
	rec.Num, rec.Time = d.seq, d.input.wall
	return rec
}

func (d *decision) reply(body []byte) {
	if d.r.Req != 0 {
		it := d.post(ItemReply, d.r.From, 0)
		it.Req, it.Body = d.r.Req, body
	} else {
		d.list = -1
	}
}

// enter is protocol.md §9.3: others are told first, then the name is added, then its session gets the list.
func (d *decision) enter() {
	m := d.of.user
	free := d.isFree(m) || d.isAnother(m)
	switch {
	case m != 0 && !free && d.state.addr(m) == d.r.From: // the same request again, after an answer that was lost
		d.entered(d.of.room, m)
	case d.state.isAway(m) && d.returns(m):
		d.back(m)
	case m != 0 && !free && (d.r.Key == 0 || d.state.keys[m] != d.r.Key):
		d.refuseEnter(EnterRefused)
	case d.refusedAlike():
		d.note(counterOf(ReasonAlike))
		d.refuseEnter(limitAnswers[ReasonAlike])
	case d.input.refusal != admitted:
		d.noteRefusal()
		d.refuseEnter(d.input.refusal.enterBody(d.r.Silent))
	case m != 0 && !free:
		d.replace(m)
	default:
		d.add()
	}
}

// add makes r.User a member of the room, which may not be there yet. A member that has the name, and may lose it, leaves for it.
func (d *decision) add() {
	r, room := d.r, d.of.room
	for i, slot := range [...]uint32{d.of.user, d.otherSpelling(), d.of.prev} {
		if slot != 0 && (i == 2 || slot != d.of.prev) {
			d.drop(slot, d.state.addr(slot) == r.From) // its own: under another name, or as the user that it was
		}
	}
	switch {
	case room == nil || d.left(room) > 0:
	case !d.fresh(room): // it ended with its last member, or nobody may know any more what it keeps
		if room.keeps() {
			d.forgetAll(room)
		}
		room = nil
	case d.holding(room) == nil:
		d.unset(room)
	}
	id, slow, serial := RoomID(0), time.Duration(0), d.nextSerial(room)
	if room == nil {
		id, slow = d.found()
	} else {
		id, slow = room.id, room.slow
		d.refresh(room) // from now on somebody is there
		d.came(room, serial)
	}
	d.note(countEnters)
	entry := d.seq
	if room != nil { // the note of an earlier stay may have gone when this one ends
		entry = d.firstEntry(room, r.Key, entry)
	}
	rec := d.record(RecordAdd)
	rec.Room, rec.User, rec.Addr, rec.Num, rec.Key, rec.Place, rec.room = r.Room, r.User, r.From, entry, r.Key, uint64(serial), room
	if r.Fold != "" {
		rec.Body = []byte(r.Fold)
	}
	if slow > 0 { // one that leaves and comes back has to wait like the others
		rec := d.record(RecordSpoke)
		rec.Room, rec.User, rec.Time, rec.room = r.Room, r.User, d.input.now, room
	}
	d.enteredAt(room, id, entry)
}

// found has the room of the request come to be.
func (d *decision) found() (id RoomID, slow time.Duration) {
	id, slow = newRoomID(d.p.number, d.p.serial+1), d.slowOf(d.r.Room)
	rec := d.record(RecordRoom)
	rec.Room, rec.Num, rec.Time, rec.Key = d.r.Room, d.p.serial+1, int64(slow), d.incarnation(id)
	if readers := d.input.readers(d.r.Room); readers != ReadersPresent {
		rec := d.record(RecordReaders)
		rec.Room, rec.Num = d.r.Room, uint64(readers)
	}
	d.room, d.seq = id, 0
	return id, slow
}

// replace gives m's place to r.From. The leave of the session that had it will name an address that is no member's.
func (d *decision) replace(m uint32) {
	r, room := d.r, d.of.room
	if d.of.prev != 0 {
		d.drop(d.of.prev, true)
	}
	d.note(countReplaced)
	d.recordOf(RecordReplace, room, m).Addr = r.From
	d.post(ItemKick, d.state.addr(m), room.id).Body = replacedReason
	d.entered(room, m)
	d.items[d.list].Count = returned // the session before may be told of as away yet, or may have returned without having heard of it
}

// replacedReason is what a replaced session is told. Clients that return by themselves must not after this one.
var replacedReason = []byte("replaced by a new session of yours")

// entered answers an enter of a session that is a member of the room already.
func (d *decision) entered(room *Room, slot uint32) {
	d.enteredAt(room, room.id, d.state.member(slot).mark.entry())
}

// enteredAt answers who entered when the room's pushes had come to a number, or has proved to have been there then. room is nil if the room was made by that.
func (d *decision) enteredAt(room *Room, id RoomID, entry uint64) {
	d.list = len(d.items)
	it := d.post(ItemEnter, d.r.From, id)
	it.Req = d.r.Req
	if d.r.Ext != nil {
		d.recall(it, room, id, entry)
	}
}

func (d *decision) refuseEnter(body []byte) {
	d.note(countEntersRefused)
	d.reply(body)
}

// drop removes a member and tells the others. A session that stays is taken out of its loop's room first, so that it is not
// told of its own leaving.
func (d *decision) drop(slot uint32, stays bool) {
	m := d.state.member(slot)
	room := m.room
	d.note(countLeaves)
	others := d.left(room) > 1
	if others || d.fresh(room) { // otherwise what is old goes with the room
		d.refresh(room)
	}
	d.remember(room, slot)
	if !others {
		d.touch(room)
	}
	d.recordOf(RecordRemove, room, slot)
	if stays {
		d.post(ItemLeave, d.state.addr(slot), room.id)
	}
	d.gone++
	if others && !room.large() {
		d.push(room, userPush("onLeave", m.name), slot)
	}
}

// left is how many members of the decision's room are left of those that it had before.
func (d *decision) left(room *Room) int { return int(room.count) - d.gone }

// send is protocol.md §9.4: the push goes out before the answer. The sender's name is the member's, whatever the client claims.
func (d *decision) send() {
	room, sender := d.of.room, d.of.user
	if sender == 0 {
		d.refuseSend(Refused)
		return
	}
	if d.input.refusal == refusedHistory { // first: one that was sent before may wait to be safe
		d.noteRefusal()
		d.refuseSend(HistoryRefused)
		return
	}
	if d.sentBefore(room, sender) {
		return
	}
	if wait := d.wait(sender); wait > 0 {
		d.note(counterOf(ReasonSlow))
		d.refuseSend(refusedUntil(ReasonSlow, wait))
		return
	}
	d.refresh(room)
	p, rec := d.deliver(chatPush)
	if p == nil {
		d.refuseSend(Refused)
		return
	}
	if rec != nil {
		d.keep(rec, room, p)
	}
	if room.slow > 0 {
		d.recordOf(RecordSpoke, room, sender).Time = d.input.now
	}
	d.note(countSends)
	if d.r.Ext != nil {
		d.sent(room, sender, p)
		return
	}
	d.reply(Done)
}

// wait is how long slow mode has a member wait; 0 or less: not at all.
func (d *decision) wait(slot uint32) time.Duration {
	slow := d.of.room.slow
	if slow == 0 {
		return 0
	}
	v, spoke := d.state.voices[slot]
	if !spoke {
		return 0
	}
	return slow - time.Duration(d.input.now-v.at)
}

// deliver pushes to the room, and returns the record of that too, or to one member of it. It returns nil if that cannot be taken.
func (d *decision) deliver(push func(*decision) *codec.Push) (p *codec.Push, rec *Record) {
	room := d.of.room
	if d.r.Target != Everybody && (d.of.target == 0 || d.isFree(d.of.target)) {
		return nil, nil
	}
	if d.input.refusal != admitted {
		d.noteRefusal()
		return nil, nil
	}
	p = push(d)
	if d.r.Target == Everybody {
		return p, d.push(room, p, 0)
	}
	p.Stream, p.Time = &room.stream, d.input.wall
	if d.state.isAway(d.of.target) {
		if !d.keepLetter(d.of.target, p) {
			return nil, nil
		}
		return p, nil
	}
	d.post(ItemDirect, d.state.addr(d.of.target), room.id).Push = p
	return p, nil
}

// kick ends a member's session. Its loop will post the leave when the session has ended. One that is away has none, and leaves. Everybody's is the
// room's end: nobody is told who leaves.
func (d *decision) kick() {
	if d.r.Room == "" {
		d.kickUser()
		return
	}
	if room := d.of.room; room != nil && d.r.Target == Everybody {
		reason, _ := codec.StringValue(d.r.Content)
		d.closeRoom(room, reason)
		d.reply(Done)
		return
	}
	if d.of.target == 0 {
		d.reply(Absent)
		return
	}
	reason, _ := codec.StringValue(d.r.Content)
	room := d.of.room
	if d.state.isAway(d.of.target) {
		d.drop(d.of.target, false)
		d.reply(Done)
		return
	}
	d.post(ItemKick, d.state.addr(d.of.target), room.id).Body = []byte(reason)
	d.reply(Done)
}

func (d *decision) refuseSend(body []byte) {
	d.note(countSendsRefused)
	d.reply(body)
}

// MaxSlow is the longest time that a slow mode may put between two messages of a member.
const MaxSlow = 24 * time.Hour

// setSlow keeps a slow mode by the room's name, as a room that is empty is forgotten.
func (d *decision) setSlow() {
	ms, err := strconv.ParseInt(string(d.r.Content), 10, 64)
	if err != nil || ms > int64(MaxSlow/time.Millisecond) {
		d.reply(Refused)
		return
	}
	if d.input.ruled {
		d.reply(Ruled)
		return
	}
	rec := d.record(RecordSlow)
	rec.Room, rec.Num, rec.Time = d.r.Room, 1, ms*int64(time.Millisecond)
	if ms < 0 {
		rec.Num, rec.Time = 0, int64(d.input.slow)
	}
	d.reply(Done)
}

// slowOf is the slow mode of a room by that name.
func (d *decision) slowOf(room string) time.Duration {
	if slow, own := d.p.slow[room]; own && !d.input.ruled {
		return slow
	}
	return d.input.slow
}

// tickEntries is how many entries one Tick of a worker is about.
const tickEntries = 256

// tick forgets when members of slow rooms have spoken, and which are in doubt, where that no longer matters. It looks at so many entries.
func (d *decision) tick(entries int) {
	for slot := d.p.heard.first; slot != 0 && len(d.records) < entries; {
		v, m := d.state.voices[slot], d.state.member(slot)
		if d.input.now-v.at < int64(m.room.slow) {
			break
		}
		d.recordOf(RecordQuiet, m.room, slot)
		slot = v.next
	}
	for slot := d.p.doubt.first; slot != 0 && len(d.records) < entries; {
		back := d.state.doubts[slot]
		if d.input.now-back.at < int64(d.input.grace) {
			break
		}
		d.recordOf(RecordSure, d.state.member(slot).room, slot)
		slot = back.next
	}
}
