//go:build linux

package server

import (
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// reloadedElse are the flags that cannot change while a process runs, each with lines of a file in which it is another, and one with which a process would start.
func reloadedElse(t *testing.T) map[string]string {
	dir := t.TempDir()
	file := func(name, text string) string {
		put(t, filepath.Join(dir, name), text)
		return filepath.Join(dir, name)
	}
	key := file("key", strings.Repeat("k", 32))
	writePair(t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "cert.key"), "chat.example")
	project := configDir(t, map[string]string{"servers.json": `{"connector":[{"id":"c","host":"127.0.0.1","clientPort":3050}]}`})
	hook, jwt, nats := lineOf("filter-url", "http://127.0.0.1:1/")+lineOf("filter-down", "pass"), lineOf("auth", "jwt")+lineOf("auth-key", key), lineOf("nats", "nats://127.0.0.1:1")
	pair := lineOf("tls-cert", filepath.Join(dir, "cert.pem")) + lineOf("tls-key", filepath.Join(dir, "cert.key"))
	all := map[string]string{
		"auth": jwt, "auth-key": jwt, "auth-url": lineOf("auth", "hook") + lineOf("auth-url", "http://127.0.0.1:1/"), "filter-url": hook, "filter-down": hook, "nats": nats, "tls-cert": pair, "tls-key": pair,
		"config": lineOf("config", project), "env": lineOf("config", project) + lineOf("env", "production"), "bind": lineOf("config", project) + lineOf("bind", "127.0.0.1"),
		"proxy-protocol": lineOf("proxy-protocol", "on") + lineOf("trusted-proxies", "10.0.0.0/8"), "tls-listen": pair + lineOf("tls-listen", ":3444"), "tls-gate": pair + lineOf("tls-gate", ":3415"),
		"tls-advertise": pair + lineOf("tls-advertise", "chat.example"), "history-keep": lineOf("history-dir", dir) + lineOf("history-keep", "1d:1GiB"), "history-sync": lineOf("history-dir", dir) + lineOf("history-sync", "always"),
		"filter-timeout": hook + lineOf("filter-timeout", "1s"), "role": nats + lineOf("role", "chat"), "page": lineOf("page", "false"), "move": lineOf("move", "false"),
	}
	for name, value := range map[string]string{
		"auth-audience": "chat", "auth-issuer": "me", "auth-name": "name", "auth-query": "true", "sessions": "reject",
	} {
		all[name] = jwt + lineOf(name, value)
	}
	for name, value := range map[string]string{
		"cluster-name": "other", "cluster-quorum": "2", "followers": "0", "gate-policy": "load", "id": "other", "link-memory": "32MiB", "nats-ca": key, "nats-cert": key, "nats-creds": key, "nats-key": key, "nats-nkey": key,
	} {
		all[name] = nats + lineOf(name, value)
	}
	for name, value := range map[string]string{
		"admin": "127.0.0.1:3006", "admin-hosts": "chat.internal", "admin-socket": "none", "admin-token-file": file("tokens", "ann 0123456789abcdef\n"), "advertise": "chat.example", "cesu8": "never", "drain": "6s", "drain-delay": "1s",
		"first-message-timeout": "9m", "gate": ":3015", "grace": "13s", "heartbeat": "16s", "history": "65", "history-age": "11m", "history-bytes": "65KiB", "history-dir": dir, "history-memory": "65MiB", "inbox": "99",
		"limit-loopback": "true", "listen": ":3051", "login-url": "https://chat.example/login", "loops": "1", "max-conns": "99", "memory": "1GiB", "names": "original", "original": "true", "pprof": "true", "request-timeout": "6s",
		"reserved": "root", "rooms-file": file("rooms.json", "{}"), "rules-file": "none", "sio-heartbeat": "26s", "sio-timeout": "61s", "sio-timeout4": "21s", "tls-handshakes": "99", "tls-rate": "99", "tls-self": "true", "tls-timeout": "6s",
		"trusted-proxies": "10.0.0.0/8",
	} {
		all[name] = lineOf(name, value)
	}
	return all
}

