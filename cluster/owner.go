package cluster

import (
	"slices"

	"github.com/pomelod/pomelod/channel"
)

// ownerSide is what only an owner has of a partition.
type ownerSide struct {
	follower, joiner *slot
	sealed           ViewID // the move for which it has stopped; zero: it goes on
	sealedAt         int64  // by the Holder's clock, when it looked after that first; 0: it has not
	queue            []Message
	decided          pending        // since the last Flush
	out              []unit         // sent to who follows, and not released
	released         uint64         // index up to which everything has been
	served           []channel.Node // who has been told that this node is the owner
	sends            uint64         // of records, since the last hash was sent
}

// pending is what was decided and not sent to who follows. The worker has it, and held.index does not count it.
type pending struct {
	records []channel.Record
	items   []channel.Item
	asking  []askedBy
}

const (
	// hashEvery is how many sends of records there are to a hash.
	hashEvery = 64
	// maxPending is how many records and items wait for the end of the turn: a turn may be long.
	maxPending = 4096
)

// slot is a follower or joiner, as its owner sees it.
type slot struct {
	node   channel.Node
	naming ViewID
	acked  uint64 // index
	awaits bool   // nothing is released before it has it: a follower, or a joiner that is about to be in step

	snapshot        *channel.Snapshot // that is being sent
	sent, had       uint64            // parts of it that were sent, and that have arrived
	all             bool              // the last part has been sent
	heard           int64             // by the Holder's clock, when it last acknowledged something, or was given something while nothing was to be heard
	marks           []mark
	calledInStep    bool
	stuck, wasStuck bool // the maker was asked to drop it: still, and ever
}

// mark says when a record was sent; there is one for each stretch of markEvery.
type mark struct {
	index uint64
	at    int64
}

const markEvery = 20 * ms

// adoptOwned makes the node the owner of a partition, or what it is as the owner fit to the view.
func (h *Holder) adoptOwned(part uint16, s *Share) {
	p := h.parts[part]
	switch {
	case p != nil && p.role == owns && p.epoch == s.Epoch:
		p.owner.served = slices.DeleteFunc(p.owner.served, func(n channel.Node) bool { return !h.view.Has(n) })
		h.fitSlots(p, s, false)
	case s.Born == s.Epoch:
		h.stats.Born++
		p = h.beginEmpty(part, s)
		h.fitSlots(p, s, false)
	case p != nil && p.hasAll() && p.born == s.Born && h.worker.Shadows(part):
		h.stats.Takeovers++
		h.takeOver(p, s)
		return
	default: // the maker believed that this node has the state: who knows more finds out by Serve
		h.stats.Empty++
		p = h.beginEmpty(part, s)
		h.fitSlots(p, s, false)
		h.serveAll(p)
	}
	h.seal(p, s)
	h.settle(p)
}

// hasAll tells whether a partition's state is whole: the node follows it, or owned it until it was stopped.
func (p *held) hasAll() bool {
	return p.role == follows && p.trail.whole || p.role == owns && p.owner.sealed != (ViewID{})
}

func (h *Holder) beginEmpty(part uint16, s *Share) *held {
	h.forget(part)
	h.worker.Own(part, s.Epoch)
	p := &held{part: part, role: owns, epoch: s.Epoch, born: s.Born}
	h.parts[part] = p
	return p
}

// takeOver makes the owner of who has the whole state. Everybody is told how far the partition had come, and is sent what it has not
// confirmed. Runs that are not in the view have ended, whenever that was: they are executed first.
func (h *Holder) takeOver(p *held, s *Share) {
	if p.role != owns {
		h.count(p, 1)
	}
	p.role, p.epoch, p.owner, p.trail = owns, s.Epoch, ownerSide{}, followSide{}
	h.worker.Promote(p.part, s.Epoch)
	p.index = h.worker.Records(p.part)
	p.owner.released = p.index
	h.fitSlots(p, s, s.Follower != None && s.Following == s.Epoch)
	for i := range p.kept {
		for j := range p.kept[i].units {
			u := &p.kept[i].units[j]
			u.index = 0
			p.owner.out = append(p.owner.out, *u)
		}
	}
	h.seal(p, s)
	h.commit(p)
	h.serveAll(p)
	h.release(p)
}

// serveAll tells every member that this node is the owner.
func (h *Holder) serveAll(p *held) {
	for i := range h.view.Names {
		if node := h.view.Node(uint16(i + 1)); node != 0 {
			h.serve(p, node)
		}
	}
}

