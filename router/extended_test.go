package router

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/limit"
)

// keepHistory makes rooms keep what is said, at fixed times and in fixed incarnations.
func keepHistory(cfg *Config) {
	cfg.Limits.History = History{Messages: 64, Bytes: 64 << 10, Age: 10 * time.Minute, Memory: 1 << 20}
	cfg.Wall = func() int64 { return 1_700_000_000_000 }
	cfg.salt = 5
}

// extendedClient is a client on any wire.
type extendedClient interface {
	ask(route, body string) string
	take() []string
	leave()
}

func (c *client) leave()    { c.sock.End(); c.r.net.Settle() }
func (c *sioClient) leave() { c.gone() }

// gone ends a socket.io client as its user closing the page does.
func (c *sioClient) gone() {
	if c.kind.version == 9 {
		c.send("0::")
	} else {
		c.send("41")
	}
	c.run()
}

// extendedLogin is login of a client that says in the handshake that it is extended.
func (r *rig) extendedLogin(ws bool) *client {
	r.t.Helper()
	c := r.connect(atConnector, ws)
	c.send(codec.PackageHandshake, []byte(`{"sys":{"type":"test","version":"1","extended":1}}`))
	c.send(codec.PackageHandshakeAck, nil)
	r.net.Settle()
	c.pump()
	if len(c.events) == 0 || !strings.Contains(c.events[0].text, `"extended":1`) || strings.Contains(c.events[0].text, "proto") {
		r.t.Fatalf("handshake: %v", c.events)
	}
	c.events = nil
	return c
}

// extendedWires opens an extended client on each wire.
func extendedWires() map[string]func(r *rig) extendedClient {
	wires := map[string]func(r *rig) extendedClient{
		"hybrid tcp":       func(r *rig) extendedClient { return r.extendedLogin(false) },
		"hybrid websocket": func(r *rig) extendedClient { return r.extendedLogin(true) },
	}
	for _, kind := range flavours {
		wires[kind.name] = func(r *rig) extendedClient { return r.sioLogin(kind) }
	}
	return wires
}

const secretOfB = `"secret":"0123456789abcdef"`

// member is the member of an answer or a push by that name, as JSON.
func memberOf(t testing.TB, body, name string) string {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return string(m[name])
}

// An extended client on each wire is told what it missed, once and in order, behind the answer to its enter and before what is said later; and a
// client beside it that is not extended gets what it has always got.
func TestExtendedReturn(t *testing.T) {
	for name, open := range extendedWires() {
		for _, sh := range append([]shape{{loops: 1}, {loops: 3, roundTrip: true}, {loops: 3, follow: true}}, fleets...) {
			t.Run(name+","+sh.String(), func(t *testing.T) {
				r := newRig(t, sh, keepHistory)
				ann := r.login(atConnector, false)
				ann.enter("ann", "r")
				ann.ask(routeSend, sendBody("before", "*"))
				first := open(r)
				answer := first.ask(routeEnter, `{"username":"bob","rid":"r","seq":true,`+secretOfB+`}`)
				if memberOf(t, answer, "seq") == "" || memberOf(t, answer, "complete") != "" || memberOf(t, answer, "users") != `["ann","bob"]` {
					t.Fatalf("entered with %s", answer)
				}
				ann.take()
				sent := first.ask(routeSend, `{"content":"mine","target":"*","mid":"0123456789abcdef"}`)
				if again := first.ask(routeSend, `{"content":"mine","target":"*","mid":"0123456789abcdef"}`); again != sent || memberOf(t, sent, "seq") == "" {
					t.Fatalf("answered %s, again %s", sent, again)
				}
				ann.want(`push 0 onChat {"msg":"mine","from":"bob","target":"*"}`)
				since := memberOf(t, answer, "seq")
				for _, line := range first.take() {
					if i := strings.Index(line, "{"); strings.Contains(line, "mine") {
						body := line[i:]
						if strings.Contains(line, `"body":`) {
							body = memberOf(t, body, "body")
						}
						if since = memberOf(t, body, "seq"); since == "" || memberOf(t, body, "rid") != `"r"` || memberOf(t, body, "time") != "1700000000000" {
							t.Fatalf("pushed %s", line)
						}
					}
				}
				first.leave()
				ann.take()
				for i := range 5 {
					ann.ask(routeSend, sendBody(fmt.Sprint("missed", i), "*"))
				}
				ann.take()
				second := open(r)
				answer = second.ask(routeEnter, `{"username":"bob","rid":"r","seq":true,`+secretOfB+`,"since":`+since+`}`)
				if memberOf(t, answer, "complete") != "true" {
					t.Fatalf("returned with %s", answer)
				}
				ann.ask(routeSend, sendBody("live", "*"))
				ann.want(`push 0 onAdd {"route":"onAdd","user":"bob"}`, `push 0 onChat {"msg":"live","from":"ann","target":"*"}`)
				var said []string
				for _, line := range second.take() {
					said = append(said, regexp.MustCompile(`"msg\\?":\\?"(\w+)`).FindStringSubmatch(line)[1])
				}
				if got := strings.Join(said, " "); got != "missed0 missed1 missed2 missed3 missed4 live" {
					t.Errorf("told %s", got)
				}
				page := second.ask(routeHistory, `{"rid":"r","limit":3}`)
				if memberOf(t, page, "more") != "true" || strings.Count(page, `"msg":`) != 3 || !strings.Contains(page, `"live"`) {
					t.Errorf("history %s", page)
				}
				if got := second.ask(routeHistory, `{"rid":"other"}`); got != string(channel.Refused) {
					t.Errorf("history of another room: %s", got)
				}
				if got := ann.ask(routeHistory, `{}`); strings.Count(got, `"msg":`) != 8 {
					t.Errorf("history of a plain member: %s", got)
				}
			})
		}
	}
}

