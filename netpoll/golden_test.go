package netpoll

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/pomelod/pomelod/internal/golden"
)

// What StateVersion stands for: the bytes of conns, and of the names that a loop has given.
func TestGoldenStates(t *testing.T) {
	g := golden.New("netpoll.StateVersion", StateVersion)
	whole := ConnState{
		Tag: 1, Pass: 2, Peer: netip.MustParseAddrPort("192.0.2.3:4"), Unread: []byte("unread"), Unsent: []byte("unsent"), Handler: []byte("handler"),
		Kept: Kept{Name: 5, Waits: uint8(waitsKept), Lingers: 6, Idle: 7, Stuck: 8, Exempt: 9, Begun: 10},
	}
	g.Bytes("conn", whole.Append(nil))
	g.Bytes("conn that has nothing", (&ConnState{}).Append(nil))
	g.Text("waits", fmt.Sprintf("paused %d, throttled %d, held %d, resumed %d", waitsPaused, waitsThrottled, waitsHeld, waitsResumed))
	g.Text("name", fmt.Sprintf("%x", uint64(newID(3, 4, 5))))
	l := NewLoop(0, nil, nil, Limits{}, NewBudget(0), func() int64 { return 0 })
	gens := make([]uint32, slabConns)
	for slot := range gens {
		gens[slot] = uint32(slot + 300)
	}
	l.slots.follow(gens)
	g.Bytes("names, how they begin", l.AppendNames(nil)[:12])
	g.Check(t)
}
