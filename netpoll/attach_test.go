package netpoll_test

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// An attached conn keeps its name, its deadline and its group, takes the socket with all that belongs to that, and hears
// what the other left.
func TestAttach(t *testing.T) {
	for name, room := range map[string]int{"nothing unsent": -1, "some unsent": 5, "all unsent": 0} {
		t.Run(name, func(t *testing.T) {
			w, h, l := one(t, netpoll.Limits{Outbound: 1 << 30, Stuck: 20}, 1<<40)
			var g, probes netpoll.Group
			c := h.pull()
			id := c.ID(l)
			l.Join(c, &g)
			w.do(h, func() { l.Push(&g, []byte("old 1;")) })
			w.do(h, func() { l.Push(&g, []byte("old 2;")); l.Write(c, []byte("old 3;")) })
			w.net.Seconds(50) // nobody came for it
			l.SetDue(c, l.Now()+3)
			due := 0
			h.onDue = func(*netpoll.Conn) { due++ }

			probe, s := w.connect(h)
			probeID := probe.ID(l)
			l.Join(probe, &probes)
			l.SetDue(probe, l.Now()+1)
			s.Room = room
			var heard []byte
			h.onData = func(at *netpoll.Conn, in []byte) int {
				switch {
				case at == c:
					heard = append(heard, in...)
					l.Write(c, []byte("heard;"))
					return len(in)
				case in[0] == 'u': // upgrade
					l.Push(&probes, []byte("probe's group;"))
					l.Write(at, []byte("probe's own;"))
					l.Write(c, bytes.ToUpper(l.TakeOutput(c)))
					l.Join(c, &g)
					h.attach(c)
					l.Push(&g, []byte("new 1;"))
					l.Push(&probes, []byte("last;"))
					return 2
				}
				l.Write(at, []byte("101;"))
				return len(in)
			}
			s.Send([]byte("GET"))
			w.net.Settle()
			s.Send([]byte("u,rest"))
			w.net.Events()
			if why, gone := h.closed[probeID]; !gone || why != netpoll.ReasonMoved || l.Find(probeID) != nil || probes.Len() != 0 {
				t.Fatalf("gone %v, reason %d, members %d", gone, why, probes.Len())
			}
			if l.Find(id) != c || c.IsPull() || c.Group() != &g || string(heard) != "rest" || l.Open() != 1 || l.Pulls() != 0 {
				t.Fatalf("found %v, pull %v, heard %q, sockets %d, pulls %d", l.Find(id) == c, c.IsPull(), heard, l.Open(), l.Pulls())
			}
			if c.Tag() != 1 || c.Peer().Port() != uint16(s.FD) {
				t.Fatalf("tag %d, peer %v: the socket has others", c.Tag(), c.Peer())
			}
			w.do(h, func() { l.Push(&g, []byte("new 2;")) })
			s.Room = -1
			w.net.Settle()
			s.Send([]byte(" more"))
			w.net.Settle()
			if want := "101;probe's group;probe's own;last;OLD 1;OLD 2;OLD 3;new 1;heard;new 2;heard;"; string(s.Wrote) != want {
				t.Fatalf("told %q\nwant %q", s.Wrote, want)
			}
			if string(heard) != "rest more" {
				t.Fatalf("heard %q", heard)
			}
			w.net.Seconds(10)
			if due != 1 {
				t.Fatalf("%d deadlines passed, want the one of the conn that stayed", due)
			}
			s.Room = 0
			w.do(h, func() { l.Push(&g, []byte("stuck")) })
			w.net.Seconds(25) // now it has a socket, and has to take something
			if h.closed[id] != netpoll.ReasonStuck || !s.Closed || l.Open() != 0 || l.Pulls() != 0 {
				t.Fatalf("reason %d, closed %v, sockets %d, pulls %d", h.closed[id], s.Closed, l.Open(), l.Pulls())
			}
		})
	}
}