// serve tells a node, once under an epoch, how far the partition has come: the node can tell whether it has seen more.
func (h *Holder) serve(p *held, node channel.Node) {
	if !slices.Contains(p.owner.served, node) {
		p.owner.served = append(p.owner.served, node)
		h.sayServe(p, node)
	}
}

// sayServe tells a node how far the partition has come. Requests whose decisions are not released have not been executed yet: another owner may
// not know of them.
func (h *Holder) sayServe(p *held, node channel.Node) {
	in, out := h.worker.Counters(p.part, node)
	for i := range p.owner.out {
		if u := &p.owner.out[i]; u.node == node && u.first > 0 && u.index > p.owner.released {
			in = u.first - 1
			break
		}
	}
	h.post(node, &Message{Kind: KindServe, Part: p.part, Epoch: p.epoch, Born: p.born, In: in, Out: out, Index: p.floor(node, out)})
}

// fitSlots makes the slots those of the view. Swapped says that the follower was the owner until now, and has everything.
func (h *Holder) fitSlots(p *held, s *Share, swapped bool) {
	o := &p.owner
	before := [...]*slot{o.follower, o.joiner}
	pick := func(number uint16, naming ViewID) *slot {
		node := h.view.Node(number)
		if number == None || node == 0 || node == h.self {
			return nil
		}
		for _, have := range before {
			if have != nil && have.node == node && have.naming == naming {
				return have
			}
		}
		return &slot{node: node, naming: naming, heard: h.clock}
	}
	o.follower, o.joiner = pick(s.Follower, s.Following), pick(s.Joiner, s.Joining)
	for _, x := range before {
		if x != o.follower && x != o.joiner {
			x.end()
		}
	}
	if f := o.follower; f != nil {
		f.awaits = true // in step by definition
		if swapped && !f.all {
			f.acked, f.all = p.index, true
		}
	}
	for _, x := range [...]*slot{o.follower, o.joiner} {
		if x != nil && x.sent == 0 && !x.all {
			h.stats.Snapshots++
			x.snapshot = h.worker.Snapshot(p.part)
			h.sendPart(p, x)
		}
	}
}

// end ends the snapshot of who is no follower or joiner any more.
func (x *slot) end() {
	if x != nil && x.snapshot != nil {
		x.snapshot.End()
	}
}

// sendPart sends the next part of a snapshot, and with the last one the items that are kept.
func (h *Holder) sendPart(p *held, x *slot) {
	b, whole := x.snapshot.Part(h.partBytes)
	x.sent++
	m := &Message{Kind: KindSnapshot, Part: p.part, Epoch: p.epoch, Naming: x.naming, Index: p.index, In: x.sent, State: b}
	if whole {
		x.all, x.snapshot = true, nil
		m.Hash, m.Items = p.hash, p.keptItems()
	}
	h.post(x.node, m)
}

// seal stops the owner, or has it go on, as the view says. While it is stopped it decides nothing, and requests wait.
func (h *Holder) seal(p *held, s *Share) {
	o := &p.owner
	if s.Moving != o.sealed {
		was := o.sealed
		o.sealed, o.sealedAt = s.Moving, 0
		switch {
		case s.Moving == (ViewID{}):
			h.worker.Promote(p.part, p.epoch)
		case was == (ViewID{}):
			h.worker.Demote(p.part)
		}
		if s.Moving != (ViewID{}) && o.follower != nil {
			h.post(o.follower.node, &Message{Kind: KindSealed, Part: p.part, Epoch: p.epoch, Naming: o.follower.naming, Moving: s.Moving, Index: p.index})
		}
	}
	if o.sealed != (ViewID{}) {
		return
	}
	queue := o.queue
	o.queue = nil
	for i := range queue {
		if r := &queue[i].Request; h.view.Has(r.From.Node) {
			h.execute(p, r)
		}
	}
	h.dropDead(p)
}

// dropDead executes the end of every run that is in the state and not in the view. So it does not matter who saw it end.
func (h *Holder) dropDead(p *held) {
	for _, node := range h.worker.AppendNodes(nil, p.part) {
		if !h.view.Has(node) {
			h.worker.DropNodeIn(p.part, node)
		}
	}
}

// request executes a request, or has it wait. The epoch is the one under which it was sent: what was sent to an owner that is none any more is
// sent again by its node.
func (h *Holder) request(p *held, from channel.Node, m *Message) {
	switch {
	case p == nil || p.role != owns || m.Epoch != p.epoch:
		h.stats.NotOwner++
		h.post(from, &Message{Kind: KindNotOwner, Part: m.Part, Epoch: m.Epoch, View: h.view.ID, Request: channel.Request{N: m.Request.N}})
	case m.Request.From.Node != from:
		h.stats.Stale++
	case p.owner.sealed != (ViewID{}):
		p.owner.queue = append(p.owner.queue, *m) // bounded by what its nodes may leave unanswered
	default:
		h.execute(p, &m.Request)
	}
}

