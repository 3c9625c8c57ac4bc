package router

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/seed"
)

// awayModel has bob come by one session after the other, by all loops and nodes, while the connections of the earlier ones break, or say goodbye, before or after that is noticed. A program keeps, for each room, whether he
// is away, by nothing but OnAway, OnReturn and what the room is told of who leaves; so does a witness, by what the program pushes from these.
type awayModel struct {
	t   *testing.T
	rng *rand.Rand
	r   *rig
	app *app.App // of some node

	witnesses []*client       // of awayRooms
	seen      [2]string       // what they know of bob: out, in, away
	bobs      []*client       // whose connection may be there yet
	away      map[string]bool // by room, as the program's functions have told
	list      []string        // of what was called since all was at rest
	last      map[*app.Session]string
	aways     int
	late      int // returns that were told behind something else than OnEnter or OnJoin
}

var awayRooms = []string{"r", "team"}

func (m *awayModel) program() *app.App {
	a := app.New()
	m.app = a
	note := func(what string, s *app.Session, at app.Place) {
		m.list = append(m.list, fmt.Sprintf("%s %s %p", what, at.Room, s))
		m.last[s] = what + " " + at.Room
	}
	push := func(what string, at app.Place) {
		if err := a.Room(at.Room).Push("on"+what, nil); err != nil {
			m.t.Errorf("%s: %v", what, err)
		}
	}
	a.OnEnter(func(s *app.Session) {
		if s.User() == "bob" {
			note("enter", s, app.Place{Room: s.Room(), User: "bob"})
			m.away[s.Room()] = false
			_ = s.JoinThen("team", nil)
		}
	})
	a.OnJoin(func(s *app.Session, at app.Place) {
		note("enter", s, at)
		m.away[at.Room] = false
	})
	a.OnAway(func(s *app.Session, at app.Place) {
		note("away", s, at)
		m.away[at.Room] = true
		m.aways++
		push("away", at)
	})
	a.OnReturn(func(s *app.Session, at app.Place) {
		if m.last[s] != "enter "+at.Room {
			m.late++
		}
		note("return", s, at)
		m.away[at.Room] = false
		push("return", at)
	})
	a.OnLeave(func(s *app.Session, at app.Place, why app.Why) {
		if at.User == "bob" {
			note("leave "+string(why), s, at)
			delete(m.last, s)
		}
	})
	return a
}

func (m *awayModel) step() {
	var bob *client
	if n := len(m.bobs); n > 0 {
		bob = m.bobs[m.rng.IntN(n)]
	}
	switch op := m.rng.IntN(20); {
	case op < 9 && m.r.fleet != nil:
		m.r.fleet.some(m.rng)
	case op < 9:
		m.r.net.TurnLoop(m.rng.IntN(len(m.r.node.loops)))
	case op < 12 && bob != nil:
		bob.sock.Ready()
	case op < 15 && len(m.bobs) < 6:
		bob = m.r.connect(atConnector, true)
		bob.sock.Send(slices.Concat(bob.bytes(codec.PackageHandshake, []byte(`{"sys":{"type":"test","version":"1"}}`)), bob.bytes(codec.PackageHandshakeAck, nil)))
		bob.request(routeEnter, enterAsBob)
		m.bobs = append(m.bobs, bob)
	case op < 18 && bob != nil:
		bob.sock.Err = syscall.ECONNRESET
		m.drop(bob)
	case op < 19 && bob != nil:
		bob.sock.End()
		m.drop(bob)
	}
}

func (m *awayModel) drop(bob *client) {
	if m.rng.IntN(2) == 0 {
		bob.sock.Ready() // at once
	}
	m.bobs = slices.DeleteFunc(m.bobs, func(c *client) bool { return c == bob })
}

// follow is what a room's witness knows of bob behind what it is told.
func (m *awayModel) follow(room string, told []string) {
	for _, line := range told {
		m.list = append(m.list, room+": "+line)
		is := &m.seen[slices.Index(awayRooms, room)]
		switch {
		case strings.Contains(line, "onaway"):
			if *is != "out" { // else it is told of a session that another one had replaced, and that one has left already
				*is = "away"
			}
		case strings.Contains(line, "onreturn"):
			if *is != "out" { // else it has left again, by a session that had the place from that one
				*is = "in"
			}
		case strings.Contains(line, `"bob"`) && strings.Contains(line, "onAdd"):
			*is = "in"
		case strings.Contains(line, `"bob"`) && strings.Contains(line, "onLeave"):
			*is = "out"
		}
	}
}

