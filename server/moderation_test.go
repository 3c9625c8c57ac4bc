//go:build linux

package server

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/router"
)

const sayHello = `{"content":"hello","target":"*"}`

// What is forbidden is refused with its reason, survives the process and ends when it is lifted.
func TestRulesHold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.json")
	a := administer(t, "-rules-file", file)
	alice, bob := login(t, a.addr("connector")), login(t, a.addr("connector"))
	alice.enter("alice", "lobby")
	bob.enter("bob", "lobby")

	if got := a.must("mute", "alice", "-room", "lobby", "-for", "1h"); got != "muted\n" {
		t.Errorf("mute: %q", got)
	}
	if got := alice.ask("chat.chatHandler.send", sayHello); !strings.HasPrefix(got, `{"code":500,"reason":"mute","wait":3`) { // less than an hour, by what has passed since
		t.Errorf("alice is answered %s", got)
	}
	if got := bob.ask("chat.chatHandler.send", sayHello); got != `{}` {
		t.Errorf("bob is answered %s", got)
	}
	a.must("lock", "lobby")
	carol := login(t, a.addr("connector"))
	if got := carol.enter("carol", "lobby"); got != `{"code":500,"error":true,"reason":"room_locked"}` {
		t.Errorf("carol is answered %s", got)
	}
	if got := bob.enter("bobby", "lobby"); !strings.Contains(got, `"users"`) { // who is in may take another name
		t.Errorf("bob is answered %s", got)
	}
	if got := a.must("ban", "bobby", "-reason", "enough"); got != "banned; 1 kicked\n" {
		t.Errorf("ban: %q", got)
	}
	if got := bob.kicked(); got != `{"reason":"enough"}` {
		t.Errorf("bob is told %s", got)
	}
	for _, name := range []string{"bobby", "ｂｏｂｂｙ"} {
		if got := carol.enter(name, "elsewhere"); got != `{"code":500,"error":true,"reason":"ban"}` {
			t.Errorf("%s is answered %s", name, got)
		}
	}
	for _, tc := range []struct{ args, want string }{
		{"ban -address 127.0.0.0/8", "cannot be banned"},
		{"ban -address 0.0.0.0/0", "cannot be banned"},
		{"unban nobody", "there is no such rule"},
		{"unmute alice", "there is no such rule"}, // that is the mute of all rooms
	} {
		if out, code := a.command(strings.Fields(tc.args)...); code != 1 || !strings.Contains(out, tc.want) {
			t.Errorf("%s: exit %d, %s", tc.args, code, out)
		}
	}
	rules := a.must("rules")
	for _, want := range []string{"alice  lobby", "lock  lifted", "ban   lifted", "enough"} {
		if !strings.Contains(rules, want) {
			t.Errorf("no %q in\n%s", want, rules)
		}
	}
	a.stop()

	a = administer(t, "-rules-file", file)
	if got := a.must("rules"); got != rules {
		t.Errorf("after a restart\n%s, before\n%s", got, rules)
	}
	dora := login(t, a.addr("connector"))
	if got := dora.enter("bobby", "r"); got != `{"code":500,"error":true,"reason":"ban"}` {
		t.Errorf("bobby is answered %s", got)
	}
	if got := dora.enter("dora", "lobby"); got != `{"code":500,"error":true,"reason":"room_locked"}` {
		t.Errorf("dora is answered %s", got)
	}
	a.must("unlock", "lobby")
	a.must("unmute", "alice", "-room", "lobby")
	a.must("unban", "bobby")
	if got := dora.enter("bobby", "lobby"); got != `{"users":["bobby"]}` {
		t.Errorf("bobby is answered %s", got)
	}
	if text := readFile(t, file); !strings.Contains(text, `"rules": []`) {
		t.Errorf("the file has\n%s", text)
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 {
		t.Errorf("left beside the file: %v, %v", entries, err)
	}
}

