package netpoll_test

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// Fed bytes are delivered like those of a socket: what the handler leaves comes again, in order.
func TestFeed(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c := h.pull()
	var got []byte
	h.onData = func(_ *netpoll.Conn, b []byte) int { // words of three bytes
		n := len(b) / 3 * 3
		got = append(got, b[:n]...)
		return n
	}
	for _, part := range []string{"a", "", "bcde", "f", "ghijk"} {
		w.do(h, func() { l.Feed(c, []byte(part)) })
	}
	if string(got) != "abcdefghi" || c.Unread() != 2 {
		t.Fatalf("got %q, %d unread", got, c.Unread())
	}
}

// A body that lies in the read buffer of the conn that brought it outlives that conn's event.
func TestFeedFromAnotherConnsBytes(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c := h.pull()
	_, s := w.connect(h)
	var got []byte
	h.onData = func(at *netpoll.Conn, b []byte) int {
		if at != c {
			l.Feed(c, b)
			return len(b)
		}
		if len(b) < 8 {
			return 0
		}
		got = append(got, b...)
		return len(b)
	}
	for _, part := range []string{"ab", "cdef", "gh"} {
		s.Send([]byte(part))
		w.net.Settle()
	}
	if string(got) != "abcdefgh" {
		t.Fatalf("got %q", got)
	}
}

// A panic on fed bytes costs the conn they were fed to, not the one that brought them.
func TestPanicOnFedBytes(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c := h.pull()
	id := c.ID(l)
	post, s := w.connect(h)
	h.onData = func(at *netpoll.Conn, b []byte) int {
		if at == c {
			h.panics++
			panic("as the test wants it")
		}
		l.Feed(c, b)
		l.Feed(c, b) // it hears no more
		l.Write(at, []byte("ok"))
		return len(b)
	}
	s.Send([]byte("x"))
	w.net.Settle()
	if h.closed[id] != netpoll.ReasonPanic || h.panics != 1 || !post.Alive() || string(s.Wrote) != "ok" {
		t.Fatalf("reason %d, panics %d, alive %v, wrote %q", h.closed[id], h.panics, post.Alive(), s.Wrote)
	}
}

