// Command friends is a pomelod whose users find each other wherever they are connected: it runs as one process and as any number of nodes of a fleet (-nats), and keeps
// nothing that only one of them knows. A user has one session, the newest; says things to users, wherever they are; opens rooms of friends, with seats and a topic, and joins them beside the one it is in.
package main

import (
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/server"
)

func main() { os.Exit(server.Main(New())) }

// Tea is how long tea takes: the only thing of the program's that lasts.
const Tea = 200 * time.Millisecond

// New makes the program.
func New() *app.App {
	a := app.New()
	f := &friends{a, app.NewData[string](a, "mood")}
	a.Handle("friends.friendsHandler.login", f.login)
	a.Handle("friends.friendsHandler.tell", f.tell)
	a.Handle("friends.friendsHandler.online", f.online)
	a.Handle("friends.friendsHandler.open", f.open)
	a.Handle("friends.friendsHandler.join", f.join)
	a.Handle("friends.friendsHandler.rooms", f.rooms)
	a.Handle("friends.friendsHandler.tea", f.tea)
	a.Handle("friends.friendsHandler.shout", f.shout)
	a.OnJoin(func(s *app.Session, at app.Place) {
		_ = s.Push("onJoined", map[string]string{"room": at.Room, "mood": f.mood.Get(s)})
	})
	return a
}

type friends struct {
	app  *app.App
	mood *app.Data[string]
}

// login makes the session the user's, and ends an older one, on whatever node that is. A real program learns the uid from a token that it has signed.
func (f *friends) login(c *app.Call) (any, error) {
	var body struct{ UID, Mood string }
	if err := c.Decode(&body); err != nil || body.UID == "" {
		return nil, &app.Error{Code: 400}
	}
	f.mood.Set(c.Session, body.Mood)
	return nil, c.Session.Login(c.Context(), body.UID, app.Logins{Most: 1, KickOld: true})
}

// tell says something to users, wherever they are.
func (f *friends) tell(c *app.Call) (any, error) {
	var body struct {
		To   []string
		Text string
	}
	if err := c.Decode(&body); err != nil || c.Session.UID() == "" {
		return nil, &app.Error{Code: 400}
	}
	_, err := f.app.PushUIDs(body.To, "onTold", map[string]string{"from": c.Session.UID(), "text": body.Text})
	return nil, err
}

// online says how many sessions a user has.
func (f *friends) online(c *app.Call) (any, error) {
	var body struct{ UID string }
	if err := c.Decode(&body); err != nil {
		return nil, err
	}
	n, err := f.app.CountUID(c.Context(), body.UID)
	return map[string]int{"sessions": n}, err
}

// Table is what is kept with a room of friends.
type Table struct{ Topic string }

// open makes a room of friends, in which nobody is yet.
func (f *friends) open(c *app.Call) (any, error) {
	var body struct {
		Room, Topic string
		Seats       int
	}
	if err := c.Decode(&body); err != nil {
		return nil, err
	}
	room := f.app.Room("friends-" + body.Room).Wait(c.Context())
	return nil, errors.Join(room.SetCapacity(body.Seats), room.SetData(Table{body.Topic}))
}

// join has the session come into a room of friends beside the one that it is in, and tells who is there.
func (f *friends) join(c *app.Call) (any, error) {
	var body struct{ Room string }
	if err := c.Decode(&body); err != nil {
		return nil, err
	}
	err := c.Session.Join(c.Context(), "friends-"+body.Room)
	var refused *app.RefusedError
	switch {
	case errors.As(err, &refused):
		return nil, &app.Error{Code: 403, Body: map[string]string{"reason": refused.Reason}} // room_members: all seats are taken
	case err != nil:
		return nil, err
	}
	members, err := f.app.Room("friends-" + body.Room).Members(c.Context())
	var names []string
	for _, m := range members {
		names = append(names, m.User)
	}
	return map[string][]string{"members": names}, err
}

// Listed is a room of friends in the list.
type Listed struct {
	Members, Seats int
	Topic          string
}

// rooms are all rooms of friends, also those that nobody is in yet.
func (f *friends) rooms(c *app.Call) (any, error) {
	list := map[string]Listed{}
	for room, err := range f.app.Rooms(c.Context(), "friends-") {
		if err != nil {
			return nil, err
		}
		var table Table
		if room.Data != nil {
			if err := json.Unmarshal(room.Data, &table); err != nil {
				return nil, err
			}
		}
		list[room.Name] = Listed{room.Members, room.Capacity, table.Topic}
	}
	return list, nil
}

// tea tells a room when its tea is ready, unless all have left it by then.
func (f *friends) tea(c *app.Call) (any, error) {
	room := f.app.Room(c.Session.Room())
	_, err := room.Wait(c.Context()).AfterFunc(Tea, func() { _ = room.Say("teapot", "tea is ready") })
	return nil, err
}

// shout tells everybody something.
func (f *friends) shout(c *app.Call) (any, error) {
	return nil, f.app.Broadcast("onShout", map[string]string{"from": c.Session.UID()})
}
