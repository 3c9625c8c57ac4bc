package router

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/seed"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

const testGrace = 12

// keepPlaces has rooms keep the places of who is cut off, and what is said.
func keepPlaces(cfg *Config) {
	cfg.Limits.History = History{Messages: 1000, Bytes: 1 << 20, Age: 10 * time.Minute, Memory: 1 << 24}
	cfg.Limits.Rooms.Grace = testGrace * time.Second
}

// cutAndGoodbye are the ways in which clients of a wire go, cut off first.
type cutAndGoodbye struct {
	open          func(r *rig) extendedClient
	cuts, goodbye map[string]func(r *rig, c extendedClient)
}

func waysToGo() map[string]cutAndGoodbye {
	reset := func(r *rig, c extendedClient) {
		sock := socketOf(c)
		sock.Err = syscall.ECONNRESET
		sock.Ready()
	}
	end := func(r *rig, c extendedClient) { socketOf(c).End() }
	silence := func(r *rig, c extendedClient) { // longer than anybody may be silent; the GET that is held ends first
		if s, is := c.(*sioClient); is && !s.kind.ws {
			s.get.sock.Stale()
		}
		for range 200 {
			if r.closedFor(reasonSilent) > 0 {
				return
			}
			r.net.Seconds(1)
		}
	}
	all := map[string]cutAndGoodbye{
		"hybrid tcp": {
			func(r *rig) extendedClient { return r.login(atConnector, false) },
			map[string]func(*rig, extendedClient){"reset": reset, "silence": silence},
			map[string]func(*rig, extendedClient){"end": end},
		},
		"hybrid websocket": {
			func(r *rig) extendedClient { return r.login(atConnector, true) },
			map[string]func(*rig, extendedClient){"reset": reset, "end": end, "silence": silence},
			map[string]func(*rig, extendedClient){"close": func(r *rig, c extendedClient) {
				c.(*client).sock.Send(maskedFrame(byte(codec.WSClose), []byte{3, 232}))
			}},
		},
	}
	for _, kind := range flavours {
		e := cutAndGoodbye{
			func(r *rig) extendedClient { return r.sioLogin(kind) },
			map[string]func(*rig, extendedClient){"silence": silence},
			map[string]func(*rig, extendedClient){"its packet": func(r *rig, c extendedClient) { c.leave() }},
		}
		switch {
		case kind.ws:
			e.cuts["reset"], e.cuts["end"] = reset, end
		case kind.version != 9: // 0.9 asks again
			e.cuts["the held GET ends"] = end
			e.cuts["a GET has failed, and its library closes"] = func(r *rig, c extendedClient) {
				r.dropGET(c.(*sioClient))
				c.(*sioClient).send("1")
			}
		}
		if kind.version != 9 {
			e.goodbye["Engine.IO's packet"] = func(r *rig, c extendedClient) { c.(*sioClient).send("1"); c.(*sioClient).run() }
		}
		all[kind.name] = e
	}
	return all
}

// On each wire, who says goodbye leaves at once, and who is cut off may return for a while: with a secret, nobody else notices.
func TestCutsAndGoodbyes(t *testing.T) {
	const enterBob = `{"username":"bob","rid":"r",` + secretOfB + `}`
	for name, wire := range waysToGo() {
		for what, end := range wire.goodbye {
			t.Run(name+",goodbye,"+what, func(t *testing.T) {
				r := newRig(t, shape{loops: 1}, keepPlaces)
				ann, bob := r.login(atConnector, false), wire.open(r)
				ann.enter("ann", "r")
				bob.ask(routeEnter, enterBob)
				ann.take()
				end(r, bob)
				r.net.Settle()
				ann.want(`push 0 onLeave {"route":"onLeave","user":"bob"}`)
			})
		}
		for what, end := range wire.cuts {
			for _, back := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s,cut,%s,returns=%v", name, what, back), func(t *testing.T) {
					r := newRig(t, shape{loops: 1}, keepPlaces)
					bob := wire.open(r)
					bob.ask(routeEnter, enterBob)
					end(r, bob)
					r.net.Settle()
					ann := r.login(atConnector, false)
					if got := ann.enter("ann", "r"); got != `{"users":["bob","ann"]}` {
						t.Fatal(got)
					}
					ann.ask(routeSend, sendBody("said", "*"))
					ann.take()
					if !back {
						for range testGrace { // it would be silent for too long itself
							ann.send(codec.PackageHeartbeat, nil)
							r.net.Seconds(1)
						}
						lines := slices.DeleteFunc(ann.take(), func(s string) bool { return strings.HasPrefix(s, "heartbeat") })
						if want := []string{`push 0 onLeave {"route":"onLeave","user":"bob"}`}; !slices.Equal(lines, want) {
							t.Errorf("told %q", lines)
						}
						return
					}
					again := wire.open(r)
					if got := again.ask(routeEnter, enterBob); got != `{"users":["bob","ann"]}` {
						t.Fatal(got)
					}
					if lines := again.take(); len(lines) != 1 || !strings.Contains(lines[0], `"msg":"said","from":"ann","target":"*"`) {
						t.Errorf("told %q", lines)
					}
					ann.want()
				})
			}
		}
	}
}

