package netpoll_test

import (
	"runtime"
	"testing"

	"github.com/pomelod/pomelod/internal/race"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// Bytes a handler leaves are given again, in order, whatever the splits.
func TestUnconsumedBytesComeAgain(t *testing.T) {
	h, n, _ := newScripted(wide, 1<<40)
	var got []byte
	h.onData = func(_ *netpoll.Conn, b []byte) int { // words of three bytes
		k := len(b) / 3 * 3
		got = append(got, b[:k]...)
		return k
	}
	_, s := h.connect(n)
	for _, part := range []string{"a", "", "bcde", "f", "ghijk"} {
		s.Send([]byte(part))
		n.Settle()
	}
	if string(got) != "abcdefghi" {
		t.Fatalf("got %q", got)
	}
}

// A paused conn is not read beyond one read, is not spun on, and gets everything when it is resumed.
func TestPauseAndResume(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	var got []byte
	h.onData = func(c *netpoll.Conn, b []byte) int {
		if len(b) == 0 {
			return 0
		}
		got = append(got, b[0])
		l.Pause(c)
		return 1
	}
	c, s := h.connect(n)
	s.Send([]byte("ab"))
	n.Settle()
	s.Send([]byte("c"))
	n.Settle() // would never settle if the loop kept reading or was told again and again
	if string(got) != "a" {
		t.Fatalf("got %q while paused", got)
	}
	for _, want := range []string{"ab", "abc"} {
		h.onTurn = func() { l.Resume(c) }
		l.Ring()
		n.Settle()
		if string(got) != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// Close sends what was staged, then the end of the stream, and waits for the peer; an id of the ended conn names nobody.
func TestCloseLingers(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	c, s := h.connect(n)
	id := c.ID(l)
	s.Room = 2
	h.onTurn = func() {
		l.Write(c, []byte("goodbye"))
		l.Close(c, netpoll.ReasonHandler)
	}
	l.Ring()
	n.Turn()
	if l.Find(id) != nil || h.closed[c] != netpoll.ReasonHandler {
		t.Fatal("the session should have ended")
	}
	if s.ShutDown || s.Closed {
		t.Fatal("ended before everything was sent")
	}
	s.Room = -1
	s.Send([]byte("ignored"))
	n.Settle()
	if string(s.Wrote) != "goodbye" || !s.ShutDown || s.Closed {
		t.Fatalf("wrote %q, shut down %v, closed %v", s.Wrote, s.ShutDown, s.Closed)
	}
	s.End()
	n.Settle()
	if !s.Closed || l.Open() != 0 {
		t.Fatal("the socket should be closed now")
	}
}

// A peer that never closes its end does not keep the socket.
func TestLingerEnds(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	c, s := h.connect(n)
	h.onTurn = func() { l.Close(c, netpoll.ReasonHandler) }
	l.Ring()
	n.Seconds(4)
	if !s.Closed || l.Open() != 0 {
		t.Fatal("still open")
	}
}

// Deadlines fire once, not early, move both ways, and reach beyond the wheel.
func TestDeadlines(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	fired := map[*netpoll.Conn][]uint32{}
	h.onDue = func(c *netpoll.Conn) { fired[c] = append(fired[c], l.Now()) }
	want := map[*netpoll.Conn]uint32{}
	for i := range 600 {
		c, _ := h.connect(n)
		l.SetDue(c, l.Now()+uint32(1+i*7%400))
		due := l.Now() + uint32(1+i*13%500)
		l.SetDue(c, due)
		if i%10 == 0 {
			l.SetDue(c, 0)
			due = 0
		}
		want[c] = due
	}
	n.Seconds(600)
	for c, due := range want {
		if got := fired[c]; due == 0 && len(got) > 0 || due > 0 && (len(got) != 1 || got[0] != due) {
			t.Fatalf("due %d, fired %v", due, got)
		}
	}
}

// Many that are due at once are called in many turns, between which others are served, and each at its tick.
func TestManyDeadlinesAtOnce(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	many := race.Fewer(20_000)
	due, most, between := 0, 0, 0
	h.onDue = func(c *netpoll.Conn) {
		if due++; due%3 > 0 { // some are due again
			l.SetDue(c, l.Now()+1)
		} else {
			l.Close(c, netpoll.ReasonSlow)
		}
	}
	for range many {
		c, _ := h.connect(n)
		l.SetDue(c, l.Now()+2)
	}
	talker, socket := h.connect(n)
	h.onData = func(c *netpoll.Conn, b []byte) int {
		if c == talker && due > 0 && due < many {
			between++
		}
		return len(b)
	}
	n.Seconds(1)
	n.Pass(1e9)
	l.Tick()
	for before := 0; due < many; before = due {
		socket.Send([]byte("x"))
		n.Events()
		if !n.Turn() && due < many {
			t.Fatalf("nobody rang, and %d of %d were called", due, many)
		}
		most = max(most, due-before)
	}
	if most > 100 || between < many/100 {
		t.Errorf("%d were called in one turn, and others heard %d times meanwhile", most, between)
	}
	n.Seconds(50)
	if l.Open() != 1 {
		t.Errorf("%d are left", l.Open()-1)
	}
}

// Who asks for thousands of things in one read gets a share of each turn, in which others are served too; none is forgotten.
func TestShares(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	const things, askers = 2000, 10
	heard, answered, after := 0, 0, 0
	talker, socket := h.connect(n)
	h.onData = func(c *netpoll.Conn, b []byte) int {
		for used := range b {
			n.Pass(10_000)
			if c == talker {
				answered++
				after = heard
			} else {
				heard++
			}
			if heard%100 == 0 {
				l.Write(c, []byte("with output or without"))
			}
			if l.Throttle(c) {
				return used + 1
			}
		}
		return len(b)
	}
	for range askers {
		_, asker := h.connect(n)
		asker.Send(make([]byte, things))
	}
	for n.Events(); heard < askers*things; n.Events() {
		before, asked := heard, answered
		socket.Send([]byte("x"))
		n.Events()
		if !n.Turn() {
			t.Fatalf("nobody rang, and %d of %d were heard", heard, askers*things)
		}
		if heard-before > 100*askers || answered != asked+1 {
			t.Fatalf("%d were heard in one turn, and who had little to say was heard %d times", heard-before, answered-asked)
		}
	}
	if after < askers*things/2 || l.Stats().Yielded < askers*things/100 {
		t.Errorf("the last answer came after %d, yielded %d times", after, l.Stats().Yielded)
	}
}

// Many conns of one client (Pass) that ask for dozens of things in each read have a share together: nobody else waits for more of them
// in a turn than for a few, what they send is not kept meanwhile, and in the end all of it is served. One thing a read is free.
func TestShareOfAClient(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	const askers, burst, rounds, atOnce = 100, 30, 20, 64 + 250/10 + 2*30
	heard, answered := 0, 0
	talker, socket := h.connect(n)
	var all []*looptest.Socket
	h.onData = func(c *netpoll.Conn, b []byte) int {
		for used := range b {
			n.Pass(10_000)
			if c == talker {
				answered++
			} else if heard++; heard%7 == 0 {
				l.Write(c, []byte("an answer, which goes out and must not end the wait"))
			}
			if l.Throttle(c) {
				return used + 1
			}
		}
		return len(b)
	}
	for range askers {
		c, asker := h.connect(n)
		c.SetPass(7)
		defer c.SetPass(0)
		all = append(all, asker)
		for range rounds {
			asker.Send(make([]byte, burst))
		}
	}
	for n.Events(); heard < askers*burst*rounds; {
		before, asked := heard, answered
		socket.Send([]byte("x"))
		n.Events()
		if !n.Turn() {
			t.Fatalf("nobody rang, and %d of %d were heard", heard, askers*burst*rounds)
		}
		if heard-before > atOnce || answered != asked+1 {
			t.Fatalf("%d were heard in one turn, and who had little to say was heard %d times", heard-before, answered-asked)
		}
	}
	if l.Stats().PutOff == 0 {
		t.Error("nobody was put off")
	}
	put := l.Stats().PutOff
	h.onData = func(c *netpoll.Conn, b []byte) int { l.Throttle(c); return len(b) }
	for range 10 {
		for _, s := range all {
			s.Send([]byte("x"))
		}
		n.Settle()
	}
	if l.Stats().PutOff != put {
		t.Error("who asks for one thing at a time was put off")
	}
}

// A panic on one conn's bytes ends that conn only.
func TestPanicEndsOneConn(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	h.onData = func(_ *netpoll.Conn, b []byte) int {
		if b[0] == '!' {
			panic("as the test wants it")
		}
		return len(b)
	}
	bad, bs := h.connect(n)
	good, gs := h.connect(n)
	bs.Send([]byte("!"))
	gs.Send([]byte("x"))
	n.Settle()
	if h.closed[bad] != netpoll.ReasonPanic || !bs.Closed || !good.Alive() || l.Stats().Panics != 1 {
		t.Fatalf("bad %v closed %v, good alive %v", h.closed[bad], bs.Closed, good.Alive())
	}
}

// A stall of the process is not held against the peers.
func TestStallDoesNotExpireEverybody(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	var due bool
	h.onDue = func(*netpoll.Conn) { due = true }
	c, _ := h.connect(n)
	l.SetDue(c, l.Now()+30)
	n.Pass(3600e9)
	l.Tick()
	if due {
		t.Fatal("a deadline passed while the process was stopped")
	}
}

// A few unconsumed bytes do not hold the memory that a long package needed before.
func TestLeftoversHoldLittle(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	take := false
	h.onData = func(_ *netpoll.Conn, b []byte) int {
		if take {
			return len(b) - 1
		}
		return 0
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 50 {
		_, s := h.connect(n)
		take = false
		for range 5 {
			s.Send(make([]byte, 60_000))
			n.Settle()
		}
		take = true
		s.Send([]byte{1})
		n.Settle()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 6<<20 { // 3 MB of it are the test's own sockets; with the fault it was 15
		t.Errorf("50 conns with one byte each hold %d bytes", grown)
	}
	runtime.KeepAlive(l)
}

// A peer that is told goodbye while it still writes, a byte at a time, hears it. One that goes on for half a megabyte is reset.
func TestLingeringPeerMayFinish(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	c, s := h.connect(n)
	h.onTurn = func() { l.Write(c, []byte("bye")); l.Close(c, netpoll.ReasonHandler) }
	l.Ring()
	n.Settle()
	for range 4000 {
		s.Send([]byte("x"))
		s.Ready()
	}
	if s.Closed || string(s.Wrote) != "bye" || !s.ShutDown {
		t.Fatalf("closed %v, told %q, end of the stream %v", s.Closed, s.Wrote, s.ShutDown)
	}
	for range 32 {
		s.Send(make([]byte, 16<<10))
		s.Ready()
	}
	if !s.Closed {
		t.Fatal("half a megabyte was read from a peer that was told goodbye")
	}
}
