package netpoll_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// two is a world of two loops.
func two(t testing.TB) (w *world, a, b *witness) {
	w = newWorld(t, 2, wide, 1<<40)
	return w, w.on[0], w.on[1]
}

// A moved conn takes along what it has received and not been heard, and what it was told and has not been sent. Who
// tells it something on the other side comes after that.
func TestMove(t *testing.T) {
	for name, room := range map[string]int{"nothing unsent": -1, "some unsent": 5, "all unsent": 0} {
		for _, same := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/same loop=%v", name, same), func(t *testing.T) {
				w, a, b := two(t)
				if same {
					b = a
				}
				var g netpoll.Group
				c, s := w.connect(a)
				id := c.ID(a.loop)
				a.loop.Join(c, &g)
				a.loop.SetDue(c, a.loop.Now()+1)
				s.Room = min(room, 2)
				if room >= 0 {
					w.do(a, func() { a.loop.Push(&g, []byte("before;")) })
					s.Room += room - min(room, 2)
				}
				a.onData = func(c *netpoll.Conn, in []byte) int {
					a.loop.Push(&g, []byte("pushed;"))
					a.loop.Write(c, []byte("answer;"))
					a.move(b)
					a.loop.Write(c, []byte("after;"))
					a.loop.Push(&g, []byte("last;"))
					return 4
				}
				b.onOpen = func(c *netpoll.Conn) { b.loop.Write(c, []byte("welcome;")) }
				s.Send([]byte("moveand more"))
				w.net.Events()
				if why, gone := a.closed[id]; !gone || why != netpoll.ReasonMoved || a.loop.Find(id) != nil || g.Len() != 0 {
					t.Fatalf("gone %v, reason %d, members %d", gone, why, g.Len())
				}
				if a.loop.Open()+b.loop.Open() != 1 && !same || b.loop.Open() != 1 {
					t.Fatalf("%d and %d sockets", a.loop.Open(), b.loop.Open())
				}
				s.Send([]byte(" and more")) // while it belongs to nobody
				w.net.Events()
				var heard []byte
				b.onData = func(c *netpoll.Conn, in []byte) int {
					if len(in) == 0 {
						return 0
					}
					heard = append(heard, in...)
					b.loop.Write(c, []byte("heard;"))
					return len(in)
				}
				w.net.TurnLoop(int(b.loop.Index()))
				if string(heard) != "and more" {
					t.Fatalf("heard %q", heard)
				}
				w.net.Settle()
				if string(heard) != "and more and more" {
					t.Fatalf("heard %q", heard)
				}
				s.Room = -1
				w.net.Settle()
				want := "before;pushed;answer;after;last;welcome;heard;heard;"
				if room < 0 {
					want = want[len("before;"):]
				}
				if string(s.Wrote) != want {
					t.Fatalf("told %q, want %q", s.Wrote, want)
				}
				w.net.Seconds(3) // the deadline stayed behind
				if st := a.loop.Stats(); st.Opened+b.loop.Stats().Opened != 1 && !same || st.Opened != 1 || st.Slow != 0 {
					t.Fatalf("opened %d and %d, slow %d", st.Opened, b.loop.Stats().Opened, st.Slow)
				}
				if s.Closed || b.last.Peer().Port() != uint16(s.FD) || b.last.Tag() != 1 {
					t.Fatalf("closed %v, peer %v, tag %d", s.Closed, b.last.Peer(), b.last.Tag())
				}
			})
		}
	}
}

// Pipelined bytes may each belong to another loop.
func TestMoveBackAndForth(t *testing.T) {
	w, a, b := two(t)
	_, s := w.connect(a)
	s.Room = 0
	var heard []byte
	for i, h := range w.on {
		to := w.on[1-i]
		h.onData = func(c *netpoll.Conn, in []byte) int {
			if len(in) == 0 {
				return 0
			}
			heard = append(heard, in[0])
			h.loop.Write(c, in[:1])
			h.move(to)
			return 1
		}
	}
	sent := []byte("abcdefghijklmnopqrstuvwxyz")
	for len(sent) > 0 {
		n := min(5, len(sent))
		s.Send(sent[:n])
		sent = sent[n:]
		s.Room++
		w.net.Settle()
	}
	s.Room = -1
	w.net.Settle()
	if want := "abcdefghijklmnopqrstuvwxyz"; string(heard) != want || string(s.Wrote) != want {
		t.Fatalf("heard %q, told %q", heard, s.Wrote)
	}
	if a.loop.Open() != 1 || b.loop.Open() != 0 || len(a.closed)+len(b.closed) != 26 {
		t.Fatalf("%d and %d sockets, %d ends", a.loop.Open(), b.loop.Open(), len(a.closed)+len(b.closed))
	}
}

