package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
)

// What is volatile reaches the members of a room wherever they and its owner are, guests and extended ones too. Of what is pushed at once they are told the latest of each route, in
// no case an earlier one behind a later one. The room does not keep it, and its stream goes on.
func TestVolatilePushes(t *testing.T) {
	for _, sh := range awayShapes {
		t.Run(sh.String(), func(t *testing.T) {
			r, e := awayRig(t, sh, nil)
			room := e.any.Room("r").Wait(t.Context())
			r.changed(app.ErrAbsent, func() error { return room.PushVolatile("onAt", nil) })
			ann, bob, x := r.login(atConnector, false), r.login(atConnector, true), r.extendedLogin(true)
			bob.ask(routeEnter, `{"username":"bob","rid":"elsewhere"}`)
			ann.enter("ann", "r")
			x.enter("x", "r")
			r.changed(nil, func() error { return e.last.Join(t.Context(), "r") }) // a guest
			all := []*client{ann, bob, x}
			for _, c := range all {
				c.take()
			}
			const n = 40
			for i := range n { // nobody turns a loop meanwhile
				for _, route := range []string{"onAt", "onSees"} {
					if err := e.any.Room("r").PushVolatile(route, map[string]int{"n": i + 1}); err != nil {
						t.Fatal(err)
					}
				}
			}
			r.net.Settle()
			r.changed(nil, func() error { return room.Push("onEnd", nil) })
			for i, c := range all {
				last := map[string]int{}
				told := 0
				for _, line := range c.take() {
					var route string
					var at int
					if _, err := fmt.Sscanf(line, `push 0 %s {"n":%d`, &route, &at); err != nil {
						continue
					}
					if told++; at <= last[route] {
						t.Errorf("client %d: %s behind %d", i, line, last[route])
					}
					last[route] = at
				}
				if last["onAt"] != n || last["onSees"] != n {
					t.Errorf("client %d was told %v last", i, last)
				}
				if sh.fleet == "" && told > 8 {
					t.Errorf("client %d was told %d times", i, told)
				}
			}
			if got := x.ask(routeHistory, `{}`); strings.Contains(got, "onAt") {
				t.Errorf("kept: %s", got)
			}
			if got := ann.ask(routeSend, sendBody("x", "*")); got != "{}" {
				t.Error(got)
			}
			for _, l := range r.loops() {
				if c := &l.counters; c.gaps+c.panics > 0 {
					t.Errorf("%d gaps, %d panics", c.gaps, c.panics)
				}
			}
		})
	}
}

// A member that takes nothing is told nothing volatile, and all else; so is a guest. Who returns is not told what was volatile.
func TestVolatileSparesTheSlow(t *testing.T) {
	r, e := awayRig(t, shape{loops: 2}, nil)
	ann, bob, slow := r.login(atConnector, true), r.login(atConnector, true), r.login(atConnector, true)
	ann.enter("ann", "r")
	slow.enter("slow", "r")
	bob.ask(routeEnter, enterAsBob)
	r.changed(nil, func() error { return e.last.Enter(t.Context(), app.Place{Room: "elsewhere"}) })
	r.changed(nil, func() error { return e.last.Join(t.Context(), "r") }) // a guest
	for _, c := range []*client{ann, bob, slow} {
		c.take()
	}
	slow.sock.Room, bob.sock.Room = 0, 0
	push := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		r.net.Settle()
	}
	room := e.any.Room("r")
	push(room.Push("onFirst", nil))
	push(room.PushVolatile("onAt", nil))
	push(room.Push("onLast", nil))
	ann.want("push 0 onFirst {}", "push 0 onAt {}", "push 0 onLast {}")
	withheld := uint64(0)
	for _, l := range r.loops() {
		withheld += l.np.Stats().Withheld
	}
	if withheld != 2 {
		t.Errorf("%d were withheld", withheld)
	}
	for _, c := range []*client{slow, bob} {
		c.sock.Room = -1
		c.sock.Ready()
		r.net.Settle()
		c.want("push 0 onFirst {}", "push 0 onLast {}")
	}
	push(room.PushVolatile("onAt", nil))
	slow.want("push 0 onAt {}")
	bob.want("push 0 onAt {}")
}

// Where members have too much to take nothing volatile is added to it.
func TestVolatileIsShed(t *testing.T) {
	r, e := awayRig(t, shape{loops: 1}, func(cfg *Config) { cfg.Limits.LoopBytes = 1 })
	ann := r.login(atConnector, true)
	ann.enter("ann", "r")
	r.node.loops[0].backlog.Store(100)
	var err error
	if err = r.asked(func() error { return e.any.Room("r").Wait(t.Context()).PushVolatile("onAt", nil) }); !errors.Is(err, app.ErrBusy) {
		t.Errorf("got %v", err)
	}
}

// Who is left out of a push and alone in its group there, is told what is volatile and waits.
func TestVolatileOfWhoIsLeftOut(t *testing.T) {
	r, e := awayRig(t, shape{loops: 1}, func(cfg *Config) {
		cfg.Policy = func(string) Policy { return Policy{Hold: 50 * time.Millisecond} }
	})
	ann := r.login(atConnector, true)
	x := r.extendedLogin(true) // of another variant
	ann.enter("ann", "r")
	x.enter("x", "r")
	r.net.Wait(time.Second)
	ann.take()
	x.take()
	room := e.any.Room("r")
	for _, push := range []func() error{
		func() error { return room.Push("onFirst", nil) },
		func() error { return room.PushVolatile("onAt", nil) },
		func() error { return room.PushExcept("ann", "onNews", nil) },
		func() error { return room.Push("onLast", nil) },
	} {
		if err := push(); err != nil {
			t.Fatal(err)
		}
		r.net.Settle()
	}
	r.net.Wait(time.Second)
	ann.want("push 0 onFirst {}", "push 0 onLast {}", "push 0 onAt {}")
	if got := fmt.Sprint(x.take()); !strings.Contains(got, "onNews") || !strings.Contains(got, "onAt") {
		t.Errorf("the other one was told %s", got)
	}
}

// BenchmarkProgramPush is what a push of a program's to a room of a thousand costs, twenty times a second, but for the system calls: by Room.Push and by Room.PushVolatile.
func BenchmarkProgramPush(b *testing.B) {
	for _, volatile := range []bool{false, true} {
		b.Run(fmt.Sprintf("volatile=%v", volatile), func(b *testing.B) {
			a := app.New()
			c := newCrowds(b, 1000, true, func(int) string { return "r" }, func(cfg *Config) { cfg.App = a })
			push, body := a.Room("r").Push, map[string]int{"x": 17, "y": 4}
			if volatile {
				push = a.Room("r").PushVolatile
			}
			c.driver.writes = 0
			b.ReportAllocs()
			for b.Loop() {
				c.r.net.Pass(50 * time.Millisecond)
				if err := push("onAt", body); err != nil {
					b.Fatal(err)
				}
				for c.r.net.TurnLoop(0) {
				}
			}
			b.ReportMetric(float64(c.driver.writes)/float64(b.N), "writes/op")
		})
	}
}
