package fleet

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/client"
)

// Who is kicked at one node is kicked at all. A rule or a policy that is given at one node holds at all, also at one that was away, and after all have ended; so does its end.
func TestRulesOfAFleet(t *testing.T) {
	s := startNATS(t, nil)
	dir := t.TempDir()
	node := func(name string) *process {
		return launch(t, name, "-nats", s.url(), "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0", "-admin-socket", filepath.Join(dir, name+".sock"), "-rules-file", filepath.Join(dir, name+".json"))
	}
	command := func(at *process, words ...string) string {
		t.Helper()
		binary, err := pomelod()
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(binary, append(words, "-admin-socket", filepath.Join(dir, at.name+".sock"))...).CombinedOutput()
		if err != nil {
			t.Fatalf("pomelod %q: %v\n%s", words, err, out)
		}
		return string(out)
	}
	enter := func(at *process, name string) (*client.Client, error) {
		t.Helper()
		c := dial(t, at.addr("connector"), false)
		t.Cleanup(func() { c.Close() })
		return c, c.Request("connector.entryHandler.enter", map[string]string{"username": name, "rid": "lobby"}, nil)
	}
	a, b := node("a"), node("b")
	a.waitReady()
	b.waitReady()
	var bob *client.Client
	eventually(t, "bob to enter", func() (entered bool) {
		var err error
		bob, err = enter(b, "bob")
		return err == nil
	})
	ends := func(c *client.Client, with string) {
		t.Helper()
		for { // after what else it is told
			if _, err := c.Next(); err != nil {
				if !strings.Contains(err.Error(), with) {
					t.Fatalf("the connection ends with %v, want %s", err, with)
				}
				return
			}
		}
	}
	var ann *client.Client // nil: she is not there
	for reason, words := range map[string][]string{"by name": {"bob"}, "by address": {"-address", "127.0.0.1"}, "all go": {"-all"}} {
		var err error
		if ann == nil {
			if ann, err = enter(a, "ann, "+reason); err != nil {
				t.Fatal(err)
			}
		}
		here := map[bool]string{true: "0", false: "1"}[reason == "by name"]
		if out := command(a, append([]string{"kick", "-reason", reason}, words...)...); !strings.Contains(out, "kicked: "+here+" on this node, and whom the others have") {
			t.Errorf("kick %s: %s", reason, out)
		}
		ends(bob, reason) // at the other node
		if here == "1" {  // else she stays: the server would notice her going some time later, and count her in the next kick
			ends(ann, reason)
			ann = nil
		}
		eventually(t, "bob to come back", func() bool {
			bob, err = enter(b, "bob")
			return err == nil
		})
	}
	if out := command(a, "ban", "bob", "-reason", "enough"); !strings.Contains(out, "banned") {
		t.Errorf("ban: %s", out)
	}
	ends(bob, "enough")
	for _, p := range []*process{a, b} {
		if _, err := enter(p, "bob"); !errors.Is(err, client.ErrRefused) {
			t.Errorf("bob at %s: %v", p.name, err)
		}
	}
	one := dial(t, a.addr("connector"), false)
	t.Cleanup(func() { one.Close() })
	if err := one.Request("connector.entryHandler.enter", map[string]string{"username": "one", "rid": "hall"}, nil); err != nil {
		t.Fatal(err)
	}
	if out := command(a, "policy", "hall", "-slow", "1h", "-members", "1"); !strings.Contains(out, "slow     1h0m0s") { // whichever node has the room
		t.Errorf("policy: %s", out)
	}
	eventually(t, "b to know the policy", func() bool { return strings.Contains(command(b, "policy", "hall"), "slow     1h0m0s") })
	eventually(t, "the owner to have the room slow", func() bool {
		err := one.Request("chat.chatHandler.send", map[string]string{"content": "x", "target": "*"}, nil)
		return err != nil && strings.Contains(err.Error(), "slow_mode")
	})
	eventually(t, "the room to take in nobody", func() bool {
		two := dial(t, b.addr("connector"), false)
		defer two.Close()
		err := two.Request("connector.entryHandler.enter", map[string]string{"username": "two", "rid": "hall"}, nil)
		return err != nil && strings.Contains(err.Error(), "room_members")
	})
	if code := b.stop(); code != 0 {
		t.Errorf("b ended with %d", code)
	}
	command(a, "mute", "eve")
	command(a, "unban", "bob")
	command(a, "policy", "hall", "-slow", "default")
	b = node("b") // whose file has the ban
	b.waitReady()
	eventually(t, "b to know what has changed", func() bool {
		rules := command(b, "rules")
		return strings.Contains(rules, "eve") && !strings.Contains(rules, "bob") && strings.Contains(rules, "members=1") && !strings.Contains(rules, "slow=")
	})
	if !strings.Contains(command(a, "rules"), "eve") || strings.Contains(command(a, "rules"), "bob") {
		t.Errorf("b has brought back what was lifted: %s", command(a, "rules"))
	}
	eventually(t, "b's file to say so", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "b.json"))
		return err == nil && strings.Contains(string(text), "eve")
	})
	a.kill()
	b.kill()
	b = node("b") // without a, by its file
	b.waitReady()
	if rules := command(b, "rules"); !strings.Contains(rules, "eve") || strings.Contains(rules, "bob") || !strings.Contains(rules, "members=1") {
		t.Errorf("after the end of all: %s", rules)
	}
}
