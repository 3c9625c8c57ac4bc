// Command world is a pomelod for a game with one world in which all players are, and teams in it. The world is a room of many, with a hold (rooms.json), so
// that what happens in it costs each player few writes. Where players go is told ten times a second, all together. A team is a list of users, whom the program pushes
// to wherever they are: a session that is in the world needs no second room for it. README.md says how large a world may be.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/server"
)

func main() { os.Exit(server.Main(NewWorld().App())) }

const (
	worldRoom = "world"
	mostTeam  = 50                     // members of a team
	tick      = 100 * time.Millisecond // between two pushes of where players have gone
)

// World is the program. A player is a uid, the name by which it is in the world; a second login takes the place of the first.
type World struct {
	// Patience is how long the place in a team is kept for who was cut off.
	Patience time.Duration

	app *app.App

	mu    sync.Mutex
	teams map[string]map[string]bool // guarded by mu, as the rest: uids by team
	team  map[string]string          // by uid
	moved map[string]spot            // since the last tick, by uid
}

type spot struct {
	X int `json:"x"`
	Y int `json:"y"`
}

// NewWorld makes the program.
func NewWorld() *World {
	return &World{Patience: 20 * time.Second, app: app.New(), teams: make(map[string]map[string]bool), team: make(map[string]string), moved: make(map[string]spot)}
}

// App is the program's part of the server.
func (w *World) App() *app.App {
	w.app.Handle("world.worldHandler.move", w.move)
	w.app.Handle("team.teamHandler.join", w.join)
	w.app.Handle("team.teamHandler.say", w.say)
	w.app.Limit("world.worldHandler.move", 20, 40)
	w.app.OnEnter(w.entered)
	w.app.OnRename(func(s *app.Session, _ app.Place) { w.entered(s) })
	w.app.OnLeave(w.left)
	w.app.OnStart(func() error {
		_, err := w.app.Every(tick, func(context.Context) { w.tell() })
		return err
	})
	return w.app
}

var errOutside = &app.Error{Code: 401, Text: "enter the world first"}

// entered runs on the event loop, as left does. Whoever enters the world, or takes another name there, is that user, and its older session goes.
func (w *World) entered(s *app.Session) {
	at := s.Place()
	if at.Room != worldRoom {
		return
	}
	was := s.UID()
	for _, old := range s.Bind(at.User) {
		old.Kick("you are playing elsewhere")
	}
	if was != "" && was != at.User { // a new name is a new player
		w.mu.Lock()
		w.leave(was)
		w.mu.Unlock()
	}
}

// left takes a player out of its team; one that was cut off when its time is over, unless it is back by then.
func (w *World) left(s *app.Session, from app.Place, why app.Why) {
	if from.Room != worldRoom || s.UID() != from.User {
		return
	}
	s.Bind("")
	gone := func(context.Context) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.app.SessionsOf(from.User)) == 0 {
			w.leave(from.User)
		}
	}
	if why != app.Cut && why != app.Kicked {
		gone(nil)
	} else if _, err := w.app.AfterFunc(w.Patience, gone); err != nil && !errors.Is(err, app.ErrNotRunning) {
		gone(nil)
	}
}

// leave takes a player out of its team. Guarded by mu.
func (w *World) leave(uid string) {
	team := w.team[uid]
	delete(w.team, uid)
	delete(w.moved, uid)
	delete(w.teams[team], uid)
	if len(w.teams[team]) == 0 {
		delete(w.teams, team)
	}
}

func (w *World) move(c *app.Call) (any, error) {
	var to spot
	uid := c.Session.UID()
	if uid == "" {
		return nil, errOutside
	}
	if err := c.Decode(&to); err != nil {
		return nil, &app.Error{Code: 400}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moved[uid] = to
	return nil, nil
}

// tell pushes where players have gone to since the last time. If the world cannot take it, the next time tells what has come meanwhile as well.
func (w *World) tell() {
	w.mu.Lock()
	moved := w.moved
	w.moved = make(map[string]spot, len(moved))
	w.mu.Unlock()
	if len(moved) == 0 {
		return
	}
	err := w.app.Room(worldRoom).Push("onMoved", map[string]any{"moved": moved})
	if err == nil {
		return
	}
	slog.Debug("where players have gone is told later", "err", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	for uid, at := range moved {
		if _, newer := w.moved[uid]; !newer {
			w.moved[uid] = at
		}
	}
}

// join brings the caller into a team, and out of the one in which it was; an empty name is none.
func (w *World) join(c *app.Call) (any, error) {
	var body struct{ Team string }
	if err := c.Decode(&body); err != nil || len(body.Team) > 64 {
		return nil, &app.Error{Code: 400}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	uid := c.Session.UID() // only now: who has left the world meanwhile gets no place that nobody would take away again
	if uid == "" {
		return nil, errOutside
	}
	team := w.teams[body.Team]
	if len(team) >= mostTeam && !team[uid] {
		return nil, &app.Error{Code: 409, Body: map[string]string{"reason": "team_full"}}
	}
	w.leave(uid)
	if body.Team == "" {
		return nil, nil
	}
	if w.teams[body.Team] == nil {
		w.teams[body.Team] = make(map[string]bool)
	}
	w.teams[body.Team][uid] = true
	w.team[uid] = body.Team
	return map[string]int{"members": len(w.teams[body.Team])}, nil
}

// say tells something to the caller's team.
func (w *World) say(c *app.Call) (any, error) {
	var body struct{ Content string }
	if err := c.Decode(&body); err != nil || body.Content == "" {
		return nil, &app.Error{Code: 400}
	}
	uid := c.Session.UID()
	w.mu.Lock()
	defer w.mu.Unlock() // all hear what is said in one order
	team := w.team[uid]
	if team == "" {
		return nil, &app.Error{Code: 404, Body: map[string]string{"reason": "no_team"}}
	}
	members := make([]string, 0, len(w.teams[team]))
	for member := range w.teams[team] {
		members = append(members, member)
	}
	reached, err := w.app.PushUIDs(members, "onTeam", map[string]string{"team": team, "from": uid, "msg": body.Content})
	return map[string]int{"reached": reached}, err
}
