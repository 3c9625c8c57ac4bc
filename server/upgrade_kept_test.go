//go:build linux

package server

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/codec"
)

// What goes along in an upgrade, and what does not, case by case: each sets something up, the process is replaced twice, and then it must be as if nothing
// had been, or as docs/OPERATIONS.md says of what does not go.
func TestUpgradeKeeps(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, "chat.example")
	secret := tokenFile(t, strings.Repeat("k", 32))
	for _, tc := range []struct {
		name   string
		args   []string
		before func(t *testing.T, u *upgradable) (after func())
	}{
		{"what rooms keep", []string{"-history", "10"}, keepsHistory},
		{"what rooms keep on disk", []string{"-history-dir", filepath.Join(dir, "history")}, keepsHistory},
		{"the place of a member that is away", []string{"-history", "10", "-grace", "1m"}, keepsPlaces},
		{"who somebody is by login", []string{"-auth", "jwt", "-auth-key", secret}, func(t *testing.T, u *upgradable) func() {
			return keepsLogin(t, u, minted(t, "-key", secret, "-name", "alice", "-rooms", "lobby,den", "-ttl", "1h"))
		}},
		{"rules and the admin socket", []string{"-rules-file", filepath.Join(dir, "rules.json"), "-admin-socket", filepath.Join(dir, "run", "admin.sock")}, func(t *testing.T, u *upgradable) func() {
			return keepsRules(t, &administered{process: u.process, socket: filepath.Join(dir, "run", "admin.sock")})
		}},
		{"GETs that are held", []string{"-loops", "1"}, keepsGET},
		{"who asks and does not read", []string{"-limits", "off"}, keepsThrottled},
		{"what a slow reader lacks of a frame", []string{"-limits", "off", "-outbound", "4MiB"}, keepsHalfRead},
		{"not TLS", []string{"-tls-listen", "127.0.0.1:0", "-tls-cert", cert, "-tls-key", key}, sendsTLSAway},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u := startUpgradable(t, "x=y", nil, tc.args...)
			after := tc.before(t, u)
			for range 2 {
				u.mustUpgrade()
			}
			after()
			if log := u.log(); strings.Contains(log, `"level":"ERROR"`) || strings.Contains(log, "panic") {
				t.Error("something went wrong; see the log")
			}
		})
	}
}

// keepsHistory: who returns has no gap, in the stream of before, and what is said on either side of an upgrade is one stream.
func keepsHistory(t *testing.T, u *upgradable) func() {
	addr := u.addr("connector").String()
	connect := func() *diarist {
		d, err := newDiarist(addr, "0123456789abcdef")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.conn.Close() })
		return d
	}
	say := func(d *diarist, text string) {
		if got, err := d.request("chat.chatHandler.send", fmt.Sprintf(`{"content":%q,"target":"*"}`, text)); err != nil || !strings.HasPrefix(got, `{`) || strings.Contains(got, "500") {
			t.Fatal(got, err)
		}
	}
	stays := connect()
	entered, err := stays.enter("stays", "lobby", "")
	if err != nil || entered.Seq == "" {
		t.Fatal(entered, err)
	}
	for i := range 3 {
		say(stays, fmt.Sprint("before ", i))
	}
	return func() {
		say(stays, "after")
		back := connect()
		got, err := back.enter("stays", "lobby", fmt.Sprintf(`,"since":%q`, entered.Seq))
		if err == nil {
			err = back.read(func() bool { return len(back.pushes) >= 4 })
		}
		var texts []string
		for _, p := range back.pushes {
			texts = append(texts, p.Msg)
		}
		if want := "before 0, before 1, before 2, after"; err != nil || !got.Complete || strings.Join(texts, ", ") != want {
			t.Errorf("%+v, %v: told %q, want %s", got, err, texts, want)
		}
	}
}

// keepsPlaces: who was cut off before returns after, unnoticed, and is told what was said meanwhile on either side.
func keepsPlaces(t *testing.T, u *upgradable) func() {
	addr := u.addr("connector")
	alice := login(t, addr)
	alice.enter("alice", "lobby")
	connect := func() *diarist {
		d, err := newDiarist(addr.String(), "0123456789abcdef")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.conn.Close() })
		return d
	}
	bob := connect()
	if _, err := bob.enter("bob", "lobby", ""); err != nil {
		t.Fatal(err)
	}
	for !bytes.Contains(alice.next().Body, []byte("onAdd")) {
	}
	_ = bob.conn.(*net.TCPConn).SetLinger(0) // a reset: a cut, and no goodbye
	bob.conn.Close()
	say := func(text string) {
		if got := alice.ask("chat.chatHandler.send", fmt.Sprintf(`{"content":%q,"target":"*"}`, text)); got != "{}" {
			t.Fatal(got)
		}
	}
	say("before")
	return func() {
		say("after")
		back := connect()
		answer, err := back.request("connector.entryHandler.enter", `{"username":"bob","rid":"lobby"}`)
		if err != nil || !strings.Contains(answer, `"users":["alice","bob"]`) {
			t.Fatal(answer, err)
		}
		if err := back.read(func() bool { return len(back.pushes) >= 2 }); err != nil || back.pushes[0].Msg != "before" || back.pushes[1].Msg != "after" {
			t.Errorf("told %+v, %v", back.pushes, err)
		}
		alice.write(alice.message(99, "chat.chatHandler.send", `{"content":"last","target":"*"}`))
		for {
			p := alice.next()
			if bytes.Contains(p.Body, []byte("onLeave")) || bytes.Contains(p.Body, []byte("onAdd")) {
				t.Errorf("alice is told %s", p.Body)
			}
			if bytes.Contains(p.Body, []byte(`"last"`)) {
				return
			}
		}
	}
}

