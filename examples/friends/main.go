// Command friends is a pomelod whose users find each other wherever they are connected: it runs as one process and as any number of nodes of a fleet (-nats), and keeps
// nothing that only one of them knows. A user has one session, the newest; says things to users, wherever they are; and joins rooms of friends beside the one it is in.
package main

import (
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

// join has the session come into a room of friends beside the one that it is in, and tells who is there.
func (f *friends) join(c *app.Call) (any, error) {
	var body struct{ Room string }
	if err := c.Decode(&body); err != nil {
		return nil, err
	}
	if err := c.Session.Join(c.Context(), "friends-"+body.Room); err != nil {
		return nil, err
	}
	members, err := f.app.Room("friends-" + body.Room).Members(c.Context())
	var names []string
	for _, m := range members {
		names = append(names, m.User)
	}
	return map[string][]string{"members": names}, err
}

// rooms are all rooms of friends.
func (f *friends) rooms(c *app.Call) (any, error) {
	list := map[string]int{}
	for room, err := range f.app.Rooms(c.Context(), "friends-") {
		if err != nil {
			return nil, err
		}
		list[room.Name] = room.Members
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
