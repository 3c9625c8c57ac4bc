package router

import (
	"log/slog"
	"maps"
	"sync/atomic"

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
	large  string          // its name, if it stands in rooms.large
	groups []*variantGroup // one to three, mostly
}

type variantGroup struct {
	variant *codec.Variant
	group   netpoll.Group
	marks   []mark  // of the last pushes, as far as somebody may lack them
	guests  *guests // nil: there are none. It lies where the rest leaves eight bytes, so a room without guests is not larger
}

// rooms are what a loop knows of rooms that have members here. Owned by the loop, but for crowded.
type rooms struct {
	np       *netpoll.Loop
	limits   *Limits
	variants []*codec.Variant // by variantID. Static after construction
	byID     map[channel.RoomID]*room
	large    map[string]struct{}      // names of rooms that newcomers enter on other loops (follow)
	encoded  []byte                   // a push
	staged   int                      // bytes that wait for guests, at most
	volatile []*variantGroup          // whose guests are told something volatile in the next turn
	policy   func(room string) Policy // nil: there are none
	// crowded are the rooms whose members here do not keep up: workers refuse new messages for them. A set of its own and not a field of the
	// room, because workers on other loops read it; it is nearly always empty. Safe from any goroutine.
	crowded atomic.Pointer[map[channel.RoomID]struct{}]
}

func (rs *rooms) init(np *netpoll.Loop, limits *Limits, variants []*codec.Variant, policy func(room string) Policy) {
	rs.np, rs.limits, rs.variants, rs.policy = np, limits, variants, policy
	rs.byID, rs.large = make(map[channel.RoomID]*room), make(map[string]struct{})
}

// renewRoom forgets what the loop knows of a room if somebody enters and the worker has come to another place in its stream: then it has
// sent what it did not send here, because it counts nobody here any more. A session left in such an entry has been replaced, and its conn
// has yet to be reaped; or the stream has a gap. Every entry of a room thus goes through this, whatever became of the session that enters.
func (l *loop) renewRoom(it *channel.Item) {
	if r := l.rooms.byID[it.Room]; r != nil && (r.seq != it.Seq || r.epoch != it.Epoch) {
		l.gap(r, it)
	}
}

// join makes s a member of a room here. A push that was encoded for others before stays theirs.
func (rs *rooms) join(s *session, it *channel.Item) {
	s.room = rs.know(it, s.roomName())
	rs.joinGroup(s, s.room)
}

// know is what the loop knows of a room that somebody enters here.
func (rs *rooms) know(it *channel.Item, name string) *room {
	r := rs.byID[it.Room]
	if r == nil {
		r = &room{id: it.Room, epoch: it.Epoch, seq: it.Seq}
		rs.byID[it.Room] = r
	}
	if it.Members() >= rs.limits.Spread && r.large == "" {
		r.large = name
		rs.large[r.large] = struct{}{}
	}
	return r
}

// joinGroup adds s to the group of its variant.
func (rs *rooms) joinGroup(s *session, r *room) {
	rs.np.Join(s.conn, &rs.groupOf(r, s.variant, s.roomName()).group)
}

// groupOf is the group of a variant in a room, which is made if there is none.
func (rs *rooms) groupOf(r *room, id variantID, name string) *variantGroup {
	v := rs.variants[id]
	for _, vg := range r.groups {
		if vg.variant == v {
			return vg
		}
	}
	vg := &variantGroup{variant: v}
	rs.pace(vg, name)
	r.groups = append(r.groups, vg)
	return vg
}

// changeVariant has s read from now on what clients of v read. What its rooms had for it until now is staged first, as it was encoded.
func (rs *rooms) changeVariant(s *session, v variantID) {
	r := s.room
	if r == nil {
		s.variant = v
		return
	}
	rs.np.Leave(s.conn)
	rs.dropEmpty(r)
	rs.unhostAll(s)
	s.variant = v
	rs.joinGroup(s, r)
	rs.hostAll(s)
}

// exit takes s out of its first room here. What the room had for it is staged first. Its oldest further room, if it has any, is the first then.
func (rs *rooms) exit(s *session) {
	r := s.room
	s.room = nil
	rs.np.Leave(s.conn)
	rs.dropEmpty(r)
	rs.forgetEmpty(r)
	rs.promote(s)
}

// forgetEmpty forgets a room that has lost its last member here.
func (rs *rooms) forgetEmpty(r *room) {
	if len(r.groups) == 0 && rs.byID[r.id] == r {
		rs.forget(r)
	}
}

