package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
)

// Each limit of a policy holds in the rooms it is for, in those only, and from when it has changed.
func TestPolicies(t *testing.T) {
	for _, sh := range slices.Concat(shapes, fleets) {
		t.Run(sh.String(), func(t *testing.T) {
			var mu sync.Mutex // loops of fleets may run on goroutines of their own
			policies := map[string]Policy{"small": {Members: 2}, "slow": {Slow: 2 * time.Second}, "locked": {Locked: true}, "held": {Hold: 20 * time.Millisecond}}
			r := newRig(t, sh, func(c *Config) {
				c.Policy = func(room string) Policy {
					mu.Lock()
					defer mu.Unlock()
					return policies[room]
				}
			})
			set := func(room string, p Policy) {
				mu.Lock()
				policies[room] = p
				mu.Unlock()
				for _, n := range r.nodes() {
					n.SetPolicies()
				}
			}
			var all []*client
			for range 3 {
				all = append(all, r.login(atConnector, false))
			}
			enters := func(i int, room string) string {
				t.Helper()
				got := all[i].enter(fmt.Sprint("n", i), room)
				if strings.HasPrefix(got, `{"users"`) {
					return "in"
				}
				return got
			}
			want := func(what, got, want string) {
				t.Helper()
				if got != want {
					t.Errorf("%s: %s, want %s", what, got, want)
				}
			}
			want("locked", enters(0, "locked"), `{"code":500,"error":true,"reason":"room_locked"}`)
			for i := range all {
				want("small", enters(i, "small"), []string{"in", "in", `{"code":500,"error":true,"reason":"room_members"}`}[i])
			}
			set("small", Policy{})
			want("small, not any more", enters(2, "small"), "in")
			set("locked", Policy{})
			want("not locked any more", enters(0, "locked"), "in")

			want("slow", enters(1, "slow"), "in")
			want("slow", all[1].ask(routeSend, sendBody("1", "*")), `{"code":500,"reason":"slow_mode","wait":2}`)
			set("slow", Policy{}) // while somebody is in
			r.net.Settle()
			want("not slow any more", all[1].ask(routeSend, sendBody("1", "*")), "{}")
			set("slow", Policy{Slow: 2 * time.Second})
			r.net.Settle()
			all[1].ask(routeSend, sendBody("2", "*")) // whether it came or spoke a moment ago may be forgotten
			want("slow again", all[1].ask(routeSend, sendBody("3", "*")), `{"code":500,"reason":"slow_mode","wait":2}`)

			for i := range all {
				want("held", enters(i, "held"), "in")
			}
			r.net.Wait(20 * time.Millisecond) // who entered is told
			r.net.Wait(20 * time.Millisecond)
			for _, c := range all {
				c.take()
			}
			told := func(c *client) (n int) {
				for _, e := range c.take() {
					if strings.Contains(e, "onChat") {
						n++
					}
				}
				return n
			}
			say := func(n int) {
				t.Helper()
				for range n {
					want("send", all[0].ask(routeSend, sendBody("x", "*")), "{}")
				}
			}
			say(1)
			want("the first message", fmt.Sprint(told(all[0]), told(all[1]), told(all[2])), "1 1 1")
			writes := all[1].sock.Writes
			say(3) // who speaks is not held: it is answered, and told what came before
			want("the next ones, at once", fmt.Sprint(told(all[0]), told(all[1]), told(all[2])), "3 0 0")
			r.net.Wait(20 * time.Millisecond)
			want("the next ones, later", fmt.Sprint(told(all[0]), told(all[1]), told(all[2])), "0 3 3")
			if n := all[1].sock.Writes - writes; n != 1 {
				t.Errorf("three messages took %d writes", n)
			}
			set("held", Policy{})
			r.net.Seconds(1)
			for _, c := range all {
				c.take()
			}
			say(3)
			want("not held any more", fmt.Sprint(told(all[0]), told(all[1]), told(all[2])), "3 3 3")
		})
	}
}

