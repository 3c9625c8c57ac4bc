package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
)

// appRig is a node with an App whose handlers run on real goroutines. settle waits for those it knows to be running.
func appRig(t *testing.T, sh shape, a *app.App) *rig {
	return newRig(t, sh, func(c *Config) { c.App = a })
}

// until turns the loops until ok, or fails after a while: handlers take real time.
func (r *rig) until(ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		r.net.Settle()
		if ok() {
			return
		}
		if time.Now().After(end) {
			r.t.Fatal("did not happen in time")
		}
	}
}

// awaited turns the loops until the client was told n things, and returns them.
func (c *client) awaited(n int) []string {
	c.r.t.Helper()
	c.r.until(func() bool { c.pump(); return len(c.events) >= n })
	return c.take()
}

func (c *client) wantTold(lines ...string) {
	c.r.t.Helper()
	if got := c.awaited(len(lines)); fmt.Sprint(got) != fmt.Sprint(lines) {
		c.r.t.Fatalf("got  %q\nwant %q", got, lines)
	}
}

func TestHandlers(t *testing.T) {
	for _, sh := range shapes {
		a := app.New()
		a.Handle("area.areaHandler.echo", func(c *app.Call) (any, error) {
			var body struct{ Text string }
			if err := c.Decode(&body); err != nil {
				return nil, err
			}
			if err := c.Session.Push("onEcho", map[string]string{"text": body.Text}); err != nil {
				return nil, err
			}
			return map[string]string{"text": body.Text + "\U0001F600"}, nil
		})
		a.HandleInline("area.areaHandler.count", func(c *app.Call) (any, error) {
			n, _ := c.Session.Get("n").(int)
			c.Session.Set("n", n+1)
			return map[string]int{"n": n + 1}, nil
		})
		a.Handle("area.areaHandler.nothing", func(*app.Call) (any, error) { return nil, nil })
		a.Handle("area.areaHandler.fail", func(*app.Call) (any, error) { return nil, errors.New("no") })
		a.Handle("area.areaHandler.code", func(*app.Call) (any, error) { return nil, fmt.Errorf("wrapped: %w", &app.Error{Code: 404}) })
		a.Handle("area.areaHandler.panic", func(*app.Call) (any, error) { panic("as the test wants it") })
		a.Handle("area.areaHandler.unfit", func(*app.Call) (any, error) { return make(chan int), nil })
		a.Handle("area.areaHandler.who", func(c *app.Call) (any, error) {
			return map[string]string{"user": c.Session.User(), "room": c.Session.Room(), "body": string(c.Body)}, nil
		})
		r := appRig(t, sh, a)
		c := r.login(atConnector, true)
		c.request("area.areaHandler.echo", `{"text":"hi"}`)
		c.request("area.areaHandler.count", `{}`)
		c.request("area.areaHandler.nothing", ``)
		c.request("area.areaHandler.fail", `{}`)
		c.request("area.areaHandler.code", `{}`)
		c.request("area.areaHandler.panic", `{}`)
		c.request("area.areaHandler.unfit", `{}`)
		c.request(routeEnter, enterBody("a", "r"))
		c.request("area.areaHandler.who", `not json`)
		c.request(routeSend, sendBody("x", "*"))
		c.request("area.areaHandler.count", `{}`)
		c.wantTold(`push 0 onEcho {"text":"hi"}`, `answer 1 {"text":"hi\ud83d\ude00"}`, `answer 2 {"n":1}`, `answer 3 {}`, `answer 4 {"code":500}`,
			`answer 5 {"code":404}`, `answer 6 {"code":500}`, `answer 7 {"code":500}`, `answer 8 {"users":["a"]}`,
			`answer 9 {"body":"{}","room":"r","user":"a"}`, `push 0 onChat {"msg":"x","from":"a","target":"*"}`, `answer 10 {}`, `answer 11 {"n":2}`)
	}
}

