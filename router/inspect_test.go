package router

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
)

// What operators ask for and tell works in every shape of a node: lists, pushes, kicks and the end of a room.
func TestOperators(t *testing.T) {
	for _, sh := range shapes {
		t.Run(fmt.Sprint(sh), func(t *testing.T) {
			r := newRig(t, sh, func(c *Config) {
				c.Limits.History = History{Messages: 10, Bytes: 1 << 16, Age: time.Hour, Memory: 1 << 20}
			})
			ctx, n := t.Context(), r.node
			must := func(f func() error) {
				t.Helper()
				if err := r.asked(f); err != nil {
					t.Fatal(err)
				}
			}
			var clients []*client
			for i := range 6 {
				c := r.login(atConnector, i%2 == 0)
				c.enter(fmt.Sprint("u", i), fmt.Sprint("r", i%2))
				clients = append(clients, c)
			}
			idle := r.login(atConnector, true)
			take := func() {
				for _, c := range clients {
					c.take()
				}
			}
			kicked := func(c *client, why string) {
				t.Helper()
				if got := c.take(); len(got) == 0 || got[0] != "kick 0 "+why {
					t.Errorf("kicked with %s: %q", why, got)
				}
			}
			clients[0].request("chat.chatHandler.send", `{"content":"kept","target":"*"}`)
			r.net.Settle()
			take()

			var names []string
			must(func() (err error) { names, err = n.Members(ctx, "r1"); return })
			if got := strings.Join(names, " "); got != "u1 u3 u5" {
				t.Errorf("members: %s", got)
			}
			var pages [][]SessionInfo
			must(func() error {
				for from := (&SessionCursor{}); from != nil; {
					var list []SessionInfo
					var err error
					if list, from, err = n.ListSessions(ctx, SessionFilter{}, *from, 2); err != nil {
						return err
					}
					pages = append(pages, list)
				}
				return nil
			})
			found := map[string]string{}
			for _, list := range pages {
				for _, s := range list {
					found[s.Name] = s.Room
				}
			}
			if len(pages) != 4 || len(found) != 7 || found["u4"] != "r0" {
				t.Errorf("%d pages: %v", len(pages), found)
			}
			var history []byte
			must(func() (err error) { history, err = n.History(ctx, "r0", 5); return })
			if !strings.Contains(string(history), `"msg":"kept","from":"u0"`) {
				t.Errorf("history: %s", history)
			}
			if err := r.asked(func() (err error) { _, err = n.History(ctx, "nowhere", 5); return }); !errors.Is(err, app.ErrAbsent) {
				t.Errorf("history of nothing: %v", err)
			}

			publish := func(p Publication) (done Published, err error) {
				err = r.asked(func() (err error) { done, err = n.PublishRoom(ctx, p); return })
				return done, err
			}
			for i := range 2 {
				if done, err := publish(Publication{Room: "r0", Route: "onX", Body: []byte(`{"a":1}`), Mid: "m"}); err != nil || done.Again != (i == 1) || done.Members != 3 || done.Loops < 1 || done.Loops > 3 || done.Seq == "" {
					t.Errorf("time %d: %+v, %v", i, done, err)
				}
			}
			if done, err := publish(Publication{Room: "r0", User: "u2", Route: "onY", Body: []byte(`{}`), Mid: "m"}); err != nil || done.Again || done.Members != 1 || done.Loops != 1 || done.Seq != "" {
				t.Errorf("to one: %+v, %v", done, err)
			}
			var count int
			must(func() (err error) {
				count, err = n.PublishSessions(ctx, SessionFilter{Name: "u1"}, "onZ", []byte(`{}`))
				return
			})
			must(func() (err error) {
				_, err = n.PublishSessions(ctx, SessionFilter{}, "onAll", []byte(`{"b":2}`))
				return
			})
			r.net.Settle()
			clients[2].want(`push 0 onX {"a":1}`, `push 0 onY {}`, `push 0 onAll {"b":2}`)
			clients[1].want(`push 0 onZ {}`, `push 0 onAll {"b":2}`)
			idle.want(`push 0 onAll {"b":2}`)
			if count != 1 {
				t.Errorf("%d sessions are called u1", count)
			}
			for body, want := range map[string]error{`[]`: app.ErrObject, `{"body":1}`: app.ErrObject, `{`: app.ErrObject, ``: app.ErrObject, `{"a":"` + strings.Repeat("x", 1<<20) + `"}`: app.ErrTooLong} {
				if _, err := publish(Publication{Room: "r0", Route: "onX", Body: []byte(body)}); !errors.Is(err, want) {
					t.Errorf("push of %.20q: %v", body, err)
				}
			}
			if _, err := publish(Publication{Room: "nowhere", Route: "onX", Body: []byte(`{}`)}); !errors.Is(err, app.ErrAbsent) {
				t.Errorf("to nobody: %v", err)
			}

			// An onChat is a message, which the room keeps, also one without a from.
			for _, body := range []string{`{}`, `{"from":"a"}`, `{"msg":"x","from":"a*b"}`, `{"msg":"x","from":""}`, `{"msg":"x","from":7}`, `{"msg":"x","target":"u2"}`, `{"msg":"x","seq":"1"}`, `{"msg":"x","from":"` + strings.Repeat("n", 300) + `"}`} {
				if _, err := publish(Publication{Room: "r0", Route: "onChat", Body: []byte(body)}); !errors.Is(err, ErrMessage) {
					t.Errorf("onChat of %.40s: %v", body, err)
				}
			}
			take()
			for i := range 2 {
				if done, err := publish(Publication{Room: "r0", Route: "onChat", Body: []byte(`{"target":"*","from":"ops","msg":["back",5]}`), Mid: "n"}); err != nil || done.Again != (i == 1) || done.Seq == "" {
					t.Errorf("time %d: %+v, %v", i, done, err)
				}
			}
			if _, err := publish(Publication{Room: "r0", Route: "onChat", Body: []byte(`{"msg":"soon"}`)}); err != nil {
				t.Error(err)
			}
			r.net.Settle()
			clients[4].want(`push 0 onChat {"msg":["back",5],"from":"ops","target":"*"}`, `push 0 onChat {"msg":"soon","from":"system","target":"*"}`)
			must(func() (err error) { history, err = n.History(ctx, "r0", 5); return })
			if got := string(history); strings.Count(got, `"msg":["back",5],"from":"ops"`) != 1 || strings.Count(got, "soon") != 1 || strings.Contains(got, `"a":1`) {
				t.Errorf("history: %s", got)
			}

			take()
			must(func() error { return n.KickMember(ctx, "r0", "u0", "bye") })
			r.net.Settle()
			kicked(clients[0], `{"reason":"bye"}`)
			if err := r.asked(func() error { return n.KickMember(ctx, "r0", "u0", "bye") }); !errors.Is(err, app.ErrAbsent) {
				t.Errorf("kick of nobody: %v", err)
			}
			must(func() (err error) { count, err = n.KickSessions(ctx, SessionFilter{Name: "u1"}, "by name"); return })
			r.net.Settle()
			kicked(clients[1], `{"reason":"by name"}`)
			take()

			must(func() error { return n.KickMember(ctx, "r0", channel.Everybody, "closed") })
			r.net.Settle()
			for _, i := range []int{2, 4} { // and nobody is told who else leaves
				kicked(clients[i], `{"reason":"closed"}`)
			}
			if err := r.asked(func() (err error) { _, err = n.History(ctx, "r0", 5); return }); !errors.Is(err, app.ErrAbsent) {
				t.Errorf("history of a closed room: %v", err)
			}
			must(func() (err error) {
				count, err = n.KickSessions(ctx, SessionFilter{Address: netip.MustParsePrefix("::/0")}, "all")
				return
			})
			if idle.take(); count < 3 {
				t.Errorf("%d of an address", count)
			}
		})
	}
}