// What kept the conn from being heard here does not keep it from being heard there.
func TestMoveWhileBlocked(t *testing.T) {
	w, a, b := two(t)
	c, s := w.connect(a)
	id := c.ID(a.loop)
	a.onData = func(c *netpoll.Conn, in []byte) int {
		a.loop.Write(c, make([]byte, 100_000))
		a.loop.Pause(c)
		a.loop.Hold(c)
		a.loop.Throttle(c)
		a.loop.Resume(c)
		a.move(b)
		return 0
	}
	var heard []byte
	b.onData = func(_ *netpoll.Conn, in []byte) int {
		heard = append(heard, in...)
		return len(in)
	}
	s.Room = 10
	s.Send([]byte("x"))
	w.net.Settle()
	s.Send([]byte("y"))
	w.net.Settle()
	if string(heard) != "xy" || a.closed[id] != netpoll.ReasonMoved {
		t.Fatalf("heard %q, reason %d", heard, a.closed[id])
	}
	s.Room = -1
	w.net.Settle()
	if len(s.Wrote) != 100_000 {
		t.Fatalf("told %d bytes", len(s.Wrote))
	}
}

// A conn that ends in the event that asked for its move ends where it is.
func TestMoveOfTheDead(t *testing.T) {
	for name, end := range map[string]struct {
		end  func(h *witness, c *netpoll.Conn, s *looptest.Socket)
		why  netpoll.Reason
		told string
	}{
		"killed": {func(h *witness, c *netpoll.Conn, _ *looptest.Socket) { h.loop.Kill(c, netpoll.ReasonHandler) }, netpoll.ReasonHandler, ""},
		"closed": {func(h *witness, c *netpoll.Conn, _ *looptest.Socket) { h.loop.Close(c, netpoll.ReasonHandler) }, netpoll.ReasonHandler, "answer"},
		"panic": {func(h *witness, _ *netpoll.Conn, _ *looptest.Socket) {
			h.panics++
			panic("as the test wants it")
		}, netpoll.ReasonPanic, ""},
		"reset":       {func(_ *witness, _ *netpoll.Conn, s *looptest.Socket) { s.Err = syscall.ECONNRESET }, netpoll.ReasonReset, ""},
		"not watched": {func(_ *witness, _ *netpoll.Conn, s *looptest.Socket) { s.WatchErr = errors.New("as the test wants it") }, netpoll.ReasonReset, "answer"},
	} {
		t.Run(name, func(t *testing.T) {
			w, a, b := two(t)
			var g netpoll.Group
			c, s := w.connect(a)
			a.loop.Join(c, &g)
			id := c.ID(a.loop)
			a.onData = func(c *netpoll.Conn, in []byte) int {
				a.loop.Write(c, []byte("answer"))
				a.move(b)
				end.end(a, c, s)
				return 1
			}
			s.Send([]byte("xyz"))
			s.Ready()
			if why, gone := a.closed[id]; !gone || why != end.why || g.Len() != 0 {
				t.Fatalf("gone %v, reason %d, members %d", gone, why, g.Len())
			}
			w.net.Settle()
			s.WatchErr = nil
			s.End()
			w.net.Settle()
			if !s.Closed || string(s.Wrote) != end.told || b.last != nil || a.loop.Open() != 0 || b.loop.Open() != 0 {
				t.Fatalf("closed %v, told %q, moved %v, %d and %d sockets", s.Closed, s.Wrote, b.last != nil, a.loop.Open(), b.loop.Open())
			}
		})
	}
}

// A peer that ends while its conn is between two loops is noticed where it arrives.
func TestMovedPeerEnds(t *testing.T) {
	for name, end := range map[string]struct {
		end func(s *looptest.Socket)
		why netpoll.Reason
	}{
		"fin":         {func(s *looptest.Socket) { s.End() }, netpoll.ReasonPeer},
		"reset":       {func(s *looptest.Socket) { s.Err = syscall.ECONNRESET }, netpoll.ReasonReset},
		"not watched": {func(s *looptest.Socket) { s.WatchErr = errors.New("as the test wants it") }, netpoll.ReasonReset},
	} {
		t.Run(name, func(t *testing.T) {
			w, a, b := two(t)
			_, s := w.connect(a)
			s.Room = 0
			a.onData = func(c *netpoll.Conn, in []byte) int {
				a.loop.Write(c, []byte("never sent"))
				a.move(b)
				return 0
			}
			var moved netpoll.ID
			b.onOpen = func(c *netpoll.Conn) { moved = c.ID(b.loop) }
			s.Send([]byte("x"))
			s.Ready()
			end.end(s)
			w.net.Settle()
			if why, gone := b.closed[moved]; !gone || why != end.why || !s.Closed || b.loop.Open() != 0 {
				t.Fatalf("gone %v, reason %d, closed %v, %d sockets", gone, why, s.Closed, b.loop.Open())
			}
		})
	}
}