// Filters refuse or let through, the chat application's routes too, and keep the order of a session's messages.
func TestFilters(t *testing.T) {
	for _, sh := range shapes {
		a := app.New()
		var after []string
		a.Handle("area.areaHandler.x", func(*app.Call) (any, error) { return map[string]int{"x": 1}, nil })
		a.Before("", func(c *app.Call) error {
			if strings.Contains(string(c.Body), "bad") {
				return &app.Error{Code: 403}
			}
			return nil
		})
		a.Before(routeSend, func(c *app.Call) error {
			if strings.Contains(string(c.Body), "rude") {
				return errors.New("rude")
			}
			return nil
		})
		a.Before(routeEnter, func(c *app.Call) error {
			if !strings.Contains(string(c.Body), "token") {
				return errors.New("no token")
			}
			return nil
		})
		a.After(func(c *app.Call, result any, err error) { after = append(after, fmt.Sprint(c.Route, result, err)) })
		r := appRig(t, sh, a)
		c := r.login(atConnector, false)
		c.request(routeEnter, enterBody("a", "r"))
		c.request(routeEnter, `{"username":"a","rid":"r","token":1}`)
		c.request(routeSend, sendBody("nice", "*"))
		c.request(routeSend, sendBody("rude", "*"))
		c.notify(routeSend, sendBody("rude", "*"))
		c.notify(routeSend, sendBody("nicer", "*"))
		c.request("area.areaHandler.x", `{}`)
		c.request("area.areaHandler.x", `{"bad":1}`)
		c.wantTold(`answer 1 `+enterRefused, `answer 2 {"users":["a"]}`,
			`push 0 onChat {"msg":"nice","from":"a","target":"*"}`, `answer 3 {}`, `answer 4 `+refused,
			`push 0 onChat {"msg":"nicer","from":"a","target":"*"}`, `answer 5 {"x":1}`, `answer 6 {"code":403}`)
		if fmt.Sprint(after) != `[area.areaHandler.xmap[x:1] <nil>]` {
			t.Errorf("after saw %q", after)
		}
	}
}

