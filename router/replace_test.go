package router

import (
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
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
			if n := len(l.keys); n > 4 {
				t.Errorf("loop %d keeps %d secrets", i, n)
			}
		}
	})
}
