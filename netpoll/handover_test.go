package netpoll_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/internal/seed"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// echoes answers each line with a longer one, so that slow sockets are throttled, and has all conns in one group. It pauses at a line "p"
// until the next tick, holds at "h", and tells when something was begun too long ago.
type echoes struct {
	t    *testing.T
	loop *netpoll.Loop

	limits netpoll.Limits
	group  netpoll.Group

	fetching bool                  // somebody takes what conns without a socket have
	pulls    map[netpoll.ID][]byte // what conns without a socket were given
	stop     map[netpoll.ID]byte   // why a conn waits
	names    map[netpoll.ID]bool   // that were given
}

func (h *echoes) Open(c *netpoll.Conn, state []byte) {
	h.loop.Join(c, &h.group)
	if id := c.ID(h.loop); state == nil {
		if h.names[id] {
			h.t.Errorf("the name %x is given a second time", id)
		}
		h.names[id] = true
	}
}

func (h *echoes) Data(c *netpoll.Conn, b []byte) (used int, next netpoll.Transfer) {
	for {
		n := bytes.IndexByte(b[used:], '\n')
		if n < 0 || c.Paused() || h.stop[c.ID(h.loop)] != 0 {
			return used, next
		}
		line := string(b[used : used+n])
		used += n + 1
		h.loop.Write(c, []byte(strings.Repeat(line, 2000)+"\n"))
		switch {
		case line == "p":
			h.loop.Pause(c)
			h.stop[c.ID(h.loop)] = 'p'
		case line == "h":
			h.loop.Hold(c)
			h.stop[c.ID(h.loop)] = 'h'
		}
		if h.loop.Throttle(c) {
			return used, next
		}
	}
}

func (h *echoes) Due(*netpoll.Conn)                    {}
func (h *echoes) Closed(*netpoll.Conn, netpoll.Reason) {}
func (h *echoes) Turn()                                {}
func (h *echoes) Passed()                              {}

func (h *echoes) Late(c *netpoll.Conn) {
	h.loop.Write(c, []byte("late\n"))
	h.loop.Close(c, netpoll.ReasonHandler)
}

func (h *echoes) Write(c *netpoll.Conn, b []byte) int {
	if !h.fetching {
		return 0
	}
	h.pulls[c.ID(h.loop)] = append(h.pulls[c.ID(h.loop)], b...)
	return len(b)
}

func (h *echoes) fetch(n *looptest.Net, id netpoll.ID) {
	if c := h.loop.Find(id); c != nil {
		h.fetching = true
		h.loop.Fetch(c)
		n.Settle()
		h.fetching = false
	}
}

func (h *echoes) Tick() {
	h.loop.Each(func(c *netpoll.Conn) {
		switch id := c.ID(h.loop); h.stop[id] {
		case 'p':
			delete(h.stop, id)
			h.loop.Resume(c)
		case 'h':
			delete(h.stop, id)
			h.loop.Release(c)
		}
	})
}

func newEchoes(t *testing.T, limits netpoll.Limits) (*looptest.Net, *echoes) {
	n, h := looptest.New(), &echoes{t: t, pulls: map[netpoll.ID][]byte{}, stop: map[netpoll.ID]byte{}, names: map[netpoll.ID]bool{}, limits: limits}
	h.loop = n.Loop(h, limits, netpoll.NewBudget(limits.Buffered))
	return n, h
}