// Who has no secret returns from the address at which it was, and from no other; never from this machine's or a proxy's.
func TestReturnByAddress(t *testing.T) {
	const one, other, neighbour = "2001:db8::1", "2001:db8:1::1", "2001:db8::2" // two in one network of 64 bits
	for _, tc := range []struct {
		was, is  string
		returns  bool
		listened string
	}{
		{one, one, true, ""},
		{one, neighbour, true, ""},
		{one, other, false, "onLeave onAdd"},
		{"192.0.2.1", "192.0.2.1", true, ""},
		{"192.0.2.1", "192.0.2.2", false, "onLeave onAdd"},
		{"127.0.0.1", "127.0.0.1", false, "onLeave onAdd"},
		{"10.0.0.1", "10.0.0.1", false, "onLeave onAdd"},
	} {
		t.Run(tc.was+","+tc.is, func(t *testing.T) {
			r := newRig(t, shape{loops: 3, roundTrip: true}, func(cfg *Config) {
				keepPlaces(cfg)
				cfg.Access.Trusted = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
				cfg.Access.LimitAll = false
			})
			r.uncounted = true
			ann := r.login(atConnector, false)
			ann.enter("ann", "r")
			r.peer = netip.MustParseAddr(tc.was)
			bob := r.login(atConnector, true)
			bob.enter("bob", "r")
			ann.take()
			bob.sock.Err = syscall.ECONNRESET
			bob.sock.Ready()
			r.net.Settle()
			ann.ask(routeSend, sendBody("said", "*"))
			r.peer = netip.MustParseAddr(tc.is)
			again := r.login(atConnector, true)
			again.enter("bob", "r")
			var listened []string
			for _, line := range ann.take() {
				if fields := strings.Fields(line); fields[2] != "onChat" {
					listened = append(listened, fields[2])
				}
			}
			if got := strings.Join(listened, " "); got != tc.listened {
				t.Errorf("others were told %q", got)
			}
			if got := len(again.take()); (got == 1) != tc.returns {
				t.Errorf("told %d messages", got)
			}
		})
	}
}

// TestReturnModel cuts members off at random, over sockets that take any number of bytes, and lets them return, some of them too late. What each reads in
// one stay, from all its connections, is the room's stream: nothing twice, nothing reordered, and nothing missing, as the sockets here lose nothing that they took, and
// nobody lags by more than maxMarks/2 pushes.
func TestReturnModel(t *testing.T) {
	for _, sh := range []shape{{loops: 1}, {loops: 3}, {loops: 3, roundTrip: true, follow: true}} {
		t.Run(sh.String(), func(t *testing.T) {
			rng, late := seed.Rand(t), 0
			for range 25 {
				m := newReturns(t, rng, sh)
				for range 400 {
					m.step()
				}
				m.verify()
				if late += m.late; t.Failed() {
					return
				}
			}
			if late == 0 {
				t.Error("nobody came too late")
			}
		})
	}
}

type returns struct {
	t         *testing.T
	rng       *rand.Rand
	r         *rig
	speaker   *client
	said      int
	listeners []*listener
	late      int // who came too late
}

