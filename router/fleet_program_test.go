package router

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/netpoll"
)

// programs are what a test knows of the programs of a fleet's nodes.
type programs struct {
	apps map[string]*app.App

	mu     sync.Mutex              // logins are asked for by goroutines of their own
	of     map[string]*app.Session // by the first name in a room
	events []string
}

// session is whose first name in a room it was.
func (p *programs) session(name string) *app.Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of[name]
}

func (p *programs) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, fmt.Sprintf(format, args...))
}

// programFleet is a fleet of nodes with programs, each with its own, that note what happens to sessions.
func programFleet(t *testing.T, sh shape) (*rig, *programs) { return programFleetWith(t, sh, nil) }

func programFleetWith(t *testing.T, sh shape, change func(*Config)) (*rig, *programs) {
	p := &programs{apps: make(map[string]*app.App), of: make(map[string]*app.Session)}
	r := newProgramRig(t, sh, func(node string) *app.App {
		a := app.New()
		p.apps[node] = a
		a.OnEnter(func(s *app.Session) {
			p.note("%s enters %s", s.User(), s.Room())
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.of[s.User()] == nil {
				p.of[s.User()] = s
			}
		})
		a.OnJoin(func(_ *app.Session, at app.Place) { p.note("%s joins %s", at.User, at.Room) })
		a.OnLeave(func(_ *app.Session, at app.Place, why app.Why) { p.note("%s leaves %s: %s", at.User, at.Room, why) })
		return a
	}, change)
	return r, p
}

// handTimers are timers for which the time comes when a test says so. Safe from any goroutine.
type handTimers struct {
	mu   sync.Mutex
	last int
	set  map[int]func()
}

// after is Config.After.
func (h *handTimers) after(_ time.Duration, f func()) (stop func() bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	number := h.last
	h.set[number] = f
	return func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		_, was := h.set[number]
		delete(h.set, number)
		return was
	}
}

// fire has the time come for all that are set.
func (h *handTimers) fire() {
	h.mu.Lock()
	due := h.set
	h.set = make(map[int]func())
	h.mu.Unlock()
	for _, number := range slices.Sorted(maps.Keys(due)) {
		due[number]()
	}
}

// took are the events since the last time.
func (p *programs) took(r *rig) string {
	r.net.Settle()
	p.mu.Lock()
	defer p.mu.Unlock()
	got := strings.Join(p.events, ", ")
	p.events = nil
	return got
}

// any is the program of some node.
func (p *programs) any(names ...string) *app.App {
	for name, a := range p.apps {
		if len(names) == 0 || slices.Contains(names, name) {
			return a
		}
	}
	return nil
}

var programFleets = []shape{{loops: 2, fleet: "aa"}, {loops: 1, fleet: "gnnccc"}}

