package cluster

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/internal/race"
	"github.com/pomelod/pomelod/internal/seed"
)

const testParts = 12

// testOutlook makes the outlook of a maker, the node self, that hears all nodes well, as they hear each other. A node is NAME/RUN, with the
// letters c for a connector that is no chat node, d for draining behind a further slash, and =HOST.
func testOutlook(number uint64, self string, nodes ...string) *outlook {
	o := &outlook{number: number, told: make([]partOutlook, testParts)}
	for _, s := range nodes {
		s, host, _ := strings.Cut(s, "=")
		f := append(strings.Split(s, "/"), "")
		p := prospect{alive: true, ready: true, roles: RoleChat | RoleConnector, host: host}
		fmt.Sscan(f[1], &p.Run)
		p.Name = f[0]
		if strings.Contains(f[2], "c") {
			p.roles = RoleConnector
		}
		p.draining = strings.Contains(f[2], "d")
		o.nodes = append(o.nodes, p)
	}
	for i := range o.nodes {
		p := &o.nodes[i]
		if p.Name == self {
			o.self = i
		}
		p.apart = make([]bool, len(o.nodes))
		for j := range o.nodes {
			p.hears = append(p.hears, j != i)
			p.certain = append(p.certain, j != i)
		}
	}
	return o
}

// settle plans until nothing changes, with joiners that are in step and followers that are ready at once.
func settle(t testing.TB, v *View, o *outlook) *View {
	t.Helper()
	for range 200 * len(o.told) {
		if v != nil {
			tellAll(v, o)
		}
		next := plan(v, o)
		if next == nil {
			return v
		}
		v, o.number, o.force = next, o.number+1, false
	}
	t.Fatal("views without end")
	return nil
}

func tellAll(v *View, o *outlook) {
	for i := range o.told {
		o.told[i] = partOutlook{inStep: v.Shares[i].Joining, ready: v.Shares[i].Moving}
	}
}

func owners(v *View) map[string]int {
	m := map[string]int{}
	for _, b := range v.Shares {
		m[v.Names[b.Owner-1].Name]++
	}
	return m
}

func members(v *View) string {
	var names []string
	for _, n := range v.Names {
		if n.Run != 0 {
			names = append(names, fmt.Sprintf("%s/%d", n.Name, n.Run))
		}
	}
	return strings.Join(names, " ")
}

