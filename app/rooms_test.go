package app_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/app/apptest"
)

// All rooms with members are told, in order, over pages, and of those that begin with a prefix no others.
func TestRoomsByPrefix(t *testing.T) {
	t.Cleanup(app.SetRoomsPage(2))
	a := app.New()
	for _, err := range a.Rooms(t.Context(), "") {
		if !errors.Is(err, app.ErrNotRunning) {
			t.Errorf("before the server: %v", err)
		}
	}
	s := apptest.Start(t, a)
	names := []string{"a", "match-1", "match-2", "match-3", "match-4", "matter", "z"}
	for i, room := range names {
		for j := range i + 1 {
			s.Connect().Enter(fmt.Sprint("u", j), room)
		}
	}
	left := s.Connect()
	left.Enter("ann", "match-empty") // it keeps what was said, and nobody is there
	if err := left.Say("hello"); err != nil {
		t.Fatal(err)
	}
	left.Enter("ann", "a")
	list := func(prefix string, most int) (got []string) {
		t.Helper()
		for room, err := range a.Rooms(t.Context(), prefix) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, fmt.Sprint(room.Name, " ", room.Members)); len(got) == most {
				break
			}
		}
		return got
	}
	if _, err := a.Room("match-empty").Count(t.Context()); err != nil { // the leave has been carried out
		t.Fatal(err)
	}
	for _, tc := range []struct {
		prefix string
		most   int
		want   string
	}{
		{"match-", 0, "[match-1 2 match-2 3 match-3 4 match-4 5]"},
		{"match-", 3, "[match-1 2 match-2 3 match-3 4]"},
		{"", 0, "[a 2 match-1 2 match-2 3 match-3 4 match-4 5 matter 6 z 7]"},
		{"none", 0, "[]"},
		{"*", 0, "[]"},
	} {
		if got := fmt.Sprint(list(tc.prefix, tc.most)); got != tc.want {
			t.Errorf("%q: %s, want %s", tc.prefix, got, tc.want)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range a.Rooms(over, "") {
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("nobody waits: %v", err)
		}
	}
}

// A uid that is named twice gets a push once.
func TestPushUIDsTellsNobodyTwice(t *testing.T) {
	a := app.New()
	a.Handle("user.userHandler.login", func(c *app.Call) (any, error) {
		c.Session.Bind("ann")
		return nil, nil
	})
	s := apptest.Start(t, a)
	c := s.Connect()
	if err := c.Request("user.userHandler.login", nil, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := a.PushUIDs([]string{"ann", "nobody", "ann"}, "onNews", nil); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := a.PushUIDs([]string{"ann"}, "onLast", nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"onNews", "onLast"} {
		if p, err := c.Next(); p.Route != want || err != nil {
			t.Errorf("%+v, %v; want %s", p, err, want)
		}
	}
}

// Done is closed at the end of a session, when another one can have its name, and a session that has ended is bound to nothing.
func TestDone(t *testing.T) {
	a := app.New()
	sessions := make(chan *app.Session, 10)
	a.OnOpen(func(s *app.Session) {
		s.Bind("ann")
		sessions <- s
	})
	s := apptest.Start(t, a)
	for i := range 3 {
		c := s.Connect()
		session := soon(t, sessions)
		c.Enter("ann", "r")
		done := session.Done()
		select {
		case <-done:
			t.Fatal("it has not ended")
		default:
		}
		if got := fmt.Sprint(a.UIDs()); got != "[ann]" {
			t.Errorf("uids %s", got)
		}
		if session.Kick("go"); i == 0 {
			c.Cut()
		}
		soon(t, done)
		soon(t, session.Done())
		if !session.Closed() {
			t.Error("it has ended and is not closed")
		}
	}
	if n, err := a.Room("r").Count(t.Context()); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for end := time.Now().Add(30 * time.Second); len(a.UIDs()) > 0; time.Sleep(time.Millisecond) { // OnClose comes right behind
		if time.Now().After(end) {
			t.Fatalf("uids %v", a.UIDs())
		}
	}
}