// What a program asks of rooms, wherever they are, comes to members wherever they are.
func TestFleetProgramRooms(t *testing.T) {
	for _, sh := range programFleets {
		t.Run(sh.String(), func(t *testing.T) {
			r, p := programFleet(t, sh)
			ctx := t.Context()
			ann, ben := r.login(atConnector, true), r.login(atConnector, false) // at two nodes
			ann.enter("ann", "lobby")
			ben.enter("ben", "lobby")
			for i := range 8 { // owners of several nodes
				room := fmt.Sprint("team-", i)
				r.changed(nil, func() error { return p.session("ann").Join(ctx, room) })
				r.changed(nil, func() error { return p.session("ben").Join(ctx, room) })
			}
			want := "ann enters lobby, ben enters lobby"
			for i := range 8 {
				want += fmt.Sprintf(", ann joins team-%d, ben joins team-%d", i, i)
			}
			if got := p.took(r); got != want { // each once
				t.Errorf("events %s", got)
			}
			ann.take()
			ben.take()
			for name, a := range p.apps {
				for i := range 8 {
					room := a.Room(fmt.Sprint("team-", i))
					r.changed(nil, func() error { return room.Wait(ctx).Say("server", name) })
					var members []app.Member
					r.changed(nil, func() (err error) { members, err = room.Members(ctx); return err })
					if fmt.Sprint(members) != "[ann ben]" {
						t.Errorf("%s: members %v", name, members)
					}
				}
				r.changed(nil, func() error {
					return a.Room("lobby").Wait(ctx).PushExcept("ann", "onNews", map[string]string{"msg": name})
				})
				r.changed(app.ErrAbsent, func() error { return a.Room("nowhere").Wait(ctx).Push("onNews", nil) })
				var names []string
				r.changed(nil, func() error {
					for room, err := range a.Rooms(ctx, "team-") {
						if err != nil {
							return err
						}
						names = append(names, fmt.Sprint(room.Name, " ", room.Members))
					}
					return nil
				})
				if len(names) != 8 || names[0] != "team-0 2" || names[7] != "team-7 2" || !slices.IsSorted(names) {
					t.Errorf("%s: rooms %v", name, names)
				}
				if got := len(pushesOf(ann)); got != 8 {
					t.Errorf("ann was told %d things", got)
				}
				if got := len(pushesOf(ben)); got != 9 {
					t.Errorf("ben was told %d things", got)
				}
			}
			ann.sock.End()
			if got := p.took(r); strings.Count(got, "ann leaves") != 9 {
				t.Errorf("events %s", got)
			}
		})
	}
}

// A uid has as many sessions as it may in the whole fleet, is reached wherever they are, and loses those of a node that ends.
func TestFleetProgramLogins(t *testing.T) {
	for _, sh := range programFleets {
		t.Run(sh.String(), func(t *testing.T) {
			r, p := programFleet(t, sh)
			ctx := t.Context()
			enter := func(name string) *client {
				c := r.login(atConnector, true)
				c.enter(name, "lobby")
				c.take()
				return c
			}
			count := func(want int) {
				t.Helper()
				for name, a := range p.apps {
					var n int
					r.changed(nil, func() (err error) { n, err = a.CountUID(ctx, "u"); return err })
					if n != want {
						t.Errorf("%s counts %d sessions, want %d", name, n, want)
					}
				}
			}
			login := func(name string, of app.Logins) error {
				return r.asked(func() error { return p.session(name).Login(ctx, "u", of) })
			}
			one, newest := app.Logins{Most: 1}, app.Logins{Most: 1, KickOld: true}
			ann, ben, cid := enter("ann"), enter("ben"), enter("cid")
			count(0)
			if err := login("ann", one); err != nil {
				t.Fatal(err)
			}
			if err := login("ann", one); err != nil {
				t.Error("again:", err)
			}
			var refused *app.RefusedError
			if err := login("ben", one); !errors.As(err, &refused) || refused.Reason != "sessions" {
				t.Errorf("a second login: %v", err)
			}
			count(1)
			if p.session("ben").UID() != "" || p.session("ann").UID() != "u" {
				t.Error("bound to the wrong one")
			}
			ann.take()
			for _, a := range p.apps {
				if _, err := a.PushUIDs([]string{"u", "nobody", "u"}, "onNews", nil); err != nil {
					t.Error(err)
				}
			}
			r.net.Settle()
			if got := len(pushesOf(ann)); got != len(p.apps) {
				t.Errorf("ann was told %d things by %d programs", got, len(p.apps))
			}
			if err := login("ben", newest); err != nil {
				t.Error(err)
			}
			if got := strings.Join(ann.take(), "\n"); !strings.Contains(got, "replaced by a new session of yours") {
				t.Errorf("ann was told %q", got)
			}
			if got := p.took(r); strings.Count(got, "ann leaves lobby: kick") != 1 {
				t.Errorf("events %s", got)
			}
			count(1)
			p.session("cid").Bind("u")
			r.net.Settle() // it does not wait
			count(2)
			r.changed(nil, func() error { return p.any().KickUID("u", "go") })
			for _, c := range []*client{ben, cid} {
				if got := strings.Join(c.take(), "\n"); !strings.Contains(got, `{"reason":"go"}`) {
					t.Errorf("told %q", got)
				}
			}
			count(0)
			enter("dan")
			p.session("dan").Bind("u")
			p.session("dan").Bind("v")
			r.net.Settle()
			count(0)
			p.session("dan").Bind("")
		})
	}
}

