package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app/apptest"
	"github.com/pomelod/pomelod/client"
)

var start = time.Unix(1_800_000_000, 0)

func guard(t *testing.T) (*Guard, *apptest.Server) {
	t.Helper()
	g := NewGuard()
	g.now = func() time.Time { return start }
	a := g.App()
	if err := a.Flags().Set("login-key", "sixteen bytes or more"); err != nil {
		t.Fatal(err)
	}
	return g, apptest.Start(t, a)
}

func shown(token string) map[string]string { return map[string]string{"token": token} }

// enter is an enter with a token, or none.
func enter(c *apptest.Client, user, token string) error {
	return c.Request("connector.entryHandler.enter", map[string]string{"username": user, "rid": "lobby", "token": token}, nil)
}

func wantRefused(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, client.ErrRefused) || !strings.Contains(err.Error(), `{"code":401`) {
		t.Errorf("%s: %v", what, err)
	}
}

// wantEnd waits for the end of a connection, and what that tells.
func wantEnd(t *testing.T, c *apptest.Client, want string) {
	t.Helper()
	for {
		if _, err := c.Next(); err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("it ended with %v, want %q", err, want)
			}
			return
		}
	}
}

func TestTokensInTheHandshake(t *testing.T) {
	g, s := guard(t)
	token := g.Token("ann", start.Add(time.Hour))
	ann, err := s.TryConnect(shown(token))
	if err != nil || string(ann.User()) != `{"name":"ann"}` {
		t.Fatalf("%s, %v", ann.User(), err)
	}
	wantRefused(t, "another name", ann.TryEnter("ben", "lobby"))
	ann.Enter("ann", "lobby")
	wantRefused(t, "another name, in the room", ann.TryEnter("ben", "lobby"))
	wantRefused(t, "another user's token", enter(ann, "ben", g.Token("ben", start.Add(time.Hour))))
	ann.Enter("ann", "elsewhere") // a switch needs no token
	for what, bad := range map[string]string{
		"over":        g.Token("ann", start),
		"other name":  strings.Replace(token, "ann", "ben", 1),
		"longer":      strings.Replace(token, fmt.Sprint(start.Add(time.Hour).Unix()), fmt.Sprint(start.Add(2*time.Hour).Unix()), 1),
		"no name":     g.Token("", start.Add(time.Hour)),
		"no end":      "ann." + g.sign("ann"),
		"cut":         token[:len(token)-1],
		"no token":    "ann",
		"dots":        "..",
		"another key": "ann.1900000000." + strings.Repeat("A", 43),
	} {
		_, err := s.TryConnect(shown(bad))
		wantRefused(t, what, err)
	}
}

func TestTokensInTheEnter(t *testing.T) {
	g, s := guard(t)
	c := s.Connect()
	wantRefused(t, "no token", c.TryEnter("ann", "lobby"))
	wantRefused(t, "a bad one", enter(c, "ann", "ann.1.x"))
	wantRefused(t, "another's", enter(c, "ben", g.Token("ann", start.Add(time.Hour))))
	if err := enter(c, "ann", g.Token("ann", start.Add(time.Hour))); err != nil {
		t.Error(err)
	}
}

// The second login takes the place of the first, in the room too, at once.
func TestTwoLogins(t *testing.T) {
	g, s := guard(t)
	token := g.Token("ann", start.Add(time.Hour))
	first := s.Connect()
	for range 5 {
		if err := enter(first, "ann", token); err != nil {
			t.Fatal(err)
		}
		second, err := s.TryConnect(shown(token))
		if err != nil {
			t.Fatal(err)
		}
		wantEnd(t, first, "logged in elsewhere")
		second.Enter("ann", "lobby")
		third := s.Connect()
		if err := enter(third, "ann", token); err != nil {
			t.Fatal(err)
		}
		wantEnd(t, second, "logged in elsewhere")
		first = s.Connect()
	}
}

// Who was cut off comes back by the same token.
func TestReturn(t *testing.T) {
	g, s := guard(t)
	token := g.Token("ann", start.Add(time.Hour))
	ben := s.Connect()
	if err := enter(ben, "ben", g.Token("ben", start.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ann, err := s.TryConnect(shown(token))
		if err != nil {
			t.Fatal(err)
		}
		ann.Enter("ann", "lobby")
		ben.Wait("onAdd", nil)
		ann.Cut()
		ben.Wait("onLeave", nil)
	}
}

// A token that is over ends its session.
func TestLoginExpires(t *testing.T) {
	g, s := guard(t)
	c := s.Connect()
	if err := enter(c, "ann", g.Token("ann", start.Add(time.Minute))); err != nil {
		t.Fatal(err)
	}
	s.Advance(5 * time.Second)
	if err := c.Say("still here"); err != nil {
		t.Fatal(err)
	}
	session := g.app.SessionsOf("ann")[0]
	g.user.Update(session, func(u *user) { u.Until = start }) // the time has come
	for over := false; !over; {                               // a sweep that has not returned yet may have looked before, and has the next one left out
		s.Advance(time.Second)
		select {
		case <-session.Done():
			over = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	wantEnd(t, c, "login expired")
}