// Pushes of the server's own reach whom they name, from any goroutine; a kick is told its reason.
func TestAppPushes(t *testing.T) {
	for _, sh := range shapes {
		a := app.New()
		if err := a.Room("r").Push("onNews", nil); err != app.ErrNotRunning {
			t.Error(err)
		}
		r := appRig(t, sh, a)
		alice, b, out := r.login(atConnector, true), r.login(atConnector, false), r.login(atConnector, true)
		alice.enter("a", "r")
		b.enter("b", "r")
		alice.take()
		body := map[string]string{"text": "news"}
		for _, err := range []error{a.Room("r").Push("onNews", body), a.Room("r").PushUser("b", "onNews", body), a.Room("nowhere").Push("onNews", body)} {
			if err != nil {
				t.Error(err)
			}
		}
		r.net.Settle()
		news := `push 0 onNews {"text":"news"}`
		alice.want(news)
		b.want(news, news)
		if err := a.Broadcast("onAll", struct{}{}); err != nil {
			t.Error(err)
		}
		r.net.Settle()
		for _, c := range []*client{alice, b, out} {
			c.want(`push 0 onAll {}`)
		}
		if err := a.Room("r").Kick("b", "spam"); err != nil {
			t.Error(err)
		}
		r.net.Settle()
		b.want(`kick 0 {"reason":"spam"}`)
		alice.want(`push 0 onLeave {"route":"onLeave","user":"b"}`)
		if !b.sock.ShutDown {
			t.Error("a kicked client must be closed")
		}

		for want, err := range map[error]error{
			app.ErrRoute:   a.Room("r").Push("", body),
			app.ErrObject:  a.Room("r").Push("onNews", []int{1}),
			app.ErrTooLong: a.Room("r").Push("onNews", map[string]string{"x": strings.Repeat("x", 300_000)}),
		} {
			if err != want {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		if err := a.Room("r").Push("onNews", map[string]int{"body": 1}); err != app.ErrObject {
			t.Error(err)
		}
	}
}

// Events come once each, open before any call, close after the end; a handler that is running then sees its context end.
func TestSessionEvents(t *testing.T) {
	a := app.New()
	var events []string
	entered, left := make(chan struct{}), make(chan error, 1)
	a.OnOpen(func(s *app.Session) { events = append(events, "open") })
	a.OnClose(func(s *app.Session) { events = append(events, fmt.Sprint("close ", s.User(), s.Closed())) })
	a.Handle("area.areaHandler.wait", func(c *app.Call) (any, error) {
		close(entered)
		<-c.Context().Done()
		left <- c.Context().Err()
		return nil, nil
	})
	r := appRig(t, shape{loops: 1}, a)
	r.connect(atConnector, false).sock.End() // never finished its handshake: no events
	c := r.login(atConnector, false)
	c.enter("a", "r")
	c.request("area.areaHandler.wait", `{}`)
	r.net.Settle()
	<-entered
	c.sock.End()
	r.net.Settle()
	if err := <-left; err != context.Canceled {
		t.Error(err)
	}
	if fmt.Sprint(events) != "[open close atrue]" {
		t.Errorf("events %q", events)
	}
}

// A handler that takes too long is given up: its client gets 500, what it returns later is dropped, and the session goes on.
func TestHandlerTimeout(t *testing.T) {
	a := app.New()
	a.Timeout = 5 * time.Second
	gate := make(chan struct{})
	a.Handle("area.areaHandler.slow", func(*app.Call) (any, error) { <-gate; return map[string]int{"late": 1}, nil })
	r := appRig(t, shape{loops: 1}, a)
	c := r.login(atConnector, false)
	c.request("area.areaHandler.slow", `{}`)
	c.request(routeEnter, enterBody("a", "r"))
	r.net.Settle()
	r.net.Seconds(4)
	c.want()
	r.net.Seconds(2)
	c.want(`answer 1 `+refused, `answer 2 {"users":["a"]}`)
	close(gate)
	r.until(func() bool { return r.goroutines() == 0 })
	r.net.Settle()
	c.want()
}

// A handler that overruns its time does not disturb the session's next one, whichever ends first.
func TestOverrunningHandlers(t *testing.T) {
	a := app.New()
	a.Timeout = 2 * time.Second
	slow, next, inNext := make(chan struct{}), make(chan struct{}), make(chan context.Context, 1)
	a.Handle("area.areaHandler.slow", func(*app.Call) (any, error) { <-slow; return nil, nil })
	a.Handle("area.areaHandler.next", func(c *app.Call) (any, error) { inNext <- c.Context(); <-next; return map[string]int{"n": 1}, nil })
	r := appRig(t, shape{loops: 1}, a)
	c := r.login(atConnector, false)
	c.request("area.areaHandler.slow", `{}`)
	r.net.Settle()
	r.net.Seconds(4)
	c.want(`answer 1 ` + refused)
	c.request("area.areaHandler.next", `{}`)
	r.net.Settle()
	ctx := <-inNext
	close(slow)
	r.until(func() bool { return r.goroutines() == 1 })
	if ctx.Err() != nil {
		t.Error("the late one ended the next one's context")
	}
	close(next)
	c.wantTold(`answer 2 {"n":1}`)
}

// Every refusal of enter has "error", by whichever way a filter refuses it (protocol.md §1).
func TestFilteredEnterIsRefusedAsEnterIs(t *testing.T) {
	a := app.New()
	a.Timeout = 2 * time.Second
	never := make(chan struct{})
	defer close(never)
	a.Before(routeEnter, func(c *app.Call) error {
		switch {
		case strings.Contains(string(c.Body), "coded"):
			return &app.Error{Code: 403}
		case strings.Contains(string(c.Body), "panic"):
			panic("as the test wants it")
		}
		<-never
		return nil
	})
	r := appRig(t, shape{loops: 1}, a)
	c := r.login(atConnector, false)
	c.request(routeEnter, enterBody("coded", "r"))
	c.wantTold(`answer 1 {"code":403,"error":true}`)
	c.request(routeEnter, enterBody("panic", "r"))
	c.wantTold(`answer 2 ` + enterRefused)
	c.request(routeEnter, enterBody("slow", "r"))
	r.net.Settle()
	r.net.Seconds(4)
	c.want(`answer 3 ` + enterRefused)
}

// What an inline handler pushes to its own session comes before its answer, as for the others.
func TestInlinePushComesBeforeTheAnswer(t *testing.T) {
	a := app.New()
	a.HandleInline("area.areaHandler.push", func(c *app.Call) (any, error) { return nil, c.Session.Push("onX", nil) })
	r := appRig(t, shape{loops: 1}, a)
	c := r.login(atConnector, true)
	c.request("area.areaHandler.push", `{}`)
	c.request(routeEnter, enterBody("a", "r"))
	c.notify("area.areaHandler.push", `{}`)
	c.request("area.areaHandler.push", `{}`)
	c.wantTold(`push 0 onX {}`, `answer 1 {}`, `answer 2 {"users":["a"]}`, `push 0 onX {}`, `push 0 onX {}`, `answer 3 {}`)
}

// A result that no message can hold costs its request only.
func TestResultBeyondTheFormat(t *testing.T) {
	a := app.New()
	huge := strings.Repeat("x", 1<<24)
	result := func(*app.Call) (any, error) { return huge, nil }
	a.Handle("area.areaHandler.huge", result)
	a.HandleInline("area.areaHandler.inline", result)
	r := appRig(t, shape{loops: 1}, a)
	c := r.login(atConnector, false)
	c.request("area.areaHandler.huge", `{}`)
	c.request("area.areaHandler.inline", `{}`)
	c.wantTold(`answer 1 `+refused, `answer 2 `+refused)
}

// A broadcast reaches more sessions than one turn stages, and is refused while too much waits already.
func TestBroadcastToMany(t *testing.T) {
	a := app.New()
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.App, c.Limits.LoopBytes = a, 1000 })
	var clients []*client
	for range 3*broadcastSlice - 5 {
		clients = append(clients, r.login(atConnector, false))
	}
	if err := a.Broadcast("onAll", map[string]string{"x": strings.Repeat("x", 2000)}); err != nil {
		t.Fatal(err)
	}
	if err := a.Broadcast("onAll", nil); err != app.ErrBusy {
		t.Error(err)
	}
	r.net.Settle()
	for _, c := range clients {
		if got := c.take(); len(got) != 1 {
			t.Fatalf("got %q", got)
		}
	}
}

