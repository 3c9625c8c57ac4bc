// Command lobby is a pomelod with handlers of its own: players open games, see who else has, and join; a game that is full
// starts. Everything of the chat application is there too: the lobby is the room that players enter.
package main

import (
	"os"
	"slices"
	"sync"

	"github.com/pomelod/pomelod/router"
	"github.com/pomelod/pomelod/server"
)

func main() { os.Exit(server.Main(NewLobby().App())) }

// Lobby keeps the open games. Handlers run on goroutines, so it has a lock.
type Lobby struct {
	app *router.App

	mu    sync.Mutex
	last  int
	games []*Game
}

// Game waits for players.
type Game struct {
	ID      int      `json:"id"`
	Name    string   `json:"name"`
	Seats   int      `json:"seats"`
	Players []string `json:"players"`
	room    string
}

// NewLobby makes an empty lobby.
func NewLobby() *Lobby { return &Lobby{app: router.NewApp()} }

// App is the lobby's part of the server.
func (l *Lobby) App() *router.App {
	l.app.Before("", inRoom)
	l.app.Handle("lobby.lobbyHandler.list", l.list)
	l.app.Handle("lobby.lobbyHandler.open", l.open)
	l.app.Handle("lobby.lobbyHandler.join", l.join)
	l.app.OnClose(func(s *router.Session) { go l.leave(s.Room(), s.User()) }) // events run on the event loop: no waiting there
	return l.app
}

// Codes of refusals.
var (
	errNotInRoom = &router.Error{Code: 401, Text: "enter a room first"}
	errBadGame   = &router.Error{Code: 400, Text: "a game has a name and 2 to 8 seats"}
	errNoGame    = &router.Error{Code: 404, Text: "no such game, or it is full"}
)

// inRoom lets only those through who have entered a room.
func inRoom(c *router.Call) error {
	if c.Session.Room() == "" {
		return errNotInRoom
	}
	return nil
}

// list answers with the open games of the caller's room.
func (l *Lobby) list(c *router.Call) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	games := []Game{}
	for _, g := range l.games {
		if g.room == c.Session.Room() {
			games = append(games, g.copy())
		}
	}
	return map[string]any{"games": games}, nil
}

// open adds a game with the caller in it, and tells the room.
func (l *Lobby) open(c *router.Call) (any, error) {
	var body struct {
		Name  string
		Seats int
	}
	if err := c.Bind(&body); err != nil || body.Name == "" || body.Seats < 2 || body.Seats > 8 {
		return nil, errBadGame
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	g := &Game{ID: l.last, Name: body.Name, Seats: body.Seats, Players: []string{c.Session.User()}, room: c.Session.Room()}
	l.games = append(l.games, g)
	return g.copy(), l.app.PushRoom(g.room, "onOpen", g.copy())
}

// join adds the caller to a game. A full one starts: its players are told, and it is open no longer.
func (l *Lobby) join(c *router.Call) (any, error) {
	var body struct{ ID int }
	if err := c.Bind(&body); err != nil {
		return nil, errNoGame
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	user, room := c.Session.User(), c.Session.Room()
	i := slices.IndexFunc(l.games, func(g *Game) bool { return g.ID == body.ID && g.room == room && !slices.Contains(g.Players, user) })
	if i < 0 {
		return nil, errNoGame
	}
	g := l.games[i]
	g.Players = append(g.Players, user)
	if len(g.Players) == g.Seats {
		l.games = slices.Delete(l.games, i, i+1)
		for _, p := range g.Players {
			if err := l.app.Push(room, p, "onStart", g.copy()); err != nil {
				return nil, err
			}
		}
	}
	return g.copy(), nil
}

// leave takes a player out of all games of a room; an empty game is closed.
func (l *Lobby) leave(room, user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.games = slices.DeleteFunc(l.games, func(g *Game) bool {
		if g.room == room {
			g.Players = slices.DeleteFunc(g.Players, func(p string) bool { return p == user })
		}
		return len(g.Players) == 0
	})
}

// copy is for sending: the original may change meanwhile.
func (g *Game) copy() Game {
	c := *g
	c.Players = slices.Clone(g.Players)
	return c
}
