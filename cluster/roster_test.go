package cluster

import (
	"slices"
	"testing"
)

// Peers says of each node what its heartbeats and the view say, and leaves out who is dead or ends.
func TestPeers(t *testing.T) {
	x, v, others := member(t, 0)
	next := fleetOf(5001, v)
	next.Shares = slices.Clone(next.Shares)
	next.Shares[0].Follower, next.Shares[1].Joiner = 1, 3
	x.hear("a", 10, &viewBody{View: next})
	x.after(20*ms, others)
	x.hear("d", 7, &heartbeat{Versions: spoken, Number: 1, Roles: RoleGate, Host: "h", Load: 9})
	x.hear("e", 8, &heartbeat{Versions: spoken, Number: 1, Roles: RoleGate, Draining: true})
	x.Drain(true)
	x.after(10 * ms)
	find := func(name string) *Peer {
		for _, p := range x.Peers() {
			if p.Name == name {
				return &p
			}
		}
		return nil
	}
	if a := find("a"); a == nil || !a.Member || !a.Maker || a.Followed != 1 || a.Owned != 0 || a.View != 5001 || a.Draining {
		t.Errorf("a: %+v", a)
	}
	if b := find("b"); b == nil || !b.Member || b.Maker || b.Owned != 4 || b.Silent != 0 || !b.Draining {
		t.Errorf("b: %+v", b)
	}
	if c := find("c"); c == nil || c.Followed != 1 {
		t.Errorf("c: %+v", c)
	}
	if d := find("d"); d == nil || d.Member || d.Load != 9 || d.Host != "h" || d.Roles != RoleGate || find("e") != nil {
		t.Errorf("d: %+v, e: %+v", d, find("e"))
	}
	if n := x.Takers(); n != 2 {
		t.Errorf("%d may take partitions, want a and c", n)
	}
	drains := x.beatOf(x.view)
	drains.Draining, drains.Number = true, drains.Number+1
	x.hear("c", 30, drains)
	x.after(3100*ms, func() { x.hear("a", 10, x.beatOf(x.view)) })
	if n := x.Takers(); n != 1 || find("d") != nil || find("c") == nil || find("c").Silent < 3000*ms {
		t.Errorf("later %d may take partitions; d is %+v, c %+v", n, find("d"), find("c"))
	}
}

// A node that is asked to end knows who was asked for it; the word for an older run, or of it, does nothing.
func TestRetire(t *testing.T) {
	x, _, _ := member(t, 0)
	if err := x.Retire("c"); err != nil || x.is(packetRetire, "c") != 1 || x.sent["c"][len(x.sent["c"])-1].(*retire).Run != 30 {
		t.Errorf("c was asked %d times: %v", x.is(packetRetire, "c"), err)
	}
	if err := x.Retire("d"); err == nil {
		t.Error("there is no d")
	}
	x.hear("a", 10, &retire{Run: 19})
	x.after(10 * ms)
	if x.Retired() != "" {
		t.Error("another run was meant")
	}
	x.hear("a", 10, &retire{Run: 20})
	x.after(10 * ms)
	if x.Retired() != "a" {
		t.Errorf("asked by %q", x.Retired())
	}
}
