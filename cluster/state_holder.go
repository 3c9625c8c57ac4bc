package cluster

import (
	"slices"

	"github.com/pomelod/pomelod/channel"
)

// Export encodes all that the Holder has, the partitions of its worker included. It must have nothing to flush, and changes nothing. With ErrMoving it has to
// be asked again.
func (h *Holder) Export() ([]byte, error) {
	dst := []byte{StateVersion, bit(h.view != nil)}
	for _, v := range h.stateNumbers() {
		dst = appendUint(dst, uint64(*v))
	}
	count := uint64(0)
	for _, p := range h.parts {
		count += uint64(bit(p != nil))
	}
	dst = appendUint(dst, count)
	for _, p := range h.parts {
		switch {
		case p == nil:
			continue
		case p.moves():
			return nil, ErrMoving
		case p.dirty || len(p.owner.decided.records) > 0:
			panic("cluster: a Holder is exported that was not flushed")
		}
		dst = h.exportPart(dst, p)
	}
	return dst, nil
}

// stateNumbers are the times that go along.
func (h *Holder) stateNumbers() [3]*int64 { return [...]*int64{&h.clock, &h.last, &h.repeatAt} }

// Moves tells whether copies of partitions are on their way, with which Export would fail.
func (h *Holder) Moves() bool {
	return slices.ContainsFunc(h.parts[:], func(p *held) bool { return p != nil && p.moves() })
}

// moves tells whether a copy of the partition is on its way.
func (p *held) moves() bool {
	for _, x := range [...]*slot{p.owner.follower, p.owner.joiner} {
		if x != nil && x.snapshot != nil {
			return true
		}
	}
	return p.role == follows && !p.trail.whole
}

func (h *Holder) exportPart(dst []byte, p *held) []byte {
	dst = appendViewID(append(appendUint(dst, uint64(p.part)), byte(p.role)), p.epoch)
	dst = appendUint(appendUint(appendViewID(dst, p.born), p.index), p.hash)
	dst = appendUint(dst, uint64(len(p.kept)))
	for i := range p.kept {
		k := &p.kept[i]
		dst = appendUnits(appendUint(appendNode(dst, k.node), k.out), k.units)
	}
	if p.role == owns {
		dst = p.owner.export(dst)
	} else {
		t := &p.trail
		dst = appendUint(appendViewID(dst, t.naming), t.parts)
		dst = append(dst, bit(t.whole)|bit(t.broken)<<1)
		dst = appendUint(appendViewID(dst, t.sealed), t.sealIndex)
	}
	if p.role == waits {
		return dst
	}
	return appendSized(dst, func(dst []byte) []byte { return h.worker.Hand(dst, p.part) })
}

// appendUnits appends units of one node.
func appendUnits(dst []byte, units []unit) []byte {
	dst = appendUint(dst, uint64(len(units)))
	for i := range units {
		u := &units[i]
		dst = appendUint(appendUint(appendUint(dst, u.index), u.first), u.last)
		dst = appendItems(dst, u.items)
	}
	return dst
}

func (o *ownerSide) export(dst []byte) []byte {
	for _, x := range [...]*slot{o.follower, o.joiner} {
		if dst = append(dst, bit(x != nil)); x != nil {
			dst = x.export(dst)
		}
	}
	dst = appendUint(appendViewID(dst, o.sealed), uint64(len(o.queue)))
	for i := range o.queue {
		dst = appendSized(dst, func(dst []byte) []byte { return appendMessage(dst, &o.queue[i]) })
	}
	dst = appendUint(dst, uint64(len(o.out)))
	for i := range o.out {
		dst = appendUnits(appendNode(dst, o.out[i].node), o.out[i:i+1])
	}
	dst = appendUint(appendUint(appendUint(dst, o.released), o.sends), uint64(len(o.served)))
	for _, node := range o.served {
		dst = appendNode(dst, node)
	}
	return dst
}

func (x *slot) export(dst []byte) []byte {
	dst = appendViewID(appendNode(dst, x.node), x.naming)
	for _, v := range [...]uint64{x.acked, x.sent, x.had, uint64(x.heard)} {
		dst = appendUint(dst, v)
	}
	dst = append(dst, bit(x.awaits)|bit(x.calledInStep)<<1|bit(x.stuck)<<2|bit(x.wasStuck)<<3)
	dst = appendUint(dst, uint64(len(x.marks)))
	for _, m := range x.marks {
		dst = appendUint(appendUint(dst, m.index), uint64(m.at))
	}
	return dst
}

