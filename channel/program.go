package channel

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pomelod/pomelod/codec"
)

// What programs and operators ask of rooms: pushes and messages of the server's own.

// somebody tells whether a member of the room is told what is pushed: one that is away is not.
func (d *decision) somebody() bool { return d.of.room != nil && len(d.of.room.outlets) > 0 }

// pushTo is a push of the server's own.
func (d *decision) pushTo() {
	if d.r.Room == "" {
		d.pushUser()
		return
	}
	if d.publishedBefore() {
		return
	}
	if !d.somebody() || d.r.Target != Everybody && (d.of.target == 0 || d.state.isAway(d.of.target)) {
		d.reply(Absent)
		return
	}
	if d.r.Silent {
		d.pushVolatile()
		return
	}
	if d.r.Ext != nil {
		d.refresh(d.of.room) // the id is kept where messages are
	}
	first := len(d.items)
	p, _ := d.deliver(serverPush)
	if p == nil {
		d.reply(Refused)
		return
	}
	d.hurry(first)
	d.published(p)
}

// pushVolatile is a push to all of a room that need not come: no record is made of it, so nobody can miss it.
func (d *decision) pushVolatile() {
	if d.input.refusal != admitted {
		d.noteRefusal()
		d.reply(Refused)
		return
	}
	room, p := d.of.room, serverPush(d)
	p.Stream, p.Time = &room.stream, d.input.wall
	if len(room.outlets) > 1 {
		p.Shared = new(codec.SharedFrames)
	}
	for i := range room.outlets {
		d.post(ItemVolatile, room.outlets[i].id.addr(), room.id).Push = p
	}
	d.reply(Done)
}

// pushExcept is pushTo for all of a room but one: the loop that the one is on is told so, and it costs no other anything.
func (d *decision) pushExcept() {
	room, but := d.of.room, d.of.target
	if but != 0 && d.state.isAway(but) {
		but = 0
	}
	switch {
	case !d.somebody(), but != 0 && len(room.outlets) == 1 && room.outlets[0].count == 1:
		d.reply(Absent)
		return
	case d.input.refusal != admitted:
		d.noteRefusal()
		d.reply(Refused)
		return
	}
	first := len(d.items)
	d.push(room, serverPush(d), 0)
	d.hurry(first)
	if but != 0 {
		addr := d.state.addr(but)
		for i := first; i < len(d.items); i++ {
			if it := &d.items[i]; it.To == addr.Outlet().addr() {
				it.To = addr
			}
		}
	}
	d.reply(Done)
}

// say is a message of the server's own: members see and return to it as to one of theirs.
func (d *decision) say() {
	if d.input.refusal == refusedHistory { // first: one that was said before may wait to be safe
		d.noteRefusal()
		d.reply(HistoryRefused)
		return
	}
	if d.publishedBefore() {
		return
	}
	if !d.somebody() {
		d.reply(Absent)
		return
	}
	room := d.of.room
	d.refresh(room)
	first := len(d.items)
	p, rec := d.deliver(chatPush)
	if p == nil {
		d.reply(Refused)
		return
	}
	if rec != nil {
		d.keep(rec, room, p)
	}
	d.hurry(first)
	d.published(p)
}

// hurry has loops not hold what has been pushed since, if it was asked for.
func (d *decision) hurry(first int) {
	if !d.r.Urgent {
		return
	}
	for i := first; i < len(d.items); i++ {
		if d.items[i].Kind == ItemPush {
			d.items[i].Count = Urgent
		}
	}
}

// count tells how many members a room has, or sessions a user.
func (d *decision) count() {
	n := uint64(0)
	if room := d.of.room; room != nil {
		n = uint64(room.count)
	} else if d.r.Room == "" {
		n = uint64(len(d.p.claims[d.r.User]))
	}
	d.reply(append(strconv.AppendUint([]byte(`{"count":`), n, 10), '}'))
}

// life tells the life of a room from others of its name.
func (d *decision) life() {
	d.reply(append(strconv.AppendUint([]byte(`{"life":`), d.of.room.life(), 10), '}'))
}

// maxRoomsTold is how many rooms of a partition one answer tells at the most.
const maxRoomsTold = 500

// rooms tells of rooms of the partition.
func (d *decision) rooms() {
	if d.input.refusal != admitted {
		d.noteRefusal()
		d.reply(Refused)
		return
	}
	most := maxRoomsTold
	if x := d.r.Ext; x != nil && x.Most > 0 {
		most = min(most, int(x.Most))
	}
	var names []string
	for name, room := range d.p.rooms {
		if (room.count > 0 || d.holding(room) != nil) && name > d.r.Prev && strings.HasPrefix(name, d.r.Target) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	more := len(names) > most
	b := []byte(`{"rooms":[`)
	for i, name := range names[:min(len(names), most)] {
		if more = more || len(b) > pageBytes; len(b) > pageBytes {
			break
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = d.appendRoom(b, d.p.rooms[name])
	}
	d.reply(append(strconv.AppendBool(append(b, `],"more":`...), more), '}'))
}