// What becomes of a fleet of three, settled, when something happens.
func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name   string
		nodes  []string // now
		change func(o *outlook, v *View)
		check  func(t *testing.T, old, v *View) // v: the next one, nil if there is none
	}{
		{"nothing", []string{"a/1", "b/1", "c/1"}, nil, func(t *testing.T, old, v *View) {
			if v != nil {
				t.Error("a view for nothing")
			}
		}},
		{"a new maker", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) { o.force = true }, func(t *testing.T, old, v *View) {
			if v == nil || v.Members != old.Members {
				t.Error("no view, or one that changes the members")
			}
		}},
		{"an owner dies", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) { o.nodes[1].alive = false }, func(t *testing.T, old, v *View) {
			for i, b := range v.Shares {
				was := old.Shares[i]
				switch {
				case was.Owner == 2 && (b.Owner != was.Follower || b.Epoch != v.ID || b.Born != was.Born):
					t.Errorf("partition %d: %+v, before %+v", i, b, was)
				case was.Owner != 2 && (b.Owner != was.Owner || b.Epoch != was.Epoch):
					t.Errorf("partition %d: %+v, before %+v", i, b, was)
				case b.Follower == 2 || b.Joiner == 2:
					t.Errorf("partition %d: the dead one follows", i)
				case (was.Owner == 2 || was.Follower == 2) && b.Joiner == None:
					t.Errorf("partition %d: nobody joins", i)
				}
			}
			if v.Names[1].Gone != 1 || members(v) != "a/1 c/1" || v.Members != v.ID {
				t.Errorf("members %q, %+v", members(v), v.Names)
			}
		}},
		{"an owner restarts", []string{"a/1", "b/2", "c/1"}, nil, func(t *testing.T, old, v *View) {
			if v.Names[1].Gone != 1 || members(v) != "a/1 b/2 c/1" {
				t.Errorf("members %q, %+v", members(v), v.Names)
			}
			for i, b := range v.Shares {
				if b.Owner == 2 || b.Follower == 2 {
					t.Errorf("partition %d is the old run's", i)
				}
			}
		}},
		{"owner and follower die", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) { o.nodes[1].alive, o.nodes[2].alive = false, false }, func(t *testing.T, old, v *View) {
			for i, b := range v.Shares {
				if was := old.Shares[i]; was.Owner != 1 && was.Follower != 1 && (b.Born != v.ID || b.Epoch != v.ID || b.Owner != 1) {
					t.Errorf("partition %d: %+v, before %+v", i, b, was)
				}
			}
		}},
		{"a run that was left out", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) { v.Names[2].Run, v.Names[2].Gone = 0, 1 }, func(t *testing.T, old, v *View) {
			if v != nil && members(v) != "a/1 b/1" {
				t.Errorf("members %q", members(v))
			}
		}},
		{"one that is not heard by all", []string{"a/1", "b/1", "c/1", "d/1"}, func(o *outlook, v *View) { o.nodes[1].hears[3] = false }, func(t *testing.T, old, v *View) {
			if v != nil {
				t.Errorf("members %q", members(v))
			}
		}},
		{"one that has not said that it hears all", []string{"a/1", "b/1", "c/1", "d/1"}, func(o *outlook, v *View) { o.nodes[3].certain[1] = false }, func(t *testing.T, old, v *View) {
			if v != nil {
				t.Errorf("members %q", members(v))
			}
		}},
		{"one that has not listened", []string{"a/1", "b/1", "c/1", "d/1"}, func(o *outlook, v *View) { o.nodes[3].ready = false }, func(t *testing.T, old, v *View) {
			if v != nil {
				t.Errorf("members %q", members(v))
			}
		}},
		{"a pair that does not hear each other", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) {
			o.nodes[1].apart[2], o.nodes[1].hears[2] = true, false
		}, func(t *testing.T, old, v *View) {
			if members(v) != "a/1 b/1" {
				t.Errorf("members %q", members(v))
			}
		}},
		{"a pair of which one is the maker", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) {
			o.self = 2
			o.nodes[1].apart[2], o.nodes[1].hears[2] = true, false
		}, func(t *testing.T, old, v *View) {
			if members(v) != "a/1 c/1" {
				t.Errorf("members %q", members(v))
			}
		}},
		{"a pair of which one hears fewer", []string{"a/1", "b/1", "c/1", "d/1"}, func(o *outlook, v *View) {
			v.Names = append(v.Names, Name{Name: "d", Run: 1})
			o.nodes[1].apart[2], o.nodes[1].hears[2] = true, false
			o.nodes[1].hears[3] = false
		}, func(t *testing.T, old, v *View) {
			if members(v) != "a/1 c/1 d/1" {
				t.Errorf("members %q", members(v))
			}
		}},
		{"no quorum", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) {
			o.quorum = 2
			o.nodes[1].alive, o.nodes[2].alive = false, false
		}, func(t *testing.T, old, v *View) {
			if v != nil {
				t.Errorf("members %q", members(v))
			}
		}},
		{"a follower is stuck", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) {
			o.told[0].drop, o.told[0].avoid = v.Shares[0].Following, v.Shares[0].Follower
		}, func(t *testing.T, old, v *View) {
			if b := v.Shares[0]; b.Follower != None || b.Joiner == None || b.Joiner == old.Shares[0].Follower || b.Epoch != old.Shares[0].Epoch {
				t.Errorf("%+v, before %+v", b, old.Shares[0])
			}
		}},
		{"a follower is stuck and the owner dies", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) {
			b := v.Shares[0]
			o.told[0].drop = b.Following
			o.self = int(b.Follower) - 1
			o.nodes[b.Owner-1].alive = false
		}, func(t *testing.T, old, v *View) {
			if b := v.Shares[0]; b.Owner != old.Shares[0].Follower || b.Born != old.Shares[0].Born {
				t.Errorf("%+v, before %+v", b, old.Shares[0])
			}
		}},
		{"a move", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) { o.told[3].shift = true }, func(t *testing.T, old, v *View) {
			if b, was := v.Shares[3], old.Shares[3]; b.Moving != v.ID || b.Owner != was.Owner || b.Epoch != was.Epoch {
				t.Errorf("%+v, before %+v", b, was)
			}
		}},
		{"a move of who is suspected", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) { o.told[3].shift, o.nodes[2].quiet = true, true }, func(t *testing.T, old, v *View) {
			if v != nil {
				t.Error("moved")
			}
		}},
		{"a move that is ready", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) {
			v.Shares[3].Moving = v.ID
			o.told[3].ready = v.ID
		}, func(t *testing.T, old, v *View) {
			if b, was := v.Shares[3], old.Shares[3]; b.Moving != (ViewID{}) || b.Owner != was.Follower || b.Follower != was.Owner || b.Epoch != v.ID || b.Following != v.ID || b.Born != was.Born {
				t.Errorf("%+v, before %+v", b, was)
			}
		}},
		{"a move that is ready, whose owner has asked to go on alone", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) {
			v.Shares[3].Moving = v.ID
			o.told[3].ready, o.told[3].drop = v.ID, v.Shares[3].Following
		}, func(t *testing.T, old, v *View) {
			if b, was := v.Shares[3], old.Shares[3]; b.Owner != was.Follower || b.Follower != was.Owner {
				t.Errorf("%+v, before %+v", b, was)
			}
		}},
		{"a move for which its owner has waited too long", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) {
			v.Shares[3].Moving = v.ID
			o.told[3].drop = v.Shares[3].Following
		}, func(t *testing.T, old, v *View) {
			if b, was := v.Shares[3], old.Shares[3]; b.Moving != (ViewID{}) || b.Owner != was.Owner || b.Epoch != was.Epoch || b.Follower != None {
				t.Errorf("%+v, before %+v", b, was)
			}
		}},
		{"a move that another one is ready for", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) {
			v.Shares[3].Moving = v.ID
			o.told[3].ready = v.Members
		}, func(t *testing.T, old, v *View) {
			if v != nil {
				t.Error("a view for nothing")
			}
		}},
		{"a move that takes too long", []string{"a/1", "b/1", "c/1"}, func(o *outlook, v *View) {
			v.Shares[3].Moving = v.ID
			o.told[3].expired, o.told[3].rest = true, true
		}, func(t *testing.T, old, v *View) {
			if b, was := v.Shares[3], old.Shares[3]; b.Moving != (ViewID{}) || b.Owner != was.Owner || b.Epoch != was.Epoch {
				t.Errorf("%+v, before %+v", b, was)
			}
		}},
		{"one that drains", []string{"a/1", "b/1/d", "c/1"}, nil, func(t *testing.T, old, v *View) {
			n := 0
			for i, b := range v.Shares {
				if b.Moving == v.ID || b.Joining == v.ID {
					n++
					if old.Shares[i].Owner != 2 && old.Shares[i].Follower != 2 {
						t.Errorf("partition %d of another", i)
					}
					if b.Joining == v.ID && b.Joiner == 2 {
						t.Errorf("partition %d gets the one that drains", i)
					}
				}
			}
			if n == 0 {
				t.Error("nothing moves")
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := settle(t, nil, testOutlook(1000, "a", "a/1", "b/1", "c/1"))
			for name, n := range owners(old) {
				if n != testParts/3 {
					t.Fatalf("%s owns %d", name, n)
				}
			}
			o := testOutlook(old.ID.View+1, "a", c.nodes...)
			if c.change != nil {
				c.change(o, old)
			}
			v := plan(old, o)
			if v == nil && strings.Contains("an owner dies, an owner restarts, a move", c.name) {
				t.Fatal("no view")
			}
			c.check(t, old, v)
		})
	}
}

