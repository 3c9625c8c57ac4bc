package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/internal/freeport"
)

// command runs a command of pomelod and returns what it prints.
func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	binary, err := pomelod()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, args...).CombinedOutput()
	return string(out), err
}

// states are the nodes that pomelod list tells, by name: state, owned and followed partitions. Without an answer there are none.
func states(t *testing.T, admin string) map[string]string {
	t.Helper()
	var all struct {
		Unguarded int
		Nodes     []struct {
			Name, State string
			Owns        int
		}
	}
	found := map[string]string{}
	out, err := command(t, "list", "-o", "json", "-admin", admin)
	if err != nil || json.Unmarshal([]byte(out), &all) != nil {
		return found
	}
	for _, n := range all.Nodes {
		found[n.Name] = n.State
		if all.Unguarded > 0 && n.State == "ok" {
			found[n.Name] = "unguarded"
		}
	}
	return found
}

// pids are the processes that pomelod start said to have started, the last one of each node.
func (p *process) pids() map[string]int {
	found := map[string]int{}
	for line := range strings.Lines(p.log()) {
		var l struct {
			Msg, Node string
			Pid       int
		}
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "started" {
			found[l.Node] = l.Pid
		}
	}
	return found
}

// pomelod start makes a process of each entry, starts again what has crashed, leaves down what was drained, and ends all in order.
func TestStart(t *testing.T) {
	s := startNATS(t, nil)
	ports := freeport.Row(t, 8)
	dir := filepath.Join(t.TempDir(), "game-server", "config", "production")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"master.json": fmt.Sprintf(`{"id":"master-server-1","host":"127.0.0.1","port":%d}`, ports+2),
		"servers.json": fmt.Sprintf(`{"gate":[{"id":"gate-1","host":"127.0.0.1","clientPort":%d,"frontend":true}],"connector":[{"id":"connector-1","host":"127.0.0.1","port":1,"clientPort":%d,"frontend":true}],
			"chat":[{"id":"chat-1","host":"127.0.0.1","port":2},{"id":"chat-2","host":"127.0.0.1","port":3},{"id":"chat-3","host":"192.0.2.7","port":3}]}`, ports, ports+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sockets, err := os.MkdirTemp("", "run") // the path of a socket has 108 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	t.Setenv("POMELOD_ADMIN", "127.0.0.1:1") // as somebody has it for pomelod list
	p := begin(t, "start", "start", "-e", "production", "-d", filepath.Dir(filepath.Dir(dir)), "-nats", s.url(), "-bind", "127.0.0.1", "-loops", "1", "-limits", "off", "-drain", "100ms", "-admin-socket", filepath.Join(sockets, "admin.sock"))
	admin := fmt.Sprint("127.0.0.1:", ports+2) // the gate's: it is the first entry
	all := func(names ...string) func() bool {
		return func() bool {
			now := states(t, admin)
			for _, name := range names {
				if now[name] != "ok" {
					return false
				}
			}
			return len(now) == len(names)
		}
	}
	eventually(t, "four nodes, as many as are of this machine", all("gate-1", "connector-1", "chat-1", "chat-2"))
	if out, err := command(t, "list", "-admin", fmt.Sprint("127.0.0.1:", ports+5)); err != nil || !strings.Contains(out, "every partition has a follower") {
		t.Errorf("the last entry's admin address: %v, %s", err, out)
	}
	for _, socket := range []string{"admin", "connector-1", "chat-1", "chat-2"} {
		path := filepath.Join(sockets, socket+".sock")
		if out, err := command(t, "list", "-admin", path); err != nil || !strings.Contains(out, "4 nodes") {
			t.Errorf("%s: %v, %s", socket, err, out)
		}
		if out, err := command(t, "rooms", "-admin-socket", path); err != nil {
			t.Errorf("%s: %v, %s", socket, err, out)
		}
	}
	talk := gather(t, fmt.Sprint("127.0.0.1:", ports), 3, 2)
	talk.talk()
	talk.more(10)
	before := p.pids()["chat-1"]
	if err := syscall.Kill(before, syscall.SIGABRT); err != nil { // ends it as a panic would, with the exit code that wrong settings have too
		t.Fatal(err)
	}
	t.Logf("each room has 10 more sends %v after the crash", talk.more(10))
	eventually(t, "the node that has crashed to be back", func() bool { return p.pids()["chat-1"] != before && all("gate-1", "connector-1", "chat-1", "chat-2")() })
	if out, err := command(t, "drain", "chat-2", "-admin", filepath.Join(sockets, "admin.sock")); err != nil || !strings.Contains(out, "chat-2 has left the fleet") {
		t.Errorf("drain: %v\n%s", err, out)
	}
	p.wait("the drained node to stay down", func() bool {
		return strings.Contains(strings.Join(p.lines, "\n"), "a node has ended in order; it stays down")
	})
	talk.more(10)
	if out, err := command(t, "drain", "chat-2", "-admin", filepath.Join(sockets, "admin.sock")); err == nil || !strings.Contains(out, "it has chat-1, connector-1, gate-1") {
		t.Errorf("once more: %v\n%s", err, out)
	}
	t.Logf("%d acknowledged sends reached everybody", talk.end())
	if code := p.stop(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	for name, pid := range p.pids() {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}
