package netpoll_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// scripted is a handler that does what a test tells it: each byte received runs the next step, and so does a turn.
type scripted struct {
	loop   *netpoll.Loop
	opened []*netpoll.Conn
	closed map[*netpoll.Conn]netpoll.Reason
	onData func(c *netpoll.Conn, b []byte) int
	onTurn func()
	onDue  func(c *netpoll.Conn)
}

func (h *scripted) Open(c *netpoll.Conn, _ []byte) { h.opened = append(h.opened, c) }
func (h *scripted) Data(c *netpoll.Conn, b []byte) (int, netpoll.Transfer) {
	if h.onData != nil {
		return h.onData(c, b), netpoll.Transfer{}
	}
	return len(b), netpoll.Transfer{}
}
func (h *scripted) Due(c *netpoll.Conn) {
	if h.onDue != nil {
		h.onDue(c)
	}
}
func (h *scripted) Write(*netpoll.Conn, []byte) int            { return 0 }
func (h *scripted) Closed(c *netpoll.Conn, why netpoll.Reason) { h.closed[c] = why }
func (h *scripted) Passed()                                    {}
func (h *scripted) Late(*netpoll.Conn)                         {}
func (h *scripted) Tick()                                      {}
func (h *scripted) Turn() {
	if f := h.onTurn; f != nil {
		h.onTurn = nil
		f()
	}
}

var wide = netpoll.Limits{Outbound: 1 << 30, Stuck: 1000}

func newScripted(limits netpoll.Limits, budget int64) (*scripted, *looptest.Net, *netpoll.Loop) {
	h := &scripted{closed: map[*netpoll.Conn]netpoll.Reason{}}
	n := looptest.New()
	h.loop = n.Loop(h, limits, netpoll.NewBudget(budget))
	return h, n, h.loop
}

// connect opens one conn and returns both ends.
func (h *scripted) connect(n *looptest.Net) (*netpoll.Conn, *looptest.Socket) {
	s := n.Connect(h.loop, 0)
	n.Turn()
	return h.opened[len(h.opened)-1], s
}

// k senders in one batch of events cost every member, senders included, one write.
func TestManyPushesOneWrite(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	var g netpoll.Group
	var socks []*looptest.Socket
	for range 10 {
		c, s := h.connect(n)
		l.Join(c, &g)
		socks = append(socks, s)
	}
	h.onData = func(c *netpoll.Conn, b []byte) int {
		l.Push(&g, append([]byte("push "), b...))
		l.Write(c, []byte("answer;"))
		return len(b)
	}
	for i, s := range socks[:5] {
		s.Send(fmt.Appendf(nil, "%d;", i))
	}
	n.Events()
	n.Turn()
	for i, s := range socks {
		if s.Writes != 1 {
			t.Errorf("member %d: %d writes, want 1: %q", i, s.Writes, s.Wrote)
		}
	}
	if want := "push 0;push 1;answer;push 2;push 3;push 4;"; string(socks[1].Wrote) != want {
		t.Errorf("a sender got %q, want %q", socks[1].Wrote, want)
	}
}

// A member that takes nothing costs itself only: the others get everything at once, what it pins is bounded by what
// it lacks, and at the bound it is ended.
func TestFrozenReaderIsEndedAlone(t *testing.T) {
	h, n, l := newScripted(netpoll.Limits{Outbound: 10_000, Stuck: 1000}, 1<<40)
	var g netpoll.Group
	frozen, fs := h.connect(n)
	l.Join(frozen, &g)
	fs.Room = 0
	healthy, hs := h.connect(n)
	l.Join(healthy, &g)
	frame := bytes.Repeat([]byte("x"), 100)
	for i := range 150 {
		h.onTurn = func() { l.Push(&g, frame) }
		l.Ring()
		n.Turn()
		if len(hs.Wrote) != (i+1)*100 {
			t.Fatalf("the healthy member has %d bytes after %d pushes", len(hs.Wrote), i+1)
		}
		if s := l.Stats(); s.Unsent > 10_100 || s.Backlog != 0 {
			t.Fatalf("after %d pushes: %+v", i+1, s)
		}
	}
	n.Settle()
	if why, gone := h.closed[frozen]; !gone || why != netpoll.ReasonSlow || !fs.Closed {
		t.Fatalf("frozen member: closed=%v reason=%v socket closed=%v", gone, why, fs.Closed)
	}
	if s := l.Stats(); s.Unsent != 0 || s.Conns != 1 {
		t.Fatalf("after the end: %+v", s)
	}
}

