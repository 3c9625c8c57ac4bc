package router

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/pomelod/pomelod/app"
)

// awayEvents is what programs were told, all nodes' in one list.
type awayEvents struct {
	mu   sync.Mutex
	list []string
	last *app.Session // that entered
	any  *app.App
}

func (e *awayEvents) note(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, fmt.Sprintf(format, args...))
}

// program is one that notes what happens to bob, and tells his rooms.
func (e *awayEvents) program() *app.App {
	a := app.New()
	e.any = a
	note := func(what string) func(*app.Session, app.Place) {
		return func(_ *app.Session, at app.Place) {
			if at.User == "bob" {
				e.note("%s %s", what, at.Room)
				_ = a.Room(at.Room).Push("on"+what, nil)
			}
		}
	}
	a.OnEnter(func(s *app.Session) {
		if s.User() == "bob" {
			e.last = s
			e.note("enter %s", s.Room())
		}
	})
	a.OnJoin(note("join"))
	a.OnAway(note("away"))
	a.OnReturn(note("return"))
	a.OnLeave(func(_ *app.Session, at app.Place, why app.Why) {
		if at.User == "bob" {
			e.note("leave %s %s", at.Room, why)
		}
	})
	return a
}

// took are the events since the last time.
func (e *awayEvents) took(r *rig) string {
	r.net.Settle()
	e.mu.Lock()
	defer e.mu.Unlock()
	got := strings.Join(e.list, ", ")
	e.list = nil
	return got
}

func awayRig(t *testing.T, sh shape, change func(*Config)) (*rig, *awayEvents) {
	e := new(awayEvents)
	apps := func(string) *app.App { return e.program() }
	return newProgramRig(t, sh, apps, func(cfg *Config) {
		keepPlaces(cfg)
		if sh.fleet == "" {
			cfg.App = e.program()
		}
		if change != nil {
			change(cfg)
		}
	}), e
}

var awayShapes = []shape{{loops: 1}, {loops: 2}, {loops: 3, roundTrip: true}, {loops: 2, fleet: "aa"}, {loops: 1, fleet: "gnnccc"}}

const enterAsBob = `{"username":"bob","rid":"r",` + secretOfB + `}`

// Programs are told of places that are kept, and taken up again, once each and in this order, wherever the sessions and the owners of their rooms are; so are those to
// whom they say so. Members says who is away.
func TestAwayAndReturn(t *testing.T) {
	for _, sh := range awayShapes {
		t.Run(sh.String(), func(t *testing.T) {
			r, e := awayRig(t, sh, nil)
			expect := func(what, want string) {
				t.Helper()
				if got := e.took(r); got != want {
					t.Errorf("%s: %s; want %s", what, got, want)
				}
			}
			members := func(room, want string) {
				t.Helper()
				var list []app.Member
				r.changed(nil, func() (err error) { list, err = e.any.Room(room).Members(t.Context()); return err })
				if got := fmt.Sprint(list); got != want {
					t.Errorf("in %s: %s, want %s", room, got, want)
				}
			}
			ann, bob := r.login(atConnector, false), r.login(atConnector, true)
			ann.enter("ann", "r")
			bob.ask(routeEnter, enterAsBob)
			r.changed(nil, func() error { return e.last.Join(t.Context(), "team") })
			expect("two rooms", "enter r, join team")
			for range 2 {
				ann.take()
				bob.reset()
				expect("cut", "away team, away r, leave r cut, leave team cut")
				members("r", "[ann bob (away)]")
				members("team", "[bob (away)]")
				bob = r.login(atConnector, true)
				bob.ask(routeEnter, enterAsBob)
				expect("back", "enter r, return r")
				r.changed(nil, func() error { return e.last.Join(t.Context(), "team") })
				expect("back", "join team, return team")
				members("r", "[ann bob]")
				ann.want("push 0 onaway {}", "push 0 onreturn {}")
			}
			next := r.login(atConnector, true) // before anybody has noticed that the old one is dead
			next.ask(routeEnter, enterAsBob)
			r.net.Settle()
			bob.sock.End()
			if got := e.took(r); strings.Count(got, "away team") != 1 || strings.Contains(got, "away r") || !strings.Contains(got, "enter r, return r") || strings.Contains(got, "return team") {
				t.Errorf("replaced: %s", got)
			}
			r.changed(nil, func() error { return e.last.Join(t.Context(), "team") })
			expect("in the place of the old one", "join team, return team")
			next.sock.Send(maskedFrame(8, []byte{3, 232}))
			r.net.Settle()
			members("r", "[ann]")
			expect("goodbye", "leave r goodbye, leave team goodbye")
		})
	}
}

