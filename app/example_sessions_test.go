//go:build linux

package app_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/client"
)

// The client gives a name in its handshake, is answered, and the session is bound to it when it opens.
func ExampleApp_OnHandshake() {
	a := app.New()
	a.OnHandshake(func(h *app.Handshake) (any, error) {
		user := struct{ Name string }{"nobody"}
		if err := h.Decode(&user); err != nil {
			return nil, err // refuses the handshake
		}
		h.Session.Bind(user.Name)
		return map[string]string{"hello": user.Name}, nil
	})
	c, stop := serve(a)
	defer stop()

	fmt.Println(string(c.User()), a.UIDs())
	// Output: {"hello":"nobody"} [nobody]
}

// Each session has a counter of its own, which an upgrade of the server keeps.
func ExampleNewData() {
	a := app.New()
	calls := app.NewData[int](a, "calls")
	a.Handle("area.areaHandler.count", func(c *app.Call) (any, error) {
		calls.Update(c.Session, func(n *int) { *n++ })
		return map[string]int{"calls": calls.Get(c.Session)}, nil
	})
	c, stop := serve(a)
	defer stop()

	for range 2 {
		var answer struct{ Calls int }
		_ = c.Request("area.areaHandler.count", nil, &answer)
		fmt.Println(answer.Calls)
	}
	// Output:
	// 1
	// 2
}

// What a client does, as the program is told of it. These functions run on the event loop, so they take a lock at most.
func ExampleApp_OnLeave() {
	a := app.New()
	var mu sync.Mutex
	tell := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	ended := make(chan bool)
	a.OnOpen(func(*app.Session) { tell("open") })
	a.OnEnter(func(s *app.Session) { tell("%s enters %s", s.User(), s.Room()) })
	a.OnRename(func(s *app.Session, was app.Place) { tell("%s is %s now", was.User, s.User()) })
	a.OnLeave(func(_ *app.Session, left app.Place, why app.Why) { tell("%s leaves %s: %s", left.User, left.Room, why) })
	a.OnClose(func(*app.Session) { tell("close"); close(ended) })
	c, stop := serve(a)
	defer stop()

	enter(c, "ann", "lobby")
	enter(c, "anna", "lobby")
	enter(c, "anna", "elsewhere")
	c.Close()
	<-ended
	// Output:
	// open
	// ann enters lobby
	// ann is anna now
	// anna leaves lobby: switch
	// anna enters elsewhere
	// anna leaves elsewhere: goodbye
	// close
}

// Who is cut off and shows the same secret again has its place again, and is away meanwhile: others in the room are told nothing of that but what the program tells them.
func ExampleApp_OnAway() {
	a, told := app.New(), make(chan string, 8)
	a.OnAway(func(_ *app.Session, at app.Place) { told <- at.User + " is away from " + at.Room })
	a.OnReturn(func(_ *app.Session, at app.Place) { told <- at.User + " is back in " + at.Room })
	ben, stop := serve(a)
	defer stop()

	enter(ben, "ben", "lobby")
	in := func() net.Conn {
		conn, _ := net.Dial("tcp", addr)
		c, err := client.Options{User: map[string]string{"secret": "one that nobody guesses"}}.New(conn, 10*time.Second)
		if err != nil {
			fmt.Println(err)
			return nil
		}
		enter(c, "ann", "lobby")
		return conn
	}
	conn := in()
	_ = conn.(*net.TCPConn).SetLinger(0) // what ends without a goodbye was cut off
	conn.Close()
	fmt.Println(<-told)
	in()
	fmt.Println(<-told)
	// Output:
	// ann is away from lobby
	// ann is back in lobby
}

// What is opened before the first client and closed after the last.
func ExampleApp_OnStop() {
	a := app.New()
	a.OnStart(func() error { fmt.Println("open the database"); return nil })
	a.OnOpen(func(*app.Session) { fmt.Println("a client") })
	a.OnStop(func(context.Context) { fmt.Println("close the database") })
	c, stop := serve(a)
	_ = c.Request("no.such.route", nil, nil)
	stop()
	// Output:
	// open the database
	// a client
	// close the database
}

// A handler that runs on the event loop: it is quick, and waits for nothing.
func ExampleApp_HandleInline() {
	a := app.New()
	a.HandleInline("area.areaHandler.ping", func(c *app.Call) (any, error) {
		return map[string]string{"from": c.Session.RemoteAddr().Addr().String()}, c.Session.Push("onPing", nil)
	})
	c, stop := serve(a)
	defer stop()

	var answer struct{ From string }
	fmt.Println(c.Request("area.areaHandler.ping", nil, &answer), answer.From)
	fmt.Println(next(c))
	// Output:
	// <nil> 127.0.0.1
	// onPing {}
}

