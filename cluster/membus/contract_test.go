package membus

import (
	"testing"

	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/cluster/bustest"
	"github.com/pomelod/pomelod/internal/seed"
)

// contractNet is a Net without faults for bustest.
type contractNet struct {
	t *testing.T
	*Net
}

func (n contractNet) Join(name string, receive func([]byte), noResponder func(string)) (cluster.Bus, func()) {
	p := n.Connect(name, receive, noResponder)
	return p, p.Close
}

func (n contractNet) Wait(what string, done func() bool) {
	n.t.Helper()
	for range 1000 {
		if done() {
			return
		}
		n.Advance(n.Now() + ms)
	}
	n.t.Fatalf("after a second there is no end of the wait for %s", what)
}

func TestBus(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Net { return contractNet{t, New(seed.Rand(t))} }, 256<<10+1000, MaxPacket+1)
}