// A place is told of where it is kept, and not where it is not; a return is one to such a place, and no other enter.
func TestAwayOnlyWhereAPlaceIsKept(t *testing.T) {
	far, other := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")
	for _, tc := range []struct {
		name       string
		from, back netip.Addr
		secret     bool
		change     func(*Config)
		wait       int // seconds before it comes back
		cut, again string
	}{
		{name: "a secret", from: far, back: other, secret: true, cut: "away r, leave r cut", again: "enter r, return r"},
		{name: "an address", from: far, back: far, cut: "away r, leave r cut", again: "enter r, return r"},
		{name: "another address", from: far, back: other, cut: "away r, leave r cut", again: "enter r"},
		{name: "nothing tells it from others", from: netip.IPv6Loopback(), back: netip.IPv6Loopback(), cut: "leave r cut", again: "enter r"},
		{name: "too late", from: far, back: far, wait: testGrace + 1, cut: "away r, leave r cut", again: "enter r"},
		{name: "without grace", from: far, back: far, secret: true, change: func(cfg *Config) { cfg.Limits.Rooms.Grace = 0 }, cut: "leave r cut", again: "enter r"},
		{name: "the room's policy", from: far, back: far, secret: true, cut: "leave r cut", again: "enter r",
			change: func(cfg *Config) { cfg.Policy = func(string) Policy { return Policy{NoGrace: true} } }},
	} {
		for _, sh := range awayShapes[:3] {
			t.Run(fmt.Sprint(tc.name, ",", sh), func(t *testing.T) {
				r, e := awayRig(t, sh, tc.change)
				body := enterBody("bob", "r")
				if tc.secret {
					body = enterAsBob
				}
				r.peer = tc.from
				bob := r.login(atConnector, true)
				bob.ask(routeEnter, body)
				e.took(r)
				bob.reset()
				if got := e.took(r); got != tc.cut {
					t.Errorf("cut: %s; want %s", got, tc.cut)
				}
				r.net.Seconds(tc.wait)
				r.peer = tc.back
				r.login(atConnector, true).ask(routeEnter, body)
				if got := e.took(r); got != tc.again {
					t.Errorf("back: %s; want %s", got, tc.again)
				}
			})
		}
	}
}

// In an upgrade nobody is told that somebody was cut off; who was away returns in the next process, whose program is told so.
func TestAwayOverAnUpgrade(t *testing.T) {
	e := new(awayEvents)
	program := func() *app.App {
		a := e.program()
		app.NewData[int](a, "nothing") // so that sessions go along
		return a
	}
	r := newRig(t, shape{loops: 2}, func(cfg *Config) { keepPlaces(cfg); cfg.App = program() })
	stays, bob := r.login(atConnector, true), r.login(atConnector, true)
	stays.ask(routeEnter, `{"username":"bob","rid":"other"}`)
	bob.ask(routeEnter, enterAsBob)
	bob.reset()
	if got := e.took(r); got != "enter other, enter r, away r, leave r cut" {
		t.Fatal(got)
	}
	r.cfg.App = program()
	r.handOver(false)
	r.login(atConnector, true).ask(routeEnter, enterAsBob)
	if got := e.took(r); got != "enter r, return r" {
		t.Error(got)
	}
}