// What is fed to a conn that is not to be heard waits, in order, until it is.
func TestFeedWaits(t *testing.T) {
	for name, block := range map[string]struct {
		on, off func(w *world, h *witness, c *netpoll.Conn)
	}{
		"paused": {
			func(_ *world, h *witness, c *netpoll.Conn) { h.loop.Pause(c) },
			func(_ *world, h *witness, c *netpoll.Conn) { h.loop.Resume(c) },
		},
		"held": {
			func(_ *world, h *witness, c *netpoll.Conn) { h.loop.Hold(c) },
			func(_ *world, h *witness, c *netpoll.Conn) { h.loop.Release(c) },
		},
		"throttled": {
			func(_ *world, h *witness, c *netpoll.Conn) {
				h.loop.Write(c, make([]byte, 70_000))
				if !h.loop.Throttle(c) || !c.Throttled() {
					h.t.Error("not throttled")
				}
			},
			func(_ *world, h *witness, c *netpoll.Conn) {
				h.onWrite = (&basket{takes: -1}).write
				h.loop.Fetch(c)
				if c.Throttled() {
					h.t.Error("throttled when all was fetched")
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, h, l := one(t, wide, 1<<40)
			c := h.pull()
			var got []byte
			h.onData = func(_ *netpoll.Conn, b []byte) int {
				got = append(got, b...)
				return len(b)
			}
			w.do(h, func() { block.on(w, h, c); l.Feed(c, []byte("a")) })
			w.do(h, func() { l.Feed(c, []byte("b")) })
			w.net.Settle()
			if len(got) != 0 || c.Unread() != 2 {
				t.Fatalf("got %q, %d unread", got, c.Unread())
			}
			w.do(h, func() { block.off(w, h, c); l.Feed(c, []byte("c")) })
			w.net.Settle()
			if string(got) != "abc" || c.Unread() != 0 {
				t.Fatalf("got %q, %d unread", got, c.Unread())
			}
		})
	}
}

// A conn whose peer does not fetch the answers is not heard; taking all of them, and not only some, ends that.
func TestThrottlePull(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c, k := h.pull(), &basket{}
	h.onWrite = k.write
	var heard int
	h.onData = func(c *netpoll.Conn, b []byte) int {
		n := 0
		for n < len(b) {
			n++
			heard++
			l.Write(c, make([]byte, 30_000))
			if l.Throttle(c) {
				break
			}
		}
		return n
	}
	w.do(h, func() { l.Feed(c, make([]byte, 6)) })
	if heard != 3 || l.Stats().Throttled != 1 {
		t.Fatalf("%d were answered before it was throttled", heard)
	}
	k.takes = 60_000
	w.do(h, func() { l.Fetch(c) })
	w.net.Settle()
	if heard != 3 || c.Queued() != 30_000 {
		t.Fatalf("%d were answered, %d bytes wait", heard, c.Queued())
	}
	k.takes = 0
	w.do(h, func() { k.takes = -1; l.Fetch(c); k.takes = 0 })
	w.net.Settle()
	if heard != 6 || len(k.got) != 90_000 || !c.Throttled() {
		t.Fatalf("%d were answered, %d bytes taken, throttled %v", heard, len(k.got), c.Throttled())
	}
	w.do(h, func() { // also when they are taken to be sent in another form
		if b := l.TakeOutput(c); len(b) != 90_000 || c.Throttled() {
			t.Errorf("%d bytes, throttled %v", len(b), c.Throttled())
		}
	})
}

// A conn that waits for a turn, because it or its client has had its share, and is sent much meanwhile, is not heard in that turn: it is
// when its peer has taken all of it.
func TestThrottleBehindATurn(t *testing.T) {
	for name, tc := range map[string]struct {
		takes  time.Duration // each thing that it asks for
		putOff uint64
	}{
		"its share":    {10 * time.Microsecond, 0},
		"its client's": {0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w, h, l := one(t, wide, 1<<40)
			c, k := h.pull(), &basket{}
			h.onWrite = k.write
			heard := 0
			h.onData = func(c *netpoll.Conn, b []byte) int {
				for used := range b {
					heard++
					w.net.Pass(tc.takes)
					if l.Throttle(c) {
						return used + 1
					}
				}
				return len(b)
			}
			const things, sent = 100, 100_000
			before := 0
			w.do(h, func() {
				l.Feed(c, make([]byte, things))
				before = heard
				l.Write(c, make([]byte, sent))
			})
			if stats := l.Stats(); before == things || stats.Yielded != 1-tc.putOff || stats.PutOff != tc.putOff {
				t.Fatalf("%d of %d were heard, yielded %d, put off %d", before, things, stats.Yielded, stats.PutOff)
			}
			w.net.Settle()
			if heard != before || !c.Throttled() || c.Queued() != sent {
				t.Fatalf("%d more were heard, throttled %v, %d bytes wait", heard-before, c.Throttled(), c.Queued())
			}
			k.takes = -1
			w.do(h, func() { l.Fetch(c) })
			w.net.Settle()
			if heard != things || c.Throttled() || len(k.got) != sent {
				t.Errorf("%d of %d were heard, throttled %v, %d bytes taken", heard, things, c.Throttled(), len(k.got))
			}
		})
	}
}

// TakeOutput gives all that the conn has not been given, in order, and leaves nothing of it behind.
func TestTakeOutput(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	var g netpoll.Group
	c, k := h.pull(), &basket{takes: 2}
	l.Join(c, &g)
	h.onWrite = k.write
	w.do(h, func() { l.Push(&g, []byte("1;2;")) })
	k.takes = 0
	w.do(h, func() { l.Write(c, []byte("3;")) })
	w.do(h, func() {
		l.Push(&g, []byte("4;"))
		l.Write(c, []byte("5;"))
		l.Push(&g, []byte("6;"))
		if b := l.TakeOutput(c); string(b) != "2;3;4;5;6;" || c.Group() != nil || c.Queued() != 0 || g.Len() != 0 {
			t.Errorf("took %q; group %p, %d bytes wait, %d members", b, c.Group(), c.Queued(), g.Len())
		}
		if b := l.TakeOutput(c); len(b) != 0 {
			t.Errorf("a second time it gives %q", b)
		}
		k.takes = -1
		l.Write(c, []byte("in another form"))
	})
	if string(k.got) != "1;in another form" || l.Stats().Unsent != 0 {
		t.Fatalf("got %q, unsent %d", k.got, l.Stats().Unsent)
	}
}

