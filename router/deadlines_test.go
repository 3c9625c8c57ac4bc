package router

import (
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// A client that does not get as far as its ack within 20 seconds is closed, wherever it stopped, whatever it sends meanwhile.
func TestHandshakeTimeout(t *testing.T) {
	for _, tc := range []struct {
		name string
		ws   bool
		do   func(c *client, second int)
	}{
		{"tcp silent", false, func(*client, int) {}},
		{"tcp half a method", false, func(c *client, second int) {
			if second == 0 {
				c.sock.Send([]byte("GE"))
			}
		}},
		{"tcp half a package, slowly", false, func(c *client, second int) {
			if second == 0 {
				c.sock.Send([]byte{1, 0, 1, 0})
			}
			c.sock.Send([]byte(" "))
		}},
		{"ws silent", true, func(*client, int) {}},
		{"ws pinging", true, func(c *client, second int) {
			c.sock.Send(maskedFrame(byte(codec.WSPing), nil))
			c.r.net.Settle()
			c.sock.Wrote = c.sock.Wrote[:len(c.sock.Wrote)-2]
		}},
		{"ws early packages", true, func(c *client, _ int) { c.send(codec.PackageHeartbeat, nil) }},
		{"handshake without ack", true, func(c *client, second int) {
			if second == 15 {
				c.send(codec.PackageHandshake, []byte(testHandshake))
				c.wantOpen(c.packed(codec.PackageHandshake, `{"code":200,"sys":{"heartbeat":3}}`))
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, nil)
			c := r.connect(atConnector, tc.ws)
			c.rest()
			for second := range 19 {
				tc.do(c, second)
				r.net.Seconds(1)
			}
			c.wantOpen("")
			r.net.Seconds(1)
			c.wantClosed("")
			if r.closedFor(reasonHandshakeTimeout) != 1 {
				t.Error("not counted")
			}
		})
	}
}

// An HTTP head has 5 seconds from its first bytes, also when it drips.
func TestHeadTimeout(t *testing.T) {
	for _, drip := range []string{"", "x"} {
		r := newRig(t, shape{loops: 1}, nil)
		c := r.connect(atConnector, false)
		r.net.Seconds(3)
		c.sock.Send([]byte("GET /"))
		r.net.Settle()
		for range 4 {
			r.net.Seconds(1)
			c.sock.Send([]byte(drip))
		}
		c.wantOpen("")
		r.net.Seconds(1)
		if got := c.rest(); !strings.HasPrefix(got, "HTTP/1.1 408 ") || !c.ended() {
			t.Errorf("got %q, ended %v", got, c.ended())
		}
	}
}

// The time for the head does not shorten the time for the handshake.
func TestHeadInTimeLeavesTheHandshakeItsTime(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	c := r.connect(atConnector, true)
	head := []byte("GET / HTTP/1.1\r\nHost: h\r\n")
	d := r.connect(atConnector, false)
	d.sock.Send(head)
	c.rest()
	r.net.Seconds(4)
	d.ws = true
	d.sock.Send([]byte("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	d.wantOpen("")
	r.net.Seconds(15)
	c.wantOpen("")
	d.wantOpen("")
	r.net.Seconds(1)
	c.wantClosed("")
	d.wantClosed("")
}

// A working client that is silent for twice the heartbeat interval (and the second that ticks are wide) has left, and the
// others are told. Those who send heartbeats, or anything else, stay.
func TestSilentClientIsDropped(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := newRig(t, shape{loops: 1}, nil)
		silent, beating, talking := r.login(atConnector, ws), r.login(atConnector, ws), r.login(atConnector, ws)
		silent.enter("silent", "r")
		beating.enter("beating", "r")
		talking.enter("talking", "r")
		silent.rest()
		beating.take()
		for second := range 30 {
			if second == 6 {
				silent.wantOpen("")
			}
			if second == 7 {
				silent.wantClosed("")
				beating.want(`push 0 onLeave {"route":"onLeave","user":"silent"}`)
			}
			if second%6 == 0 {
				beating.send(codec.PackageHeartbeat, nil)
				talking.notify("no.such.route", "{}")
			}
			r.net.Seconds(1)
		}
		beating.wantWorking()
		talking.wantWorking()
		if n := r.closedFor(reasonSilent); n != 1 {
			t.Errorf("%d counted", n)
		}
	})
}

// Without heartbeats a client may be silent for 90 seconds.
func TestIdleClientIsDropped(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := single(t, func(p *Profile) { p.HeartbeatSeconds = 0 })
		c := r.login(atConnector, ws)
		r.net.Seconds(60)
		c.wantWorking()
		r.net.Seconds(89)
		c.wantOpen("")
		r.net.Seconds(1)
		c.wantClosed("")
	})
}

