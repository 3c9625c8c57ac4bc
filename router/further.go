package router

import (
	"iter"
	"slices"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/netpoll"
)

// A session may be in several rooms, under one name. The first of them is all that a session in one room has: session.room, with a place in the group of
// its variant. For each further one there is an entry in its rare state, and it is a guest there: what the room is told is encoded as for its members, and staged
// for guests one by one. So a session that is in one room pays nothing, and a conn is in one group at most. A room of which many are guests costs a copy for each of
// them, and they do not rest with it (Policy.Hold): the large room should be the first one.
//
// A session that has a further room has a first one. When that is left, the oldest of the others is the first.

// further is a room that a session is in beside its first one.
type further struct {
	room *room
	uid  string // user*room; the star is where that of the session's own is
	at   int    // its place among the guests of its variant there
}

// guests are the sessions for which a room is not their first one, by variant.
type guests struct {
	sessions []*session
	volatile []volatileFrame // that they are told in the next turn
}

// maxFurther is how many such rooms a session has at the most, whoever puts it there: they are looked through one after the other.
const maxFurther = 255

// further are the rooms that s is in beside its first one, in the order in which it came into them.
func (s *session) further() []further {
	if s.rare == nil {
		return nil
	}
	return s.rare.further
}

// furtherName is the name of the i-th of them.
func (s *session) furtherName(i int) string { return s.rare.further[i].uid[int(s.star)+1:] }

// rooms are all rooms that s is in, with their names, the first one first.
func (s *session) rooms() iter.Seq2[*room, string] {
	return func(yield func(*room, string) bool) {
		if s.room == nil || !yield(s.room, s.roomName()) {
			return
		}
		for i, f := range s.further() {
			if !yield(f.room, s.furtherName(i)) {
				return
			}
		}
	}
}

// in tells whether s is in a room.
func (s *session) in(id channel.RoomID) bool {
	return s.room != nil && (s.room.id == id || s.furtherIn(id) >= 0)
}

// furtherIn is which of its further rooms one is, -1 if none.
func (s *session) furtherIn(id channel.RoomID) int {
	return slices.IndexFunc(s.further(), func(f further) bool { return f.room.id == id })
}

// named is the room of s by a name; nil: it is in none.
func (s *session) named(name string) *room {
	for r, its := range s.rooms() {
		if its == name {
			return r
		}
	}
	return nil
}

// nameOf is the name of a room of s; empty: it is not in it.
func (s *session) nameOf(id channel.RoomID) string {
	for r, its := range s.rooms() {
		if r.id == id {
			return its
		}
	}
	return ""
}

// meant is the room of s that its client means by a raw JSON value: the first one, if that is nil or names none of them.
func (s *session) meant(rid []byte) (*room, string) {
	if rid != nil && len(s.further()) > 0 {
		name := nameValue(rid)
		if r := s.named(name); r != nil {
			return r, name
		}
	}
	return s.room, s.roomName()
}

// add makes s, which is in a room here, a guest of a further one, as user*room.
func (rs *rooms) add(s *session, it *channel.Item, uid string) {
	r := rs.know(it, uid[int(s.star)+1:])
	s.needRare().further = append(s.rare.further, further{room: r, uid: uid})
	rs.host(s, len(s.rare.further)-1)
}

// host makes s a guest of the i-th of its further rooms, as its variant is now.
func (rs *rooms) host(s *session, i int) {
	f := &s.rare.further[i]
	vg := rs.groupOf(f.room, s.variant, s.furtherName(i))
	if vg.guests == nil {
		vg.guests = new(guests)
	}
	f.at = len(vg.guests.sessions)
	vg.guests.sessions = append(vg.guests.sessions, s)
}

// unhost is the opposite of host. The room stays known.
func (rs *rooms) unhost(s *session, i int) {
	f := &s.rare.further[i]
	vg := rs.groupOf(f.room, s.variant, s.furtherName(i))
	g := vg.guests
	last := len(g.sessions) - 1
	moved := g.sessions[last]
	moved.rare.further[moved.furtherIn(f.room.id)].at = f.at
	g.sessions[f.at], g.sessions[last] = moved, nil
	if g.sessions = g.sessions[:last]; last == 0 {
		vg.guests = nil
	}
	rs.dropEmpty(f.room)
}

// remove takes s out of the i-th of its further rooms here.
func (rs *rooms) remove(s *session, i int) {
	r := s.rare.further[i].room
	rs.unhost(s, i)
	s.rare.further = slices.Delete(s.rare.further, i, i+1)
	rs.forgetEmpty(r)
}

// promote makes the oldest of the further rooms of s, if there is one, its first, which it has none of.
func (rs *rooms) promote(s *session) {
	if len(s.further()) == 0 {
		return
	}
	f := s.rare.further[0]
	rs.unhost(s, 0)
	s.rare.further = slices.Delete(s.rare.further, 0, 1)
	s.room, s.uid = f.room, f.uid
	rs.joinGroup(s, f.room)
}