// An empty queue takes one frame of any size; a peer that then takes nothing is ended after Limits.Stuck.
func TestStuckReader(t *testing.T) {
	h, n, l := newScripted(netpoll.Limits{Outbound: 1000, Stuck: 20}, 1<<40)
	c, s := h.connect(n)
	s.Room = 10
	h.onTurn = func() { l.Write(c, make([]byte, 5000)) }
	l.Ring()
	n.Turn()
	n.Seconds(19)
	s.Room = 1 // one byte of progress starts the time anew
	n.Settle()
	n.Seconds(19)
	if !c.Alive() {
		t.Fatal("ended too early")
	}
	n.Seconds(2)
	if why := h.closed[c]; why != netpoll.ReasonStuck || !s.Closed {
		t.Fatalf("reason %v, socket closed %v", why, s.Closed)
	}
}

// Beyond the budget of all loops the largest backlog goes first, also when another loop noticed.
func TestBudgetEndsTheLargestBacklog(t *testing.T) {
	n := looptest.New()
	budget := netpoll.NewBudget(10_000)
	var hs [2]*scripted
	for i := range hs {
		hs[i] = &scripted{closed: map[*netpoll.Conn]netpoll.Reason{}}
		hs[i].loop = n.Loop(hs[i], wide, budget)
	}
	write := func(h *scripted, size int) *netpoll.Conn {
		c, s := h.connect(n)
		s.Room = 0
		h.onTurn = func() { h.loop.Write(c, make([]byte, size)) }
		h.loop.Ring()
		n.Turn()
		return c
	}
	small := write(hs[0], 3000)
	large := write(hs[0], 5000)
	last := write(hs[1], 3000)
	n.Settle()
	if hs[0].closed[large] != netpoll.ReasonMemory || !small.Alive() || !last.Alive() {
		t.Fatalf("large: %v, small alive %v, last alive %v", hs[0].closed[large], small.Alive(), last.Alive())
	}
	if want := int64(6000 + 2*netpoll.SegmentBytes); budget.Buffered() != want {
		t.Fatalf("total %d, want %d", budget.Buffered(), want)
	}
}

// What has been received of long messages counts as well, until it is taken: who has sent most of what never ends goes first.
func TestBudgetEndsTheLargestInput(t *testing.T) {
	n := looptest.New()
	budget := netpoll.NewBudget(200_000)
	var hs [2]*scripted
	for i := range hs {
		hs[i] = &scripted{closed: map[*netpoll.Conn]netpoll.Reason{}}
		hs[i].loop = n.Loop(hs[i], wide, budget)
		hs[i].onData = func(_ *netpoll.Conn, b []byte) int { // a message ends with a zero
			return bytes.IndexByte(b, 0) + 1
		}
	}
	send := func(h *scripted, size int, end byte) *netpoll.Conn {
		c, s := h.connect(n)
		s.Send(append(bytes.Repeat([]byte("x"), size), end))
		n.Settle()
		return c
	}
	whole := send(hs[0], 150_000, 0)
	if budget.Buffered() != 0 || budget.Inbound() != 0 {
		t.Fatalf("%d bytes of a message that was taken", budget.Inbound())
	}
	few := send(hs[1], 1000, 'x')
	small, large := send(hs[0], 40_000, 'x'), send(hs[1], 90_000, 'x')
	if n := budget.Inbound(); n < 130_000 || n != budget.Buffered() {
		t.Fatalf("%d bytes of half messages are known, %d in all", n, budget.Buffered())
	}
	last := send(hs[0], 60_000, 'x')
	if hs[1].closed[large] != netpoll.ReasonMemory || !whole.Alive() || !few.Alive() || !small.Alive() || !last.Alive() {
		t.Fatalf("closed: %v, %v", hs[0].closed, hs[1].closed)
	}
	n.Turn()
	for _, c := range []*netpoll.Conn{small, last} {
		hs[0].loop.Kill(c, netpoll.ReasonPeer)
	}
	hs[1].loop.Kill(few, netpoll.ReasonPeer)
	for _, h := range hs {
		h.loop.Ring()
	}
	n.Settle()
	if budget.Buffered() != 0 || budget.Inbound() != 0 {
		t.Errorf("%d bytes of nobody", budget.Buffered())
	}
}

// What many slow members share is memory once: ending them frees nothing, so those who hold bytes of their own go first.
func TestBudgetEndsWhoHoldsBytesOfItsOwn(t *testing.T) {
	h, n, l := newScripted(wide, 40_000)
	var g netpoll.Group
	var sharers []*netpoll.Conn
	for range 20 {
		c, s := h.connect(n)
		s.Room = 0
		l.Join(c, &g)
		sharers = append(sharers, c)
	}
	h.onTurn = func() { l.Push(&g, make([]byte, 20_000)) }
	l.Ring()
	n.Turn()
	hog, s := h.connect(n)
	s.Room = 0
	h.onTurn = func() { l.Write(hog, make([]byte, 30_000)) }
	l.Ring()
	n.Turn()
	n.Settle()
	if h.closed[hog] != netpoll.ReasonMemory {
		t.Error("the one with bytes of its own was kept")
	}
	for _, c := range sharers {
		if !c.Alive() {
			t.Fatal("a member that shares was ended")
		}
	}
}
