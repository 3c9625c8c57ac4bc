package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
)

// changed waits for a change of a session's rooms, and fails unless it has come to want.
func (r *rig) changed(want error, f func() error) {
	r.t.Helper()
	if err := r.asked(f); !errors.Is(err, want) && fmt.Sprint(err) != fmt.Sprint(want) {
		r.t.Errorf("got %v, want %v", err, want)
	}
	r.net.Settle()
}

// furtherRig is a rig with a program that knows each session by its first name in a room, and notes events.
func furtherRig(t *testing.T, sh shape, change func(*Config)) (r *rig, of map[string]*app.Session, events func() string) {
	a := app.New()
	of = make(map[string]*app.Session)
	var list []string
	a.OnEnter(func(s *app.Session) {
		list = append(list, fmt.Sprintf("%s enters %s", s.User(), s.Room()))
		if of[s.User()] == nil {
			of[s.User()] = s
		}
	})
	a.OnJoin(func(_ *app.Session, at app.Place) { list = append(list, fmt.Sprintf("%s joins %s", at.User, at.Room)) })
	a.OnRename(func(s *app.Session, was app.Place) { list = append(list, fmt.Sprintf("%s is %s", was.User, s.User())) })
	a.OnLeave(func(_ *app.Session, at app.Place, why app.Why) {
		list = append(list, fmt.Sprintf("%s leaves %s: %s", at.User, at.Room, why))
	})
	r = newRig(t, sh, func(cfg *Config) {
		cfg.App = a
		if change != nil {
			change(cfg)
		}
	})
	return r, of, func() string {
		r.net.Settle()
		got := strings.Join(list, ", ")
		list = nil
		return got
	}
}

// pushesOf are the pushes that a client was told, without their places in streams.
func pushesOf(c *client) (list []string) {
	for _, line := range c.take() {
		if text, is := strings.CutPrefix(line, "push 0 "); is {
			route, body, _ := strings.Cut(text, " ")
			line := route
			members := codec.ScanObject([]byte(body))
			for key, value, more := members.Next(); more; key, value, more = members.Next() {
				if k := string(key); k == "msg" || k == "user" || k == "rid" {
					line += " " + strings.Trim(string(value), `"`)
				}
			}
			list = append(list, line)
		}
	}
	return list
}

