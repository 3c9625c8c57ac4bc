//go:build linux

package server

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/config"
)

// gameServer is a project's game-server directory with these files in config/.
func gameServer(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "game-server")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(configDir(t, files), filepath.Join(dir, "config")); err != nil {
		t.Fatal(err)
	}
	return dir
}

const localProject = `{"development":{"gate":[{"id":"gate-1","host":"127.0.0.1","clientPort":3014}],
	"connector":[{"id":"connector-1","host":"127.0.0.1","clientPort":3050},{"id":"connector-2","host":"192.0.2.7","clientPort":3050}],
	"chat":[{"id":"chat-1","host":"localhost","port":6050},{"id":"chat-2","host":"192.0.2.7","port":6050}]},
	"production":{"connector":[{"id":"c","host":"127.0.0.1","clientPort":3050}],"gate":[{"id":"g","host":"127.0.0.1","clientPort":3014}]},
	"elsewhere":{"connector":[{"id":"c","host":"192.0.2.7","clientPort":3050}]}}`

// What is wrong with pomelod start is one sentence that says what to write; nothing is started.
func TestStartMistakesAreExplained(t *testing.T) {
	dir := gameServer(t, map[string]string{"servers.json": localProject})
	two := gameServer(t, map[string]string{"servers.json": `{"connector":[{"id":"a","host":"127.0.0.1","clientPort":1},{"id":"b","host":"localhost","clientPort":1}]}`})
	for _, tc := range []struct{ args, want string }{
		{"start -d " + dir, "connector-2 of servers.json is of another machine, 192.0.2.7: give -nats"},
		{"start -d " + dir + " -e production -t chat", "-t and -i make one process of several"},
		{"start -d " + dir + " -e production -i c", "-t and -i make one process of several"},
		{"start -d " + dir + " -e staging", `no gates, connectors and chat servers for environment "staging"`},
		{"start -d /no/such/dir", `-d "/no/such/dir" is no directory`},
		{"start -d " + t.TempDir(), "there is no servers.json"},
		{"start -d " + dir + " -e elsewhere -nats nats://u:secret@h", "no entry of servers.json in " + dir + "/config is of this machine; their hosts are 192.0.2.7. Start one all the same by -i c"},
		{"start -d " + dir + " -nats nats://u:secret@h -i chat-9", "it has gate-1, connector-1, connector-2, chat-1, chat-2"},
		{"start -d " + dir + " -nats nats://u:secret@h -t master", "pomelod has no master"},
		{"start -d " + dir + " -nats nats://u:secret@h -t area", "no entry of that type"},
		{"start -d " + dir + " -nats nats://u:secret@h -t chat -i chat-1", "give one of them"},
		{"start -d " + dir + " -nats http://u:secret@h", "gate-1: -nats, -nats-* and -cluster-name"},
		{"start -d " + dir + " -nats nats://u:secret@h -admin :9", "-admin is for one process"},
		{"start -d " + two + " -nats nats://u:secret@h", "b (clientPort of b :1) would take the same port"},
		{"start -d " + dir + " -nats nats://u:secret@h -heartbeat 3", "write 3s"},
		{"start -d " + dir + " -D", "there is no flag -D"},
		{"start staging -e production", `unexpected "staging"`},
		{"start a=b", `unexpected "a=b"`},
		{"start -print-config", "-print-config is for one process"},
	} {
		stdout, stderr, code := outcome(t, nil, append(strings.Fields(tc.args), "-check-config")...)
		if code != 2 || !strings.Contains(stderr, tc.want) || strings.Contains(stdout+stderr, "secret") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, %q, which does not say %q, is no sentence or shows a password", tc.args, code, stderr, tc.want)
		}
	}
	for _, args := range []string{"start -e production", "start production", "start env=production", "start -nats nats://h", "start -nats nats://h -t connector", "start -i chat-2 -nats nats://h", "start production -nats nats://h -max-conns 100"} {
		stdout, stderr, code := outcome(t, nil, append(strings.Fields(args), "-d", dir, "-check-config")...)
		if code != 0 || stdout != "ok\n" {
			t.Errorf("%s: exit %d, %s", args, code, stderr)
		}
	}
}

// starting is a starter for a command line.
func starting(t *testing.T, environ []string, args ...string) *starter {
	t.Helper()
	var s *starter
	cmd := startCommand()
	cmd.declare = func(f *flag.FlagSet, c *caller) func([]string) error {
		s = newStarter(f, c)
		return s.read
	}
	if err := cmd.run(args, &caller{nil, environ, io.Discard, io.Discard}); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return s
}