// keepsLogin: a session is who its login has shown, and may enter what that is for, without showing it again.
func keepsLogin(t *testing.T, u *upgradable, token string) func() {
	addr := u.addr("connector")
	c := login(t, addr)
	if got := c.ask("connector.entryHandler.enter", fmt.Sprintf(`{"username":"alice","rid":"lobby","token":%q}`, token)); !strings.Contains(got, `"users":["alice"]`) {
		t.Fatal(got)
	}
	return func() {
		if got := c.enter("alice", "den"); !strings.Contains(got, `"users":["alice"]`) {
			t.Errorf("in another room: %s", got)
		}
		if got := c.enter("mallory", "den"); !strings.Contains(got, `"code":401`) {
			t.Errorf("under another name: %s", got)
		}
		if got := c.enter("alice", "vault"); !strings.Contains(got, `"reason":"login"`) {
			t.Errorf("in a room that the login is not for: %s", got)
		}
		if got := login(t, addr).enter("alice", "lobby"); !strings.Contains(got, `"code":401`) {
			t.Errorf("without a token: %s", got)
		}
	}
}

// keepsRules: what operators forbid holds, and their commands reach the new process by the same socket.
func keepsRules(t *testing.T, a *administered) func() {
	addr := a.addr("connector")
	alice := login(t, addr)
	alice.enter("alice", "lobby")
	a.must("mute", "alice", "-room", "lobby")
	a.must("ban", "mallory")
	rules := a.must("rules")
	return func() {
		if got := a.must("rules"); got != rules {
			t.Errorf("the rules were\n%sand are\n%s", rules, got)
		}
		if got := alice.ask("chat.chatHandler.send", sayHello); !strings.Contains(got, `"reason":"mute"`) {
			t.Errorf("who is muted is answered %s", got)
		}
		if got := login(t, addr).enter("mallory", "lobby"); !strings.Contains(got, `"reason":"ban"`) {
			t.Errorf("who is banned is answered %s", got)
		}
		a.must("unmute", "alice", "-room", "lobby")
		if got := alice.ask("chat.chatHandler.send", sayHello); got != "{}" {
			t.Errorf("who is muted no more is answered %s", got)
		}
		if got := a.must("who", "lobby"); got != "alice\n" {
			t.Errorf("who: %q", got)
		}
		a.must("kick", "alice")
		alice.kicked()
	}
}

