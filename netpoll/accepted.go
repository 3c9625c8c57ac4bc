package netpoll

// Accepted is a socket on its way from the acceptor to a loop.
type Accepted struct {
	FD   int32
	Tag  uint8
	Peer [16]byte // IPv6 form
	Port uint16
	Pass Pass

	// Of a socket that comes from another loop (Transfer).
	moved  bool
	unread []byte // received and not consumed
	unsent []byte
	state  []byte // the handler's
}

// Adopt gives the loop an open, non-blocking socket, of which it becomes the owner. Safe from any goroutine.
func (l *Loop) Adopt(a Accepted) {
	l.open.Add(1)
	l.budget.open[a.Tag].Add(1)
	l.accepted.Post(a)
}
