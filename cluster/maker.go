package cluster

import "slices"

// Times of a maker, in ns.
const (
	listenFirst  = 2000 * ms // a node joins or makes its first view after it has listened for so long
	listenAgain  = 200 * ms  // and as a new run of a process that has listened all the time
	makeEvery    = 10 * ms   // the least time between two views
	askFor       = 1000 * ms // a new maker waits so long for the views of others
	yieldFor     = 1500 * ms // and who was asked makes none for so long, unless the new maker's comes first
	anewAfter    = 3000 * ms // too few know for so long which view is the newest: the fleet begins anew
	apartFor     = 1000 * ms // two members may fail to hear each other for so long
	moveWithin   = 1000 * ms // a move is cancelled after this
	restFor      = 1000 * ms // and then not begun again before this
	droppedStays = 5000 * ms // a follower that was dropped does not join the partition before this
	vacantFor    = 600e9     // a row of names without a member becomes another name's after this, and after maxAncestors views
)

// maker makes views when it is its node's turn. It remembers nothing that its successor could not do without.
type maker struct {
	ready     int64 // the node may join, and make views, from then on
	asking    int64 // since when the others are asked for their views; 0: they are not
	yields    int64 // until then another one makes the next view
	ask       uint64
	answered  []string // names
	published int64
	swaps     bool                // a partition stands still, and all that it waits for is the next view
	apart     map[[2]string]int64 // since when the first does not hear the second
	parts     []makerPart
	told      []partOutlook // memory for plans
	vacant    []vacancy     // by row of names
	free      []bool        // memory for plans
	shares    []Share       // memory for plans
}

// vacancy is for how long a row of names has had no member, as far as this maker has made the views. Whoever had the row and slept all the while has an own view
// that is no ancestor of the newest any more, so it goes on as a new run when it wakes; and no packet is under way for so long.
type vacancy struct {
	since int64 // 0: it has a member, or this maker has yet to look
	views int
}

// makerPart is what the maker was told about a partition and when it did something to it.
type makerPart struct {
	inStep, ready, drop    ViewID
	shift                  bool
	moving, rest, avoiding int64 // since when, until when, until when; 0: not
	avoid                  uint16
}

func newMaker(parts int, ready int64) maker {
	return maker{ready: ready, apart: make(map[[2]string]int64), parts: make([]makerPart, parts), told: make([]partOutlook, parts)}
}

// note keeps what an owner or a follower tells the maker, if it is about v.
func (k *maker) note(v *View, m *Message) {
	if v == nil || int(m.Part) >= len(k.parts) {
		return
	}
	b, t := &v.Shares[m.Part], &k.parts[m.Part]
	switch {
	case b.Epoch != m.Epoch:
	case m.Kind == KindInStep && b.Joiner != None && m.Naming == b.Joining:
		t.inStep = m.Naming
	case m.Kind == KindReady && m.Moving != (ViewID{}) && m.Moving == b.Moving:
		t.ready, k.swaps = m.Moving, true
	case m.Kind == KindDropFollower && (m.Naming == b.Following && b.Follower != None || m.Naming == b.Joining && b.Joiner != None):
		t.drop = m.Naming
	}
}

// turn makes a view if it is this node's turn and something has changed; else nil. The view comes after base.
func (k *maker) turn(n *Node, base *View) *View {
	if n.now < k.ready || n.now < k.yields || n.peers.deaf(n.now) || n.away || n.peers.quorum > 0 && !n.peers.lease(n.view, n.now, false) {
		k.asking = 0
		return nil
	}
	if n.view != nil {
		maker := n.view.ID.Maker
		if n.Self() == maker && maker != 0 {
			k.asking = 0
			if n.now-k.published < makeEvery {
				return nil
			}
			return k.plan(n, base, false)
		}
		if x := n.peers.numbered(n.view, maker.Number()); x != nil && x.mayMake(n.now) && n.view.Has(maker) && x.Run == maker.Incarnation() {
			k.asking = 0
			return nil
		}
	}
	if !k.next(n) {
		k.asking = 0
		return nil
	}
	return k.succeed(n, base)
}