func (h *Holder) execute(p *held, r *channel.Request) {
	h.admits, h.asking, h.asked = p, r.From.Node, r.N
	h.worker.Handle(r)
	h.admits, h.asking = nil, 0
}

// add takes a decision, and by whose request it was made.
func (d *pending) add(records []channel.Record, items []channel.Item, asking channel.Node, n uint64) {
	d.records, d.items = append(d.records, records...), append(d.items, items...)
	if asking == 0 {
		return
	}
	for i := range d.asking {
		if d.asking[i].node == asking {
			d.asking[i].last = n
			return
		}
	}
	d.asking = append(d.asking, askedBy{asking, asked{n, n}})
}

// Keep is for the worker alone. It takes a decision, which leaves with the others of the turn.
func (h *Holder) Keep(part uint16, records []channel.Record, items []channel.Item) {
	if len(records) == 0 && len(items) == 0 {
		return
	}
	p := h.parts[part]
	d := &p.owner.decided
	d.add(records, items, h.asking, h.asked)
	h.wantFlush(p)
	if len(d.records)+len(d.items) >= maxPending {
		h.commit(p)
	}
}

// settle sends what there is to be sent of an owned partition.
func (h *Holder) settle(p *held) {
	h.commit(p)
	for _, x := range [...]*slot{p.owner.follower, p.owner.joiner} {
		if x != nil && !x.all && x.had == x.sent {
			h.sendPart(p, x)
		}
	}
	h.release(p)
	h.approach(p)
}

// commit sends what was decided to those who follow, and keeps its items until they have it. Before that neither a snapshot nor an item may
// leave: they would be of a state that those who follow cannot come to.
func (h *Holder) commit(p *held) {
	o := &p.owner
	d := o.decided
	if len(d.records) == 0 {
		return
	}
	o.decided = pending{}
	p.index = h.worker.Records(p.part)
	p.hash, h.encoded = mix(p.hash, h.encoded, d.records)
	for _, u := range unitsOf(p.index, d.items, d.asking) {
		o.out = append(o.out, u)
		if p.keep(u) {
			h.counted(u.node, u.bytes)
		}
	}
	h.sendRecords(p, &d)
	h.forgetGone(p, d.records)
}

// sendRecords sends decisions to follower and joiner.
func (h *Holder) sendRecords(p *held, d *pending) {
	o := &p.owner
	if o.follower == nil && o.joiner == nil {
		return
	}
	m := Message{Kind: KindRecords, Part: p.part, Epoch: p.epoch, Index: p.index, Records: d.records, Items: d.items}
	if o.sends++; o.sends >= hashEvery {
		o.sends, m.Hash = 0, max(p.hash, 1)
	}
	for _, x := range [...]*slot{o.follower, o.joiner} {
		if x != nil {
			m := m
			m.Naming = x.naming
			h.post(x.node, &m)
			x.mark(p.index, h.clock)
		}
	}
}

// mark notes when a record was sent.
func (x *slot) mark(index uint64, now int64) {
	if !x.waiting() {
		x.heard = now // nothing was to be heard before
	}
	if n := len(x.marks); n == 0 || now-x.marks[n-1].at >= markEvery && n < int(2*stuckAfter/markEvery) {
		x.marks = append(x.marks, mark{index, now})
	}
}

// waiting tells whether something has been sent that is not acknowledged.
func (x *slot) waiting() bool { return len(x.marks) > 0 || x.had != x.sent }

// oldest is how long the oldest record without an acknowledgement has been under way, in ns.
func (x *slot) oldest(now int64) int64 {
	if len(x.marks) == 0 {
		return 0
	}
	return now - x.marks[0].at
}

// release sends the items of decisions that all who must have them have acknowledged.
func (h *Holder) release(p *held) {
	o := &p.owner
	limit := p.index
	for _, x := range [...]*slot{o.follower, o.joiner} {
		if x != nil && x.awaits {
			limit = min(limit, x.acked)
		}
	}
	o.released = max(o.released, limit)
	n := 0
	for n < len(o.out) && o.out[n].index <= limit {
		h.sendUnit(p, &o.out[n])
		n++
	}
	clear(o.out[:n]) // it keeps bodies alive
	if o.out = o.out[n:]; len(o.out) == 0 {
		o.out = nil
	}
}

