//go:build linux

package app_test

import (
	"context"
	"fmt"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/client"
)

// enter enters a room.
func enter(c *client.Client, user, room string) {
	_ = c.Request("connector.entryHandler.enter", map[string]string{"username": user, "rid": room}, nil)
}

// next is the next push, as a line.
func next(c *client.Client) string {
	p, err := c.Next()
	if err != nil {
		return err.Error()
	}
	return p.Route + " " + string(p.Body)
}

// A push to all who are connected, in a room or not.
func ExampleApp_Broadcast() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	fmt.Println(a.Broadcast("onNews", map[string]string{"text": "hi"}))
	fmt.Println(next(c))
	// Output:
	// <nil>
	// onNews {"text":"hi"}
}

// The rooms of a kind, by the beginning of their names.
func ExampleApp_Rooms() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	enter(c, "ann", "match-7")
	for room, err := range a.Rooms(context.Background(), "match-") {
		fmt.Println(room.Name, room.Members, err)
	}
	// Output: match-7 1 <nil>
}

// Pushes to all members, to one, and to all but one, in the order in which they were asked for.
func ExampleRoom_Push() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	enter(c, "ann", "lobby")
	lobby := a.Room("lobby")
	_ = lobby.Push("onAll", nil)
	_ = lobby.PushUser("ann", "onOne", map[string]int{"n": 1})
	_ = lobby.PushExcept("ann", "onOthers", nil)
	_ = lobby.Push("onLast", nil)
	for range 3 {
		fmt.Println(next(c))
	}
	// Output:
	// onAll {}
	// onOne {"n":1}
	// onLast {}
}

// Where somebody is, as often as it changes: of what is not sent yet only the latest is.
func ExampleRoom_PushVolatile() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	enter(c, "ann", "world")
	world := a.Room("world")
	for x := range 100 {
		_ = world.PushVolatile("onMove", map[string]int{"x": x})
	}
	for {
		if p := next(c); p == `onMove {"x":99}` {
			fmt.Println(p)
			return
		}
	}
	// Output: onMove {"x":99}
}

// With Wait it is told whether there was anybody.
func ExampleRoom_Wait() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	enter(c, "ann", "lobby")
	lobby := a.Room("lobby").Wait(context.Background())
	fmt.Println(lobby.PushUser("ben", "onOne", nil))
	fmt.Println(lobby.PushUser("ann", "onOne", nil))
	fmt.Println(lobby.Count(context.Background()))
	// Output:
	// nobody of that name is in the room
	// <nil>
	// 1 <nil>
}

func ExampleRoom_Kick() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	enter(c, "ann", "lobby")
	fmt.Println(a.Room("lobby").Wait(context.Background()).Kick("ann", "that was too much"))
	fmt.Println(next(c))
	// Output:
	// <nil>
	// kicked: that was too much
}

func ExampleRoom_SetSlowMode() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	enter(c, "ann", "lobby")
	_ = a.Room("lobby").Wait(context.Background()).SetSlowMode(time.Hour)
	for range 2 {
		fmt.Println(c.Request("chat.chatHandler.send", map[string]string{"content": "hi", "target": "*"}, nil) == nil)
	}
	// Output:
	// true
	// false
}

// A round that lasts so long, unless all have left the room before.
func ExampleRoom_AfterFunc() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	enter(c, "ann", "match-7")
	room := a.Room("match-7")
	_, err := room.Wait(context.Background()).AfterFunc(10*time.Millisecond, func() {
		_ = room.Push("onRoundOver", nil) // on the event loop: it must not wait
	})
	fmt.Println(err)
	fmt.Println(next(c))
	// Output:
	// <nil>
	// onRoundOver {}
}

// Something is done later, on a goroutine.
func ExampleApp_AfterFunc() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	timer, err := a.AfterFunc(10*time.Millisecond, func(context.Context) { _ = a.Broadcast("onSale", nil) })
	fmt.Println(err)
	fmt.Println(next(c))
	fmt.Println(timer.Stop())
	// Output:
	// <nil>
	// onSale {}
	// false
}

// Each day at four prizes are given, by one process of a fleet.
func ExampleApp_Cron() {
	a := app.New()
	a.OnStart(func() error {
		_, err := a.Cron("CRON_TZ=UTC 0 4 * * *", func(ctx context.Context) {
			leads, err := a.Leads(ctx, "prizes")
			if err == nil && leads {
				_ = a.Broadcast("onPrizes", nil)
			}
		})
		return err
	})
	_, stop := serve(a)
	defer stop()

	_, err := a.Cron("0 25 * * *", nil)
	fmt.Println(err)
	// Output: "0 25 * * *": no schedule: hour "25": it must be from 0 to 23
}

// A process alone leads in everything.
func ExampleApp_Leads() {
	a := app.New()
	_, stop := serve(a)
	defer stop()

	fmt.Println(a.Leads(context.Background(), "prizes"))
	// Output: true <nil>
}

// Something is done again and again, from the start of the server on.
func ExampleApp_Every() {
	a := app.New()
	a.OnStart(func() error {
		_, err := a.Every(10*time.Millisecond, func(context.Context) { _ = a.Broadcast("onTick", nil) })
		return err
	})
	c, stop := serve(a)
	defer stop()

	for range 2 {
		fmt.Println(next(c))
	}
	// Output:
	// onTick {}
	// onTick {}
}
