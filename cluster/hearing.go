package cluster

import (
	"cmp"
	"slices"
)

// Times of hearing, in ns.
const (
	ms = int64(1e6)

	heartbeatEvery = 500 * ms
	deadAfter      = 3000 * ms // silent for so long is dead
	suspectFor     = 1000 * ms // no responders and silent for so long is dead
	lateAfter      = 1000 * ms // a turn that is later by this may have missed anything
	deafFor        = deadAfter // how long who could not hear listens before it judges again
	echoWithin     = 2000 * ms // a quorum counts who has echoed a heartbeat not older
	freshWithin    = 1200 * ms // heard well
	noneWithin     = 1500 * ms // of several members none was heard for so long: it is this node that does not hear
	forgetAfter    = 600e9     // a peer silent for so long, and no member, is forgotten
)

// peer is what a node knows of another one.
type peer struct {
	runID // the highest run heard of

	since        int64      // when the run was heard first
	heard        int64      // when the last packet came
	noResponders int64      // when the bus first said so since; counts while later than heard
	said         *heartbeat // the run's last; nil: none yet
}

// peers is whom a node hears, and who hears it. Time is a parameter of each method, in ns of the node's monotonic clock.
type peers struct {
	self   runID
	quorum int     // 0: none
	list   []*peer // in order of names

	beats [32]struct { // the heartbeats that this node has sent last
		number uint64
		at     int64
	}
	beat      uint64 // number of the last one
	deafUntil int64  // the node does not judge before
	woken     int64  // since when it waits to be told that its view is the newest; 0: it does not
	sure      int64  // at that time no quorum had a view newer than this node's; 0: that was never known
}

// find is the peer of a name, nil if it is not known.
func (p *peers) find(name string) *peer {
	if i, has := slices.BinarySearchFunc(p.list, name, comparePeer); has {
		return p.list[i]
	}
	return nil
}

func comparePeer(p *peer, name string) int { return cmp.Compare(p.Name, name) }

// hear notes a packet of a peer, and tells false if it is of a run that a newer one has ended.
func (p *peers) hear(from runID, now int64) (*peer, bool) {
	i, has := slices.BinarySearchFunc(p.list, from.Name, comparePeer)
	if !has {
		p.list = slices.Insert(p.list, i, &peer{runID: from, since: now})
	}
	x := p.list[i]
	switch {
	case from.Run < x.Run:
		return x, false
	case from.Run > x.Run:
		x.Run, x.said, x.since = from.Run, nil, now
	}
	x.heard = now
	return x, true
}

// noResponders notes that the bus knows nobody who takes packets for a name.
func (p *peers) noResponders(name string, now int64) {
	if x := p.find(name); x != nil && x.noResponders <= x.heard {
		x.noResponders = now
	}
}

// forget forgets who is long gone and no member of v.
func (p *peers) forget(v *View, now int64) {
	p.list = slices.DeleteFunc(p.list, func(x *peer) bool {
		return now-x.heard > forgetAfter && v.run(v.number(x.Name)) == 0
	})
}

// numbered is the peer of a number in v, nil if it is none or not known.
func (p *peers) numbered(v *View, number uint16) *peer {
	if number == None || int(number) > len(v.Names) {
		return nil
	}
	return p.find(v.Names[number-1].Name)
}

// alive tells whether a peer counts as living.
func (x *peer) alive(now int64) bool {
	return now-x.heard < deadAfter && !(x.noResponders > x.heard && now-x.noResponders > suspectFor)
}

// fresh tells whether a peer was heard lately, with no sign of death.
func (x *peer) fresh(now int64) bool { return x.heardWithin(freshWithin, now) }

// heardWithin is fresh with another time, in ns.
func (x *peer) heardWithin(time, now int64) bool {
	return now-x.heard < time && x.noResponders <= x.heard
}

// hears tells whether a peer said that it hears a run; strictly, if it does not count that it has said nothing or cannot judge.
func (x *peer) hears(id runID, strictly bool) bool {
	if x.said == nil {
		return !strictly
	}
	if x.said.Deaf && !strictly {
		return true
	}
	for i := range x.said.Echoes {
		if e := &x.said.Echoes[i]; e.Peer.Name == id.Name {
			return e.Peer.Run == id.Run && e.Alive
		}
	}
	return false
}

// echoed is when this node sent the last of its heartbeats that a peer has echoed; 0: none that is remembered.
func (p *peers) echoed(x *peer) int64 {
	if x.said == nil {
		return 0
	}
	for i := range x.said.Echoes {
		e := &x.said.Echoes[i]
		if e.Peer != p.self || e.Number == 0 {
			continue
		}
		if b := &p.beats[e.Number%uint64(len(p.beats))]; b.number == e.Number {
			return b.at
		}
	}
	return 0
}

// heartbeat completes the node's next heartbeat with its number and whom it hears.
func (p *peers) heartbeat(h *heartbeat, now int64) {
	p.beat++
	b := &p.beats[p.beat%uint64(len(p.beats))]
	b.number, b.at = p.beat, now
	h.Number, h.Deaf = p.beat, p.deaf(now)
	h.Echoes = make([]echo, 0, len(p.list))
	for _, x := range p.list {
		e := echo{Peer: x.runID, Alive: x.alive(now)}
		if x.said != nil {
			e.Number = x.said.Number
		}
		h.Echoes = append(h.Echoes, e)
	}
}

