package router

import (
	"slices"

	"github.com/pomelod/pomelod/channel"
)

// What is volatile is worth something only until the next of its route: a group holds it until its next round begins (netpoll.Loop.PushVolatile), and guests are told it in
// the next turn, the latest only. It has no number in the room's stream, so a member that is left out misses nothing.

// volatileFrame is something volatile that waits for guests, encoded.
type volatileFrame struct {
	route string
	b     []byte
}

// maxVolatile is how many routes wait for the guests of a room; of more the oldest goes.
const maxVolatile = 16

// pushVolatile carries out a volatile push to a room.
func (l *loop) pushVolatile(it *channel.Item) {
	r := l.rooms.byID[it.Room]
	if r == nil || r.epoch != it.Epoch {
		return // nobody is there any more, or the members that are will be ended
	}
	rs := &l.rooms
	for _, vg := range r.groups {
		rs.encoded = it.Push.AppendFrame(rs.encoded[:0], vg.variant)
		rs.np.PushVolatile(&vg.group, it.Push.Route, rs.encoded)
		if vg.guests != nil {
			rs.holdVolatile(vg, it.Push.Route)
		}
	}
	rs.encoded = keep(rs.encoded)
}

// holdVolatile has the guests of a variant be told what is encoded.
func (rs *rooms) holdVolatile(vg *variantGroup, route string) {
	g, b := vg.guests, []byte(nil)
	if len(g.volatile) == 0 {
		rs.volatile = append(rs.volatile, vg)
		rs.np.Ring()
	}
	if i := slices.IndexFunc(g.volatile, func(f volatileFrame) bool { return f.route == route }); i >= 0 || len(g.volatile) == maxVolatile {
		i = max(i, 0)
		b = g.volatile[i].b[:0]
		g.volatile = slices.Delete(g.volatile, i, i+1)
	}
	g.volatile = append(g.volatile, volatileFrame{route, append(b, rs.encoded...)})
}

// tellVolatile stages what is volatile for guests that take what they are written.
func (rs *rooms) tellVolatile() {
	if len(rs.volatile) == 0 {
		return
	}
	for _, vg := range rs.volatile {
		if vg.guests == nil { // all have left
			continue
		}
		frames := vg.guests.volatile
		vg.guests.volatile = nil
		for _, s := range vg.guests.sessions {
			for i := range frames {
				if !rs.np.Withholds(s.conn) {
					rs.stageFor(s, frames[i].b)
				}
			}
		}
	}
	clear(rs.volatile)
	rs.volatile = rs.volatile[:0]
}
