package netpoll_test

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// lines is n bytes of numbered lines, so that none can be mistaken for another.
func lines(n int) []byte {
	b := make([]byte, 0, n+10)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%d\n", i)
	}
	return b[:n]
}

// What is lent stands between what was staged before and after it, in one write if it is not very long, and nothing of it is
// lost or doubled however many bytes the socket takes.
func TestLend(t *testing.T) {
	for _, size := range []int{1, 4 << 10, 30_000, 200_000} {
		long := lines(size)
		want := "push 1;answer(" + string(long) + ")push 2;more"
		for _, room := range []int{-1, 0, 1, 13, 14, 15, 5000, size + 13, size + 14, size + 15, len(want) - 1} {
			t.Run(fmt.Sprintf("size=%d,room=%d", size, room), func(t *testing.T) {
				h, n, l := newScripted(wide, 1<<40)
				var g netpoll.Group
				c, s := h.connect(n)
				l.Join(c, &g)
				s.Room = room
				h.onData = func(c *netpoll.Conn, b []byte) int {
					l.Push(&g, []byte("push 1;"))
					l.Write(c, []byte("answer("))
					l.Lend(c, long)
					l.Write(c, []byte(")"))
					l.Push(&g, []byte("push 2;"))
					l.Write(c, []byte("more"))
					if c.Queued() != len(want) {
						t.Errorf("%d bytes are queued, want %d", c.Queued(), len(want))
					}
					return len(b)
				}
				s.Send([]byte("x"))
				n.Events()
				n.Turn()
				if room == -1 && size <= 30_000 && s.Writes != 1 {
					t.Errorf("%d writes", s.Writes)
				}
				if room >= 0 {
					if got := string(s.Wrote); got != want[:min(room, len(want))] {
						t.Errorf("the socket took %d bytes, want %d", len(got), min(room, len(want)))
					}
					s.Room = -1
				}
				n.Settle()
				if string(s.Wrote) != want {
					t.Errorf("got %d bytes, want %d", len(s.Wrote), len(want))
				}
				if !bytes.Equal(long, lines(size)) {
					t.Error("what was lent was changed")
				}
				if st := l.Stats(); st.Unsent != 0 {
					t.Errorf("%d bytes are left", st.Unsent)
				}
			})
		}
	}
}

// Two loans in one turn stay in order; one to a conn that has ended is nothing; and a peer that fetches is offered whole
// pushes only.
func TestLendTwiceAndToOthers(t *testing.T) {
	long := lines(100_000)
	w, h, l := one(t, wide, 1<<40)
	c, s := w.connect(h)
	gone, sg := w.connect(h)
	pull := h.pull()
	offered := 0
	h.onWrite = func(_ *netpoll.Conn, b []byte) int {
		if offered = len(b); !bytes.Equal(b, append([]byte("<"), long...)) {
			t.Errorf("offered %d bytes", len(b))
		}
		return len(b)
	}
	w.do(h, func() {
		l.Close(gone, netpoll.ReasonHandler)
		for _, c := range []*netpoll.Conn{c, gone} {
			l.Lend(c, long) // with nothing before it
			l.Lend(c, long)
			l.Write(c, []byte("end"))
		}
		l.Write(pull, []byte("<"))
		l.Lend(pull, long)
	})
	w.net.Settle()
	if want := string(long) + string(long) + "end"; string(s.Wrote) != want {
		t.Errorf("got %d bytes, want %d", len(s.Wrote), len(want))
	}
	if len(sg.Wrote) != 0 {
		t.Errorf("a conn that has ended got %d bytes", len(sg.Wrote))
	}
	if offered != len(long)+1 {
		t.Errorf("the peer that fetches was offered %d bytes", offered)
	}
}

// What is lent to a conn that has unsent bytes comes behind them, also when they are taken before the turn, and before what its
// group has for it later.
func TestLendBehindABacklog(t *testing.T) {
	long := lines(10_000)
	w, h, l := one(t, wide, 1<<40)
	c, s := w.connect(h)
	_, other := w.connect(h)
	var g netpoll.Group
	s.Room = 3
	w.do(h, func() {
		l.Join(c, &g)
		l.Write(c, []byte("backlog;"))
	})
	h.onData = func(_ *netpoll.Conn, b []byte) int {
		l.Lend(c, long)
		l.Push(&g, []byte("push"))
		return len(b)
	}
	other.Send([]byte("x"))
	other.Ready()
	s.Room = -1
	s.Ready()
	if string(s.Wrote) != "backlog;" || c.Queued() != len(long) {
		t.Errorf("before the turn: %.20q, %d bytes are queued", s.Wrote, c.Queued())
	}
	w.net.Settle()
	if want := "backlog;" + string(long) + "push"; string(s.Wrote) != want {
		t.Errorf("got %d bytes, want %d", len(s.Wrote), len(want))
	}
}

