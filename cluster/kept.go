package cluster

import (
	"math"
	"slices"

	"github.com/pomelod/pomelod/channel"
)

// unit is the items of one turn's decisions for one node. Immutable.
type unit struct {
	node  channel.Node
	index uint64 // of the last of the decisions
	asked        // the requests of node's that were executed, if any were
	items []channel.Item
	bytes int64
}

// keptFor are the units that a node has not confirmed, in order. Their items' numbers have no gaps.
type keptFor struct {
	node  channel.Node
	out   uint64 // the node has confirmed everything up to this number
	units []unit
}

// asked are requests of one node that were executed, one after the other, by their numbers. 0: none.
type asked struct{ first, last uint64 }

// askedBy is asked and by whom.
type askedBy struct {
	node channel.Node
	asked
}

// unitsOf splits the items of decisions by node. Nodes whose requests were executed have a unit even without an item, so that they learn of
// that. The items are copied.
func unitsOf(index uint64, items []channel.Item, asking []askedBy) (units []unit) {
	for _, a := range asking {
		units = append(units, unit{node: a.node, index: index, asked: a.asked})
	}
	for i := range items {
		node := items[i].To.Node
		at := slices.IndexFunc(units, func(u unit) bool { return u.node == node })
		if at < 0 {
			at = len(units)
			units = append(units, unit{node: node, index: index})
		}
		u := &units[at]
		u.bytes += weightOf(&items[i], u.items)
		u.items = append(u.items, items[i])
	}
	return units
}

// itemWeight is what an item counts beside its body.
const itemWeight = 64

// weightOf is what an item counts behind others of the same unit: they share a push.
func weightOf(it *channel.Item, before []channel.Item) int64 {
	n := int64(itemWeight + len(it.Body))
	if it.Push != nil && (len(before) == 0 || before[len(before)-1].Push != it.Push) {
		n += int64(len(it.Push.Route) + len(it.Push.Body))
	}
	return n
}

// at is where the items for a node are kept.
func (p *held) at(node channel.Node) *keptFor {
	for i := range p.kept {
		if k := &p.kept[i]; k.node == node {
			return k
		}
	}
	p.kept = append(p.kept, keptFor{node: node})
	return &p.kept[len(p.kept)-1]
}

// keep adds what a node has to confirm, unless it has: a follower may hear of that first. It tells whether it is kept.
func (p *held) keep(u unit) bool {
	if len(u.items) == 0 {
		return false
	}
	k := p.at(u.node)
	if u.lastItem() <= k.out {
		return false
	}
	k.units = append(k.units, u)
	return true
}

// confirmed forgets what a node has applied.
func (h *Holder) confirmed(p *held, node channel.Node, out uint64) {
	k := p.at(node)
	k.out = max(k.out, out)
	var bytes int64
	n := 0
	for ; n < len(k.units) && k.units[n].lastItem() <= out; n++ {
		bytes += k.units[n].bytes
	}
	clear(k.units[:n]) // it keeps bodies alive
	if k.units = k.units[n:]; len(k.units) == 0 {
		k.units = nil
	}
	if p.role == owns {
		h.counted(node, -bytes)
	}
}

// lastItem is the number of the unit's last item.
func (u *unit) lastItem() uint64 { return u.items[len(u.items)-1].N }

// forgetGone forgets what is kept for nodes that records say have ended.
func (h *Holder) forgetGone(p *held, records []channel.Record) {
	for i := range records {
		if r := &records[i]; r.Kind == channel.RecordGone {
			h.confirmed(p, r.Addr.Node, math.MaxUint64)
			p.kept = slices.DeleteFunc(p.kept, func(k keptFor) bool { return k.node == r.Addr.Node })
		}
	}
}

// count adds or takes away what is kept of a partition: an owner counts it, as it is what nodes leave unconfirmed.
func (h *Holder) count(p *held, sign int64) {
	for _, k := range p.kept {
		for i := range k.units {
			h.counted(k.node, sign*k.units[i].bytes)
		}
	}
}

// keptItems are all items that are kept, by node.
func (p *held) keptItems() (items []channel.Item) {
	for i := range p.kept {
		for _, u := range p.kept[i].units {
			items = append(items, u.items...)
		}
	}
	return items
}

// floor is the number up to which a node's items are kept no more; out is that of the last one there was.
func (p *held) floor(node channel.Node, out uint64) uint64 {
	for i := range p.kept {
		if k := &p.kept[i]; k.node == node && len(k.units) > 0 {
			return k.units[0].items[0].N - 1
		}
	}
	return out
}

// mix adds records to the hash of all before them (FNV-1a of their encodings). dst is memory that it uses.
func mix(hash uint64, dst []byte, records []channel.Record) (uint64, []byte) {
	dst = dst[:0]
	for i := range records {
		dst = channel.AppendRecord(dst, &records[i])
	}
	hash ^= 14695981039346656037
	for _, c := range dst {
		hash = (hash ^ uint64(c)) * 1099511628211
	}
	return hash, dst
}