// Sessions of a uid that are bound at the same time by several nodes: exactly one stays, or gets in.
func TestFleetProgramLoginsAtOnce(t *testing.T) {
	for _, of := range []app.Logins{{Most: 1}, {Most: 1, KickOld: true}} {
		r, p := programFleet(t, shape{loops: 1, fleet: "gnnccc"})
		done := make(chan error, 4)
		for i := range 4 {
			name := fmt.Sprint("p", i)
			r.login(atConnector, true).enter(name, "lobby")
			go func() { done <- p.session(name).Login(t.Context(), "u", of) }()
		}
		well := 0
		for range 4 {
			if r.asked(func() error { return <-done }) == nil {
				well++
			}
		}
		open := 0
		for _, s := range p.of {
			if !s.Closed() && s.UID() == "u" {
				open++
			}
		}
		if open != 1 || well != 1 && !of.KickOld {
			t.Errorf("%+v: %d logins went well, %d sessions are bound", of, well, open)
		}
	}
}

// Who is counted as a uid's session and cannot be asked for again, as its node is cut off, stays counted until it ends, and no longer.
func TestFleetProgramBoundIsReleased(t *testing.T) {
	later := &handTimers{set: make(map[int]func())} // for the second after which it would be asked again
	r, p := programFleetWith(t, shape{loops: 1, fleet: "gnncc"}, func(cfg *Config) { cfg.After = later.after })
	x := r.fleet
	ann := r.login(atConnector, true)
	ann.enter("ann", "lobby")
	if err := r.asked(func() error { return p.session("ann").Login(t.Context(), "u", app.Logins{Most: 1}) }); err != nil {
		t.Fatal(err)
	}
	count := func(want int) {
		t.Helper()
		n := -1
		r.changed(nil, func() (err error) { n, err = p.apps[x.nodes[0].name].CountUID(t.Context(), "u"); return err })
		if n != want {
			t.Errorf("%d sessions, want %d", n, want)
		}
	}
	var at *fleetNode
	var k *appClient
	for _, n := range x.nodes {
		for _, l := range n.node.loops {
			l.np.Each(func(c *netpoll.Conn) {
				if known := l.session(c).appClient(); known != nil {
					at, k = n, known
				}
			})
		}
	}
	at.fleet.Away(true)
	k.Bound() // as the program's Bind does
	if r.net.Settle(); len(k.bindings) > 0 {
		t.Fatal("it was asked for in spite of that")
	}
	at.fleet.Away(false)
	x.calm()
	count(1)
	later.fire()
	r.net.Settle()
	count(1)
	ann.sock.End()
	x.pass(100)
	count(0)
}

// What is said to all comes to the clients of all nodes, once.
func TestFleetProgramBroadcast(t *testing.T) {
	r, p := programFleet(t, shape{loops: 2, fleet: "aaa"})
	r.fleet.pass(2100) // all have said that they are there
	var all []*client
	for range 6 {
		all = append(all, r.login(atConnector, true))
	}
	for _, a := range p.apps {
		if err := a.Broadcast("onNews", nil); err != nil {
			t.Fatal(err)
		}
	}
	r.net.Settle()
	for _, c := range all {
		if got := len(pushesOf(c)); got != len(p.apps) {
			t.Errorf("a client was told %d things by %d programs", got, len(p.apps))
		}
	}
}

