package cluster

import "github.com/pomelod/pomelod/channel"

// Send takes a message of a Holder, or of the desk, on its way to a node of the view, this one included. It is looked at in the turn. What is for
// a node that is no member is dropped.
func (n *Node) Send(to channel.Node, m *Message) { n.out = append(n.out, parcel{to, m}) }

// Turn does everything that is due: it looks at what has come, makes a view if it is this node's turn, and sends. now is the node's monotonic
// clock, in ns, never 0 and never less than before; wall is the wall clock, in ms. It wants to be called when something has come or is to be
// sent, and at least each 20 ms.
func (n *Node) Turn(now, wall int64) {
	if n.err != nil {
		n.inbox, n.out = nil, nil
		return
	}
	n.pass(now)
	n.wall = wall
	if !n.turned {
		n.turned = true
		n.maker = newMaker(n.config.parts, now+probeFor+listenFirst)
		n.probe()
	}
	if n.away {
		n.peers.stopHearing(now)
	}
	inbox := n.inbox
	n.inbox = nil
	for i := range inbox {
		n.event(&inbox[i])
	}
	n.deliverOut()
	if unheard := n.probeTill != 0; !n.probing() {
		if unheard {
			n.announce(&greeting{Versions: n.config.speaks, Roles: n.config.Roles, Host: n.config.Host})
		}
		n.beat()
		n.turnNotes()
		swaps := n.maker.swaps && now-n.maker.published >= makeEvery
		if swaps || now-n.lookAt >= lookEvery {
			n.lookAt, n.maker.swaps = now, n.maker.swaps && !swaps
			n.look()
		}
	}
	n.desk.hold(n.peers.quorum == 0 && n.peers.woken != 0)
	n.desk.turn(now)
	n.deliverOut()
	n.links.flush(now, n.bus)
}

// pass lets time pass. A node that nothing has told the time for too long may have missed anything.
func (n *Node) pass(now int64) {
	if n.turned && now-n.now > lateAfter {
		n.peers.stopHearing(now)
	}
	n.now = now
}

// beat announces a heartbeat when one is due.
func (n *Node) beat() {
	if !n.beatNow && n.beatAt != 0 && n.now-n.beatAt < heartbeatEvery {
		return
	}
	n.beatAt, n.beatNow = n.now, false
	h := &heartbeat{Versions: n.config.speaks, Roles: n.config.Roles, Host: n.config.Host, Address: n.config.Address, Load: n.load, Terms: n.config.Terms,
		Draining: n.draining, Ready: n.now >= n.maker.ready}
	if n.view != nil {
		h.View = n.view.ID
	}
	n.peers.heartbeat(h, n.now)
	n.announce(h)
	if n.view != nil {
		for _, name := range n.peers.silent(n.view, n.now) {
			n.send(name, &fetch{})
		}
	}
}

// look looks at everything that happens because nothing comes.
func (n *Node) look() {
	n.peers.look(n.view, !n.away, n.now)
	base, certain := n.base()
	if n.config.Roles&RoleChat == 0 || !certain {
		return
	}
	if v := n.maker.turn(n, base); v != nil {
		n.adopt(v)
		n.announce(&viewBody{View: v})
	}
}

// base is the view that the next one comes after, nil if a fleet is to begin; false: that is not certain. With a quorum it is not the node's own view where too few
// remember that it is the newest: all who had a newer one may have ended since, with what they have acknowledged. If that stays so, whoever is there
// begins anew, as a run without a past. Who was cut off and comes back is not in doubt, as it waits until it is heard by a quorum.
func (n *Node) base() (v *View, certain bool) {
	n.peers.ascertain(n.view)
	switch {
	case n.peers.quorum == 0 || n.view == nil || n.peers.remembered(n.view, n.now), n.Self() != 0 && !n.peers.lease(n.view, n.now, false):
		n.doubt = 0
		return n.view, true
	case n.doubt == 0:
		n.doubt = n.now
	}
	if n.now-n.doubt < anewAfter {
		n.maker.asking = 0
		return nil, false
	}
	if self := n.Self(); self != 0 {
		n.restart(self)
	}
	return nil, true
}

// event looks at what has come.
func (n *Node) event(e *event) {
	if e.packet == nil {
		n.peers.noResponders(e.name, n.now)
		return
	}
	from, body, err := n.config.speaks.parsePacket(e.packet)
	if from.Name == n.config.Name && from.Run != n.peers.self.Run {
		n.namesake(from, body)
	}
	if from.Name == n.config.Name || from.Name == "" {
		return
	}
	x, ok := n.peers.hear(from, n.now)
	if !ok || err != nil {
		return
	}
	switch b := body.(type) {
	case *heartbeat:
		if n.foreign(from, b.Versions, b.View != (ViewID{})) {
			return
		}
		n.newest = max(n.newest, b.View.View)
		n.beatNow = n.beatNow || n.frees(x, b)
		if b.View != (ViewID{}) && (n.view == nil || Less(n.view.ID, b.View)) {
			n.send(from.Name, &fetch{})
		}
		n.peers.says(x, b, n.view)
		n.learnRun(b)
	case *greeting:
		_ = n.foreign(from, b.Versions, false)
		n.beatNow = true
	case *viewBody:
		n.adopt(b.View)
	case *fetch:
		if n.view != nil {
			n.send(from.Name, &viewBody{View: n.view})
		}
	case *ask:
		n.maker.yield(n.config.Name, from.Name, n.now)
		n.send(from.Name, &answer{Number: b.Number, View: n.view})
	case *answer:
		n.maker.hasAnswered(from.Name, b.Number)
		if b.View != nil {
			n.adopt(b.View)
		}
	case *batch:
		arrived, behind := n.links.receive(from, b)
		if behind {
			n.send(from.Name, &fetch{})
		}
		n.deliverAll(arrived)
	case *batchAck:
		n.links.acked(from, b, n.now)
	case *retire:
		if b.Run == n.peers.self.Run && n.retired == "" {
			n.retired = from.Name
		}
	case *notesBody:
		n.takeNotes(b.List)
	case *notesSum:
		n.compareNotes(from.Name, b.Sum)
	case *notesAsk:
		n.answerNotes(from.Name, &b.Sums)
	}
}