// TakeInput gives what has been left unread, once, and the conn hears on after it.
func TestTakeInput(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c, other := h.pull(), h.pull()
	var heard []byte
	h.onData = func(at *netpoll.Conn, b []byte) int {
		if at == other {
			return 0
		}
		heard = append(heard, b...)
		return len(b)
	}
	w.do(h, func() { l.Hold(c); l.Feed(c, []byte("ab")); l.Feed(c, []byte("cd")) })
	var took []byte
	w.do(h, func() {
		took = l.TakeInput(c)
		l.Feed(other, []byte("XXXX")) // into the memory that is free now
		if b := l.TakeInput(c); len(b) != 0 || c.Unread() != 0 {
			t.Errorf("a second time it gives %q, %d unread", b, c.Unread())
		}
		l.Feed(c, []byte("e"))
		l.Release(c)
	})
	w.net.Settle()
	if string(took) != "abcd" || string(heard) != "e" || other.Unread() != 4 {
		t.Fatalf("took %q, heard %q; the other has %d unread", took, heard, other.Unread())
	}
}

// A conn without a socket has a deadline, and bytes in either direction show that its peer is active.
func TestPullTimes(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	var due []uint32
	h.onDue = func(*netpoll.Conn) { due = append(due, l.Now()) }
	c := h.pull()
	l.SetDue(c, l.Now()+5)
	opened := l.Now()
	w.do(h, func() { l.Write(c, []byte("waits")) })
	w.net.Seconds(10)
	if len(due) != 1 || due[0] != 1+5 || c.Active() != opened {
		t.Fatalf("due at %v, active at %d", due, c.Active())
	}
	w.do(h, func() { l.Feed(c, []byte("x")) })
	if c.Active() != l.Now() {
		t.Fatalf("fed at %d, active at %d", l.Now(), c.Active())
	}
	w.net.Seconds(10)
	h.onWrite = (&basket{takes: -1}).write
	w.do(h, func() { l.Fetch(c) })
	if c.Active() != l.Now() {
		t.Fatalf("fetched at %d, active at %d", l.Now(), c.Active())
	}
}

// A held conn's handler is not called, but the end of its peer is noticed, also a conn that was paused meanwhile.
func TestHoldNoticesTheEnd(t *testing.T) {
	for name, end := range map[string]struct {
		end func(s *looptest.Socket)
		why netpoll.Reason
	}{
		"fin":                 {func(s *looptest.Socket) { s.End() }, netpoll.ReasonPeer},
		"reset":               {func(s *looptest.Socket) { s.Err = syscall.ECONNRESET }, netpoll.ReasonReset},
		"fin after a request": {func(s *looptest.Socket) { s.Send([]byte("next")); s.End() }, netpoll.ReasonPeer},
	} {
		for _, paused := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/paused=%v", name, paused), func(t *testing.T) {
				w, h, l := one(t, wide, 1<<40)
				c, s := w.connect(h)
				id := c.ID(l)
				h.onData = func(c *netpoll.Conn, b []byte) int {
					if c.Unread() > 0 {
						t.Errorf("heard %q while held", b)
					}
					l.Hold(c)
					return len(b)
				}
				s.Send([]byte("GET"))
				w.net.Settle()
				if paused {
					w.do(h, func() { l.Pause(c) })
					s.Send([]byte("x"))
					w.net.Settle() // it is not read, and so that it does not spin, not watched
					w.do(h, func() { l.Resume(c) })
					w.net.Settle()
					if c.Unread() != 1 {
						t.Fatalf("held and no longer paused: %d unread", c.Unread())
					}
				}
				end.end(s)
				w.net.Settle()
				if why, gone := h.closed[id]; !gone || why != end.why || !s.Closed {
					t.Fatalf("gone %v, reason %d, closed %v", gone, why, s.Closed)
				}
			})
		}
	}
}

