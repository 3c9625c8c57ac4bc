//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/server/servertest"
)

// The whole server, as README.md starts it: what the world says is held, and what a team says is not.
func TestWithItsRoomsFile(t *testing.T) {
	addr := servertest.Start(t, NewWorld().App(), "-rooms-file", "rooms.json", "-history", "0")["connector"]
	var players []*client.Client
	for _, name := range []string{"ann", "ben"} {
		c, err := client.Dial(addr, 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := errors.Join(c.Request("connector.entryHandler.enter", map[string]string{"username": name, "rid": worldRoom}, nil),
			c.Request("team.teamHandler.join", map[string]string{"team": "red"}, nil)); err != nil {
			t.Fatal(err)
		}
		players = append(players, c)
	}
	if err := errors.Join(players[0].Request("world.worldHandler.move", spot{1, 2}, nil), players[0].Request("team.teamHandler.say", map[string]string{"content": "attack"}, nil)); err != nil {
		t.Fatal(err)
	}
	var moved, told bool
	for !moved || !told {
		p, err := players[1].Next()
		if err != nil {
			t.Fatal(err)
		}
		switch p.Route {
		case "onMoved":
			var body struct{ Moved map[string]spot }
			if err := json.Unmarshal(p.Body, &body); err != nil || body.Moved["ann"] != (spot{1, 2}) {
				t.Errorf("%s, %v", p.Body, err)
			}
			moved = true
		case "onTeam":
			told = true
		}
	}
}
