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
	for _, c := range []*apptest.Client{ann, ben} {
		c.Wait("onMatch", &told)
		c.Wait("onBegin", nil) // the server has put both there
	}
	return s, ann, ben, told.Room
}

func TestOnlyPlayersEnter(t *testing.T) {
	s, _, _, room := match(t, time.Hour)
	eve := s.Connect()
	if err := eve.TryEnter("eve", room); !errors.Is(err, client.ErrRefused) || !strings.Contains(err.Error(), "room_locked") {
		t.Errorf("got %v", err)
	}
}

// Nobody waits in the room of a game that has not begun, to hear what its players say, or under the name of one of them: its name is told only when it is locked.
func TestNobodyIsThereBefore(t *testing.T) {
	_, _, _, one := match(t, time.Hour)
	_, _, _, other := match(t, time.Hour)
	if one == other || len(one) < len("match-")+20 {
		t.Errorf("the first games of two servers are in %s and %s", one, other)
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
	if err := again.TryEnter("ann", room); !errors.Is(err, client.ErrRefused) {
		t.Errorf("without asking the program: %v", err)
	}
	find(t, again, "ann")
	ben.Wait("onAdd", nil)
	again.Close()
	var end struct{ Lost string }
	if ben.Wait("onEnd", &end); end.Lost != "ann" {
		t.Errorf("%s has lost", end.Lost)
	}
}

// Where the server keeps the place of who is cut off, as it does for who has a secret, the opponent is told that the player is away, and that it is back.
func TestTheOpponentIsAway(t *testing.T) {
	s, ann, ben, _ := match(t, time.Hour)
	told := func(route string) {
		t.Helper()
		var told struct{ User string }
		if ben.Wait(route, &told); told.User != "ann" {
			t.Errorf("%s of %s", route, told.User)
		}
	}
	comes := func() {
		t.Helper()
		c, err := s.TryConnect(map[string]string{"secret": "one that nobody guesses"})
		if err != nil {
			t.Fatal(err)
		}
		ann = c
		find(t, ann, "ann")
	}
	ann.Cut()
	told("onLeave") // it had no secret
	comes()
	told("onAdd")
	for range 2 {
		ann.Cut()
		told("onAway")
		comes()
		told("onReturn")
	}
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

// Who breaks off before the server could put it into the room has lost when its time is over.
func TestWhoDoesNotComeLoses(t *testing.T) {
	m := NewMatchmaker()
	s := apptest.Start(t, m.App())
	ann, ben := s.Connect(), s.Connect()
	find(t, ann, "ann")
	m.mu.Lock()
	m.waiting = "cid" // who has asked, and whose session has ended just now
	m.mu.Unlock()
	find(t, ben, "ben")
	s.Advance(m.Patience)
	var end struct{ Lost string }
	if ben.Wait("onEnd", &end); end.Lost != "cid" {
		t.Errorf("%s has lost", end.Lost)
	}
}

// Who goes to another room has left. Another name is only what others see.
func TestSwitchAndRename(t *testing.T) {
	_, ann, ben, room := match(t, time.Hour)
	ann.Enter("anna", room)
	ann.Enter("anna", "lobby")
	var end struct{ Lost string }
	if ben.Wait("onEnd", &end); end.Lost != "ann" {
		t.Errorf("%s has lost", end.Lost)
	}
	ann.Enter("anna", room) // nothing is left of the game
}
