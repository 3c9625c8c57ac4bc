// Command lobby is a pomelod with handlers of its own: players open games, see who else has, and join; a game that is full
// starts. Everything of the chat application is there too: the lobby is the room that players enter.
//
// It counts seats itself, though rooms have them (Room.SetCapacity, examples/friends): players of a game that waits are in the lobby, and in no room of their own. If each game were a further room of its players, none of them could take
// another name (app.ErrRename), and the list of names that the lobby shows would have to be asked of each.
package main

import (
	"errors"
	"os"
	"slices"
	"sync"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/server"
)

func main() { os.Exit(server.Main(NewLobby().App())) }

// Lobby keeps the open games. Handlers run on goroutines, so it has a lock.
//
// A player is a session and not a name: by another enter a session may leave the room or take another name. Session always says where it is now, so
// whoever looks at a game looks first at who of its players is still there (present), and so does tidy when somebody has left.
type Lobby struct {
	app *app.App

	mu    sync.Mutex
	last  int
	games []*Game
}

// Game waits for players.
type Game struct {
	ID      int      `json:"id"`
	Name    string   `json:"name"`
	Seats   int      `json:"seats"`
	Players []string `json:"players"` // as present found them
	room    string
	seats   []*app.Session
}

// NewLobby makes an empty lobby.
func NewLobby() *Lobby { return &Lobby{app: app.New()} }

// App is the lobby's part of the server.
func (l *Lobby) App() *app.App {
	l.app.Before("", inRoom)
	l.app.Handle("lobby.lobbyHandler.list", l.list)
	l.app.Handle("lobby.lobbyHandler.open", l.open)
	l.app.Handle("lobby.lobbyHandler.join", l.join)
	l.app.OnLeave(func(*app.Session, app.Place, app.Why) { go l.tidy() }) // events run on the event loop: no waiting there
	return l.app
}

// Codes of refusals.
var (
	errNotInRoom = &app.Error{Code: 401, Text: "enter a room first"}
	errBadGame   = &app.Error{Code: 400, Text: "a game has a name and 2 to 8 seats"}
	errNoGame    = &app.Error{Code: 404, Text: "no such game, or it is full"}
)

// inRoom lets only those through who have entered a room.
func inRoom(c *app.Call) error {
	if c.Session.Room() == "" {
		return errNotInRoom
	}
	return nil
}

// list answers with the open games of the caller's room.
func (l *Lobby) list(c *app.Call) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.present()
	games := []Game{}
	for _, g := range l.games {
		if g.room == c.Session.Room() {
			games = append(games, g.copy())
		}
	}
	return map[string]any{"games": games}, nil
}

// open adds a game with the caller in it, and tells the room.
func (l *Lobby) open(c *app.Call) (any, error) {
	var body struct {
		Name  string
		Seats int
	}
	if err := c.Decode(&body); err != nil || body.Name == "" || body.Seats < 2 || body.Seats > 8 {
		return nil, errBadGame
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	g := &Game{ID: l.last, Name: body.Name, Seats: body.Seats, room: c.Session.Room(), seats: []*app.Session{c.Session}}
	l.games = append(l.games, g)
	l.present()
	return g.copy(), l.app.Room(g.room).Push("onOpen", g.copy())
}

// join adds the caller to a game. A full one starts: its players are told, and it is open no longer.
func (l *Lobby) join(c *app.Call) (any, error) {
	var body struct{ ID int }
	if err := c.Decode(&body); err != nil {
		return nil, errNoGame
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.present()
	room := c.Session.Room()
	i := slices.IndexFunc(l.games, func(g *Game) bool {
		return g.ID == body.ID && g.room == room && !slices.Contains(g.seats, c.Session)
	})
	if i < 0 {
		return nil, errNoGame
	}
	g := l.games[i]
	g.seats = append(g.seats, c.Session)
	l.present()
	if len(g.seats) < g.Seats {
		return g.copy(), nil
	}
	l.games = slices.DeleteFunc(l.games, func(open *Game) bool { return open == g })
	var errs []error
	for _, s := range g.seats {
		errs = append(errs, s.Push("onStart", g.copy()))
	}
	return g.copy(), errors.Join(errs...)
}

// tidy forgets who has gone, also when nobody looks.
func (l *Lobby) tidy() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.present()
}

// present takes those out of all games who have ended or left the game's room, writes down what the others are called now,
// and closes empty games. Guarded by mu.
func (l *Lobby) present() {
	l.games = slices.DeleteFunc(l.games, func(g *Game) bool {
		g.seats = slices.DeleteFunc(g.seats, func(s *app.Session) bool { return s.Closed() || s.Room() != g.room })
		g.Players = g.Players[:0]
		for _, s := range g.seats {
			g.Players = append(g.Players, s.User())
		}
		return len(g.seats) == 0
	})
}

// copy is for sending: the original may change meanwhile.
func (g *Game) copy() Game {
	c := *g
	c.Players = slices.Clone(g.Players)
	return c
}
