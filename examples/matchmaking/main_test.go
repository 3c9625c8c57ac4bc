package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app/apptest"
	"github.com/pomelod/pomelod/client"
)

// find asks for an opponent.
func find(t *testing.T, c *apptest.Client, uid string) {
	t.Helper()
	if err := c.Request("match.matchHandler.find", map[string]string{"uid": uid}, nil); err != nil {
		t.Fatal(err)
	}
}

// match is two players in the room of their game.
func match(t *testing.T, patience time.Duration) (s *apptest.Server, ann, ben *apptest.Client, room string) {
	t.Helper()
	m := NewMatchmaker()
	m.Patience = patience
	s = apptest.Start(t, m.App())
	ann, ben = s.Connect(), s.Connect()
	find(t, ann, "ann")
	find(t, ben, "ben")
	var told struct{ Room string }
	ann.Wait("onMatch", &told)
	ben.Wait("onMatch", &told)
	ann.Enter("ann", told.Room)
	ben.Enter("ben", told.Room)
	return s, ann, ben, told.Room
}

func TestOnlyPlayersEnter(t *testing.T) {
	s, _, _, room := match(t, time.Hour)
	eve := s.Connect()
	if err := eve.TryEnter("eve", room); !errors.Is(err, client.ErrRefused) || !strings.Contains(err.Error(), "not_your_game") {
		t.Errorf("got %v", err)
	}
}

func TestWhoLeavesLoses(t *testing.T) {
	_, ann, ben, _ := match(t, time.Hour)
	ann.Close()
	var end struct{ Lost string }
	if ben.Wait("onEnd", &end); end.Lost != "ann" {
		t.Errorf("%s has lost", end.Lost)
	}
}

func TestAShortCutIsNoEnd(t *testing.T) {
	s, ann, ben, room := match(t, time.Hour)
	ann.Cut()
	ben.Wait("onLeave", nil)
	again := s.Connect()
	find(t, again, "ann")
	again.Enter("ann", room)
	ben.Wait("onAdd", nil)
	again.Close()
	var end struct{ Lost string }
	if ben.Wait("onEnd", &end); end.Lost != "ann" {
		t.Errorf("%s has lost", end.Lost)
	}
}

// Where the server keeps the place of who is cut off, as it does for who has a secret, the opponent is told that the player is away, and that it is back.
func TestTheOpponentIsAway(t *testing.T) {
	s, ann, ben, room := match(t, time.Hour)
	enter := func(c *apptest.Client) {
		t.Helper()
		if err := c.Request("connector.entryHandler.enter", map[string]string{"username": "ann", "rid": room, "secret": "one that nobody guesses"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	told := func(route string) {
		t.Helper()
		var told struct{ User string }
		if ben.Wait(route, &told); told.User != "ann" {
			t.Errorf("%s of %s", route, told.User)
		}
	}
	ann.Cut()
	told("onLeave") // it had no secret
	for range 2 {
		ann = s.Connect()
		find(t, ann, "ann")
		enter(ann)
		if err := ann.Say("here I am"); err != nil {
			t.Fatal(err)
		}
		ben.Wait("onChat", nil)
		ann.Cut()
		told("onAway")
	}
	ann = s.Connect()
	find(t, ann, "ann")
	enter(ann)
	told("onReturn")
	ann.Close()
	var end struct{ Lost string }
	if ben.Wait("onEnd", &end); end.Lost != "ann" {
		t.Errorf("%s has lost", end.Lost)
	}
}

// A player comes by another connection before anybody has noticed that the first one is dead, and goes on; it has no second game meanwhile.
func TestASecondConnectionIsNoEnd(t *testing.T) {
	s, _, ben, room := match(t, time.Hour)
	again, eve := s.Connect(), s.Connect()
	var told struct {
		Waiting bool
		Room    string
	}
	if err := again.Request("match.matchHandler.find", map[string]string{"uid": "ann"}, &told); err != nil || told.Waiting || told.Room != room {
		t.Fatalf("%+v, %v", told, err)
	}
	find(t, eve, "eve")
	again.Enter("ann", room) // at once: the first one has left by then
	ben.Wait("onLeave", nil)
	ben.Wait("onAdd", nil)
	again.Close()
	var end struct{ Lost string }
	if ben.Wait("onEnd", &end); end.Lost != "ann" {
		t.Errorf("%s has lost", end.Lost)
	}
}

func TestALongCutIs(t *testing.T) {
	s, ann, ben, _ := match(t, time.Minute)
	ann.Cut()
	ben.Wait("onLeave", nil)
	s.Advance(time.Minute)
	var end struct{ Lost string }
	if ben.Wait("onEnd", &end); end.Lost != "ann" {
		t.Errorf("%s has lost", end.Lost)
	}
}

func TestWhoDoesNotComeLoses(t *testing.T) {
	m := NewMatchmaker()
	s := apptest.Start(t, m.App())
	ann, ben := s.Connect(), s.Connect()
	find(t, ann, "ann")
	find(t, ben, "ben")
	var told struct{ Room string }
	ben.Wait("onMatch", &told)
	ben.Enter("ben", told.Room)
	s.Advance(m.Patience)
	var end struct{ Lost string }
	if ann.Wait("onEnd", &end); end.Lost != "ann" {
		t.Errorf("%s has lost", end.Lost)
	}
}

// Who goes to another room, or wants another name, has left, or is refused.
func TestSwitchAndRename(t *testing.T) {
	_, ann, ben, room := match(t, time.Hour)
	if err := ann.TryEnter("anna", room); !errors.Is(err, client.ErrRefused) {
		t.Errorf("another name: %v", err)
	}
	ann.Enter("anna", "lobby")
	var end struct{ Lost string }
	if ben.Wait("onEnd", &end); end.Lost != "ann" {
		t.Errorf("%s has lost", end.Lost)
	}
}
