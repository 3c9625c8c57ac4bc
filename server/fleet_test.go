//go:build linux

package server

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/fleet"
	"github.com/pomelod/pomelod/router"
)

// fleetProject is a servers.json with an entry of each type.
const fleetProject = `{"gate":[{"id":"gate-1","host":"h","clientPort":3014}],
	"connector":[{"id":"connector-1","host":"chat.example.com","clientPort":3050},{"id":"connector-2","host":"h2","clientPort":3051}],
	"chat":[{"id":"chat-1","host":"h","port":6050}]}`

// Settings of a fleet that cannot work are one sentence that says what to write; -check-config says it too, and no password.
func TestFleetMistakesAreExplained(t *testing.T) {
	dir := configDir(t, map[string]string{"servers.json": fleetProject})
	for _, tc := range []struct{ args, want string }{
		{"-role chat", "give -nats too"},
		{"-id x", "give -nats too"},
		{"-cluster-quorum 2", "give -nats too"},
		{"-followers 0", "give -nats too"},
		{"-nats-creds f", "give -nats too"},
		{"-gate-policy load", "give -nats too"},
		{"-link-memory 1MiB", "give -nats too"},
		{"-cluster-name c", "give -nats too"},
		{"-nats nats://u:secret@h -role chat,master", "gate, connector or chat"},
		{"-nats nats://u:secret@h -role gate -gate none", "needs its address"},
		{"-nats nats://u:secret@h -role connector -gate :1", "add gate to -role"},
		{"-nats nats://u:secret@h -role chat -listen :1", "add connector to -role"},
		{"-nats nats://u:secret@h -role gate -advertise h", "add connector to -role"},
		{"-nats nats://u:secret@h -role chat -tls-self -tls-listen :1", "without the role"},
		{"-nats nats://u:secret@h -role chat -tls-self -tls-gate :1", "without the role"},
		{"-nats http://u:secret@h", "nats:// or tls://"},
		{"-nats nats://u:secret@h/x", "no more than"},
		{"-nats nats://u:secret@h -nats-ca /no/such/file", "/no/such/file"},
		{"-nats nats://u:secret@h -nats-cert /no/such/file", "both files"},
		{"-nats nats://u:secret@h -cluster-name a.b", "letters, digits"},
		{"-nats nats://u:secret@h -cluster-quorum -1", "more than half"},
		{"-nats nats://u:secret@h -followers 2", "must be 1, or 0"},
		{"-nats nats://u:secret@h -followers -1", "must be 1, or 0"},
		{"-nats nats://u:secret@h -gate-policy random", "hash or load"},
		{"-nats nats://u:secret@h -link-memory 1KiB", "at least 1MiB"},
		{"-nats nats://u:secret@h -id " + strings.Repeat("x", 256), "255"},
		{"-nats nats://u:secret@h -advertise " + strings.Repeat("x", 256), "shorten -advertise"},
		{"-nats nats://u:secret@h -config " + dir + " -env production", "-id gate-1 or -id connector-1"},
		{"-nats nats://u:secret@h -config " + dir + " -env production -id chat-9", "it has gate-1, connector-1, connector-2, chat-1"},
		{"-nats nats://u:secret@h -config " + dir + " -env production -id chat-1 -role chat", "drop it"},
	} {
		stdout, stderr, code := outcome(t, nil, append(strings.Fields(tc.args), "-check-config")...)
		if code != 2 || !strings.Contains(stderr, tc.want) || strings.Contains(stdout+stderr, "secret") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q, which does not say %q, is no sentence or shows a password", tc.args, code, stderr, tc.want)
		}
	}
	stdout, _, _ := outcome(t, nil, "-nats", "nats://u:secret@h", "-print-config")
	if strings.Contains(stdout, "secret") || !strings.Contains(stdout, "nats://***@h") {
		t.Errorf("-print-config shows %s", stdout)
	}
	c := parse(t, "-nats", "nats://h")
	if _, err := c.plan(app.New()); err != nil {
		t.Errorf("a program's handlers in a fleet: %v", err)
	}
}

