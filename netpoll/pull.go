package netpoll

import "net/netip"

// noSocket is the descriptor of a conn whose peer comes and fetches.
const noSocket = -1

// OpenPull makes a conn without a socket, for a client that fetches its output through other conns (long polling). It behaves as a conn
// whose socket is mostly full: output that was not fetched yet waits within the same bounds, and shares memory with that of other slow
// members of its group. Fetch says that the client is there; Feed gives the conn its input. Such conns are counted by Pulls, not by Open,
// and Handler.Open is not called for them. Runs on the loop.
func (l *Loop) OpenPull(tag uint8, peer netip.AddrPort) *Conn {
	c := l.slots.take()
	c.fd, c.tag, c.peer, c.peerPort = noSocket, tag, peer.Addr().As16(), peer.Port()
	c.life, c.active = lifeOpen, l.now
	l.pulls.Add(1)
	l.counts.opened++
	return c
}

// IsPull tells whether c has no socket.
func (c *Conn) IsPull() bool { return c.fd == noSocket }

// Feed gives c input as if its socket had received b, which Handler.Data may change. Runs on the loop. Not re-entrant: it must not be
// called within Handler.Data of c.
func (l *Loop) Feed(c *Conn, b []byte) {
	if c.Alive() {
		c.active = l.now
		l.deliver(c, b)
	}
}

// Fetch offers the waiting and staged output of c, a conn without a socket, to Handler.Write, because its client is there to take it.
// Runs on the loop. Not re-entrant: within Handler.Write, which has not yet reported how much it took, it must not be called.
func (x *outboxes) Fetch(c *Conn) {
	if c.out != nil && c.out.bytes > 0 {
		x.drain(c)
	}
	if c.out != nil && c.out.stage.len() > 0 && c.out.bytes == 0 {
		x.flush(c)
	}
}

// TakeOutput takes c out of its group and returns all output that c's peer has not got yet, in order, and forgets it: the handler stages
// it again, mostly in another framing. Runs on the loop.
func (l *Loop) TakeOutput(c *Conn) []byte {
	l.Leave(c)
	return l.outboxes.take(c)
}

// offers stands in for writes to conns without a socket: the handler is offered the bytes. While passes run, conns are only noted, and
// fetch afterwards: the handler may push to any group and change its members, also those a pass is going through. Owned by the loop.
type offers struct {
	call  *calls
	clock *clock
	later bool // passes run
	noted line
}

// offer returns how many bytes of b the handler took.
func (p *offers) offer(c *Conn, b []byte) (n int) {
	switch {
	case !c.life.writable(): // killed, perhaps by the offer before this one
		return 0
	case p.later:
		p.noted.add(c)
		return 0
	}
	if n = p.call.write(c, b); n > 0 {
		c.active = p.clock.now
	}
	return n
}

// next is one that was noted, in the order in which they were; nil if there is none.
func (p *offers) next() *Conn {
	c := p.noted.next(p.noted.len())
	if c == nil && p.noted.at > 0 {
		p.noted.forget()
	}
	return c
}
