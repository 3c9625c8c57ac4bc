package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/netpoll"
)

// A push to all but one reaches all but that one, on whatever loops and wires they are; what comes before and behind reaches that one too.
func TestPushExcept(t *testing.T) {
	for _, sh := range shapes {
		a := app.New()
		r := appRig(t, sh, a)
		var clients []*client
		for i := range 6 {
			c := r.login(atConnector, i%2 == 0)
			c.enter(fmt.Sprint("n", i), "r")
			clients = append(clients, c)
		}
		for _, c := range clients {
			c.take()
		}
		room := a.Room("r")
		push := func(err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}
		push(room.Push("n", map[string]int{"n": 1}))
		push(room.PushExcept("n2", "n", map[string]int{"n": 2}))
		push(room.PushExcept("nobody", "n", map[string]int{"n": 3}))
		push(room.PushExcept("n3", "n", map[string]int{"n": 4}))
		r.net.Settle()
		for i, c := range clients {
			var want []string
			for n := range 4 {
				if !(n == 1 && i == 2 || n == 3 && i == 3) {
					want = append(want, fmt.Sprintf(`push 0 n {"n":%d}`, n+1))
				}
			}
			c.want(want...)
		}
		for i := range 6 {
			if i != 4 {
				clients[i].sock.End()
			}
		}
		r.net.Settle()
		clients[4].take()
		if err := r.asked(func() error { return room.Wait(t.Context()).PushExcept("n4", "n", nil) }); err != app.ErrAbsent {
			t.Errorf("nobody else is there: %v", err)
		}
		if err := r.asked(func() error { return room.Wait(t.Context()).PushExcept("n5", "n", nil) }); err != nil {
			t.Error(err)
		}
		clients[4].want(`push 0 n {}`)
	}
}

// What the server says comes as what a member says, and is kept.
func TestSayAndCount(t *testing.T) {
	for _, sh := range shapes {
		a := app.New()
		r := newRig(t, sh, func(c *Config) {
			c.App = a
			c.Limits.History = History{Messages: 10, Bytes: 1 << 16, Age: 1 << 40}
		})
		room := a.Room("r")
		count := func() (n int) {
			t.Helper()
			if err := r.asked(func() (err error) { n, err = room.Count(t.Context()); return }); err != nil {
				t.Fatal(err)
			}
			return n
		}
		if err := r.asked(func() error { return room.Wait(t.Context()).Say("news", "x") }); err != app.ErrAbsent {
			t.Errorf("nobody is there: %v", err)
		}
		if n := count(); n != 0 {
			t.Errorf("%d members of no room", n)
		}
		c, x := r.login(atConnector, true), r.extendedLogin(true)
		c.enter("a", "r")
		x.enter("b", "r")
		c.take()
		if err := r.asked(func() error { return room.Wait(t.Context()).Say("news", "hi \U0001F600") }); err != nil {
			t.Error(err)
		}
		c.want(`push 0 onChat {"msg":"hi \ud83d\ude00","from":"news","target":"*"}`)
		if n := count(); n != 2 {
			t.Errorf("%d members, want 2", n)
		}
		if got := x.ask(routeHistory, `{}`); !strings.Contains(got, `"msg":"hi \ud83d\ude00","from":"news"`) {
			t.Errorf("kept: %s", got)
		}
	}
}

