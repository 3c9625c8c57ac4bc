package netpoll

import "sync/atomic"

// counts is how many conns a loop has, and has had. A socket counts from the moment at which it is given to the loop, by an acceptor or another loop, so
// that a sum over all loops misses none. The Budget counts it too, by its listener's tag, for as long as it is on any loop.
type counts struct {
	budget *Budget

	// Safe from any goroutine.
	open  atomic.Int64 // sockets
	pulls atomic.Int64 // conns without a socket

	// Owned by the loop, since the start.
	opened uint64
	closed [256]uint64 // by Reason
}

// Open is the number of sockets the loop has or is about to have. Safe from any goroutine.
func (n *counts) Open() int { return int(n.open.Load()) }

// Pulls is the number of conns without a socket. Safe from any goroutine.
func (n *counts) Pulls() int { return int(n.pulls.Load()) }

// add counts a socket, with its listener's tag. Safe from any goroutine.
func (n *counts) add(tag uint8) {
	n.open.Add(1)
	n.budget.open[tag].Add(1)
}

// remove counts a conn less.
func (n *counts) remove(c *Conn) {
	if c.IsPull() {
		n.pulls.Add(-1)
		return
	}
	n.budget.open[c.tag].Add(-1)
	n.open.Add(-1)
}

// giveUp tells the gate that c's pass is used up.
func (n *counts) giveUp(c *Conn) {
	if c.pass != 0 && n.budget.Gate != nil {
		n.budget.Gate.Leave(c.pass)
	}
	c.pass = 0
}
