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
