package fleet

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// upgradableNode starts a node in a group of processes, which end with the test however often the node is replaced.
func upgradableNode(t *testing.T, name string, args ...string) *process {
	t.Helper()
	binary, err := pomelod()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, append(append(nodeFlags("127.0.0.1"), "-id", name), args...)...)
	return beginGroup(t, name, cmd)
}

// ready are the ids of the processes that were ready, one after the other.
func (p *process) ready() (pids []int) {
	for _, text := range strings.Split(p.log(), "\n") {
		var line struct {
			Msg string
			PID int
		}
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg == "ready" && line.PID != 0 {
			pids = append(pids, line.PID)
		}
	}
	return pids
}

// upgrade is pomelod upgrade, and tells what that says. After it the new process has said that it is ready.
func (p *process) upgrade() (said string, err error) {
	p.t.Helper()
	pids := p.ready()
	binary, _ := pomelod()
	out, err := exec.Command(binary, "upgrade", "-pid", fmt.Sprint(pids[len(pids)-1])).CombinedOutput()
	if err == nil { // it has taken over, and says so some time later
		eventually(p.t, p.name+" to be ready once more", func() bool { return len(p.ready()) > len(pids) })
	}
	return strings.TrimSpace(string(out)), err
}

// refuses is for how long a node stands still, or a partition moves, before requests are refused. A machine that has much else to do may do so to either.
const refuses = time.Second

// Each role of a fleet is replaced under load, several times. Nobody is cut off, told of a leave or refused, nothing is lost or doubled, and the others see the same runs.
func TestUpgradeOfNodes(t *testing.T) {
	s := startNATS(t, nil)
	nodes := []*process{
		upgradableNode(t, "all", "-nats", s.url(), "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0"),
		upgradableNode(t, "chat", "-nats", s.url(), "-role", "chat"),
		upgradableNode(t, "connector", "-nats", s.url(), "-role", "connector", "-listen", "127.0.0.1:0"),
	}
	for _, n := range nodes {
		n.waitReady()
	}
	all := nodes[0]
	eventually(t, "every partition to have a follower", func() bool {
		return all.metric("pomelod_fleet_unguarded_partitions") == 0 && all.metric("pomelod_fleet_members") == 3
	})
	before := runsSeen(all)
	p := gather(t, all.addr("gate"), 6, 4)
	p.talk()
	p.more(5)
	p.longest.Store(0)
	worst := time.Duration(0)
	for round := range 2 {
		for _, n := range nodes {
			eventually(t, "no copies to be on their way", func() bool { return all.metric("pomelod_fleet_unguarded_partitions") == 0 }) // if the machine stood still for 300 ms
			view := all.metric("pomelod_fleet_view")
			said, err := n.upgrade()
			if err != nil {
				t.Fatalf("%s: %v: %s", n.name, err, said)
			}
			p.more(5)
			longest := time.Duration(p.longest.Swap(0))
			worst = max(worst, longest)
			t.Logf("round %d: %s: %s; longest wait for an answer %v; views made %v", round, n.name, said, longest.Round(time.Millisecond), all.metric("pomelod_fleet_view") != view)
		}
	}
	acked := p.end()
	for _, room := range p.rooms {
		for _, u := range room {
			u.mu.Lock()
			if len(u.left) > 0 {
				t.Errorf("%s was told that %v have left", u.name, u.left)
			}
			u.mu.Unlock()
		}
	}
	if after := runsSeen(all); len(before) != 3 || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the fleet saw runs %v, and sees %v", before, after)
	}
	worst = max(worst, time.Duration(p.longest.Load()))
	if n := p.refused.Load(); n > 0 && worst < refuses {
		t.Errorf("%d sends were refused, and none waited for longer than %v", n, worst)
	} else if n > 0 {
		t.Logf("%d sends were refused where the machine stood still: one waited for %v", n, worst)
	}
	t.Logf("%d sends", acked)
	for _, n := range nodes { // the last ones end in order
		pids := n.ready()
		if len(pids) != 3 {
			t.Errorf("%d processes of %s were ready", len(pids), n.name)
		}
		_ = syscall.Kill(pids[len(pids)-1], syscall.SIGTERM)
	}
	for _, n := range nodes {
		n.wait(n.name+" to end", func() bool { return n.gone })
	}
}

// runsSeen are the runs of all nodes, as one of them sees them.
func runsSeen(p *process) map[string]uint64 {
	runs := make(map[string]uint64)
	seen, _ := (&member{process: p}).nodesSeen()
	for _, n := range seen {
		runs[n.Name] = n.Run
	}
	return runs
}