// A room that nobody but guests is in is held as its policy says by then, when somebody enters it.
func TestPolicyOfARoomOfGuests(t *testing.T) {
	hold := time.Duration(0)
	r, of, _ := furtherRig(t, shape{loops: 1}, func(cfg *Config) {
		cfg.Policy = func(room string) Policy {
			if room == "two" {
				return Policy{Hold: hold}
			}
			return Policy{}
		}
	})
	a, b, c := r.login(atConnector, true), r.login(atConnector, true), r.login(atConnector, true)
	a.enter("a", "one")
	r.changed(nil, func() error { return of["a"].Join(t.Context(), "two") })
	hold = time.Second
	r.node.SetPolicies()
	r.net.Seconds(1)
	b.enter("b", "two")
	c.enter("c", "two")
	c.take()
	for range 3 {
		b.ask(routeSend, sendBody("x", "*"))
	}
	at := len(pushesOf(c))
	r.net.Wait(time.Second)
	r.net.Wait(time.Second)
	if later := len(pushesOf(c)); at >= 3 || at+later != 3 {
		t.Errorf("told %d at once, and %d later", at, later)
	}
}

// Who is cut off while its room is held lacks all that was said since the last write, however many messages that are, and is told them when it is back: also
// where somebody else on the loop is slow, or in the room itself.
func TestCutWhileTheRoomIsHeld(t *testing.T) {
	for _, slow := range []string{"", "elsewhere", "r"} {
		t.Run("slow="+slow, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, func(cfg *Config) {
				keepPlaces(cfg)
				cfg.Policy = func(room string) Policy {
					if room == "r" {
						return Policy{Hold: time.Second}
					}
					return Policy{}
				}
			})
			const said, secret = maxMarks + 22, "by this bob is known again"
			ann, bob := r.login(atConnector, false), r.login(atConnector, true)
			ann.enter("ann", "r")
			bob.ask(routeEnter, secretBody("bob", "r", secret))
			if slow != "" {
				cid := r.login(atConnector, true)
				cid.enter("cid", slow)
				r.net.Wait(time.Second)
				cid.sock.Room = 0
				cid.request(routeSend, sendBody("to oneself", "cid"))
			}
			say := func(n int) {
				for i := range n {
					ann.notify(routeSend, sendBody(fmt.Sprint(i), "*"))
					r.net.Settle()
				}
			}
			told := func(c *client) (n int) {
				for _, line := range c.take() {
					if strings.Contains(line, "onChat") {
						n++
					}
				}
				return n
			}
			for range 3 { // who entered is told, and of what was said some is known that all have had
				r.net.Wait(time.Second)
				say(maxMarks / 3)
			}
			r.net.Wait(time.Second)
			r.net.Wait(time.Second)
			told(bob)
			if slow != "" && r.node.loops[0].np.Waiting() == 0 {
				t.Fatal("nobody is slow")
			}
			say(said)
			before := told(bob)
			bob.reset()
			r.net.Settle()
			again := r.login(atConnector, true)
			again.ask(routeEnter, secretBody("bob", "r", secret))
			if after := told(again); before > 1 || before+after != said {
				t.Errorf("of %d messages bob was told %d before it was cut off, and %d when it was back", said, before, after)
			}
		})
	}
}

// What the server announces is not held, and what it pushes is.
func TestAnnouncementsAreNotHeld(t *testing.T) {
	for _, sh := range shapes {
		t.Run(sh.String(), func(t *testing.T) {
			a := app.New()
			r := newRig(t, sh, func(c *Config) {
				c.App, c.Policy = a, func(string) Policy { return Policy{Hold: 500 * time.Millisecond} }
			})
			alice, bob := r.login(atConnector, false), r.login(atConnector, true)
			alice.enter("alice", "r")
			bob.enter("bob", "r")
			rest := func() {
				for range 3 {
					r.net.Wait(500 * time.Millisecond)
				}
				bob.take()
			}
			told := func(what, want string) {
				t.Helper()
				r.net.Settle()
				if got := fmt.Sprint(bob.take()); got != want {
					t.Errorf("%s: bob was told %s, want %s", what, got, want)
				}
			}
			push := func() error { return a.Room("r").Push("onNews", map[string]int{"n": 1}) }
			rest()
			if err := errors.Join(push(), push()); err != nil { // the first one after a while is not held
				t.Fatal(err)
			}
			r.net.Settle()
			bob.take()
			if err := push(); err != nil {
				t.Fatal(err)
			}
			told("a push", "[]")
			if err := a.Room("r").Say("server", "now"); err != nil {
				t.Fatal(err)
			}
			r.net.Settle()
			if got := bob.take(); len(got) == 0 || !strings.Contains(got[len(got)-1], `"msg":"now"`) {
				t.Errorf("an announcement: bob was told %q", got)
			}
			if err := a.Room("r").Say("server", "again"); err != nil {
				t.Fatal(err)
			}
			told("another one at once", "[]")
			rest()
		})
	}
}