// Events tell where sessions go, and why they leave; each enter is followed by one leave.
func TestMoves(t *testing.T) {
	for _, sh := range shapes {
		a := app.New()
		var events []string
		note := func(format string, args ...any) { events = append(events, fmt.Sprintf(format, args...)) }
		a.OnOpen(func(*app.Session) { note("open") })
		a.OnEnter(func(s *app.Session) { note("enter %s %s", s.Room(), s.User()) })
		a.OnRename(func(s *app.Session, was app.Place) { note("rename %s to %s", was.User, s.User()) })
		a.OnLeave(func(s *app.Session, left app.Place, why app.Why) { note("leave %s %s %s", left.Room, left.User, why) })
		a.OnClose(func(s *app.Session) { note("close") })
		r := appRig(t, sh, a)
		check := func(what string, want ...string) {
			t.Helper()
			r.net.Settle()
			if fmt.Sprint(events) != fmt.Sprint(want) {
				t.Errorf("%v, %s: got %q, want %q", sh, what, events, want)
			}
			events = nil
		}
		c := r.login(atConnector, true)
		c.enter("a", "r")
		c.enter("b", "r")
		c.enter("b", "other")
		check("three enters", "open", "enter r a", "rename a to b", "leave r b switch", "enter other b")
		c.sock.Send(maskedFrame(8, []byte{3, 232}))
		check("a close frame", "leave other b goodbye", "close")

		for _, tc := range []struct {
			why app.Why
			ws  bool
			end func(c *client)
		}{
			{app.Goodbye, false, func(c *client) { c.sock.End() }},
			{app.Cut, true, func(c *client) { c.sock.End() }},
			{app.Cut, false, func(c *client) { c.sock.Err = 104 }},
			{app.Cut, false, func(c *client) { r.net.Seconds(10) }},
			{app.Refused, false, func(c *client) { c.sock.Send([]byte{9, 0, 0, 0}) }},
			{app.Kicked, false, func(c *client) { _ = a.Room("r").Kick("a", "go") }},
		} {
			c := r.login(atConnector, tc.ws)
			c.enter("a", "r")
			events = nil
			tc.end(c)
			r.net.Settle()
			if tc.why == app.Kicked || tc.why == app.Refused {
				c.sock.End() // it has read why
			}
			check(string(tc.why), "leave r a "+string(tc.why), "close")
		}
		c = r.login(atConnector, false)
		c.enter("a", "r")
		events = nil
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = r.node.Shutdown(ctx)
		check("shutdown", "leave r a shutdown", "close")
	}
}

// A session that polls leaves when its client says goodbye, not when the reason has been fetched.
func TestMovesOfPollingSessions(t *testing.T) {
	a := app.New()
	var left []app.Why
	a.OnLeave(func(_ *app.Session, _ app.Place, why app.Why) { left = append(left, why) })
	r := appRig(t, shape{loops: 1}, a)
	c := r.login(atConnector, true)
	l := r.loops()[0]
	c.enter("a", "r")
	l.np.Each(func(conn *netpoll.Conn) { l.become(l.session(conn), opening) }) // as a disconnect of Engine.IO does
	c.sock.End()
	r.net.Settle()
	if fmt.Sprint(left) != "[goodbye]" {
		t.Errorf("left: %v", left)
	}
}

// Whose session it is is the program's to say; a second login sees the first.
func TestUIDs(t *testing.T) {
	a := app.New()
	a.Handle("user.userHandler.login", func(c *app.Call) (any, error) {
		var body struct{ UID string }
		if err := c.Decode(&body); err != nil {
			return nil, err
		}
		others := c.Session.Bind(body.UID)
		for _, s := range others {
			s.Kick("another login")
		}
		return map[string]any{"uid": c.Session.UID(), "others": len(others)}, nil
	})
	r := appRig(t, shape{loops: 3}, a)
	login := func(c *client, uid, want string) {
		t.Helper()
		c.request("user.userHandler.login", `{"uid":"`+uid+`"}`)
		c.wantTold(want)
	}
	first, second, third := r.login(atConnector, false), r.login(atConnector, false), r.login(atConnector, true)
	login(first, "u1", `answer 1 {"others":0,"uid":"u1"}`)
	login(third, "u3", `answer 1 {"others":0,"uid":"u3"}`)
	if n, err := a.PushUIDs([]string{"u1", "u2", "u3"}, "onNews", nil); n != 2 || err != nil {
		t.Errorf("reached %d, %v", n, err)
	}
	r.net.Settle()
	first.want(`push 0 onNews {}`)
	second.want()
	third.want(`push 0 onNews {}`)
	login(second, "u1", `answer 1 {"others":1,"uid":"u1"}`)
	r.net.Settle()
	first.want(`kick 0 {"reason":"another login"}`)
	first.sock.End()
	r.net.Settle()
	if list := a.SessionsOf("u1"); len(list) != 1 || list[0].Closed() {
		t.Errorf("sessions of u1: %v", list)
	}
	login(second, "", `answer 2 {"others":0,"uid":""}`)
	if list := a.SessionsOf("u1"); len(list) != 0 {
		t.Errorf("sessions of u1: %v", list)
	}
	late := a.SessionsOf("u3")[0]
	third.sock.End()
	r.net.Settle()
	if late.Bind("u3"); len(a.SessionsOf("u3")) != 0 || late.UID() != "" {
		t.Error("a session that has ended is bound")
	}
}

