package netpoll_test

import (
	"net/netip"
	"sync"
	"testing"
	"time"

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

// A socket that the gate refuses is closed, and no loop hears of it. The gate is told who it is, and a pass that comes back makes
// room.
func TestGateRefuses(t *testing.T) {
	s := newSite(t, func(_ *site, d *driven) {
		d.onData = func(c *netpoll.Conn, b []byte) int { d.loop.Write(c, b); return len(b) }
	})
	s.gate.mu.Lock()
	s.gate.max = 2
	s.gate.mu.Unlock()
	a, err := s.dial(0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.dial(1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 20 {
		if _, err := s.dial(0); err == nil {
			t.Fatal("a third is served")
		}
	}
	_ = a.Close()
	for end := time.Now().Add(10 * time.Second); s.gate.left() > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the pass of a closed connection does not come back")
		}
	}
	again, err := s.dial(0)
	if err != nil {
		t.Fatal("refused though there is room:", err)
	}
	defer again.Close()
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	if s.gate.refused != 20 {
		t.Errorf("%d refused", s.gate.refused)
	}
	for _, p := range s.gate.peers {
		if p != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
			t.Errorf("the gate was asked about %v", p)
		}
	}
}
