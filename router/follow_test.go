package router

import (
	"fmt"
	"testing"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
)

// spread tells on how many loops a room has members.
func (r *rig) spread(name string) (n int) {
	for _, l := range r.node.loops {
		for _, room := range l.rooms.byID {
			for _, vg := range room.groups {
				if vg.group.Len() > 0 && room.id.Partition() == channel.Partition(name) {
					n++
					break
				}
			}
		}
	}
	return n
}

// Members of a small room all come to be on one loop, whatever they speak and wherever they were accepted; a large room uses all.
func TestSessionsFollowTheirRooms(t *testing.T) {
	for _, spread := range []int{256, 4} {
		r := newRig(t, shape{loops: 3, follow: true}, func(c *Config) { c.Limits.Spread = spread })
		for i := range 12 {
			c := r.login(atConnector, i%2 == 0)
			if got := c.enter(fmt.Sprint("u", i), "r"); got == "" || got == refused {
				t.Fatal(got)
			}
		}
		moves := uint64(0)
		for _, l := range r.node.loops {
			moves += l.counters.moves
		}
		want := map[int]int{256: 1, 4: 3}[spread]
		if got := r.spread("r"); got != want || moves == 0 {
			t.Errorf("spread %d: the room is on %d loops, want %d; %d moves", spread, got, want, moves)
		}
	}
}

// What a session is goes along: its secret, its deadline, the rest of its frame and what it sent behind the enter.
func TestSessionMovesWithAllItHas(t *testing.T) {
	const secret = "0123456789abcdef"
	room := "" // one whose worker is on another loop than the client
	for i := 0; room == ""; i++ {
		r := newRig(t, shape{loops: 3, follow: true}, nil)
		name := fmt.Sprint("room", i)
		if r.home(name) != r.node.loops[0] {
			room = name
		}
	}
	for _, ws := range []bool{false, true} {
		r := newRig(t, shape{loops: 3, follow: true}, nil)
		c := r.withSecret(ws, secret) // the first is accepted by loop 0
		// An enter and a send in one package stream, in one frame where there are frames; then half a package more.
		enter := codec.AppendPackage(nil, codec.PackageData, plainMessage(1, routeEnter, enterBody("a", room)))
		both := codec.AppendPackage(enter, codec.PackageData, plainMessage(2, routeSend, sendBody("x", "*")))
		if ws {
			frame := maskedFrame(byte(codec.WSBinary), both)
			next := maskedFrame(byte(codec.WSBinary), codec.AppendPackage(nil, codec.PackageData, plainMessage(3, routeSend, sendBody("y", "*"))))
			c.sock.Send(append(frame, next[:7]...))
			r.net.Settle()
			c.sock.Send(next[7:])
		} else {
			next := codec.AppendPackage(nil, codec.PackageData, plainMessage(3, routeSend, sendBody("y", "*")))
			c.sock.Send(append(both, next[:7]...))
			r.net.Settle()
			c.sock.Send(next[7:])
		}
		r.net.Settle()
		c.want(`answer 1 {"users":["a"]}`, `push 0 onChat {"msg":"x","from":"a","target":"*"}`, "answer 2 {}",
			`push 0 onChat {"msg":"y","from":"a","target":"*"}`, "answer 3 {}")
		home := r.home(room)
		if home.np.Open() != 1 || r.node.loops[0].np.Open() != 0 || home.counters.moves+r.node.loops[0].counters.moves != 1 {
			t.Fatalf("ws %v: the session is not at home", ws)
		}
		// Silence ends it when it would have ended anyway: twice 3 s and one.
		again := r.withSecret(ws, secret)
		r.net.Seconds(6)
		if !open(r, c) {
			t.Errorf("ws %v: closed too early", ws)
		}
		if got := again.enter("a", room); got != `{"users":["a"]}` {
			t.Errorf("ws %v: the secret did not come along: %s", ws, got)
		}
		r.net.Seconds(3)
		if open(r, c) || home.secrets() > 1 {
			t.Errorf("ws %v: not closed in time, or its secret is kept", ws)
		}
		for i, l := range r.node.loops {
			if n := l.np.Stats().Closed[netpoll.ReasonMoved]; n != 0 {
				t.Errorf("loop %d counts %d moves as ends", i, n)
			}
		}
	}
}

// secrets is how many secrets of sessions are kept.
func (l *loop) secrets() (n int) {
	for _, slab := range l.sessions {
		for i := range slab {
			if slab[i].secret() != 0 {
				n++
			}
		}
	}
	return n
}

func open(r *rig, c *client) bool { return !c.sock.Closed && !c.sock.ShutDown }

// plainMessage is the body of a data package.
func plainMessage(id uint32, route, body string) []byte {
	b, err := codec.AppendMessage(nil, codec.Message{Type: codec.MessageRequest, ID: id, Route: []byte(route), Body: []byte(body)})
	if err != nil {
		panic(err)
	}
	return b
}

// A session that an App knows stays: what the App holds of it names its loop.
func TestKnownSessionsStay(t *testing.T) {
	a := app.New()
	a.OnOpen(func(*app.Session) {})
	r := newRig(t, shape{loops: 3, follow: true}, func(c *Config) { c.App = a })
	for i := range 6 {
		r.login(atConnector, true).enter(fmt.Sprint("u", i), fmt.Sprint("r", i))
	}
	for _, l := range r.node.loops {
		if l.counters.moves != 0 {
			t.Errorf("loop %d moved %d sessions", l.index, l.counters.moves)
		}
	}
}

// What a session has used of its rates goes along: who moves may not say more than who stays.
func TestRatesMoveAlong(t *testing.T) {
	moved := 0
	for i := range 6 {
		r := newRig(t, shape{loops: 3, follow: true}, func(c *Config) { c.Limits.SessionRate = limit.Rate{PerSecond: 0.001, Burst: 3} })
		c := r.login(atConnector, true)
		c.ask("no.such.route", "{}")
		c.ask("no.such.route", "{}")
		if got := c.enter("a", fmt.Sprint("r", i)); got != `{"users":["a"]}` {
			t.Fatal(got)
		}
		if got := c.ask(routeSend, sendBody("x", "*")); got != `{"code":500,"reason":"session_rate"}` {
			t.Errorf("room %d: %s", i, got)
		}
		for _, l := range r.node.loops {
			moved += int(l.counters.moves)
		}
	}
	if moved == 0 {
		t.Error("nobody has moved")
	}
}
