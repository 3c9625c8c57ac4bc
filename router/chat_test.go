package router

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

const (
	refused      = `{"code":500}`
	enterRefused = `{"code":500,"error":true}`
)

// The way of a chat as protocol.md §9 describes it, over both transports at once.
func TestChat(t *testing.T) {
	forShapes(t, func(t *testing.T, r *rig) {
		alice, bob, eve := r.login(atConnector, true), r.login(atConnector, false), r.login(atConnector, true)

		if got := alice.enter("alice", "r"); got != `{"users":["alice"]}` {
			t.Fatal(got)
		}
		if got := bob.enter("王五", "r"); got != `{"users":["alice","王五"]}` {
			t.Fatal(got)
		}
		alice.want(`push 0 onAdd {"route":"onAdd","user":"王五"}`)
		bob.want()

		if got := eve.enter("alice", "r"); got != enterRefused {
			t.Fatal(got)
		}
		if got := eve.enter("eve", "other"); got != `{"users":["eve"]}` {
			t.Fatal(got)
		}

		id := alice.request(routeSend, sendBody("hi \U0001F600", "*"))
		r.net.Settle()
		push := `push 0 onChat {"msg":"hi \ud83d\ude00","from":"alice","target":"*"}`
		alice.want(push, fmt.Sprintf("answer %d {}", id)) // push before answer
		bob.want(push)
		eve.want()

		if got := bob.ask(routeSend, sendBody("psst", "alice")); got != `{}` {
			t.Fatal(got)
		}
		bob.want()
		alice.want(`push 0 onChat {"msg":"psst","from":"王五","target":"alice"}`)
		if got := alice.ask(routeSend, sendBody("me", "alice")); got != `{}` {
			t.Fatal(got)
		}
		alice.want(`push 0 onChat {"msg":"me","from":"alice","target":"alice"}`)
		if got := alice.ask(routeSend, sendBody("nobody", "eve")); got != refused {
			t.Fatal(got)
		}

		bob.notify(routeSend, sendBody("quiet", "*"))
		r.net.Settle()
		bob.want(`push 0 onChat {"msg":"quiet","from":"王五","target":"*"}`)
		alice.want(`push 0 onChat {"msg":"quiet","from":"王五","target":"*"}`)

		bob.sock.End()
		r.net.Settle()
		alice.want(`push 0 onLeave {"route":"onLeave","user":"王五"}`)
		if got := eve.enter("王五", "r"); got != `{"users":["alice","王五"]}` { // the name is free at once
			t.Fatal(got)
		}
	})
}

// A second enter switches only after the new room said yes (protocol.md §9.5).
func TestSwitchRoom(t *testing.T) {
	forShapes(t, func(t *testing.T, r *rig) {
		a, b, c := r.login(atConnector, false), r.login(atConnector, true), r.login(atConnector, true)
		a.enter("a", "one")
		b.enter("b", "two")
		c.enter("c", "one")
		a.take()

		if got := c.enter("b", "two"); got != enterRefused {
			t.Fatal(got)
		}
		a.ask(routeSend, sendBody("still here?", "*"))
		c.want(`push 0 onChat {"msg":"still here?","from":"a","target":"*"}`)
		a.take()

		if got := c.enter("c", "two"); got != `{"users":["b","c"]}` {
			t.Fatal(got)
		}
		a.want(`push 0 onLeave {"route":"onLeave","user":"c"}`)
		b.want(`push 0 onAdd {"route":"onAdd","user":"c"}`)
		a.ask(routeSend, sendBody("alone", "*"))
		b.ask(routeSend, sendBody("together", "*"))
		c.want(`push 0 onChat {"msg":"together","from":"b","target":"*"}`)
		b.take()

		if got := c.enter("c", "two"); got != enterRefused {
			t.Fatal(got)
		}
		if got := c.enter("d", "two"); got != `{"users":["b","d"]}` {
			t.Fatal(got)
		}
		b.want(`push 0 onLeave {"route":"onLeave","user":"c"}`, `push 0 onAdd {"route":"onAdd","user":"d"}`)
		c.want()
		if got := c.enter("b", "two"); got != enterRefused {
			t.Fatal(got)
		}
		c.ask(routeSend, sendBody("x", "*"))
		b.want(`push 0 onChat {"msg":"x","from":"d","target":"*"}`)

		b.sock.End() // alone in a room, a rename is still no absence
		r.net.Settle()
		c.take()
		if got := c.enter("e", "two"); got != `{"users":["e"]}` {
			t.Fatal(got)
		}
		if got := c.ask(routeSend, sendBody("y", "*")); got != `{}` {
			t.Fatal(got)
		}
	})
}

