package netpoll_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// fragments is a handler's Data that consumes all and keeps it, as a WebSocket's fragments are, until a '.' ends the message; what ends
// with a '-' is kept without being owed anything for.
type fragments struct {
	l     *netpoll.Loop
	kept  map[*netpoll.Conn]int
	since map[*netpoll.Conn]uint32
}

func newFragments(h *witness) *fragments {
	f := &fragments{h.loop, map[*netpoll.Conn]int{}, map[*netpoll.Conn]uint32{}}
	h.onData = f.data
	return f
}

func (f *fragments) data(c *netpoll.Conn, b []byte) int {
	for _, x := range b {
		switch x {
		case '.':
			f.kept[c], f.since[c] = 0, 0
		case 'p': // a ping
		default:
			if f.kept[c]++; f.since[c] == 0 && x != '-' {
				f.since[c] = f.l.Now()
			}
		}
	}
	f.l.Keep(c, f.kept[c], f.since[c])
	return len(b)
}

// What a handler keeps counts as what is unread does, for as long as it is kept, and the largest goes first.
func TestBudgetCountsWhatHandlersKeep(t *testing.T) {
	w, h, l := one(t, wide, 100_000)
	newFragments(h)
	send := func(s *looptest.Socket, n int) {
		s.Send(bytes.Repeat([]byte("x"), n))
		w.net.Settle()
	}
	few, s1 := w.connect(h)
	most, s2 := w.connect(h)
	id := most.ID(l)
	some, s3 := w.connect(h)
	send(s1, 20_000)
	send(s2, 60_000)
	if n := w.budget.Inbound(); n != 80_000 || w.budget.Buffered() != n {
		t.Fatalf("%d bytes are kept, and %d are counted, %d in all", 80_000, n, w.budget.Buffered())
	}
	send(s3, 30_000)
	if h.closed[id] != netpoll.ReasonMemory || !few.Alive() || !some.Alive() {
		t.Fatalf("closed: %v", h.closed)
	}
	s1.Send([]byte("."))
	w.net.Settle()
	if n := w.budget.Inbound(); n != 30_000 {
		t.Errorf("30000 bytes are kept, and %d are counted", n)
	}
	s3.Send([]byte("."))
	w.net.Settle()
	if n := w.budget.Buffered(); n != 0 {
		t.Errorf("nothing is kept, and %d bytes are counted", n)
	}
}

// Small inboxes count as well: many of them are as much as few large ones.
func TestBudgetCountsSmallInboxes(t *testing.T) {
	w, h, _ := one(t, wide, 50_000)
	h.onData = func(*netpoll.Conn, []byte) int { return 0 }
	for range 100 {
		_, s := w.connect(h)
		s.Send(make([]byte, 1000))
		w.net.Settle()
	}
	if n := w.budget.Inbound(); n < 40_000 || n > 50_000 {
		t.Errorf("%d bytes are counted", n)
	}
	if n := len(h.closed); n < 50 || n > 60 {
		t.Errorf("%d of 100 were ended", n)
	}
}

// Who has begun something has its time to finish it, counted from the beginning, whatever it sends in between.
func TestLate(t *testing.T) {
	limits := wide
	limits.Unfinished = 20
	w, h, l := one(t, limits, 1<<40)
	newFragments(h)
	connect := func() (netpoll.ID, *looptest.Socket) {
		c, s := w.connect(h)
		return c.ID(l), s
	}
	pings, s1 := connect()
	drips, s2 := connect()
	often, s3 := connect()
	owesNothing, s4 := connect()
	s1.Send([]byte("x"))
	s2.Send([]byte("x"))
	s4.Send([]byte("-"))
	for i := range 40 {
		if i == 20 && (h.closed[pings] != 0 || h.closed[drips] != 0) {
			t.Fatalf("ended before their time: %v", h.closed)
		}
		s1.Send([]byte("p"))
		s2.Send([]byte("x"))
		s3.Send([]byte(".x")) // finishes one, and begins the next
		s4.Send([]byte("p"))
		w.net.Settle()
		w.net.Seconds(1)
	}
	if h.closed[pings] != late || h.closed[drips] != late {
		t.Errorf("did not finish, and were not ended: %v", h.closed)
	}
	if h.closed[often] != 0 || h.closed[owesNothing] != 0 {
		t.Errorf("were ended although they were not late: %v", h.closed)
	}
}

// The same for bytes that the handler leaves unconsumed: each thing it consumes begins the time anew. While it is we who do not read on
// no time runs, and who is read again has all of it.
func TestLateUnconsumed(t *testing.T) {
	limits := wide
	limits.Unfinished = 20
	w, h, l := one(t, limits, 1<<40)
	h.onData = func(_ *netpoll.Conn, b []byte) int { return bytes.LastIndexByte(b, '.') + 1 }
	a, s1 := w.connect(h)
	b, s2 := w.connect(h)
	c, s3 := w.connect(h)
	drips, often, paused := a.ID(l), b.ID(l), c.ID(l)
	s3.Send([]byte("x"))
	w.net.Settle()
	w.do(h, func() { l.Pause(c) })
	for range 30 {
		s1.Send([]byte("x"))
		s2.Send([]byte(".x"))
		w.net.Settle()
		w.net.Seconds(1)
	}
	if h.closed[drips] != late || h.closed[often] != 0 || h.closed[paused] != 0 {
		t.Errorf("ended: %v", h.closed)
	}
	w.do(h, func() { l.Resume(c) })
	w.net.Seconds(20)
	if h.closed[paused] != 0 {
		t.Error("was ended for the time in which it was not read")
	}
	w.net.Seconds(2)
	if h.closed[paused] != late {
		t.Error("was not ended")
	}
}

