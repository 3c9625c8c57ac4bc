package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/app"
)

// What programs set of rooms and read of them is the same whatever node they ask, and whatever node owns the room.
func TestFleetRoomState(t *testing.T) {
	for _, sh := range programFleets {
		t.Run(sh.String(), func(t *testing.T) {
			r, p := programFleetWith(t, sh, func(c *Config) { c.Limits.History = History{Messages: 64, Bytes: 64 << 10} })
			ctx := t.Context()
			ann, ben := r.login(atConnector, true), r.login(atConnector, false) // at two nodes
			ann.enter("ann", "lobby")
			ben.enter("ben", "lobby")
			enter := func(c *client, user, room, password string) {
				t.Helper()
				c.take()
				c.request("connector.entryHandler.enter", fmt.Sprintf(`{"username":"%s","rid":"%s","password":"%s"}`, user, room, password))
				r.net.Settle()
			}
			refusal := func(c *client) string { return strings.Join(c.take(), "; ") }
			const rooms = 8 // owners of several nodes
			n := 0
			for _, a := range p.apps {
				for i := range rooms {
					room := a.Room(fmt.Sprint("table-", i)).Wait(ctx)
					r.changed(nil, func() error { return errors.Join(room.SetCapacity(2), room.SetPassword("sesame")) })
					r.changed(nil, func() error {
						return app.UpdateData(ctx, room, func(count *int) error { *count++; return nil })
					})
				}
				n++
			}
			want := ""
			for i := range rooms {
				want += fmt.Sprintf("table-%d 0 2 true %d;", i, n)
			}
			list := func(a *app.App) (got string) {
				r.changed(nil, func() error {
					for room, err := range a.Rooms(ctx, "table-") {
						if err != nil {
							return err
						}
						got += fmt.Sprintf("%s %d %d %v %s;", room.Name, room.Members, room.Capacity, room.Password, room.Data)
					}
					return nil
				})
				return got
			}
			for name, a := range p.apps {
				if got := list(a); got != want {
					t.Errorf("%s: %s, want %s", name, got, want)
				}
			}
			ann.take()
			ben.take()
			for i := range rooms {
				room := fmt.Sprint("table-", i)
				enter(ann, "ann", room, "open")
				if got := refusal(ann); !strings.Contains(got, `"reason":"password"`) {
					t.Errorf("%s: ann is told %s", room, got)
				}
				enter(ann, "ann", room, "sesame")
				if got := refusal(ann); !strings.Contains(got, `"users":["ann"]`) {
					t.Errorf("%s: ann is told %s", room, got)
				}
				r.changed(nil, func() error { return p.session("ben").Join(ctx, room) })
				r.changed(nil, func() error { return p.any().Room(room).Wait(ctx).Say("server", "welcome") })
				ann.take()
				ben.take()
				for name, a := range p.apps {
					var said []app.Message
					r.changed(nil, func() (err error) {
						said, _, err = a.Room(room).History(ctx, app.Range{Limit: 1})
						return err
					})
					if len(said) != 1 || said[0].Text() != "welcome" || said[0].From != "server" {
						t.Errorf("%s: history %+v", name, said)
					}
				}
				r.changed(nil, func() error { return p.any().Room(room).Wait(ctx).SetCapacity(1) })
				r.changed(nil, func() error { return p.session("ben").Leave(ctx, room) })
				var refused *app.RefusedError
				var err error
				r.changed(nil, func() error { err = p.session("ben").Join(ctx, room); return nil })
				if !errors.As(err, &refused) || refused.Reason != "room_members" {
					t.Errorf("%s: a program's join of a full room: %v", room, err)
				}
			}
			ann.sock.End()
			r.net.Settle()
			for name, a := range p.apps { // they outlive their members
				if got := list(a); strings.Count(got, " 0 1 true") != rooms {
					t.Errorf("%s: %s", name, got)
				}
			}
		})
	}
}