// next tells whether the node is the one who should make views now that nobody does: the least chat member that may, and where no member may
// the chat node with the least name.
func (k *maker) next(n *Node) bool {
	if n.view != nil {
		for i := range n.view.Names {
			row := &n.view.Names[i]
			if row.Run == 0 || row.Roles&RoleChat == 0 {
				continue
			}
			if row.Name == n.config.Name {
				if row.Run == n.peers.self.Run {
					return true
				}
			} else if x := n.peers.find(row.Name); x != nil && x.mayMake(n.now) && x.Run == row.Run {
				return false
			}
		}
	}
	for _, x := range n.peers.list {
		if x.mayMake(n.now) && x.said.Roles&RoleChat != 0 {
			return n.config.Name < x.Name
		}
	}
	return true
}

// succeed asks everybody for the newest view, and plans when they have answered or have had the time for it.
func (k *maker) succeed(n *Node, base *View) *View {
	if k.asking == 0 {
		k.asking, k.answered = n.now, k.answered[:0]
		k.ask++
		for _, x := range n.peers.list {
			if x.alive(n.now) {
				n.send(x.Name, &ask{Number: k.ask})
			}
		}
		return nil
	}
	if n.now-k.asking <= askFor {
		for _, x := range n.peers.list {
			if x.alive(n.now) && !slices.Contains(k.answered, x.Name) {
				return nil
			}
		}
	}
	k.asking = 0
	return k.plan(n, base, true)
}

// plan looks at everything and makes the view after base, if there is one to make.
func (k *maker) plan(n *Node, base *View, first bool) *View {
	if first {
		clear(k.apart)
		k.vacant = k.vacant[:0] // it may have been of a view with more names
	}
	o := outlook{number: max(n.newest+1, uint64(n.wall)), quorum: n.peers.quorum, alone: n.config.Alone, force: first, told: k.told}
	if base == nil { // two fresh fleets that begin in the same millisecond must not make views with one id
		o.number += nameHash(n.config.Name) % 1024
	}
	k.prospects(n, &o)
	for i := range k.parts {
		t := &k.parts[i]
		if first && t.moving != 0 {
			t.moving = n.now
		}
		if base != nil && base.Shares[i].Moving != (ViewID{}) && t.moving == 0 {
			t.moving = n.now
		}
		o.told[i] = partOutlook{inStep: t.inStep, ready: t.ready, drop: t.drop, shift: t.shift, rest: n.now < t.rest, avoid: None,
			expired: t.moving != 0 && n.now-t.moving > moveWithin}
		switch {
		case base != nil && t.drop != (ViewID{}) && t.drop == base.Shares[i].Following:
			o.told[i].avoid = base.Shares[i].Follower
		case base != nil && t.drop != (ViewID{}) && t.drop == base.Shares[i].Joining:
			o.told[i].avoid = base.Shares[i].Joiner
		case n.now < t.avoiding:
			o.told[i].avoid = t.avoid
		}
	}
	k.free = k.free[:0]
	for i := range k.vacant {
		b := &k.vacant[i]
		k.free = append(k.free, b.views > maxAncestors && n.now-b.since > vacantFor)
	}
	o.free, o.shares = k.free, k.shares
	v := plan(base, &o)
	k.shares = o.shares
	if v != nil {
		k.published = n.now
		k.countVacant(v, n.now)
		k.remember(base, v, n.now)
	}
	return v
}

// countVacant notes which rows of a view that was made have no member.
func (k *maker) countVacant(v *View, now int64) {
	for len(k.vacant) < len(v.Names) {
		k.vacant = append(k.vacant, vacancy{})
	}
	for i := range v.Names {
		switch b := &k.vacant[i]; {
		case v.Names[i].Run != 0:
			*b = vacancy{}
		case b.since == 0:
			*b = vacancy{since: now, views: 1}
		default:
			b.views++
		}
	}
}

