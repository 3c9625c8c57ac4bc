package channel

import (
	"strconv"

	"github.com/pomelod/pomelod/codec"
)

// What operators publish in a room: OpPush and OpSay with Ext. It has its place among what members say, and is done once for each id, whatever node asks for it, and
// whoever has come to own the room meanwhile.

// publishPlace stands for an operator where an id is kept with its sender's place, and says to how many loops and members the message went, so that who asks again is told the same. Members'
// places are odd keys, or entries, of which none comes near the highest bit (decision.place).
func publishPlace(loops, members int) uint64 {
	return 1<<63 | min(uint64(members), 1<<32-1)<<17 | min(uint64(loops), 1<<16-1)<<1
}

// isPublish tells whether a place stands for an operator.
func isPublish(place uint64) bool { return place>>63 == 1 && place&1 == 0 }

// publishedBefore answers what an operator has published before, if it was, as the first time.
func (d *decision) publishedBefore() bool {
	room, x := d.of.room, d.r.Ext
	if x == nil || x.Mid == 0 || room == nil {
		return false
	}
	h := d.recent(room)
	if h == nil {
		return false
	}
	for _, m := range h.mids() {
		if m.id == x.Mid && isPublish(m.place) {
			d.note(countMids)
			d.reply(publishedBody(room, &m, true))
			return true
		}
	}
	return false
}

// published answers what has been pushed, and keeps its id, if it has one.
func (d *decision) published(p *codec.Push) {
	if d.r.Ext == nil {
		d.reply(Done)
		return
	}
	room, loops, members := d.of.room, 1, 1
	if d.r.Target == Everybody {
		loops, members = 0, 0
		for i := range room.outlets {
			loops++
			members += int(room.outlets[i].count)
		}
	}
	m := mid{publishPlace(loops, members), d.r.Ext.Mid, p.Seq, p.Time}
	if m.id != 0 {
		rec := d.recordOf(RecordMid, room, 0)
		rec.Num, rec.Time, rec.Key, rec.Place = m.seq, m.time, m.id, m.place
	}
	d.reply(publishedBody(room, &m, false))
}

func publishedBody(room *Room, m *mid, again bool) []byte {
	b := codec.AppendPlace(append(make([]byte, 0, 96), '{'), room.seqOf(m.seq), m.time)
	b = strconv.AppendUint(append(b, `,"loops":`...), m.place>>1&(1<<16-1), 10)
	b = strconv.AppendUint(append(b, `,"members":`...), m.place>>17&(1<<32-1), 10)
	if again {
		b = append(b, `,"again":true`...)
	}
	return append(b, '}')
}