func (rs *rooms) forget(r *room) {
	delete(rs.byID, r.id)
	if r.large != "" {
		delete(rs.large, r.large)
	}
}

// dropEmpty forgets the group that lost its last member.
func (rs *rooms) dropEmpty(r *room) {
	for i, vg := range r.groups {
		if vg.group.Len() == 0 && vg.guests == nil {
			last := len(r.groups) - 1
			r.groups[i], r.groups[last] = r.groups[last], nil
			r.groups = r.groups[:last]
			return
		}
	}
}

// push appends a push to the groups of its room, encoded once for each variant that is present. It returns false when the push is not
// the next of the room's stream. but, which may be nil, is a guest that is left out; of the group of spared, which may be nil, nobody is told.
func (rs *rooms) push(r *room, it *channel.Item, but *session, spared *variantGroup) bool {
	if it.Seq != r.seq+1 || it.Epoch != r.epoch {
		return false
	}
	r.seq = it.Seq
	for _, vg := range r.groups {
		if it.Push.ForExtended && !vg.variant.Extended {
			continue
		}
		rs.encoded = it.Push.AppendFrame(rs.encoded[:0], vg.variant)
		fresh := vg.group.Backlog() == 0 && rs.np.Waiting() == 0
		if vg != spared {
			rs.np.Push(&vg.group, rs.encoded)
			if it.Count == channel.Urgent {
				rs.np.Hurry(&vg.group)
			}
		}
		vg.mark(r.seq, fresh)
		if vg.guests != nil {
			rs.pushToGuests(vg, it.Push.Route, but)
		}
		if vg.group.Backlog() > rs.limits.RoomBytes {
			rs.markCrowded(r.id)
		}
	}
	rs.encoded = keep(rs.encoded)
	return true
}

const maxScratch = 256 << 10

// pushRoom carries out a push to a room.
func (l *loop) pushRoom(it *channel.Item) {
	r := l.rooms.byID[it.Room]
	if r == nil {
		return // the last member here has gone; its leave is on the way to the worker
	}
	if l.node.closing.Load() && it.Push.Route == "onLeave" && it.Seq == r.seq+1 && it.Epoch == r.epoch {
		r.seq = it.Seq // soon all have left; telling everybody of everybody would cost the square of that
		return
	}
	but := l.leftOut(r, it)
	first, spared := but != nil && but.room == r, (*variantGroup)(nil)
	if first { // it gets what was pushed before, and what comes behind
		if vg := l.rooms.groupOf(r, but.variant, but.roomName()); vg.group.Len() == 1 {
			first, spared = false, vg // empty, it would forget what is volatile, its pace and its marks
		} else {
			l.np.Leave(but.conn)
		}
	}
	next := l.rooms.push(r, it, but, spared)
	if first {
		l.rooms.joinGroup(but, r)
	}
	if !next {
		l.gap(r, it)
	}
}

// leftOut is the member of r that a push to the room is not for; nil: there is none.
func (l *loop) leftOut(r *room, it *channel.Item) *session {
	if it.To.Asker() { // it names the loop only
		return nil
	}
	if s := l.byAddr(it.To); s != nil && s.in(r.id) {
		return s
	}
	return nil
}

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
	l.rooms.forget(r)
	l.np.Each(func(c *netpoll.Conn) {
		if s := l.session(c); s.in(r.id) {
			l.kick(s, "messages were lost; please enter again")
			ended++
		}
	})
	return ended
}

// markCrowded notes that the members of a room do not keep up.
func (rs *rooms) markCrowded(id channel.RoomID) {
	set := map[channel.RoomID]struct{}{id: {}}
	if old := rs.crowded.Load(); old != nil {
		if _, is := (*old)[id]; is {
			return
		}
		maps.Copy(set, *old)
	}
	rs.crowded.Store(&set)
}

// recheckCrowded opens rooms again whose members have caught up to half the mark.
func (rs *rooms) recheckCrowded() {
	rs.staged = 0 // what was staged is written
	old := rs.crowded.Load()
	if old == nil {
		return
	}
	set := make(map[channel.RoomID]struct{}, len(*old))
	for id := range *old {
		if r := rs.byID[id]; r != nil && r.backlog() > rs.limits.RoomBytes/2 {
			set[id] = struct{}{}
		}
	}
	switch {
	case len(set) == len(*old):
	case len(set) == 0:
		rs.crowded.Store(nil)
	default:
		rs.crowded.Store(&set)
	}
}

func (r *room) backlog() int {
	most := 0
	for _, vg := range r.groups {
		most = max(most, vg.group.Backlog())
	}
	return most
}