// A policy has a room tell all its members who comes and goes, or not, and be locked for clients.
func TestListAndEnterOfARoom(t *testing.T) {
	for _, sh := range slices.Concat(shapes, fleets) {
		t.Run(sh.String(), func(t *testing.T) {
			r := newRig(t, sh, func(c *Config) {
				keepPlaces(c)
				c.Limits.Rooms.List = 2
				c.Policy = func(room string) Policy {
					switch room {
					case "open":
						return Policy{}
					case "duel":
						return Policy{List: 2, Program: true}
					}
					return Policy{List: 2}
				}
			})
			var all []*client
			for range 4 {
				all = append(all, r.login(atConnector, false))
			}
			news := func(room, route string) (n int) {
				t.Helper()
				for i, c := range all {
					if got := c.enter(fmt.Sprint("n", i), room); !strings.HasPrefix(got, `{"users"`) {
						t.Fatalf("%s: %s", room, got)
					}
				}
				r.net.Settle()
				for _, line := range all[0].take() {
					if strings.Contains(line, route) {
						n++
					}
				}
				return n
			}
			if n := news("plain", "onAdd"); n != 1 {
				t.Errorf("in a room of many who was there first was told of %d", n)
			}
			if n := news("open", "onAdd"); n != 3 {
				t.Errorf("in a room without a list who was there first was told of %d", n)
			}
			if got := all[0].enter("n0", "duel"); got != `{"code":500,"error":true,"reason":"room_locked"}` {
				t.Errorf("a room of the program's: %s", got)
			}
		})
	}
}

// In a room without grace a cut is a leave, in others it is not.
func TestNoGraceInARoom(t *testing.T) {
	for _, sh := range slices.Concat(shapes, fleets) {
		t.Run(sh.String(), func(t *testing.T) {
			r := newRig(t, sh, func(c *Config) {
				keepPlaces(c)
				c.Policy = func(room string) Policy { return Policy{NoGrace: room == "duel"} }
			})
			for _, room := range []string{"duel", "other"} {
				ann, ben := r.login(atConnector, false), r.login(atConnector, false)
				ann.enter("ann", room)
				ben.ask(routeEnter, secretBody("ben", room, "a secret of sixteen bytes"))
				r.net.Settle()
				ann.take()
				ben.sock.Err = syscall.ECONNRESET
				ben.sock.Ready()
				r.net.Settle()
				if got := fmt.Sprint(ann.take()); strings.Contains(got, "onLeave") != (room == "duel") {
					t.Errorf("%s: ann was told %s", room, got)
				}
			}
		})
	}
}

// A room that is a program's takes in whom the program has in, and nobody who asks.
func TestRoomOfAProgram(t *testing.T) {
	for _, sh := range shapes {
		t.Run(sh.String(), func(t *testing.T) {
			var sessions []*app.Session // by the loops, which the test turns
			a := app.New()
			a.OnOpen(func(s *app.Session) { sessions = append(sessions, s) })
			r := newRig(t, sh, func(c *Config) {
				c.App, c.Policy = a, func(room string) Policy { return Policy{Program: room == "duel", Locked: room == "locked"} }
			})
			c := r.login(atConnector, false)
			const refused = `{"code":500,"error":true,"reason":"room_locked"}`
			if got := c.enter("ann", "duel"); got != refused {
				t.Errorf("the client: %s", got)
			}
			enter := func(room string) error {
				t.Helper()
				err := errors.New("it was not called")
				if e := sessions[0].EnterThen(app.Place{Room: room, User: "ann"}, func(e error) { err = e }); e != nil {
					t.Fatal(e)
				}
				r.net.Settle()
				return err
			}
			if err := enter("duel"); err != nil || sessions[0].Room() != "duel" {
				t.Errorf("the program: %v, in %q", err, sessions[0].Room())
			}
			if err := enter("locked"); err == nil || sessions[0].Room() != "duel" {
				t.Errorf("a room that an operator has locked: %v, in %q", err, sessions[0].Room())
			}
		})
	}
}
