//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/server/servertest"
)

const timeout = 30 * time.Second

// player connects and, with a name, enters the lobby.
func player(t *testing.T, addr, name string) *client.Client {
	t.Helper()
	c, err := client.Dial(addr, timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if name != "" {
		if err := c.Request("connector.entryHandler.enter", map[string]string{"username": name, "rid": "lobby"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// wait reads pushes up to one of this route.
func wait(t *testing.T, c *client.Client, route string) string {
	t.Helper()
	for {
		p, err := c.Next()
		if err != nil {
			t.Fatalf("waiting for %s: %v", route, err)
		}
		if p.Route == route {
			return string(p.Body)
		}
	}
}

func TestAGameFillsAndStarts(t *testing.T) {
	addr := servertest.Start(t, NewLobby().App())["connector"]
	ann, ben, out := player(t, addr, "ann"), player(t, addr, "ben"), player(t, addr, "")

	if err := out.Request("lobby.lobbyHandler.list", struct{}{}, nil); !errors.Is(err, client.ErrRefused) {
		t.Errorf("outside any room: %v", err)
	}
	if err := ann.Request("lobby.lobbyHandler.open", map[string]any{"name": "chess", "seats": 1}, nil); !errors.Is(err, client.ErrRefused) {
		t.Errorf("a game with one seat: %v", err)
	}
	var game Game
	if err := ann.Request("lobby.lobbyHandler.open", map[string]any{"name": "chess", "seats": 2}, &game); err != nil {
		t.Fatal(err)
	}
	if got, want := wait(t, ben, "onOpen"), `{"id":1,"name":"chess","seats":2,"players":["ann"]}`; got != want {
		t.Errorf("ben was told %s, want %s", got, want)
	}
	var list struct{ Games []Game }
	if err := ben.Request("lobby.lobbyHandler.list", struct{}{}, &list); err != nil || len(list.Games) != 1 || list.Games[0].ID != game.ID {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := ben.Request("lobby.lobbyHandler.join", map[string]int{"id": game.ID}, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client.Client{ann, ben} {
		if got, want := wait(t, c, "onStart"), `{"id":1,"name":"chess","seats":2,"players":["ann","ben"]}`; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	}
	if err := ann.Request("lobby.lobbyHandler.join", map[string]int{"id": game.ID}, nil); !errors.Is(err, client.ErrRefused) {
		t.Errorf("a game that has started: %v", err)
	}
}

// Who leaves gives up the seats.
func TestLeavingClosesAnEmptyGame(t *testing.T) {
	addr := servertest.Start(t, NewLobby().App())["connector"]
	ann, ben := player(t, addr, "ann"), player(t, addr, "ben")
	if err := ann.Request("lobby.lobbyHandler.open", map[string]any{"name": "go", "seats": 2}, nil); err != nil {
		t.Fatal(err)
	}
	ann.Close()
	wait(t, ben, "onLeave")
	for end := time.Now().Add(timeout); ; {
		var list struct{ Games []Game }
		if err := ben.Request("lobby.lobbyHandler.list", struct{}{}, &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Games) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still open: %+v", list)
		}
	}
}

// Nobody leaves a ghost: not who is cut off, though its place in the room is kept, and not whose second login takes the place of the first.
func TestCutReturnAndTwoLogins(t *testing.T) {
	addr := servertest.Start(t, NewLobby().App())["connector"]
	ben := player(t, addr, "ben")
	ann := map[string]string{"username": "ann", "rid": "lobby", "secret": "a secret of sixteen bytes"}
	connect := func() (*client.Client, *net.TCPConn) {
		t.Helper()
		conn, err := net.DialTimeout("tcp", addr, timeout)
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.New(conn, timeout)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := errors.Join(c.Request("connector.entryHandler.enter", ann, nil),
			c.Request("lobby.lobbyHandler.open", map[string]any{"name": "chess", "seats": 2}, nil)); err != nil {
			t.Fatal(err)
		}
		return c, conn.(*net.TCPConn)
	}
	games := func(want int) {
		t.Helper()
		for end := time.Now().Add(timeout); ; {
			var list struct{ Games []Game }
			if err := ben.Request("lobby.lobbyHandler.list", struct{}{}, &list); err != nil {
				t.Fatal(err)
			}
			if len(list.Games) == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("open: %+v, want %d", list, want)
			}
		}
	}
	_, conn := connect()
	games(1)
	if err := errors.Join(conn.SetLinger(0), conn.Close()); err != nil { // a reset
		t.Fatal(err)
	}
	games(0)
	connect() // it returns to its place, and opens another game
	games(1)
	connect() // the second login ends the first, whose game is gone
	games(1)
}

// Who enters another room gives up the seats, who takes another name keeps them; in both cases nobody was told.
func TestMovingAndRenaming(t *testing.T) {
	addr := servertest.Start(t, NewLobby().App())["connector"]
	ann, ben, cat := player(t, addr, "ann"), player(t, addr, "ben"), player(t, addr, "cat")
	games := func(c *client.Client) string {
		t.Helper()
		var list json.RawMessage
		if err := c.Request("lobby.lobbyHandler.list", struct{}{}, &list); err != nil {
			t.Fatal(err)
		}
		return string(list)
	}
	enter := func(c *client.Client, name, room string) {
		t.Helper()
		if err := c.Request("connector.entryHandler.enter", map[string]string{"username": name, "rid": room}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(ann.Request("lobby.lobbyHandler.open", map[string]any{"name": "chess", "seats": 3}, nil),
		ben.Request("lobby.lobbyHandler.join", map[string]int{"id": 1}, nil)); err != nil {
		t.Fatal(err)
	}
	enter(ann, "ann", "elsewhere")
	if got, want := games(cat), `{"games":[{"id":1,"name":"chess","seats":3,"players":["ben"]}]}`; got != want {
		t.Errorf("ann has left the room: got %s, want %s", got, want)
	}
	enter(ben, "benny", "lobby")
	if got, want := games(cat), `{"games":[{"id":1,"name":"chess","seats":3,"players":["benny"]}]}`; got != want {
		t.Errorf("ben is benny now: got %s, want %s", got, want)
	}
	if err := ben.Request("lobby.lobbyHandler.join", map[string]int{"id": 1}, nil); !errors.Is(err, client.ErrRefused) {
		t.Errorf("benny sits there as ben already: %v", err)
	}
	enter(ben, "ben", "elsewhere")
	if got, want := games(cat), `{"games":[]}`; got != want {
		t.Errorf("all have left the room: got %s, want %s", got, want)
	}
}
