package router

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/netpoll"
)

// three is a node of three loops, a client on loop here, which has no room, and a witness in each of two rooms, whose partitions run on the
// other two loops.
func three(t *testing.T, secret string) (r *rig, here int, c *client, rooms [2]string, in [2]*client) {
	r = newRig(t, shape{loops: 3}, nil)
	for i, n := 0, 0; n < 2; i++ {
		if room := fmt.Sprint("r", i); r.home(room).index == 1+n {
			rooms[n] = room
			n++
		}
	}
	r.next = 0
	c = r.withSecret(false, secret)
	for i := range in {
		r.next = 0
		in[i] = r.login(atConnector, false)
		in[i].enter("witness", rooms[i])
	}
	return r, 0, c, rooms, in
}

// endings are what ends a session in a room: a kick, or somebody who shows its secret. Its item is on its way then.
var endings = map[string]struct {
	do   func(t *testing.T, r *rig, room string)
	told string
}{
	"kick": {func(t *testing.T, r *rig, room string) {
		if err := r.node.request(channel.Request{Op: channel.OpKick, Room: room, Target: "a", Content: []byte(`"bye"`)}); err != nil {
			t.Fatal(err)
		}
		r.net.TurnLoop(r.home(room).index)
	}, `kick 0 {"reason":"bye"}`},
	"takeover": {func(t *testing.T, r *rig, room string) {
		r.home(room).inlet(channel.Partition(room)).Post(channel.Request{
			Op: channel.OpEnter, From: channel.Addr{Node: r.node.id, Ref: 1<<56 | 1<<31}, Room: room, Part: channel.Partition(room), User: "a", Key: secretKey([]byte(`"0123456789abcdef"`)), Req: 1,
		})
	}, `kick 0 {"reason":"replaced by a new session of yours"}`},
}

// Whoever has switched rooms while a kick, or a takeover, from the old room was in the mail stays in the new one.
func TestKickBehindSwitch(t *testing.T) {
	for name, what := range endings {
		t.Run(name, func(t *testing.T) {
			r, here, c, rooms, in := three(t, "0123456789abcdef")
			c.enter("a", rooms[0])
			c.take()
			in[1].take()
			c.request(routeEnter, enterBody("a", rooms[1]))
			c.sock.Ready()
			r.net.TurnLoop(r.home(rooms[1]).index) // the yes is in the mail
			what.do(t, r, rooms[0])
			r.net.TurnLoop(here)
			r.net.Settle()
			c.want(`answer 2 {"users":["witness","a"]}`)
			c.ask(routeSend, sendBody("x", "*"))
			in[1].want(`push 0 onAdd {"route":"onAdd","user":"a"}`, `push 0 onChat {"msg":"x","from":"a","target":"*"}`)
		})
	}
}

// A kick, or a takeover, that comes while its target waits for the answer to a switch ends it, and it is in neither room.
func TestKickBeforeSwitch(t *testing.T) {
	for name, what := range endings {
		t.Run(name, func(t *testing.T) {
			r, here, c, rooms, in := three(t, "0123456789abcdef")
			c.enter("a", rooms[0])
			c.take()
			in[1].take()
			c.request(routeEnter, enterBody("a", rooms[1]))
			c.sock.Ready()
			what.do(t, r, rooms[0])
			r.net.TurnLoop(here)
			r.net.TurnLoop(r.home(rooms[1]).index)
			r.net.Settle()
			c.want(what.told)
			in[1].want(`push 0 onAdd {"route":"onAdd","user":"a"}`, `push 0 onLeave {"route":"onLeave","user":"a"}`)
		})
	}
}

