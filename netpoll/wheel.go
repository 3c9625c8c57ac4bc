package netpoll

// wheelSlots is how many seconds the wheel reaches ahead.
const wheelSlots = 128

// wheel has the deadlines of a loop's conns: a list of conns for each of the next wheelSlots seconds. A conn stands in one list at most,
// filed under the second in which it is looked at again. That is never later than its deadline, so moving a deadline later, as
// every heartbeat does, only stores it: when its second comes the conn is filed again. A deadline beyond the wheel's reach
// waits in the farthest list.
//
// The links of the lists are in the conns. Owned by the loop.
type wheel struct {
	conns *slots
	clock *clock
	lists [wheelSlots]uint32 // by second: the first conn's slot + 1, or 0
	at    uint32             // the second up to which all have been called; at most now
}

// SetDue makes Handler.Due(c) be called in the first second after tick (see Now); 0 means never. Runs on the loop.
func (w *wheel) SetDue(c *Conn, tick uint32) {
	c.due = tick
	switch {
	case tick == 0:
		w.unfile(c)
	case c.filed == 0 || c.filed > tick:
		w.unfile(c)
		w.file(c)
	}
}

func (w *wheel) file(c *Conn) {
	c.filed = min(max(c.due, w.clock.now+1), w.at+wheelSlots-1) // never in a list that is being called
	head := &w.lists[c.filed%wheelSlots]
	c.prev, c.next = 0, *head
	if *head != 0 {
		w.conns.at(*head - 1).prev = c.slot + 1
	}
	*head = c.slot + 1
}

func (w *wheel) unfile(c *Conn) {
	if c.filed == 0 {
		return
	}
	if c.prev != 0 {
		w.conns.at(c.prev - 1).next = c.next
	} else {
		w.lists[c.filed%wheelSlots] = c.next
	}
	if c.next != 0 {
		w.conns.at(c.next - 1).prev = c.prev
	}
	c.filed, c.next, c.prev = 0, 0, 0
}

// What a turn does on the wheel: it calls at most dueCalls conns, or files dueCalls*filesPerCall again, which costs next to nothing.
// To close a conn takes 10 to 20 µs, most of it the kernel's, and conns that came at once are due at once: 20,000 silent
// ones of one address would hold up everybody for a fifth of a second.
const (
	dueCalls     = 32
	filesPerCall = 32
	turnWork     = dueCalls * filesPerCall
)

// next is a conn whose deadline has passed; it has none any more. It is nil when there is no other, or when work is used up, of which a
// turn has turnWork. Call it until then, once a turn, as long as behind is true.
func (w *wheel) next(work *int) *Conn {
	for now := w.clock.now; w.at < now; w.at++ {
		list := &w.lists[(w.at+1)%wheelSlots]
		for *list != 0 && *work > 0 {
			c := w.conns.at(*list - 1)
			w.unfile(c) // first: whatever is filed while it is called goes to a later list
			if c.due <= now {
				*work -= filesPerCall
				c.due = 0
				return c
			}
			w.file(c)
			*work--
		}
		if *list != 0 {
			break
		}
	}
	return nil
}

// behind tells whether there may be more for next.
func (w *wheel) behind() bool { return w.at < w.clock.now }
