package router

import (
	"testing"
	"time"
)

// A loop that comes to its clients too late refuses what would make more work, and nothing else, until it has caught up.
func TestOverrunLoopRefusesMessages(t *testing.T) {
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Limits.Delay = time.Second })
	a, b := r.login(atConnector, false), r.login(atConnector, false)
	a.enter("a", "room")
	b.enter("b", "room")
	a.take()
	b.take()
	loop := r.node.loops[0].np
	for range 2 {
		loop.Ring()
		r.net.Pass(1100 * time.Millisecond)
		r.net.Turn()
	}
	a.request(routeSend, sendBody("too much", "*"))
	b.request(routeEnter, enterBody("b", "elsewhere"))
	a.sock.Ready()
	b.sock.Ready()
	r.net.Settle()
	a.want("answer 2 " + refused)
	b.want("answer 2 " + enterRefused)
	if n := r.node.loops[0].limiter.late; n != 2 {
		t.Errorf("%d messages were counted as refused", n)
	}
	if got := a.ask(routeSend, sendBody("again", "*")); got != "{}" {
		t.Errorf("when it had caught up it answered %s", got)
	}
	if got := b.enter("b", "elsewhere"); got != `{"users":["b"]}` {
		t.Errorf("when it had caught up it answered an enter %s", got)
	}
}
