package router

import (
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// withSecret is login with a secret in the handshake's user member.
func (r *rig) withSecret(ws bool, secret string) *client {
	r.t.Helper()
	c := r.connect(0, ws)
	c.send(codec.PackageHandshake, []byte(`{"sys":{"type":"test","version":"1"},"user":{"secret":"`+secret+`"}}`))
	c.send(codec.PackageHandshakeAck, nil)
	r.net.Settle()
	c.take()
	return c
}

// Whoever shows the secret of a session takes its place: a client that was cut off gets its name back at once, and nobody
// else notices.
func TestReplace(t *testing.T) {
	const secret = "0123456789abcdef"
	forShapes(t, func(t *testing.T, r *rig) {
		old, other := r.withSecret(true, secret), r.login(0, false)
		old.enter("a", "r")
		other.enter("b", "r")
		old.take()

		refused := `{"code":500,"error":true}`
		for _, wrong := range []string{"", "0123456789abcdeF", secret[:15], strings.Repeat("x", 129)} {
			if got := r.withSecret(false, wrong).enter("a", "r"); got != refused {
				t.Errorf("secret %q: %s", wrong, got)
			}
		}
		next := r.withSecret(false, secret)
		if got := next.enter("a", "r"); got != `{"users":["a","b"]}` {
			t.Fatal(got)
		}
		r.net.Settle()
		old.want(`kick 0 {"reason":"replaced by a new session of yours"}`, "close 1000 ")
		other.want()
		next.ask(routeSend, sendBody("x", "*"))
		other.want(`push 0 onChat {"msg":"x","from":"a","target":"*"}`)

		// Where there is no handshake, the secret comes with the enter.
		last := r.login(0, true)
		if got := last.ask(routeEnter, `{"username":"a","rid":"r","secret":"`+secret+`"}`); got != `{"users":["a","b"]}` {
			t.Fatal(got)
		}
		r.net.Settle()
		other.want()
		last.sock.End()
		r.net.Settle()
		other.want(`push 0 onLeave {"route":"onLeave","user":"a"}`)
		for i, l := range r.node.loops {
			if n := l.secrets(); n > 4 {
				t.Errorf("loop %d keeps %d secrets", i, n)
			}
		}
	})
}

// apart brings two clients into room r by two loops, neither of which is that of the room's worker: old, whose secret next
// has, alone on l, and other. next and newcomer are in no room, newcomer on l.
func apart(t *testing.T, secret string) (r *rig, l *loop, old, next, other, newcomer *client) {
	r = newRig(t, shape{loops: 3}, nil)
	worker := r.home("r").index
	here, there := (worker+1)%3, (worker+2)%3
	on := func(loop int, secret string) *client {
		r.next = loop
		return r.withSecret(false, secret)
	}
	old, next, other, newcomer = on(here, secret), on(there, secret), on(there, ""), on(here, "")
	old.enter("a", "r")
	other.enter("b", "r")
	old.take()
	return r, r.node.loops[here], old, next, other, newcomer
}

// Whoever enters by a loop whose only member of the room has just been replaced, in the same batch of mail, begins where the room is, and
// not where that member was. So it is when the member's conn was dead already, and its session nobody to be kicked.
func TestEnterBehindReplace(t *testing.T) {
	for _, dead := range []bool{false, true} {
		r, l, old, next, other, newcomer := apart(t, "0123456789abcdef")
		if dead {
			l.postRun(0, func() {
				l.np.Each(func(c *netpoll.Conn) {
					if l.session(c).room != nil {
						l.np.Kill(c, netpoll.ReasonReset)
					}
				})
			})
		}
		next.request(routeEnter, enterBody("a", "r"))
		next.sock.Ready()
		other.request(routeSend, sendBody("x", "*"))
		other.sock.Ready()
		newcomer.request(routeEnter, enterBody("c", "r"))
		newcomer.sock.Ready()
		r.net.TurnLoop(r.home("r").index)
		r.net.TurnLoop(l.index)
		r.net.Settle()
		if !dead {
			old.want(`kick 0 {"reason":"replaced by a new session of yours"}`)
		}
		newcomer.want(`answer 1 {"users":["a","b","c"]}`)
		next.ask(routeSend, sendBody("y", "*"))
		newcomer.want(`push 0 onChat {"msg":"y","from":"a","target":"*"}`)
		if n := l.counters.gaps; n != 0 {
			t.Errorf("dead %v: %d gaps", dead, n)
		}
	}
}

// Whoever enters in the turn in which the members before it have lost a message misses nothing of what comes then.
func TestEnterBehindGap(t *testing.T) {
	r, l, old, _, other, newcomer := apart(t, "")
	for _, room := range l.rooms.byID {
		room.seq--
	}
	other.request(routeSend, sendBody("x", "*"))
	other.sock.Ready()
	newcomer.request(routeEnter, enterBody("c", "r"))
	newcomer.sock.Ready()
	r.net.TurnLoop(r.home("r").index)
	r.net.TurnLoop(l.index)
	r.net.Settle()
	old.want(`kick 0 {"reason":"messages were lost; please enter again"}`)
	newcomer.take()
	other.ask(routeSend, sendBody("y", "*"))
	newcomer.want(`push 0 onChat {"msg":"y","from":"b","target":"*"}`)
	if n := l.counters.gaps; n != 1 {
		t.Errorf("%d gaps", n)
	}
}
