package cluster

import (
	"log/slog"

	"github.com/pomelod/pomelod/channel"
)

// Holder is the loop side of a node: it holds the partitions that run on one loop, as owner, follower or joiner, just as the newest view says.
// It wraps the loop's Worker, whose decisions it keeps back until a follower has them. It has no clock and no goroutine. Its methods must be
// called by one goroutine at a time.
//
// What is decided in a turn of the loop leaves at its end, by Flush: each partition has one message of records a turn, one acknowledgement and
// one message of items to each node, however many requests there were.
type Holder struct {
	// Static after construction.
	worker    *channel.Worker
	post      func(to channel.Node, m *Message)
	mine      func(part uint16) bool // nil: all partitions run on the loop
	partBytes int                    // how much of a snapshot goes out at once: about so many, but for the last part
	window    *Window
	full      func(node channel.Node) bool // the link to a node has no room

	self  channel.Node
	view  *View
	parts [channel.Partitions]*held // nil: the node has no part in it
	// clock goes on with Tick, but never by more than maxStep at once: a node that slept has not waited for others.
	clock, last int64
	repeatAt    int64                   // by clock, when wishes are told to the maker again
	kept        map[channel.Node]*tally // of items that a node has not confirmed, of owned partitions
	admits      *held                   // of which a request is being executed
	asking      channel.Node            // whose request that is, and its number
	asked       uint64
	dirty       []uint16 // partitions for which Flush has something to do
	encoded     []byte   // memory for hashing
	stats       HolderStats
}

// HolderStats are what a Holder has counted since the start.
type HolderStats struct {
	Takeovers uint64 // partitions that became the node's, with their state
	Born      uint64 // partitions that it began empty, as a view said
	Empty     uint64 // partitions that it began empty although it should have had the state: members who know more will be told
	Swapped   uint64 // partitions that it handed over and follows now
	Snapshots uint64 // snapshots that it began to send
	InStep    uint64 // joiners that it has called in step
	Stuck     uint64 // followers and joiners that it asked to be dropped
	Differs   uint64 // partitions it followed whose state turned out to differ
	Stale     uint64 // messages under another epoch or naming
	NotOwner  uint64 // requests for partitions of others
}

const (
	// maxStep is how far one Tick moves a Holder's clock, in ns.
	maxStep = 100 * ms
	// stuckAfter is how old, in ns, the oldest record without an acknowledgement may be before an owner asks to go on without the
	// follower. Longer than several losses on a link (resendAfter).
	stuckAfter = 300 * ms
	// sealedFor is how long, in ns, an owner stands still for a follower that is to take over before it asks to go on without it: half of what users may wait where a node dies that only
	// followed. Moves take some tens of ms.
	sealedFor = 500 * ms
	// nearWithin is how old it may be for a joiner that is about to be in step.
	nearWithin = 60 * ms
	// lostAfter is how long, in ns, a joiner may acknowledge nothing at all.
	lostAfter = 5000 * ms
	// repeatEvery is how often, in ns, the maker is told again what it should do: it may be another one by now.
	repeatEvery = 500 * ms
	// snapshotPart is how many bytes of a snapshot are one message: what an owner encodes in one turn, and a follower applies in one. 64 KiB are some 1,400 members, in 1 to
	// 4 ms at the follower; 256 KiB took up to 16, and a large room would come only a few round trips sooner.
	snapshotPart = 64 << 10
)

// role is what the node is to a partition. A joiner is a follower that the view calls so.
type role uint8

const (
	waits   role = iota // named follower or joiner, and the snapshot has not come
	follows             // has a snapshot, or its beginning
	owns
)

// held is a partition in which the node has a part.
type held struct {
	part  uint16
	role  role
	dirty bool // in Holder.dirty
	epoch ViewID
	born  ViewID
	// index is the number of records that have led to the state: those the owner has sent, or of the last one that came.
	index uint64
	hash  uint64     // of all records since the partition was born
	kept  []keptFor  // items that nodes have not confirmed, in the order in which nodes came
	owner ownerSide  // role owns
	trail followSide // role waits, follows
}

// NewHolder makes a Holder of a loop's worker, which owns nothing yet. post takes a message for a node of the view, this one included, and owns
// it from then on; it must not call the Holder.
func NewHolder(worker *channel.Worker, post func(to channel.Node, m *Message)) *Holder {
	h := &Holder{worker: worker, post: post, partBytes: snapshotPart, window: NewWindow(DefaultLinkMemory), full: func(channel.Node) bool { return false }, kept: make(map[channel.Node]*tally)}
	worker.KeepBack(h)
	return h
}

// Only leaves all partitions to Holders of other loops but those that mine names. It is called before the first Adopt, and mine must always
// give the same answers: a partition has one Holder on a node.
func (h *Holder) Only(mine func(part uint16) bool) { h.mine = mine }

// Bound has nothing new be admitted for a node that leaves a window unconfirmed, nor where it has to go to a follower whose link is full (Node.LinkFull). If it is not called the Holder has a
// window of 8 MiB, and links are never full. It is called before the first Adopt.
func (h *Holder) Bound(w *Window, full func(node channel.Node) bool) { h.window, h.full = w, full }

// Stats tells what the Holder has counted.
func (h *Holder) Stats() HolderStats { return h.stats }

// Restart forgets all partitions and the view: the node goes on as a new run, which no view has yet.
func (h *Holder) Restart() {
	for part := range h.parts {
		h.forget(uint16(part))
	}
	h.view, h.self, h.dirty = nil, 0, nil
	h.countNoMore()
}

