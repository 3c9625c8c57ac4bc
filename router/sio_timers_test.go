package router

import (
	"strings"
	"testing"

	"github.com/pomelod/pomelod/app"
)

// after lets seconds pass until done, and fails unless that takes as many as wanted, or one more: ticks are whole seconds.
func (r *rig) after(seconds int, what string, done func() bool) {
	r.t.Helper()
	for i := range seconds + 2 {
		if done() {
			if i < seconds {
				r.t.Fatalf("%s after %d seconds, want %d", what, i, seconds)
			}
			return
		}
		r.net.Seconds(1)
	}
	r.t.Fatalf("%s not within %d seconds", what, seconds+1)
}

// told tells whether the client has been told a packet since the last time.
func (c *sioClient) told(packet string) func() bool {
	return func() bool {
		c.pump()
		for _, p := range c.packets {
			if p == packet {
				c.packets = nil
				return true
			}
		}
		return false
	}
}

// over tells whether the client's session has ended.
func (c *sioClient) over() bool { return c.session() == nil }

// witnessed logs in a member of the room r whose own life does not depend on the time.
func (r *rig) witnessed() *client {
	w := r.login(atWitness, true)
	w.enter("witness", "r")
	return w
}

// atWitness is a listener without heartbeats, whose clients are not ended for being silent.
const atWitness = 2

func timeless(c *Config) {
	c.Limits.IdleSeconds = 1 << 20
	c.Profiles = append(c.Profiles, &Profile{Name: "witness", Type: Connector})
}

func forTimers(t *testing.T, some []flavour, f func(t *testing.T, r *rig, c *sioClient, w *client)) {
	for _, kind := range some {
		t.Run(kind.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 2}, timeless)
			w := r.witnessed()
			c := r.sioLogin(kind)
			c.enter("c", "r")
			c.run()
			w.take()
			f(t, r, c, w)
		})
	}
}

const left = `push 0 onLeave {"route":"onLeave","user":"c"}`

// A 0.9 client over WebSocket is asked 25 seconds after connecting and 25 after each answer; one of Engine.IO 4, whatever its
// transport, the same. Who does not answer in 60 and 20 seconds is ended.
func TestWhoIsPinged(t *testing.T) {
	forTimers(t, []flavour{flavours[0], flavours[7], flavours[8]}, func(t *testing.T, r *rig, c *sioClient, w *client) {
		ping, pong, patience := "2::", "2::", 60
		if c.kind.version == 4 {
			ping, pong, patience = "2", "3", 20
		}
		r.after(25, "the first ping", c.told(ping))
		for range 3 {
			c.run()
			r.net.Seconds(patience - 1)
			c.send(pong)
			c.run()
			r.after(25, "the next ping", c.told(ping))
		}
		r.after(patience, "the end", c.over)
		w.want(left)
		if n := r.closedFor(reasonSilent); n != 1 {
			t.Errorf("%d counted", n)
		}
	})
}

// A client may count our pings alone: it is asked in time however much it says itself, and while it waits for an answer.
// (engine.io-client 4 to 6.4 gives up 45 seconds after the last ping.)
func TestWhoTalksIsPingedAllTheSame(t *testing.T) {
	forTimers(t, []flavour{flavours[0], flavours[7], flavours[8]}, func(t *testing.T, r *rig, c *sioClient, _ *client) {
		ping, pong := "2::", "2::"
		if c.kind.version == 4 {
			ping, pong = "2", "3"
		}
		last := 0
		for second := range 200 {
			if got := c.ask(routeSend, sendBody("x", "nobody")); got != refused {
				t.Fatal(got)
			}
			if c.told(ping)() {
				last = second
				c.send(pong)
			}
			if second-last > 27 {
				t.Fatalf("no ping for %d seconds", second-last)
			}
			c.run()
			r.net.Seconds(1)
		}
		if last < 150 {
			t.Errorf("the last ping came at %d", last)
		}
	})
}

// The same while a handler of the App's takes its time.
func TestWhoWaitsIsPingedAllTheSame(t *testing.T) {
	for _, kind := range []flavour{flavours[0], flavours[7], flavours[8]} {
		t.Run(kind.name, func(t *testing.T) {
			a := app.New()
			a.Timeout = 100e9
			gate := make(chan struct{})
			a.Handle("connector.test.slow", func(*app.Call) (any, error) { <-gate; return nil, nil })
			defer close(gate)
			r := newRig(t, shape{loops: 1}, func(c *Config) { c.App = a })
			c := r.sioLogin(kind)
			ping, pong := "2::", "2::"
			if kind.version == 4 {
				ping, pong = "2", "3"
			}
			c.request("connector.test.slow", "{}")
			for range 3 {
				c.run()
				r.after(25, "a ping", c.told(ping))
				c.send(pong)
				c.run()
			}
			if c.over() {
				t.Error("it was ended")
			}
		})
	}
}