// A session that is not extended may say what it likes: it is told nothing more.
func TestPlainClientsAskInVain(t *testing.T) {
	forShapes(t, func(t *testing.T, r *rig) {
		a := r.login(atConnector, true)
		if got := a.ask(routeEnter, `{"username":"a","rid":"r","seq":true,"since":"x.1","history":9}`); got != `{"users":["a"]}` {
			t.Error(got)
		}
		if got := a.ask(routeSend, `{"content":"x","target":"*","mid":"0123456789abcdef"}`); got != `{}` {
			t.Error(got)
		}
		if got := a.ask(routeSend, `{"content":"x","target":"*","mid":"0123456789abcdef"}`); got != `{}` {
			t.Error(got)
		}
		a.want(`push 0 onChat {"msg":"x","from":"a","target":"*"}`, `push 0 onChat {"msg":"x","from":"a","target":"*"}`)
	})
}

// What is no place, no number and no id is refused, or counts as none, and hurts nobody.
func TestExtendedBadInput(t *testing.T) {
	r := newRig(t, shape{loops: 1}, keepHistory)
	ann := r.login(atConnector, false)
	ann.enter("ann", "r")
	c := r.extendedLogin(true)
	for i, x := range []string{
		`"since":""`, `"since":"."`, `"since":"zzzzzzzzzzzzzzzzzzzz.1"`, `"since":"1.-1"`, `"since":"1.01"`, `"since":7`, `"since":null`, `"since":{}`, `"since":"1.99999999999999999999"`,
	} {
		if got := c.ask(routeEnter, fmt.Sprintf(`{"username":"b%d","rid":"r",%s,"history":-1}`, i, x)); memberOf(t, got, "complete") != "false" {
			t.Errorf("%s: %s", x, got)
		}
	}
	for _, x := range []string{`"history":1e9`, `"history":"x"`, `"history":99999999999`, `"history":[]`} {
		if got := c.ask(routeEnter, `{"username":"c","rid":"r2",`+x+`}`); memberOf(t, got, "seq") == "" {
			t.Errorf("%s: %s", x, got)
		}
		c.ask(routeEnter, `{"username":"c","rid":"r"}`)
	}
	for _, x := range []string{`{"before":"nonsense"}`, `{"limit":-5}`, `{"limit":"many"}`, `{"before":{}}`, `nothing`} {
		if got := c.ask(routeHistory, x); got != string(channel.Refused) && !strings.HasPrefix(got, `{"messages":[`) {
			t.Errorf("%s: %s", x, got)
		}
	}
	for _, mid := range []string{`""`, `"short"`, `7`, `"` + strings.Repeat("x", 65) + `"`} { // no ids, so nothing is sent again
		for range 2 {
			c.ask(routeSend, `{"content":"x","target":"*","mid":`+mid+`}`)
		}
	}
	n := 0
	for _, line := range ann.take() {
		if strings.Contains(line, "onChat") {
			n++
		}
	}
	if n != 8 {
		t.Errorf("%d messages, want 8", n)
	}
	other := r.login(atConnector, false)
	if got := other.ask(routeHistory, `{}`); got != string(channel.Refused) {
		t.Errorf("history outside of rooms: %s", got)
	}
}