// After the end an App's pushes fail instead of piling up.
func TestAppAfterShutdown(t *testing.T) {
	a := app.New()
	r := appRig(t, shape{loops: 1}, a)
	var s *app.Session
	a.OnOpen(func(opened *app.Session) { s = opened })
	r.login(atConnector, false)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.node.Shutdown(ctx)
	if err := errors.Join(a.Room("r").Push("onX", nil), a.Room("r").Kick("a", "x"), s.Push("onX", nil)); !errors.Is(err, app.ErrNotRunning) {
		t.Error(err)
	}
	r.raw++
	late := r.net.Connect(r.node.Loops()[0], atConnector) // accepted while Shutdown was at work
	r.net.Settle()
	if !late.ShutDown && !late.Closed {
		t.Error("a late socket was kept")
	}
	if late.Closed {
		r.raw--
	}
}

// A client of socket.io that disconnects and connects again by the same connection has another session: what a program does to the first one does not concern it.
func TestSessionThatEndedIsNotTheNextOne(t *testing.T) {
	var known []*app.Session
	a := app.New()
	a.OnOpen(func(s *app.Session) { known = append(known, s) })
	r := appRig(t, shape{loops: 1}, a)
	c := r.sioLogin(flavours[7])
	c.send("41")
	c.run()
	c.send("40")
	c.run()
	if len(known) != 2 || !known[0].Closed() || known[1].Closed() {
		t.Fatalf("%d sessions", len(known))
	}
	c.take()
	old := known[0]
	if err := old.Push("onNews", map[string]string{"text": "for another"}); err != nil {
		t.Error(err)
	}
	if err := old.EnterThen(app.Place{Room: "r", User: "ann"}, func(err error) { t.Error(err) }); !errors.Is(err, app.ErrClosed) {
		t.Error(err)
	}
	old.Kick("enough")
	r.net.Settle()
	if err := known[1].Push("onNews", map[string]string{"text": "for it"}); err != nil {
		t.Error(err)
	}
	c.run()
	if got := plainly(c); strings.Contains(got, "for another") || !strings.Contains(got, "for it") || known[1].Closed() || known[1].Room() != "" {
		t.Errorf("told %q", got)
	}
}