// Followers are on another host where there is one.
func TestPlanHosts(t *testing.T) {
	v := settle(t, nil, testOutlook(1, "a", "a/1=x", "b/1=x", "c/1=y", "d/1=y"))
	for i, b := range v.Shares {
		if v.Names[b.Owner-1].Host == v.Names[b.Follower-1].Host {
			t.Errorf("partition %d: owner and follower on %s", i, v.Names[b.Owner-1].Host)
		}
	}
}

// Who drains owns nothing in the end, and connectors never do.
func TestPlanDrain(t *testing.T) {
	v := settle(t, nil, testOutlook(1, "a", "a/1", "b/1", "c/1", "x/1/c"))
	v = settle(t, v, testOutlook(v.ID.View+1, "a", "a/1/d", "b/1", "c/1", "x/1/c"))
	if o := owners(v); o["a"] != 0 || o["x"] != 0 || o["b"] != testParts/2 || o["c"] != testParts/2 {
		t.Errorf("owners %v", o)
	}
}

// What one of two has given away does not come back because the other one now has more.
func TestPlanDrainOfTwo(t *testing.T) {
	v := settle(t, nil, testOutlook(1, "a", "a/1", "b/1"))
	v = settle(t, v, testOutlook(v.ID.View+1, "a", "a/1", "b/1/d"))
	if o := owners(v); o["b"] != 0 {
		t.Errorf("owners %v", o)
	}
}