// Where heartbeats are off, traffic in either direction keeps a connection: one that only reads stays while it is written to.
func TestIdleCountsBothDirections(t *testing.T) {
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.Profiles[atConnector].HeartbeatSeconds = 0 })
	reader, writer := r.login(atConnector, false), r.login(atConnector, false)
	reader.enter("reader", "r")
	writer.enter("writer", "r")
	for range 5 {
		r.net.Seconds(60)
		writer.ask(routeSend, sendBody("x", "*"))
	}
	if reader.sock.Closed || reader.sock.ShutDown {
		t.Fatal("one who is written to was taken for idle")
	}
	r.net.Seconds(100)
	if !reader.sock.Closed && !reader.sock.ShutDown {
		t.Fatal("an idle one was kept")
	}
}

// A message that was begun has 20 seconds to end, whatever else comes meanwhile: on a gate, where any byte is a sign of life, too.
func TestUnfinishedMessage(t *testing.T) {
	fragments := func(c *client, second int) { c.sock.Send(fragment(second, make([]byte, 1000))) }
	for _, tc := range []struct {
		name string
		ws   bool
		do   func(c *client, second int)
	}{
		{"fragments", true, fragments},
		{"a fragment and pings", true, func(c *client, second int) {
			if second == 0 {
				fragments(c, 0)
			}
			c.sock.Send(maskedFrame(byte(codec.WSPing), nil))
		}},
		{"half a frame, slowly", true, func(c *client, second int) {
			if second == 0 {
				c.sock.Send(maskedFrame(byte(codec.WSBinary), make([]byte, 1000))[:100])
			}
			c.sock.Send([]byte(" "))
		}},
		{"half a package, slowly", false, func(c *client, second int) {
			if second == 0 {
				c.sock.Send([]byte{4, 0, 1, 0})
			}
			c.sock.Send([]byte(" "))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, nil)
			c := r.login(atGate, tc.ws)
			for second := range 21 {
				if c.ended() {
					t.Fatalf("ended after %d seconds", second)
				}
				tc.do(c, second)
				r.net.Settle()
				r.net.Seconds(1)
			}
			if !c.ended() || r.closedFor(reasonUnfinished) != 1 {
				t.Errorf("ended: %v, %d counted", c.ended(), r.closedFor(reasonUnfinished))
			}
			r.net.Seconds(5)
			if n := r.node.Usage().Buffered; n != 0 {
				t.Errorf("%d bytes of nobody are counted", n)
			}
		})
	}
}

// Who finishes each message and begins another may go on for ever; what the fragments take is counted, and no longer once the message is
// there.
func TestFinishedMessages(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	c := r.login(atConnector, true)
	heartbeat := codec.AppendPackage(nil, codec.PackageHeartbeat, nil)
	whole := maskedFrame(byte(codec.WSBinary), heartbeat)
	last := maskedFrame(0, heartbeat[1:])
	for range 60 {
		first := fragment(0, heartbeat[:1])
		c.sock.Send(first)
		r.net.Seconds(1)
		if n := r.node.Usage().Buffered; n < 1 || n > 1000 {
			t.Fatalf("%d bytes are counted for a fragment", n)
		}
		c.sock.Send(last)
		r.net.Settle()
		if n := r.node.Usage().Buffered; n != 0 {
			t.Fatalf("%d bytes are counted, and nothing is kept", n)
		}
		c.sock.Send(whole)
		r.net.Seconds(1)
	}
	if c.ended() {
		t.Error("was closed")
	}
}