// What is sent right behind an enter is sent in that room, whichever loop owns it, and answers keep their order.
func TestPipelining(t *testing.T) {
	forShapes(t, func(t *testing.T, r *rig) {
		for _, ws := range []bool{false, true} {
			c := r.login(atConnector, ws)
			var want []string
			id := c.id
			for i := range 5 { // five rooms, so that several loops own one
				name := fmt.Sprint("room", i, ws)
				c.request(routeEnter, enterBody("n", name))
				c.request(routeSend, sendBody("first", "*"))
				c.request(routeSend, sendBody("second", "nobody"))
				c.request("no.such.route", `{}`)
				c.request(routeSend, sendBody("third", "*"))
				want = append(want,
					fmt.Sprintf(`answer %d {"users":["n"]}`, id+1),
					`push 0 onChat {"msg":"first","from":"n","target":"*"}`, fmt.Sprintf("answer %d {}", id+2),
					fmt.Sprintf("answer %d %s", id+3, refused),
					fmt.Sprintf("answer %d %s", id+4, refused),
					`push 0 onChat {"msg":"third","from":"n","target":"*"}`, fmt.Sprintf("answer %d {}", id+5))
				id += 5
			}
			r.net.Settle()
			c.want(want...)
		}
	})
}

// Several packages in one WebSocket frame, cut by a pause in the middle, lose nothing.
func TestPackagesInOneFrame(t *testing.T) {
	forShapes(t, func(t *testing.T, r *rig) {
		c := r.login(atConnector, true)
		c.ws = false
		var payload []byte
		payload = append(payload, c.message(1, routeEnter, enterBody("n", "somewhere"))...)
		payload = append(payload, c.message(2, routeSend, sendBody("a", "*"))...)
		payload = append(payload, c.message(3, routeEnter, enterBody("n", "elsewhere"))...)
		payload = append(payload, c.message(4, routeSend, sendBody("b", "*"))...)
		c.ws = true
		c.sock.Send(maskedFrame(2, payload))
		c.sock.Send(c.message(5, routeSend, sendBody("c", "*")))
		r.net.Settle()
		c.want(`answer 1 {"users":["n"]}`,
			`push 0 onChat {"msg":"a","from":"n","target":"*"}`, `answer 2 {}`,
			`answer 3 {"users":["n"]}`,
			`push 0 onChat {"msg":"b","from":"n","target":"*"}`, `answer 4 {}`,
			`push 0 onChat {"msg":"c","from":"n","target":"*"}`, `answer 5 {}`)
	})
}

// Of 100 who enter under one name at the same time one gets it.
func TestOneNameForOne(t *testing.T) {
	forShapes(t, func(t *testing.T, r *rig) {
		var clients []*client
		for i := range 100 {
			clients = append(clients, r.login(atConnector, i%2 == 0))
		}
		for _, c := range clients {
			c.request(routeEnter, enterBody("n", "r"))
		}
		r.net.Settle()
		won := 0
		for _, c := range clients {
			switch got := c.take(); fmt.Sprint(got) {
			case `[answer 1 {"users":["n"]}]`:
				won++
			case `[answer 1 ` + enterRefused + `]`:
			default:
				t.Fatal(got)
			}
		}
		if won != 1 {
			t.Fatalf("%d got the name", won)
		}
	})
}

