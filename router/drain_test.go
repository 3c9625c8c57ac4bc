package router

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// drain is a Drain whose time a test lets pass.
type drain struct {
	r     *rig
	over  time.Duration
	paces []pace
}

func (r *rig) drain(over time.Duration) *drain {
	r.node.closing.Store(true)
	return &drain{r, over, make([]pace, len(r.node.loops))}
}

// at is the step that each loop takes when so much has passed.
func (d *drain) at(passed time.Duration) {
	for i, l := range d.r.node.loops {
		l.postRun(0, func() { l.drainSome(&d.paces[i], passed, d.over) })
	}
	d.r.net.Settle()
}

// Clients leave evenly over the time, each loop's on their own, and each gets the goodbye of its transport behind whatever
// it was sent before.
func TestDrainPace(t *testing.T) {
	for _, loops := range []int{1, 3} {
		t.Run(fmt.Sprint("loops=", loops), func(t *testing.T) {
			r := newRig(t, shape{loops: loops}, nil)
			const n = 900
			var clients []*client
			for i := range n {
				c := r.login(atConnector, i%2 == 0)
				c.enter(fmt.Sprint("n", i), fmt.Sprint("r", i%90))
				clients = append(clients, c)
			}
			for _, c := range clients {
				c.rest()
			}
			d := r.drain(4 * time.Second)
			gone := func() (k int) {
				for _, c := range clients {
					if c.ended() {
						k++
					}
				}
				return k
			}
			for i := range 40 {
				passed := time.Duration(i) * 100 * time.Millisecond
				d.at(passed)
				if want := i * n / 40; gone() < want-loops || gone() > want+loops {
					t.Fatalf("after %v %d are gone, not %d", passed, gone(), want)
				}
			}
			d.at(d.over)
			if gone() != n {
				t.Errorf("%d are gone", gone())
			}
			for i, c := range clients {
				want := ""
				if c.ws {
					want = string(codec.AppendWSClose(nil, codec.WSCloseGoingAway, "server is shutting down"))
				}
				if got := c.rest(); got != want {
					t.Fatalf("client %d got %q, want %q", i, got, want)
				}
			}
			if n := r.closedFor(reasonShutdown); n != uint64(len(clients)) {
				t.Errorf("%d are counted", n)
			}
			r.endAll()
			r.balanced()
		})
	}
}

// A few clients do not keep the process: they leave one every 20 ms, whatever -drain says.
func TestDrainOfFew(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	var clients []*client
	for range 5 {
		clients = append(clients, r.login(atConnector, true))
	}
	d := r.drain(time.Hour)
	for i, c := range clients {
		if c.ended() {
			t.Errorf("client %d has left already", i)
		}
		d.at(time.Duration(i) * 21 * time.Millisecond)
		if !c.ended() {
			t.Errorf("client %d is still there", i)
		}
	}
}

// Those whose turn has not come are served as before: they enter, send and get what others send. Only who leaves they are not
// told. Nobody moves, and no session begins that polls on a connection that was there before.
func TestDrainServes(t *testing.T) {
	r := newRig(t, shape{loops: 3, follow: true}, nil)
	first := []*client{r.login(atConnector, true), r.login(atConnector, true), r.login(atConnector, false)}
	var later []*client
	for range 9 {
		later = append(later, r.login(atConnector, true))
	}
	for i, c := range append(first, later[:3]...) {
		if c.enter(fmt.Sprint("n", i), "r"); i > 0 {
			first[0].take()
		}
	}
	a := later[0]
	for _, c := range later {
		c.take()
	}
	moves := func() (n uint64) {
		for _, l := range r.node.loops {
			n += l.counters.moves
		}
		return n
	}
	before := moves()
	d := r.drain(time.Minute)
	d.at(0) // one of each loop
	var late *client
	for i, c := range later[3:] { // two of each loop
		if c.ended() {
			continue
		}
		if late = c; !strings.Contains(c.enter(fmt.Sprint("late", i), "r"), `"users"`) || moves() != before {
			t.Fatalf("refused, or one of %d that moved", moves()-before)
		}
	}
	late.ask(routeSend, sendBody("hello", "*"))
	for _, line := range a.take() {
		if strings.Contains(line, "onLeave") {
			t.Errorf("told %s", line)
		}
	}
	late.ask(routeSend, sendBody("again", "*"))
	a.want(`push 0 onChat {"msg":"again","from":"late5","target":"*"}`)
	w := r.web(atConnector)
	w.ask(get("/gate/queryEntry?uid=alice"))
	if p := w.ask(strings.Replace(get("/socket.io/1/"), "GET", "POST", 1)); p.status != 503 {
		t.Errorf("a new session that polls: %v", p)
	}
	d.at(time.Minute)
	r.endAll()
	r.balanced()
}