// sendAtOnce writes so many sends in one piece, and returns how many are refused for a rate.
func (c *tcpClient) sendAtOnce(n int) (refused int) {
	c.t.Helper()
	var all []byte
	for range n {
		c.id++
		all = append(all, c.message(c.id, sendRoute, sendText)...)
	}
	_ = c.conn.SetDeadline(time.Now().Add(deadline))
	c.write(all)
	for range n {
		for {
			m, err := codec.ParseMessage(c.next().Body)
			if err != nil {
				c.t.Fatal(err)
			}
			if m.Type == codec.MessageResponse {
				if strings.Contains(string(m.Body), refusedFor("send_rate")) || strings.Contains(string(m.Body), refusedFor("session_rate")) {
					refused++
				}
				break
			}
		}
	}
	return refused
}

// -limits holds as the flags that it sets, and -inflight for what comes next, when a reload has changed them.
func TestReloadedLimitsHold(t *testing.T) {
	r := withFlags(t, lineOf("limits", "off"), "-limit-loopback", "-heartbeat", "0")
	c := login(t, r.addr("connector"))
	waits := func() bool { // for what is with the worker of a room, which is on the other loop for half of them
		for i := range 16 {
			c.enter("alice", fmt.Sprint("room ", i))
			if c.sendAtOnce(20); r.tells(`pomelod_inflight_waits_total\{[^}]*\} [1-9]`) {
				return true
			}
		}
		return false
	}
	if waits() {
		t.Error("20 requests wait for each other before the reload")
	}
	if r.set(lineOf("limits", "off") + lineOf("inflight", "1")); !waits() {
		t.Error("-inflight 1 does not hold")
	}
	r.set(lineOf("limits", "off"))
	if n := c.sendAtOnce(400); n > 0 {
		t.Errorf("without limits %d are refused", n)
	}
	r.set("")
	for end := time.Now().Add(deadline); c.sendAtOnce(400) == 0; { // a machine that takes seconds for them may grant them
		if time.Now().After(end) {
			t.Fatal("-limits public does not hold")
		}
	}
	r.set(lineOf("limits", "off"))
	if n := c.sendAtOnce(400); n > 0 {
		t.Errorf("without limits again %d are refused", n)
	}
}

// Each flag either changes by a reload (TestReloadEachFlag, TestReloadedFlagsHold) or is told to take effect later; docs/ADMIN.md says which.
func TestReloadTellsWhatCannotChange(t *testing.T) {
	atOnce := []string{"version", "print-config", "check-config", "flags-file"} // no process is started with the first three, and a file names no other
	others := reloadedElse(t)
	file := filepath.Join(t.TempDir(), "flags")
	put(t, file, "")
	c, err := parseFlags([]string{"-flags-file", file}, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	can := func(name string) bool { return slices.Contains(reloadableFlags, name) }
	_, f := declareFlags()
	f.VisitAll(func(g *flag.Flag) {
		lines, is := others[g.Name]
		switch {
		case slices.Contains(atOnce, g.Name):
		case is == can(g.Name):
			t.Errorf("-%s: it can change, or cannot, and this test has it as the other", g.Name)
		case is:
			put(t, file, lines)
			_, _, later, err := c.again(can)
			if err != nil || !slices.Contains(later, g.Name) {
				t.Errorf("-%s: told are %q, %v", g.Name, later, err)
			}
		}
	})
	_, chapter, _ := strings.Cut(readFile(t, "../docs/ADMIN.md"), "\n| what can change while clients are there |")
	table, _, _ := strings.Cut(chapter, "\n\n")
	var documented []string
	for _, m := range regexp.MustCompile("`-([a-z0-9-]+)`").FindAllStringSubmatch(table, -1) {
		documented = append(documented, m[1])
	}
	slices.Sort(documented)
	if want := slices.Sorted(slices.Values(reloadableFlags)); !slices.Equal(documented, want) {
		t.Errorf("docs/ADMIN.md has\n%q, it is\n%q", documented, want)
	}
}
