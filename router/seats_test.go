package router

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/limit"
)

// seated are the calls of one kind that somebody waits for, and the goroutines.
func (r *rig) seated(kind limit.Kind) string {
	waiting, running := r.node.seats[kind].figures()
	return fmt.Sprint(waiting, " of ", running)
}

// goroutines is how many run functions of the App.
func (r *rig) goroutines() (n int) {
	for kind := range r.node.seats {
		_, running := r.node.seats[kind].figures()
		n += running
	}
	return n
}

const routeStubborn = "area.areaHandler.stubborn"

// stubborn is an App with a handler that looks at nothing until it is freed, and filters that let all through.
func stubborn(most int) (a *app.App, free chan struct{}) {
	a, free = app.New(), make(chan struct{})
	a.MaxRunning, a.Timeout = most, 5*time.Second
	a.Handle(routeStubborn, func(*app.Call) (any, error) { <-free; return nil, nil })
	a.Before(routeEnter, func(*app.Call) error { return nil })
	a.Before(routeSend, func(*app.Call) error { return nil })
	return a, free
}

// calls has n clients call the stubborn handler.
func (r *rig) calls(n int) (clients []*client) {
	for range n {
		c := r.login(atConnector, false)
		c.request(routeStubborn, `{}`)
		r.net.Settle()
		clients = append(clients, c)
	}
	return clients
}

// Calls beyond MaxRunning are refused at once. One whose client hangs up, or whose time is over, gives its seat back although its
// goroutine runs on; there are at most as many such goroutines again.
func TestSeatsAreGivenBack(t *testing.T) {
	for name, giveUp := range map[string]func(r *rig, c []*client){
		"hang up": func(r *rig, clients []*client) {
			for _, c := range clients {
				c.sock.End()
			}
			r.net.Settle()
		},
		"timeout": func(r *rig, clients []*client) {
			r.net.Seconds(7)
			for _, c := range clients {
				c.want(`answer 1 ` + refused)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, free := stubborn(2)
			r := appRig(t, shape{loops: 1}, a)
			expect := func(want string) {
				t.Helper()
				if got := r.seated(kindHandlers); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			}
			first := r.calls(3)
			first[2].want(`answer 1 ` + refused)
			expect("2 of 2")
			giveUp(r, first[:2])
			expect("0 of 2")
			second := r.calls(2)
			expect("2 of 4")
			giveUp(r, second)
			expect("0 of 4")
			r.calls(1)[0].want(`answer 1 ` + refused)
			close(free)
			r.until(func() bool { return r.goroutines() == 0 })
			expect("0 of 0")
			r.calls(1)[0].wantTold(`answer 1 {}`)
		})
	}
}

// One address has a share of the seats, which it does not exceed by hanging up.
func TestSeatsOfAnAddress(t *testing.T) {
	for _, hangUp := range []bool{false, true} {
		a, free := stubborn(8)
		r := newRig(t, shape{loops: 1}, func(c *Config) { c.App, c.Access.PerAddress.Handlers = a, 3 })
		r.peer = netip.MustParseAddr("192.0.2.1")
		greedy := r.calls(3)
		if hangUp {
			for _, c := range greedy {
				c.sock.End()
			}
		}
		r.calls(1)[0].want(`answer 1 ` + refused)
		if got := r.node.access.refusedBy()["addr_handlers"]; got != 1 {
			t.Errorf("counted %d", got)
		}
		r.peer = netip.MustParseAddr("192.0.2.2")
		others := r.calls(3)
		close(free)
		for _, c := range others {
			c.wantTold(`answer 1 {}`)
		}
		r.until(func() bool { return r.goroutines() == 0 })
		r.peer = netip.MustParseAddr("192.0.2.1")
		r.calls(1)[0].wantTold(`answer 1 {}`)
	}
}

// Handlers that take long keep nobody from chatting where the chat's routes have filters.
func TestHandlersLeaveFiltersTheirSeats(t *testing.T) {
	a, free := stubborn(1)
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.App, c.Access.PerAddress.Handlers = a, 1 })
	r.calls(1)
	c := r.login(atConnector, false)
	c.request(routeStubborn, `{}`)
	c.request(routeEnter, enterBody("a", "r"))
	c.request(routeSend, sendBody("x", "*"))
	c.wantTold(`answer 1 `+refused, `answer 2 {"users":["a"]}`, `push 0 onChat {"msg":"x","from":"a","target":"*"}`, `answer 3 {}`)
	close(free)
	r.until(func() bool { return r.goroutines() == 0 })
}