// Every way of asking for what cannot be had is answered once and harms nobody (protocol.md §1, §9.3, §9.4).
func TestRefusals(t *testing.T) {
	forShapes(t, func(t *testing.T, r *rig) {
		c := r.login(atConnector, false)
		long := strings.Repeat("x", 65)
		for _, tc := range []struct{ route, body, want string }{
			{routeSend, sendBody("before enter", "*"), refused},
			{routeEnter, `{}`, enterRefused},
			{routeEnter, `not json`, enterRefused},
			{routeEnter, `{"username":"a"}`, enterRefused},
			{routeEnter, `{"username":"","rid":"r"}`, enterRefused},
			{routeEnter, `{"username":"a","rid":""}`, enterRefused},
			{routeEnter, `{"username":{},"rid":"r"}`, enterRefused},
			{routeEnter, `{"username":null,"rid":"r"}`, enterRefused},
			{routeEnter, `{"username":"a*b","rid":"r"}`, enterRefused},
			{routeEnter, `{"username":"a","rid":"*"}`, enterRefused},
			{routeEnter, `{"username":"a\u0000","rid":"r"}`, enterRefused},
			{routeEnter, `{"username":"a\n","rid":"r"}`, enterRefused},
			{routeEnter, `{"username":"` + long + `","rid":"r"}`, enterRefused},
			{routeQueryEntry, `{"uid":"a"}`, refused}, // a gate's, and this is a connector
			{"", `{}`, refused},
			{"nodots", `{}`, refused},
			{"a.b", `{}`, refused},
			{"a.b.c.d", `{}`, refused},
			{"area.areaHandler.move", `{}`, refused},
			{"chat.chatHandler.constructor", `{}`, refused},
			{"chat.chatRemote.add", `{}`, refused},
			{routeEnter, `{"username":7,"rid":42}`, `{"users":["7"]}`},
			{routeSend, `{}`, refused},
			{routeSend, `{"content":"x"}`, refused},
			{routeSend, `{"content":"x","target":""}`, refused},
			{routeSend, `{"content":"x","target":7}`, refused},
			{routeSend, `[]`, refused},
			{routeSend, `{"content":"x","target":"*"`, refused},
			{routeSend, sendBody(strings.Repeat("\U0001F600", 50_000), "*"), refused}, // too long once escaped
		} {
			if got := c.ask(tc.route, tc.body); got != tc.want {
				t.Errorf("%s %.60s: got %s, want %s", tc.route, tc.body, got, tc.want)
			}
		}
		c.want() // nothing was pushed
		for body, msg := range map[string]string{
			`{"target":"*"}`: `""`,
			`{"content":{"a":[1,"é\ud83d"]},"target":"*","content":[null]}`: `[null]`,
			`{"content":-1.5e3,"target":"*"}`:                               `-1.5e3`,
		} {
			if got := c.ask(routeSend, body); got != `{}` {
				t.Errorf("%s: %s", body, got)
			}
			c.want(`push 0 onChat {"msg":` + msg + `,"from":"7","target":"*"}`)
		}
	})
}

// The gate answers with the connector, by the host through which the client came when none is configured.
func TestGate(t *testing.T) {
	sh := shape{loops: 1}
	configured := newRig(t, sh, func(c *Config) {
		c.Connectors = []Endpoint{{Host: "one", Port: 1}, {Host: "two", Port: 2}, {Host: "three", Port: 3}}
	})
	c := configured.login(atGate, true)
	for _, uid := range []string{"alice", "bob", "王五", "yejianfeng"} {
		i := codec.Dispatch(uid, 3)
		want := fmt.Sprintf(`{"code":200,"host":"%s","port":%d}`, []string{"one", "two", "three"}[i], i+1)
		if got := c.ask(routeQueryEntry, `{"uid":"`+uid+`"}`); got != want {
			t.Errorf("%s: got %s, want %s", uid, got, want)
		}
	}
	for _, body := range []string{`{}`, `{"uid":""}`, `{"uid":0}`, `{"uid":-0.0e7}`, `{"uid":null}`, `{"uid":false}`, `{"uid":[1]}`, `x`} {
		if got := c.ask(routeQueryEntry, body); got != refused {
			t.Errorf("%s: %s", body, got)
		}
	}
	for _, body := range []string{`{"uid":7}`, `{"uid":true}`, `{"uid":{}}`} {
		if got := c.ask(routeQueryEntry, body); got != `{"code":200,"host":"one","port":1}` {
			t.Errorf("%s: %s", body, got)
		}
	}
	if got := c.ask(routeEnter, enterBody("a", "r")); got != refused {
		t.Errorf("enter at a gate: %s", got)
	}

	bare := newRig(t, sh, func(c *Config) { c.Connectors = []Endpoint{{Host: "", Port: 3050}} })
	if got := bare.login(atGate, true).ask(routeQueryEntry, `{"uid":"a"}`); got != `{"code":200,"host":"gate.example","port":3050}` {
		t.Error(got)
	}
	if got := bare.login(atGate, false).ask(routeQueryEntry, `{"uid":"a"}`); got != `{"code":200,"host":"::1","port":3050}` {
		t.Error(got)
	}
}

// An overloaded worker refuses before anything has changed, and answers still keep their order.
func TestBusyWorkerRefuses(t *testing.T) {
	r := newRig(t, shape{loops: 2}, func(c *Config) { c.Limits.Inbox = 2 })
	room := foreignRoom(r, 0)
	c := r.login(atConnector, false)
	if got := c.enter("a", room); got != `{"users":["a"]}` {
		t.Fatal(got)
	}
	for i := range 5 {
		c.request(routeSend, sendBody(fmt.Sprint(i), "*"))
	}
	r.net.Settle()
	c.want(
		`push 0 onChat {"msg":"0","from":"a","target":"*"}`, `answer 2 {}`,
		`push 0 onChat {"msg":"1","from":"a","target":"*"}`, `answer 3 {}`,
		`answer 4 `+refused, `answer 5 `+refused, `answer 6 `+refused)
	if busy := r.node.loops[0].counters.busy; busy != 3 {
		t.Errorf("busy counted %d", busy)
	}
}