// Without followers partitions are even all the same, and go from who drains. Flags of two makers may differ: whatever there is fits the next one.
func TestPlanAlone(t *testing.T) {
	check := func(v *View, want map[string]int, followed bool) {
		t.Helper()
		if o := owners(v); !reflect.DeepEqual(o, want) {
			t.Errorf("owners %v, want %v", o, want)
		}
		for i, b := range v.Shares {
			if (b.Follower != None) != followed || b.Joiner != None || b.Moving != (ViewID{}) {
				t.Errorf("partition %d: %+v", i, b)
			}
		}
	}
	next := func(v *View, alone bool, nodes ...string) *View {
		t.Helper()
		o := testOutlook(1000, "a", nodes...)
		if v != nil {
			o.number = v.ID.View + 1
		}
		o.alone = alone
		was := orEmpty(v)
		v = settle(t, v, o)
		for i := range was.Shares {
			if v.Shares[i].Born != was.Shares[i].Born {
				t.Errorf("partition %d is born anew", i)
			}
		}
		return v
	}
	v := next(nil, true, "a/1")
	check(v, map[string]int{"a": 12}, false)
	v = next(v, true, "a/1", "b/1", "c/1")
	check(v, map[string]int{"a": 4, "b": 4, "c": 4}, false)
	v = next(v, true, "a/1", "b/1/d", "c/1")
	check(v, map[string]int{"a": 6, "c": 6}, false)
	v = next(v, false, "a/1", "b/1", "c/1")
	check(v, map[string]int{"a": 4, "b": 4, "c": 4}, true)
	v = next(v, true, "a/1", "b/1", "c/1")
	check(v, map[string]int{"a": 4, "b": 4, "c": 4}, false)
}

// Whatever happens, from view to view: nothing is owned by who has not got it, and in quiet all is even and followed.
func TestPlanProperties(t *testing.T) {
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprint("alone=", alone), func(t *testing.T) { planProperties(t, alone) })
	}
}

func planProperties(t *testing.T, alone bool) {
	r := seed.Rand(t)
	names := []string{"a", "b", "c", "d", "e"}
	for range race.Fewer(300) {
		runs, self := map[string]int{}, 0
		var v *View
		number := uint64(1)
		for step := range 40 {
			quiet := step >= 30
			var nodes []string
			for i, name := range names {
				if runs[name] == 0 || r.IntN(6) == 0 && !quiet {
					runs[name]++
				}
				s := fmt.Sprintf("%s/%d", name, runs[name])
				if i == 4 {
					s += "/c"
				}
				nodes = append(nodes, s)
			}
			self = r.IntN(4)
			o := testOutlook(number, names[self], nodes...)
			o.alone = alone
			if v != nil {
				tellAll(v, o)
			}
			if !quiet {
				disturb(r, o, v)
			}
			// A maker that was left out cannot make a view; it would be a new run by then.
			if v != nil && v.Names != nil {
				if k := v.number(names[self]); k != None && uint64(runs[names[self]]) <= v.Names[k-1].Gone {
					runs[names[self]] = int(v.Names[k-1].Gone) + 1
					o.nodes[self].Run = uint64(runs[names[self]])
				}
			}
			before := *orEmpty(v)
			before.Names = slices.Clone(before.Names)
			next, again := plan(v, o), plan(v, o)
			if !reflect.DeepEqual(next, again) {
				t.Fatal("two plans from one outlook differ")
			}
			if v != nil && !reflect.DeepEqual(*v, before) {
				t.Fatal("the view it began from has changed")
			}
			if next != nil {
				checkPlan(t, orEmpty(v), next, o)
				v = next
				number = v.ID.View + 1 + r.Uint64N(3)
			}
		}
		for _, n := range v.Names {
			runs[n.Name] = max(runs[n.Name], int(n.Gone)+1)
		}
		o := testOutlook(number, "a", fmt.Sprint("a/", runs["a"]), fmt.Sprint("b/", runs["b"]), fmt.Sprint("c/", runs["c"]), fmt.Sprint("d/", runs["d"]), fmt.Sprint("e/", runs["e"], "/c"))
		o.alone = alone
		v = settle(t, v, o)
		for _, name := range names[:4] {
			if n := owners(v)[name]; n != testParts/4 {
				t.Errorf("%s owns %d of %d", name, n, testParts)
			}
		}
		for i, b := range v.Shares {
			if (b.Follower == None) != alone || b.Joiner != None || b.Moving != (ViewID{}) {
				t.Errorf("partition %d does not come to rest: %+v", i, b)
			}
		}
	}
}

func orEmpty(v *View) *View {
	if v == nil {
		return &View{}
	}
	return v
}

