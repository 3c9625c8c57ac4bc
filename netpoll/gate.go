package netpoll

import "net/netip"

// Gate decides which sockets an acceptor hands to loops. netpoll knows nothing of its reasons: it keeps the passes, and says
// when each of them is used up. Safe from any goroutine.
type Gate interface {
	// Admit is asked once for each socket that was accepted, by the acceptor's goroutine, before a loop gets it. With false the
	// socket is closed. The gate counts what it refuses.
	Admit(peer netip.Addr) (Pass, bool)
	// Leave is called exactly once for each pass that is not 0, when the socket, or the conn without one, is gone.
	Leave(Pass)
}

// Pass is what a Gate knows a conn by. It goes where the conn's socket goes. Conns with the same pass are one client's: they share
// what a turn has for one (Loop.Throttle). 0 is none.
type Pass uint32

// PassAlone is shared by conns that have nothing in common.
const PassAlone = Pass(1<<32 - 1)

// Pass is the conn's pass.
func (c *Conn) Pass() Pass { return c.pass }

// SetPass gives the conn a pass that it had none of, or takes the place of one about which the gate need not hear. Runs on
// the loop.
func (c *Conn) SetPass(p Pass) { c.pass = p }

// SetPeer says that the other end is not where the socket leads, but behind a proxy. Runs on the loop.
func (c *Conn) SetPeer(peer netip.AddrPort) { c.peer, c.peerPort = peer.Addr().As16(), peer.Port() }