// foreignRoom is a room that does not run on loop i.
func foreignRoom(r *rig, i int) string {
	for k := 0; ; k++ {
		name := fmt.Sprint("room", k)
		if r.home(name) != r.node.loops[i] {
			return name
		}
	}
}

// A session with as many requests in flight as it may have is not read; it loses nothing.
func TestInflightStopsReading(t *testing.T) {
	r := newRig(t, shape{loops: 2}, func(c *Config) { c.Limits.Inflight = 4 })
	room := foreignRoom(r, 0)
	c := r.login(atConnector, false)
	c.enter("a", room)
	for i := range 10 {
		c.request(routeSend, sendBody(fmt.Sprint(i), "nobody"))
	}
	r.net.Events()
	if n := r.inbox(); n != 4 {
		t.Fatalf("%d requests went out at once", n)
	}
	if n := r.node.loops[0].counters.inflightWaits; n != 1 {
		t.Errorf("waits counted %d", n)
	}
	r.net.Settle()
	if got := c.take(); len(got) != 10 {
		t.Fatal(got)
	}
}

// A worker that does not answer in time costs its request; an enter that succeeds too late leaves no ghost.
func TestRequestTimeout(t *testing.T) {
	r := newRig(t, shape{loops: 2}, nil)
	room := foreignRoom(r, 0)
	c := r.login(atConnector, false)
	id := c.request(routeEnter, enterBody("a", room))
	c.request(routeSend, sendBody("x", "*"))
	r.net.Events() // the request is in the other loop's mail, and that loop does not turn
	l := r.node.loops[0].np
	for range 7 {
		r.net.Pass(1e9)
		l.Tick()
		r.net.TurnLoop(0)
	}
	c.want(fmt.Sprintf("answer %d %s", id, enterRefused), fmt.Sprintf("answer %d %s", id+1, refused))
	r.net.Settle()
	c.want()
	d := r.login(atConnector, true)
	if got := d.enter("a", room); got != `{"users":["a"]}` {
		t.Fatalf("a ghost is left: %s", got)
	}
	if n := r.node.loops[0].counters.timeouts; n != 1 {
		t.Errorf("timeouts counted %d", n)
	}
}

// A room whose members here do not keep up refuses new messages instead of growing, others go on, and it opens again.
func TestCrowdedRoomRefuses(t *testing.T) {
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Limits.RoomBytes = 2000 })
	a, b := r.login(atConnector, false), r.login(atConnector, false)
	a.enter("a", "crowded")
	b.enter("b", "calm")
	text := strings.Repeat("x", 900)
	for range 5 {
		a.request(routeSend, sendBody(text, "*"))
	}
	a.sock.Ready() // all in one batch, so nothing is written in between
	r.net.TurnLoop(0)
	r.net.Settle()
	done, busy := 0, 0
	for _, e := range a.take() {
		if strings.HasSuffix(e, "{}") {
			done++
		} else if strings.HasSuffix(e, refused) {
			busy++
		}
	}
	if done != 3 || busy != 2 {
		t.Errorf("%d accepted, %d refused", done, busy)
	}
	if got := a.ask(routeSend, sendBody("again", "*")); got != `{}` {
		t.Errorf("did not open again: %s", got)
	}
	if got := b.ask(routeSend, sendBody("calm", "*")); got != `{}` {
		t.Error(got)
	}
}

// A gap in a room's stream ends its members with a reason: never a silent hole.
func TestGapEndsMembers(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	a := r.login(atConnector, false)
	a.enter("a", "r")
	l := r.node.loops[0]
	for _, room := range l.rooms.byID {
		room.seq--
	}
	a.request(routeSend, sendBody("x", "*"))
	r.net.Settle()
	got := a.take()
	if len(got) == 0 || !strings.HasPrefix(got[0], "kick") || !a.sock.ShutDown || l.counters.gaps != 1 {
		t.Fatalf("%q, shut down %v, gaps %d", got, a.sock.ShutDown, l.counters.gaps)
	}
	if n := l.np.Stats().Closed[reasonKick]; n != 1 {
		t.Errorf("counted %d kicks", n)
	}
}

func TestLimitsThatCannotWork(t *testing.T) {
	for _, change := range []func(*Limits){
		func(l *Limits) { l.PackageBytes = l.Conn.Outbound },
		func(l *Limits) { l.Conn.Buffered = 1 },
		func(l *Limits) { l.NameBytes = 256 },
		func(l *Limits) { l.PackageBytes, l.Conn.Outbound, l.Conn.Buffered = 1<<24, 1<<25, 1<<26 },
	} {
		l := DefaultLimits()
		change(&l)
		if err := l.Check(); err == nil || !strings.Contains(err.Error(), "-max-") {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

var _ netpoll.Handler = (*loop)(nil)