func (h *Holder) sendUnit(p *held, u *unit) {
	if h.view.Has(u.node) {
		h.serve(p, u.node)
		h.post(u.node, &Message{Kind: KindItems, Part: p.part, Epoch: p.epoch, In: u.last, Items: u.items})
	}
}

func (h *Holder) receiveAsOwner(p *held, from channel.Node, m *Message) {
	switch m.Kind {
	case KindAck:
		h.acked(p, from, m)
	case KindConfirm:
		h.hasConfirmed(p, from, m)
	case KindResend:
		h.resend(p, from, m.Out)
	default:
		h.stats.Stale++
	}
}

// acked takes the word of a follower or joiner that it has all records up to an index.
func (h *Holder) acked(p *held, from channel.Node, m *Message) {
	o := &p.owner
	x := o.follower
	if x == nil || x.node != from || x.naming != m.Naming {
		if x = o.joiner; x == nil || x.node != from || x.naming != m.Naming {
			h.stats.Stale++
			return
		}
	}
	x.heard = h.clock
	x.had = max(x.had, m.In)
	if x.sent == 0 || x.all && x.had == x.sent { // else it has only some rooms
		x.acked = max(x.acked, m.Index)
	}
	x.passed(max(x.acked, m.Index), p.index)
	h.wantFlush(p)
}

// passed forgets when records were sent that have been acknowledged.
func (x *slot) passed(acked, last uint64) {
	if acked >= last {
		x.marks = x.marks[:0]
		return
	}
	n := 0
	for n+1 < len(x.marks) && x.marks[n+1].index <= acked+1 {
		n++
	}
	x.marks = append(x.marks[:0], x.marks[n:]...)
}

// approach calls a joiner in step when it has everything that was ever released. From the moment before, nothing more is released that it
// does not have; so that stays true until a view makes it the follower.
func (h *Holder) approach(p *held) {
	x := p.owner.joiner
	if x == nil || !x.all || x.had != x.sent || x.oldest(h.clock) > nearWithin {
		return
	}
	x.awaits = true
	if !x.calledInStep && x.acked >= p.owner.released {
		x.calledInStep = true
		h.stats.InStep++
		h.tellMaker(&Message{Kind: KindInStep, Part: p.part, Epoch: p.epoch, Naming: x.naming})
	}
}

// watch asks the maker for what an owner needs: that a joiner becomes follower, that one that does not acknowledge is dropped, and so one for which it has stopped and
// that does not take over.
func (h *Holder) watch(p *held, again bool) {
	h.approach(p)
	o := &p.owner
	if o.sealed != (ViewID{}) && o.sealedAt == 0 {
		o.sealedAt = h.clock
	}
	for _, x := range [...]*slot{p.owner.follower, p.owner.joiner} {
		if x == nil {
			continue
		}
		stuck := x.waiting() && (x.awaits && x.oldest(h.clock) > stuckAfter || h.clock-x.heard > lostAfter)
		stuck = stuck || x == o.follower && o.sealedAt != 0 && h.clock-o.sealedAt > sealedFor
		if stuck && (again || !x.stuck) {
			if !x.wasStuck {
				h.stats.Stuck++
			}
			x.wasStuck = true
			h.tellMaker(&Message{Kind: KindDropFollower, Part: p.part, Epoch: p.epoch, Naming: x.naming})
		}
		x.stuck = stuck
		if again && x.calledInStep && x == p.owner.joiner && !stuck {
			h.tellMaker(&Message{Kind: KindInStep, Part: p.part, Epoch: p.epoch, Naming: x.naming})
		}
	}
}

// hasConfirmed takes the word of a node that it has applied items.
func (h *Holder) hasConfirmed(p *held, from channel.Node, m *Message) {
	_, most := h.worker.Counters(p.part, from)
	out := min(m.Out, most) // more where the node has seen items of an owner whose state is lost, and has not heard of this one
	h.confirmed(p, from, out)
	for _, x := range [...]*slot{p.owner.follower, p.owner.joiner} {
		if x != nil {
			h.post(x.node, &Message{Kind: KindConfirmed, Part: p.part, Epoch: p.epoch, Naming: x.naming, Node: from, Out: out})
		}
	}
}

// resend sends items again that a node lacks. Where they are gone it is told how far they are.
func (h *Holder) resend(p *held, node channel.Node, after uint64) {
	h.commit(p)
	_, out := h.worker.Counters(p.part, node)
	if p.floor(node, out) > after {
		h.sayServe(p, node)
	}
	for i := range p.kept {
		if k := &p.kept[i]; k.node == node {
			for j := range k.units {
				if u := &k.units[j]; u.index <= p.owner.released && u.lastItem() > after {
					h.sendUnit(p, u)
				}
			}
		}
	}
}
