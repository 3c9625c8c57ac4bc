//go:build linux

package server

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pomelod/pomelod/admin"
)

// fakeFleet answers as the admin address of a node does: it has a, b and c, and asks b to end once it was told twice.
type fakeFleet struct {
	mu     sync.Mutex
	nodes  admin.Nodes
	drains int
	deaf   bool // b never hears
	left   int  // answers until b has left, once it drains
}

func (f *fakeFleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := findNode(&f.nodes, "b")
	switch r.URL.Path {
	case "/nodes":
		if b != nil && b.State == "draining" {
			if f.left--; f.left <= 0 {
				f.nodes.Nodes = []admin.Node{f.nodes.Nodes[0], f.nodes.Nodes[2]}
			}
		}
		_ = json.NewEncoder(w).Encode(&f.nodes)
	case "/v1/drain":
		if r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, "not so", http.StatusForbidden)
			return
		}
		if f.drains++; f.drains == 2 && !f.deaf {
			b.State = "draining"
		}
		_ = json.NewEncoder(w).Encode(admin.Drained{Scope: "fleet", Node: *b})
	default:
		http.NotFound(w, r)
	}
}

func newFakeFleet(t *testing.T) (*fakeFleet, string) {
	t.Helper()
	f := &fakeFleet{left: 3, nodes: admin.Nodes{Asked: "a", View: 7, Unguarded: 3, Nodes: []admin.Node{
		{Name: "a", Run: 1, Roles: []string{"gate", "connector"}, Host: "h\x1b[1m", Address: "h:1", Sessions: 12, State: "ok"},
		{Name: "b", Run: 2, Roles: []string{"chat"}, Host: "h2", Owns: 512, Follows: 511, State: "ok", Maker: true},
		{Name: "c", Run: 3, Roles: []string{"chat"}, Host: "h3", State: "joining"},
	}}}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	return f, strings.TrimPrefix(srv.URL, "http://")
}

// The table has a row for each node, with a dash where a figure says nothing, and nothing that a terminal would obey.
func TestNodesAreListed(t *testing.T) {
	_, addr := newFakeFleet(t)
	var out bytes.Buffer
	if err := listNodes(addr, false, &out); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(out.String()) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	want := []string{"NODE ROLES HOST CLIENTS OWNS FOLLOWS STATE CLIENTS COME TO", "a gate,connector h?[1m 12 - - ok h:1", "b chat h2 - 512 511 ok, maker -", "c chat h3 - 0 0 joining -",
		"2 nodes, as a sees them; 3 partitions have no follower: a crash of their owner would lose their rooms"}
	if got := strings.Join(rows, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the list is\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	out.Reset()
	var all admin.Nodes
	if err := listNodes(addr, true, &out); err != nil || json.Unmarshal(out.Bytes(), &all) != nil || len(all.Nodes) != 3 {
		t.Errorf("as JSON: %v, %s", err, &out)
	}
}

// A node is asked again until it drains, as the word may be lost, and the command waits until it has left.
func TestDrainWaits(t *testing.T) {
	f, addr := newFakeFleet(t)
	var out bytes.Buffer
	if err := drainNode(addr, "b", time.Minute, &out); err != nil || f.drains != 2 || !strings.Contains(out.String(), "b has left the fleet") {
		t.Errorf("asked %d times: %v\n%s", f.drains, err, &out)
	}
	f, addr = newFakeFleet(t)
	f.deaf = true
	if err := drainNode(addr, "b", 10*time.Millisecond, &out); err == nil || !strings.Contains(err.Error(), "still there") {
		t.Errorf("a node that does not hear: %v", err)
	}
	f, addr = newFakeFleet(t)
	if err := drainNode(addr, "b", 0, &out); err != nil || f.drains != 1 {
		t.Errorf("without waiting: asked %d times, %v", f.drains, err)
	}
	f, addr = newFakeFleet(t)
	if err := drainNode(addr, "c", 10*time.Millisecond, &out); err == nil || f.drains == 0 || !strings.Contains(err.Error(), "still there") {
		t.Errorf("one that is no member yet: asked %d times, %v", f.drains, err)
	}
}

// What cannot be asked is one sentence that says what to do.
func TestNodesMistakes(t *testing.T) {
	_, addr := newFakeFleet(t)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no\x1b way", http.StatusForbidden) }))
	t.Cleanup(refusing.Close)
	garbled := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	t.Cleanup(garbled.Close)
	for _, tc := range []struct{ addr, node, want string }{
		{addr, "d", `no node "d" is in this fleet; it has a, b, c`},
		{strings.TrimPrefix(plain.URL, "http://"), "b", "is no node of a fleet"},
		{strings.TrimPrefix(refusing.URL, "http://"), "b", "no? way"},
		{strings.TrimPrefix(garbled.URL, "http://"), "b", "tells no nodes"},
		{"127.0.0.1:1", "b", "no pomelod answers at 127.0.0.1:1"},
	} {
		if err := drainNode(tc.addr, tc.node, time.Second, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %s: %v, want %s", tc.addr, tc.node, err, tc.want)
		}
	}
}

// A token that commands show may be exported where a server starts, or pomelod start; in a file of flags it is a mistake.
func TestTokenOfCommandsIsNoFlag(t *testing.T) {
	environ := []string{tokenEnv + "=0123456789abcdef"}
	if _, err := parseFlags(nil, environ, io.Discard); err != nil {
		t.Error(err)
	}
	if s := newStarter(flag.NewFlagSet("", flag.ContinueOnError), &caller{nil, environ, io.Discard, io.Discard}); s.wrong != nil {
		t.Error(s.wrong)
	}
	file := filepath.Join(t.TempDir(), "flags")
	put(t, file, environ[0]+"\n")
	if _, err := parseFlags([]string{"-flags-file", file}, nil, io.Discard); err == nil || !strings.Contains(err.Error(), "is no flag") {
		t.Errorf("in a file: %v", err)
	}
}
