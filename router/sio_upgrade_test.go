package router

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// changing are the flavours that begin by polling and may change to a WebSocket.
func changing() (list []flavour) {
	for _, f := range pollers() {
		if f.version != 9 {
			list = append(list, f)
		}
	}
	return list
}

// probe opens a WebSocket that may take the client's session over, on the next loop in turn, and says the packets on it.
func (c *sioClient) probe(packets ...string) *web {
	c.r.t.Helper()
	w := c.web()
	if p := w.ask(upgradeTo(c.target("websocket"))); p.status != 101 {
		c.r.t.Fatalf("a probe was answered %v", p)
	}
	for _, p := range packets {
		w.send(textFrame(p))
	}
	c.r.net.Settle()
	return w
}

// changed says that the client travels by w from now on.
func (c *sioClient) changed(w *web) {
	c.ws, c.kind.ws, c.polling = w, true, false
}

// forChanging runs f with a client in room r, whose GET is held, and another member.
func forChanging(t *testing.T, f func(t *testing.T, r *rig, c *sioClient, other *client)) {
	for _, kind := range changing() {
		for _, loops := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s,loops=%d", kind.name, loops), func(t *testing.T) {
				r := newRig(t, shape{loops: loops}, timeless)
				other := r.login(atWitness, true)
				other.enter("other", "r")
				c := r.sioLogin(kind)
				c.enter("c", "r")
				c.run()
				other.take()
				f(t, r, c, other)
				r.endAll()
				r.balanced()
			})
		}
	}
}

// isClosed tells whether the last of what a WebSocket was told is its end.
func isClosed(packets []string) bool {
	return len(packets) > 0 && strings.HasPrefix(packets[len(packets)-1], "close")
}

func said(text string) string {
	return fmt.Sprintf(`push 0 onChat {"msg":"%s","from":"other","target":"*"}`, text)
}

// A client that changes over misses nothing: what comes before the probe, with it, between it and the upgrade, and after.
func TestUpgrade(t *testing.T) {
	forChanging(t, func(t *testing.T, r *rig, c *sioClient, other *client) {
		say := func(text string) { other.ask(routeSend, sendBody(text, "*")) }
		c.want()
		w := c.probe("2probe")
		if got := w.frames(); !slices.Equal(got, []string{"3probe"}) {
			t.Fatalf("the probe was answered %q", got)
		}
		c.wantPackets("6") // its GET has ended
		if c.polling {
			t.Fatal("the GET is still held")
		}
		say("between")
		w.wantIdle()
		w.send(textFrame("5") + textFrame(c.message(77, routeSend, sendBody("at once", "*"))) + textFrame("2")[:3])
		r.net.Settle()
		c.changed(w)
		c.want(said("between"), strings.Replace(said("at once"), "other", "c", 1), "answer 77 {}")
		w.send(textFrame("2")[3:])
		c.wantPackets("3")
		say("after")
		c.want(said("after"))
		if got := c.ask(routeSend, sendBody("x", "nobody")); got != refused {
			t.Error(got)
		}
		upgrades := uint64(0)
		for _, l := range r.node.loops {
			upgrades += l.counters.upgrades
		}
		name := transportNames(r.node.protocols)[c.session().transport]
		if upgrades != 1 || !strings.HasSuffix(name, "websocket") {
			t.Errorf("%d counted, as %s", upgrades, name)
		}
		for _, request := range []string{get(c.target("polling")), post(c.target("polling"), c.payload([]string{"2"}))} {
			if p := r.web(atConnector).ask(request); p.status != 400 || p.body != `{"code":3,"message":"Bad request"}` {
				t.Errorf("polling after the upgrade: %v", p)
			}
		}
		if w := r.web(atConnector); w.ask(upgradeTo(c.target("websocket"))).status != 400 {
			t.Error("a second upgrade was not refused")
		}
		w.sock.End()
		r.net.Settle()
		if got := other.take(); got[len(got)-1] != left {
			t.Errorf("got %q", got)
		}
	})
}

