//go:build linux

package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// planned is the plan of a command line.
func planned(environ []string, args ...string) (*settings, *plan, error) {
	c, err := parseFlags(args, environ, io.Discard)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.plan(nil)
	return c, p, err
}

// configDir writes files into a directory of their own.
func configDir(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// What cannot work is refused before anything starts, with a sentence that names what to change.
func TestMistakesAreExplained(t *testing.T) {
	empty := configDir(t, nil)
	one := configDir(t, map[string]string{"servers.json": `{"connector":[{"id":"c","host":"h","clientPort":1}]}`})
	two := configDir(t, map[string]string{"servers.json": `{"connector":[{"id":"c","host":"h","clientPort":1},{"id":"d","host":"h","clientPort":2}]}`})
	none := configDir(t, map[string]string{"servers.json": `{"gate":[{"id":"g","host":"h","clientPort":1}]}`})
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "game-server"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(configDir(t, map[string]string{"servers.json": "{}"}), filepath.Join(root, "game-server/config")); err != nil {
		t.Fatal(err)
	}
	broken := configDir(t, map[string]string{"clientProtos.json": `{`})
	for _, tc := range []struct {
		env, args, want string
	}{
		{"", "-no-such", "-help"},
		{"", "extra", "commands come first"},
		{"", "-listen=", "-listen :3050"},
		{"", "-heartbeat 1500ms", "whole seconds"},
		{"", "-heartbeat -1s", "whole seconds"},
		{"", "-max-conns -1", "ulimit"},
		{"", "-max-conns 99999999", "ulimit"},
		{"", "-max-package 1MiB", "-outbound"},
		{"", "-max-buffered 1KiB", "-max-buffered"},
		{"", "-max-package x", "256KiB"},
		{"", "-max-package -1", "256KiB"},
		{"", "-stuck-timeout 10ms", "whole seconds"},
		{"", "-max-name 256", "255"},
		{"", "-advertise h:99999", "65535"},
		{"", "-log-level loud", "log-level"},
		{"", "-config /no/such/dir", "no directory"},
		{"", "-config " + empty, "-config " + empty + ": there is no servers.json, master.json, dictionary.json, serverProtos.json or clientProtos.json"},
		{"", "-config " + root, "-config " + root + " is not the directory with the configuration; write -config " + root + "/game-server/config"},
		{"", "-config " + one + "/servers.json", "-config " + one + "/servers.json is a file; give its directory: -config " + one},
		{"", "-env production", "-config"},
		{"", "-config " + broken, "clientProtos.json"},
		{"", "-config " + one + " -listen :1", "servers.json"},
		{"", "-config " + two + " -advertise h:1", "host only"},
		{"", "-config " + none, "no connector"},
		{"POMELOD_NO_SUCH=1", "", "POMELOD_NO_SUCH"},
		{"POMELOD_MAX_CONNS=many", "", "POMELOD_MAX_CONNS"},
	} {
		_, _, err := planned([]string{"HOME=/", tc.env}, strings.Fields(tc.args)...)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %s: %v, want something about %q", tc.env, tc.args, err, tc.want)
		}
	}
}

// Defaults, then the environment, then the command line.
func TestPrecedence(t *testing.T) {
	environ := []string{"POMELOD_HEARTBEAT=7s", "POMELOD_LISTEN=:1", "POMELOD_MAX_PACKAGE=64KiB", "OTHER=1"}
	c, p, err := planned(environ, "-listen", ":2")
	if err != nil {
		t.Fatal(err)
	}
	if p.listeners[0].addr != ":2" || p.listeners[0].profile.HeartbeatSeconds != 7 || c.limits.PackageBytes != 64<<10 || c.gate != ":3014" {
		t.Errorf("%+v %+v", c, p)
	}
}

func TestHelpAndVersion(t *testing.T) {
	var out bytes.Buffer
	if _, err := parseFlags([]string{"-help"}, nil, &out); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	for _, want := range []string{"-listen", "POMELOD_MAX_CONNS", "256KiB", "20s", "gate.gateHandler.queryEntry"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help does not mention %s", want)
		}
	}
	out.Reset()
	printVersion(&out)
	for _, want := range []string{"pomelod " + Version, "go1.", "json="} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("version %q does not tell %s", out.String(), want)
		}
	}
}

