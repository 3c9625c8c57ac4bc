//go:build linux

package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/server"
)

// addr is where the program of an example serves.
var addr string

// serve runs a, on a free port of loopback, and connects. A program calls server.Main(a) instead.
func serve(a *app.App) (c *client.Client, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	addrs, ended := make(chan map[string]net.Addr, 1), make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, a, []string{"-listen", "127.0.0.1:0", "-gate", "", "-admin", "", "-drain", "0", "-log-level", "error"},
			func(bound map[string]net.Addr) { addrs <- bound })
	}()
	select {
	case bound := <-addrs:
		addr = bound["connector"].String()
	case err := <-ended:
		fmt.Println(err)
		os.Exit(1)
	}
	c, err := client.Dial(addr, 10*time.Second)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_ = c.Request("no.such.route", nil, nil) // it is answered, so the session is open, and pushes reach it
	return c, func() { c.Close(); cancel(); <-ended }
}

// A handler answers a route of the program's own, and pushes to the room of who called.
func Example() {
	a := app.New()
	a.Handle("area.areaHandler.roll", func(c *app.Call) (any, error) {
		var body struct{ Sides int }
		if err := c.Decode(&body); err != nil || body.Sides < 2 {
			return nil, &app.Error{Code: 400, Text: "a die has at least two sides"}
		}
		return map[string]int{"dice": body.Sides}, nil
	})
	c, stop := serve(a)
	defer stop()

	for _, sides := range []int{6, 1} {
		var answer struct{ Dice int }
		err := c.Request("area.areaHandler.roll", map[string]int{"sides": sides}, &answer)
		fmt.Println(answer.Dice, err)
	}
	// Output:
	// 6 <nil>
	// 0 area.areaHandler.roll: refused: {"code":400}
}

// A filter before a route of the chat application refuses what should not be said.
func ExampleApp_Before() {
	a := app.New()
	a.Before("chat.chatHandler.send", func(c *app.Call) error {
		if strings.Contains(string(c.Body), "darn") {
			return errors.New("a bad word")
		}
		return nil
	})
	c, stop := serve(a)
	defer stop()

	_ = c.Request("connector.entryHandler.enter", map[string]string{"username": "ann", "rid": "lobby"}, nil)
	for _, text := range []string{"hello", "darn"} {
		fmt.Println(c.Request("chat.chatHandler.send", map[string]string{"content": text, "target": "*"}, nil))
	}
	// Output:
	// <nil>
	// chat.chatHandler.send: refused: {"code":500}
}

// A filter changes what is said.
func ExampleCall_SetBody() {
	a := app.New()
	a.Before("chat.chatHandler.send", func(c *app.Call) error {
		message, err := c.Members()
		if err != nil {
			return err
		}
		if text, ok := message["content"].(string); ok {
			message["content"] = strings.ReplaceAll(text, "darn", "****")
		}
		return c.SetBody(message)
	})
	c, stop := serve(a)
	defer stop()

	_ = c.Request("connector.entryHandler.enter", map[string]string{"username": "ann", "rid": "lobby"}, nil)
	_ = c.Request("chat.chatHandler.send", map[string]string{"content": "darn it", "target": "*"}, nil)
	push, _ := c.Next()
	fmt.Println(string(push.Body))
	// Output:
	// {"msg":"**** it","from":"ann","target":"*"}
}

// A program speaks in a room, and asks who is there.
func ExampleApp_Room() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	ctx, lobby := context.Background(), a.Room("lobby")
	fmt.Println(lobby.Wait(ctx).Say("news", "nobody hears this"))
	_ = c.Request("connector.entryHandler.enter", map[string]string{"username": "ann", "rid": "lobby"}, nil)
	fmt.Println(lobby.Wait(ctx).Say("news", "hello"))
	push, _ := c.Next()
	fmt.Println(string(push.Body))
	fmt.Println(lobby.Members(ctx))
	// Output:
	// nobody of that name is in the room
	// <nil>
	// {"msg":"hello","from":"news","target":"*"}
	// [ann] <nil>
}

// The program says whose session it is, and what a second login means.
func ExampleSession_Bind() {
	a := app.New()
	a.Handle("user.userHandler.login", func(c *app.Call) (any, error) {
		others := c.Session.Bind("user 1") // a real program looks at a token
		return map[string]int{"others": len(others)}, nil
	})
	c, stop := serve(a)
	defer stop()

	var answer struct{ Others int }
	_ = c.Request("user.userHandler.login", nil, &answer)
	reached, err := a.PushUIDs([]string{"user 1", "user 2"}, "onNews", map[string]string{"text": "hi"})
	fmt.Println(answer.Others, reached, err)
	push, _ := c.Next()
	fmt.Println(push.Route, string(push.Body))
	// Output:
	// 0 1 <nil>
	// onNews {"text":"hi"}
}

// A program has a player join the room of its team beside the world, in which it speaks unless it says otherwise.
func ExampleSession_Join() {
	a := app.New()
	a.Handle("team.teamHandler.join", func(c *app.Call) (any, error) {
		if err := c.Session.Enter(c.Context(), app.Place{Room: "world", User: "ann"}); err != nil {
			return nil, err
		}
		if err := c.Session.Join(c.Context(), "team 7"); err != nil {
			return nil, err
		}
		return map[string]any{"rooms": c.Session.Rooms()}, nil
	})
	c, stop := serve(a)
	defer stop()

	var answer struct{ Rooms []string }
	fmt.Println(c.Request("team.teamHandler.join", nil, &answer), answer.Rooms)
	_ = c.Request("chat.chatHandler.send", map[string]string{"content": "to me", "target": "*", "rid": "team 7"}, nil)
	push, _ := c.Next()
	fmt.Println(string(push.Body))
	fmt.Println(a.Room("team 7").Members(context.Background()))
	// Output:
	// <nil> [world team 7]
	// {"msg":"to me","from":"ann","target":"*"}
	// [ann] <nil>
}

// Whoever must not wait is called back.
func ExampleSession_EnterThen() {
	a, entered := app.New(), make(chan error, 1)
	a.OnOpen(func(s *app.Session) {
		_ = s.EnterThen(app.Place{Room: "lobby", User: "guest"}, func(err error) { entered <- err })
	})
	_, stop := serve(a)
	defer stop()

	fmt.Println(<-entered)
	fmt.Println(a.Room("lobby").Members(context.Background()))
	// Output:
	// <nil>
	// [guest] <nil>
}

// Players stay connected, and keep their score, when the server is replaced by a newer one.
func ExampleApp_Carry() {
	a := app.New()
	type player struct{ Score int }
	a.OnOpen(func(s *app.Session) { s.Set("player", new(player)) })
	a.Carry(func(s *app.Session) ([]byte, error) {
		return json.Marshal(s.Get("player"))
	}, func(s *app.Session, b []byte) error {
		p := new(player)
		s.Set("player", p)
		return json.Unmarshal(b, p) // an error sends the session away
	})
}
