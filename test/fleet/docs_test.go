package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/internal/freeport"
)

// fleetFences are the commands of a document that stand in fences ```sh fleet, without what is said of them.
func fleetFences(t *testing.T, path string) (fences [][]string) {
	t.Helper()
	text, err := os.ReadFile("../../" + path)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(text), "```sh fleet\n")[1:] {
		block, _, closed := strings.Cut(part, "```\n")
		if !closed {
			t.Fatalf("%s: a fence does not end", path)
		}
		var lines []string
		for line := range strings.Lines(block) {
			if line, _, _ = strings.Cut(line, " #"); strings.HasPrefix(line, "pomelod") {
				lines = append(lines, strings.TrimSpace(line))
			} else if !strings.HasPrefix(line, "#") {
				t.Fatalf("%s: %q is no command of pomelod", path, line)
			}
		}
		fences = append(fences, lines)
	}
	return fences
}

// The commands of documents that are about fleets make fleets, in which people talk. Addresses and folders are replaced, nothing else.
func TestCommandsOfTheManual(t *testing.T) {
	manual, admin := fleetFences(t, "docs/CLUSTER.md"), fleetFences(t, "docs/ADMIN.md")
	if len(manual) != 3 || len(manual[0]) != 4 || len(manual[1]) != 5 || len(manual[2]) != 1 || len(admin) != 1 || len(admin[0]) != 2 {
		t.Fatalf("there are\n%q\n%q", manual, admin)
	}

	t.Run("kinds of nodes", func(t *testing.T) {
		s, dir := startNATS(t, nil), gameServer(t)
		here := strings.NewReplacer("nats://h1:4222", s.url(), "nats://h2", fmt.Sprint("nats://127.0.0.1:", freeport.Get(t)), "game-server", dir) // nobody answers on h2: one that works is enough
		var nodes []*process
		for i, line := range manual[0] {
			args := strings.Fields(here.Replace(line))[1:]
			if strings.Contains(line, "-nats") {
				args = append(args, "-cluster-name", fmt.Sprint("kind-", i)) // each by itself: they are examples, and no fleet
			}
			if !strings.Contains(line, "-config") && !strings.Contains(line, "-role") {
				args = append(args, "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0")
			}
			nodes = append(nodes, launch(t, "", args...))
		}
		for _, n := range nodes {
			n.waitReady()
		}
	})

	t.Run("nodes on one machine", func(t *testing.T) {
		s := startNATS(t, nil)
		ports := regexp.MustCompile(`127\.0\.0\.1:30\d\d`)
		socket := filepath.Join(t.TempDir(), "s") // chat-1's, by which commands ask
		var nodes []*process
		for _, line := range manual[1] {
			line = strings.ReplaceAll(line, "nats://127.0.0.1:4222", s.url())
			args := strings.Fields(ports.ReplaceAllString(line, "127.0.0.1:0"))[1:]
			if len(nodes) == 0 {
				args = append(args, "-admin-socket", socket)
			}
			nodes = append(nodes, launch(t, "", args...))
		}
		for _, n := range nodes {
			n.waitReady()
		}
		p := gather(t, nodes[4].addr("gate"), 2, 4)
		p.talk()
		p.more(10)
		p.end()

		t.Setenv("POMELOD_ADMIN_SOCKET", socket)
		out, err := command(t, strings.Fields(admin[0][0])[1:]...)
		for _, name := range []string{"chat-1", "chat-2", "connector-1", "connector-2", "gate-1"} {
			if err != nil || !strings.Contains(out, name) {
				t.Errorf("%s: %v, without %s:\n%s", admin[0][0], err, name, out)
			}
		}
		if out, err := command(t, strings.Fields(admin[0][1])[1:]...); err != nil {
			t.Errorf("%s: %v\n%s", admin[0][1], err, out)
		}
		nodes[1].wait("chat-2 to end", func() bool { return nodes[1].gone })
	})

	t.Run("a Pomelo project", func(t *testing.T) {
		binary, err := pomelod()
		if err != nil {
			t.Fatal(err)
		}
		s := startNATS(t, nil)
		args := strings.Fields(strings.NewReplacer("nats://127.0.0.1:4222", s.url(), "game-server", gameServer(t)).Replace(manual[2][0]))[1:]
		p := beginGroup(t, "", exec.Command(binary, append(args, "-loops", "1", "-admin-socket", "none", "-limits", "off", "-drain", "100ms")...))
		p.wait("all entries to be ready", func() bool { return strings.Count(strings.Join(p.lines, "\n"), `"msg":"ready"`) == 3 })
	})
}

// gameServer is a Pomelo project of a gate, a connector and a chat server, on ports of its own.
func gameServer(t *testing.T) (dir string) {
	t.Helper()
	ports := freeport.Row(t, 6)
	dir = filepath.Join(t.TempDir(), "game-server")
	config := filepath.Join(dir, "config", "production")
	if err := os.MkdirAll(config, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"master.json": fmt.Sprintf(`{"id":"master-server-1","host":"127.0.0.1","port":%d}`, ports+2),
		"servers.json": fmt.Sprintf(`{"gate":[{"id":"gate-server-1","host":"127.0.0.1","clientPort":%d,"frontend":true}],"connector":[{"id":"connector-server-1","host":"127.0.0.1","port":1,"clientPort":%d,"frontend":true}],
			"chat":[{"id":"chat-server-1","host":"127.0.0.1","port":2}]}`, ports, ports+1),
	} {
		if err := os.WriteFile(filepath.Join(config, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