// Until its probe has been answered, a client polls as ever: a proxy that swallows frames makes it no busier. Then each GET
// ends at once, until the change or the end of the probe.
func TestPollingWhileAProbeIsOpen(t *testing.T) {
	forChanging(t, func(t *testing.T, r *rig, c *sioClient, other *client) {
		w := c.probe()
		c.want()
		if !c.polling {
			t.Fatal("the GET is not held")
		}
		other.ask(routeSend, sendBody("meanwhile", "*"))
		c.want(said("meanwhile"))
		if !c.polling {
			t.Fatal("the next GET is not held")
		}
		w.send(textFrame("2probe"))
		r.net.Settle()
		c.wantPackets("6")
		for range 3 {
			c.poll()
			c.wantPackets("6")
		}
		other.ask(routeSend, sendBody("for the GET", "*"))
		c.poll()
		r.net.Settle()
		if got := c.take(); len(got) != 1 || got[0] != said("for the GET") {
			t.Errorf("got %q", got)
		}
		w.sock.End()
		r.net.Settle()
		c.want()
		if !c.polling {
			t.Error("the GET is not held after the probe's end")
		}
	})
}

// A WebSocket that says something else, comes second, or never upgrades costs only itself; polling goes on.
func TestProbesThatFail(t *testing.T) {
	forChanging(t, func(t *testing.T, r *rig, c *sioClient, other *client) {
		alone := func(what string) {
			t.Helper()
			other.ask(routeSend, sendBody(what, "*"))
			c.want(said(what))
			c.packets = nil
			if c.session().x.pull.probe != 0 || c.session().x.pull.probed {
				t.Errorf("%s: the probe is remembered", what)
			}
		}
		for _, packets := range [][]string{
			{"3probe"}, {"2"}, {"6"}, {"40"}, {c.message(9, routeSend, sendBody("x", "*"))}, {""}, {"2probe", "2"}, {"2probe", "55"}, {"2probe", "5 "},
		} {
			w := c.probe(packets...)
			if got := w.frames(); !isClosed(got) {
				t.Errorf("%q answered %q", packets, got)
			}
			w.wantEnd()
			alone("after a probe that failed")
		}
		w := c.probe("2probe")
		second := c.probe("2probe", "5")
		if got := second.frames(); len(got) != 1 || !isClosed(got) {
			t.Errorf("a second probe was answered %q", got)
		}
		second.wantEnd()
		w.frames()
		r.after(10, "the end of a probe that does not upgrade", func() bool { return w.sock.ShutDown || w.sock.Closed })
		if got := w.frames(); len(got) != 1 || !isClosed(got) {
			t.Errorf("it was told %q", got)
		}
		alone("after a probe that took too long")
		w = c.probe("2probe")
		w.send(textFrame("5"))
		w.sock.End() // and it dies with the upgrade
		r.net.Settle()
		if got := other.take(); got[len(got)-1] != left {
			t.Errorf("got %q", got)
		}
	})
}

// A WebSocket dies, or the client closes it, at each step. Before the upgrade that is nothing to the session.
func TestProbeDies(t *testing.T) {
	forChanging(t, func(t *testing.T, r *rig, c *sioClient, other *client) {
		for _, packets := range [][]string{{}, {"2probe"}} {
			for _, politely := range []bool{false, true} {
				w := c.probe(packets...)
				if politely {
					w.send(string(maskedFrame(byte(codec.WSClose), []byte{3, 232})))
				} else {
					w.sock.End()
				}
				r.net.Settle()
				other.ask(routeSend, sendBody("still", "*"))
				c.want(said("still"))
				other.take()
			}
		}
		w := c.probe("2probe", "5")
		c.pump()
		c.changed(w)
		w.frames()
		w.sock.End()
		r.net.Settle()
		other.want(left)
	})
}

// The session ends while a probe is open: by a kick, the client's goodbye, silence, or a malformed POST. Everything ends with it.
func TestSessionEndsWhileAProbeIsOpen(t *testing.T) {
	forChanging(t, func(t *testing.T, r *rig, c *sioClient, other *client) {
		for _, packets := range [][]string{{}, {"2probe"}} {
			for _, end := range []func(){
				func() { r.kick(c, "bye") },
				func() { c.send("1") },
				func() { r.web(c.tag).ask(post(c.target("polling"), "d=x")) },
				func() {
					r.node.loops[r.node.sids.parse([]byte(c.sid)).Loop()].np.Kill(c.session().conn, netpoll.ReasonSlow)
				},
				func() { r.net.Seconds(100) },
			} {
				w := c.probe(packets...)
				end()
				r.net.Settle()
				r.net.Seconds(12) // a kick waits for a GET
				if got := w.frames(); !isClosed(got) || !c.over() {
					t.Errorf("the probe was told %q, the session has ended: %v", got, c.over())
				}
				w.wantEnd()
				other.want(left)
				c = r.sioLogin(c.kind)
				c.enter("c", "r")
				c.run()
				other.take()
			}
		}
	})
}