// listener is somebody who only reads.
type listener struct {
	name, secret string
	peer         netip.Addr // where it is, without a secret
	at           *client    // nil: it is cut off
	first, next  int        // of the stay: the first message that it was told, and the one that is due now
	left         int        // how many seconds it may still be away
}

func newReturns(t *testing.T, rng *rand.Rand, sh shape) *returns {
	m := &returns{t: t, rng: rng}
	m.r = newRig(t, sh, func(cfg *Config) {
		keepPlaces(cfg)
		cfg.Limits.PackageBytes, cfg.Limits.Conn.Outbound, cfg.Limits.Conn.Stuck = 4000, 8000, 1000
		cfg.Profiles[atConnector].HeartbeatSeconds = 1000
	})
	m.r.net.Pause = rng.Int64N(2) * 300_000
	m.speaker = m.r.login(atConnector, false)
	m.speaker.enter("speaker", "r")
	for i := range 6 {
		l := &listener{name: fmt.Sprint("l", i), peer: netip.IPv6Loopback()}
		if i%2 == 0 {
			l.secret = fmt.Sprintf("the secret of listener %d", i)
		} else {
			l.peer = netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		}
		m.listeners = append(m.listeners, l)
		m.enter(l)
		l.first, l.next = m.said, m.said
	}
	m.speaker.take()

	return m
}

func (m *returns) enter(l *listener) {
	m.r.peer = l.peer
	l.at = m.r.login(atConnector, m.rng.IntN(2) == 0)
	if got := l.at.ask(routeEnter, secretBody(l.name, "r", l.secret)); !strings.Contains(got, `"`+l.name+`"`) {
		m.t.Fatalf("%s entered with %s", l.name, got)
	}
}

func (m *returns) step() {
	l := m.listeners[m.rng.IntN(len(m.listeners))]
	switch n := m.rng.IntN(20); {
	case n < 8:
		m.speaker.notify(routeSend, sendBody(fmt.Sprintf("%d.%s", m.said, strings.Repeat("x", m.rng.IntN(400))), "*"))
		m.said++
	case n < 12:
		m.r.net.TurnLoop(m.rng.IntN(len(m.r.node.loops)))
	case n < 14:
		m.r.net.Events()
	case n < 16 && l.at != nil:
		l.at.sock.Room = []int{0, 3, 50, 1000, -1}[m.rng.IntN(5)]
	case n < 17 && l.at != nil && !l.at.sock.Closed:
		if l.at.ws && m.rng.IntN(2) == 0 {
			l.at.sock.End()
		} else {
			l.at.sock.Err = syscall.ECONNRESET
		}
		l.at.sock.Ready()
	case n < 18:
		m.r.net.Settle()
		for _, l := range m.listeners {
			m.noticed(l)
		}
	case n < 19 && l.at == nil:
		m.back(l)
	case m.rng.IntN(4) == 0:
		for range 1 + m.rng.IntN(8) {
			m.r.net.Seconds(1)
			for _, l := range m.listeners {
				m.noticed(l)
				l.left--
			}
		}
	}
}

// noticed has a listener know that it was cut off, which the server knows as well.
func (m *returns) noticed(l *listener) {
	if l.at != nil && l.at.sock.Closed {
		m.read(l)
		l.at, l.left = nil, testGrace
	}
}

// read takes what a listener was told.
func (m *returns) read(l *listener) {
	for _, line := range l.at.take() {
		if !strings.Contains(line, "onChat") {
			continue
		}
		var n int
		if _, err := fmt.Sscanf(line, `push 0 onChat {"msg":"%d.`, &n); err != nil {
			m.t.Fatal(line, err)
		}
		if n != l.next {
			m.t.Errorf("%s is told %d, and %d was due", l.name, n, l.next)
		}
		l.next = n + 1
	}
}

func (m *returns) back(l *listener) {
	m.r.net.Settle() // what was said before is in the room
	m.speaker.take()
	m.enter(l)
	told := slices.ContainsFunc(m.speaker.take(), func(s string) bool { return strings.Contains(s, "onAdd") && strings.Contains(s, l.name) })
	if late := l.left <= 1; told != late && (l.left < -1 || l.left > 2) { // a tick is a second
		m.t.Errorf("%s returns %d s before its time, and others are told: %v", l.name, l.left, told)
	}
	if told {
		m.late++
		l.first, l.next = m.said, m.said
	}
}

