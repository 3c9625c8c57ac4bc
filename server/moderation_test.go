//go:build linux

package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/cluster"
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
		{"ban -address ::ffff:0:0/96", "cannot be banned"},
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
		{`{"version":1,"rules":[{"kind":"ban","name":"x"},{"kind":"ban","address":"127.0.0.1"}]}`, "cannot be banned"},
		{`{"version":1,"rules":[{"kind":"ban","address":"10.0.0.0/40"}]}`, "rule 1"},
		{`{"version":1,"rules":[{"kind":"ban","address":"::ffff:0:0/96"}]}`, "has 127.0.0.0/8 in it"},
		{`{"version":1,"rules":[{"kind":"ban","name":"x","untill":"2026-01-01T00:00:00Z"}]}`, "untill"},
		{`{"version":1,"rules":[]} {}`, "behind the end"},
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
	for by, want := range map[string]int{"": 2, `,"by":"ann"`: 0} { // ann gave it at a node without proxies
		if err := os.WriteFile(file, []byte(`{"version":1,"rules":[{"kind":"ban","address":"10.0.0.0/8"`+by+`}]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, stderr, code := outcome(t, nil, "-rules-file", file, "-trusted-proxies", "10.1.0.0/16", "-check-config"); code != want {
			t.Errorf("a ban with proxies in it%s: exit %d, %s", by, code, stderr)
		}
	}
}

// ruled is moderation without a server.
func ruled(path string) (m *moderation, held func() *router.Moderation) {
	now := &router.Moderation{}
	m = &moderation{path: path, apply: func(at *router.Moderation) { now = at }}
	return m, func() *router.Moderation { return now }
}

func ban(name string) admin.Rule {
	return admin.Rule{Kind: admin.RuleBan, Name: name, At: time.Now().UTC().Truncate(time.Millisecond)}
}

// What cannot be written changes nothing; an hour takes the place of for ever; what is over is not counted.
func TestRulesInMemory(t *testing.T) {
	m, held := ruled(filepath.Join(t.TempDir(), "nowhere", "rules.json"))
	if kept, err := m.SetRule(ban("x"), false); !errors.As(err, new(*admin.RuleFileError)) || kept || len(held().Names) != 0 || len(m.rules) != 0 {
		t.Errorf("without a directory: %v, %v, %v", kept, err, held())
	}
	m.path = ""
	past, soon := time.Now().Add(-time.Second), time.Now().Add(time.Hour)
	for _, r := range []admin.Rule{ban("x"), {Kind: admin.RuleBan, Name: "x", Until: &soon}, {Kind: admin.RuleBan, Address: "192.0.2.0/24", Until: &past}} {
		if kept, err := m.SetRule(r, false); kept || err != nil {
			t.Errorf("in memory: %v, %v", kept, err)
		}
	}
	if at := held(); len(at.Names) != 1 || at.Names["x"] != soon.UnixMilli() || len(at.Nets) != 0 {
		t.Errorf("held: %+v", at)
	}
	m.exempt = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	if _, err := m.SetRule(admin.Rule{Kind: admin.RuleBan, Address: "10.0.0.0/8"}, false); err == nil {
		t.Error("a network with a proxy in it is banned")
	}
	var many []cluster.Note
	for i := range maxRules - 2 {
		many = append(many, noteOf(ban(fmt.Sprint("n", i))))
	}
	for i := range 100 {
		r := ban(fmt.Sprint("over", i))
		r.Until = &past
		many = append(many, noteOf(r))
	}
	m.take(many)
	if _, err := m.SetRule(ban("last"), false); err != nil {
		t.Errorf("rules that are over count: %v", err)
	}
	if _, err := m.SetRule(ban("one more"), false); err == nil || !strings.Contains(err.Error(), "10000 rules") {
		t.Errorf("one too many: %v", err)
	}
	if _, err := m.SetRule(ban("last"), false); err != nil {
		t.Errorf("one that is there already: %v", err)
	}
}

// A rule is about all spellings of a name: a new one takes the place of those about others, and lifting it lifts all.
func TestRulesOfSpellings(t *testing.T) {
	m, held := ruled("")
	m.spelling = strings.ToLower
	m.take([]cluster.Note{noteOf(ban("bob")), noteOf(ban("BOB")), noteOf(ban("ann"))}) // as a file may say
	if _, err := m.SetRule(ban("Bob"), false); err != nil || len(held().Names) != 2 {
		t.Errorf("%v, %v", held().Names, err)
	}
	if _, err := m.SetRule(ban("boB"), true); err != nil || len(held().Names) != 1 {
		t.Errorf("%v, %v", held().Names, err)
	}
	if _, err := m.SetRule(ban("boB"), true); !errors.Is(err, app.ErrAbsent) {
		t.Errorf("lifted twice: %v", err)
	}
}

// Processes that have the same file keep each other's rules, at once and one after the other, and what one lifts is not brought back by another.
func TestRulesFileOfSeveral(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.json")
	const processes, each = 4, 10
	all := make([]*moderation, processes)
	var working sync.WaitGroup
	for i := range all {
		m, _ := ruled(path)
		all[i] = m
		working.Go(func() {
			for j := range each {
				_, err := m.SetRule(ban(fmt.Sprint(i, " ", j)), false)
				for err != nil && strings.Contains(err.Error(), "another process has had") { // for longer than an operator waits, on a slow disk
					_, err = m.SetRule(ban(fmt.Sprint(i, " ", j)), false)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	working.Wait()
	for _, m := range all {
		m.refresh()
		if rules, _ := m.Rules(); len(rules) != processes*each {
			t.Fatalf("%d rules, %d were given", len(rules), processes*each)
		}
	}
	if _, err := all[0].SetRule(ban("1 1"), true); err != nil {
		t.Fatal(err)
	}
	if _, err := all[1].SetRule(ban("another"), false); err != nil {
		t.Fatal(err)
	}
	last, held := ruled(path)
	if last.refresh(); len(held().Names) != processes*each {
		t.Errorf("%d rules", len(held().Names))
	}
	if _, has := held().Names["1 1"]; has {
		t.Error("another process has brought back what was lifted")
	}
}

// A reload takes what somebody has changed by hand, and keeps what was decided between its reading and its use.
func TestRulesEditedByHand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.json")
	m, held := ruled(path)
	kicked := make(chan string, 99)
	m.kick = func(_ context.Context, r admin.Rule) error { kicked <- cmp.Or(r.Name, r.Address); return nil }
	must := func(r admin.Rule, lift bool) {
		t.Helper()
		if _, err := m.SetRule(r, lift); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"stays", "leaves", "changes", "lifted meanwhile"} {
		must(ban(name), false)
	}
	names := func() string { return fmt.Sprint(slices.Sorted(maps.Keys(held().Names))) }
	text := readFile(t, path)
	entry := func(name string) string {
		for e := range strings.SplitSeq(text, "    {") {
			if strings.Contains(e, strconv.Quote(name)) {
				return "{" + e[:strings.Index(e, "}")+1]
			}
		}
		t.Fatalf("no %s in %s", name, text)
		return ""
	}
	changed := strings.Replace(entry("changes"), `"kind"`, `"until": "2126-01-01T00:00:00Z", "kind"`, 1)
	edited := `{"version":1,"rules":[` + strings.Join([]string{entry("stays"), changed, entry("lifted meanwhile"), `{"kind":"ban","name":"new"}`, `{"kind":"ban","address":"10.1.2.3/8"}`, `{"kind":"ban","address":"192.0.2.7"}`}, ",") + `]}`
	if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	use, err := m.read()
	if err != nil {
		t.Fatal(err)
	}
	m.take([]cluster.Note{noteOf(ban("between"))}) // as the fleet tells
	m.take([]cluster.Note{liftOf("ban\x00lifted meanwhile\x00\x00", wallMillis()+1)})
	use()
	if got := names(); got != "[between changes new stays]" {
		t.Errorf("after the reload: %s", got)
	}
	if held().Names["changes"] == 0 || len(held().Nets) != 2 || held().Nets[netip.MustParsePrefix("10.0.0.0/8")] != 0 {
		t.Errorf("%v", held())
	}
	var sent []string
	for range 4 { // the others are in the file as they were, and whoever they are about has gone
		sent = append(sent, <-kicked)
	}
	if slices.Sort(sent); fmt.Sprint(sent) != "[10.0.0.0/8 192.0.2.7/32 changes new]" {
		t.Errorf("after the reload %q are kicked", sent)
	}
	again, now := ruled(path) // and the file says the same
	if again.refresh(); fmt.Sprint(now()) != fmt.Sprint(held()) {
		t.Errorf("the file says\n%v, not\n%v", now(), held())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if use, err = m.read(); err != nil {
		t.Fatal(err)
	}
	if use(); names() != "[between changes new stays]" || !strings.Contains(readFile(t, path), "between") {
		t.Errorf("a file that has gone lifts rules: %s", names())
	}
}

// What other nodes have decided holds, is written, and kicks whom it is about.
func TestRulesOfOtherNodes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.json")
	m, held := ruled(path)
	kicked := make(chan string, 9)
	m.kick = func(_ context.Context, r admin.Rule) error { kicked <- r.Name; return nil }
	strange := noteOf(ban("zed"))
	strange.Text = []byte(`{"kind":"shadow","name":"zed"}`)
	m.News([]cluster.Note{noteOf(ban("bob")), liftOf("ban\x00ann\x00\x00", wallMillis()), strange, noteOf(admin.Rule{Kind: admin.RuleLock, Room: "r", At: time.Now()})})
	if len(held().Names) != 1 || len(held().Locked) != 1 {
		t.Errorf("%+v", held())
	}
	if name := <-kicked; name != "bob" {
		t.Errorf("%s is kicked", name)
	}
	until(t, "the file has the ban and what was lifted", func() bool {
		text := string(must(os.ReadFile(path)))
		return strings.Contains(text, "bob") && strings.Contains(text, `"lifted"`)
	})
	use, err := m.read()
	if err != nil {
		t.Fatal(err)
	}
	use()
	if n, has := m.notes.Get(strange.Key); !has || n.Text == nil {
		t.Error("a reload has lifted what it does not understand")
	}
	old := ban("ann")
	old.At = old.At.Add(-time.Hour)
	if m.News([]cluster.Note{noteOf(old)}); len(held().Names) != 1 {
		t.Error("a node that was away has brought back what was lifted")
	}
}

// As long as what other nodes have decided is not in the file, a reload does not take it for lifted; and what cannot be written keeps nobody from being kicked.
func TestRulesOnTheirWayToTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.json")
	m, held := ruled(path)
	kicks, goOn := make(chan string, 9), make(chan bool)
	m.kick = func(_ context.Context, r admin.Rule) error { kicks <- r.Name; <-goOn; return nil }
	settled := func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return !m.settling
	}
	if _, err := m.SetRule(ban("ann"), false); err != nil {
		t.Fatal(err)
	}
	m.News([]cluster.Note{noteOf(ban("bob"))})
	<-kicks // of bob, who is not in the file yet
	use, err := m.read()
	if err != nil {
		t.Fatal(err)
	}
	if use(); len(held().Names) != 2 || !strings.Contains(readFile(t, path), "bob") {
		t.Errorf("a reload has lifted what was not written yet: %v, %s", held().Names, readFile(t, path))
	}
	close(goOn)
	until(t, "the file has the ban", settled)

	m, _ = ruled(filepath.Join(filepath.Dir(path), "nowhere", "rules.json"))
	kicks, goOn = make(chan string, 9), make(chan bool)
	m.kick = func(_ context.Context, r admin.Rule) error { kicks <- r.Name; <-goOn; return nil }
	m.News([]cluster.Note{noteOf(ban("bob"))})
	<-kicks
	m.News([]cluster.Note{noteOf(ban("eve"))})
	close(goOn)
	if name := <-kicks; name != "eve" {
		t.Errorf("%s is kicked", name)
	}
	until(t, "the ban is given up after a failed write", settled)
}

// until fails the test unless ok comes true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in %v it has not come: %s", deadline, what)
		}
	}
}

func must[T any](v T, _ error) T { return v }

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
