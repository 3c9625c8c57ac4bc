package netpoll_test

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
)

// counter is a gate that hands out passes and checks that each comes back once.
type counter struct {
	t   testing.TB
	max int // passes at a time; 0: any number

	mu      sync.Mutex
	last    netpoll.Pass
	out     map[netpoll.Pass]bool
	refused int
	peers   []netip.Addr
}

func newCounter(t testing.TB) *counter { return &counter{t: t, out: map[netpoll.Pass]bool{}} }

func (g *counter) Admit(peer netip.Addr) (netpoll.Pass, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.max > 0 && len(g.out) >= g.max {
		g.refused++
		return 0, false
	}
	g.peers = append(g.peers, peer)
	g.last++
	g.out[g.last] = true
	return g.last, true
}

func (g *counter) Leave(p netpoll.Pass) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.out[p] {
		g.t.Errorf("pass %d came back, and is not out", p)
	}
	delete(g.out, p)
}

// check tells whether a conn that is opened brings a pass that is out, and gives it one if it has none.
func (g *counter) check(c *netpoll.Conn) {
	if c.Pass() == 0 {
		p, _ := g.Admit(c.Peer().Addr())
		c.SetPass(p)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.out[c.Pass()] {
		g.t.Errorf("a conn was opened with pass %d, which is not out", c.Pass())
	}
}

func (g *counter) left() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.out)
}