// However many are late at once, a turn ends few of them.
func TestLateInTurns(t *testing.T) {
	limits := wide
	limits.Unfinished = 2
	w, h, l := one(t, limits, 1<<40)
	h.onData = func(*netpoll.Conn, []byte) int { return 0 }
	const crowd = 500
	for range crowd {
		_, s := w.connect(h)
		s.Send([]byte("x"))
		s.Ready()
	}
	w.net.Settle()
	w.net.Pass(3e9)
	l.Tick()
	if n := len(h.closed); n == 0 || n > 64 {
		t.Errorf("%d were ended at once", n)
	}
	w.net.Settle()
	if n := len(h.closed); n != crowd {
		t.Errorf("%d of %d were ended", n, crowd)
	}
}

// For want of memory a turn ends few as well, the largest first; until it is enough nobody is read for whom more would be kept.
func TestShedInTurns(t *testing.T) {
	const crowd, each, most = 1000, 1000, 200 * 1024
	w, h, l := one(t, wide, crowd*each*4)
	h.onData = func(*netpoll.Conn, []byte) int { return 0 }
	var socks []*looptest.Socket
	sizes := map[netpoll.ID]int{}
	for i := range crowd {
		c, s := w.connect(h)
		sizes[c.ID(l)] = each + i%100
		s.Send(make([]byte, each+i%100))
		w.net.Settle()
		socks = append(socks, s)
	}
	kept := w.budget.Inbound()
	w.budget.SetLimit(most)
	for _, s := range socks {
		s.Send(make([]byte, 1000))
	}
	for turns := 0; w.budget.Buffered() > most; turns++ {
		before := len(h.closed)
		w.net.Events()
		w.net.TurnLoop(0)
		if n := len(h.closed) - before; n == 0 || n > 64 {
			t.Fatalf("%d were ended in turn %d", n, turns)
		}
		if n := w.budget.Inbound(); n > kept {
			t.Fatalf("%d bytes are kept, more than at first", n)
		}
	}
	least := 1 << 20
	for id := range h.closed {
		least = min(least, sizes[id])
	}
	for id, size := range sizes {
		if _, ended := h.closed[id]; !ended && size > least+100 {
			t.Errorf("one with %d bytes is left, and one with %d was ended", size, least)
		}
	}
}

// To end many costs hardly more than to end one: each conn of a crowd is looked at once in a turn, and not once for each that is ended.
// The best of some turns is compared with the best of others, so it does not matter how fast the machine is.
func TestShedLooksOnce(t *testing.T) {
	const crowd, each, turns, ended, much = 20_000, 1000, 20, 64, 12
	w, h, _ := one(t, wide, crowd*each*4)
	h.onData = func(*netpoll.Conn, []byte) int { return 0 }
	for range crowd {
		_, s := w.connect(h)
		s.Send(make([]byte, each))
	}
	w.net.Settle()
	kept := w.budget.Buffered() / crowd // for each
	best := func(n int) time.Duration {
		least := time.Hour
		for range turns {
			before := len(h.closed)
			w.budget.SetLimit(w.budget.Buffered() - int64(n-1)*kept - 1)
			w.net.TurnLoop(0) // finds out that it is too much
			began := time.Now()
			w.net.TurnLoop(0)
			least = min(least, time.Since(began))
			if got := len(h.closed) - before; got != n {
				t.Fatalf("%d were ended, not %d", got, n)
			}
		}
		return least
	}
	one, many := best(1), best(ended)
	t.Logf("of %d: 1 ended in %v, %d in %v", crowd, one, ended, many)
	if many > much*one {
		t.Errorf("to end %d takes %v, to end one %v", ended, many, one)
	}
}

// A queue of short pushes that many share costs each of them more than the bytes.
func TestBudgetCountsSegments(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	var g netpoll.Group
	for range 10 {
		c, s := w.connect(h)
		s.Room = 0
		l.Join(c, &g)
	}
	for range 100 {
		w.do(h, func() { l.Push(&g, []byte("x")) })
		w.net.Settle()
	}
	if n := w.budget.Buffered(); n < 10*100*netpoll.SegmentBytes {
		t.Errorf("%d bytes are counted for 1000 segments", n)
	}
}

// A slot whose generations are used up is not used again.
func TestLastGeneration(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c, _ := w.connect(h)
	slot := c.Slot()
	w.do(h, func() { l.Kill(c, netpoll.ReasonHandler) })
	c.SetGeneration(1<<32 - 5)
	old, _ := w.connect(h)
	if old.Slot() != slot {
		t.Fatal("the slot was not used again")
	}
	w.do(h, func() { l.Kill(old, netpoll.ReasonHandler) })
	if next, _ := w.connect(h); next.Slot() == slot {
		t.Errorf("slot %d was used once more, by %x", slot, next.ID(l))
	}
}
