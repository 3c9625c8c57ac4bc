package cluster_test

import (
	"strings"
	"testing"
)

// Schedules of fleets with programs of two versions.

// One node is of an older version than all others: the maker, or another one. It is told everything in the version that both speak, views for all too; the
// others talk among each other in theirs. When the old program has been replaced all do. The newer one need not speak the first version any more.
func TestOldNodeIsMaker(t *testing.T) {
	for old := range 2 {
		withAnOldNode(t, old, [2]uint8{1, 1}, [2]uint8{1, 2})
		withAnOldNode(t, old, [2]uint8{1, 2}, [2]uint8{2, 3})
	}
}

func withAnOldNode(t *testing.T, which int, older, newer [2]uint8) {
	s := newStage(t, "cccnn", 0)
	last := s.procs[which] // of the old version
	for i, p := range s.procs {
		if p.speaks = newer; i == which {
			p.speaks = older
		}
		p.boot()
	}
	both, latest := older[1], newer[1]
	among := [4]int{}
	s.net.Filter = func(from, to string, b []byte) int64 {
		version := b[1]
		switch kind := packetNames[b[0]]; {
		case kind == "heartbeat" || kind == "greeting" || kind == "ask" || kind == "answer": // in the first version, but for views
		case last.speaks == older && (from == last.name || to == last.name) && version != both && s.now > 3000:
			t.Fatalf("%d ms: %s from %s to %s in version %d", s.now, kind, from, to, version)
		default:
			among[version]++
		}
		return 0
	}
	s.calm()
	if s.maker() != s.procs[0] || among[latest] == 0 {
		t.Fatalf("%s is the maker, %d packets in version %d", s.maker().name, among[latest], latest)
	}
	x, y := s.enter(s.procs[3], 1, "x"), s.enter(s.procs[4], 2, "y")
	s.shifts = true
	s.chats(1000, x, y)
	s.shifts = false
	s.procs[2].kill()
	s.chats(4000, x, y)
	s.procs[2].boot()
	s.chats(4000, x, y)
	s.calm()
	last.draining = true
	s.until("the old program can end", 10_000, last.node.Drained)
	last.kill()
	last.draining, last.speaks = false, newer
	last.boot()
	s.chats(6000, x, y)
	s.calm()
	among = [4]int{}
	s.chats(1000, x, y)
	s.says(x, all, 100)
	if among[both] > 0 || among[latest] == 0 {
		t.Errorf("%d packets are in version %d still, %d in version %d", among[both], both, among[latest], latest)
	}
	s.end()
	s.here(x, y)
}

// A node that has no version in common with the fleet ends with a sentence, be it older or newer, its name the least or not, its clock ahead or behind, and also under the name of
// one that lives. The fleet does not notice it.
func TestNoVersionInCommon(t *testing.T) {
	for _, c := range []struct {
		what         string
		fleet, comes [2]uint8
		name         string
		skew         int64
		says         string
	}{
		{"newer", [2]uint8{1, 1}, [2]uint8{7, 7}, "n9", 9000, "this one 7 to 7"},
		{"newer, and the least name", [2]uint8{1, 1}, [2]uint8{7, 7}, "a", 9000, "this one 7 to 7"},
		{"newer, with a clock that is behind", [2]uint8{1, 1}, [2]uint8{7, 7}, "n9", -900_000, "this one 7 to 7"},
		{"older", [2]uint8{7, 7}, [2]uint8{1, 1}, "n9", 9000, "this one 1 to 1"},
		{"older, with a clock that is behind", [2]uint8{7, 7}, [2]uint8{1, 1}, "a", -900_000, "this one 1 to 1"},
		{"newer, under a name that lives", [2]uint8{1, 1}, [2]uint8{7, 7}, "n1", 9000, "another process"},
		{"older, under a name that lives", [2]uint8{7, 7}, [2]uint8{1, 1}, "n1", 9000, "another process"},
	} {
		s := newStage(t, "aaa", 0)
		for _, p := range s.procs {
			p.speaks = c.fleet
			p.boot()
		}
		s.calm()
		x, members := s.enter(s.procs[1], 1, "x"), s.view().Members
		comer := &proc{w: s.world, i: 3, name: c.name, roles: s.procs[0].roles, host: "h9", skew: c.skew, base: 77 * ms, speaks: c.comes}
		comer.boot()
		s.procs = append(s.procs, comer)
		s.until(c.what+": it ends", 2000, func() bool { return comer.node.Err() != nil })
		if says := comer.node.Err().Error(); !strings.Contains(says, c.says) {
			t.Errorf("%s: %s", c.what, says)
		}
		comer.up = false
		comer.port.Close()
		s.procs = s.procs[:3]
		s.chats(4000, x)
		if s.view().Members != members {
			t.Errorf("%s: the fleet has noticed", c.what)
		}
		s.end()
		s.here(x)
	}
}
