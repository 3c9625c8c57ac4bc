package cluster

import (
	"testing"

	"github.com/pomelod/pomelod/channel"
)

// Two nodes, and their clocks, which have nothing in common.
func hearingPair(quorum int) (a, b *peers, v *View) {
	a, b = &peers{self: runID{"a", 7}, quorum: quorum}, &peers{self: runID{"b", 9}, quorum: quorum}
	v = &View{ID: ViewID{View: 5, Maker: channel.NewNode(2, 9)}, Names: []Name{{Name: "a", Run: 7}, {Name: "b", Run: 9}}}
	v.Members = v.ID
	return a, b, v
}

// tell has one node's heartbeat heard by the other.
func tell(t *testing.T, from *peers, fromNow int64, to *peers, toNow int64, v *View) {
	t.Helper()
	h := &heartbeat{Ready: true}
	if v != nil {
		h.View = v.ID
	}
	from.heartbeat(h, fromNow)
	x, ok := to.hear(from.self, toNow)
	if !ok {
		t.Fatalf("%s is not heard", from.self.Name)
	}
	to.says(x, h, v)
}

func TestHearingDead(t *testing.T) {
	a, b, _ := hearingPair(0)
	tell(t, b, 1, a, 1000*ms, nil)
	x := a.find("b")
	for _, c := range []struct {
		noResponders, now int64
		alive, fresh      bool
	}{
		{0, 1000 * ms, true, true},
		{0, 2100 * ms, true, true},
		{0, 2200 * ms, true, false},
		{0, 3999 * ms, true, false},
		{0, 4000 * ms, false, false},
		{1001 * ms, 1001 * ms, true, false}, // a suspect
		{1001 * ms, 2001 * ms, true, false},
		{1001 * ms, 2002 * ms, false, false},
	} {
		x.noResponders = 0
		if c.noResponders != 0 {
			a.noResponders("b", c.noResponders)
		}
		if x.alive(c.now) != c.alive || x.fresh(c.now) != c.fresh {
			t.Errorf("%+v: alive %v, fresh %v", c, x.alive(c.now), x.fresh(c.now))
		}
	}
	// The first word counts, until something is heard again.
	x.noResponders = 0
	a.noResponders("b", 1001*ms)
	a.noResponders("b", 1900*ms)
	if x.alive(2002 * ms) {
		t.Error("each word begins the second anew")
	}
	tell(t, b, 2, a, 1950*ms, nil)
	if !x.alive(2100 * ms) {
		t.Error("it counts although it was heard since")
	}
}

// A newer run ends the older one at once, and what that one said.
func TestHearingRuns(t *testing.T) {
	a, b, _ := hearingPair(0)
	tell(t, b, 1, a, 1, nil)
	if _, ok := a.hear(runID{"b", 10}, 2); !ok || a.find("b").said != nil || a.find("b").Run != 10 {
		t.Error("the newer run is not heard as such")
	}
	if _, ok := a.hear(runID{"b", 9}, 3); ok {
		t.Error("the older run is heard again")
	}
	if a.find("b").hears(a.self, true) || !a.find("b").hears(a.self, false) {
		t.Error("what it hears is known before it has said so")
	}
}

// An echo is measured on the clock of who is echoed; only one of a heartbeat sent since ends the waiting of a node that slept.
func TestHearingEcho(t *testing.T) {
	a, b, v := hearingPair(0)
	tell(t, a, 100*ms, b, 7, v)
	a.stopHearing(200 * ms)
	tell(t, b, 8, a, 300*ms, v)
	if x := a.find("b"); a.echoed(x) != 100*ms || a.woken == 0 || !a.suspended(v, 300*ms) {
		t.Errorf("echo of %d, woken %d", a.echoed(x), a.woken)
	}
	tell(t, a, 400*ms, b, 9, v)
	older := *v
	older.ID.View--
	tell(t, b, 10, a, 500*ms, v)
	if a.woken != 0 || a.suspended(v, 500*ms) {
		t.Error("an echo of the maker does not end it")
	}
	if !a.deaf(200*ms+deafFor-1) || a.deaf(200*ms+deafFor) {
		t.Error("it does not listen for as long as it takes to die")
	}
	// Not under a newer view, and not by who does not make views.
	for _, change := range []func(v *View, h *heartbeat){
		func(v *View, h *heartbeat) { h.View.View++ },
		func(v *View, h *heartbeat) { v.ID.Maker = channel.NewNode(3, 1); h.View = v.ID },
	} {
		a, b, v := hearingPair(0)
		a.stopHearing(1)
		tell(t, a, 2, b, 1, v)
		h := &heartbeat{View: v.ID}
		b.heartbeat(h, 2)
		change(v, h)
		x, _ := a.hear(b.self, 3)
		if a.says(x, h, v); a.woken == 0 {
			t.Error("it counts as the newest view's maker")
		}
	}
}

