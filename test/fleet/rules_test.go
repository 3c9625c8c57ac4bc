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

// A rule that is given at one node holds at all, also at one that was away, and after all have ended; so does its end.
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
	if out := command(a, "ban", "bob", "-reason", "enough"); !strings.Contains(out, "banned") {
		t.Errorf("ban: %s", out)
	}
	for why := ""; !strings.Contains(why, "enough"); { // at the other node, after what else it is told
		if _, err := bob.Next(); err != nil {
			if why = err.Error(); !strings.Contains(why, "enough") {
				t.Fatalf("bob's connection ends with %v", err)
			}
		}
	}
	for _, p := range []*process{a, b} {
		if _, err := enter(p, "bob"); !errors.Is(err, client.ErrRefused) {
			t.Errorf("bob at %s: %v", p.name, err)
		}
	}
	if code := b.stop(); code != 0 {
		t.Errorf("b ended with %d", code)
	}
	command(a, "mute", "eve")
	command(a, "unban", "bob")
	b = node("b") // whose file has the ban
	b.waitReady()
	eventually(t, "b to know what has changed", func() bool {
		rules := command(b, "rules")
		return strings.Contains(rules, "eve") && !strings.Contains(rules, "bob")
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
	if rules := command(b, "rules"); !strings.Contains(rules, "eve") || strings.Contains(rules, "bob") {
		t.Errorf("after the end of all: %s", rules)
	}
}
