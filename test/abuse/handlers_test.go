//go:build linux

package abuse

import (
	"fmt"
	"testing"
	"time"
)

// abandoners connect, call something that takes long and hang up, n of them from each of so many addresses. It returns when all have
// called, or been refused.
func (a *arena) abandoners(addresses, n int, call []byte) error {
	hello := append(append(append([]byte(nil), handshake...), handshakeAck...), call...)
	before := a.metrics()["pomelod_requests_total"]
	for i := range addresses {
		for j := range n {
			if j%8 == 0 {
				time.Sleep(time.Millisecond) // many connects at once are another attack
			}
			p, err := dial(fmt.Sprint(attackers, i+1), a.addr)
			if err != nil {
				return err
			}
			if err := p.raw(hello); err != nil {
				return err
			}
			go func() { // what it does not wait for may be lost: it goes when the server has heard of it
				time.Sleep(300 * time.Millisecond)
				p.Close()
			}()
		}
	}
	return a.await(atLeast(before+float64(addresses*n)), "pomelod_requests_total")
}

// honest calls a handler from an address of its own for a while; everything is answered.
func (a *arena) honest(lasts time.Duration) error {
	p, err := dial(fmt.Sprint(attackers, 200), a.addr)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.login(); err != nil {
		return err
	}
	for end := time.Now().Add(lasts); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		got, err := p.ask("test.testHandler.quick", `{}`)
		if err != nil || got != `{}` {
			return fmt.Errorf("an honest call: %s %v", got, err)
		}
	}
	return nil
}

// Who calls handlers that take long, from one connection after the other, and hangs up, keeps neither others from their answers nor
// anybody from chatting.
func TestAbandonedHandlers(t *testing.T) {
	call := message(1, "test.testHandler.sleep", `{}`)
	arrived := func(n float64) func(d delta) error {
		if raceEnabled {
			n /= 10
		}
		return func(d delta) error { return d.atLeast("pomelod_requests_total", n) }
	}
	for _, sc := range []scenario{{
		name: "abandoned handlers of one address", // which are more than all goroutines there may be
		attack: func(a *arena) error {
			if err := a.abandoners(1, a.n(3000), call); err != nil {
				a.t.Fatal(err)
			}
			return a.honest(2 * time.Second)
		},
		landed: arrived(3000),
		held: func(d delta) error {
			if raceEnabled {
				return nil // so few are within the share
			}
			return d.atLeast(`pomelod_refused_total{reason="addr_handlers"}`, 2000)
		},
		without: weakness{flags: []string{"-addr-handlers", "0"}, fails: `an honest call: {"code":500}`},
	}, {
		name: "abandoned handlers of many addresses", // as many as may wait, and one address more
		attack: func(a *arena) error {
			if err := a.abandoners(5, a.n(256), call); err != nil {
				a.t.Fatal(err)
			}
			time.Sleep(time.Second)
			return a.honest(time.Second)
		},
		landed:  arrived(5 * 256),
		without: weakness{edits: []edit{{"app/hosted.go", "cancel(); giveUp()", "cancel()"}}, fails: `an honest call: {"code":500}`},
	}, {
		name: "handlers at work beside filters", // nobody hangs up; chat goes on, by other seats
		attack: func(a *arena) error {
			var all []*peer
			for i := range 5 {
				for range a.n(256) {
					p, err := a.login(i)
					if err != nil {
						a.t.Fatal(err)
					}
					all = append(all, p)
				}
			}
			for _, p := range all {
				if err := p.send(call); err != nil {
					return err
				}
			}
			time.Sleep(2 * time.Second)
			return nil
		},
		landed:  arrived(5 * 256),
		without: weakness{edits: []edit{{"router/handle.go", "kind = kindFilters", "kind = kindHandlers"}}, fails: "was refused"},
	}, {
		name: "abandoned enters of one address", // whose filter takes long
		attack: func(a *arena) error {
			enter := message(1, routeEnter, `{"username":"sleeper","rid":"r"}`)
			if err := a.abandoners(1, a.n(3000), enter); err != nil {
				a.t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			return nil
		},
		landed:  arrived(3000),
		without: weakness{flags: []string{"-addr-handlers", "0"}, fails: "was refused"},
	}} {
		sc.program = "./test/abuse/slowapp"
		sc.run(t)
	}
}
