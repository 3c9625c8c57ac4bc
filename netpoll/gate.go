package netpoll

import "net/netip"

// Gate decides which accepted sockets the loops get. It gives each of them a Pass, and is told when that is given back. netpoll knows
// nothing of its reasons. A Gate must be safe from any goroutine: acceptors and all loops call it.
type Gate interface {
	// Admit is called once for each accepted socket, before a loop gets it. When it returns false the socket is closed. The gate
	// itself counts what it refuses.
	Admit(peer netip.Addr) (Pass, bool)
	// Leave gives a pass back. It is called exactly once for each pass that is not 0, when its socket has been closed, or when its conn
	// without a socket has ended.
	Leave(Pass)
}

// Pass is the number by which a Gate knows an admitted conn; 0 is none. It stays with the conn's socket, wherever that moves. Conns with
// the same pass belong to one client, and share what one client may have of a turn (Loop.Throttle).
type Pass uint32

// PassAlone is the pass of conns that the gate does not count: although all of them have this one, they share nothing.
const PassAlone = Pass(1<<32 - 1)

// Pass is the conn's pass.
func (c *Conn) Pass() Pass { return c.pass }

// SetPass replaces the conn's pass. Gate.Leave is not called for the old one: the caller has given it back. Runs on the loop.
func (c *Conn) SetPass(p Pass) { c.pass = p }

// SetPeer sets what Peer returns from now on: the address of a client whose connection a proxy carries. Runs on the loop.
func (c *Conn) SetPeer(peer netip.AddrPort) { c.peer, c.peerPort = peer.Addr().As16(), peer.Port() }