// keepsGET: a GET that is held is answered by the new process with what is said then, and the session goes on.
func keepsGET(t *testing.T, u *upgradable) func() {
	addr := u.addr("connector")
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := &polling{client: &http.Client{Transport: transport, Timeout: 2 * deadline}, version: 4, id: 1}
	base := "http://" + addr.String() + "/socket.io/?EIO=4&transport=polling"
	text, err := c.get(base)
	var open struct{ SID string }
	if err != nil || json.Unmarshal([]byte(strings.TrimPrefix(text, "0")), &open) != nil {
		t.Fatal(text, err)
	}
	c.url = base + "&sid=" + open.SID
	if err := c.post("40"); err != nil {
		t.Fatal(err)
	}
	if text, err := c.get(c.url); err != nil || !strings.HasPrefix(text, "40") {
		t.Fatal(text, err)
	}
	enterAs(t, c, "polls")
	other := login(t, addr)
	// A GET by hand, on a connection that is known to be there, before something that is answered: there is one event loop, which serves them in order.
	held := dial(t, addr)
	held.write([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
	resp, err := http.ReadResponse(held.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	held.write([]byte("GET /socket.io/?EIO=4&transport=polling&sid=" + open.SID + " HTTP/1.1\r\nHost: h\r\n\r\n"))
	other.ask("no.such.route", "{}")
	return func() {
		other.enter("other", "r")
		_ = held.conn.SetDeadline(time.Now().Add(deadline))
		resp, err := http.ReadResponse(held.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		all := string(b)
		for end := time.Now().Add(deadline); !strings.Contains(all, "onAdd"); {
			text, err := c.get(c.url)
			if all += text; err != nil || time.Now().After(end) {
				t.Fatal(all, err)
			}
		}
		if _, err := c.say(1, "chat.chatHandler.send", sayHello); err != nil {
			t.Error(err)
		}
	}
}

// keepsThrottled: who has asked for more than its socket takes is answered everything, in order, when it reads.
func keepsThrottled(t *testing.T, u *upgradable) func() {
	const asked = 60
	c := newTalker(t, u.addr("connector"), false)
	if err := c.conn.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	pad := strings.Repeat("y", 8<<10)
	sent := make(chan struct{})
	go func() { // it may not be read at once
		defer close(sent)
		c.say(c.message(1, "connector.entryHandler.enter", `{"username":"asks","rid":"r"}`))
		for i := range asked {
			c.say(c.message(uint32(2+i), "chat.chatHandler.send", fmt.Sprintf(`{"content":"<%d>%s","target":"*"}`, i, pad)))
		}
	}()
	return func() {
		_ = c.conn.(*net.TCPConn).SetReadBuffer(1 << 20) // or it takes long
		next := uint32(1)
		for next <= asked+1 {
			_ = c.conn.SetDeadline(time.Now().Add(deadline))
			p, _, err := c.hear()
			if err != nil {
				t.Fatalf("before answer %d: %v", next, err)
			}
			m, err := codec.ParseMessage(p.Body)
			if err != nil || m.Type != codec.MessageResponse {
				continue
			}
			if m.ID != next {
				t.Fatalf("answer %d comes where %d was due", m.ID, next)
			}
			next++
		}
		<-sent
	}
}

// keepsHalfRead: the rest of a frame whose first bytes were read before comes after, and what follows it.
func keepsHalfRead(t *testing.T, u *upgradable) func() {
	c := newTalker(t, u.addr("connector"), true)
	if err := c.conn.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	other := newTalker(t, u.addr("connector"), false)
	for i, x := range []*talker{c, other} {
		x.say(x.message(1, "connector.entryHandler.enter", fmt.Sprintf(`{"username":"u%d","rid":"r"}`, i)))
		if err := x.answer(); err != nil {
			t.Fatal(err)
		}
	}
	const messages = 30
	pad := strings.Repeat("z", 16<<10)
	for i := range messages {
		other.say(other.message(2, "chat.chatHandler.send", fmt.Sprintf(`{"content":"<%d>%s","target":"*"}`, i, pad)))
		if err := other.heard(fmt.Sprintf("<%d>", i)); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.conn.SetDeadline(time.Now().Add(deadline))
	if _, err := c.r.Peek(10); err != nil { // some of it has come
		t.Fatal(err)
	}
	return func() {
		_ = c.conn.(*net.TCPConn).SetReadBuffer(1 << 20)
		for i := range messages {
			if err := c.heard(fmt.Sprintf("<%d>%s", i, pad)); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		if err := (&couple{c, other}).chat("goes on"); err != nil {
			t.Error(err)
		}
	}
}

// sendsTLSAway: clients of TLS are sent away, counted, and are served again; those without stay.
func sendsTLSAway(t *testing.T, u *upgradable) func() {
	plain := newCouple(t, u.addr("connector"))
	connect := func() *client.Client {
		c, err := client.DialTLS(u.addr("connector-tls").String(), &tls.Config{InsecureSkipVerify: true}, deadline)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	away := connect()
	if err := away.Request("connector.entryHandler.enter", map[string]string{"username": "sealed", "rid": "r"}, nil); err != nil {
		t.Fatal(err)
	}
	return func() {
		for {
			if _, err := away.Next(); err != nil {
				break
			}
		}
		if line := u.waitLog("took over"); !strings.Contains(line, `"closed":1,"reasons":"it speaks TLS: 1"`) {
			t.Error(line)
		}
		if err := connect().Request("connector.entryHandler.enter", map[string]string{"username": "sealed", "rid": "r"}, nil); err != nil {
			t.Errorf("it comes back: %v", err)
		}
		if err := plain.chat("without"); err != nil {
			t.Error(err)
		}
	}
}

// What a program knows of a session goes along if it carries it: what it has stored, the uid and the room. A program that does not is refused in its place.
func TestUpgradeWithAppThatCarries(t *testing.T) {
	u := startUpgradable(t, "app=carries", nil)
	c := login(t, u.addr("connector"))
	c.enter("alice", "lobby")
	c.ask("game.count.bind", "{}")
	for n := 1; n <= 4; n++ {
		if got, want := c.ask("game.count.ask", "{}"), fmt.Sprintf(`{"asked":%d,"known":true,"room":"lobby","uid":"account 7"}`, n); got != want {
			t.Fatalf("answered %s, want %s", got, want)
		}
		if n < 4 {
			u.mustUpgrade()
		}
	}
	if log := u.log(); strings.Count(log, `"closed":0`) != 3 {
		t.Error("somebody was sent away")
	}
	u.replace(upgradeEnv+`="times=1m,app=plain" exec $POMELOD "$@"`, 0o755)
	if said, code := u.upgrade(); code != 1 || !strings.Contains(said, "the running program carries its sessions (App.Carry), and this one does not") {
		t.Errorf("exit %d, %s", code, said)
	}
	if got := c.ask("game.count.ask", "{}"); !strings.Contains(got, `"asked":5`) {
		t.Errorf("answered %s", got)
	}
}
