package netpoll_test

import (
	"crypto/tls"
	"runtime"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// inUse is what Go has in use, stacks included, when nothing is left to be collected.
func inUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// An idle conn that speaks TLS has what crypto/tls needs and no buffers. Without these being taken away it would be twice as much.
func TestSecuredIdleBytes(t *testing.T) {
	const conns, most = 300, 4 << 10
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	h := w.on[0]
	var sockets []*looptest.Socket
	for range conns {
		client, f, _ := w.dial(h, nil)
		if _, err := client.Write(make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
		read(t, client, 2000)
		sockets = append(sockets, f.s)
	}
	w.net.Seconds(10) // handshakes are forgotten when their time is over
	clear(w.got)
	for _, s := range sockets {
		s.Wrote = nil
	}
	open := inUse()
	w.do(h, func() { h.loop.Each(func(c *netpoll.Conn) { h.loop.Kill(c, netpoll.ReasonHandler) }) })
	w.net.Settle()
	for _, s := range sockets {
		s.Wrote = nil
	}
	if each := (open - inUse()) / conns; each > most {
		t.Errorf("an idle conn with TLS takes %d bytes beside its 96", each)
	} else {
		t.Logf("an idle conn with TLS takes %d bytes beside its 96", each)
	}
}

// A handshake that waits for its client counts for what it takes.
func TestHandshakeBytes(t *testing.T) {
	const conns = 300
	w := newSealed(t, 1, netpoll.HandshakeLimits{All: conns, Client: conns, Rate: 1e9, Seconds: 5}, 1<<30)
	h := w.on[0]
	hello := helloOf(t, w)
	var sockets []*looptest.Socket
	before := inUse()
	for range conns {
		_, s := w.connect(h)
		s.Send(hello)
		sockets = append(sockets, s)
	}
	w.pump()
	for _, s := range sockets {
		s.Wrote = nil
	}
	takes, counted := (inUse()-before)/conns, int(w.budget.Inbound())/conns
	if counted < takes || counted > 3*takes {
		t.Errorf("a handshake that waits takes %d bytes and counts for %d", takes, counted)
	} else {
		t.Logf("a handshake that waits takes %d bytes and counts for %d", takes, counted)
	}
}

// Handshakes that are over keep nothing until their time would have been over, though an older one is under way, and so do conns that have ended since.
func TestEndedHandshakeBytes(t *testing.T) {
	const conns, most = 300, 2 << 10
	for _, tc := range []struct {
		name  string
		shake func(w *sealed, s *looptest.Socket, hello []byte)
	}{
		{"given up", func(w *sealed, s *looptest.Socket, hello []byte) {
			s.Send(hello)
			w.pump()
		}},
		{"failed", func(w *sealed, s *looptest.Socket, hello []byte) {
			s.Send(hello[:1024])
			s.Send(append([]byte{22, 3, 3, 64, 0}, make([]byte, 16<<10)...))
			w.pump()
		}},
		{"done", func(w *sealed, s *looptest.Socket, _ []byte) {
			if err := tls.Client(&far{w: w, s: s}, &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil {
				t.Fatal(err)
			}
			w.pump()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
			h := w.on[0]
			hello := helloOf(t, w)
			oldest, s := w.connect(h)
			s.Send(hello)
			w.pump()
			for range conns {
				c, s := w.connect(h)
				tc.shake(w, s, hello)
				w.do(h, func() { h.loop.Kill(c, netpoll.ReasonHandler) })
				s.Wrote = nil
			}
			w.pump()
			clear(w.got)
			if s := w.hands.Stats(); s.Running != 1 || !oldest.Alive() {
				t.Errorf("handshakes: %+v", s)
			}
			kept := inUse()
			w.net.Seconds(8)
			if each := (kept - inUse()) / conns; each > most {
				t.Errorf("each keeps %d bytes", each)
			} else {
				t.Logf("each keeps %d bytes", each)
			}
		})
	}
}