// What is told of what was said costs its reader as enters do, and one more for 16 KiB, whether it is on pages or behind an enter: at once, and for
// as long as it goes on asking.
func TestHistoryRate(t *testing.T) {
	for _, tc := range []struct {
		name string
		most int                                // times at once
		read func(t *testing.T, c *client) bool // 56 KB; false: refused
	}{
		{"pages", 5, func(t *testing.T, c *client) bool { // each costs 1 and 3.4
			return !refusedByRate(t, c.ask(routeHistory, `{"limit":200}`), `"messages":[{`)
		}},
		{"enters", 4, func(t *testing.T, c *client) bool { // 2 and 3.4
			other := c.ask(routeEnter, `{"username":"a","rid":"other","secret":"0123456789abcdef"}`)
			if other != string(channel.EnterRefused) && refusedByRate(t, other, `"users":`) || // where it is still, as it could not enter r
				refusedByRate(t, c.ask(routeEnter, `{"username":"a","rid":"r","secret":"0123456789abcdef","history":200}`), `"users":`) {
				return false
			}
			n := 0
			for _, line := range c.take() {
				n += strings.Count(line, `xxxx"`)
			}
			if n != 7 {
				t.Fatalf("%d messages are repeated", n)
			}
			return true
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, func(cfg *Config) {
				keepHistory(cfg)
				cfg.Limits.EnterRate = limit.Rate{PerSecond: 2, Burst: 20}
			})
			c := r.extendedLogin(false)
			c.ask(routeEnter, `{"username":"a","rid":"r","secret":"0123456789abcdef"}`)
			witness := r.login(atConnector, false)
			witness.enter("w", "r")
			for range 7 {
				c.ask(routeSend, sendBody(strings.Repeat("x", 8000), "*"))
			}
			r.net.Seconds(1)
			c.take()
			times := 0
			for times < 20 && tc.read(t, c) {
				times++
			}
			if times == 0 || times > tc.most {
				t.Errorf("%d times at once", times)
			}
			for range 20 { // 40 enters
				r.net.Seconds(1)
				for range 3 {
					if tc.read(t, c) {
						times++
					}
				}
			}
			if most := tc.most + 40*tc.most/20; times > most {
				t.Errorf("%d times in 20 s, want %d at the most", times, most)
			}
			r.net.Seconds(5)
			if !tc.read(t, c) {
				t.Error("refused for good")
			}
		})
	}
}

// refusedByRate tells whether an answer refuses for the rate; otherwise it must have some text.
func refusedByRate(t *testing.T, answer, has string) bool {
	t.Helper()
	switch {
	case strings.Contains(answer, `"reason":"enter_rate"`):
		return true
	case !strings.Contains(answer, has):
		t.Fatalf("answered %.90s", answer)
	}
	return false
}

// Without a clock of the configuration's own it is the machine's.
func TestSteadyWall(t *testing.T) {
	begin := time.Now()
	wall := steadyWall(func() int64 { return int64(time.Since(begin)) })
	before := time.Now().Add(-time.Minute).UnixMilli()
	last := wall()
	for range 1000 {
		now := wall()
		if now < last || now < before || now > before+2*time.Minute.Milliseconds() {
			t.Fatalf("%d after %d, about %d", now, last, before)
		}
		last = now
	}
}

// What an empty room keeps is forgotten when it has come of age, also on a loop on which nothing else has happened since: here one that has no
// connection.
func TestIdleLoopsForget(t *testing.T) {
	r := newRig(t, shape{loops: 2}, func(cfg *Config) {
		keepHistory(cfg)
		cfg.Wall, cfg.Limits.History.Age = nil, 10*time.Second
	})
	r.net.Seconds(3) // the time is not 0
	c := r.login(atConnector, false)
	rooms := []string{"r", "s", "t", "u", "v", "w"}
	for _, room := range rooms {
		c.enter("a", room)
		c.ask(routeSend, sendBody("said", "*"))
	}
	c.leave()
	kept := func() (n int) {
		for _, l := range r.loops() {
			n += l.worker.Stats().Kept
		}
		return n
	}
	if n := kept(); n != len(rooms) || r.loops()[0].worker.Stats().Kept == 0 || r.loops()[1].worker.Stats().Kept == 0 {
		t.Fatalf("%d messages are kept", n)
	}
	r.net.Seconds(11)
	if n := kept(); n != 0 {
		t.Errorf("after 11 s: %d messages", n)
	}
}