// An answer that comes after its request was given up is nobody's: the next request gets its own.
func TestLateAnswerAnswersNobody(t *testing.T) {
	r, here, c, rooms, _ := three(t, "")
	c.enter("a", rooms[0])
	c.take()
	c.request(routeSend, sendBody("x", "*"))
	c.sock.Ready()
	r.net.Late(here, int(r.node.limits.Load().RequestSeconds)+1)
	r.net.TurnLoop(here)
	c.want("answer 2 " + refused)
	c.request(routeSend, sendBody("y", "nobody"))
	c.sock.Ready()
	r.net.Settle()
	c.want(`push 0 onChat {"msg":"x","from":"a","target":"*"}`, "answer 3 "+refused)
}

// An enter that succeeds after it was given up is undone, and is no answer to the next one.
func TestLateEnterIsUndone(t *testing.T) {
	r, here, c, rooms, in := three(t, "")
	in[0].take()
	in[1].take()
	c.request(routeEnter, enterBody("a", rooms[0]))
	c.sock.Ready()
	r.net.Late(here, int(r.node.limits.Load().RequestSeconds)+1)
	r.net.TurnLoop(here)
	c.want("answer 1 " + enterRefused)
	c.request(routeEnter, enterBody("b", rooms[1]))
	c.sock.Ready()
	r.net.TurnLoop(r.home(rooms[0]).index) // the late yes comes first
	r.net.TurnLoop(here)
	r.net.Settle()
	c.want(`answer 2 {"users":["witness","b"]}`)
	in[0].want(`push 0 onAdd {"route":"onAdd","user":"a"}`, `push 0 onLeave {"route":"onLeave","user":"a"}`)
	in[1].want(`push 0 onAdd {"route":"onAdd","user":"b"}`)
	for _, l := range r.node.loops {
		if want := uint64(1); l.index == here && l.counters.timeouts != want {
			t.Errorf("%d requests were given up", l.counters.timeouts)
		}
	}
}

// Who shows a new login in its room, and has given up before the answer comes, is the member that it was.
func TestLateRenewalChangesNothing(t *testing.T) {
	r, _ := loginRig(t, shape{loops: 2}, nil)
	room := "r"
	for r.home(room).index != 1 {
		room += "r"
	}
	r.next = 0
	c := r.login(atConnector, false)
	r.next = 0
	in := r.login(atConnector, false)
	in.told(routeEnter, withToken("", room, "witness"))
	c.told(routeEnter, withToken("", room, "ann"))
	r.net.Settle()
	in.take()
	id := c.request(routeEnter, withToken("", room, "ann"))
	c.sock.Ready()
	for begun := time.Now(); r.node.loops[0].mail.Empty(); runtime.Gosched() { // until it has been judged
		if time.Since(begun) > time.Minute {
			t.Fatal("nobody judges")
		}
	}
	r.net.TurnLoop(0)
	r.net.Late(0, int(r.node.limits.Load().RequestSeconds)+1)
	r.net.TurnLoop(0)
	c.want(fmt.Sprintf("answer %d %s", id, enterRefused))
	r.net.Settle()
	if got := c.ask(routeSend, sendBody("x", "*")); got != string(channel.Done) {
		t.Error(got)
	}
	in.want(`push 0 onChat {"msg":"x","from":"ann","target":"*"}`)
}

// A client whose bytes we do not read, because it has not taken its answers, is not silent: we do not listen. It ends when it takes
// nothing for Limits.Stuck.
func TestThrottledClientIsNotSilent(t *testing.T) {
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Limits.Conn.Stuck = 40 })
	c := r.login(atConnector, false)
	c.enter("a", "r")
	c.take()
	c.sock.Room = 0
	l := r.node.loops[0]
	var conn *netpoll.Conn
	l.np.Each(func(one *netpoll.Conn) { conn = one })
	l.run(func() { l.np.Write(conn, make([]byte, 200<<10)) })
	for range 3 {
		c.request("no.such.route", "{}")
	}
	r.net.Settle()
	if !conn.Throttled() {
		t.Fatal("not throttled")
	}
	r.net.Seconds(30)
	if c.ended() {
		t.Errorf("ended: %d as silent", r.closedFor(reasonSilent))
	}
}