// A function that sees all calls of the program's routes, and what became of them.
func ExampleApp_After() {
	a := app.New()
	a.Handle("area.areaHandler.buy", func(*app.Call) (any, error) {
		return nil, &app.Error{Code: 402, Text: "no money", Body: map[string]int{"price": 7}}
	})
	a.After(func(c *app.Call, _ any, err error) { fmt.Println(c.Route, err) })
	c, stop := serve(a)
	defer stop()

	fmt.Println(c.Request("area.areaHandler.buy", nil, nil))
	// Output:
	// area.areaHandler.buy code 402: no money
	// area.areaHandler.buy: refused: {"code":402,"price":7}
}

// Each session may call a route once, and once more a minute later.
func ExampleApp_Limit() {
	a := app.New()
	a.Handle("area.areaHandler.roll", func(*app.Call) (any, error) { return nil, nil })
	a.Limit("area.areaHandler.roll", 1./60, 1)
	c, stop := serve(a)
	defer stop()

	for range 2 {
		fmt.Println(c.Request("area.areaHandler.roll", nil, nil))
	}
	// Output:
	// <nil>
	// area.areaHandler.roll: refused: {"code":500,"reason":"route_rate"}
}

// A flag of the program's beside the server's, as -motd or POMELOD_MOTD.
func ExampleApp_Flags() {
	a := app.New()
	motd := a.Flags().String("motd", "welcome", "`text` for who comes")
	a.OnStart(func() error { fmt.Println(*motd); return nil })
	_, stop := serve(a)
	stop()
	// Output: welcome
}

// A push to all sessions of some users, wherever they are; and one session is ended, which is known when its room knows it too.
func ExampleApp_PushUIDs() {
	a := app.New()
	a.OnOpen(func(s *app.Session) { s.Bind("user 1") })
	c, stop := serve(a)
	defer stop()

	_ = c.Request("no.such.route", nil, nil) // the session is open
	fmt.Println(a.PushUIDs([]string{"user 1", "user 2"}, "onNews", nil))
	fmt.Println(next(c))
	for _, s := range a.SessionsOf("user 1") {
		s.Kick("enough")
		<-s.Done()
	}
	fmt.Println(next(c))
	// Output:
	// 1 <nil>
	// onNews {}
	// kicked: enough
}

// A filter reads a body, looks at its members, and keeps what it finds for the handler.
func ExampleCall_Members() {
	a := app.New()
	a.Before("", func(c *app.Call) error {
		members, err := c.Members()
		if err != nil {
			return &app.Error{Code: 400}
		}
		c.Session.Set("members", len(members))
		return nil
	})
	a.Handle("a.b.c", func(c *app.Call) (any, error) { return map[string]any{"members": c.Session.Get("members")}, nil })
	c, stop := serve(a)
	defer stop()

	var answer struct{ Members int }
	fmt.Println(c.Request("a.b.c", map[string]int{"x": 1, "y": 2}, &answer), answer.Members)
	fmt.Println(c.Request("a.b.c", []int{1}, nil))
	// Output:
	// <nil> 2
	// a.b.c: refused: {"code":400}
}

// A user has one session, the newest, in the whole fleet.
func ExampleSession_Login() {
	a := app.New()
	a.Handle("user.userHandler.login", func(c *app.Call) (any, error) {
		return nil, c.Session.Login(c.Context(), "user 1", app.Logins{Most: 1, KickOld: true}) // a real program looks at a token
	})
	c, stop := serve(a)
	defer stop()

	fmt.Println(c.Request("user.userHandler.login", nil, nil))
	fmt.Println(a.CountUID(context.Background(), "user 1"))
	fmt.Println(a.KickUID("user 1", "too late to play"))
	_, err := c.Next()
	fmt.Println(err)
	// Output:
	// <nil>
	// 1 <nil>
	// <nil>
	// kicked: too late to play
}

// A session goes into rooms and out of them, and events tell of each.
func ExampleSession_Leave() {
	a, told := app.New(), make(chan string, 8)
	a.OnJoin(func(_ *app.Session, joined app.Place) { told <- joined.User + " joins " + joined.Room })
	a.OnLeave(func(_ *app.Session, left app.Place, why app.Why) {
		told <- left.User + " leaves " + left.Room + ": " + string(why)
	})
	a.OnEnter(func(s *app.Session) { // on the event loop, where nothing may wait
		s.Bind("user 1")
		_ = s.JoinThen("team 7", func(error) { _ = s.LeaveThen("team 7", nil) })
	})
	a.Handle("lobby.lobbyHandler.out", func(c *app.Call) (any, error) {
		err := c.Session.Leave(c.Context(), "lobby")
		return map[string]any{"uid": c.Session.UID(), "closed": c.Session.Closed(), "rooms": len(c.Session.Rooms())}, err
	})
	c, stop := serve(a)
	defer stop()

	_ = c.Request("connector.entryHandler.enter", map[string]string{"username": "ann", "rid": "lobby"}, nil)
	fmt.Println(<-told)
	fmt.Println(<-told)
	var answer struct {
		UID    string
		Closed bool
		Rooms  int
	}
	fmt.Println(c.Request("lobby.lobbyHandler.out", nil, &answer), answer)
	fmt.Println(<-told)
	// Output:
	// ann joins team 7
	// ann leaves team 7: left
	// <nil> {user 1 false 0}
	// ann leaves lobby: left
}
