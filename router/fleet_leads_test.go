package router

import (
	"slices"
	"testing"
)

// One program of a fleet leads in what a name stands for, whoever is asked, and stays it; when its node has ended another one does. Names do not know each other.
func TestFleetProgramLeads(t *testing.T) {
	for _, sh := range programFleets {
		t.Run(sh.String(), func(t *testing.T) {
			r, p := programFleet(t, sh)
			x := r.fleet
			leads := func(name string) (nodes []string) {
				t.Helper()
				for _, n := range x.nodes {
					if n.dead {
						continue
					}
					var yes bool
					r.changed(nil, func() (err error) { yes, err = p.apps[n.name].Leads(t.Context(), name); return err })
					if yes {
						nodes = append(nodes, n.name)
					}
				}
				return nodes
			}
			first := leads("prizes")
			if len(first) != 1 || first[0] != x.nodes[0].name || !slices.Equal(leads("prizes"), first) {
				t.Fatalf("%v lead, and then %v", first, leads("prizes"))
			}
			last := x.nodes[len(x.nodes)-1]
			var yes bool
			r.changed(nil, func() (err error) { yes, err = p.apps[last.name].Leads(t.Context(), "news"); return err })
			if got := leads("news"); !yes || len(got) != 1 || got[0] != last.name {
				t.Errorf("in news %v lead", got)
			}
			x.kill(last)
			x.pass(6000)
			x.calm()
			if got := leads("news"); len(got) != 1 || got[0] != x.nodes[0].name {
				t.Errorf("when the leader has died %v lead", got)
			}
			if got := leads("prizes"); !slices.Equal(got, first) {
				t.Errorf("of prizes %v lead", got)
			}
		})
	}
}
