package channel

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// Rooms of many. A room in which there are more than Limits.List members is large until it is empty: a session that enters is told the newest members only, and nobody
// is told who comes and goes. Extended sessions are told how many there are. So an enter costs the same, however many there are. Every member may read the list in
// pages, of any room.

// crowd is what a room has beside its members once there have been more than smallRoom, or it was large. But for large and told it is made of the members.
type crowd struct {
	users   []byte // the list without ListEnd, only ever appended to, as items refer to it; nil when it must be built anew
	marks   []seat // members in order of entry, at most markEvery members from each to the next
	tail    int    // from the last of them to the end there are at most so many
	large   bool
	changed bool // it stands in partition.changed
	told    counted
}

// counted is what extended sessions were told last of how many are in a large room.
type counted struct {
	serial uint32 // of the last entry
	count  int32
	at     int64 // in the partition's time
}

// seat is where a member is: its slot, and the serial of its entry, which only ever grows in a room. It stands in the index, where it costs no byte.
type seat struct{ slot, serial uint32 }

// Bounds of what one answer tells of members.
const (
	newestMembers = 200      // of a large room, told to each that enters
	pageMembers   = 500      // of a page
	pageNames     = 64 << 10 // bytes of a page, about
	markEvery     = 128      // members that are looked at for a page, beside those on it
	maxSerial     = math.MaxUint32
)

// countEvery is the least time between two onCount of a room.
const countEvery = int64(2 * time.Second)

// large tells whether a room, which may be nil, is large.
func (r *Room) large() bool { return r != nil && r.crowd != nil && r.crowd.large }

func (r *Room) needCrowd() *crowd {
	if r.crowd == nil {
		r.crowd = new(crowd)
	}
	return r.crowd
}

// serialOf is the serial of a member's entry.
func (s *state) serialOf(slot uint32) uint32 {
	m := s.member(slot)
	return s.index[memberKey{m.room, m.name}].serial
}

// seated notes a new member at the end of a room.
func (s *state) seated(p *partition, r *Room, at seat) {
	r.serial = max(r.serial, at.serial)
	if r.count > smallRoom {
		r.needCrowd()
	}
	c := r.crowd
	if c == nil {
		return
	}
	if c.users != nil {
		c.users = codec.AppendString(append(c.users, ','), s.member(at.slot).name)
	}
	c.mark(at)
	p.noteChange(r)
}

// mark notes that somebody has entered.
func (c *crowd) mark(at seat) {
	if len(c.marks) == 0 || c.tail == markEvery {
		c.marks, c.tail = append(c.marks, at), 0
	}
	c.tail++
}

// unseated notes that a member has gone; next was the one behind it.
func (s *state) unseated(p *partition, r *Room, gone seat, next uint32) {
	c := r.crowd
	if c == nil {
		return
	}
	c.users = nil
	if i, is := slices.BinarySearchFunc(c.marks, gone.serial, compareSeat); is {
		last := i == len(c.marks)-1
		switch {
		case next != 0 && (last || c.marks[i+1].slot != next):
			c.marks[i] = seat{next, s.serialOf(next)}
		default:
			c.marks = slices.Delete(c.marks, i, i+1)
			if last {
				c.tail = markEvery // how many there are from the one before is not known
			}
		}
	}
	if len(c.marks) > 16+2*int(r.count)/markEvery { // most of those between have gone
		s.remark(r)
	}
	p.noteChange(r)
}

func compareSeat(a seat, serial uint32) int { return cmp.Compare(a.serial, serial) }

// remark makes the marks of a room anew.
func (s *state) remark(r *Room) {
	c := r.crowd
	c.marks, c.tail = nil, 0
	for slot := r.first; slot != 0; slot = s.member(slot).next {
		if c.tail%markEvery != 0 {
			c.tail++
		} else {
			c.marks, c.tail = append(c.marks, seat{slot, s.serialOf(slot)}), 1
		}
	}
}

// renumber begins the serials of a room anew, when they have come to their end: after four billion entries. A session that reads pages of it at that moment may be told
// somebody twice, or not at all.
func (s *state) renumber(r *Room) {
	n := uint32(0)
	for slot := r.first; slot != 0; slot = s.member(slot).next {
		n++
		s.index[memberKey{r, s.member(slot).name}] = seat{slot, n}
	}
	if c := r.crowd; c != nil {
		c.told.serial = n - (r.serial - c.told.serial)
		s.remark(r)
	}
	r.serial = n
}