// Which entries are processes, and with which command lines. The password of NATS stands in none.
func TestStartedProcesses(t *testing.T) {
	dir := gameServer(t, map[string]string{"servers.json": localProject})
	local := func(host string) bool { return host != "192.0.2.7" }
	for _, tc := range []struct{ args, ids string }{
		{"", "gate-1 connector-1 chat-1"},
		{"-t chat", "chat-1"},
		{"--type all", "gate-1 connector-1 chat-1"},
		{"-i chat-2", "chat-2"},
		{"-id connector-2", "connector-2"},
	} {
		chosen, err := starting(t, nil, append(strings.Fields(tc.args), "-d", dir, "-nats", "nats://h")...).choose(local)
		var ids []string
		for _, e := range chosen {
			ids = append(ids, e.ID)
		}
		if got := strings.Join(ids, " "); got != tc.ids || err != nil {
			t.Errorf("%s: %s, %v", tc.args, got, err)
		}
	}
	s := starting(t, []string{"POMELOD_MAX_CONNS=50", "POMELOD_NATS=nats://other", "POMELOD_ADMIN=/run/x.sock", "NOTIFY_SOCKET=@x", "HOME=/"}, "-d", dir, "-nats", "nats://u:secret@h", "-page=false", "-origins", "https://a", "-drain", "1s", "-admin-socket", "/run/a.sock")
	got := s.nodeArgs(&config.Server{ID: "chat-1"}, 1<<30, false)
	want := []string{"-config=" + dir + "/config", "-env=development", "-id=chat-1", "-memory=1073741824", "-admin-socket=/run/a.sock", "-drain=1s", "-origins=https://a", "-page=false", "-admin-socket=/run/chat-1.sock"}
	if !slices.Equal(got, want) {
		t.Errorf("command line %q, want %q", got, want)
	}
	if got := s.nodeArgs(&config.Server{ID: "gate-1"}, 0, true); slices.ContainsFunc(got, func(a string) bool { return strings.HasPrefix(a, "-admin-socket=/run/gate") }) {
		t.Errorf("the first one has %q", got)
	}
	for _, environ := range [][]string{nil, {"POMELOD_ADMIN_SOCKET=none"}} {
		s := starting(t, environ, "-d", dir, "-nats", "nats://h")
		if got := s.nodeArgs(&config.Server{ID: "chat-1"}, 0, false); slices.ContainsFunc(got, func(a string) bool { return strings.HasPrefix(a, "-admin-socket") }) {
			t.Errorf("without a path: %q", got)
		}
	}
	if s := starting(t, []string{"POMELOD_CONFIG=/elsewhere"}, "-d", dir); s.settings.dir != dir+"/config" {
		t.Errorf("-d %s is %s", dir, s.settings.dir)
	}
	file := filepath.Join(t.TempDir(), "flags")
	put(t, file, lineOf("env", "production")+lineOf("id", "chat-1")+lineOf("drain", "3s"))
	for _, names := range [][2]string{{"-e", "-i"}, {"-environment", "-id"}, {"-env", "-i"}} { // the command line wins over the file, whatever name it has for a flag
		s := starting(t, nil, names[0], "development", names[1], "chat-2", "-flags-file", file, "-d", dir, "-nats", "nats://h")
		if c := s.settings; c.env != "development" || c.fleet.id != "chat-2" || c.drain != 3*time.Second {
			t.Errorf("%q: environment %s, id %s, drain %v", names, c.env, c.fleet.id, c.drain)
		}
	}
	if got, want := s.nodeEnviron(), []string{"POMELOD_MAX_CONNS=50", "HOME=/", "POMELOD_NATS=nats://u:secret@h", startedByNATS}; !slices.Equal(got, want) {
		t.Errorf("environment %q, want %q", got, want)
	}
	put(t, file, lineOf("nats", "nats://b"))
	for _, tc := range []struct {
		args []string
		want string
	}{{[]string{"-nats", "nats://a"}, "nats://a"}, {nil, "nats://b"}} { // each process goes by what the command line says, and by the file where it says nothing
		s := starting(t, []string{"POMELOD_NATS=nats://c"}, append(tc.args, "-flags-file", file, "-d", dir)...)
		c, _, err := prepare(nil, s.nodeArgs(&s.project.Servers[0], 0, true), s.nodeEnviron(), io.Discard, io.Discard)
		if err != nil || string(s.settings.fleet.nats) != tc.want || string(c.fleet.nats) != tc.want {
			t.Errorf("%q: %v, the command has %s, its process %s", tc.args, err, s.settings.fleet.nats, c.fleet.nats)
		}
	}
}

// A host is this machine by its addresses, names of them, and its own name.
func TestLocalHosts(t *testing.T) {
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"": true, "localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "0.0.0.0": true, own: true, strings.ToUpper(own): true, "192.0.2.7": false, "2001:db8::7": false, "no.such.name.invalid": false} {
		if got := isLocal(host); got != want {
			t.Errorf("%q: %t", host, got)
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !isLocal(n.IP.String()) {
			t.Errorf("%s is no address of this machine", n.IP)
		}
	}
}

// The commands about nodes are in the table, with their flags.
func TestNodeCommands(t *testing.T) {
	_, addr := newFakeFleet(t)
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"list -admin " + addr, 0, "ok, maker"},
		{"list -o json -admin " + addr, 0, `"asked":"a"`},
		{"list -o xml", 2, "must be text or json"},
		{"list -admin 127.0.0.1:1", 1, "no pomelod answers"},
		{"list -admin /no/such/socket", 1, "no pomelod answers at /no/such/socket"},
		{"drain", 2, "NODE is missing"},
		{"drain d -admin " + addr, 1, "no node"},
		{"drain b -wait 0 -admin " + addr, 0, "was asked to end"},
	} {
		var out bytes.Buffer
		if code := runCommand(strings.Fields(tc.args), &caller{stdout: &out, stderr: &out}); code != tc.code || !strings.Contains(out.String(), tc.want) {
			t.Errorf("%s: exit %d, %s", tc.args, code, &out)
		}
	}
	if addr := adminAddr([]string{"POMELOD_ADMIN=h:1"}); addr != "h:1" {
		t.Errorf("by the environment %s", addr)
	}
	if code := fail(io.Discard, exited(7)); code != 7 || exitCode(fmt.Errorf("x: %w", exited(0))) != 0 {
		t.Errorf("exit code %d", code)
	}
}
