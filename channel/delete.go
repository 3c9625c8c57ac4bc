package channel

import (
	"strconv"

	"github.com/pomelod/pomelod/codec"
)

// What operators have deleted of what a room keeps. The message's place stays in the ring, as its number does in the stream: a client that has read up to it goes on from there, and its id still
// keeps it from being said again. Only its text goes.

// deletesAtOnce is how many messages one decision deletes at the most.
const deletesAtOnce = 100

// delete deletes messages, the newest first. One that is deleted already is deleted again where it is named: neither the operator nor a journal need know of the first time.
func (d *decision) delete() {
	room, x := d.of.room, d.r.Ext
	switch {
	case x == nil || !d.r.From.Asker():
		d.reply(Refused)
		return
	case room == nil:
		d.reply(Absent)
		return
	}
	kept, _ := d.readable(room, 0) // what is older has gone for all, also where it is in memory still
	switch {
	case kept.from == kept.to:
		d.reply(Absent)
		return
	case d.input.refusal != admitted:
		d.noteRefusal()
		d.reply(Busy)
		return
	}
	h, deleted, more, first := room.history, 0, false, len(d.items)
	for i := kept.to - 1; i >= kept.from; i-- {
		m := h.message(i)
		if !d.meant(room, m) {
			continue
		}
		if more = deleted == deletesAtOnce; more {
			break
		}
		deleted++
		rec := d.recordOf(RecordDelete, room, 0)
		rec.Num, rec.Time = m.seq, d.input.wall
		d.push(room, &codec.Push{Route: deleteRoute, Body: d.deleteBody(room, m.seq), ForExtended: true}, 0)
	}
	if deleted == 0 {
		d.reply(Absent)
		return
	}
	d.hurry(first)
	b := strconv.AppendInt([]byte(`{"deleted":`), int64(deleted), 10)
	d.reply(append(strconv.AppendBool(append(b, `,"more":`...), more), '}'))
}

// meant tells whether a message is to be deleted.
func (d *decision) meant(room *Room, m *said) bool {
	switch x := d.r.Ext; {
	case x.HasSince:
		return x.Since == room.seqOf(m.seq)
	case x.Mid != 0:
		for _, id := range room.history.mids() {
			if id.id == x.Mid && id.seq == m.seq {
				return true
			}
		}
		return false
	}
	return !m.deleted() && d.r.User != "" && sender(m.body) == d.r.User
}

// sender is the user that said an onChat; empty: nobody knows.
func sender(body []byte) (name string) {
	members := codec.ScanObject(body)
	for key, value, more := members.Next(); more; key, value, more = members.Next() {
		if string(key) == "from" {
			name, _ = codec.StringValue(value)
		}
	}
	return name
}

// deleteRoute is what extended clients hear of it by.
const deleteRoute = "onDelete"

// deleteBody names a message that is deleted. It is not called "seq" there, as pushes have a place of their own.
func (d *decision) deleteBody(room *Room, seq uint64) []byte {
	b := append(make([]byte, 0, 64), `{"deleted":"`...)
	b = append(room.seqOf(seq).Append(b), '"')
	if d.r.Op == OpDelete && d.r.Ext.Mid != 0 {
		b = append(append(b, `,"mid":`...), d.r.Content...)
	}
	return append(b, '}')
}

// repeatDeleted tells a session that enters, and names the last place that it knows, of the messages up to there that are deleted: it may show them still. It may have heard of
// some before.
func (d *decision) repeatDeleted(room *Room, id RoomID) {
	x := d.r.Ext
	if x == nil || !x.HasSince || room == nil || room.history == nil || room.history.gone == 0 || x.Since.Incarnation != room.stream.Incarnation || d.input.history.Messages == 0 || room.readers == ReadersNobody {
		return
	}
	h := room.history
	kept, _ := d.readable(room, 0)
	for i, told := kept.to-1, 0; i >= kept.from && told < pageMessages; i-- {
		if m := h.message(i); m.deleted() && m.seq <= x.Since.Number {
			d.post(ItemDirect, d.r.From, id).Push = &codec.Push{Route: deleteRoute, Body: d.deleteBody(room, m.seq), Stream: &room.stream, Time: d.input.wall}
			told++
		}
	}
}