// What waited for a peer to fetch it, and need not change its form, goes to the socket, after what that has to send.
func TestAttachWithQueuedOutput(t *testing.T) {
	for _, room := range []int{-1, 0, 2} {
		for _, busy := range []bool{false, true} {
			t.Run(fmt.Sprintf("room=%d/from has unsent=%v", room, busy), func(t *testing.T) {
				w, h, l := one(t, netpoll.Limits{Outbound: 1 << 30, Stuck: 20}, 1<<40)
				var g netpoll.Group
				c := h.pull()
				l.Join(c, &g)
				w.do(h, func() { l.Push(&g, []byte("1;")) })
				w.do(h, func() { l.Write(c, []byte("2;")) })
				w.net.Seconds(30)
				_, s := w.connect(h)
				h.onData = func(at *netpoll.Conn, in []byte) int {
					if at == c {
						return len(in)
					}
					if busy {
						l.Write(at, []byte("101;"))
					}
					l.Push(&g, []byte("3;"))
					l.Write(c, []byte("4;"))
					l.Push(&g, []byte("5;"))
					h.attach(c)
					return len(in)
				}
				s.Room = room
				s.Send([]byte("x"))
				w.net.Settle()
				w.net.Seconds(5)
				s.Room = -1
				w.net.Settle()
				want := "1;2;3;4;5;"
				if busy {
					want = "101;" + want
				}
				if string(s.Wrote) != want || c.Group() != &g || !c.Alive() {
					t.Fatalf("told %q, want %q; alive %v", s.Wrote, want, c.Alive())
				}
			})
		}
	}
}

// When the socket's conn ends in the event that asked to attach it, the other stays as it is, and can be attached to later.
func TestAttachTheDead(t *testing.T) {
	for name, end := range map[string]func(h *witness, c *netpoll.Conn, s *looptest.Socket){
		"killed": func(h *witness, c *netpoll.Conn, _ *looptest.Socket) { h.loop.Kill(c, netpoll.ReasonHandler) },
		"closed": func(h *witness, c *netpoll.Conn, _ *looptest.Socket) { h.loop.Close(c, netpoll.ReasonHandler) },
		"panic": func(h *witness, _ *netpoll.Conn, _ *looptest.Socket) {
			h.panics++
			panic("as the test wants it")
		},
		"reset": func(_ *witness, _ *netpoll.Conn, s *looptest.Socket) { s.Err = syscall.ECONNRESET },
	} {
		t.Run(name, func(t *testing.T) {
			w, h, l := one(t, wide, 1<<40)
			c := h.pull()
			die := true
			var s *looptest.Socket
			h.onData = func(at *netpoll.Conn, in []byte) int {
				if at == c {
					t.Errorf("heard %q", in)
					return len(in)
				}
				l.Write(at, []byte("probe;"))
				l.Write(c, append(l.TakeOutput(c), "moved;"...))
				h.attach(c)
				if die {
					end(h, at, s)
				}
				return len(in)
			}
			w.do(h, func() { l.Write(c, []byte("waits;")) })
			probe, sock := w.connect(h)
			id := probe.ID(l)
			s = sock
			s.Send([]byte("x"))
			w.net.Settle()
			if why, gone := h.closed[id]; !gone || why == netpoll.ReasonMoved || !c.IsPull() || !c.Alive() || l.Pulls() != 1 {
				t.Fatalf("gone %v, reason %d, pull %v, alive %v, pulls %d", gone, why, c.IsPull(), c.Alive(), l.Pulls())
			}
			if c.Queued() != len("waits;moved;") {
				t.Fatalf("%d bytes wait", c.Queued())
			}
			die = false
			h.onData = func(at *netpoll.Conn, in []byte) int {
				if at != c {
					l.Write(c, l.TakeOutput(c))
					h.attach(c)
				}
				return len(in)
			}
			_, s = w.connect(h)
			s.Send([]byte("x"))
			w.net.Settle()
			if string(s.Wrote) != "waits;moved;" || c.IsPull() || l.Pulls() != 0 {
				t.Fatalf("told %q, pull %v, pulls %d", s.Wrote, c.IsPull(), l.Pulls())
			}
		})
	}
}