// Rooms come in order, in pages, those of all loops.
func TestRoomsInPages(t *testing.T) {
	r := newRig(t, shape{loops: 3}, nil)
	for i := range 25 {
		r.login(atConnector, true).enter("u", fmt.Sprintf("room%02d", i))
	}
	r.login(atConnector, true).enter("u", "other")
	var names []string
	for after, more := "", true; more; {
		err := r.asked(func() error {
			rooms, m, err := r.node.Rooms(t.Context(), "room", after, 10)
			for _, room := range rooms {
				names = append(names, room.Name)
				after = room.Name
			}
			more = m
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range names {
		if name != fmt.Sprintf("room%02d", i) {
			t.Errorf("room %d is %s", i, name)
		}
	}
	if len(names) != 25 {
		t.Errorf("%d rooms", len(names))
	}
}

// A loop that does not answer is named, and what has been begun there does no harm later.
func TestOperatorsAndStuckLoops(t *testing.T) {
	r := newRig(t, shape{loops: 2}, nil)
	r.login(atConnector, true).enter("u", "r")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	for name, f := range map[string]func() error{
		"rooms":    func() error { _, _, err := r.node.Rooms(ctx, "", "", 5); return err },
		"sessions": func() error { _, _, err := r.node.ListSessions(ctx, SessionFilter{}, SessionCursor{}, 5); return err },
		"kick":     func() error { _, err := r.node.KickSessions(ctx, SessionFilter{}, "bye"); return err },
	} {
		if err := f(); !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), "(loop [0") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.node.KickMember(ctx, "r", "u", "bye"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer from event loop") {
		t.Errorf("kick of a member: %v", err)
	}
	r.net.Settle()
	if n := r.node.broadcasts.Load(); n != 0 {
		t.Errorf("sessions cannot move: %d", n)
	}
}