// The same long bytes are there once, however many conns wait for the turn that writes them.
func TestLendingAllocatesLittle(t *testing.T) {
	const conns = 500
	long := lines(36_000)
	h, n, l := newScripted(wide, 1<<40)
	for range conns {
		_, s := h.connect(n)
		s.Wrote = make([]byte, 0, 3*len(long))
	}
	lend := func() {
		for _, c := range h.opened {
			l.Write(c, []byte("head"))
			l.Lend(c, long)
			l.Write(c, []byte("tail"))
		}
	}
	h.onTurn = lend
	l.Ring()
	n.Turn() // makes outboxes, as many as are pooled
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	h.onTurn = lend
	l.Ring()
	n.Turn()
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / conns; each > 1000 {
		t.Errorf("%d bytes allocated for each conn", each)
	}
	if got, want := l.Stats().BytesWritten, uint64(2*conns*(len(long)+8)); got != want {
		t.Errorf("%d bytes written, want %d", got, want)
	}
}

// Who takes nothing refers to what was lent, which counts once however many they are and wherever it ends for each, and no longer than
// somebody refers to it.
func TestLoansAreShared(t *testing.T) {
	const conns = 50
	text := lines(100_000)
	w, h, l := one(t, wide, 1<<40)
	var all []*netpoll.Conn
	var socks []*looptest.Socket
	for range conns {
		c, s := w.connect(h)
		s.Room = 0
		all, socks = append(all, c), append(socks, s)
	}
	ends := func(i int) int { return 90_000 + i*100 }
	w.do(h, func() {
		for i, c := range all {
			l.Write(c, []byte("head"))
			l.Lend(c, text[:ends(i)])
			l.Write(c, []byte("tail"))
		}
	})
	if got, want := l.Stats().Unsent, ends(conns-1)+conns*len("headtail"); got != want {
		t.Errorf("%d bytes are unsent, want %d", got, want)
	}
	for i, s := range socks[1:] {
		s.Room = 50_000 // in two steps
		s.Ready()
		s.Room = -1
		s.Ready()
		if want := "head" + string(text[:ends(i+1)]) + "tail"; string(s.Wrote) != want {
			t.Errorf("conn %d got %d bytes, want %d", i+1, len(s.Wrote), len(want))
		}
	}
	if got, want := l.Stats().Unsent, ends(conns-1)+len("headtail"); got != want {
		t.Errorf("%d bytes are unsent when one is left, want %d", got, want)
	}
	w.do(h, func() { l.Kill(all[0], netpoll.ReasonHandler) })
	if got := l.Stats().Unsent; got != 0 {
		t.Errorf("%d bytes are unsent when none is left", got)
	}
	w.end(t)
}

// The write with which a queue begins may be of any size, and does not count until it has gone: what comes behind it may be as much
// as ever.
func TestLongWriteDoesNotCount(t *testing.T) {
	long := lines(5000)
	w, h, l := one(t, netpoll.Limits{Outbound: 1000, Stuck: 20}, 1<<40)
	c, s := w.connect(h)
	var g netpoll.Group
	l.Join(c, &g)
	write := func(n int) { w.do(h, func() { l.Push(&g, make([]byte, n)) }) }
	s.Room = 100
	w.do(h, func() {
		l.Write(c, []byte("head"))
		l.Lend(c, long)
		l.Write(c, []byte("tail"))
	})
	for range 10 {
		write(100)
	}
	s.Room = len(long) - 100 // all but 8 bytes
	s.Ready()
	if !c.Alive() || c.Queued() != 8+1000 {
		t.Fatalf("alive %v, %d bytes are queued", c.Alive(), c.Queued())
	}
	s.Room = 108 // and 100 that count
	s.Ready()
	write(100)
	if !c.Alive() {
		t.Fatal("ended although there was room again")
	}
	write(1)
	w.net.Settle()
	if why := h.closed[c.ID(l)]; c.Alive() || l.Stats().Closed[netpoll.ReasonSlow] != 1 {
		t.Errorf("not ended beyond the bound: %d", why)
	}
}