// A handler that ends what is opened while it shuts down ends the moved too: what they were told before goes first.
func TestMoveToALoopThatShutsDown(t *testing.T) {
	for name, end := range map[string]func(h *witness, c *netpoll.Conn){
		"close": func(h *witness, c *netpoll.Conn) {
			h.loop.Write(c, []byte("goodbye"))
			h.loop.Close(c, netpoll.ReasonHandler)
		},
		"kill":  func(h *witness, c *netpoll.Conn) { h.loop.Kill(c, netpoll.ReasonHandler) },
		"pause": func(h *witness, c *netpoll.Conn) { h.loop.Pause(c) },
		"panic": func(h *witness, _ *netpoll.Conn) {
			h.panics++
			panic("as the test wants it")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, a, b := two(t)
			_, s := w.connect(a)
			s.Room = 3
			a.onData = func(c *netpoll.Conn, in []byte) int {
				a.loop.Write(c, []byte("answer;"))
				a.move(b)
				return 0
			}
			b.onOpen = func(c *netpoll.Conn) { end(b, c) }
			b.onData = func(_ *netpoll.Conn, in []byte) int {
				t.Errorf("heard %q", in)
				return len(in)
			}
			s.Send([]byte("unread"))
			w.net.Settle()
			s.Room = -1
			w.net.Settle()
			want := map[string]string{"close": "answer;goodbye", "kill": "ans", "pause": "answer;", "panic": "ans"}[name]
			if string(s.Wrote) != want {
				t.Errorf("told %q, want %q", s.Wrote, want)
			}
			if name == "pause" {
				if b.last.Unread() != 6 {
					t.Errorf("%d unread", b.last.Unread())
				}
				return
			}
			s.End()
			w.net.Settle()
			if !s.Closed || b.loop.Open() != 0 || len(b.closed) != 1 {
				t.Errorf("closed %v, %d sockets, %d ends", s.Closed, b.loop.Open(), len(b.closed))
			}
		})
	}
}

// A socket on its way counts as the other loop's, where it waits for as long as that loop does not turn; nothing on the old
// one touches it, also not an event that was reported before.
func TestMoveToALoopThatDoesNotTurn(t *testing.T) {
	w, a, b := two(t)
	_, s := w.connect(a)
	s.Room = 0
	a.onData = func(c *netpoll.Conn, in []byte) int {
		a.loop.Write(c, []byte("unsent"))
		a.move(b)
		return len(in)
	}
	s.Send([]byte("x"))
	s.Ready()
	a.loop.Ready(s.FD, true, true)
	a.loop.Turn()
	a.loop.Tick()
	if a.loop.Open() != 0 || b.loop.Open() != 1 || len(b.conns) != 0 || s.Closed || w.budget.Buffered() != 0 {
		t.Fatalf("%d and %d sockets, closed %v, total %d", a.loop.Open(), b.loop.Open(), s.Closed, w.budget.Buffered())
	}
	b.loop.Turn()
	if len(b.conns) != 1 || w.budget.Buffered() != 6+netpoll.SegmentBytes {
		t.Fatalf("%d arrived, total %d", len(b.conns), w.budget.Buffered())
	}
}

// Whatever a handler does to a conn of which it is told that it has moved, it has moved, and ends once.
func TestMovedIsOver(t *testing.T) {
	for name, do := range map[string]func(h *witness, c *netpoll.Conn){
		"panic": func(h *witness, _ *netpoll.Conn) {
			h.panics++
			panic("as the test wants it")
		},
		"kill":  func(h *witness, c *netpoll.Conn) { h.loop.Kill(c, netpoll.ReasonHandler) },
		"close": func(h *witness, c *netpoll.Conn) { h.loop.Close(c, netpoll.ReasonHandler) },
		"write": func(h *witness, c *netpoll.Conn) { h.loop.Write(c, []byte("lost")) },
		"pause": func(h *witness, c *netpoll.Conn) { h.loop.Pause(c); h.loop.Resume(c) },
	} {
		t.Run(name+"/move", func(t *testing.T) {
			w, a, b := two(t)
			_, s := w.connect(a)
			a.onData = func(c *netpoll.Conn, _ []byte) int {
				a.move(b)
				return 0
			}
			a.onClosed = func(c *netpoll.Conn, _ netpoll.Reason) { do(a, c) }
			b.onData = func(c *netpoll.Conn, in []byte) int {
				b.loop.Write(c, in)
				return len(in)
			}
			s.Send([]byte("echo"))
			w.net.Settle()
			if string(s.Wrote) != "echo" || s.Closed || len(a.closed) != 1 || len(b.conns) != 1 {
				t.Fatalf("told %q, closed %v, %d ends, %d conns", s.Wrote, s.Closed, len(a.closed), len(b.conns))
			}
		})
		t.Run(name+"/attach", func(t *testing.T) {
			w, h, l := one(t, wide, 1<<40)
			c := h.pull()
			_, s := w.connect(h)
			h.onData = func(at *netpoll.Conn, in []byte) int {
				if at != c {
					h.attach(c)
					return 0
				}
				l.Write(at, in)
				return len(in)
			}
			h.onClosed = func(at *netpoll.Conn, _ netpoll.Reason) { do(h, at) }
			s.Send([]byte("echo"))
			w.net.Settle()
			if string(s.Wrote) != "echo" || s.Closed || len(h.closed) != 1 || !c.Alive() {
				t.Fatalf("told %q, closed %v, %d ends, alive %v", s.Wrote, s.Closed, len(h.closed), c.Alive())
			}
			h.onClosed = nil
		})
	}
}