// A file that is no file of rules is refused before anything starts; one that cannot be written changes nothing.
func TestRulesFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "rules.json")
	for _, tc := range []struct{ text, want string }{
		{"{", "correct the file or move it away"},
		{`{"version":2}`, "version 2"},
		{`{"version":1,"rules":[{"kind":"bann","name":"x"}]}`, "rule 1"},
		{`{"version":1,"rules":[{"kind":"ban","name":"x"},{"kind":"ban","address":"127.0.0.1"}]}`, "rule 2"},
		{`{"version":1,"rules":[{"kind":"ban","address":"10.0.0.0/40"}]}`, "rule 1"},
		{`{"version":1,"rules":[{"kind":"ban","address":"10.0.0.0/8"},{"kind":"mute","name":"x"},{"kind":"lock","room":"r"}]}`, ""},
	} {
		if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, stderr, code := outcome(t, nil, "-rules-file", file, "-check-config")
		if want := map[bool]int{true: 2, false: 0}[tc.want != ""]; code != want || !strings.Contains(stderr, tc.want) {
			t.Errorf("%s: exit %d, %s", tc.text, code, stderr)
		}
	}
	var held *router.Moderation
	m := &moderation{path: filepath.Join(dir, "nowhere", "rules.json"), apply: func(m *router.Moderation) { held = m }}
	if kept, err := m.SetRule(admin.Rule{Kind: admin.RuleBan, Name: "x"}, false); err == nil || kept || held != nil || len(m.rules) != 0 {
		t.Errorf("without a directory: %v, %v, %v", kept, err, held)
	}
	m.path = ""
	past, soon := time.Now().Add(-time.Second), time.Now().Add(time.Hour)
	for _, r := range []admin.Rule{{Kind: admin.RuleBan, Name: "x"}, {Kind: admin.RuleBan, Name: "x", Until: &soon}, {Kind: admin.RuleBan, Address: "192.0.2.0/24", Until: &past}} {
		if kept, err := m.SetRule(r, false); kept || err != nil {
			t.Errorf("in memory: %v, %v", kept, err)
		}
	}
	if len(held.Names) != 1 || held.Names["x"] != soon.UnixMilli() || len(held.Nets) != 0 {
		t.Errorf("held: %+v", held)
	}
	m.exempt = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	if _, err := m.SetRule(admin.Rule{Kind: admin.RuleBan, Address: "10.0.0.0/8"}, false); err == nil {
		t.Error("a network with a proxy in it is banned")
	}
}

// A reload reads all files again or none, and says which; SIGHUP does the same.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	rules, tokens := filepath.Join(dir, "rules.json"), filepath.Join(dir, "tokens")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(tokens, "ann 0123456789abcdef\n")
	a := administer(t, "-rules-file", rules, "-admin-token-file", tokens)
	c := login(t, a.addr("connector"))
	write(rules, `{"version":1,"rules":[{"kind":"ban","name":"x"}]}`)
	write(tokens, "ann short\n")
	if out, code := a.command("reload"); code != 1 || !strings.Contains(out, "everything stays as it was") || !strings.Contains(out, "shorter than 16") {
		t.Errorf("with a wrong file: exit %d, %s", code, out)
	}
	if got := c.enter("x", "r"); got != `{"users":["x"]}` {
		t.Errorf("half of a reload: %s", got)
	}
	write(tokens, "ann fedcba9876543210\n")
	if out := a.must("reload"); !strings.Contains(out, "rules") || !strings.Contains(out, "tokens") {
		t.Errorf("reload: %s", out)
	}
	if got := login(t, a.addr("connector")).enter("x", "other"); got != `{"code":500,"error":true,"reason":"ban"}` {
		t.Errorf("x is answered %s", got)
	}
	write(rules, `{"version":1,"rules":[]}`)
	_ = a.cmd.Process.Signal(syscall.SIGHUP)
	a.waitLog("SIGHUP: files were read again")
	if got := login(t, a.addr("connector")).enter("x", "other"); got != `{"users":["x"]}` {
		t.Errorf("x is answered %s", got)
	}
	a.stop()
	if out := administer(t).must("reload"); out != "there is no file to be read again\n" {
		t.Errorf("without files: %s", out)
	}
}