// behind is the first member of a room that entered after a serial; 0: there is none.
func (s *state) behind(r *Room, serial uint32) (slot uint32) {
	slot = r.first
	if c := r.crowd; c != nil {
		i, _ := slices.BinarySearchFunc(c.marks, serial, compareSeat)
		if i == len(c.marks) || c.marks[i].serial > serial {
			i--
		}
		if i >= 0 {
			slot = c.marks[i].slot
		}
	}
	for slot != 0 && s.serialOf(slot) <= serial {
		slot = s.member(slot).next
	}
	return slot
}

// disperse forgets that there were many in a room: nobody is.
func (p *partition) disperse(r *Room) {
	p.small(r)
	r.crowd = nil
}

// small notes that a room is not large, or no longer.
func (p *partition) small(r *Room) {
	if r.large() {
		p.large--
		p.unchanged(r)
		r.crowd.large, r.crowd.told = false, counted{}
	}
}

// noteChange notes whether extended sessions must be told how many are in a room.
func (p *partition) noteChange(r *Room) {
	c := r.crowd
	switch changed := c.large && (r.serial != c.told.serial || r.count != c.told.count); {
	case changed == c.changed:
	case !changed:
		p.unchanged(r)
	default:
		c.changed = true
		i, _ := slices.BinarySearchFunc(p.changed, r.id, compareRoom)
		p.changed = slices.Insert(p.changed, i, r)
		if due := c.told.at + countEvery; len(p.changed) == 1 || due < p.countAt {
			p.countAt = due
		}
	}
}

func (p *partition) unchanged(r *Room) {
	if i, is := slices.BinarySearchFunc(p.changed, r.id, compareRoom); is {
		p.changed = slices.Delete(p.changed, i, i+1)
	}
	r.crowd.changed = false
}

func compareRoom(r *Room, id RoomID) int { return cmp.Compare(r.id, id) }

// applyCounted notes that a room is large, and what extended sessions were told.
func (s *state) applyCounted(p *partition, room *Room, r *Record) {
	c := room.needCrowd()
	if !c.large {
		c.large = true
		p.large++
	}
	c.told = counted{uint32(r.Num), int32(r.Key), r.Time}
	p.now = max(p.now, r.Time)
	p.noteChange(room)
}

// newest is the answer to an enter of a large room: its newest members in order of entry, own at the end. tail is what else it says, behind the list.
func (s *state) newest(r *Room, own uint32, tail string) []byte {
	var slots [newestMembers]uint32
	n := newestMembers - 1
	slots[n] = own
	for slot := r.last; slot != 0 && n > 0; slot = s.member(slot).prev {
		if slot != own {
			n--
			slots[n] = slot
		}
	}
	size := len(listBegin) + len(`],"count":100000,"more":false`) + max(len(tail), len(`}`))
	for _, slot := range slots[n:] {
		size += len(s.member(slot).name) + len(`"",`)
	}
	b := append(make([]byte, 0, size), listBegin...) // enough unless something has to be escaped
	for i, slot := range slots[n:] {
		if i > 0 {
			b = append(b, ',')
		}
		b = codec.AppendString(b, s.member(slot).name)
	}
	b = strconv.AppendInt(append(b, `],"count":`...), int64(r.count), 10)
	b = strconv.AppendBool(append(b, `,"more":`...), int(r.count) > newestMembers-n)
	if tail == "" {
		return append(b, '}')
	}
	return append(b, tail[len(`]`):]...)
}

// came tells the others in a room that r.User enters, with a serial, if they are told such things.
func (d *decision) came(room *Room, serial uint32) {
	count := d.left(room) + 1
	switch {
	case room.large():
	case d.input.list > 0 && count > d.input.list:
		d.tellCount(room, counted{serial - 1, int32(count) - 1, 0}, counted{serial, int32(count), d.input.now}, d.of.prev)
	default:
		d.push(room, userPush("onAdd", d.r.User), d.of.prev)
	}
}

