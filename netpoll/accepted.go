package netpoll

// incoming is a socket on its way to a loop, from an acceptor or from another loop.
type incoming struct {
	fd    int32
	moved bool // from another loop: it was counted as opened there, and Handler.Data is called at once
	ConnState
}

// Adopt gives the loop an open, non-blocking socket and what belongs to it. The loop owns both from now on. An Acceptor does this with
// what it accepts; tests do it with sockets of their own. Safe from any goroutine.
func (l *Loop) Adopt(fd int, s ConnState) {
	l.open.Add(1)
	l.budget.open[s.Tag].Add(1)
	l.accepted.Post(incoming{fd: int32(fd), ConnState: s})
}
