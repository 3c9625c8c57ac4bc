package netpoll_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/internal/seed"
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

func (h *scripted) Open(c *netpoll.Conn) { h.opened = append(h.opened, c) }
func (h *scripted) Data(c *netpoll.Conn, b []byte) int {
	if h.onData != nil {
		return h.onData(c, b)
	}
	return len(b)
}
func (h *scripted) Due(c *netpoll.Conn) {
	if h.onDue != nil {
		h.onDue(c)
	}
}
func (h *scripted) Write(*netpoll.Conn, []byte) int            { return 0 }
func (h *scripted) Closed(c *netpoll.Conn, why netpoll.Reason) { h.closed[c] = why }
func (h *scripted) Passed()                                    {}
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

// TestGroupModel lets conns join, leave, switch, get frames of their own and end in any order while passes run over
// sockets that take any number of bytes or fail, and compares each stream with what it should be: every push of
// the group between join and leave, and every frame of one's own, in the order they were made.
func TestGroupModel(t *testing.T) {
	rng := seed.Rand(t)
	for round := range 300 {
		if !runGroupModel(t, rng) {
			t.Fatalf("round %d", round)
		}
	}
}

type modelConn struct {
	c      *netpoll.Conn
	s      *looptest.Socket
	group  int // -1: none
	want   []byte
	ended  bool // no more is expected
	killed bool // a prefix is enough
}

func runGroupModel(t *testing.T, rng *rand.Rand) bool {
	h, n, l := newScripted(wide, 1<<40)
	groups := make([]netpoll.Group, 3)
	var conns []*modelConn
	big := rng.IntN(4) == 0
	frame := func(i int) []byte {
		size := rng.IntN(20)
		if big {
			size = rng.IntN(40_000)
		}
		return fmt.Appendf(bytes.Repeat([]byte{'.'}, size), "<%d>", i)
	}
	step := func(i int) {
		if len(conns) == 0 {
			return
		}
		m := conns[rng.IntN(len(conns))]
		switch op := rng.IntN(20); {
		case op < 8:
			g := rng.IntN(len(groups))
			f := frame(i)
			l.Push(&groups[g], f)
			for _, m := range conns {
				if m.group == g && !m.ended {
					m.want = append(m.want, f...)
				}
			}
		case m.ended:
		case op < 12:
			f := frame(i)
			l.Write(m.c, f)
			m.want = append(m.want, f...)
		case op < 16:
			l.Leave(m.c)
			m.group = rng.IntN(len(groups)+1) - 1
			if m.group >= 0 {
				l.Join(m.c, &groups[m.group])
			}
		case op < 17 && rng.IntN(4) == 0:
			l.Close(m.c, netpoll.ReasonHandler)
			m.ended = true
		case op < 18 && rng.IntN(8) == 0:
			l.Kill(m.c, netpoll.ReasonHandler)
			m.ended, m.killed = true, true
		case op < 19:
			m.s.Room = []int{0, 1, 7, 1000, 70_000, -1}[rng.IntN(6)]
		case rng.IntN(10) == 0:
			m.s.Err = syscall.ECONNRESET
			m.killed = true
		}
	}
	for i := range 400 {
		switch rng.IntN(12) {
		case 0:
			if len(conns) < 40 {
				c, s := h.connect(n)
				conns = append(conns, &modelConn{c: c, s: s, group: -1})
			}
		case 1, 2:
			n.Turn()
		case 3:
			n.Events()
		case 4, 5, 6:
			h.onTurn = func() { step(i) }
			l.Ring()
			n.Turn()
		default:
			if len(conns) > 0 {
				s := conns[rng.IntN(len(conns))].s
				h.onData = func(_ *netpoll.Conn, b []byte) int {
					for j := range b {
						step(i*1000 + j)
					}
					return len(b)
				}
				s.Send(make([]byte, 1+rng.IntN(3)))
				s.Ready()
			}
		}
		for _, m := range conns {
			if _, gone := h.closed[m.c]; gone {
				m.ended = true
			}
		}
	}
	h.onData = nil
	for _, m := range conns {
		m.s.Room = -1
	}
	n.Settle()
	for i, m := range conns {
		same := bytes.Equal(m.s.Wrote, m.want)
		if m.killed {
			same = bytes.HasPrefix(m.want, m.s.Wrote)
		}
		if !same {
			t.Errorf("conn %d (ended %v, killed %v): wrote %d bytes %.200q\nwant %d bytes %.200q", i, m.ended, m.killed, len(m.s.Wrote), m.s.Wrote, len(m.want), m.want)
			return false
		}
	}
	if s := l.Stats(); s.Backlog != 0 || s.Unsent != 0 || s.Slow != 0 {
		t.Errorf("something is left: %+v", s)
		return false
	}
	return true
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
		if s := l.Stats(); s.Unsent > 10_000 || s.Backlog != 0 {
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
	if budget.Total() != 6000 {
		t.Fatalf("total %d, want 6000", budget.Total())
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