// remember notes when moves began and ended, and whom to avoid.
func (k *maker) remember(old, v *View, now int64) {
	for i := range k.parts {
		t, b := &k.parts[i], &v.Shares[i]
		was := Share{}
		if old != nil {
			was = old.Shares[i]
		}
		switch {
		case b.Moving == was.Moving:
		case b.Moving != ViewID{}:
			t.moving, t.shift = now, false
		default:
			t.moving = 0
			if b.Epoch == was.Epoch {
				t.rest = now + restFor
			}
		}
		if t.drop != (ViewID{}) {
			switch t.drop {
			case was.Following:
				t.avoid, t.avoiding = was.Follower, now+droppedStays
			case was.Joining:
				t.avoid, t.avoiding = was.Joiner, now+droppedStays
			}
			t.drop = ViewID{}
		}
	}
}

// prospects are the nodes, the maker included, as far as they are known.
func (k *maker) prospects(n *Node, o *outlook) {
	list := make([]*peer, 0, len(n.peers.list)+1) // nil: the maker
	for _, x := range n.peers.list {
		if len(list) == o.self && x.Name > n.config.Name {
			list = append(list, nil)
		} else if x.Name < n.config.Name {
			o.self++
		}
		list = append(list, x)
	}
	if len(list) == o.self {
		list = append(list, nil)
	}
	o.nodes = make([]prospect, len(list))
	for i, x := range list {
		o.nodes[i] = n.prospect(x)
	}
	for a, x := range list {
		p := &o.nodes[a]
		p.hears, p.certain, p.apart = make([]bool, len(list)), make([]bool, len(list)), make([]bool, len(list))
		for b, y := range list {
			switch {
			case a == b:
			case x == nil:
				p.hears[b] = y.alive(n.now)
			default:
				id := o.nodes[b].runID
				p.hears[b], p.certain[b] = x.hears(id, false), x.hears(id, true)
			}
			p.apart[b] = a != b && k.isApart(n, x, y, p.hears[b])
		}
	}
}

// prospect is what is known of a peer, or of the node itself (nil).
func (n *Node) prospect(x *peer) prospect {
	if x == nil {
		return prospect{runID: n.peers.self, roles: n.config.Roles, host: n.config.Host, alive: true, ready: true, draining: n.draining}
	}
	p := prospect{runID: x.runID, alive: x.alive(n.now), quiet: n.now-x.heard > freshWithin}
	if h := x.said; h != nil {
		p.roles, p.host, p.draining, p.ready = h.Roles, h.Host, h.Draining, h.Ready && !h.Deaf
	}
	return p
}

// isApart tells whether one does not hear the other for too long, although the maker hears both well.
func (k *maker) isApart(n *Node, x, y *peer, hears bool) bool {
	key := [2]string{n.nameOf(x), n.nameOf(y)}
	if hears || x != nil && !x.fresh(n.now) || y != nil && !y.fresh(n.now) {
		delete(k.apart, key)
		return false
	}
	since, has := k.apart[key]
	if !has {
		k.apart[key] = n.now
	}
	return has && n.now-since > apartFor
}

func (n *Node) nameOf(x *peer) string {
	if x == nil {
		return n.config.Name
	}
	return x.Name
}

// nameHash is FNV-1a.
func nameHash(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(name); i++ {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return h
}

// yield has the node make no view after it has answered another one's ask: it may be the maker, and the other one have thought it could not be, and of two views after
// the same one each ends the sessions of nodes that had the other. Of two who ask at the same time the one with the lesser name goes on: its ask was on its way before its answer.
func (k *maker) yield(name, to string, now int64) {
	if k.asking == 0 || to < name {
		k.asking, k.yields = 0, now+yieldFor
	}
}

// hasAnswered notes the answer to an ask.
func (k *maker) hasAnswered(name string, number uint64) {
	if number == k.ask {
		k.answered = append(k.answered, name)
	}
}
