//go:build linux

package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/codec"
)

// reloading is a pomelod whose flags stand in a file.
type reloading struct {
	*administered
	file string
}

func withFlags(t *testing.T, lines string, args ...string) *reloading {
	t.Helper()
	r := &reloading{file: filepath.Join(t.TempDir(), "flags")}
	put(t, r.file, lines)
	r.administered = administer(t, append([]string{"-flags-file", r.file}, args...)...)
	return r
}

func put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// set has the file say something, and reloads it. Each loop goes by it when set returns.
func (r *reloading) set(lines string) (done admin.Reloaded) {
	r.t.Helper()
	put(r.t, r.file, lines)
	err := json.Unmarshal([]byte(r.must("reload", "-o", "json")), &done)
	if err == nil {
		_, err = askAdmin(r.socket, "/v1/rooms", nil) // asks the loops by the mail by which they were told; what a client sends may overtake that
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return done
}

// limits are what the admin API says that holds.
func (r *reloading) limits() map[string]string {
	r.t.Helper()
	var answer admin.Limits
	raw, err := askAdmin(r.socket, "/v1/limits", nil)
	if err == nil {
		err = json.Unmarshal(raw, &answer)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return answer.Limits
}

// otherValues are values that no default is.
var otherValues = map[string]string{
	"log-level": "WARN", "origins": "https://a.example", "history-open": "lobby", "limits": "off",
	"addr-conns": "17", "addr-connects": "5:6", "addr-handshakes": "5:7", "addr-requests": "5:8", "addr-handlers": "9", "max-polling": "11",
	"session-rate": "7:8", "send-rate": "7:9", "enter-rate": "3:4", "flood": "12", "handshake-bytes": "8KiB", "handshake-packages": "13", "slow-mode": "1s", "list": "14",
	"room-members": "15", "rooms": "16", "max-name": "18", "idle-timeout": "19s", "head-timeout": "6s", "handshake-timeout": "21s", "stuck-timeout": "22s", "keepalive-timeout": "23s",
	"max-package": "24KiB", "max-head": "9KiB", "outbound": "600KiB", "max-buffered": "40MiB", "room-backlog": "2MiB", "loop-backlog": "3MiB", "spread": "25", "max-delay": "2s", "inflight": "26",
}

func lineOf(flag, value string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_")) + "=" + value + "\n"
}

// Each flag that can change does when its line comes, and is what it was when that goes.
func TestReloadEachFlag(t *testing.T) {
	r := withFlags(t, "# nothing\n")
	before := r.limits()
	for _, name := range reloadableFlags {
		value := otherValues[name]
		done := r.set("  \n" + lineOf(name, `"`+value+`"`))
		if !slices.Contains(done.Changed, name+"="+value) || name != "limits" && (len(done.Changed) != 1 || len(done.Later) > 0) || !slices.Equal(done.Read, []string{"flags"}) {
			t.Errorf("%s: %+v", name, done)
		}
		if now := r.limits(); before[name] != "" && now[name] != value {
			t.Errorf("%s is %s", name, now[name])
		}
		if done := r.set(""); len(done.Changed) == 0 || len(done.Later) > 0 {
			t.Errorf("without %s: %+v", name, done)
		}
	}
	if now := r.limits(); !maps.Equal(now, before) {
		t.Errorf("at the end they are\n%v, they were\n%v", now, before)
	}
	if done := r.set(lineOf("limits", "off")); !slices.Equal(done.Later, []string{"first-message-timeout", "memory"}) {
		t.Errorf("what -limits off changes and cannot be: %+v", done)
	}
}

// A value that is wrong, alone or beside others, changes nothing, whatever else was right.
func TestReloadOfWrongFlags(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	put(t, tokens, "ann 0123456789abcdef\n")
	r := withFlags(t, lineOf("rooms", "100"), "-admin-token-file", tokens)
	before := r.limits()
	for lines, want := range map[string]string{
		lineOf("session-rate", "7:8") + lineOf("rooms", "many"):         "must be a number",
		lineOf("session-rate", "7:8") + lineOf("roms", "7"):             "is no flag",
		lineOf("session-rate", "7:8") + lineOf("max-package", "1MiB"):   "raise -outbound",
		lineOf("session-rate", "7:8") + lineOf("origins", "nowhere"):    "-origins",
		lineOf("session-rate", "7:8") + lineOf("heartbeat", "1ms"):      "-heartbeat",
		lineOf("session-rate", "7:8") + "SESSION_RATE=7:8\n":            "line 2",
		lineOf("session-rate", "7:8") + lineOf("flags-file", "another"): "names no other",
		lineOf("session-rate", "7:8") + lineOf("max-conns", "99999999"): "-max-conns",
		// What no part of a running process would notice, and the next start would end by.
		lineOf("session-rate", "7:8") + lineOf("role", "chat"):                                                                               "-role is for a node of a fleet",
		lineOf("session-rate", "7:8") + lineOf("config", "/nowhere"):                                                                         `-config "/nowhere" is no directory`,
		lineOf("session-rate", "7:8") + lineOf("tls-cert", "/no.pem") + lineOf("tls-key", "/no.key"):                                         "/no.pem",
		lineOf("session-rate", "7:8") + lineOf("tls-self", "true") + lineOf("tls-listen", "127.0.0.1:1") + lineOf("tls-gate", "127.0.0.1:1"): "would take the same port",
	} {
		put(t, r.file, lines)
		if out, code := r.command("reload"); code != 1 || !strings.Contains(out, "everything stays as it was") || !strings.Contains(out, want) {
			t.Errorf("%q: exit %d, %s", lines, code, out)
		}
	}
	put(t, r.file, lineOf("session-rate", "7:8"))
	put(t, tokens, "ann short\n")
	if out, code := r.command("reload"); code != 1 || !strings.Contains(out, "shorter than 16") {
		t.Errorf("wrong tokens: exit %d, %s", code, out)
	}
	if now := r.limits(); !maps.Equal(now, before) {
		t.Errorf("they are\n%v, they were\n%v", now, before)
	}
}

// What cannot change is named, at each reload until the next start; what the command line says is not touched, and the file wins over the environment.
func TestReloadOfOtherFlags(t *testing.T) {
	r := withFlags(t, lineOf("heartbeat", "20s")+lineOf("loops", "2"), "-room-members", "5")
	for range 2 {
		done := r.set(lineOf("heartbeat", "30s") + lineOf("loops", "1") + lineOf("sio-timeout", "70s") + lineOf("room-members", "7") + lineOf("session-rate", "7:8") + lineOf("nats", "nats://secret@host"))
		if !slices.Equal(done.Later, []string{"heartbeat", "nats", "sio-timeout"}) { // -loops is on the command line
			t.Errorf("%+v", done)
		}
	}
	out := r.must("reload")
	if !strings.Contains(out, "takes effect at the next start or upgrade: -heartbeat, -nats, -sio-timeout\n") || strings.Contains(out, "secret") {
		t.Errorf("%s", out)
	}
	if got := r.limits(); got["room-members"] != "5" || got["session-rate"] != "7:8" || got["sio-timeout"] != "1m0s" {
		t.Errorf("%v", got)
	}
	put(t, r.file, lineOf("session-rate", "9:9"))
	c, err := parseFlags([]string{"-flags-file", r.file, "-rooms", "3"}, []string{"POMELOD_SESSION_RATE=1:1", "POMELOD_ROOMS=2"}, io.Discard)
	if err != nil || c.values["session-rate"] != "9:9" || c.values["rooms"] != "3" {
		t.Errorf("%v", err)
	}
}

// made is a flag's value that is nothing until it is made.
type made map[string]bool

func (m made) MarshalText() ([]byte, error)    { return nil, nil }
func (m made) UnmarshalText(text []byte) error { m[string(text)] = true; return nil }

// A flag of a program that would not parse at the next start is refused, and the program's value stays what it is, whatever is read.
func TestReloadOfProgramFlags(t *testing.T) {
	a := app.New()
	f := a.Flags()
	number, sure, often := f.Int("number", 3, ""), f.Bool("sure", false, ""), 0
	wait, level := f.Duration("wait", time.Second, ""), new(slog.Level)
	f.TextVar(level, "level", slog.LevelWarn, "")
	f.Func("often", "", func(string) error { often++; return nil })
	words := make(made)
	f.TextVar(&words, "words", words, "")
	file := filepath.Join(t.TempDir(), "flags")
	put(t, file, lineOf("number", "4")+lineOf("often", "x"))
	c, err := parseFlagsWith(a, []string{"-admin", "none", "-flags-file", file, "-often", "y", "-wait=2s"}, []string{"POMELOD_OFTEN=z"}, io.Discard)
	if err != nil || *number != 4 || *wait != 2*time.Second || often != 3 {
		t.Fatalf("%v: number %d, wait %v, set %d times", err, *number, *wait, often)
	}
	can := func(name string) bool { return slices.Contains(reloadableFlags, name) }
	for lines, want := range map[string]string{
		lineOf("number", "four"): "POMELOD_NUMBER", lineOf("sure", "perhaps"): "POMELOD_SURE", lineOf("wait", "5"): "POMELOD_WAIT", lineOf("level", "loud"): "POMELOD_LEVEL",
		lineOf("number", "5") + lineOf("sure", "true") + lineOf("wait", "5s") + lineOf("level", "ERROR") + lineOf("often", "w") + lineOf("words", "new"): "",
	} {
		put(t, file, lines)
		_, changed, later, err := c.again(can)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", lines, err, want)
		}
		if err == nil && (len(changed) > 0 || !slices.Equal(later, []string{"level", "number", "sure", "words"})) { // the others are on the command line
			t.Errorf("changed %q, later %q", changed, later)
		}
	}
	if *number != 4 || *sure || *wait != 2*time.Second || *level != slog.LevelWarn || often != 3 || words["new"] {
		t.Errorf("number %d, sure %v, wait %v, level %v, set %d times", *number, *sure, *wait, *level, often)
	}
}

// refusedFor is a part of the answer to a request that is refused for a reason.
func refusedFor(reason string) string { return `"reason":"` + reason + `"` }

// gone reads until the connection ends.
func gone(c *tcpClient) bool {
	for {
		if _, err := c.read(); err != nil {
			return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "reset")
		}
	}
}

