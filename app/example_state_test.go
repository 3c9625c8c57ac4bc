//go:build linux

package app_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/client"
)

// try enters a room, and tells whether that was refused.
func try(c *client.Client, user, room string) bool {
	return c.Request("connector.entryHandler.enter", map[string]string{"username": user, "rid": room}, nil) == nil
}

// A game that has begun takes in nobody else.
func ExampleRoom_Lock() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	match := a.Room("match-7").Wait(context.Background())
	fmt.Println(match.Lock(), try(c, "ann", "match-7"))
	fmt.Println(match.Unlock(), try(c, "ann", "match-7"))
	// Output:
	// <nil> false
	// <nil> true
}

// A room has seats before anybody is in it.
func ExampleRoom_SetCapacity() {
	a := app.New()
	ann, stop := serve(a)
	defer stop()

	fmt.Println(a.Room("duel").Wait(context.Background()).SetCapacity(2))
	enter(ann, "ann", "duel")
	info, err := a.Room("duel").Info(context.Background())
	fmt.Println(info.Members, "of", info.Capacity, err)
	// Output:
	// <nil>
	// 1 of 2 <nil>
}

// Clients give the password in their enter.
func ExampleRoom_SetPassword() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	_ = a.Room("club").Wait(context.Background()).SetPassword("correct horse battery staple")
	fmt.Println(try(c, "ann", "club"))
	body := map[string]string{"username": "ann", "rid": "club", "password": "correct horse battery staple"}
	fmt.Println(c.Request("connector.entryHandler.enter", body, nil))
	// Output:
	// false
	// <nil>
}

// What is set of a room ends with the server, also where what was said in it is on disk (-history-dir), and an hour after its last member has left. So a program that has rooms of its own sets it again: before the first client comes, and
// now and then, as rooms lapse, and a process of a fleet is not a part of it yet in OnStart.
func ExampleApp_OnStart_rooms() {
	program := func() *app.App {
		a := app.New()
		club := a.Room("club")
		protect := func() error { return club.SetPassword("correct horse battery staple") }
		a.OnStart(func() error {
			_, err := a.Every(10*time.Second, func(context.Context) { _ = protect() })
			return errors.Join(protect(), err)
		})
		return a
	}
	for range 2 {
		c, stop := serve(program())
		fmt.Println(try(c, "ann", "club"))
		stop()
	}
	// Output:
	// false
	// false
}

// table is what a program keeps with a room.
type table struct {
	Game    string
	Started bool
}

// The rooms of a lobby, each with what it is about.
func ExampleRoom_SetData() {
	a := app.New()
	_, stop := serve(a)
	defer stop()

	ctx := context.Background()
	for i, game := range []string{"chess", "go"} {
		_ = a.Room(fmt.Sprint("table-", i)).Wait(ctx).SetData(table{Game: game})
	}
	for room, err := range a.Rooms(ctx, "table-") {
		fmt.Println(room.Name, room.Members, string(room.Data), err)
	}
	// Output:
	// table-0 0 {"Game":"chess","Started":false} <nil>
	// table-1 0 {"Game":"go","Started":false} <nil>
}

func ExampleRoom_Data() {
	a := app.New()
	_, stop := serve(a)
	defer stop()

	ctx := context.Background()
	room := a.Room("table-1")
	_ = room.Wait(ctx).SetData(table{Game: "chess"})
	var t table
	fmt.Println(room.Data(ctx, &t), t.Game)
	// Output: <nil> chess
}

// Of all who want to start a game one does, on whatever node it is asked.
func ExampleUpdateData() {
	a := app.New()
	_, stop := serve(a)
	defer stop()

	start := func() error {
		return app.UpdateData(context.Background(), a.Room("table-1"), func(t *table) error {
			if t.Started {
				return fmt.Errorf("it has begun")
			}
			t.Started = true
			return nil
		})
	}
	fmt.Println(start())
	fmt.Println(start())
	// Output:
	// <nil>
	// it has begun
}

func ExampleRoom_Info() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	enter(c, "ann", "lobby")
	_ = a.Room("lobby").Wait(context.Background()).Lock()
	info, err := a.Room("lobby").Info(context.Background())
	fmt.Println(info.Members, info.Locked, err)
	// Output: 1 true <nil>
}

// What was said, by pages from the newest on, and what was said since.
func ExampleRoom_History() {
	a := app.New()
	c, stop := serve(a)
	defer stop()

	enter(c, "ann", "lobby")
	lobby, ctx := a.Room("lobby"), context.Background()
	for _, text := range []string{"one", "two", "three"} {
		_ = lobby.Wait(ctx).Say("server", text)
	}
	page, more, err := lobby.History(ctx, app.Range{Limit: 2})
	fmt.Println(page[0].Text(), page[1].Text(), more, err)
	page, more, err = lobby.History(ctx, app.Range{Since: page[0].Seq})
	fmt.Println(page[0].Text(), more, err)
	// Output:
	// two three true <nil>
	// three false <nil>
}