// nextSerial is the serial of the next member of a room, which may be nil.
func (d *decision) nextSerial(room *Room) uint32 {
	switch {
	case room == nil:
		return 1
	case room.serial == maxSerial:
		d.recordOf(RecordRenumber, room, 0)
		return uint32(d.left(room)) + 1
	}
	return room.serial + 1
}

// tellCount has a room be large, and tells extended sessions in it how many there are. leaver is as in push.
func (d *decision) tellCount(room *Room, was, is counted, leaver uint32) {
	joined := is.serial - was.serial
	b := append(make([]byte, 0, 64), `{"count":`...)
	b = strconv.AppendInt(b, int64(is.count), 10)
	b = strconv.AppendUint(append(b, `,"joined":`...), uint64(joined), 10)
	b = strconv.AppendInt(append(b, `,"left":`...), int64(was.count)+int64(joined)-int64(is.count), 10)
	d.push(room, &codec.Push{Route: "onCount", Body: append(b, '}'), ForExtended: true}, leaver)
	rec := d.recordOf(RecordCounted, room, 0)
	rec.Num, rec.Key, rec.Time = uint64(is.serial), uint64(is.count), is.at
}

// tellCounts tells extended sessions in large rooms how many there are, where that is due, in as many rooms as are left to be looked at, and returns how many are left then. Each
// is a decision of its own.
func (w *Worker) tellCounts(p *partition, left int) int {
	now := w.now(p)
	if len(p.changed) == 0 || now < p.countAt {
		return left
	}
	for i := 0; i < len(p.changed) && left > 0; {
		room := p.changed[i]
		if now-room.crowd.told.at >= countEvery {
			left--
			w.tellCount(p, room, now)
		}
		if i < len(p.changed) && p.changed[i] == room {
			i++
		}
	}
	for i, room := range p.changed {
		if due := room.crowd.told.at + countEvery; i == 0 || due < p.countAt {
			p.countAt = due
		}
	}
	return left
}

func (w *Worker) tellCount(p *partition, room *Room, now int64) {
	w.alone(p, func(d *decision) {
		d.of.room, d.room, d.seq = room, room.id, room.seq
		d.note(countCounts)
		d.tellCount(room, room.crowd.told, counted{room.serial, room.count, now}, 0)
		d.end()
	})
}

// members answers with the members of the room: all of them for programs and operators, a page in order of entry for a member. Operators may ask for pages, too.
func (d *decision) members() {
	room, x := d.of.room, d.r.Ext
	switch {
	case x == nil:
		d.list = len(d.items)
		d.reply(nil)
		if d.list >= 0 && room != nil {
			d.items[d.list].Tail = d.awayIn(room)
		}
		return
	case room == nil || d.of.user == 0 && !d.r.From.Asker():
		d.reply(Refused)
		return
	case d.input.refusal != admitted:
		d.noteRefusal()
		d.reply(Refused)
		return
	case x.HasSince && (x.Since.Incarnation != room.stream.Incarnation || x.Since.Number > uint64(room.serial)):
		d.reply(CursorRefused)
		return
	}
	d.note(countMemberPages)
	most := min(max(1, int(x.Most)), pageMembers)
	b := append(make([]byte, 0, 1024), listBegin...)
	slot, last := d.state.behind(room, uint32(x.Since.Number)), uint32(0)
	for ; slot != 0 && most > 0 && len(b) < pageNames; most-- {
		if last != 0 {
			b = append(b, ',')
		}
		b = codec.AppendString(b, d.state.member(slot).name)
		last, slot = slot, d.state.member(slot).next
	}
	b = strconv.AppendInt(append(b, `],"count":`...), int64(room.count), 10)
	if slot != 0 {
		next := codec.Seq{Incarnation: room.stream.Incarnation, Number: uint64(d.state.serialOf(last))}
		b = append(next.Append(append(b, `,"next":"`...)), '"')
	}
	d.reply(append(b, '}'))
}

// record is what was told as a record.
func (c *counted) record(room *Room) Record {
	return Record{Kind: RecordCounted, Room: room.name(), Num: uint64(c.serial), Key: uint64(c.count), Time: c.at}
}

// large is how many large rooms there are in the partitions that the worker owns.
func (w *Worker) large() (n int) {
	for _, p := range w.state.parts {
		if p != nil {
			n += p.large
		}
	}
	return n
}
