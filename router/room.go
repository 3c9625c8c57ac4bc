package router

import (
	"log/slog"
	"maps"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// room is what a loop knows of a room that has members here: a group of conns for each encoding that is present, and
// how far the room's stream of pushes has come. It is a cache, driven by the worker's items alone.
type room struct {
	id     channel.RoomID
	epoch  channel.Epoch
	seq    uint64
	large  string          // its name, if it stands in loop.large
	groups []*variantGroup // one to three, mostly
}

type variantGroup struct {
	variant *codec.Variant
	group   netpoll.Group
}

// renewRoom forgets what the loop knows of a room if somebody enters and the worker has come to another place in its stream: then it has
// sent what it did not send here, because it counts nobody here any more. Who is left in such an entry has been replaced, and its conn
// has yet to be reaped; or the stream has a gap. Every entry of a room thus goes through this, whatever became of the session that enters.
func (l *loop) renewRoom(it *channel.Item) {
	if r := l.rooms[it.Room]; r != nil && (r.seq != it.Seq || r.epoch != it.Epoch) {
		l.gap(r, it)
	}
}

// joinRoom makes s a member of a room here. A push that was encoded for others before stays theirs.
func (l *loop) joinRoom(s *session, it *channel.Item) {
	r := l.rooms[it.Room]
	if r == nil {
		r = &room{id: it.Room, epoch: it.Epoch, seq: it.Seq}
		l.rooms[it.Room] = r
	}
	if int(it.Count) >= l.node.limits.Spread && r.large == "" {
		r.large = s.roomName()
		l.large[r.large] = struct{}{}
	}
	s.room = r
	l.joinGroup(s, r)
}

// joinGroup adds s to the group of its variant.
func (l *loop) joinGroup(s *session, r *room) {
	for _, vg := range r.groups {
		if vg.variant == s.variant {
			l.np.Join(s.conn, &vg.group)
			return
		}
	}
	vg := &variantGroup{variant: s.variant}
	r.groups = append(r.groups, vg)
	l.np.Join(s.conn, &vg.group)
}

// changeVariant has s read from now on what clients of v read. What its room had for it until now is staged first, as it was encoded.
func (l *loop) changeVariant(s *session, v *codec.Variant) {
	r := s.room
	if r == nil {
		s.variant = v
		return
	}
	l.np.Leave(s.conn)
	l.dropEmpty(r)
	s.variant = v
	l.joinGroup(s, r)
}

// exitRoom takes s out of its room here. What the room had for it is staged first.
func (l *loop) exitRoom(s *session) {
	r := s.room
	s.room = nil
	l.np.Leave(s.conn)
	l.dropEmpty(r)
	if len(r.groups) == 0 && l.rooms[r.id] == r {
		l.forgetRoom(r)
	}
}

func (l *loop) forgetRoom(r *room) {
	delete(l.rooms, r.id)
	if r.large != "" {
		delete(l.large, r.large)
	}
}

// dropEmpty forgets the group that lost its last member.
func (l *loop) dropEmpty(r *room) {
	for i, vg := range r.groups {
		if vg.group.Len() == 0 {
			last := len(r.groups) - 1
			r.groups[i], r.groups[last] = r.groups[last], nil
			r.groups = r.groups[:last]
			return
		}
	}
}

// pushRoom appends a push to the groups of its room, encoded once for each variant that is present.
func (l *loop) pushRoom(it *channel.Item) {
	r := l.rooms[it.Room]
	if r == nil {
		return // the last member here has gone; its leave is on the way to the worker
	}
	if it.Seq != r.seq+1 || it.Epoch != r.epoch {
		l.gap(r, it)
		return
	}
	r.seq = it.Seq
	if l.node.closing.Load() && it.Push.Route == "onLeave" { // soon all have left; telling everybody of everybody would cost the square of that
		return
	}
	for _, vg := range r.groups {
		l.scratch = it.Push.AppendFrame(l.scratch[:0], vg.variant)
		l.np.Push(&vg.group, l.scratch)
		if vg.group.Backlog() > l.node.limits.RoomBytes {
			l.markCrowded(r.id)
		}
	}
	l.keepScratch()
}

// keepScratch keeps l.scratch for its next use, unless it has grown too large.
func (l *loop) keepScratch() {
	if cap(l.scratch) > maxScratch {
		l.scratch = nil
	}
}

const maxScratch = 256 << 10

// gap ends the room here when a push is missing from its stream: a member gets every message or is disconnected.
func (l *loop) gap(r *room, it *channel.Item) {
	if l.endRoom(r) == 0 {
		return
	}
	l.counters.gaps++
	slog.Error("a room's stream has a gap; its members on this loop are disconnected", "room", r.id, "have", r.seq, "got", it.Seq)
}

// endRoom disconnects the room's living members here, with a reason, and tells how many they were. The room is forgotten at once: who
// enters from now on has nothing to do with them.
func (l *loop) endRoom(r *room) (ended int) {
	l.forgetRoom(r)
	l.np.Each(func(c *netpoll.Conn) {
		if s := l.session(c); s.room == r {
			l.kick(s, "messages were lost; please enter again")
			ended++
		}
	})
	return ended
}

// markCrowded lets workers refuse new messages for a room whose members here do not keep up. A set of its own and not a
// field of the room, because workers on other loops read it; it is nearly always empty.
func (l *loop) markCrowded(id channel.RoomID) {
	set := map[channel.RoomID]struct{}{id: {}}
	if old := l.crowded.Load(); old != nil {
		if _, is := (*old)[id]; is {
			return
		}
		maps.Copy(set, *old)
	}
	l.crowded.Store(&set)
}

// recheckCrowded opens rooms again whose members have caught up to half the mark.
func (l *loop) recheckCrowded() {
	old := l.crowded.Load()
	if old == nil {
		return
	}
	set := make(map[channel.RoomID]struct{}, len(*old))
	for id := range *old {
		if r := l.rooms[id]; r != nil && r.backlog() > l.node.limits.RoomBytes/2 {
			set[id] = struct{}{}
		}
	}
	switch {
	case len(set) == len(*old):
	case len(set) == 0:
		l.crowded.Store(nil)
	default:
		l.crowded.Store(&set)
	}
}

func (r *room) backlog() int {
	most := 0
	for _, vg := range r.groups {
		most = max(most, vg.group.Backlog())
	}
	return most
}
