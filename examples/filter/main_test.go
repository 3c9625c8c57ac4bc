package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/app/apptest"
	"github.com/pomelod/pomelod/client"
)

func TestWordsBecomeStars(t *testing.T) {
	f := NewFilter()
	s := apptest.Start(t, f.App())
	ann, ben := s.Connect(), s.Connect()
	ann.Enter("ann", "lobby")
	ben.Enter("ben", "lobby")
	for said, want := range map[string]string{"hello": "hello", "Darn it": "**** it", "darned": "darned"} {
		if err := ann.Say(said); err != nil {
			t.Fatal(err)
		}
		var chat struct{ Msg string }
		if ben.Wait("onChat", &chat); chat.Msg != want {
			t.Errorf("%q became %q, want %q", said, chat.Msg, want)
		}
	}
}

func TestWhoGoesOnHasToBeSilent(t *testing.T) {
	f := NewFilter()
	now := time.Now()
	f.now = func() time.Time { return now }
	ann := apptest.Start(t, f.App()).Connect()
	ann.Enter("ann", "lobby")
	for range maxStrikes - 1 {
		if err := ann.Say("heck"); err != nil {
			t.Fatal(err)
		}
	}
	for _, said := range []string{"heck", "sorry"} {
		if err := ann.Say(said); !errors.Is(err, client.ErrRefused) || !strings.Contains(err.Error(), `{"code":429,"reason":"words","wait":60}`) {
			t.Errorf("%q: %v", said, err)
		}
	}
	now = now.Add(silenceTime)
	if err := ann.Say("sorry"); err != nil {
		t.Error(err)
	}
}

func TestSlowRooms(t *testing.T) {
	f := NewFilter()
	s := apptest.Start(t, f.App())
	ann := s.Connect()
	ann.Enter("ann", "slow-lobby")
	ann.Enter("ann", "elsewhere")
	ann.Enter("ann", "slow-lobby") // now it was slow before she came
	if err := ann.Say("too soon"); !errors.Is(err, client.ErrRefused) || !strings.Contains(err.Error(), "slow_mode") {
		t.Errorf("got %v", err)
	}
	s.Advance(5 * time.Second)
	if err := ann.Say("hello"); err != nil {
		t.Error(err)
	}
}

// Who has to be silent has to be so under another name and in another room. A new session begins anew: where users log in, count for their uids (Session.UID).
func TestSilenceIsTheSession(t *testing.T) {
	s := apptest.Start(t, NewFilter().App())
	enter := func(c *apptest.Client, user, room string) {
		t.Helper()
		if err := c.Request("connector.entryHandler.enter", map[string]string{"username": user, "rid": room, "secret": "a secret of sixteen bytes"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	silent := func(what string, c *apptest.Client, want bool) {
		t.Helper()
		if err := c.Say("hello"); errors.Is(err, client.ErrRefused) != want || !want && err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	swears := func() *apptest.Client {
		t.Helper()
		c := s.Connect()
		enter(c, "ann", "lobby")
		for range maxStrikes {
			_ = c.Say("heck")
		}
		silent("at first", c, true)
		return c
	}
	ann := swears()
	enter(ann, "anna", "lobby")
	silent("under another name", ann, true)
	enter(ann, "anna", "elsewhere")
	silent("in another room", ann, true)
	enter(ann, "ann", "lobby")
	ann.Cut()
	ann = s.Connect()
	enter(ann, "ann", "lobby") // it returns
	silent("behind a cut", ann, false)
	first := swears() // a second login: it takes ann's place
	for {
		if _, err := ann.Next(); err != nil {
			break
		}
	}
	ann = s.Connect()
	enter(ann, "ann", "lobby")
	silent("by a second login", ann, false)
	for {
		if _, err := first.Next(); err != nil {
			break
		}
	}
}

// A message may still be looked at when its session has ended.
func TestNothingStaysOfWhoHasGone(t *testing.T) {
	f := NewFilter()
	a := f.App()
	late := make(chan int, 1)
	a.OnClose(func(s *app.Session) { // behind closed
		f.wait(s, true)
		late <- len(f.silence)
	})
	ann := apptest.Start(t, a).Connect()
	ann.Enter("ann", "lobby")
	ann.Cut()
	if n := <-late; n != 0 {
		t.Errorf("%d sessions that have ended are kept", n)
	}
}
