package netpoll

// incoming is a socket on its way to a loop, from an acceptor or from another loop.
type incoming struct {
	fd     int32
	moved  bool    // from another loop: it was counted as opened there, and Handler.Data is called at once
	secure *secure // of a conn that speaks TLS, from another loop
	ConnState
}

// Adopt gives the loop an open, non-blocking socket and what belongs to it. The loop owns both from now on, and opens the conn in its next turn.
// Safe from any goroutine.
func (l *Loop) Adopt(fd int, s ConnState) {
	l.counts.add(s.Tag)
	l.accepted.Post(incoming{fd: int32(fd), ConnState: s})
}

// adopt makes a conn of a socket that was accepted, or comes from another loop.
func (l *Loop) adopt(in *incoming) {
	c := l.slots.take()
	l.sockets.add(c, in.fd)
	c.tag, c.pass, c.life = in.Tag, in.Pass, lifeOpen
	c.SetPeer(in.Peer)
	if !in.moved {
		l.counts.opened++
	}
	if in.secure != nil {
		l.secures.add(c, in.secure)
		l.weigh(c, in.secure, true)
	}
	l.call.open(c, in.Handler)
	l.watch(c, Readable)
	if len(in.Unsent) > 0 {
		l.outboxes.enqueue(c, segment{b: in.Unsent})
	}
	if in.moved {
		l.deliver(c, in.Unread)
		if s := in.secure; s != nil {
			l.settle(c, s, recordEnd(s.raw) > 0)
		}
	}
}