// On a connection that has carried a request before no session begins to poll, nor is it refused: the connection ends without an
// answer, after which browsers and proxies ask again on a new one, which may lead to the next process. Nobody would repeat the
// first request of a connection, so that is served.
func TestDrainOfKeptConnection(t *testing.T) {
	for _, handshake := range []string{"/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=3&transport=polling", "/socket.io/1/?t=1"} {
		r := newRig(t, shape{loops: 1}, nil)
		r.login(atConnector, true) // is sent away first
		kept, fresh := r.web(atConnector), r.web(atConnector)
		if p := kept.ask(get("/gate/queryEntry?uid=alice")); p.status != 200 {
			t.Fatal(p)
		}
		d := r.drain(time.Minute)
		d.at(0)
		if p := kept.ask(get("/gate/queryEntry?uid=bob")); p.status != 200 {
			t.Error("others are served:", p)
		}
		kept.send(get(handshake))
		kept.wantEnd()
		if p := fresh.ask(get(handshake)); p.status != 200 {
			t.Error("the first request of a connection:", p)
		}
		d.at(time.Minute)
		r.endAll()
		r.balanced()
	}
}

// What a slow client has yet to take comes before its goodbye.
func TestDrainOfSlow(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := newRig(t, shape{loops: 1}, nil)
		slow, sender := r.login(atConnector, ws), r.login(atConnector, ws)
		slow.enter("slow", "r")
		sender.enter("sender", "r")
		slow.rest()
		slow.sock.Room = 0
		want := ""
		for i := range 3 {
			sender.ask(routeSend, sendBody(fmt.Sprint("m", i), "slow"))
			want += fmt.Sprintf(`push 0 onChat {"msg":"m%d","from":"sender","target":"slow"} `, i)
		}
		r.drain(time.Second).at(time.Second)
		if slow.ended() {
			t.Error("ended before it had everything")
		}
		slow.sock.Room = -1
		r.net.Settle()
		if ws {
			want += "close 1001 server is shutting down "
		}
		if got := strings.Join(slow.take(), " ") + " "; got != want || !slow.ended() {
			t.Errorf("ended %v, got %q, want %q", slow.ended(), got, want)
		}
	})
}