// When the conn that should get the socket has ended, the other stays as it is: it has lost nothing and hears nothing twice.
func TestAttachToTheDead(t *testing.T) {
	for name, end := range map[string]func(h *witness, c *netpoll.Conn){
		"killed": func(h *witness, c *netpoll.Conn) { h.loop.Kill(c, netpoll.ReasonHandler) },
		"closed": func(h *witness, c *netpoll.Conn) { h.loop.Close(c, netpoll.ReasonHandler) },
		"panic": func(h *witness, c *netpoll.Conn) {
			h.panics++
			h.loop.Feed(c, []byte("!"))
		},
	} {
		for _, kept := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s/unread before=%d", name, kept), func(t *testing.T) {
				w, h, l := one(t, wide, 1<<40)
				c := h.pull()
				id := c.ID(l)
				probe, s := w.connect(h)
				var heard []byte
				wait, asked := kept > 0, false
				h.onData = func(at *netpoll.Conn, in []byte) int {
					switch {
					case at == c:
						panic("as the test wants it")
					case wait:
						return 0
					case !asked:
						asked = true
						h.attach(c)
						end(h, c)
						heard = append(heard, in[:2]...)
						return 2
					}
					heard = append(heard, in...)
					return len(in)
				}
				s.Send([]byte("abcdefg")[:kept])
				w.net.Settle()
				wait = false
				s.Send([]byte("abcdefg")[kept:])
				w.net.Settle()
				if string(heard) != "ab" || probe.Unread() != 5 || !probe.Alive() {
					t.Fatalf("heard %q, %d unread, alive %v", heard, probe.Unread(), probe.Alive())
				}
				if _, gone := h.closed[id]; !gone || l.Pulls() != 0 || l.Open() != 1 {
					t.Fatalf("gone %v, pulls %d, sockets %d", gone, l.Pulls(), l.Open())
				}
				s.Send([]byte("h"))
				w.net.Settle()
				if string(heard) != "abcdefgh" {
					t.Fatalf("heard %q", heard)
				}
			})
		}
	}
}

// A conn that is ended when it is told that the other has moved hears nothing, but its socket is closed as any other.
func TestAttachedEndsAtOnce(t *testing.T) {
	for name, end := range map[string]func(l *netpoll.Loop, c *netpoll.Conn){
		"kill":  func(l *netpoll.Loop, c *netpoll.Conn) { l.Kill(c, netpoll.ReasonHandler) },
		"close": func(l *netpoll.Loop, c *netpoll.Conn) { l.Close(c, netpoll.ReasonHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			w, h, l := one(t, wide, 1<<40)
			c := h.pull()
			id := c.ID(l)
			_, s := w.connect(h)
			s.Room = 2
			h.onData = func(at *netpoll.Conn, in []byte) int {
				l.Write(at, []byte("101;"))
				l.Write(c, []byte("bye"))
				h.attach(c)
				return 1
			}
			h.onClosed = func(_ *netpoll.Conn, why netpoll.Reason) {
				if why == netpoll.ReasonMoved {
					end(l, c)
				}
			}
			s.Send([]byte("abc"))
			w.net.Settle()
			s.Room = -1
			w.net.Settle()
			if want := map[string]string{"kill": "10", "close": "101;bye"}[name]; string(s.Wrote) != want {
				t.Errorf("told %q, want %q", s.Wrote, want)
			}
			s.End()
			w.net.Settle()
			if h.closed[id] != netpoll.ReasonHandler || !s.Closed || l.Open() != 0 || l.Pulls() != 0 {
				t.Errorf("reason %d, closed %v, sockets %d, pulls %d", h.closed[id], s.Closed, l.Open(), l.Pulls())
			}
		})
	}
}

// What keeps a conn from being heard keeps it so with its new socket; the end of the peer is noticed while it is held.
func TestAttachToABlockedConn(t *testing.T) {
	for name, block := range map[string]struct {
		on, off func(l *netpoll.Loop, c *netpoll.Conn)
	}{
		"paused": {(*netpoll.Loop).Pause, (*netpoll.Loop).Resume},
		"held":   {(*netpoll.Loop).Hold, (*netpoll.Loop).Release},
	} {
		t.Run(name, func(t *testing.T) {
			w, h, l := one(t, wide, 1<<40)
			c := h.pull()
			_, s := w.connect(h)
			block.on(l, c)
			var heard []byte
			h.onData = func(at *netpoll.Conn, in []byte) int {
				if at != c {
					h.attach(c)
					return 1
				}
				heard = append(heard, in...)
				return len(in)
			}
			s.Send([]byte("abc"))
			w.net.Settle()
			s.Send([]byte("def"))
			w.net.Settle()
			if len(heard) != 0 {
				t.Fatalf("heard %q", heard)
			}
			w.do(h, func() { block.off(l, c) })
			w.net.Settle()
			if string(heard) != "bcdef" {
				t.Fatalf("heard %q", heard)
			}
			block.on(l, c)
			s.End()
			w.net.Settle()
			if s.Closed != (name == "held") {
				t.Fatalf("closed %v", s.Closed)
			}
		})
	}
}