// What a held conn's peer sends meanwhile is read within a bound and delivered in order when it is released.
func TestHoldIsBounded(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c, s := w.connect(h)
	var got []byte
	hold := true
	h.onData = func(c *netpoll.Conn, b []byte) int {
		got = append(got, b...)
		if hold {
			hold = false
			l.Hold(c)
		}
		return len(b)
	}
	var want []byte
	send := func(n int) {
		for range n {
			want = append(want, byte(len(want)/7))
		}
		s.Send(want[len(want)-n:])
	}
	send(10)
	w.net.Settle()
	for range 100 {
		send(1000)
		w.net.Settle() // would never settle if the loop were told again and again
	}
	if len(got) != 10 || c.Unread() < 16<<10 || c.Unread() > 16<<10+1000 {
		t.Fatalf("heard %d bytes, %d unread", len(got), c.Unread())
	}
	w.do(h, func() { l.Release(c) })
	w.net.Settle()
	if !bytes.Equal(got, want) || c.Unread() != 0 {
		t.Fatalf("heard %d of %d bytes, %d unread", len(got), len(want), c.Unread())
	}
	s.End() // it is watched again
	w.net.Settle()
	if !s.Closed {
		t.Fatal("the end was not noticed after the release")
	}
}

// Pipelined requests are heard one by one, each when the one before it has been answered.
func TestHoldPipelined(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c, s := w.connect(h)
	var got []byte
	h.onData = func(c *netpoll.Conn, b []byte) int {
		if len(b) == 0 {
			return 0
		}
		got = append(got, b[0])
		l.Hold(c)
		return 1
	}
	s.Send([]byte("abc"))
	w.net.Settle()
	s.Send([]byte("d"))
	w.net.Settle()
	for i, want := range []string{"a", "ab", "abc", "abcd", "abcd"} {
		if string(got) != want || c.Unread() != max(0, 3-i) {
			t.Fatalf("heard %q, want %q; %d unread", got, want, c.Unread())
		}
		w.do(h, func() { l.Release(c); l.Release(c) })
		w.net.Settle()
	}
}

// Throttled and held, a conn is read again for its end when the throttle is over, and heard when both are.
func TestHoldAndThrottle(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c, s := w.connect(h)
	id := c.ID(l)
	s.Room = 1000
	h.onData = func(c *netpoll.Conn, b []byte) int {
		l.Write(c, make([]byte, 100_000))
		l.Hold(c)
		l.Throttle(c)
		return len(b)
	}
	s.Send([]byte("a"))
	w.net.Settle()
	s.Send([]byte("b"))
	w.net.Settle()
	if c.Unread() != 0 || !c.Throttled() {
		t.Fatalf("%d unread, throttled %v", c.Unread(), c.Throttled())
	}
	s.Room = -1
	w.net.Settle()
	if c.Unread() != 1 || c.Throttled() {
		t.Fatalf("%d unread, throttled %v", c.Unread(), c.Throttled())
	}
	s.End()
	w.net.Settle()
	if why, gone := h.closed[id]; !gone || why != netpoll.ReasonPeer {
		t.Fatalf("gone %v, reason %d", gone, why)
	}
}

// A Resume that a conn did not live to see is not another's, who got its slot.
func TestResumeIsNotInherited(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	old, s := w.connect(h)
	slot := old.Slot()
	h.onData = func(c *netpoll.Conn, b []byte) int {
		l.Pause(c)
		l.Resume(c)
		l.Kill(c, netpoll.ReasonHandler)
		return len(b)
	}
	s.Send([]byte("x"))
	s.Ready()
	next := h.pull()
	if next.Slot() != slot {
		t.Fatalf("slot %d, then %d", slot, next.Slot())
	}
	h.onData = func(_ *netpoll.Conn, b []byte) int {
		t.Errorf("a conn that nobody resumed was given %q", b)
		return len(b)
	}
	w.net.Settle()
}