// protocolExamples are what docs/PROTOCOL.md shows on each wire: what bob, who is extended, is sent.
var protocolExamples = []struct {
	name string // behind that of the wire
	list int    // Limits.Rooms.List
	play func(r *rig, open func(*rig) extendedClient) (sent []string)
}{
	{"", 0, func(r *rig, open func(*rig) extendedClient) []string {
		ann := r.login(atConnector, false)
		ann.enter("ann", "r")
		first := open(r)
		since := memberOf(r.t, first.ask(routeEnter, `{"username":"bob","rid":"r","seq":true,`+secretOfB+`}`), "seq")
		first.leave()
		ann.ask(routeSend, sendBody("你好", "*"))
		second := open(r)
		sent := recordBytes(second)
		second.ask(routeEnter, `{"username":"bob","rid":"r","seq":true,`+secretOfB+`,"since":`+since+`}`)
		return sent()
	}},
	{", history", 0, func(r *rig, open func(*rig) extendedClient) []string {
		bob, ann := open(r), r.login(atConnector, false)
		bob.ask(routeEnter, `{"username":"bob","rid":"r","seq":true}`)
		ann.enter("ann", "r")
		ann.ask(routeSend, sendBody("before", "*"))
		ann.ask(routeSend, sendBody("你好", "*"))
		bob.ask("no.such.route", `{}`)
		bob.take()
		sent := recordBytes(bob)
		bob.ask(routeHistory, `{"rid":"r","limit":1}`)
		return sent()
	}},
	{", members", 0, func(r *rig, open func(*rig) extendedClient) []string {
		bob := open(r)
		bob.ask(routeEnter, `{"username":"bob","rid":"r","seq":true}`)
		for _, name := range []string{"ann", "王"} {
			r.login(atConnector, false).enter(name, "r")
		}
		bob.ask("no.such.route", `{}`)
		bob.take()
		sent := recordBytes(bob)
		next := memberOf(r.t, bob.ask(routeMembers, `{"rid":"r","limit":2}`), "next")
		bob.ask(routeMembers, `{"rid":"r","limit":2,"after":`+next+`}`)
		return sent()
	}},
	{", count", 2, func(r *rig, open func(*rig) extendedClient) []string {
		bob := open(r)
		bob.ask(routeEnter, `{"username":"bob","rid":"r","seq":true}`)
		r.login(atConnector, false).enter("ann", "r")
		bob.ask("no.such.route", `{}`)
		bob.take()
		sent := recordBytes(bob)
		r.login(atConnector, false).enter("cid", "r")
		bob.take()
		return sent()
	}},
}

// docs/PROTOCOL.md has, for each wire, the bytes of a return, of pages and of counts, and they are these.
func TestProtocolExamples(t *testing.T) {
	const file = "../docs/PROTOCOL.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	wires := extendedWires()
	for _, wire := range slices.Sorted(maps.Keys(wires)) {
		for _, x := range protocolExamples {
			r := newRig(t, shape{loops: 1}, func(cfg *Config) {
				keepHistory(cfg)
				cfg.Limits.Rooms.List = x.list
			})
			name := wire + x.name
			want := fmt.Sprintf("<!-- golden: %s -->\n\n    %s\n", name, strings.Join(x.play(r, wires[wire]), "\n    "))
			block := regexp.MustCompile(`<!-- golden: ` + regexp.QuoteMeta(name) + ` -->\n\n(    .*\n)*`)
			if !block.MatchString(doc) {
				t.Errorf("no example of %s", name)
				continue
			}
			if got := block.FindString(doc); got != want {
				if os.Getenv("UPDATE_GOLDEN") == "" {
					t.Errorf("%s has\n%s\nthe server sends\n%s\nif that is meant: UPDATE_GOLDEN=1 go test ./router -run TestProtocolExamples", file, got, want)
				}
				doc = strings.Replace(doc, got, want, 1)
			}
		}
	}
	if os.Getenv("UPDATE_GOLDEN") != "" && doc != string(text) {
		if err := os.WriteFile(file, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// recordBytes tells what a client is sent from now on: the bytes of its socket, or the bodies of the answers to its GETs.
func recordBytes(c extendedClient) func() []string {
	quoted := func(b []byte) string {
		var text strings.Builder
		for len(b) > 0 {
			r, n := utf8.DecodeRune(b)
			if unicode.IsPrint(r) && (r != utf8.RuneError || n > 1) {
				text.WriteRune(r)
			} else {
				fmt.Fprintf(&text, "<%x>", b[:n])
			}
			b = b[n:]
		}
		return text.String()
	}
	switch c := c.(type) {
	case *client:
		at := len(c.sock.Wrote)
		return func() []string { return []string{quoted(c.sock.Wrote[at:])} }
	case *sioClient:
		if c.kind.ws {
			at := len(c.ws.sock.Wrote)
			return func() []string { return []string{quoted(c.ws.sock.Wrote[at:])} }
		}
		c.answers = nil
		return func() (lines []string) {
			for _, p := range c.answers {
				if p.body != "ok" && p.body != "1" {
					lines = append(lines, quoted([]byte(p.body)))
				}
			}
			return lines
		}
	}
	return nil
}
