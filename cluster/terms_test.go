package cluster

import "testing"

// A node whose settings are others is found, first one that was here before; who drains, has died, or tells none is no matter.
func TestOdd(t *testing.T) {
	x, _, others := member(t, 0)
	x.config.Terms = "-auth jwt"
	if odd := x.Odd(); odd != (Odd{}) {
		t.Errorf("of versions that tell none: %+v", odd)
	}
	said := func(name string, run uint64, terms string, draining bool) {
		h := x.beatOf(x.view)
		h.Terms, h.Draining = terms, draining
		x.hear(name, run, h)
		x.after(ms)
	}
	self := x.peers.self.Run
	said("a", 10, "-auth jwt", false)
	said("x", self+100, "-auth none", false)
	if odd := x.Odd(); odd != (Odd{Name: "x", Terms: "-auth none"}) {
		t.Errorf("a later one: %+v", odd)
	}
	said("y", self-1, "-auth hook", false)
	if odd := x.Odd(); odd != (Odd{Name: "y", Terms: "-auth hook", Older: true}) {
		t.Errorf("an earlier one: %+v", odd)
	}
	said("y", self-1, "-auth hook", true)
	if odd := x.Odd(); odd.Name != "x" {
		t.Errorf("one that drains: %+v", odd)
	}
	x.after(3100*ms, others)
	if odd := x.Odd(); odd != (Odd{}) {
		t.Errorf("those that are dead: %+v", odd)
	}
}