func parse(t *testing.T, args ...string) *settings {
	t.Helper()
	c, err := parseFlags(args, nil, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What a node does decides what it listens on, and gives it a name.
func TestRoles(t *testing.T) {
	dir := configDir(t, map[string]string{"servers.json": fleetProject})
	host := hostName()
	for _, tc := range []struct {
		args, id  string
		roles     cluster.Roles
		listeners []string
	}{
		{"", host + "-all", allRoles, []string{"connector", "gate"}},
		{"-gate none", host + "-all", cluster.RoleConnector | cluster.RoleChat, []string{"connector"}},
		{"-role gate", host + "-gate", cluster.RoleGate, []string{"gate"}},
		{"-role chat,connector", host + "-connector-chat", cluster.RoleConnector | cluster.RoleChat, []string{"connector"}},
		{"-role chat -id c", "c", cluster.RoleChat, nil},
		{"-role connector -tls-self -id c", "c", cluster.RoleConnector, []string{"connector", "connector-tls"}},
		{"-id gate-1 -config " + dir, "gate-1", cluster.RoleGate, []string{"gate-1"}},
		{"-id connector-2 -config " + dir, "connector-2", cluster.RoleConnector, []string{"connector-2"}},
		{"-id chat-1 -config " + dir, "chat-1", cluster.RoleChat, nil},
	} {
		c := parse(t, append(strings.Fields(tc.args), "-nats", "nats://h", "-env", "production")...)
		if !strings.Contains(tc.args, "-config") {
			c = parse(t, append(strings.Fields(tc.args), "-nats", "nats://h")...)
		}
		p, err := c.plan(nil)
		if err != nil {
			t.Errorf("%s: %v", tc.args, err)
			continue
		}
		var names []string
		for _, l := range p.listeners {
			names = append(names, l.profile.Name)
		}
		if c.fleet.id != tc.id || cluster.Roles(c.fleet.roles) != tc.roles || !slices.Equal(names, tc.listeners) {
			t.Errorf("%s: %s does %s on %q", tc.args, c.fleet.id, c.fleet.roles.String(), names)
		}
	}
}

// Each entry of servers.json has an admin address of its own, on which no client comes.
func TestAdminOfAnEntry(t *testing.T) {
	dir := configDir(t, map[string]string{"servers.json": strings.ReplaceAll(fleetProject, "3014", "3005"), "master.json": `{"port":3004}`})
	other := configDir(t, map[string]string{"servers.json": fleetProject})
	for _, tc := range []struct{ args, want string }{
		{"-id gate-1 -config " + dir, "127.0.0.1:3004"},
		{"-id connector-1 -config " + dir, "127.0.0.1:3006"},
		{"-id chat-1 -config " + dir, "127.0.0.1:3008"},
		{"-id chat-1 -config " + dir + " -admin none", ""},
		{"-id chat-1 -config " + dir + " -admin :9", ":9"},
		{"-id gate-1 -config " + other, "127.0.0.1:3005"},
		{"-id connector-2 -config " + other, "127.0.0.1:3007"},
	} {
		p, err := parse(t, append(strings.Fields(tc.args), "-nats", "nats://h", "-env", "production")...).plan(nil)
		if err != nil || p.admin != tc.want {
			t.Errorf("%s: %v, want %q; %v", tc.args, p, tc.want, err)
		}
	}
}

// A node that ends waits for others to take what it has, if there are others.
func TestHandOverWaits(t *testing.T) {
	for _, tc := range []struct {
		s    fleet.Status
		want int
	}{
		{fleet.Status{Owned: 512}, 0}, // alone, or all others end too
		{fleet.Status{Takers: 1, Owned: 7, Followed: 256}, 7},
		{fleet.Status{Takers: 1, Followed: 256}, 0}, // nobody else could follow
		{fleet.Status{Takers: 2, Owned: 7, Followed: 9}, 16},
		{fleet.Status{Takers: 2, Followed: 9}, 9},
		{fleet.Status{Takers: 2}, 0},
		{fleet.Status{Takers: 2, Owned: 7, Followed: 9, Suspended: true}, 0},
	} {
		if got := left(&tc.s); got != tc.want {
			t.Errorf("%+v: %d are left, want %d", tc.s, got, tc.want)
		}
	}
}

// A node that ends waits as long as others take its partitions, but not where none of them does any more, and not for ever.
func TestHandOverIsGivenUp(t *testing.T) {
	for _, c := range []struct {
		what string
		left func(second int) int
		want int // seconds
	}{
		{"all are taken", func(s int) int { return max(100-20*s, 0) }, 5},
		{"slowly", func(s int) int { return max(300-11*s, 0) }, 28},
		{"nobody takes one", func(int) int { return 300 }, 10},
		{"nobody takes one any more", func(s int) int { return max(300-20*s, 200) }, 15},
		{"one each nine seconds", func(s int) int { return 300 - s/9 }, 30},
	} {
		var h handOver
		now, second := time.Now(), 0
		for ; !h.over(&fleet.Status{Takers: 1, Owned: c.left(second)}, now.Add(time.Duration(second)*time.Second)); second++ {
		}
		if second != c.want {
			t.Errorf("%s: over after %d s, want %d", c.what, second, c.want)
		}
	}
	here, deaf := fleet.Status{Takers: 2, Owned: 7}, fleet.Status{Owned: 7, Suspended: true}
	var h handOver
	now := time.Now()
	for i, s := range []*fleet.Status{&deaf, &deaf, &here, &deaf, &deaf} { // it stands still now and then
		if h.over(s, now.Add(time.Duration(i)*900*time.Millisecond)) {
			t.Errorf("a node that does not hear the fleet for %d ms gives up", 900)
		}
	}
	if !h.over(&deaf, now.Add(1800*time.Millisecond+handOverDeaf)) {
		t.Error("a node that the fleet does not hear any more waits")
	}
	for _, s := range []fleet.Status{{Suspended: true}, {Owned: 7, Suspended: true, Stuck: true}, {Owned: 7, Suspended: true, Err: errors.New("the name is in use")}} {
		if !new(handOver).over(&s, now) {
			t.Errorf("%+v: it waits", s)
		}
	}
}

// What must be mended first is said first.
func TestTroubleOfANode(t *testing.T) {
	ended, away := errors.New("the name is in use"), errors.New("no NATS")
	for _, tc := range []struct {
		s    fleet.Status
		bus  error
		want string
	}{
		{fleet.Status{Err: ended, Suspended: true}, away, "the name is in use"},
		{fleet.Status{Stuck: true, Suspended: true}, away, "loop is stuck"},
		{fleet.Status{Suspended: true}, away, "no NATS"},
		{fleet.Status{Self: 1, Odd: cluster.Odd{Name: "b", Terms: "-auth none", Older: true}}, nil, `node "b", which was here before (here: -auth jwt; there: -auth none)`},
		{fleet.Status{Suspended: true}, nil, "not a member"},
		{fleet.Status{Self: 1, Suspended: true}, nil, "does not hear enough"},
	} {
		if err := trouble(&tc.s, tc.bus, "-auth jwt"); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v", tc.s, err)
		}
	}
	if err := trouble(&fleet.Status{Self: 1, Odd: cluster.Odd{Name: "b", Terms: "-auth none"}}, nil, "-auth jwt"); err != nil {
		t.Errorf("a node that serves: %v", err)
	}
}

// What all nodes must have alike fits into a heartbeat, and differs where it should.
func TestTerms(t *testing.T) {
	key := tokenFile(t, strings.Repeat("k", 32))
	jwt := []string{"-auth", "jwt", "-auth-key", key}
	seen := map[string][]string{}
	for _, args := range [][]string{
		nil, {"-names", "original"}, jwt, append(slices.Clip(jwt), "-auth-query"), append(slices.Clip(jwt), "-sessions", "reject"), append(slices.Clip(jwt), "-sessions", "kick-old"), append(slices.Clip(jwt), "-auth-issuer", "x"),
		append(slices.Clip(jwt), "-auth-issuer", strings.Repeat("é", 300)), append(slices.Clip(jwt), "-auth-issuer", strings.Repeat("é", 301)), {"-auth", "hook", "-auth-url", "http://127.0.0.1/"},
	} {
		cfg, err := parseFlags(args, nil, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		text := cfg.terms()
		if len(text) > maxTerms || !utf8.ValidString(text) || seen[text] != nil {
			t.Errorf("%q: %q, as %q", args, text, seen[text])
		}
		seen[text] = args
	}
}

// What a node tells of its listeners, gates of another node read.
func TestEndpointsTravel(t *testing.T) {
	list := []router.Endpoint{{Port: 3050}, {Host: "chat.example.com", Port: 443, TLS: true, Named: true}, {Host: "[::1]", Port: 1, TLS: true}}
	if got := parseEndpoints(formatEndpoints(list)); !slices.Equal(got, list) {
		t.Errorf("%v travels as %v", list, got)
	}
	for _, text := range []string{"", ",", "host", "host:", ":0", "h:70000", "h:1+quic", "h:x,"} {
		if got := parseEndpoints(text); len(got) > 0 {
			t.Errorf("%q is read as %v", text, got)
		}
	}
	if got := parseEndpoints("h:1+quic,h:2"); !slices.Equal(got, []router.Endpoint{{Host: "h", Port: 2}}) {
		t.Errorf("behind one that is not understood: %v", got)
	}
}
