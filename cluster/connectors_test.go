package cluster

import (
	"slices"
	"testing"
)

// names are the connectors that a gate would name now.
func (x *tried) names() (names []string) {
	for _, c := range x.Connectors(nil) {
		names = append(names, c.Name)
	}
	return names
}

// A gate names connectors that it has heard lately. If it hears nobody at all, it is the one who does not hear: it goes on naming those that it knew, but for who drains and
// for whom the bus calls gone.
func TestAGateThatHearsNobodyDoesNotJudge(t *testing.T) {
	x := try(t, 0)
	x.config.Roles = RoleGate
	v := fleetOf(2000, nil)
	v.Names[0].Roles, v.Names[1].Roles, v.Names[2].Roles = RoleChat, RoleGate, RoleConnector
	v.Names = append(v.Names, Name{Name: "d", Run: 40, Roles: RoleConnector}, Name{Name: "e", Run: 50, Roles: RoleConnector})
	x.hear("a", 10, &viewBody{v})
	say := func(name string, run uint64, draining bool) {
		b := x.beatOf(v)
		b.Draining = draining
		x.hear(name, run, b)
	}
	a, c, d := func() { say("a", 10, false) }, func() { say("c", 30, false) }, func() { say("d", 40, false) }
	say("e", 50, true)
	want := func(what string, names ...string) {
		t.Helper()
		if got := x.names(); !slices.Equal(got, names) {
			t.Errorf("%s: %q, want %q", what, got, names)
		}
	}
	x.after(100*ms, a, c, d)
	want("all are heard", "c", "d")
	x.after(freshWithin, a, c)
	want("d is silent", "c")
	x.after(freshWithin, a)
	want("the connectors are silent, and the chat node is not")
	x.after(freshWithin)
	want("nobody is heard", "c", "d")
	x.NoResponder("c")
	x.after(10 * ms)
	want("nobody is heard, and the bus says that c is gone", "d")
	x.after(10*ms, a)
	want("the chat node is heard again")
}

// Who could not hear refuses requests until the maker of views has echoed its heartbeat, or it is the maker and anybody has. That is done at once, and once.
func TestWhoCouldNotHearIsAnsweredAtOnce(t *testing.T) {
	x := try(t, 0)
	v := fleetOf(2000, nil) // made by a
	x.hear("a", 10, &viewBody{v})
	beat := func(name string, run uint64, deaf bool) func() {
		return func() {
			b := x.beatOf(v)
			b.Deaf = deaf
			x.hear(name, run, b)
		}
	}
	a, c := beat("a", 10, false), beat("c", 30, false)
	x.after(600*ms, a, c)
	heartbeats := func() int { return x.is(packetHeartbeat, "") }
	for before := heartbeats(); heartbeats() == before; { // the next one is due in 500 ms
		x.after(10*ms, a, c)
	}
	before := heartbeats()
	x.after(100*ms, a, beat("c", 30, true))
	if n := heartbeats(); n != before {
		t.Errorf("c was answered %d times, and neither makes views", n-before)
	}
	x.after(100*ms, beat("a", 10, true))
	if n := heartbeats(); n != before+1 {
		t.Errorf("the maker was answered %d times", n-before)
	}
}

// Who has the bus again says so at once.
func TestWhoHasTheBusAgainSaysSo(t *testing.T) {
	x := try(t, 0)
	x.after(600 * ms)
	x.Away(true)
	x.after(490 * ms)
	before := x.is(packetHeartbeat, "")
	x.Away(false)
	x.after(10 * ms)
	if n := x.is(packetHeartbeat, ""); n != before+1 {
		t.Errorf("%d heartbeats", n-before)
	}
}