// rest lets everything happen that is under way, and checks that who is there is told of as there.
func (m *awayModel) rest() {
	m.r.net.Settle()
	if m.rng.IntN(4) == 0 {
		for range testGrace + 1 { // who is away leaves, and so do sessions that say nothing
			for _, w := range m.witnesses {
				w.send(codec.PackageHeartbeat, nil)
			}
			m.r.net.Seconds(1)
		}
	}
	for i, room := range awayRooms {
		m.follow(room, m.witnesses[i].take())
		var members []app.Member
		m.r.changed(nil, func() (err error) { members, err = m.app.Room(room).Members(m.t.Context()); return err })
		at, is := slices.IndexFunc(members, func(x app.Member) bool { return x.User == "bob" }), "out"
		switch {
		case at >= 0 && members[at].Away:
			is = "away"
		case at >= 0:
			is = "in"
		}
		told := m.seen[i]
		if is == "away" && told == "in" { // it was cut off before it was told that it had entered: no function was called for it
			is = "in"
		}
		if told != is || is == "in" && at >= 0 && !members[at].Away && m.away[room] {
			m.t.Errorf("bob is %s in %s; its witness was told %s, and the program's functions that it is away: %v\n%s", is, room, told, m.away[room], strings.Join(m.list, "\n"))
		}
	}
	m.list = nil
}

// Who is told that somebody is away is told behind that of its return, whatever overtakes what: also if another session had the place before the connection was seen to break.
func TestEachAwayHasItsReturn(t *testing.T) {
	for _, sh := range awayShapes {
		t.Run(sh.String(), func(t *testing.T) {
			rng := seed.Rand(t)
			aways, late, rounds := 0, 0, 10
			if sh.fleet != "" {
				rounds = 3
			}
			for range fewer(rounds) {
				m := &awayModel{t: t, rng: rng, away: make(map[string]bool), last: make(map[*app.Session]string), seen: [2]string{"out", "out"}}
				m.r = newProgramRig(t, sh, func(string) *app.App { return m.program() }, func(cfg *Config) {
					keepPlaces(cfg)
					if sh.fleet == "" {
						cfg.App = m.program()
					}
				})
				for _, room := range awayRooms {
					w := m.r.login(atConnector, true)
					w.enter("ann", room)
					m.witnesses = append(m.witnesses, w)
				}
				for range 20 {
					for range 40 {
						m.step()
					}
					m.rest()
				}
				if aways, late = aways+m.aways, late+m.late; t.Failed() {
					return
				}
			}
			t.Logf("%d times away, %d returns told behind the enter", aways, late)
			if sh.loops > 1 && !raceEnabled && late == 0 {
				t.Error("no connection broke behind the enter of the next one")
			}
		})
	}
}

// Who comes back before the loop that owns the room looks at its mail, on a loop where its cut was noticed, returns as if no program were told of it: it is told what it lacks, also if it has nothing but its address.
func TestReturnBeforeTheMail(t *testing.T) {
	for _, secret := range []string{"", "one that nobody guesses"} {
		for _, program := range []bool{false, true} {
			t.Run(fmt.Sprintf("secret=%v,program=%v", secret != "", program), func(t *testing.T) {
				e := new(awayEvents)
				r := newRig(t, shape{loops: 1}, func(cfg *Config) {
					keepPlaces(cfg)
					if program {
						cfg.App = e.program()
					}
				})
				r.uncounted = true
				r.peer = netip.MustParseAddr("192.0.2.1")
				ann, bob, again := r.login(atConnector, false), r.login(atConnector, true), r.login(atConnector, true)
				ann.enter("ann", "r")
				bob.ask(routeEnter, secretBody("bob", "r", secret))
				e.took(r)
				bob.sock.Room = 0
				ann.ask(routeSend, sendBody("said", "*"))
				bob.sock.Err = syscall.ECONNRESET
				bob.sock.Ready()
				again.request(routeEnter, secretBody("bob", "r", secret))
				again.sock.Ready()
				got := e.took(r)
				if want := "away r, leave r cut, enter r, return r"; program && !strings.HasPrefix(got, want) {
					t.Errorf("the program was told %s, want %s", got, want)
				}
				if lines := strings.Join(again.take(), "\n"); !strings.Contains(lines, `"users":["ann","bob"]`) || !strings.Contains(lines, `"msg":"said"`) {
					t.Errorf("it is told %s", lines)
				}
			})
		}
	}
}
