package netpoll

// life is how far a conn has come. It changes here and in life.go, and where a conn begins or its socket goes to another
// (accepted.go, pull.go, handover.go, transfer.go):
//
//	free ─► open ─ Close ─► ending ─┬─► lingering ─┬─► gone ─► free
//	          │                │    │       └─ Kill ─┤
//	          └─ Kill ─────────┴─ broken ────────────┤
//	          └─ its socket goes to another conn ────┘
type life uint8

const (
	lifeFree      life = iota // the slot has no conn
	lifeOpen                  // it is read and written
	lifeEnding                // closed: it is not read any more, and the handler has yet to be told
	lifeLingering             // the handler has been told; the socket lives until all is sent and the peer has closed its end, too
	lifeBroken                // nothing can be written any more, and the handler has yet to be told
	lifeGone                  // the handler has been told; only its slot has yet to be freed
)

// writable tells whether the conn still has a socket, or a peer that fetches, to be written to.
func (f life) writable() bool { return f-lifeOpen <= lifeLingering-lifeOpen }

// Alive tells whether the conn has not been ended: what is written to it is sent.
func (c *Conn) Alive() bool { return c.life == lifeOpen }

// ends has the conns whose life has gone on in this event. They are only marked, and what follows is done when the event ends (Loop.reap), so
// that nothing is taken away from under a caller. Owned by the loop.
//
// A conn stands there at most once: from Close, or a Kill of one that was open, until it is told, and from a Kill of one that lingers.
type ends struct {
	marked []*Conn
}

// Kill ends c at once; what it has not taken is lost to it. Runs on the loop.
func (e *ends) Kill(c *Conn, why Reason) {
	switch c.life {
	case lifeOpen:
		c.life, c.reason = lifeBroken, why
		e.marked = append(e.marked, c)
	case lifeEnding: // it is marked
		c.life = lifeBroken
	case lifeLingering:
		c.life = lifeGone
		e.marked = append(e.marked, c)
	}
}

// fail ends a conn whose socket has failed.
func (e *ends) fail(c *Conn) { e.Kill(c, ReasonReset) }

// close ends a conn that is open after it has been sent what there is for it.
func (e *ends) close(c *Conn, why Reason) {
	c.life, c.reason = lifeEnding, why
	e.marked = append(e.marked, c)
}