func wantPushes(t *testing.T, c *client, want ...string) {
	t.Helper()
	if got := pushesOf(c); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A session that a program puts into further rooms is told of all of them, says things where it means to, and leaves one or all.
func TestFurtherRooms(t *testing.T) {
	for _, sh := range shapes {
		t.Run(sh.String(), func(t *testing.T) {
			r, of, events := furtherRig(t, sh, keepHistory)
			ctx := t.Context()
			plain, ext, other := r.login(atConnector, true), r.extendedLogin(false), r.login(atConnector, false)
			plain.enter("plain", "lobby")
			ext.enter("ext", "lobby")
			other.enter("other", "team")
			p, x := of["plain"], of["ext"]
			r.changed(nil, func() error { return p.Join(ctx, "team") })
			r.changed(nil, func() error { return x.Join(ctx, "team") })
			r.changed(nil, func() error { return x.Join(ctx, "team") })
			if got := fmt.Sprint(p.Rooms(), p.Place()); got != "[lobby team] {lobby plain}" {
				t.Error(got)
			}
			if got := events(); got != "plain enters lobby, ext enters lobby, other enters team, plain joins team, ext joins team" {
				t.Error(got)
			}
			wantPushes(t, plain, "onAdd ext")
			wantPushes(t, ext)
			wantPushes(t, other, "onAdd plain", "onAdd ext")

			say := func(c *client, text, rid, want string) {
				t.Helper()
				if got := c.ask(routeSend, `{"content":"`+text+`","target":"*","rid":"`+rid+`"}`); !strings.HasPrefix(got, want) {
					t.Errorf("%s: %s", text, got)
				}
			}
			say(plain, "1", "team", "{}")
			say(plain, "2", "lobby", "{}")
			say(plain, "3", "nowhere", "{}")
			say(ext, "4", "team", `{"seq"`)
			say(other, "5", "lobby", "{}")
			if got := other.ask(routeSend, sendBody("6", "ext")); got != "{}" {
				t.Error(got)
			}
			if got := plain.ask(routeSend, `{"content":"7","target":"other","rid":"team"}`); got != "{}" {
				t.Error(got)
			}
			if got := plain.ask(routeSend, sendBody("8", "other")); got != refused { // not in its first room
				t.Error(got)
			}
			wantPushes(t, plain, "onChat 1", "onChat 2", "onChat 3", "onChat 4", "onChat 5")
			wantPushes(t, other, "onChat 1", "onChat 4", "onChat 5", "onChat 7")
			for i, got := range pushesOf(ext) {
				want := []string{"1 team", "2 lobby", "3 lobby", "4 team", "5 team", "6 team"}
				fields := strings.Fields(got)
				if len(fields) != 3 || i >= len(want) || !(strings.Contains(got, want[i][:1]) && strings.Contains(got, want[i][2:])) {
					t.Errorf("%d: %q", i, got)
				}
			}
			if got := ext.ask(routeHistory, `{"rid":"team"}`); !strings.Contains(got, `"msg":"4"`) || strings.Contains(got, `"msg":"2"`) {
				t.Error(got)
			}
			if got := ext.ask(routeMembers, `{"rid":"team"}`); !strings.Contains(got, `["other","plain","ext"]`) {
				t.Error(got)
			}

			// It leaves its first room; the next one is it then, and who comes and goes there is told.
			r.changed(nil, func() error { return p.Leave(ctx, "lobby") })
			r.changed(app.ErrAbsent, func() error { return p.Leave(ctx, "lobby") })
			r.changed(nil, func() error { return x.Leave(ctx, "team") })
			wantPushes(t, plain, "onLeave ext")
			wantPushes(t, other, "onLeave ext")
			if got := fmt.Sprint(p.Rooms(), x.Rooms()); got != "[team] [lobby]" {
				t.Error(got)
			}
			if got := events(); got != "plain leaves lobby: left, ext leaves team: left" {
				t.Error(got)
			}
			say(plain, "9", "lobby", "{}")
			wantPushes(t, other, "onChat 9")

			// A client's enter leaves all; refused ones change nothing.
			r.changed(nil, func() error { return p.Join(ctx, "lobby") })
			third := r.login(atConnector, false)
			third.enter("plain", "full")
			if got := plain.enter("plain", "full"); got != enterRefused {
				t.Error(got)
			}
			if got := plain.enter("else", "team"); got != enterRefused {
				t.Errorf("renamed in several rooms: %s", got)
			}
			var taken *app.RefusedError
			if err := r.asked(func() error { return p.Join(ctx, "full") }); !errors.As(err, &taken) || taken.Reason != "taken" {
				t.Error(err)
			}
			r.changed(app.ErrRename, func() error { return p.Enter(ctx, app.Place{Room: "team", User: "else"}) })
			if got := fmt.Sprint(p.Rooms()); got != "[team lobby]" {
				t.Error(got)
			}
			if got := plain.enter("again", "new"); got != `{"users":["again"]}` {
				t.Error(got)
			}
			if got := events(); got != "plain joins lobby, plain enters full, plain leaves team: switch, plain leaves lobby: switch, again enters new" {
				t.Error(got)
			}
			wantPushes(t, other, "onLeave plain")

			// So does one of the program's, and an enter of a room that it is in.
			r.changed(nil, func() error { return p.Join(ctx, "team") })
			if got := plain.enter("again", "team"); got != `{"users":["other","again"]}` {
				t.Error(got)
			}
			r.changed(nil, func() error { return p.Join(ctx, "lobby") })
			r.changed(nil, func() error { return p.Enter(ctx, app.Place{Room: "lobby"}) })
			if got := fmt.Sprint(p.Rooms(), p.User()); got != "[lobby]again" {
				t.Error(got)
			}
			r.changed(nil, func() error { return p.Enter(ctx, app.Place{Room: "lobby", User: "anew"}) })
			r.changed(nil, func() error { return p.Leave(ctx, "lobby") })
			r.changed(app.ErrNowhere, func() error { return p.Join(ctx, "lobby") })
			r.changed(&app.RefusedError{Reason: "name"}, func() error { return p.Enter(ctx, app.Place{Room: "lobby"}) })
			r.changed(&app.RefusedError{Reason: "name"}, func() error { return p.Enter(ctx, app.Place{Room: "a*b", User: "last"}) })
			events()
			r.changed(nil, func() error { return p.Enter(ctx, app.Place{Room: "a", User: "last"}) })
			r.changed(nil, func() error { return p.Join(ctx, "b") })
			plain.sock.Send(maskedFrame(8, []byte{3, 232}))
			if got := events(); got != "last enters a, last joins b, last leaves a: goodbye, last leaves b: goodbye" {
				t.Error(got)
			}
			r.changed(app.ErrClosed, func() error { return p.Join(ctx, "c") })
			for _, l := range r.loops() {
				if l.counters.gaps+l.counters.panics > 0 {
					t.Error("gaps, or panics")
				}
			}
		})
	}
}

// A handler may wait for changes of its own session, and its client's enter waits for them.
func TestHandlerChangesRooms(t *testing.T) {
	for _, sh := range shapes {
		a := app.New()
		a.Handle("game.gameHandler.begin", func(c *app.Call) (any, error) {
			err := errors.Join(c.Session.Enter(c.Context(), app.Place{Room: "lobby", User: "ann"}), c.Session.Join(c.Context(), "game"))
			return map[string]any{"rooms": c.Session.Rooms()}, err
		})
		a.HandleInline("game.gameHandler.also", func(c *app.Call) (any, error) {
			return nil, c.Session.JoinThen("also", func(err error) {
				if err != nil {
					t.Error(err)
				}
				panic("as the test wants it")
			})
		})
		r := appRig(t, sh, a)
		c := r.login(atConnector, true)
		c.request("game.gameHandler.begin", `{}`)
		c.wantTold(`answer 1 {"rooms":["lobby","game"]}`)
		c.request("game.gameHandler.also", `{}`)
		c.request(routeEnter, enterBody("ann", "end"))
		c.wantTold(`answer 2 {}`, `answer 3 {"users":["ann"]}`)
		for _, room := range []string{"lobby", "game", "also"} {
			n := -1
			if err := r.asked(func() (err error) { n, err = a.Room(room).Count(context.Background()); return }); err != nil || n != 0 {
				t.Errorf("%d in %s, %v", n, room, err)
			}
		}
	}
}

// A program is told of each refusal by the error that says what it is.
func TestRefusalsOfChanges(t *testing.T) {
	for body, want := range map[string]error{
		string(channel.EnterNotSent): app.ErrNotSent, string(channel.EnterUnknown): app.ErrUnknown, string(channel.EnterBusy): app.ErrBusy,
		enterRefused: &app.RefusedError{Reason: "taken"}, string(channel.EnterRefusedFor("ban")): &app.RefusedError{Reason: "ban"},
	} {
		if err := refusalOf([]byte(body)); fmt.Sprint(err) != fmt.Sprint(want) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// A program that has whoever opens a session enter a room has no place there taken by the sessions of a gate, where the same clients have been before.
func TestSessionsOfAGateEnterNoRoom(t *testing.T) {
	for _, sh := range shapes {
		a := app.New()
		var got []error
		a.OnOpen(func(s *app.Session) {
			if err := s.EnterThen(app.Place{Room: "lobby", User: "guest"}, func(err error) { got = append(got, err) }); err != nil {
				t.Error(err)
			}
		})
		r := appRig(t, sh, a)
		r.login(atGate, true)
		r.login(atConnector, true)
		if len(got) != 2 || !errors.Is(got[0], app.ErrGate) || got[1] != nil {
			t.Errorf("%v: %v", sh, got)
		}
	}
}

// A push to all but one leaves out a guest, too; a kick in any of its rooms ends the session.
func TestGuestIsLeftOutAndKicked(t *testing.T) {
	for _, sh := range shapes {
		r, of, _ := furtherRig(t, sh, nil)
		a, b := r.login(atConnector, true), r.login(atConnector, false)
		a.enter("a", "one")
		b.enter("b", "two")
		r.changed(nil, func() error { return of["a"].Join(t.Context(), "two") })
		two := r.cfg.App.Room("two")
		if err := errors.Join(two.PushExcept("a", "n", map[string]int{"n": 1}), two.Push("n", map[string]int{"n": 2}), two.PushUser("a", "n", map[string]int{"n": 3})); err != nil {
			t.Fatal(err)
		}
		r.net.Settle()
		a.want(`push 0 n {"n":2}`, `push 0 n {"n":3}`)
		b.want(`push 0 onAdd {"route":"onAdd","user":"a"}`, `push 0 n {"n":1}`, `push 0 n {"n":2}`)
		_ = two.Kick("a", "bye")
		r.net.Settle()
		b.want(`push 0 onLeave {"route":"onLeave","user":"a"}`)
	}
}

// Who enters one of its rooms as another user of the same name, by another secret or login, leaves the others, and is another member there.
func TestAnotherUserInSeveralRooms(t *testing.T) {
	const first, second = `{"username":"bob","rid":"%s",` + secretOfB + `}`, `{"username":"bob","rid":"%s","secret":"fedcba9876543210"}`
	for _, sh := range shapes {
		for _, tc := range []struct {
			room          string
			first, second string
			change        func(*Config)
		}{
			{"two", first, second, keepPlaces},
			{"one", withToken("", "%s", "bob@7"), withToken("", "%s", "bob@8"), func(cfg *Config) {
				keepPlaces(cfg)
				cfg.Logins = Logins{Judge: new(bouncer).judge, AtOnce: 4}
			}},
			{"two", withToken("", "%s", "bob@7"), withToken("", "%s", "bob@8"), func(cfg *Config) {
				keepPlaces(cfg)
				cfg.Logins = Logins{Judge: new(bouncer).judge, AtOnce: 4}
			}},
		} {
			t.Run(fmt.Sprint(sh, ",", tc.room, ",logins=", tc.first != first), func(t *testing.T) {
				r, of, events := furtherRig(t, sh, tc.change)
				w, bob := r.login(atConnector, true), r.login(atConnector, true) // on two loops, if there are so many
				w.told(routeEnter, withToken("w", tc.room, "w"))
				bob.told(routeEnter, fmt.Sprintf(tc.first, "one"))
				r.changed(nil, func() error { return of["bob"].Join(t.Context(), "two") })
				w.take()
				bob.take()
				events()
				if got := bob.told(routeEnter, fmt.Sprintf(tc.second, tc.room)); got != `{"users":["w","bob"]}` {
					t.Fatal(got)
				}
				r.net.Settle()
				wantPushes(t, w, "onLeave bob", "onAdd bob")
				if got := fmt.Sprint(of["bob"].Rooms()); got != "["+tc.room+"]" {
					t.Error(got)
				}
				left := map[string]string{"one": "two", "two": "one"}[tc.room]
				if got := events(); got != "bob leaves "+left+": switch" {
					t.Error(got)
				}
				n := -1
				if err := r.asked(func() (err error) { n, err = r.cfg.App.Room(left).Count(t.Context()); return }); err != nil || n != 0 {
					t.Errorf("%d in %s, %v", n, left, err)
				}
				w.ask(routeSend, sendBody("hello", "*"))
				wantPushes(t, bob, "onChat hello")
				for _, l := range r.loops() {
					if l.counters.gaps+l.counters.panics > 0 {
						t.Error("gaps, or panics")
					}
				}
			})
		}
	}
}

// Who is cut off is away in each of its rooms, and returns to each with what was said there meanwhile.
func TestReturnToSeveralRooms(t *testing.T) {
	for _, sh := range shapes {
		r, of, _ := furtherRig(t, sh, keepPlaces)
		w, v := r.login(atConnector, true), r.login(atConnector, false)
		w.enter("w", "one")
		v.enter("v", "two")
		const enterBob = `{"username":"bob","rid":"one",` + secretOfB + `}`
		bob := r.login(atConnector, true)
		bob.ask(routeEnter, enterBob)
		r.changed(nil, func() error { return of["bob"].Join(t.Context(), "two") })
		w.take()
		v.take()
		bob.reset()
		r.net.Settle()
		w.ask(routeSend, sendBody("in one", "*"))
		v.ask(routeSend, sendBody("in two", "*"))
		v.ask(routeSend, sendBody("to bob", "bob"))
		wantPushes(t, w, "onChat in one") // nobody has left
		wantPushes(t, v, "onChat in two")
		delete(of, "bob")
		again := r.login(atConnector, true)
		if got := again.ask(routeEnter, enterBob); got != `{"users":["w","bob"]}` {
			t.Error(got)
		}
		wantPushes(t, again, "onChat in one")
		r.changed(nil, func() error { return of["bob"].Join(t.Context(), "two") })
		wantPushes(t, again, "onChat in two", "onChat to bob")
		wantPushes(t, v)
		wantPushes(t, w)
		again.reset()
		for range testGrace + 2 { // they would be silent for too long themselves
			w.send(codec.PackageHeartbeat, nil)
			v.send(codec.PackageHeartbeat, nil)
			r.net.Seconds(1)
		}
		wantPushes(t, w, "onLeave bob")
		wantPushes(t, v, "onLeave bob")
	}
}
