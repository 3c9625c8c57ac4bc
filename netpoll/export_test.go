package netpoll

// SetSlice has a turn visit at most n members of a group, so that few of them are enough for a pass of many turns.
func (l *Loop) SetSlice(n int) { l.passes.slice = n }

// SegmentBytes is segmentBytes.
const SegmentBytes = segmentBytes

// SetGeneration makes a slot that is free one that has had many conns.
func (c *Conn) SetGeneration(gen uint32) { c.gen = gen }

// Group is the group the conn is in, or nil.
func (c *Conn) Group() *Group { return c.group }

// Clients is how many clients are known that have handshakes.
func (p *Handshakes) Clients() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.clients)
}

// WrittenIfBroken is Written as it would be if the conn broke now.
func (c *Conn) WrittenIfBroken() uint64 {
	if c.out == nil {
		return c.cut
	}
	return c.before(c.out.pushed)
}

// Skips is how many stretches of its group's stream it is kept that the conn was left out of.
func (c *Conn) Skips() int {
	if c.out == nil || c.out.skips == nil {
		return 0
	}
	return len(*c.out.skips)
}