// The socket may be attached when its conn is heard on after a Pause, and by an event that told of an error only: it is
// read as any other afterwards.
func TestAttachedIsRead(t *testing.T) {
	for _, throttled := range []bool{false, true} {
		t.Run(fmt.Sprintf("throttled=%v", throttled), func(t *testing.T) {
			w, h, l := one(t, wide, 1<<40)
			c := h.pull()
			probe, s := w.connect(h)
			var heard []byte
			h.onData = func(at *netpoll.Conn, in []byte) int {
				switch {
				case at == c:
					heard = append(heard, in...)
				case len(in) == 0: // of the Resume
					return 0
				case in[0] == 'w' && throttled:
					s.Room = 0
					l.Write(at, make([]byte, 100_000))
					l.Throttle(at)
				case in[0] == 'w':
					l.Pause(at)
				default:
					h.attach(c)
				}
				return 1
			}
			s.Send([]byte("w"))
			w.net.Settle()
			s.Send([]byte("ab"))
			w.net.Settle() // blocked and not watched for reading
			if throttled {
				s.Room = -1
				l.Ready(s.FD, true, true) // as for EPOLLHUP
			} else {
				w.do(h, func() { l.Resume(probe) })
			}
			w.net.Settle()
			s.Send([]byte("c"))
			w.net.Settle()
			if string(heard) != "bc" {
				t.Fatalf("heard %q", heard)
			}
		})
	}
}

// A conn that was attached is a socket's like any other: it can move.
func TestAttachThenMove(t *testing.T) {
	w, a, b := two(t)
	c := a.pull()
	id := c.ID(a.loop)
	_, s := w.connect(a)
	a.onData = func(at *netpoll.Conn, in []byte) int {
		a.loop.Write(at, in[:1])
		if at != c {
			a.attach(c)
		} else {
			a.move(b)
		}
		return 1
	}
	b.onData = func(at *netpoll.Conn, in []byte) int {
		b.loop.Write(at, in)
		return len(in)
	}
	s.Room = 0
	s.Send([]byte("abcd"))
	w.net.Settle()
	s.Room = -1
	w.net.Settle()
	if string(s.Wrote) != "abcd" || a.closed[id] != netpoll.ReasonMoved || a.loop.Open() != 0 || a.loop.Pulls() != 0 || b.loop.Open() != 1 {
		t.Fatalf("told %q, reason %d, %d and %d sockets, %d pulls", s.Wrote, a.closed[id], a.loop.Open(), b.loop.Open(), a.loop.Pulls())
	}
}

// The slot of a conn that has moved may be somebody else's before its event is over.
func TestSlotReusedWithinTheEvent(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c := h.pull()
	probe, s := w.connect(h)
	slot := probe.Slot()
	var next *netpoll.Conn
	h.onData = func(at *netpoll.Conn, in []byte) int {
		switch {
		case at == probe && next == nil:
			l.Write(at, []byte("101;"))
			l.Pause(at)
			l.Resume(at)
			h.attach(c)
		case at == c && next == nil:
			next = h.pull()
			l.Write(next, []byte("for a peer to come;"))
			l.Write(c, []byte("heard;"))
		default:
			t.Errorf("a conn that was fed nothing heard %q", in)
		}
		return len(in)
	}
	h.onWrite = (&basket{}).write
	s.Send([]byte("x"))
	w.net.Settle()
	if next == nil || next.Slot() != slot || string(s.Wrote) != "101;heard;" || next.Queued() != len("for a peer to come;") {
		t.Fatalf("next %+v, told %q", next, s.Wrote)
	}
}

// What an attached conn is given stays as it is while its handler feeds others, although it lay in the memory of a conn
// that is gone.
func TestAttachedBytesAreItsOwn(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c, other := h.pull(), h.pull()
	_, s := w.connect(h)
	var heard []byte
	h.onData = func(at *netpoll.Conn, in []byte) int {
		switch {
		case at == other:
			return 0
		case at == c:
			l.Feed(other, []byte("XXXXXXXX"))
			heard = append(heard, in...)
			return len(in)
		case len(in) == 8:
			h.attach(c)
		}
		return 0
	}
	for _, part := range []string{"abcd", "efgh"} {
		s.Send([]byte(part))
		w.net.Settle()
	}
	if string(heard) != "abcdefgh" || other.Unread() != 8 {
		t.Fatalf("heard %q", heard)
	}
}