// A node that hears none of several members is the one that does not hear; no responders is the bus's own word, and hearing.
func TestHearingNone(t *testing.T) {
	a, b, v := hearingPair(0)
	v.Names = append(v.Names, Name{Name: "c", Run: 1})
	tell(t, b, 1, a, 1000*ms, v)
	if a.look(v, true, 2499*ms); a.woken != 0 {
		t.Error("it gives up too soon")
	}
	if a.look(v, true, 2500*ms); a.woken == 0 || !a.deaf(2500*ms) {
		t.Error("it judges")
	}
	a, b, _ = hearingPair(0)
	tell(t, b, 1, a, 1000*ms, v)
	a.noResponders("b", 2000*ms)
	if a.look(v, true, 2600*ms); a.woken != 0 {
		t.Error("no responders does not count as hearing")
	}
	// Who is alone in its view needs nobody, once it may judge and has the bus.
	alone := &View{ID: v.ID, Names: []Name{{Name: "a", Run: 7}}}
	a.stopHearing(3000 * ms)
	if a.look(alone, true, 5999*ms); a.woken == 0 {
		t.Error("it goes on before it may judge")
	}
	if a.look(alone, false, 6001*ms); a.woken == 0 {
		t.Error("it goes on without the bus")
	}
	if a.look(alone, true, 6001*ms); a.woken != 0 {
		t.Error("it waits for somebody")
	}
}

// A quorum counts members that have echoed a heartbeat of the last 2 s and adopted a view with these members.
func TestHearingQuorum(t *testing.T) {
	for _, c := range []struct {
		name   string
		age    int64 // of the heartbeat that is echoed
		change func(v *View, b *peers, h *heartbeat)
		want   bool
	}{
		{"an echo", 1999 * ms, nil, true},
		{"an old one", 2000 * ms, nil, false},
		{"a view with other members", 0, func(v *View, b *peers, h *heartbeat) { h.View.View-- }, false},
		{"an older view with the same members", 0, func(v *View, b *peers, h *heartbeat) { v.ID.View++ }, true},
		{"a newer view", 0, func(v *View, b *peers, h *heartbeat) { h.View.View++ }, false},
		{"another run", 0, func(v *View, b *peers, h *heartbeat) { v.Names[1].Run++ }, false},
	} {
		a, b, v := hearingPair(2)
		tell(t, a, 5000*ms, b, 1, v)
		h := &heartbeat{View: v.ID}
		b.heartbeat(h, 2)
		x, _ := a.hear(b.self, 5000*ms)
		if c.change != nil {
			c.change(v, b, h)
		}
		a.says(x, h, v)
		if got := a.lease(v, 5000*ms+c.age, true); got != c.want || a.suspended(v, 5000*ms+c.age) == c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// What an old route delivers late does not take the place of what was said since.
func TestHearingLate(t *testing.T) {
	a, b, v := hearingPair(0)
	first, second := &heartbeat{}, &heartbeat{Ready: true}
	b.heartbeat(first, 1)
	b.heartbeat(second, 2)
	x, _ := a.hear(b.self, 1)
	a.says(x, second, v)
	if a.says(x, first, v); !x.said.Ready {
		t.Error("the older heartbeat counts")
	}
}
