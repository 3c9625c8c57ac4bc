package netpoll

// wheelSlots is the horizon of the wheel in seconds. A later deadline waits in the farthest slot and is filed again.
const wheelSlots = 128

// SetDue makes Handler.Due(c) be called in the first second after tick (see Now); 0 means never. Moving a deadline later, as
// every heartbeat does, only stores it: the conn is filed again when its old slot comes up.
func (l *Loop) SetDue(c *Conn, tick uint32) {
	c.due = tick
	switch {
	case tick == 0:
		l.unfile(c)
	case c.filed == 0 || c.filed > tick:
		l.unfile(c)
		l.file(c)
	}
}

func (l *Loop) file(c *Conn) {
	c.filed = min(max(c.due, l.now+1), l.wheelAt+wheelSlots-1) // no slot that has yet to be emptied
	head := &l.wheel[c.filed%wheelSlots]
	c.prev, c.next = 0, *head
	if *head != 0 {
		l.bySlot(*head - 1).prev = c.slot + 1
	}
	*head = c.slot + 1
}

func (l *Loop) unfile(c *Conn) {
	if c.filed == 0 {
		return
	}
	if c.prev != 0 {
		l.bySlot(c.prev - 1).next = c.next
	} else {
		l.wheel[c.filed%wheelSlots] = c.next
	}
	if c.next != 0 {
		l.bySlot(c.next - 1).prev = c.prev
	}
	c.filed, c.next, c.prev = 0, 0, 0
}

// What a turn does on the wheel: it calls at most dueCalls conns, or files dueCalls*filesPerCall again, which costs next to nothing.
// To close a conn takes 10 to 20 µs, most of it the kernel's, and those who came at once are due at once: 20,000 silent
// ones of one address would hold up everybody for a fifth of a second.
const (
	dueCalls     = 32
	filesPerCall = 32
)

// turnWheel calls what is due, a share of it in each turn. A conn is taken out of its slot before it is called, so whatever is filed
// meanwhile goes to a later one.
func (l *Loop) turnWheel() {
	for work := dueCalls * filesPerCall; l.wheelAt < l.now; l.wheelAt++ {
		slot := &l.wheel[(l.wheelAt+1)%wheelSlots]
		for at := *slot; at != 0; at = *slot {
			if work <= 0 {
				return // endEvent rings for the rest
			}
			c := l.bySlot(at - 1)
			l.unfile(c)
			if c.due > l.now {
				l.file(c)
				work--
				continue
			}
			c.due = 0
			l.expire(c)
			work -= filesPerCall
		}
	}
}

func (l *Loop) expire(c *Conn) {
	switch {
	case c.life == lifeLingering:
		l.fail(c) // the peer had its time to close
	case c.Alive():
		l.due(c)
	}
}