// handOver has a new loop take the place of h's, by bytes.
func handOver(t *testing.T, n *looptest.Net, h *echoes) (*looptest.Net, *echoes) {
	names := h.loop.AppendNames(nil)
	var states [][]byte
	var fds []int
	h.loop.Export(func(c *netpoll.Conn, fd int, s *netpoll.ConnState) {
		if c.Alive() {
			s.Handler = []byte{}
		}
		states = append(states, s.Append(nil))
		fds = append(fds, fd)
	})
	again := 0
	h.loop.Export(func(c *netpoll.Conn, _ int, s *netpoll.ConnState) {
		if s.Handler = nil; c.Alive() {
			s.Handler = []byte{}
		}
		if !bytes.Equal(s.Append(nil), states[again]) {
			t.Fatal("Export has changed the conn")
		}
		again++
	})
	next := n.Successor()
	to := &echoes{t: t, pulls: h.pulls, stop: h.stop, names: h.names, limits: h.limits}
	to.loop = next.Loop(to, h.limits, netpoll.NewBudget(h.limits.Buffered))
	if err := to.loop.TakeNames(names); err != nil {
		t.Fatal(err)
	}
	for i, b := range states {
		s, err := netpoll.ParseConnState(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := to.loop.Import(fds[i], &s); err != nil {
			t.Fatal(err)
		}
		if err := to.loop.Import(fds[i], &s); !errors.Is(err, netpoll.ErrConnState) {
			t.Fatalf("the name was taken twice: %v", err)
		}
	}
	return next, to
}

// A loop that another takes the place of, at any moment, is missed by nobody: each peer is told what it would have been told, and the names
// of conns go on.
func TestHandOver(t *testing.T) {
	rng := seed.Rand(t)
	for round := range 100 {
		s1, s2 := rng.Uint64(), rng.Uint64()
		var told [2][]string
		for i := range told {
			told[i] = runEchoes(t, rand.New(rand.NewPCG(s1, s2)), i == 1)
		}
		for i := range told[0] {
			if told[0][i] != told[1][i] {
				a, b := told[0][i], told[1][i]
				same := 0
				for same < min(len(a), len(b)) && a[same] == b[same] {
					same++
				}
				t.Fatalf("round %d, %d: %d bytes of %d and %d are the same: %.40s…\nleft alone\n%.300q\nhanded over\n%.300q", round, i, same, len(a), len(b), a, a[max(same-20, 0):], b[max(same-20, 0):])
			}
		}
	}
}

// runEchoes lets peers send and take what they like, and returns what each was told. With over, the loop is replaced again and again.
func runEchoes(t *testing.T, rng *rand.Rand, over bool) (told []string) {
	// In every other round what is left to do goes along. Then nobody is ended: what has been written by then depends on when it is.
	loose := rng.IntN(2) == 0
	limits := netpoll.Limits{Outbound: 40 << 10, Stuck: 6, Buffered: 1 << 30, Unfinished: 4}
	if loose {
		limits.Outbound, limits.Stuck, limits.Unfinished = 1<<30, 1000, 0
	}
	n, h := newEchoes(t, limits)
	var sockets []*looptest.Socket
	without := h.loop.OpenPull(3, netip.AddrPortFrom(netip.IPv6Loopback(), 0))
	h.loop.Join(without, &h.group)
	pull := without.ID(h.loop)
	rest := func() {
		if !loose {
			n.Settle()
			return
		}
		switch rng.IntN(3) {
		case 0:
			n.Settle()
		case 1:
			n.Events()
		}
	}
	for step := range 60 {
		if over && step%3 > 0 {
			n, h = handOver(t, n, h)
		}
		k := rng.IntN(8)
		if len(sockets) == 0 || k == 0 && len(sockets) < 6 {
			sockets = append(sockets, n.Connect(h.loop, 0))
			n.Turn()
			continue
		}
		s := sockets[rng.IntN(len(sockets))]
		switch k {
		case 1, 2:
			lines := []string{"ab\n", "p\n", "h\n", "cd\nef\ngh\nij\nkl\nmn\nop\nqr\nst\nuv\nwx\nyz\n", "un", "finished\n"}
			s.Send([]byte(lines[rng.IntN(len(lines))]))
			rest()
		case 3:
			s.Room = []int{0, 10, 5000, -1}[rng.IntN(4)]
			rest()
		case 4:
			h.loop.Push(&h.group, []byte(fmt.Sprintf("push %d\n", step)))
			h.loop.Ring()
			rest()
		case 5:
			n.Settle()
			n.Seconds(1 + rng.IntN(2))
		case 6:
			h.fetch(n, pull)
		case 7:
			if loose {
				s.Room = -1
			}
			n.Settle()
			s.End()
			n.Settle()
		}
	}
	for _, s := range sockets {
		s.Room = -1
	}
	n.Settle()
	n.Seconds(3)
	for i, s := range sockets {
		told = append(told, fmt.Sprintf("%d closed=%v end=%v %s", i, s.Closed, s.ShutDown, s.Wrote))
	}
	h.fetch(n, pull)
	open := 0
	h.loop.Each(func(*netpoll.Conn) { open++ })
	return append(told, string(h.pulls[pull]), fmt.Sprintf("%d open, %d names", open, len(h.names)))
}

// What a group has for a conn without a socket, and a turn has yet to give it, goes along; if the peer is there already it is given by the new loop,
// as there is no socket to say that it takes something.
func TestHandOverOffersWhatWaits(t *testing.T) {
	n, h := newEchoes(t, netpoll.Limits{Outbound: 40 << 10, Stuck: 6, Buffered: 1 << 30})
	c := h.loop.OpenPull(3, netip.AddrPortFrom(netip.IPv6Loopback(), 0))
	h.loop.Join(c, &h.group)
	id := c.ID(h.loop)
	h.loop.Push(&h.group, []byte("push\n"))
	n, h = handOver(t, n, h)
	h.fetching = true
	n.Settle()
	if got := string(h.pulls[id]); got != "push\n" {
		t.Errorf("given %q", got)
	}
}

// What is volatile and waits for a round when its loop hands over is told by the next one: nobody can say that another of its kind follows.
func TestHandOverTellsWhatIsVolatile(t *testing.T) {
	n, h := newEchoes(t, netpoll.Limits{Outbound: 40 << 10, Stuck: 6, Buffered: 1 << 30})
	c := h.loop.OpenPull(3, netip.AddrPortFrom(netip.IPv6Loopback(), 0))
	h.loop.Join(c, &h.group)
	id := c.ID(h.loop)
	h.loop.Push(&h.group, []byte("push\n"))
	h.loop.PushVolatile(&h.group, "at", []byte("at1\n"))
	h.loop.PushVolatile(&h.group, "at", []byte("at2\n"))
	n, h = handOver(t, n, h)
	h.fetching = true
	n.Settle()
	if got := string(h.pulls[id]); got != "push\nat2\n" {
		t.Errorf("given %q", got)
	}
}
