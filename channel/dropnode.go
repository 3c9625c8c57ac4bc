package channel

import (
	"slices"

	"github.com/pomelod/pomelod/codec"
)

// dropNode executes the leave of every member behind a node that has ended: nobody there is told anything any more.
func (d *decision) dropNode(node Node) {
	for _, room := range d.p.inOrder() {
		if !room.hasNode(node) {
			continue
		}
		d.room, d.seq = room.id, room.seq
		d.refresh(room) // once: it forgets who has left, too
		d.touch(room)   // nobody may be left
		for slot := room.first; slot != 0; slot = d.state.member(slot).next {
			m := d.state.member(slot)
			if d.state.isAway(slot) || d.state.addr(slot).Node != node {
				continue
			}
			if d.mayReturn(slot, 0) {
				d.cutOff(slot, d.seq, 0)
				continue
			}
			d.note(countLeaves)
			d.remember(room, slot)
			d.recordOf(RecordRemove, room, slot)
			if !room.large() {
				d.pushBeyond(room, userPush("onLeave", m.name), node)
			}
		}
	}
	d.releaseNode(node)
	d.end()
	if slices.ContainsFunc(d.p.nodes, func(c nodeChannel) bool { return c.node == node }) {
		d.record(RecordGone).Addr.Node = node
	}
}

// pushBeyond is push to the outlets of all other nodes.
func (d *decision) pushBeyond(room *Room, p *codec.Push, node Node) {
	told := 0
	for i := range room.outlets {
		if room.outlets[i].id.Node != node {
			told++
		}
	}
	if told == 0 {
		return
	}
	d.numbered(room, p)
	if told > 1 {
		p.Shared = new(codec.SharedFrames)
	}
	for i := range room.outlets {
		if id := room.outlets[i].id; id.Node != node {
			d.post(ItemPush, id.addr(), room.id).Push = p
		}
	}
}