// says notes a peer's heartbeat. An echo of one that was sent since the node woke, by the maker of its view or to it, under no older view, ends
// the waiting.
func (p *peers) says(x *peer, h *heartbeat, v *View) {
	if x.said != nil && h.Number < x.said.Number {
		return // an old route delivers late
	}
	x.said = h
	if p.woken == 0 || v == nil || Less(v.ID, h.View) {
		return
	}
	maker := v.ID.Maker.Number()
	if at := p.echoed(x); at >= p.woken && (maker == v.number(x.Name) || maker == v.number(p.self.Name)) {
		p.woken = 0
	}
}

// stopHearing notes that the node may have missed anything: it judges nobody for a while, and waits to hear that its view is the newest.
func (p *peers) stopHearing(now int64) { p.deafUntil, p.woken = now+deafFor, now }

// deaf tells whether the node may not judge.
func (p *peers) deaf(now int64) bool { return now < p.deafUntil }

// look finds out whether it is this node that does not hear: none of several members. Who is alone in its view has nobody to hear.
func (p *peers) look(v *View, connected bool, now int64) {
	if v == nil {
		return
	}
	members, heard := 0, 0
	for i := range v.Names {
		if v.Names[i].Run == 0 || v.Names[i].Name == p.self.Name {
			continue
		}
		members++
		if x := p.find(v.Names[i].Name); x != nil && (now-x.heard < noneWithin || x.noResponders > x.heard) {
			heard++
		}
	}
	if members > 1 && heard == 0 {
		p.stopHearing(now)
	}
	if members == 0 && connected && v.is(p.self) && !p.deaf(now) {
		p.woken = 0
	}
}

// silent are members that were not heard for so long that it may be this node that does not hear. What is sent to them makes the bus say whether
// they are there at all.
func (p *peers) silent(v *View, now int64) (names []string) {
	for i := range v.Names {
		row := &v.Names[i]
		if row.Run == 0 || row.Name == p.self.Name {
			continue
		}
		x := p.find(row.Name)
		if x == nil { // gone before this node heard it
			x, _ = p.hear(runID{row.Name, row.Run}, now-deadAfter)
			x.noResponders = x.heard
		}
		if now-x.heard >= noneWithin && x.noResponders <= x.heard {
			names = append(names, row.Name)
		}
	}
	return names
}

// lease tells whether a quorum has heard this node lately. Members only: as members of v that have adopted a view with v's members.
func (p *peers) lease(v *View, now int64, membersOnly bool) bool {
	return p.quorate(1, v, now, func(x *peer) bool {
		return !membersOnly || v != nil && v.is(x.runID) && !Less(x.said.View, v.Members)
	})
}

// quorate tells whether those who have echoed a heartbeat of the last 2 s and have no newer view than v are a quorum, as far as they count and with so many more.
func (p *peers) quorate(more int, v *View, now int64, counts func(x *peer) bool) bool {
	for _, x := range p.list {
		at := p.echoed(x)
		if at != 0 && now-at < echoWithin && (v == nil || !Less(v.ID, x.said.View)) && counts(x) {
			more++
		}
	}
	return more >= p.quorum
}

// remembers tells whether a run would know of any view that came after v with a quorum: it was a member of v, or was there already when no quorum had one. Who has begun since
// may have taken the place of one that had it.
func (p *peers) remembers(v *View, x *peer) bool { return v.is(x.runID) || x.since <= p.sure }

// remembered tells whether v is certainly the newest view: of a quorum each remembers, and has none that is newer. Any other quorum has one of these in it.
func (p *peers) remembered(v *View, now int64) bool {
	self := 0
	if v.is(p.self) || p.sure > 0 {
		self = 1
	}
	return p.quorate(self, v, now, func(x *peer) bool { return p.remembers(v, x) })
}

// ascertain notes the time at which a quorum had no view newer than v.
func (p *peers) ascertain(v *View) {
	if p.quorum < 2 || v == nil || !v.is(p.self) {
		return
	}
	var at []int64
	for _, x := range p.list {
		if t := p.echoed(x); t != 0 && !Less(v.ID, x.said.View) && p.remembers(v, x) {
			at = append(at, t)
		}
	}
	if others := p.quorum - 1; len(at) >= others {
		slices.Sort(at)
		p.sure = max(p.sure, at[len(at)-others])
	}
}

// suspended tells whether the node must refuse its sessions' requests; with a quorum its owners release nothing either.
func (p *peers) suspended(v *View, now int64) bool {
	if p.quorum > 0 {
		return !p.lease(v, now, true)
	}
	return p.woken != 0
}

// mayMake tells whether a peer counts as one who can make views.
func (x *peer) mayMake(now int64) bool {
	return x.alive(now) && x.said != nil && !x.said.Deaf && x.said.Ready
}