// Clients that poll get what waits for them, are told in a way after which they come back (never 41, which ends the session
// for good), and keep the connections they fetch by until all sessions have gone.
func TestDrainOfPollers(t *testing.T) {
	forFlavours(t, pollers(), func(t *testing.T, r *rig, kind flavour) {
		holds, away, sender := r.sioLogin(kind), r.sioLogin(kind), r.login(atConnector, true)
		holds.enter("holds", "r")
		away.enter("away", "r")
		sender.enter("sender", "r")
		r.run(holds, away)
		holds.packets, holds.events = nil, nil
		r.dropGET(away)
		away.events = nil
		sender.ask(routeSend, sendBody("last", "away"))

		d := r.drain(time.Minute)
		d.at(time.Minute)
		if p := away.get; kind.version != 9 && (p.sock.Closed || p.sock.ShutDown) {
			t.Error("the connection is closed by which the client would fetch what waits")
		}
		away.poll()
		r.net.Settle()
		away.pump()
		const last = `push 0 onChat {"msg":"last","from":"sender","target":"away"}`
		if len(away.events) != 1 || away.events[0].String() != last {
			t.Errorf("away was told %v", away.events)
		}
		holds.pump()
		switch {
		case kind.version == 9 && !holds.get.sock.ShutDown && !holds.get.sock.Closed:
			t.Error("the GET is still held")
		case kind.jsonp && kind.version == 9 && (len(holds.packets) != 1 || holds.packets[0] != "7:::1+0"):
			t.Errorf("the GET was answered %q: nobody notices that", holds.packets)
		case kind.version != 9 && (len(holds.packets) != 1 || holds.packets[0] != "1"):
			t.Errorf("the GET was answered %q", holds.packets)
		}
		for _, c := range []*sioClient{holds, away} {
			if !c.over() {
				t.Error("a session lives on")
			}
			for _, p := range c.packets {
				if strings.HasPrefix(p, "41") || strings.HasPrefix(p, "0::") {
					t.Errorf("told %q: it would not come back", p)
				}
			}
		}
		d.at(time.Minute + 1) // now their connections too
		if p := away.get; !p.sock.Closed && !p.sock.ShutDown {
			t.Error("a connection that nobody needs is open")
		}
		r.endAll()
		r.balanced()
	})
}

// A client that polls and has something to get, but does not come, is waited for only so long.
func TestDrainOfVanished(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	c, sender := r.sioLogin(flavours[8]), r.login(atConnector, true)
	c.enter("c", "r")
	sender.enter("sender", "r")
	r.run(c)
	r.dropGET(c)
	sender.ask(routeSend, sendBody("last", "c"))
	r.drain(time.Minute).at(time.Minute)
	if r.node.pulls() != 1 {
		t.Fatal("it was not waited for")
	}
	r.net.Seconds(awaySeconds + 1)
	if r.node.pulls() != 0 || r.closedFor(reasonShutdown) == 0 {
		t.Errorf("%d sessions are left", r.node.pulls())
	}
}

// A panic while one client is sent away costs that one; the others leave as they should.
func TestDrainPanic(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	clients := []*client{r.login(atConnector, true), r.login(atConnector, true), r.login(atConnector, true)}
	l := r.node.loops[0]
	l.np.EachIn(1, 2, func(c *netpoll.Conn) { // as no session can be
		s := l.session(c)
		s.x, s.room, s.star = &extra{pull: new(pull)}, new(room), 5
	})
	d := r.drain(time.Minute)
	d.at(time.Minute)
	for i, c := range clients {
		if !c.ended() {
			t.Errorf("client %d stays", i)
		}
	}
	if l.counters.panics != 1 {
		t.Errorf("%d panics", l.counters.panics)
	}
}

// A loop that does not turn keeps Drain for its time and no longer.
func TestDrainOfStuckLoop(t *testing.T) {
	r := newRig(t, shape{loops: 2}, nil)
	r.login(atConnector, true)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := r.node.Drain(ctx, 20*time.Millisecond)
	if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "1 connections were cut off") || took > 5*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

// A panic in the middle of a broadcast costs that broadcast; sessions move to their rooms as before.
func TestBroadcastPanic(t *testing.T) {
	a := app.New()
	r := appRig(t, shape{loops: 3, follow: true}, a)
	broken := r.login(atConnector, true)
	l := r.node.loops[0]
	l.np.Each(func(c *netpoll.Conn) { l.session(c).variant = 0 })
	if err := a.Broadcast("onAll", nil); err != nil {
		t.Fatal(err)
	}
	r.net.Settle()
	if n := r.node.broadcasts.Load(); n != 0 {
		t.Errorf("%d broadcasts are still under way", n)
	}
	if l.counters.panics != 1 || broken.ended() {
		t.Errorf("%d panics, ended %v", l.counters.panics, broken.ended())
	}
}
