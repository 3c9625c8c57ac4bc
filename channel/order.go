package channel

// order is members in the order in which something happened to them: who spoke, who was cut off. Each partition has one of a kind; the places in all of
// them are in one map of the worker, so that members to whom it did not happen cost nothing.
type order struct{ first, last uint32 } // slots

// place is a member's place in an order.
type place struct {
	at         int64  // when it happened, in the partition's time
	next, prev uint32 // slots
}

// places are the places in the orders of one kind, by slot.
type places map[uint32]place

// put makes a member, which is not in the order, the last one.
func (o *order) put(in places, slot uint32, at int64) {
	in[slot] = place{at: at, prev: o.last}
	if o.last != 0 {
		last := in[o.last]
		last.next = slot
		in[o.last] = last
	} else {
		o.first = slot
	}
	o.last = slot
}

// behind is the next member in the order; 0 for either is none.
func (o *order) behind(in places, slot uint32) uint32 {
	if slot == 0 {
		return o.first
	}
	return in[slot].next
}

// take takes a member out of the order, and tells whether it was there.
func (o *order) take(in places, slot uint32) bool {
	at, is := in[slot]
	if !is {
		return false
	}
	delete(in, slot)
	if at.prev != 0 {
		prev := in[at.prev]
		prev.next = at.next
		in[at.prev] = prev
	} else {
		o.first = at.next
	}
	if at.next != 0 {
		next := in[at.next]
		next.prev = at.prev
		in[at.next] = next
	} else {
		o.last = at.prev
	}
	return true
}
