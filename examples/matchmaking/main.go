// Command matchmaking is a pomelod that brings two players together: they ask for an opponent, the server puts both into a room that is locked for all others, and
// who leaves it has lost; but not by a short cut of the connection, or by a second one.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/server"
)

func main() { os.Exit(server.Main(NewMatchmaker().App())) }

// Matchmaker is the program. Players are uids: they stay who they are when they come back by another connection.
type Matchmaker struct {
	// Patience is how long a player may be outside of the game's room, when its connection was cut.
	Patience time.Duration

	app *app.App

	mu      sync.Mutex
	waiting string           // the uid that waits for an opponent, empty: nobody
	games   map[string]*game // by room
}

// game is two players in a room.
type game struct {
	room    string
	players map[string]*player // by uid
	begun   bool               // both have been in the room
}

// of is the player that is in the room by a session; empty: none is.
func (g *game) of(s *app.Session) (uid string) {
	if g != nil {
		for uid, p := range g.players {
			if p.in == s {
				return uid
			}
		}
	}
	return ""
}

// player is one of a game.
type player struct {
	in    *app.Session // by which it is in the room; nil: it is outside, and timer runs
	timer *app.Timer
	outs  int // how often it went out: a timer that has fired may have waited for mu meanwhile
}

func (p *player) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}

// NewMatchmaker makes the program.
func NewMatchmaker() *Matchmaker {
	return &Matchmaker{Patience: 20 * time.Second, app: app.New(), games: make(map[string]*game)}
}

// App is the program's part of the server.
func (m *Matchmaker) App() *app.App {
	m.app.Handle("match.matchHandler.find", m.find)
	m.app.OnEnter(m.entered)
	m.app.OnLeave(m.left)
	m.app.OnAway(m.tell("onAway"))
	m.app.OnReturn(m.tell("onReturn"))
	m.app.OnClose(m.closed)
	return m.app
}

// find binds the session to its player, and has it wait for another one, or brings it back into its game. A real program learns the uid from a token that it has signed.
func (m *Matchmaker) find(c *app.Call) (any, error) {
	var body struct{ UID string }
	if err := c.Decode(&body); err != nil || body.UID == "" {
		return nil, &app.Error{Code: 400}
	}
	for _, old := range c.Session.Bind(body.UID) {
		old.Kick("you are playing elsewhere")
		<-old.Done() // it has left the room of its game, so its name is free there
	}
	room, err := m.opponent(c.Session, body.UID)
	if room == "" || err != nil {
		return map[string]bool{"waiting": true}, err
	}
	err = c.Session.Enter(c.Context(), app.Place{Room: room, User: body.UID}) // a lock is for clients: a program's Enter passes it
	var refused *app.RefusedError
	if errors.As(err, &refused) {
		err = &app.Error{Code: 403, Body: map[string]string{"reason": refused.Reason}}
	}
	return map[string]any{"waiting": false, "room": room}, err
}

// opponent returns the room in which a player plays, from now on or already; none if it has to wait.
func (m *Matchmaker) opponent(s *app.Session, uid string) (room string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.games {
		if g.players[uid] != nil {
			return g.room, nil
		}
	}
	if s.Closed() { // closed has been called before it waited
		return "", &app.Error{Code: 410}
	}
	if m.waiting == "" || m.waiting == uid {
		m.waiting = uid
		return "", nil
	}
	room = m.begin(m.waiting, uid)
	for _, s := range m.app.SessionsOf(m.waiting) {
		_ = s.EnterThen(app.Place{Room: room, User: m.waiting}, nil) // who cannot loses when Patience is over
	}
	m.waiting = ""
	return room, nil
}

// begin opens a game. Guarded by mu.
func (m *Matchmaker) begin(players ...string) (room string) {
	g := &game{room: "match-" + rand.Text(), players: make(map[string]*player)} // nobody who guesses it is there before the lock
	m.games[g.room] = g
	_ = m.app.Room(g.room).Lock() // before anybody is in it; where it fails (app.ErrRooms) the name alone keeps others out
	for _, uid := range players {
		g.players[uid] = new(player)
		m.goOut(g, uid)
	}
	_, _ = m.app.PushUIDs(players, "onMatch", map[string]any{"room": g.room, "players": players})
	return g.room
}

// goOut gives a player who is not in the room its time. Guarded by mu.
func (m *Matchmaker) goOut(g *game, uid string) {
	p := g.players[uid]
	p.in = nil
	p.outs++
	this := p.outs
	p.timer, _ = m.app.AfterFunc(m.Patience, func(context.Context) { // it fails at the server's end only: a player has one timer
		m.mu.Lock()
		defer m.mu.Unlock()
		if p.in == nil && p.outs == this {
			m.lose(g, uid)
		}
	})
}

// lose ends a game. Guarded by mu.
func (m *Matchmaker) lose(g *game, loser string) {
	if m.games[g.room] != g {
		return // it has ended already
	}
	delete(m.games, g.room)
	_ = m.app.Room(g.room).Unlock() // nothing of it is left when the last one leaves
	var players []string
	for uid, p := range g.players {
		players = append(players, uid)
		p.stop()
	}
	_, _ = m.app.PushUIDs(players, "onEnd", map[string]string{"room": g.room, "lost": loser})
}

// entered runs on the event loop, as do left and closed: they do not wait for anything.
func (m *Matchmaker) entered(s *app.Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.games[s.Room()]
	if g == nil || g.players[s.User()] == nil {
		return
	}
	g.players[s.User()].in = s
	g.players[s.User()].stop()
	if !g.begun && g.of(nil) == "" {
		g.begun = true
		_ = m.app.Room(g.room).Push("onBegin", nil)
	}
}

// left tells leaving from what happens to a connection: a cut, and a kick, as by find when the player comes by another one, leave it time to come back.
func (m *Matchmaker) left(s *app.Session, left app.Place, why app.Why) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.games[left.Room]
	switch uid := g.of(s); {
	case uid == "": // no game, or the player is there by another session by now
	case why == app.Cut || why == app.Kicked:
		m.goOut(g, uid)
	default:
		m.lose(g, uid)
	}
}

// tell tells the opponent that a player was cut off and may come back, or that it has. The room's owner has these in order, wherever the two sessions are.
func (m *Matchmaker) tell(route string) func(*app.Session, app.Place) {
	return func(_ *app.Session, at app.Place) {
		if strings.HasPrefix(at.Room, "match-") {
			_ = m.app.Room(at.Room).Push(route, map[string]string{"user": at.User})
		}
	}
}

func (m *Matchmaker) closed(s *app.Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting == s.UID() && len(m.app.SessionsOf(m.waiting)) <= 1 {
		m.waiting = ""
	}
}