// A client of Engine.IO 3 pings itself: silent for 85 seconds, it is ended. That a GET is held is no life.
func TestWhoPings(t *testing.T) {
	forTimers(t, []flavour{flavours[3], flavours[4], flavours[5], flavours[6]}, func(t *testing.T, r *rig, c *sioClient, w *client) {
		for range 3 {
			r.net.Seconds(84)
			c.send("2")
			c.run()
			c.wantPackets("3")
		}
		for range 84 {
			r.net.Seconds(1)
			c.run()
			if !c.kind.ws {
				c.get = nil
				c.poll()
				c.run()
			}
		}
		if c.over() {
			t.Fatal("too early")
		}
		r.after(1, "the end", c.over)
		w.want(left)
	})
}

// A GET of 0.9 is held for 20 seconds. Without one for 60 seconds the session ends, and not before, whatever becomes of the
// connections.
func TestPollsOf09(t *testing.T) {
	forTimers(t, flavours[1:3], func(t *testing.T, r *rig, c *sioClient, w *client) {
		for range 5 {
			c.run()
			if !c.polling {
				t.Fatal("no GET is held")
			}
			r.after(20, "the end of the poll", c.told("8::"))
		}
		c.poll()
		r.net.Settle()
		c.get.sock.End() // while it is held
		r.net.Settle()
		c.polling = false
		r.net.Seconds(59)
		w.want()
		c.run()
		if c.lost() {
			t.Fatalf("told %q", c.packets)
		}
		r.net.Seconds(19)
		c.get.sock.End()
		r.net.Settle()
		r.after(60, "the end", c.over)
		w.want(left)
		c.get, c.packets = nil, nil
		c.poll()
		c.polling = true
		r.net.Settle()
		c.wantPackets("7:::1+0")
	})
}

// With Engine.IO the session ends at once when a connection dies whose GET is held. Another one's end is nothing to it.
func TestDyingGETEndsTheSession(t *testing.T) {
	forTimers(t, []flavour{flavours[4], flavours[5], flavours[6], flavours[8]}, func(t *testing.T, r *rig, c *sioClient, w *client) {
		older := c.get
		c.get = nil
		c.poll()
		r.net.Settle()
		c.pump()
		older.sock.End()
		c.post.sock.End()
		r.net.Settle()
		w.want()
		if c.over() {
			t.Fatal("ended by a connection that does nothing for it")
		}
		c.get.sock.End()
		r.net.Settle()
		w.want(left)
		if !c.over() {
			t.Error("it lives on")
		}
		if n := r.closedFor(0); n < 1 {
			t.Error("not counted as the peer's")
		}
		r.endAll()
		w.sock.End()
	})
}

// What a client has time for before it works: 30 seconds from a handshake of 0.9 to its connection, 45 from one of
// Engine.IO 4 to its connect. Nothing in between gives it more.
func TestTimeToConnect(t *testing.T) {
	for _, kind := range []flavour{flavours[0], flavours[1], flavours[7], flavours[8]} {
		t.Run(kind.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 2}, nil)
			c := r.sio(kind)
			seconds := 45
			if kind.version == 9 {
				c.handshake()
				seconds = 30
			} else {
				c.begin()
			}
			r.net.Seconds(seconds - 3)
			for _, p := range []string{"3", "40/x,", "2"} {
				if kind.version == 4 {
					c.send(p)
					r.net.Settle()
					c.pump()
				} else {
					r.web(atConnector).ask(post(c.target("polling"), "3:::x"))
				}
			}
			r.after(3, "the end", c.over)
			if n := r.closedFor(reasonHandshakeTimeout); n != 1 {
				t.Errorf("%d counted", n)
			}
		})
	}
}

// A client that has left the namespace has 20 seconds to come back or to close; the others see it leave at once.
func TestDisconnectOfTheNamespace(t *testing.T) {
	forTimers(t, []flavour{flavours[3], flavours[4], flavours[7], flavours[8]}, func(t *testing.T, r *rig, c *sioClient, w *client) {
		c.send("41")
		c.run()
		w.want(left)
		c.send(c.message(90, routeSend, sendBody("x", "*")))
		if c.kind.version == 3 {
			c.want()
			r.after(20, "the end", c.over)
			w.want()
			return
		}
		r.net.Settle()
		if !c.over() {
			t.Fatal("a message before the connect ends the session")
		}
		again := r.sioLogin(c.kind)
		again.send("41")
		again.run()
		r.net.Seconds(19)
		again.send("40")
		again.run()
		again.pump()
		if n := len(again.packets); n == 0 || !strings.HasPrefix(again.packets[n-1], `40{"sid":"`) {
			t.Fatalf("connected again: %q", again.packets)
		}
		again.packets = nil
		if got := again.enter("c", "r"); got != `{"users":["witness","c"]}` {
			t.Error(got)
		}
		w.want(`push 0 onAdd {"route":"onAdd","user":"c"}`)
		again.send("41")
		again.run()
		w.want(left)
		r.after(20, "the end", again.over)
	})
}