func (m *returns) verify() {
	for _, l := range m.listeners {
		if l.at != nil {
			l.at.sock.Room = -1
		}
	}
	m.r.net.Settle()
	for _, l := range m.listeners {
		if m.noticed(l); l.at == nil {
			m.back(l)
			m.r.net.Settle()
		}
		if m.read(l); l.next != m.said {
			m.t.Errorf("%s is told of %d messages, %d were said", l.name, l.next, m.said)
		}
	}
}

// A client that polls fetches what waits for it also when the server has sent it away, and is not told that again when it returns.
func TestReturnOfPollerThatWasSentAway(t *testing.T) {
	forFlavours(t, pollers(), func(t *testing.T, _ *rig, kind flavour) {
		r := newRig(t, shape{loops: 1}, keepPlaces)
		const enterBob = `{"username":"bob","rid":"r",` + secretOfB + `}`
		bob, ann := r.sioLogin(kind), r.login(atConnector, true)
		bob.ask(routeEnter, enterBob)
		ann.enter("ann", "r")
		r.run(bob)
		r.dropGET(bob)
		bob.events = nil
		ann.ask(routeSend, sendBody("once", "*"))
		r.net.Settle()
		l := r.node.loops[0]
		r.node.closing.Store(true)
		l.postRun(0, func() {
			l.np.Each(func(c *netpoll.Conn) {
				if c.IsPull() {
					l.sendAway(l.session(c))
				}
			})
		})
		r.net.Settle()
		bob.poll()
		r.net.Settle()
		bob.pump()
		if len(bob.events) != 1 || !strings.Contains(bob.events[0].text, "once") {
			t.Fatalf("told %v", bob.events)
		}
		r.node.closing.Store(false) // as the node to which it goes
		ann.ask(routeSend, sendBody("then", "*"))
		again := r.login(atConnector, true)
		if got := again.ask(routeEnter, enterBob); got != `{"users":["bob","ann"]}` {
			t.Fatal(got)
		}
		if lines := again.take(); len(lines) != 1 || !strings.Contains(lines[0], "then") {
			t.Errorf("told again: %q", lines)
		}
	})
}

// An address has so many members that are away, and more when their time is over.
func TestGhosts(t *testing.T) {
	g := newGhosts(10, 3, 0)
	for i, want := range []bool{true, true, true, false} {
		if got := g.take(5, int64(i)); got != want {
			t.Errorf("cut %d: %v", i, got)
		}
	}
	if !g.take(6, 4) || !g.take(0, 4) {
		t.Error("another address, or none, is refused")
	}
	for now, want := range map[int64]bool{9: false, 10: true} {
		g := newGhosts(10, 1, 0)
		g.take(5, 0)
		if got := g.take(5, now); got != want {
			t.Errorf("at %d: %v", now, got)
		}
	}
	if g.take(5, 100); len(g.by) != 1 || len(g.queue) != 1 {
		t.Errorf("%d addresses, %d places are remembered", len(g.by), len(g.queue))
	}
	if newGhosts(0, 3, 0).take(5, 0) {
		t.Error("away without a grace")
	}
	g = newGhosts(10, 0, 3) // in all, those included that no address tells apart
	for i, want := range []bool{true, true, true, false} {
		if got := g.take(uint64(i/2), int64(i)); got != want {
			t.Errorf("the %d. of all: %v", i+1, got)
		}
	}
	if !g.take(0, 10) || g.take(0, 10) {
		t.Error("one of all is over, and not one more may be away")
	}
	for conns, want := range map[int]int{0: maxGhosts, 5: 5, 1 << 20: maxGhosts} {
		if got := newGhosts(1, conns, 0).most; got != want {
			t.Errorf("%d connections: %d ghosts", conns, got)
		}
	}
}

// socketOf is a client's socket; of one that polls that of its GET.
func socketOf(c extendedClient) *looptest.Socket {
	switch c := c.(type) {
	case *client:
		return c.sock
	case *sioClient:
		if c.kind.ws {
			return c.ws.sock
		}
		return c.get.sock
	}
	panic("no client")
}
