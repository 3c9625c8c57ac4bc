package cluster_test

import (
	"bytes"
	"slices"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
)

// checkNames looks for two sessions of one name in a room, on nodes that serve.
func (w *world) checkNames() {
	w.live = slices.DeleteFunc(w.live, func(t *seat) bool { return t.end != 0 })
	serves := func(t *seat) bool { return t.s.p.running() && !t.s.p.node.Suspended() }
	for i, t := range w.live {
		for _, o := range w.live[:i] {
			if o.part != t.part || o.name != t.name || o.s.c == t.s.c || !serves(o) || !serves(t) { // who comes again takes their own place: the old session's kick is on its way
				continue
			}
			w.sums["double names seen"]++
			if !w.split || w.quorum > 0 {
				w.violation("%s is twice in room %d: client %d at %s and client %d at %s", t.name, t.part, o.s.c.id, o.s.p.name, t.s.c.id, t.s.p.name)
			}
		}
	}
}

// checkEnd looks at everything after the quiet at the end.
func (w *world) checkEnd() {
	w.checkDelivered()
	w.checkOustings()
	w.checkPushed()
	for _, c := range w.clients {
		if len(c.pending) > 0 || c.s != nil && c.s.room == 0 {
			w.violation("client %d waits at the end", c.id)
		}
	}
	v := w.checkViews()
	if v == nil {
		return
	}
	for part := range v.Shares {
		w.checkPart(v, uint16(part))
	}
	for _, p := range w.procs {
		if p.up {
			s := p.holder.Stats()
			for name, n := range map[string]uint64{"holder takeovers": s.Takeovers, "holder snapshots": s.Snapshots, "holder stale": s.Stale, "holder not owner": s.NotOwner, "holder swapped": s.Swapped} {
				w.sums[name] += int(n)
			}
			if s.Differs > 0 {
				w.violation("%s has followed with another state %d times", p.name, s.Differs)
			}
		}
	}
}

// checkViews tells the view on which all agree.
func (w *world) checkViews() *cluster.View {
	var v *cluster.View
	for _, p := range w.procs {
		switch {
		case !p.up:
			continue
		case p.node.Self() == 0:
			w.violation("%s is in no view at the end", p.name)
			return nil
		case v != nil && v.ID != p.node.View().ID:
			w.violation("views differ at the end: %v and %v of %s", v.ID, p.node.View().ID, p.name)
			return nil
		case p.node.Suspended():
			w.violation("%s does not serve at the end", p.name)
		}
		v = p.node.View()
	}
	return v
}

func (w *world) procOf(v *cluster.View, number uint16) *proc {
	node := v.Node(number)
	for _, p := range w.procs {
		if p.up && p.node.Self() == node && node != 0 {
			return p
		}
	}
	return nil
}

func (w *world) checkPart(v *cluster.View, part uint16) {
	b := &v.Shares[part]
	chats := 0
	for _, p := range w.procs {
		if p.up && p.roles&cluster.RoleChat != 0 {
			chats++
		}
	}
	o, f := w.procOf(v, b.Owner), w.procOf(v, b.Follower)
	if o == nil || !o.worker.Owns(part) {
		w.violation("partition %d: whom the view calls the owner does not own it", part)
		return
	}
	if f == nil && chats > 1 && !w.alone {
		w.violation("partition %d has no follower at the end", part)
	}
	if f != nil && w.alone {
		w.violation("partition %d has a follower at the end", part)
	}
	state := o.worker.State(nil, part)
	if f != nil {
		if !f.worker.Shadows(part) || !bytes.Equal(f.worker.State(nil, part), state) {
			w.violation("partition %d: owner %s and follower %s differ at the end", part, o.name, f.name)
		}
		if kept, _ := f.holder.Unsettled(part); kept > 0 {
			w.violation("partition %d: its follower keeps %d items at the end", part, kept)
		}
	}
	if kept, out := o.holder.Unsettled(part); kept+out > 0 {
		w.violation("partition %d: %d items are not confirmed and %d not released at the end", part, kept, out)
	}
	have := members(state)
	w.checkRoom(part, have)
	w.checkSettings(o, part, cluster.RecordsOf(state), len(have))
	w.checkLogins(part, state)
}

// members are the names in an exported state.
func members(state []byte) map[string]channel.Addr {
	m := map[string]channel.Addr{}
	for _, r := range cluster.RecordsOf(state) {
		if r.Kind == channel.RecordAdd {
			m[r.User] = r.Addr
		}
	}
	return m
}

// checkRoom compares what the owner has with who is there, and with what each of them was told.
func (w *world) checkRoom(part uint16, have map[string]channel.Addr) {
	count := 0
	for _, t := range w.live {
		if t.part != part || t.end != 0 {
			continue
		}
		count++
		if a, ok := have[t.name]; !ok || a.Ref != t.s.ref || a.Node != t.s.p.node.Self() {
			w.violation("room %d: client %d is there as %s, and the owner does not know", part, t.s.c.id, t.name)
		}
		if len(t.list) != len(have) {
			w.violation("room %d: client %d knows %d members of %d", part, t.s.c.id, len(t.list), len(have))
		}
		for name := range have {
			if !t.list[name] {
				w.violation("room %d: client %d does not know %s", part, t.s.c.id, name)
			}
		}
	}
	if count != len(have) {
		w.violation("room %d: %d members are there, the owner knows %d: %v", part, count, len(have), have)
	}
}

// checkDelivered looks whether whatever was acknowledged has come to everybody who was there, or who was not was told. In a split without a quorum
// that holds for the side that is left in the end.
func (w *world) checkDelivered() {
	w.checkDeleted()
	byPart := map[uint16][]*seat{}
	for _, t := range w.seats {
		byPart[t.part] = append(byPart[t.part], t)
	}
	for _, m := range w.sends[1:] {
		if m.done == 0 || w.split && w.quorum == 0 && (!m.s.p.up || m.s.p.node.Self() != m.node) {
			continue
		}
		for _, t := range byPart[m.part] {
			if t.from < m.at && (t.end == 0 || t.by && t.end > m.done+9000) && (m.target == channel.Everybody || t.name == m.target && t.enter < m.at) {
				if m.doomed == 0 || t.enter < m.at { // who has returned since is told nothing of what is deleted
					w.checkGot(m, t.s)
				}
			}
		}
		for _, s := range m.had {
			if !s.ended || s.seat != nil && s.seat.by && s.seat.end > m.done+9000 {
				w.checkGot(m, s)
			}
		}
	}
}

func (w *world) checkGot(m *said, s *session) {
	w.sums["deliveries checked"]++
	if s.seat == nil || !s.seat.got[m.number] {
		w.violation("%d of client %d, sent at %d and acknowledged at %d (target %s), has not come to client %d at %s", m.number, m.s.c.id, m.at, m.done, m.target, s.c.id, s.p.name)
	}
}