// timersRig is a fleet with programs whose timers fire when a test says so, by fire, which returns the marks of those that did. set sets one of a room with a mark.
func timersRig(t *testing.T) (r *rig, p *programs, set func(room, mark string) error, fire func() []string) {
	timers := &handTimers{set: make(map[int]func())}
	r, p = programFleetWith(t, shape{loops: 1, fleet: "gncc"}, func(cfg *Config) { cfg.After = timers.after })
	x := r.fleet
	a := p.apps[x.nodes[1].name]
	var fired []string // on the loops, which the test turns
	set = func(room, mark string) (err error) {
		done := make(chan error, 1)
		go func() {
			_, err := a.Room(room).Wait(t.Context()).AfterFunc(300*time.Millisecond, func() {
				fired = append(fired, mark)
				_ = a.Room(room).Push("onTimer", nil)
			})
			done <- err
		}()
		r.until(func() bool {
			x.pass(20) // a node that was started again turns only when time passes
			select {
			case err = <-done:
				return true
			default:
				return false
			}
		})
		return err
	}
	return r, p, set, func() []string {
		t.Helper()
		fired = nil
		timers.fire()
		r.until(func() bool { // nobody asks any more what is to become of one
			x.pass(20)
			stacks := make([]byte, 1<<20)
			return !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("OnRoom"))
		})
		r.net.Settle()
		return fired
	}
}

// A timer of a room fires wherever the room is, also when its owner has died meanwhile, and not in a later room of the name.
func TestFleetProgramTimers(t *testing.T) {
	r, p, set, fire := timersRig(t)
	x := r.fleet
	ann := r.login(atConnector, true)
	ann.enter("ann", "lobby")
	if err := set("lobby", "first"); err != nil {
		t.Fatal(err)
	}
	if err := set("nowhere", "never"); !errors.Is(err, app.ErrAbsent) {
		t.Errorf("in an empty room: %v", err)
	}
	for _, n := range x.nodes[2:] { // one of them decides for the room
		if n.node.loops[0].worker.Owns(channel.Partition("lobby")) {
			x.kill(n)
			break
		}
	}
	if got := fire(); !slices.Equal(got, []string{"first"}) {
		t.Errorf("fired: %q", got)
	}
	r.until(func() bool { x.pass(20); return slices.Contains(pushesOf(ann), "onTimer") })
	if err := set("lobby", "of a room that has ended"); err != nil {
		t.Fatal(err)
	}
	r.changed(nil, func() error { return p.session("ann").Leave(t.Context(), "lobby") })
	ann.enter("ann", "lobby")
	if err := set("lobby", "second"); err != nil {
		t.Fatal(err)
	}
	if got := fire(); !slices.Equal(got, []string{"second"}) {
		t.Errorf("fired: %q", got)
	}
}

// When the state of a room was lost with all that knew it, its timers are, too: they do not fire in the room that comes to be in its place.
func TestFleetProgramTimersOfALostRoom(t *testing.T) {
	r, _, set, fire := timersRig(t)
	x := r.fleet
	r.login(atConnector, true).enter("ann", "lobby")
	if err := set("lobby", "of a room that was lost"); err != nil {
		t.Fatal(err)
	}
	x.kill(x.nodes[2])
	x.kill(x.nodes[3])
	x.pass(5000)
	x.reboot(x.nodes[2])
	x.reboot(x.nodes[3])
	x.calm()
	ben := r.login(atConnector, true)
	ben.request(routeEnter, enterBody("ben", "lobby"))
	r.until(func() bool { x.pass(20); ben.pump(); return len(ben.events) > 0 })
	if got := strings.Join(ben.take(), "\n"); !strings.Contains(got, `"users":["ben"]`) {
		t.Fatal(got)
	}
	if err := set("lobby", "of the new one"); err != nil {
		t.Fatal(err)
	}
	if got := fire(); !slices.Equal(got, []string{"of the new one"}) {
		t.Errorf("fired: %q", got)
	}
}