// What a flag is changed to holds for clients: for those that come, and where it is about what they do for those that are there.
func TestReloadedFlagsHold(t *testing.T) {
	r := withFlags(t, "", "-limit-loopback", "-heartbeat", "0")
	at := r.addr("connector")
	chat := func() *tcpClient {
		c := login(t, at)
		c.enter("somebody", "somewhere")
		return c
	}
	get := func(head string) int {
		c := dial(t, at)
		c.write([]byte("GET /nothing HTTP/1.1\r\nHost: " + at.String() + "\r\n" + head + "\r\n"))
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			return 0
		}
		return resp.StatusCode
	}
	many := func(c *tcpClient, n int, ask func(i int) string, want string) func() bool {
		return func() bool {
			for i := range n {
				if strings.Contains(ask(i), want) {
					return true
				}
			}
			return false
		}
	}
	send := func(c *tcpClient) func(int) string {
		return func(int) string { return c.ask(sendRoute, sendText) }
	}
	upgrade := "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://b.example\r\n"
	poll := func() int {
		c := dial(t, at)
		c.write([]byte("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: h\r\n\r\n"))
		resp, err := http.ReadResponse(bufio.NewReader(c.r), nil)
		if err != nil {
			return 0
		}
		return resp.StatusCode
	}
	handshake := codec.AppendPackage(nil, codec.PackageHandshake, []byte(`{"sys":{"type":"t","version":"1"},"user":{"filler":"`+strings.Repeat("x", 200)+`"}}`))
	for _, tc := range []struct {
		lines string
		// Made before the reload, when the flag does not hold yet.
		holds func() func() bool
	}{
		{lineOf("session-rate", "1:2"), func() func() bool { c := chat(); return many(c, 20, send(c), refusedFor("session_rate")) }},
		{lineOf("send-rate", "1:2"), func() func() bool { c := chat(); return many(c, 20, send(c), refusedFor("send_rate")) }},
		{lineOf("enter-rate", "1:2"), func() func() bool {
			c := chat()
			return many(c, 20, func(i int) string { return c.enter("somebody", fmt.Sprint("room", i)) }, refusedFor("enter_rate"))
		}},
		{lineOf("flood", "3") + lineOf("send-rate", "1:1"), func() func() bool {
			c := chat()
			return func() bool {
				for range 9 {
					c.id++
					_, _ = c.conn.Write(c.message(c.id, sendRoute, sendText))
				}
				return gone(c)
			}
		}},
		{lineOf("slow-mode", "1h"), func() func() bool {
			return func() bool {
				c := login(t, at)
				c.enter("slow", "slowly")
				return many(c, 2, send(c), refusedFor("slow_mode"))()
			}
		}},
		{lineOf("room-members", "1"), func() func() bool {
			chat()
			return func() bool {
				return strings.Contains(login(t, at).enter("second", "somewhere"), refusedFor("room_members"))
			}
		}},
		{lineOf("rooms", "1"), func() func() bool {
			chat()
			return func() bool { return strings.Contains(login(t, at).enter("x", "second room"), refusedFor("rooms")) }
		}},
		{lineOf("list", "1"), func() func() bool {
			chat()
			login(t, at).enter("second", "somewhere")
			c := login(t, at)
			return func() bool {
				c.enter("third", "somewhere")
				return r.tells(`pomelod_rooms_large\{[^}]*\} 1\n`)
			}
		}},
		{lineOf("max-name", "4"), func() func() bool {
			return func() bool { return strings.Contains(login(t, at).enter("longer", "r"), `"code":500`) }
		}},
		{lineOf("max-package", "1KiB"), func() func() bool {
			c := chat()
			return func() bool { c.write(c.message(1, sendRoute, strings.Repeat("x", 2000))); return gone(c) }
		}},
		{lineOf("max-head", "200B"), func() func() bool {
			return func() bool { return get("X-Filler: "+strings.Repeat("x", 300)+"\r\n") == 431 }
		}},
		{lineOf("handshake-bytes", "100B"), func() func() bool {
			return func() bool { c := dial(t, at); c.write(handshake); return gone(c) }
		}},
		{lineOf("handshake-packages", "1"), func() func() bool {
			return func() bool { c := dial(t, at); c.write(slices.Concat(handshake, handshake)); return gone(c) }
		}},
		{lineOf("origins", "https://a.example"), func() func() bool { return func() bool { return get(upgrade) == 403 } }},
		{lineOf("addr-conns", "1"), func() func() bool { chat(); return func() bool { return gone(dial(t, at)) } }},
		{lineOf("addr-connects", "1:1"), func() func() bool { return func() bool { dial(t, at); return gone(dial(t, at)) } }},
		{lineOf("addr-handshakes", "1:1"), func() func() bool {
			return func() bool {
				for range 20 {
					c := dial(t, at)
					c.write(handshake)
					if p, err := c.read(); err != nil || p.Type != codec.PackageHandshake || !strings.Contains(string(p.Body), `"code":200`) {
						return true
					}
				}
				return false
			}
		}},
		{lineOf("addr-requests", "1:1"), func() func() bool {
			return func() bool { return slices.ContainsFunc(make([]int, 20), func(int) bool { return get("") == 429 }) }
		}},
		{lineOf("max-polling", "1"), func() func() bool { return func() bool { poll(); return poll() == 503 } }},
		{lineOf("idle-timeout", "1s"), func() func() bool { c := chat(); return func() bool { c.ask(sendRoute, sendText); return gone(c) } }},
		{lineOf("handshake-timeout", "1s"), func() func() bool { return func() bool { return gone(dial(t, at)) } }},
		{lineOf("head-timeout", "1s"), func() func() bool {
			return func() bool { c := dial(t, at); c.write([]byte("GET / HT")); return gone(c) }
		}},
		{lineOf("keepalive-timeout", "1s"), func() func() bool {
			return func() bool {
				c := dial(t, at)
				c.write([]byte("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n"))
				_, err := io.Copy(io.Discard, c.r)
				return err == nil
			}
		}},
	} {
		holds := tc.holds()
		if done := r.set(tc.lines); len(done.Changed) != strings.Count(tc.lines, "\n") {
			t.Errorf("%s: %+v", tc.lines, done)
		}
		if !holds() {
			t.Errorf("it does not hold: %s", tc.lines)
		}
		r.set("")
	}
	r.set(lineOf("log-level", "debug") + lineOf("session-rate", "1:1"))
	c := login(t, at)
	for range 3 {
		c.ask(sendRoute, sendText)
	}
	r.waitLog(`"level":"DEBUG"`)
}

// tells says whether the metrics have a line.
func (r *reloading) tells(line string) bool {
	r.t.Helper()
	return regexp.MustCompile(line).MatchString(string(must(askAdmin(r.socket, "/metrics", nil))))
}
