package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app/apptest"
	"github.com/pomelod/pomelod/client"
)

// told is a push to a team.
type told struct{ Team, From, Msg string }

func join(t *testing.T, c *apptest.Client, team string) (members int) {
	t.Helper()
	var answer struct{ Members int }
	if err := c.Request("team.teamHandler.join", map[string]string{"team": team}, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Members
}

// say says something to the team, and tells how many have heard it.
func say(c *apptest.Client, text string) (reached int, err error) {
	var answer struct{ Reached int }
	err = c.Request("team.teamHandler.say", map[string]string{"content": text}, &answer)
	return answer.Reached, err
}

func wantReached(t *testing.T, c *apptest.Client, text string, want int) {
	t.Helper()
	if n, err := say(c, text); n != want || err != nil {
		t.Errorf("%q reached %d, want %d; %v", text, n, want, err)
	}
}

func wantRefused(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, client.ErrRefused) {
		t.Errorf("%s: %v", what, err)
	}
}

// world is a server, and players in the world and, but for the last, in the team red.
func world(t *testing.T, names ...string) (w *World, s *apptest.Server, players []*apptest.Client) {
	t.Helper()
	w = NewWorld()
	s = apptest.Start(t, w.App())
	for i, name := range names {
		c := s.Connect()
		c.Enter(name, worldRoom)
		players = append(players, c)
		if i < len(names)-1 {
			join(t, c, "red")
		}
	}
	return w, s, players
}

func TestTeams(t *testing.T) {
	_, s, p := world(t, "ann", "ben", "eve")
	ann, ben, eve := p[0], p[1], p[2]
	wantReached(t, ann, "attack", 2)
	var got told
	if ben.Wait("onTeam", &got); got != (told{"red", "ann", "attack"}) {
		t.Errorf("ben was told %+v", got)
	}
	_, err := say(eve, "hello")
	wantRefused(t, "outside of teams", err)
	_, err = say(ann, "")
	wantRefused(t, "nothing said", err)
	_, err = say(s.Connect(), "hello")
	wantRefused(t, "outside of the world", err)
	wantRefused(t, "a long name", ann.Request("team.teamHandler.join", map[string]string{"team": strings.Repeat("x", 65)}, nil))
	wantRefused(t, "no name", ann.Request("team.teamHandler.join", map[string]int{"team": 1}, nil))
	join(t, ben, "blue")
	wantReached(t, ann, "attack", 1)
	join(t, ben, "")
	_, err = say(ben, "hello")
	wantRefused(t, "out of the team", err)
}

func TestTeamsAreBounded(t *testing.T) {
	w, s, _ := world(t, "eve")
	w.mu.Lock()
	w.teams["red"] = make(map[string]bool)
	for i := range mostTeam {
		w.teams["red"][fmt.Sprint(i)] = true
	}
	w.mu.Unlock()
	c := s.Connect()
	c.Enter("ann", worldRoom)
	wantRefused(t, "a full team", c.Request("team.teamHandler.join", map[string]string{"team": "red"}, nil))
}

// Where players go is told together, and only what is new.
func TestMoves(t *testing.T) {
	_, s, p := world(t, "ann", "ben", "eve")
	for i, c := range p[:2] {
		for x := range 3 {
			if err := c.Request("world.worldHandler.move", spot{x, i}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	var told struct{ Moved map[string]spot }
	s.Advance(time.Second)
	for len(told.Moved) < 2 { // the ticks of a second may come between two moves
		p[2].Wait("onMoved", &told)
	}
	if told.Moved["ann"] != (spot{2, 0}) || told.Moved["ben"] != (spot{2, 1}) {
		t.Errorf("told %+v", told)
	}
	wantRefused(t, "no place", p[0].Request("world.worldHandler.move", map[string]string{"x": "far"}, nil))
	wantRefused(t, "outside", s.Connect().Request("world.worldHandler.move", spot{}, nil))
}

// Who leaves the world, or takes another name, is out of its team.
func TestSwitchAndRename(t *testing.T) {
	_, _, p := world(t, "ann", "ben", "cat", "eve")
	ann, ben, cat := p[0], p[1], p[2]
	wantReached(t, ann, "1", 3)
	ben.Enter("ben", "elsewhere")
	wantReached(t, ann, "2", 2)
	cat.Enter("kate", worldRoom)
	wantReached(t, ann, "3", 1)
	join(t, cat, "red")
	wantReached(t, ann, "4", 2)
	ann.Enter("ann", "elsewhere")
	ann.Enter("ann", worldRoom)
	_, err := say(ann, "5")
	wantRefused(t, "after a switch there and back", err)
}

// Who is cut off has its place in the team for a while, and who closes the connection has not.
func TestCutAndReturn(t *testing.T) {
	w, s, p := world(t, "ann", "ben", "cat", "eve")
	ann, ben, cat, eve := p[0], p[1], p[2], p[3]
	ben.Cut()
	eve.Wait("onLeave", nil)
	wantReached(t, ann, "while ben is away", 2)
	ben = s.Connect()
	ben.Enter("ben", worldRoom)
	s.Advance(w.Patience)
	wantReached(t, ann, "ben is back", 3)
	ben.Cut()
	eve.Wait("onLeave", nil)
	s.Advance(w.Patience)
	inTeam := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.team["ben"] != ""
	}
	for end := time.Now().Add(time.Minute); inTeam(); time.Sleep(time.Millisecond) { // the timer's function runs on a goroutine, and must not find ben back
		if time.Now().After(end) {
			t.Fatal("ben has still a place in the team")
		}
	}
	ben = s.Connect()
	ben.Enter("ben", worldRoom)
	_, err := say(ben, "too late")
	wantRefused(t, "too late", err)
	cat.Close()
	eve.Wait("onLeave", nil)
	wantReached(t, ann, "alone", 1)
}

// A second login with the same secret is the same player, and the first one goes.
func TestTwoLogins(t *testing.T) {
	_, s, p := world(t, "ann", "eve")
	for range 3 {
		first, again := s.Connect(), s.Connect()
		enter := map[string]string{"username": "bob", "rid": worldRoom, "secret": "a secret of sixteen bytes"}
		if err := first.Request("connector.entryHandler.enter", enter, nil); err != nil {
			t.Fatal(err)
		}
		join(t, first, "red")
		if err := again.Request("connector.entryHandler.enter", enter, nil); err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := first.Next(); err != nil {
				break
			}
		}
		wantReached(t, again, "I am bob", 2)
		again.Close()
		p[1].Wait("onLeave", nil)
	}
	wantReached(t, p[0], "alone", 1)
}

func TestRoomsFile(t *testing.T) {
	b, err := os.ReadFile("rooms.json")
	if err != nil || !strings.Contains(string(b), `"match": "`+worldRoom+`"`) {
		t.Errorf("%s, %v", b, err)
	}
}