// A client that is kicked between probe and upgrade learns the reason by the way it travels then.
func TestKickBetweenProbeAndUpgrade(t *testing.T) {
	forChanging(t, func(t *testing.T, r *rig, c *sioClient, other *client) {
		w := c.probe("2probe")
		c.pump()
		other.ask(routeSend, sendBody("before", "*"))
		r.kick(c, "bye")
		w.send(textFrame("5") + textFrame(c.message(9, routeSend, sendBody("too late", "*"))))
		r.net.Settle()
		c.changed(w)
		c.packets = nil
		c.pump()
		if got := c.take(); !slices.Equal(got, []string{said("before"), `kick 0 "bye"`}) {
			t.Errorf("got %q", got)
		}
		if len(c.packets) != 3 || c.packets[1] != "41" || !isClosed(c.packets) || !c.over() {
			t.Errorf("packets %q; the session has ended: %v", c.packets, c.over())
		}
		w.wantEnd()
		if got := other.take(); got[len(got)-1] != left {
			t.Errorf("got %q", got)
		}
	})
}

// What was POSTed before the change is carried out before what comes by the WebSocket, although the session has to wait for a
// worker meanwhile; a POST that waits itself is too late.
func TestUpgradeBehindWaitingPOSTs(t *testing.T) {
	for _, kind := range changing() {
		t.Run(kind.name, func(t *testing.T) {
			r, c, home := waiting(t, kind)
			w := c.probe("2probe")
			c.pump()
			c.packets = nil
			posts := c.postOn(home, c.message(2, routeEnter, enterBody("c", foreignRoom(r, home))),
				c.message(3, routeSend, sendBody("posted", "*")), c.message(4, "no.such.route", "{}"))
			w.send(textFrame("5") + textFrame(c.message(5, routeSend, sendBody("framed", "*"))) + textFrame(c.message(6, "no.such.route", "{}")))
			c.turnOnly(home)
			c.changed(w)
			want := []string{`answer 2 {"users":["c"]}`}
			for i, text := range []string{"posted", "framed"} {
				want = append(want, fmt.Sprintf(`push 0 onChat {"msg":"%s","from":"c","target":"*"}`, text), fmt.Sprintf("answer %d {}", 3+2*i))
			}
			c.want(append(want, "answer 6 "+refused)...)
			for i, status := range []int{200, 200, 400} {
				if p := posts[i].response(false); p == nil || p.status != status {
					t.Errorf("POST %d was answered %v", i, p)
				}
			}
			r.endAll()
			r.balanced()
		})
	}
}

// The same when it is the client that does not take what it has asked for: once changed over it polls no more.
func TestUpgradeWhileThrottled(t *testing.T) {
	for _, kind := range changing() {
		for _, room := range []int{-1, 50_000} { // bytes the WebSocket takes at first
			t.Run(fmt.Sprintf("%s,room=%d", kind.name, room), func(t *testing.T) {
				r := newRig(t, shape{loops: 1}, nil)
				c := r.sioLogin(kind)
				c.enter("c", "r")
				c.run()
				w := c.probe("2probe")
				c.pump()
				c.packets = nil
				long := strings.Repeat("x", 30_000)
				var want, packets []string
				for i := range uint32(8) {
					packets = append(packets, c.message(100+i, routeSend, sendBody(fmt.Sprint(i)+long, "c")))
					want = append(want, fmt.Sprintf(`push 0 onChat {"msg":"%d%s","from":"c","target":"c"}`, i, long), fmt.Sprintf("answer %d {}", 100+i))
				}
				c.send(packets[:7]...)
				r.net.Settle()
				if c.session().conn.Unread() == 0 {
					t.Fatal("it was not throttled")
				}
				w.sock.Room = room
				w.send(textFrame("5") + textFrame(packets[7]))
				r.net.Settle()
				w.sock.Room = -1
				r.net.Settle()
				c.changed(w)
				c.want(want...)
				r.endAll()
				r.balanced()
			})
		}
	}
}

// A client that is extended is so on its WebSocket too.
func TestExtendedUpgrade(t *testing.T) {
	forChanging(t, func(t *testing.T, r *rig, c *sioClient, other *client) {
		if got := c.ask(routeEnter, `{"username":"c2","rid":"r","seq":true}`); memberOf(t, got, "seq") == "" {
			t.Fatalf("entered with %s", got)
		}
		c.run()
		w := c.probe("2probe", "5")
		c.changed(w)
		other.ask(routeSend, sendBody("x", "*"))
		r.net.Settle()
		if got := strings.Join(w.frames(), " "); !strings.Contains(got, `\"rid\":\"r\",\"seq\":\"`) {
			t.Errorf("pushed %s", got)
		}
	})
}
