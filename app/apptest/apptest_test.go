package apptest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/app/apptest"
	"github.com/pomelod/pomelod/client"
)

// dice is a program with a handler.
func dice() *app.App {
	a := app.New()
	a.Handle("area.areaHandler.roll", func(c *app.Call) (any, error) {
		var body struct{ Sides int }
		if err := c.Decode(&body); err != nil || body.Sides < 2 {
			return nil, &app.Error{Code: 400}
		}
		return map[string]int{"dice": body.Sides}, nil
	})
	return a
}

func TestRoll(t *testing.T) {
	ann := apptest.Start(t, dice()).Connect()
	var answer struct{ Dice int }
	if err := ann.Request("area.areaHandler.roll", map[string]int{"sides": 6}, &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Dice < 1 || answer.Dice > 6 {
		t.Errorf("rolled %d", answer.Dice)
	}
	if err := ann.Request("area.areaHandler.roll", map[string]int{"sides": 1}, nil); !errors.Is(err, client.ErrRefused) {
		t.Errorf("one side: %v", err)
	}
}

// Rooms, pushes and waiting for them are those of the real server.
func TestRooms(t *testing.T) {
	a := dice()
	s := apptest.Start(t, a)
	ann, ben := s.Connect(), s.Connect()
	ann.Enter("ann", "lobby")
	ben.Enter("ben", "lobby")
	if err := ann.TryEnter("ben", "lobby"); !errors.Is(err, client.ErrRefused) {
		t.Errorf("a name that is taken: %v", err)
	}
	room := a.Room("lobby").Wait(t.Context())
	if members, err := room.Members(t.Context()); fmt.Sprint(members) != "[ann ben]" || err != nil {
		t.Errorf("members %v, %v", members, err)
	}
	if err := errors.Join(room.PushExcept("ann", "onNews", map[string]int{"n": 1}), room.Push("onNews", map[string]int{"n": 2})); err != nil {
		t.Fatal(err)
	}
	for i, c := range []*apptest.Client{ann, ben} {
		var news struct{ N int }
		if c.Wait("onNews", &news); news.N != 2-i {
			t.Errorf("%d got %d first", i, news.N)
		}
	}
	if err := ben.Say("hello"); err != nil {
		t.Error(err)
	}
	var chat struct{ Msg, From string }
	if ann.Wait("onChat", &chat); chat.Msg != "hello" || chat.From != "ben" {
		t.Errorf("got %+v", chat)
	}
}

// Time passes when the test wants it: slow mode, and a handler that takes too long.
func TestAdvance(t *testing.T) {
	a := app.New()
	a.Timeout = 10 * time.Second
	a.Handle("a.b.wait", func(c *app.Call) (any, error) {
		<-c.Context().Done()
		return nil, c.Context().Err()
	})
	s := apptest.Start(t, a)
	c := s.Connect()
	if err := a.Room("r").Wait(t.Context()).SetSlowMode(time.Hour); err != nil {
		t.Fatal(err)
	}
	c.Enter("ann", "r")
	if err := c.Say("too soon"); !errors.Is(err, client.ErrRefused) {
		t.Errorf("got %v", err)
	}
	s.Advance(time.Hour)
	if err := c.Say("in time"); err != nil {
		t.Error(err)
	}
	answered := make(chan error, 1)
	go func() { answered <- c.Request("a.b.wait", nil, nil) }()
	for {
		select {
		case err := <-answered:
			if !errors.Is(err, client.ErrRefused) {
				t.Errorf("got %v", err)
			}
			return
		case <-time.After(time.Millisecond):
			s.Advance(time.Second)
		}
	}
}

// A cut and a goodbye are told apart, and OnStart and OnStop are called around everything.
func TestEnds(t *testing.T) {
	a := app.New()
	left, calls := make(chan app.Why, 2), make(chan string, 9)
	a.OnLeave(func(_ *app.Session, _ app.Place, why app.Why) { left <- why })
	a.OnStart(func() error { calls <- "start"; return nil })
	a.OnStop(func(context.Context) { calls <- "stop"; close(calls) })
	t.Run("server", func(t *testing.T) {
		s := apptest.Start(t, a)
		ann, ben := s.Connect(), s.Connect()
		ann.Enter("ann", "r")
		ben.Enter("ben", "r")
		ann.Cut()
		if why := <-left; why != app.Cut {
			t.Errorf("cut: %s", why)
		}
		ben.Close()
		if why := <-left; why != app.Goodbye {
			t.Errorf("close: %s", why)
		}
	})
	var got []string
	for c := range calls {
		got = append(got, c)
	}
	if fmt.Sprint(got) != "[start stop]" {
		t.Errorf("%q", got)
	}
}