// unhostAll takes s out of the guests of all its further rooms, of which it stays a member; hostAll is the opposite, when it has another variant.
func (rs *rooms) unhostAll(s *session) {
	for i := range s.further() {
		rs.unhost(s, i)
	}
}

func (rs *rooms) hostAll(s *session) {
	for i := range s.further() {
		rs.host(s, i)
	}
}

// pushToGuests stages a push, which is encoded, for the guests of a variant but for one, who may be nil. Unless they are extended, and so are told of
// which room it is, they hear of who comes and goes in their first room only.
func (rs *rooms) pushToGuests(vg *variantGroup, route string, but *session) {
	if !vg.variant.Extended && (route == "onAdd" || route == "onLeave") {
		return
	}
	for _, s := range vg.guests.sessions {
		if s == but {
			continue
		}
		rs.stageFor(s, rs.encoded)
	}
}

// stageFor stages a push for a guest.
func (rs *rooms) stageFor(s *session, b []byte) {
	rs.np.Write(s.conn, b)
	if rs.staged += len(b); rs.staged > maxStaged {
		rs.np.WriteOut()
		rs.staged = 0
	}
}

// maxStaged is how many bytes wait for guests in a turn before they are written in the middle of it: they are copies, one for each guest and push, and nothing else
// bounds how many a turn makes.
const maxStaged = 1 << 20

// leaveRoom has s leave one of its rooms, and tells the App why.
func (l *loop) leaveRoom(s *session, name string) bool {
	r := s.named(name)
	if r == nil {
		return false
	}
	user := s.user()
	if i := s.furtherIn(r.id); i >= 0 {
		l.rooms.remove(s, i)
	} else {
		l.rooms.exit(s)
	}
	if s.room == nil {
		s.hops = maxHops // on another loop its next enter could overtake this leave (follow)
	}
	l.leave(l.addr(s.conn), user, name, r.id.Partition(), channel.Request{})
	l.tellMoved(s, app.Left)
	return true
}

// kicked ends s for a room, or for its user. Where one of its further rooms has ended it goes on in the others; its first one is the one that its client has entered, and that is
// told why. A user that has come back to a room by another session may come to the further ones, too: there s leaves as if it had been cut off.
func (l *loop) kicked(s *session, it *channel.Item) {
	if len(s.further()) > 0 {
		if i := s.furtherIn(it.Room); i >= 0 && it.Count == channel.RoomEnds {
			l.rooms.remove(s, i)
			l.tellMoved(s, app.Closed)
			return
		}
		if it.Replaces() {
			l.appClient(s).replaced = it.Room
		}
	}
	l.kick(s, string(it.Body))
}

// forsake has s leave where it may have entered as uid, as nobody has said so. With a new login, where it is, it stays who it was.
func (l *loop) forsake(s *session, uid string, star uint8) {
	user, name := uid[:star], uid[int(star)+1:]
	switch {
	case slices.ContainsFunc(s.further(), func(f further) bool { return f.uid == uid }):
		l.leaveRoom(s, name)
	case s.room == nil || s.uid != uid:
		l.leave(l.addr(s.conn), user, name, channel.Partition(name), channel.Request{Handed: channel.Unheard})
	}
}

// departRooms has s, which ends for a reason, leave all its rooms. end is what the leaves say of that.
func (l *loop) departRooms(s *session, end channel.Request, why netpoll.Reason) {
	handed, told := uint64(0), false
	if end.Cut {
		handed = l.handed(s)
	}
	for i := len(s.further()) - 1; i >= 0; i-- {
		r, name, its := s.rare.further[i].room, s.furtherName(i), end
		if its.Cut = end.Cut && l.node.ghosts.take(end.Near, l.np.Nanos()); its.Cut {
			its.Handed = r.seq // what is staged counts as taken: nothing is told twice
			told = l.tellAway(s, r, name, end.Near, why)
		} else {
			its.Near, told = 0, false
		}
		l.rooms.remove(s, i)
		l.leaveAs(s, told, name, r.id.Partition(), its)
	}
	end.Handed = handed
	r := s.room
	told = end.Cut && l.tellAway(s, r, s.roomName(), end.Near, why)
	l.rooms.exit(s)
	l.leaveAs(s, told, s.roomName(), r.id.Partition(), end)
}

// leaveAs posts the leave of s from one of its rooms. If a program was told that its place is kept, whoever has the place already is told that it returns, behind what the program has just pushed to the room. That goes by
// mail, also to this loop, which carries out the leave before: else whoever comes back meanwhile would take the place over, and not return. So who has the place is looked for again, by mail, as the leave of nobody.
func (l *loop) leaveAs(s *session, told bool, room string, part uint16, end channel.Request) {
	at, user := &l.node.placement.Load()[part], s.user()
	if told && at.loop != l {
		end.Key = s.keyAs(user)
	}
	l.leave(l.addr(s.conn), user, room, part, end)
	if key := s.keyAs(user); told && at.loop == l && key != 0 {
		at.inlet.Post(channel.Request{Op: channel.OpLeave, From: channel.Addr{Node: l.node.id, Ref: channel.Ref(l.index) << 56}, User: user, Room: room, Part: part, Key: key})
	}
}