// Import gives a Holder that was just made, and its worker, what another one of the same partitions has exported. v and self are the view and the node that
// Node.Import has brought, nil and 0 if there is none. After an error the Holder must not be used.
func (h *Holder) Import(v *View, self channel.Node, b []byte) error {
	r := reader{b: b}
	if version, member := r.byte(), r.bool(); version != StateVersion || member != (v != nil && self != 0) {
		return ErrState
	} else if member {
		h.view, h.self = v, self
	}
	for _, v := range h.stateNumbers() {
		*v = int64(r.uint())
	}
	for range r.count(1 + 1 + 9 + 9 + 3) {
		if p := r.held(h); p == nil {
			return ErrState
		}
	}
	if r.end(); r.bad {
		return ErrState
	}
	return nil
}

// held reads what exportPart has written; nil if it has not.
func (r *reader) held(h *Holder) *held {
	p := &held{part: uint16(r.upTo(channel.Partitions - 1)), role: role(r.upTo(uint64(owns))), epoch: r.viewID(), born: r.viewID(), index: r.uint(), hash: r.uint()}
	if r.bad || h.view == nil || int(p.part) >= len(h.view.Shares) || h.parts[p.part] != nil || h.mine != nil && !h.mine(p.part) {
		return nil
	}
	for range r.count(8 + 2) {
		node := r.node()
		k := keptFor{node: node, out: r.uint(), units: r.units(node)}
		r.bad = r.bad || slices.ContainsFunc(k.units, func(u unit) bool { return len(u.items) == 0 })
		p.kept = append(p.kept, k)
	}
	if p.role == owns {
		r.ownerSide(&p.owner)
	} else {
		t := &p.trail
		t.naming, t.parts = r.viewID(), r.uint()
		flags := r.byte()
		t.whole, t.broken = flags&1 != 0, flags&2 != 0
		t.sealed, t.sealIndex = r.viewID(), r.uint()
		r.bad = r.bad || flags > 3 || (p.role == follows) != t.whole
	}
	if p.role != waits {
		state := r.text()
		if r.bad || h.worker.Take(p.part, p.epoch, p.role == owns && p.owner.sealed == (ViewID{}), state) != nil || h.worker.Records(p.part) != p.index {
			return nil
		}
	}
	if r.bad {
		return nil
	}
	if h.parts[p.part] = p; p.role == owns {
		h.count(p, 1)
	}
	return p
}

func (r *reader) units(node channel.Node) (units []unit) {
	for range r.count(3 + 2) {
		u := unit{node: node, index: r.uint(), asked: asked{r.uint(), r.uint()}, items: r.items()}
		for i := range u.items {
			u.bytes += weightOf(&u.items[i], u.items[:i])
		}
		units = append(units, u)
	}
	return units
}

func (r *reader) ownerSide(o *ownerSide) {
	for _, x := range [...]**slot{&o.follower, &o.joiner} {
		if r.bool() {
			*x = r.slot()
		}
	}
	o.sealed = r.viewID()
	for range r.count(1) {
		m := r.message()
		if m == nil || m.Kind != KindRequest {
			r.bad = true
			return
		}
		o.queue = append(o.queue, *m)
	}
	for range r.count(8 + 1 + 5) {
		node := r.node()
		units := r.units(node)
		if r.bad || len(units) != 1 {
			r.bad = true
			return
		}
		o.out = append(o.out, units[0])
	}
	o.released, o.sends = r.uint(), r.uint()
	for range r.count(8) {
		o.served = append(o.served, r.node())
	}
}

func (r *reader) slot() *slot {
	x := &slot{node: r.node(), naming: r.viewID(), acked: r.uint(), sent: r.uint(), had: r.uint(), heard: int64(r.uint()), all: true} // else it moves
	flags := r.byte()
	x.awaits, x.calledInStep, x.stuck, x.wasStuck = flags&1 != 0, flags&2 != 0, flags&4 != 0, flags&8 != 0
	r.bad = r.bad || flags > 15
	for range r.count(2) {
		x.marks = append(x.marks, mark{r.uint(), int64(r.uint())})
	}
	x.marks = slices.Clip(x.marks)
	return x
}