// Every gate and connector of an environment is served by one process, each as its entry says; gates announce the
// connectors in the order of the file.
func TestServersOfAProject(t *testing.T) {
	dir := configDir(t, map[string]string{
		"servers.json": `{"production":{
			"connector":[{"id":"c1","host":"127.0.0.1","port":4050,"clientPort":0,"frontend":true,"heartbeat":3},
			             {"id":"c2","host":"two.example","port":4051,"clientPort":0,"useDict":false,"useProtobuf":false,"max-connections":1}],
			"chat":[{"id":"chat-1","host":"127.0.0.1","port":6050},{"id":"chat-2","host":"127.0.0.1","port":6051},{"id":"chat-3","host":"127.0.0.1","port":6052}],
			"gate":[{"id":"g","host":"127.0.0.1","clientPort":0,"frontend":true}]}}`,
		"dictionary.json":   `["onChat"]`,
		"serverProtos.json": `{"onChat":{"required string msg":1,"required string from":2,"required string target":3}}`,
	})
	s := start(t, "-config", dir, "-env", "production", "-bind", "127.0.0.1", "-loops", "2")
	if n := len(s.snapshot(t).Workers); n != 2 {
		t.Errorf("%d workers for three chat servers and two loops; there is one a loop", n)
	}
	gate := login(t, s.addr("g"))
	for _, uid := range []string{"alice", "bob", "carol", "dave"} {
		want := []string{
			fmt.Sprintf(`{"code":200,"host":"127.0.0.1","port":%d}`, s.addr("c1").Port),
			fmt.Sprintf(`{"code":200,"host":"two.example","port":%d}`, s.addr("c2").Port),
		}[codec.Dispatch(uid, 2)]
		if got := gate.ask("gate.gateHandler.queryEntry", `{"uid":"`+uid+`"}`); got != want {
			t.Errorf("%s: got %s, want %s", uid, got, want)
		}
	}
	handshake := func(addr *net.TCPAddr) (sys struct {
		Heartbeat         int
		UseDict, UseProto bool
	}) {
		c := dial(t, addr)
		c.write([]byte("\x01\x00\x00\x0a{\"sys\":{}}"))
		var body struct{ Sys any }
		body.Sys = &sys
		b := c.next().Body
		if err := json.Unmarshal(b, &body); err != nil {
			t.Errorf("%s: %v", b, err)
		}
		c.conn.Close()
		return sys
	}
	if sys := handshake(s.addr("c1")); sys.Heartbeat != 3 || !sys.UseDict || !sys.UseProto {
		t.Errorf("c1 %+v", sys)
	}
	if sys := handshake(s.addr("c2")); sys.Heartbeat != 15 || sys.UseDict || sys.UseProto {
		t.Errorf("c2 %+v", sys)
	}
	if sys := handshake(s.addr("g")); sys.Heartbeat != 0 || sys.UseDict || !sys.UseProto {
		t.Errorf("gate %+v", sys)
	}

	var c *tcpClient // c2 takes one at a time; the one before is gone when the server has seen it go
	waitFor(t, func() bool {
		c = dial(t, s.addr("c2"))
		c.write([]byte("\x01\x00\x00\x0a{\"sys\":{}}\x02\x00\x00\x00"))
		_, err := c.read()
		return err == nil
	})
	if _, err := dial(t, s.addr("c2")).read(); err == nil {
		t.Error("the second connection to c2 was served")
	}
	// Users of different connectors meet in a room.
	other := login(t, s.addr("c1"))
	if got := c.enter("x", "r"); got != `{"users":["x"]}` {
		t.Error(got)
	}
	if got := other.enter("y", "r"); got != `{"users":["x","y"]}` {
		t.Error(got)
	}
}

func TestPrintConfig(t *testing.T) {
	dir := configDir(t, map[string]string{"dictionary.json": `["onChat"]`, "master.json": `{"id":"m","host":"0.0.0.0","port":4005}`})
	c, p, err := planned(nil, "-config", dir, "-advertise", "chat.example")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := c.print(&out, p); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Servers []struct{ ID, Listen, AdvertiseHost, DictVersion string }
		Admin   string
		Flags   map[string]string
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Servers) != 2 || got.Servers[0].DictVersion == "" || got.Servers[0].AdvertiseHost != "chat.example" || got.Admin != "127.0.0.1:4005" || got.Flags["outbound"] != "512KiB" {
		t.Errorf("%s", &out)
	}
}

// What -print-config shows is what holds: flags that were given and not their defaults, what entries of servers.json say, and with
// -advertise its host for every connector instead of servers.json's.
func TestPrintConfigShowsWhatHolds(t *testing.T) {
	dir := configDir(t, map[string]string{"servers.json": `{
		"connector":[{"id":"c1","host":"one.example","clientPort":3050,"heartbeat":3},{"id":"c2","host":"two.example","clientPort":3051,"max-connections":7}],
		"chat":[{"id":"a"},{"id":"b"},{"id":"c"}],"gate":[{"id":"g","host":"gate.example","clientPort":3014}]}`})
	type server struct {
		ID, Listen, AdvertiseHost string
		AdvertisePort             int
		MaxConnections            int
		HeartbeatSeconds          int
	}
	print := func(args ...string) (got struct {
		Servers []server
		Flags   map[string]string
	}) {
		t.Helper()
		c, p, err := planned([]string{"POMELOD_SEND_RATE=7:9"}, append([]string{"-config", dir, "-loops", "2", "-outbound", "1MiB", "-heartbeat", "20s"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := c.print(&out, p); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := print()
	want := []server{{"c1", ":3050", "one.example", 0, 0, 3}, {"c2", ":3051", "two.example", 0, 7, 20}, {"g", ":3014", "gate.example", 0, 0, 0}}
	if !slices.Equal(got.Servers, want) {
		t.Errorf("%+v", got)
	}
	for name, value := range map[string]string{"outbound": "1MiB", "heartbeat": "20s", "loops": "2", "send-rate": "7:9", "config": dir, "max-package": "256KiB"} {
		if got.Flags[name] != value {
			t.Errorf("-%s is shown as %q, not %q", name, got.Flags[name], value)
		}
	}
	for _, s := range print("-advertise", "chat.example").Servers {
		if s.AdvertiseHost != "chat.example" && s.ID != "g" {
			t.Errorf("with -advertise: %+v", s)
		}
	}
}

// A port that is taken is told before anything runs, with what to do about it.
func TestPortInUse(t *testing.T) {
	s := start(t)
	c, p, err := planned(nil, "-listen", s.addr("connector").String(), "-admin", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newServer(c, p, nil); err == nil || !strings.Contains(err.Error(), "-listen") || !strings.Contains(err.Error(), "another process") {
		t.Error(err)
	}
}