// A filter changes what is said, of every form in which it can come, and refuses with members of its own.
func TestFiltersChange(t *testing.T) {
	for _, sh := range shapes {
		a := app.New()
		a.Before(routeSend, func(c *app.Call) error {
			m, err := c.Members()
			if err != nil {
				return err
			}
			switch m["content"] {
			case "loud":
				return &app.Error{Code: 429, Body: map[string]any{"reason": "loud", "wait": 3, "code": 1}}
			case "odd":
				return &app.Error{Code: 400, Body: "no object"}
			case "unfit":
				return c.SetBody(make(chan int))
			}
			m["content"] = "***"
			return c.SetBody(m)
		})
		a.Before(routeEnter, func(c *app.Call) error {
			var body struct{ Username, Rid string }
			if err := c.Decode(&body); err != nil {
				return err
			}
			if body.Username == "guest" {
				return &app.Error{Code: 401, Body: map[string]string{"reason": "login"}}
			}
			body.Username = "the " + body.Username
			return c.SetBody(map[string]string{"username": body.Username, "rid": body.Rid})
		})
		r := appRig(t, sh, a)
		c := r.login(atConnector, false)
		c.request(routeEnter, enterBody("guest", "r"))
		c.request(routeEnter, enterBody("king", "r"))
		c.request(routeSend, sendBody("darn", "*"))
		c.request(routeSend, sendBody("loud", "*"))
		c.request(routeSend, sendBody("odd", "*"))
		c.request(routeSend, sendBody("unfit", "*"))
		c.request(routeSend, `[]`)
		c.wantTold(`answer 1 {"code":401,"error":true,"reason":"login"}`, `answer 2 {"users":["the king"]}`,
			`push 0 onChat {"msg":"***","from":"the king","target":"*"}`, `answer 3 {}`, `answer 4 {"code":429,"reason":"loud","wait":3}`,
			`answer 5 {"code":400}`, `answer 6 `+refused, `answer 7 `+refused)
	}
}

// What begins and ends with the server is called once each, in order; an error keeps the server from starting.
func TestStartAndStop(t *testing.T) {
	a := app.New()
	var calls []string
	for i := range 2 {
		a.OnStart(func() error { calls = append(calls, fmt.Sprint("start ", i)); return nil })
		a.OnStop(func(context.Context) { calls = append(calls, fmt.Sprint("stop ", i)) })
	}
	r := appRig(t, shape{loops: 1}, a)
	if err := errors.Join(r.node.StartApp(), r.node.StopApp(t.Context())); err != nil {
		t.Error(err)
	}
	if fmt.Sprint(calls) != "[start 0 start 1 stop 1 stop 0]" {
		t.Errorf("%q", calls)
	}
	no, late := errors.New("no"), make(chan struct{})
	b := app.New()
	b.OnStart(func() error { return no })
	b.OnStart(func() error { panic("as the test wants it") })
	b.OnStop(func(context.Context) { <-late })
	r = appRig(t, shape{loops: 1}, b)
	if err := r.node.StartApp(); !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r.node.StopApp(ctx) == nil {
		t.Error("it was waited for")
	}
	close(late)
}