// frees tells whether a heartbeat is of somebody who could not hear until now and who refuses requests until this node has echoed it (peers.says): that
// should not take until this node's next heartbeat is due.
func (n *Node) frees(x *peer, b *heartbeat) bool {
	if !b.Deaf || x.said != nil && x.said.Deaf || n.view == nil {
		return false
	}
	maker := n.view.ID.Maker.Number()
	return maker == n.view.number(n.config.Name) || maker == n.view.number(x.Name)
}

// learnRun makes a newcomer's run greater than all that others have heard of under its name: the clock may have gone back since.
func (n *Node) learnRun(h *heartbeat) {
	if n.Self() != 0 {
		return
	}
	for i := range h.Echoes {
		if id := h.Echoes[i].Peer; id.Name == n.config.Name && id.Run > n.peers.self.Run {
			n.peers.self.Run = id.Run
			n.restart(0)
		}
	}
}

func (n *Node) deliverAll(arrived []letter) {
	for _, l := range arrived {
		if n.Self() != 0 && n.view.Has(l.from) { // one before it may have brought a view
			n.deliver(l.from, l.m)
		}
	}
}

// deliver looks at a message to this node.
func (n *Node) deliver(from channel.Node, m *Message) {
	switch m.Kind {
	case KindInStep, KindReady, KindDropFollower:
		n.maker.note(n.view, m)
	case KindServe, KindItems, KindNotOwner:
		n.desk.receive(from, m)
	default:
		n.home.Message(from, m)
	}
}

// deliverOut sends what Holders and desk want sent. While the node does not know whether it was replaced, nothing that its owners decided leaves, also not
// for its own sessions: without a follower nobody else would keep it back.
func (n *Node) deliverOut() {
	quiet := n.peers.suspended(n.view, n.now)
	if !quiet && len(n.held) > 0 {
		n.out = append(n.held, n.out...)
		n.held = nil
	}
	for len(n.out) > 0 { // what is sent to oneself may lead to more
		out := n.out
		n.out = nil
		self := n.Self()
		for _, p := range out {
			switch {
			case self == 0 || !n.view.Has(p.to):
			case quiet && (p.m.Kind == KindItems || p.m.Kind == KindServe):
				n.held = append(n.held, p)
			case p.to == self:
				n.deliver(self, p.m)
			default:
				n.links.send(p.to, p.m)
			}
		}
	}
}

// adopt takes a view that is newer than the node's own. One that the node is not in, or that has not come of its own, makes it a new run.
func (n *Node) adopt(v *View) {
	n.newest = max(n.newest, v.ID.View)
	if n.view != nil && !Less(n.view.ID, v.ID) || len(v.Shares) != n.config.parts {
		return
	}
	old, self := n.view, n.Self()
	n.view = v
	n.beatNow = n.beatNow || old == nil || old.Members != v.Members
	n.maker.asking, n.maker.yields, n.doubt = 0, 0, 0
	n.peers.forget(v, n.now)
	number := v.number(n.config.Name)
	if self != 0 && (v.run(number) != n.peers.self.Run || !v.follows(old)) {
		n.restart(self)
	}
	if number != None && v.Names[number-1].Gone >= n.peers.self.Run {
		n.restart(0)
	}
	arrived := n.links.adopt(v)
	if self = n.Self(); self == 0 { // a run that was just begun is in no view yet
		return
	}
	n.home.Adopt(v, self)
	n.desk.adopt(v, self)
	n.deliverAll(arrived)
}

// restart goes on as a new run, which has nothing.
func (n *Node) restart(old channel.Node) {
	n.peers.self.Run = max(uint64(n.wall), n.peers.self.Run+1)
	if n.view != nil {
		if number := n.view.number(n.config.Name); number != None {
			n.peers.self.Run = max(n.peers.self.Run, n.view.Names[number-1].Gone+1)
		}
	}
	n.peers.woken = 0
	n.probe()
	n.maker.ready, n.maker.asking = max(n.maker.ready, n.now+listenAgain), 0
	n.out, n.held = nil, nil
	n.links.restart(n.peers.self.Run)
	n.desk.restart()
	n.home.Restart(old)
}

// send sends a packet to a name. As long as the run asks for a namesake nobody else may hear of it.
func (n *Node) send(name string, b body) {
	if n.probeTill == 0 || name == n.config.Name {
		n.bus.Send(name, appendPacket(nil, n.versionWith(n.peers.find(name)), n.peers.self, b))
	}
}

func (n *Node) announce(b body) {
	n.bus.Announce(appendPacket(nil, n.versionForAll(), n.peers.self, b))
}