// disturb lets nodes fall silent, hear badly or drain, and reports be missing, late or wrong.
func disturb(r *rand.Rand, o *outlook, v *View) {
	for i := range o.nodes {
		n := &o.nodes[i]
		n.alive = i == o.self || r.IntN(5) > 0
		n.ready, n.draining, n.quiet = r.IntN(5) > 0, r.IntN(6) == 0, r.IntN(8) == 0
		for j := range n.hears {
			n.hears[j] = n.hears[j] && r.IntN(20) > 0
			n.certain[j] = n.hears[j] && r.IntN(20) > 0
			n.apart[j] = i != j && !n.hears[j] && r.IntN(2) == 0
		}
	}
	for i := range o.told {
		t := &o.told[i]
		if r.IntN(2) == 0 {
			t.inStep, t.ready = ViewID{}, ViewID{}
		}
		if v != nil && r.IntN(10) == 0 {
			t.drop = v.Shares[i].Following
		}
		t.shift, t.expired, t.rest = r.IntN(5) == 0, r.IntN(5) == 0, r.IntN(5) == 0
	}
	o.force = r.IntN(4) == 0
}

func checkPlan(t *testing.T, old, v *View, o *outlook) {
	t.Helper()
	if !Less(old.ID, v.ID) || v.Node(v.ID.Maker.Number()) != v.ID.Maker {
		t.Fatalf("id %v after %v, made by no member", v.ID, old.ID)
	}
	if old.ID != (ViewID{}) && v.Ancestors[0] != old.ID || len(v.Ancestors) > maxAncestors {
		t.Fatal("ancestors")
	}
	for i, n := range old.Names {
		if m := v.Names[i]; m.Name != n.Name || m.Gone < n.Gone || n.Run != 0 && m.Run != n.Run && m.Gone < n.Run {
			t.Fatalf("row %d: %+v after %+v", i+1, m, n)
		}
	}
	for _, n := range v.Names {
		if n.Run != 0 && n.Run <= n.Gone {
			t.Fatalf("%s is back as the run that was left out", n.Name)
		}
	}
	same := func(k uint16) bool { return old.run(k) != 0 && old.run(k) == v.run(k) }
	for i, b := range v.Shares {
		was, bad := Share{}, ""
		if i < len(old.Shares) {
			was = old.Shares[i]
		}
		switch {
		case v.run(b.Owner) == 0 || v.Names[b.Owner-1].Roles&RoleChat == 0:
			bad = "nobody owns it"
		case b.Owner == b.Follower || b.Owner == b.Joiner || b.Follower != None && b.Follower == b.Joiner:
			bad = "one node is two of owner, follower and joiner"
		case b.Follower != None && v.run(b.Follower) == 0 || b.Joiner != None && v.run(b.Joiner) == 0:
			bad = "somebody is no member"
		case (b.Owner == was.Owner && same(b.Owner)) != (b.Epoch == was.Epoch):
			bad = "an owner changes without an epoch, or an epoch without an owner"
		case b.Epoch != was.Epoch && b.Epoch != v.ID || b.Born != was.Born && b.Born != v.ID:
			bad = "an epoch or a birth of another view"
		case b.Born == was.Born && b.Epoch != was.Epoch && (b.Owner != was.Follower || !same(b.Owner)):
			bad = "an owner that was not the follower"
		case b.Born != was.Born && same(was.Owner):
			bad = "born anew beside its owner"
		case b.Born != was.Born && was.Follower != None && same(was.Follower):
			bad = "born anew beside its follower"
		case b.Follower != None && b.Following != was.Following && !(b.Following == was.Joining && b.Follower == was.Joiner && b.Epoch == was.Epoch && o.told[i].inStep == was.Joining) &&
			!(b.Following == v.ID && b.Epoch == v.ID && b.Follower == was.Owner && b.Owner == was.Follower && o.told[i].ready == was.Moving && was.Moving != ViewID{}):
			bad = "a follower that is not in step"
		case (b.Follower == None) != (b.Following == ViewID{}) || (b.Joiner == None) != (b.Joining == ViewID{}) || b.Moving != (ViewID{}) && (b.Follower == None || b.Joiner != None):
			bad = "ids that do not fit"
		}
		if bad != "" {
			t.Fatalf("partition %d: %s: %+v after %+v", i, bad, b, was)
		}
	}
}

// BenchmarkPlan is a plan that changes nothing, as the maker of a quiet fleet makes fifty times a second.
func BenchmarkPlan(b *testing.B) {
	o := testOutlook(1, "a", "a/1", "b/1", "c/1")
	o.told = make([]partOutlook, channel.Partitions)
	v := settle(b, nil, o)
	o.told = make([]partOutlook, channel.Partitions)
	b.ReportAllocs()
	for b.Loop() {
		if plan(v, o) != nil {
			b.Fatal("something has changed")
		}
	}
}