// forget ends the node's part in a partition.
func (h *Holder) forget(part uint16) {
	if p := h.parts[part]; p != nil {
		if p.role == owns {
			h.count(p, -1)
		}
		h.parts[part] = nil
		h.worker.Release(part)
	}
}

// Adopt takes a view that is newer than the last one, and does what it says. self is this node in it. What was decided before leaves first.
func (h *Holder) Adopt(v *View, self channel.Node) {
	old := h.view
	if h.self != self {
		h.Restart()
	}
	h.Flush()
	h.view, h.self = v, self
	for part := range v.Shares {
		if h.mine == nil || h.mine(uint16(part)) {
			h.adopt(uint16(part), &v.Shares[part])
		}
	}
	if old != nil && old.Members != v.Members {
		h.dropOutlets(old)
	}
}

// dropOutlets forgets the outlets of runs that a view has left out.
func (h *Holder) dropOutlets(old *View) {
	for i := range old.Names {
		if node := old.Node(uint16(i + 1)); node != 0 && !h.view.Has(node) {
			h.worker.DropWays(node)
		}
	}
	h.countNoMore()
}

// adopt does what a view says of one partition.
func (h *Holder) adopt(part uint16, s *Share) {
	p := h.parts[part]
	switch {
	case s.Owner != None && h.view.Node(s.Owner) == h.self:
		h.adoptOwned(part, s)
	case p == nil:
		h.await(part, s)
	case p.role == owns && p.owner.sealed != (ViewID{}) && p.born == s.Born && h.names(s, s.Following) && s.Following == s.Epoch:
		h.swapped(p, s)
	case p.role != owns && p.epoch == s.Epoch && h.names(s, p.trail.naming):
		h.sayReady(p)
	default:
		h.forget(part)
		h.await(part, s)
	}
}

// names tells whether a share names this node follower or joiner by that view.
func (h *Holder) names(s *Share, naming ViewID) bool {
	return naming != (ViewID{}) &&
		(s.Following == naming && s.Follower != None && h.view.Node(s.Follower) == h.self ||
			s.Joining == naming && s.Joiner != None && h.view.Node(s.Joiner) == h.self)
}

// await begins to follow a partition, if the share names this node.
func (h *Holder) await(part uint16, s *Share) {
	for _, naming := range [...]ViewID{s.Following, s.Joining} {
		if h.names(s, naming) {
			h.parts[part] = &held{part: part, role: waits, epoch: s.Epoch, born: s.Born, trail: followSide{naming: naming}}
			return
		}
	}
}

// Receive takes a message about a partition of this Holder's. It may keep m. What comes under another epoch than the view's is dropped: its sender will learn
// of the view, and send anew what still matters.
func (h *Holder) Receive(from channel.Node, m *Message) {
	if h.view == nil || !h.view.Has(from) || int(m.Part) >= len(h.view.Shares) {
		return
	}
	p := h.parts[m.Part]
	if m.Kind == KindRequest {
		h.request(p, from, m)
		return
	}
	if p == nil || m.Epoch != p.epoch {
		h.stats.Stale++
		return
	}
	if p.role == owns {
		h.receiveAsOwner(p, from, m)
		return
	}
	if from != h.view.Node(h.view.Shares[m.Part].Owner) || m.Naming != p.trail.naming {
		h.stats.Stale++
		return
	}
	h.receiveAsFollower(p, m)
}

// wantFlush notes that the next Flush has something to do for a partition.
func (h *Holder) wantFlush(p *held) {
	if !p.dirty {
		p.dirty = true
		h.dirty = append(h.dirty, p.part)
	}
}

// Flush sends what Receive, Tick and the worker's decisions have led to since the last one. It ends each turn of the loop.
func (h *Holder) Flush() {
	for _, part := range h.dirty {
		p := h.parts[part]
		if p == nil || !p.dirty { // somebody else's by now, or begun anew
			continue
		}
		p.dirty = false
		if p.role == owns {
			h.settle(p)
		} else {
			h.ack(p)
			h.sayReady(p)
		}
	}
	h.dirty = h.dirty[:0]
}

// Tick does what time demands. now is the node's monotonic clock, in ns. It wants to be called at least each 20 ms, before Flush.
func (h *Holder) Tick(now int64) {
	if h.last != 0 {
		h.clock += min(now-h.last, maxStep)
	}
	h.last = now
	h.worker.Tick()
	if h.view == nil {
		return
	}
	again := h.clock >= h.repeatAt
	if again {
		h.repeatAt = h.clock + repeatEvery
	}
	for _, p := range h.parts[:len(h.view.Shares)] {
		switch {
		case p == nil:
		case p.role == owns:
			h.watch(p, again)
		case again:
			h.sayReady(p)
		}
	}
}

// tellMaker sends the maker of the newest view a wish about a partition.
func (h *Holder) tellMaker(m *Message) { h.post(h.view.ID.Maker, m) }

// differs gives up a state that is not the owner's. Without acknowledgements the owner will ask for another follower, or for this one anew.
func (h *Holder) differs(p *held, why error) {
	h.stats.Differs++
	slog.Error("a partition that this node follows is not what its owner has; it is fetched anew", "partition", p.part, "index", p.index, "err", why)
	h.worker.Release(p.part)
	p.role, p.kept, p.trail = waits, nil, followSide{naming: p.trail.naming, broken: true}
}
