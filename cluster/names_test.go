package cluster

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pomelod/pomelod/channel"
)

// A fleet that sees new names all the time, as pods have them, has as many rows as there were names in ten minutes. A number and a run are never those of
// two nodes.
func TestNamesAreForgotten(t *testing.T) {
	x := try(t, 0)
	x.after(3000 * ms)
	if x.Self() == 0 {
		t.Fatal("it has made no view")
	}
	nodes, most := map[channel.Node]string{}, 0
	for i := range 160 {
		if i%40 == 39 {
			for end := x.at + vacantFor; x.at < end; x.at += 900 * ms {
				x.Turn(x.at, 1000+x.at/ms)
			}
		}
		name, run := fmt.Sprint("pod-", i), uint64(1000+i)
		if i%40 == 20 {
			run = 900 // a clock that was set back: less than what was left out of any row that is free
		}
		joined := false
		for step := range 45 {
			x.at += 100 * ms
			if step < 8 {
				h := &heartbeat{Versions: spoken, Number: uint64(step + 1), Roles: RoleConnector, Ready: true, View: x.view.ID, Echoes: []echo{{Peer: x.peers.self, Number: x.peers.beat, Alive: true}}}
				x.hear(name, run, h)
			}
			x.Turn(x.at, 1000+x.at/ms)
			if number := x.view.number(name); x.view.run(number) == run {
				joined = true
				if other, has := nodes[x.view.Node(number)]; has && other != name {
					t.Fatalf("%s is node %x, as %s was", name, uint64(x.view.Node(number)), other)
				}
				nodes[x.view.Node(number)] = name
			}
		}
		if !joined || x.view.run(x.view.number(name)) != 0 {
			t.Fatalf("%s: joined %t, run %d in the end", name, joined, x.view.run(x.view.number(name)))
		}
		most = max(most, len(x.view.Names))
		x.sent = map[string][]any{}
	}
	if most > 90 { // of forty in a row all are kept for a while
		t.Errorf("%d rows for 160 names", most)
	}
}

// A name that comes back finds its row, if nobody has it, and a row whose name is about to come back is nobody else's.
func TestRowsOfNamesThatComeBack(t *testing.T) {
	o := testOutlook(1000, "a", "a/1", "b/2", "c/3")
	v := settle(t, nil, o)
	o = testOutlook(v.ID.View+1, "a", "a/1")
	v = settle(t, v, o)
	rows := func() (list []string) {
		for _, n := range v.Names {
			list = append(list, fmt.Sprint(n.Name, "/", n.Run, "/", n.Gone))
		}
		return list
	}
	o = testOutlook(v.ID.View+1, "a", "a/1", "b/4", "d/5", "e/2", "f/6")
	o.free = []bool{false, true, true}
	v = settle(t, v, o)
	if got, want := rows(), []string{"a/1/0", "b/4/2", "d/5/3", "e/2/0", "f/6/0"}; !slices.Equal(got, want) {
		t.Errorf("rows are %v, want %v", got, want)
	}
}

// A node that slept until another name had its row goes on as a new run.
func TestSleeperWhoseRowWasTaken(t *testing.T) {
	x, v, _ := member(t, 0)
	next := fleetOf(9000, nil)
	next.Names[1] = Name{Name: "d", Run: 40, Gone: 20, Roles: RoleChat}
	next.Ancestors = []ViewID{{View: 8999, Maker: v.ID.Maker}}
	x.hear("a", 10, &viewBody{View: next})
	x.after(10 * ms)
	if x.Self() != 0 || x.peers.self.Run <= 20 || !slices.Contains(x.restarts, channel.NewNode(2, 20)) {
		t.Errorf("it is %x, run %d, and has begun anew after %v", uint64(x.Self()), x.peers.self.Run, x.restarts)
	}
}

// Who becomes the maker after another, on a view with fewer names than its own views had, counts from nothing.
func TestMakerOfAShorterView(t *testing.T) {
	x := try(t, 0)
	x.after(3000 * ms)
	x.maker.vacant = make([]vacancy, len(x.view.Names)+3)
	for i := range 2 {
		h := &heartbeat{Versions: spoken, Number: 1, Roles: RoleConnector, Ready: true, View: x.view.ID, Echoes: []echo{{Peer: x.peers.self, Number: x.peers.beat, Alive: true}}}
		x.hear(fmt.Sprint("new-", i), 1000, h)
	}
	x.maker.plan(x.Node, x.view, true)
	if n := len(x.maker.vacant); n > len(x.view.Names)+2 {
		t.Errorf("it counts the time of %d rows, of %d", n, len(x.view.Names))
	}
}
