package cluster

import (
	"errors"

	"github.com/pomelod/pomelod/channel"
)

// followSide is what only a follower or joiner has of a partition.
type followSide struct {
	naming    ViewID // the view that named it so
	parts     uint64 // of the snapshot, that have come
	whole     bool   // the snapshot has ended: records are all it needs
	broken    bool   // its state differed: it says nothing any more
	sealed    ViewID // the move for which the owner has stopped, and at what index
	sealIndex uint64
}

var (
	errHash  = errors.New("the running hash is another one")
	errIndex = errors.New("the number of records is another one")
	errOrder = errors.New("a message before it is missing")
)

func (h *Holder) receiveAsFollower(p *held, m *Message) {
	t := &p.trail
	switch {
	case t.broken:
	case m.Kind == KindSnapshot || m.Kind == KindRecords:
		h.inOrder(p, m)
	case m.Kind == KindConfirmed:
		h.confirmed(p, m.Node, m.Out)
	case m.Kind == KindSealed:
		t.sealed, t.sealIndex = m.Moving, m.Index
		h.sayReady(p)
	default:
		h.stats.Stale++
	}
}

// inOrder takes a part of a snapshot or the records of decisions, which come in their order: what is sent about a partition behind a snapshot waits
// for it in the same lane of the link.
func (h *Holder) inOrder(p *held, m *Message) {
	switch {
	case h.isNext(p, m):
		h.take(p, m)
	case m.base() < p.index || m.Kind == KindSnapshot && m.In <= p.trail.parts: // it came before
	default:
		h.differs(p, errOrder)
	}
	h.wantFlush(p)
}

// base is the index at which a part of a snapshot was taken, or to which the records are added.
func (m *Message) base() uint64 { return m.Index - uint64(len(m.Records)) }

// isNext tells whether a message is the one that comes next.
func (h *Holder) isNext(p *held, m *Message) bool {
	if m.Kind == KindSnapshot && m.In != p.trail.parts+1 {
		return false
	}
	return m.Kind == KindSnapshot && m.In == 1 || p.role == follows && m.base() == p.index
}

// take applies a message whose turn it is.
func (h *Holder) take(p *held, m *Message) {
	if m.Kind == KindSnapshot {
		h.takeSnapshot(p, m)
		return
	}
	if err := h.worker.Apply(p.part, m.Records); err != nil {
		h.differs(p, err)
		return
	}
	p.index = m.Index
	if !p.trail.whole {
		return // the items come with the rest of the snapshot
	}
	p.hash, h.encoded = mix(p.hash, h.encoded, m.Records)
	switch {
	case h.worker.Records(p.part) != m.Index:
		h.differs(p, errIndex)
		return
	case m.Hash != 0 && m.Hash != max(p.hash, 1):
		h.differs(p, errHash)
		return
	}
	for _, u := range unitsOf(m.Index, m.Items, nil) {
		p.keep(u)
	}
	h.forgetGone(p, m.Records)
}

func (h *Holder) takeSnapshot(p *held, m *Message) {
	if m.In == 1 {
		h.worker.Shadow(p.part)
		p.role, p.index = follows, m.Index
	}
	p.trail.parts = m.In
	whole, err := h.worker.ApplySnapshot(p.part, m.State)
	if err != nil {
		h.differs(p, err)
		return
	}
	if !whole {
		return
	}
	p.trail.whole, p.hash = true, m.Hash
	for i := range p.kept {
		p.kept[i].units = nil
	}
	for i := range m.Items { // each by itself: which decisions they were of no longer matters
		it := m.Items[i : i+1 : i+1]
		p.keep(unit{node: it[0].To.Node, items: it, bytes: weightOf(&it[0], nil)})
	}
}

// ack tells the owner what has come.
func (h *Holder) ack(p *held) {
	if p.role == follows {
		owner := h.view.Node(h.view.Shares[p.part].Owner)
		h.post(owner, &Message{Kind: KindAck, Part: p.part, Epoch: p.epoch, Naming: p.trail.naming, Index: p.index, In: p.trail.parts})
	}
}

// sayReady tells the maker that the follower has everything up to the seal of the move that the view wants.
func (h *Holder) sayReady(p *held) {
	s, t := &h.view.Shares[p.part], &p.trail
	if s.Moving != (ViewID{}) && t.sealed == s.Moving && t.whole && p.index == t.sealIndex && h.view.Node(s.Follower) == h.self {
		h.tellMaker(&Message{Kind: KindReady, Part: p.part, Epoch: p.epoch, Moving: s.Moving})
	}
}

// swapped makes a follower of an owner that has handed the partition over. It has stopped, so it has exactly what the new owner began with.
func (h *Holder) swapped(p *held, s *Share) {
	h.stats.Swapped++
	h.count(p, -1)
	p.owner.follower.end()
	p.owner.joiner.end()
	p.role, p.epoch, p.owner = follows, s.Epoch, ownerSide{}
	p.trail = followSide{naming: s.Following, whole: true}
}

var _ channel.Keeper = (*Holder)(nil)
