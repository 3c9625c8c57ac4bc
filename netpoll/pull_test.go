package netpoll_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// witness is a handler that does what a test tells it, and checks at every call what any handler may rely on: each conn
// is opened once and closed once, and between the two, and only then, it is heard and offered output.
type witness struct {
	t    testing.TB
	loop *netpoll.Loop

	conns  map[*netpoll.Conn]netpoll.ID // opened and not closed
	last   *netpoll.Conn                // the latest of them that has a socket
	closed map[netpoll.ID]netpoll.Reason
	panics uint64 // that the test wants

	onOpen   func(c *netpoll.Conn)
	onData   func(c *netpoll.Conn, b []byte) int // nil: all is consumed
	onDue    func(c *netpoll.Conn)
	onWrite  func(c *netpoll.Conn, b []byte) int // nil: the peer is not there
	onClosed func(c *netpoll.Conn, why netpoll.Reason)
	onTurn   func() // once
}

func newWitness(t testing.TB) *witness {
	return &witness{t: t, conns: map[*netpoll.Conn]netpoll.ID{}, closed: map[netpoll.ID]netpoll.Reason{}}
}

func (h *witness) Open(c *netpoll.Conn) {
	h.open(c)
	h.last = c
	if h.onOpen != nil {
		h.onOpen(c)
	}
}

func (h *witness) open(c *netpoll.Conn) {
	if _, twice := h.conns[c]; twice {
		h.t.Errorf("a conn was opened that has not been closed: %x", c.ID(h.loop))
	}
	if _, used := h.closed[c.ID(h.loop)]; used {
		h.t.Errorf("the ID %x names a second conn", c.ID(h.loop))
	}
	h.conns[c] = c.ID(h.loop)
}

func (h *witness) Data(c *netpoll.Conn, b []byte) int {
	switch {
	case h.conns[c] != c.ID(h.loop):
		h.t.Errorf("Data for a conn that is not open: %x", c.ID(h.loop))
	case !c.Alive():
		h.t.Errorf("Data for a conn that has ended: %x", c.ID(h.loop))
	case c.Paused(), c.Throttled():
		h.t.Errorf("Data for a conn that is paused (%v) or throttled (%v)", c.Paused(), c.Throttled())
	}
	if h.onData != nil {
		return h.onData(c, b)
	}
	return len(b)
}

func (h *witness) Due(c *netpoll.Conn) {
	if h.conns[c] != c.ID(h.loop) || !c.Alive() {
		h.t.Errorf("Due for a conn that is not open: %x", c.ID(h.loop))
	}
	if h.onDue != nil {
		h.onDue(c)
	}
}

func (h *witness) Write(c *netpoll.Conn, b []byte) int {
	switch {
	case h.conns[c] != c.ID(h.loop):
		h.t.Errorf("Write for a conn that is not open: %x", c.ID(h.loop))
	case !c.IsPull():
		h.t.Errorf("Write for a conn that has a socket: %x", c.ID(h.loop))
	case len(b) == 0:
		h.t.Errorf("Write was offered nothing")
	}
	if h.onWrite != nil {
		return h.onWrite(c, b)
	}
	return 0
}

func (h *witness) Closed(c *netpoll.Conn, why netpoll.Reason) {
	id := c.ID(h.loop)
	switch {
	case h.conns[c] != id:
		h.t.Errorf("Closed for a conn that is not open: %x", id)
	case h.loop.Find(id) != nil || c.Alive():
		h.t.Errorf("a closed conn can still be found: %x, reason %d", id, why)
	case c.Group() != nil:
		h.t.Errorf("a closed conn is still in its group: %x", id)
	}
	delete(h.conns, c)
	h.closed[id] = why
	if h.onClosed != nil {
		h.onClosed(c, why)
	}
}

func (h *witness) Passed() {}
func (h *witness) Turn() {
	if f := h.onTurn; f != nil {
		h.onTurn = nil
		f()
	}
}

// pull opens a conn without a socket.
func (h *witness) pull() *netpoll.Conn {
	c := h.loop.OpenPull(7, netip.MustParseAddrPort("192.0.2.1:80"))
	h.open(c)
	return c
}

// world is a few hand-turned loops.
type world struct {
	net    *looptest.Net
	budget *netpoll.Budget
	on     []*witness
}

// newWorld makes a world. When the test ends, everything in it is ended, and nothing may be left.
func newWorld(t testing.TB, loops int, limits netpoll.Limits, budget int64) *world {
	w := makeWorld(t, loops, limits, budget)
	t.Cleanup(func() {
		if !t.Failed() {
			w.end(t)
		}
	})
	return w
}

func makeWorld(t testing.TB, loops int, limits netpoll.Limits, budget int64) *world {
	w := &world{net: looptest.New(), budget: netpoll.NewBudget(budget)}
	for range loops {
		h := newWitness(t)
		h.loop = w.net.Loop(h, limits, w.budget)
		w.on = append(w.on, h)
	}
	return w
}

// one is a world of one loop.
func one(t testing.TB, limits netpoll.Limits, budget int64) (*world, *witness, *netpoll.Loop) {
	w := newWorld(t, 1, limits, budget)
	return w, w.on[0], w.on[0].loop
}

// do has h's loop run f in a turn of its own.
func (w *world) do(h *witness, f func()) {
	h.onTurn = f
	h.loop.Ring()
	w.net.TurnLoop(int(h.loop.Index()))
}

// connect opens a socket and returns both ends.
func (w *world) connect(h *witness) (*netpoll.Conn, *looptest.Socket) {
	s := w.net.Connect(h.loop, 1)
	h.last = nil
	w.net.TurnLoop(int(h.loop.Index()))
	return h.last, s
}

// end ends what there is and checks that every counter is back where it began and every socket closed.
func (w *world) end(t testing.TB) {
	for _, h := range w.on {
		h.onOpen, h.onData, h.onWrite, h.onClosed, h.onDue = nil, nil, nil, nil, nil
	}
	w.net.Settle() // sockets on their way to a loop
	for _, h := range w.on {
		w.do(h, func() { h.loop.Each(func(c *netpoll.Conn) { h.loop.Kill(c, netpoll.ReasonHandler) }) })
	}
	w.net.Settle()
	w.net.Seconds(4) // those that linger
	for i, h := range w.on {
		s := h.loop.Stats()
		if s.Conns != 0 || s.Pulls != 0 || s.Backlog != 0 || s.Unsent != 0 || s.Slow != 0 || h.loop.Open() != 0 || h.loop.Pulls() != 0 {
			t.Errorf("loop %d: something is left: %+v", i, s)
		}
		if s.Panics != h.panics {
			t.Errorf("loop %d: %d panics, want %d", i, s.Panics, h.panics)
		}
		if s.Closed[netpoll.ReasonMoved] != 0 {
			t.Errorf("loop %d: %d moves were counted as ends", i, s.Closed[netpoll.ReasonMoved])
		}
		for _, id := range h.conns {
			t.Errorf("loop %d: Closed was not called for %x", i, id)
		}
	}
	if n := w.budget.Total(); n != 0 {
		t.Errorf("%d unsent bytes are counted in the budget, none are there", n)
	}
	if n := w.net.Unclosed(); n != 0 {
		t.Errorf("%d sockets leaked", n)
	}
}

// basket is a peer that fetches: what it took, and how much it takes at a time.
type basket struct {
	got    []byte
	offers int
	takes  int // bytes of each offer; negative: all
}

func (k *basket) write(_ *netpoll.Conn, b []byte) int {
	k.offers++
	n := k.takes
	if n < 0 || n > len(b) {
		n = len(b)
	}
	k.got = append(k.got, b[:n]...)
	return n
}

// While the peer is away everything waits, in order; when it comes it gets all of it, and while it stays, what is new.
func TestPullWaitsForItsPeer(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	var g netpoll.Group
	c, k := h.pull(), &basket{}
	h.onWrite = k.write
	if !c.IsPull() || l.Pulls() != 1 || l.Open() != 0 || l.Find(c.ID(l)) != c || c.Tag() != 7 || c.Peer().String() != "192.0.2.1:80" {
		t.Fatalf("pull %v, pulls %d, sockets %d, tag %d, peer %v", c.IsPull(), l.Pulls(), l.Open(), c.Tag(), c.Peer())
	}
	w.do(h, func() { l.Join(c, &g); l.Write(c, []byte("a;")) })
	w.do(h, func() { l.Push(&g, []byte("b;")) })
	w.do(h, func() { l.Write(c, []byte("c;")) })
	if len(k.got) != 0 || c.Queued() != 6 {
		t.Fatalf("the peer is away, but got %q; %d bytes wait", k.got, c.Queued())
	}
	w.do(h, func() { l.Push(&g, []byte("d;")); l.Write(c, []byte("e;")); k.takes = -1; l.Fetch(c) })
	if string(k.got) != "a;b;c;d;e;" || c.Queued() != 0 {
		t.Fatalf("got %q, %d bytes wait", k.got, c.Queued())
	}
	w.do(h, func() { l.Push(&g, []byte("f;")) })
	if string(k.got) != "a;b;c;d;e;f;" {
		t.Fatalf("the peer is there, but got %q", k.got)
	}
	offers := k.offers
	w.do(h, func() { l.Fetch(c) })
	if k.offers != offers {
		t.Fatal("a peer was offered nothing")
	}
}

// A handler that takes whole pushes is offered whole pushes, however they were gathered on the way.
func TestPullIsOfferedWholePushes(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	var g netpoll.Group
	c := h.pull()
	l.Join(c, &g)
	var want, got []byte
	for i := range 60 {
		w.do(h, func() {
			f := fmt.Appendf(bytes.Repeat([]byte{'.'}, i*i*10), "<%d>", i) // up to 36 KB: chunks and gathered writes are 64 KiB
			l.Push(&g, f)
			want = append(want, f...)
			if i%3 == 0 {
				l.Write(c, []byte("own>"))
				want = append(want, "own>"...)
			}
		})
	}
	h.onWrite = func(_ *netpoll.Conn, b []byte) int {
		if b[len(b)-1] != '>' {
			t.Fatalf("an offer of %d bytes ends within a push", len(b))
		}
		n := bytes.IndexByte(b, '>') + 1
		got = append(got, b[:n]...)
		return n
	}
	for range 100 {
		w.do(h, func() { l.Fetch(c) })
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, want %d", len(got), len(want))
	}
}

// A peer that stays away is ended when too much waits for it, and not for staying away: that is the handler's to judge.
func TestPullIsEndedAtItsBound(t *testing.T) {
	w, h, l := one(t, netpoll.Limits{Outbound: 1000, Stuck: 5}, 1<<40)
	var g netpoll.Group
	c := h.pull()
	id := c.ID(l)
	l.Join(c, &g)
	w.do(h, func() { l.Write(c, make([]byte, 5000)) }) // an empty queue takes one of any size
	w.net.Seconds(100)
	if !c.Alive() {
		t.Fatalf("ended while it was away: %d", h.closed[id])
	}
	k := &basket{takes: -1}
	h.onWrite = k.write
	w.do(h, func() { l.Fetch(c) })
	k.takes = 0
	for range 10 {
		w.do(h, func() { l.Push(&g, make([]byte, 100)) })
	}
	if !c.Alive() || c.Queued() != 1000 {
		t.Fatalf("ended at its bound, not beyond: %d", h.closed[id])
	}
	w.do(h, func() { l.Push(&g, []byte{1}) })
	w.net.Settle()
	if why, gone := h.closed[id]; !gone || why != netpoll.ReasonSlow || l.Find(id) != nil || l.Pulls() != 0 || g.Len() != 0 {
		t.Fatalf("gone %v, reason %d, pulls %d, members %d", gone, why, l.Pulls(), g.Len())
	}
	if s := l.Stats(); s.Unsent != 0 || s.Closed[netpoll.ReasonSlow] != 1 || s.Opened != 1 {
		t.Fatalf("%+v", s)
	}
}

// What a group's absent peers and frozen sockets lack is in memory once, until the last of them has it or ends.
func TestPullsShareWhatTheyLack(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	var g netpoll.Group
	var pulls []*netpoll.Conn
	for range 5 {
		c := h.pull()
		l.Join(c, &g)
		pulls = append(pulls, c)
	}
	frozen, s := w.connect(h)
	l.Join(frozen, &g)
	s.Room = 10
	w.do(h, func() { l.Push(&g, make([]byte, 3000)) })
	w.net.Settle()
	if st := l.Stats(); st.Unsent != 3000 || st.Slow != 6 || w.budget.Total() != 3000 {
		t.Fatalf("unsent %d, slow %d, budget %d", st.Unsent, st.Slow, w.budget.Total())
	}
	w.do(h, func() { l.Write(pulls[0], make([]byte, 50)) })
	h.onWrite = (&basket{takes: -1}).write
	for i, c := range pulls {
		if st := l.Stats(); i > 0 && st.Unsent != 3000 {
			t.Fatalf("%d of 5 have fetched: unsent %d", i, st.Unsent)
		}
		w.do(h, func() { l.Fetch(c) })
	}
	w.do(h, func() { l.Kill(frozen, netpoll.ReasonHandler) })
	if st := l.Stats(); st.Unsent != 0 {
		t.Fatalf("nobody lacks anything: unsent %d", st.Unsent)
	}
}

// Beyond the budget the peer that is away and has the most of its own goes first, as a socket would.
func TestBudgetEndsPulls(t *testing.T) {
	w := newWorld(t, 2, wide, 10_000)
	a, b := w.on[0], w.on[1]
	small, large, other := a.pull(), a.pull(), b.pull()
	id := large.ID(a.loop)
	w.do(a, func() { a.loop.Write(small, make([]byte, 3000)); a.loop.Write(large, make([]byte, 5000)) })
	w.do(b, func() { b.loop.Write(other, make([]byte, 3000)) })
	w.net.Settle()
	if a.closed[id] != netpoll.ReasonMemory || !small.Alive() || !other.Alive() || w.budget.Total() != 6000 {
		t.Fatalf("large: %d; small alive %v, other alive %v, total %d", a.closed[id], small.Alive(), other.Alive(), w.budget.Total())
	}
}

// What waits for a conn that is closed is offered once more, and then it is gone: nobody can come for it.
func TestClosePullOffersTheRest(t *testing.T) {
	const queued, staged, pushed = 1, 2, 4
	for what := range 8 {
		for _, takes := range []int{-1, 0, 2} {
			t.Run(fmt.Sprintf("waiting=%03b/takes=%d", what, takes), func(t *testing.T) {
				w, h, l := one(t, wide, 1<<40)
				var g netpoll.Group
				c := h.pull()
				l.Join(c, &g)
				want := ""
				if what&queued != 0 {
					w.do(h, func() { l.Write(c, []byte("q;")) })
					want += "q;"
				}
				if what&pushed != 0 {
					want += "p;"
				}
				if what&staged != 0 {
					want += "s;"
				}
				id, slot := c.ID(l), c.Slot()
				k := &basket{takes: takes}
				h.onWrite = k.write
				w.do(h, func() {
					if what&pushed != 0 {
						l.Push(&g, []byte("p;"))
					}
					if what&staged != 0 {
						l.Write(c, []byte("s;"))
					}
					l.Close(c, netpoll.ReasonHandler)
					l.Write(c, []byte("too late"))
				})
				w.net.Settle()
				if takes >= 0 {
					want = want[:min(len(want), max(len(k.got), takes))]
				}
				if string(k.got) != want {
					t.Errorf("got %q, want %q", k.got, want)
				}
				if k.offers > 2 { // what is staged may have had its turn just before
					t.Errorf("%d offers", k.offers)
				}
				if why, gone := h.closed[id]; !gone || why != netpoll.ReasonHandler || l.Find(id) != nil || l.Pulls() != 0 || g.Len() != 0 {
					t.Errorf("gone %v, reason %d, pulls %d, members %d", gone, why, l.Pulls(), g.Len())
				}
				next := h.pull()
				if next.Slot() != slot || next.ID(l) == id || l.Find(id) != nil || l.Find(next.ID(l)) != next {
					t.Errorf("slot %d, then %d; ID %x, then %x", slot, next.Slot(), id, next.ID(l))
				}
				if next.Queued() != 0 || next.Unread() != 0 {
					t.Errorf("the next conn in the slot begins with %d bytes out and %d in", next.Queued(), next.Unread())
				}
			})
		}
	}
}

// A killed conn is offered nothing more, whoever asks.
func TestKillPullOffersNothing(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c := h.pull()
	id := c.ID(l)
	w.do(h, func() { l.Write(c, []byte("queued")) })
	k := &basket{takes: -1}
	h.onWrite = k.write
	w.do(h, func() {
		l.Write(c, []byte("staged"))
		l.Kill(c, netpoll.ReasonHandler)
		l.Fetch(c)
	})
	if h.closed[id] != netpoll.ReasonHandler || k.offers != 0 || l.Pulls() != 0 {
		t.Fatalf("reason %d, offers %d, pulls %d", h.closed[id], k.offers, l.Pulls())
	}
}

// A conn can be ended, also by a panic, while it is offered its output, wherever the offer comes from. Others are served.
func TestPullEndsWithinWrite(t *testing.T) {
	offers := map[string]func(w *world, h *witness, c *netpoll.Conn, g *netpoll.Group){
		"fetch": func(w *world, h *witness, c *netpoll.Conn, _ *netpoll.Group) {
			f := h.onWrite
			h.onWrite = nil
			for range 3 {
				w.do(h, func() { h.loop.Write(c, make([]byte, 70_000)) }) // more than one write
			}
			h.onWrite = f
			w.do(h, func() { h.loop.Fetch(c) })
		},
		"turn": func(w *world, h *witness, c *netpoll.Conn, _ *netpoll.Group) {
			w.do(h, func() { h.loop.Write(c, []byte("staged")) })
		},
		"pass": func(w *world, h *witness, _ *netpoll.Conn, g *netpoll.Group) {
			w.do(h, func() { h.loop.Push(g, []byte("pushed")) })
		},
		"close": func(w *world, h *witness, c *netpoll.Conn, _ *netpoll.Group) {
			w.do(h, func() { h.loop.Write(c, []byte("staged")); h.loop.Close(c, netpoll.ReasonHandler) })
		},
	}
	ends := map[string]struct {
		end func(l *netpoll.Loop, c *netpoll.Conn)
		why netpoll.Reason
	}{
		"kill":  {func(l *netpoll.Loop, c *netpoll.Conn) { l.Kill(c, netpoll.ReasonHandler+1) }, netpoll.ReasonHandler + 1},
		"close": {func(l *netpoll.Loop, c *netpoll.Conn) { l.Close(c, netpoll.ReasonHandler+1) }, netpoll.ReasonHandler + 1},
		"panic": {func(*netpoll.Loop, *netpoll.Conn) { panic("as the test wants it") }, netpoll.ReasonPanic},
	}
	for from, offer := range offers {
		for how, e := range ends {
			for _, takes := range []int{0, -1} {
				t.Run(fmt.Sprintf("%s/%s/takes=%d", from, how, takes), func(t *testing.T) {
					w, h, l := one(t, wide, 1<<40)
					var g netpoll.Group
					c, other := h.pull(), h.pull()
					l.Join(c, &g)
					l.Join(other, &g)
					_, s := w.connect(h)
					l.Join(h.last, &g)
					id := c.ID(l)
					k := &basket{takes: -1}
					ended, after := false, 0
					h.onWrite = func(at *netpoll.Conn, b []byte) int {
						if at != c {
							return k.write(at, b)
						}
						if ended {
							after++
						} else {
							ended = true
							if how == "panic" {
								h.panics++
							}
							e.end(l, c)
						}
						return (&basket{takes: takes}).write(at, b)
					}
					offer(w, h, c, &g)
					w.net.Settle()
					why := e.why
					if from == "close" {
						why = netpoll.ReasonHandler // it had one before
					}
					if got, gone := h.closed[id]; !gone || got != why || l.Pulls() != 1 || g.Len() != 2 {
						t.Errorf("gone %v, reason %d, pulls %d, members %d", gone, got, l.Pulls(), g.Len())
					}
					if how != "close" && after > 0 {
						t.Errorf("%d more offers after its end", after)
					}
					if from == "pass" && (string(k.got) != "pushed" || string(s.Wrote) != "pushed") {
						t.Errorf("the others got %q and %q", k.got, s.Wrote)
					}
				})
			}
		}
	}
}

// While it is offered output, a handler may do to groups and conns what it may at any other time.
func TestGroupsChangeWithinWrite(t *testing.T) {
	for name, change := range map[string]func(h *witness, c *netpoll.Conn, g, other *netpoll.Group){
		"push": func(h *witness, _ *netpoll.Conn, g, _ *netpoll.Group) {
			h.loop.Push(g, []byte("2;"))
			h.loop.Push(g, make([]byte, 70_000))
		},
		"leave": func(h *witness, c *netpoll.Conn, _, _ *netpoll.Group) { h.loop.Leave(c) },
		"switch": func(h *witness, c *netpoll.Conn, _, other *netpoll.Group) {
			h.loop.Leave(c)
			h.loop.Push(other, []byte("not for it;"))
			h.loop.Join(c, other)
			h.loop.Push(other, []byte("3;"))
		},
		"everybody leaves": func(h *witness, _ *netpoll.Conn, g, other *netpoll.Group) {
			for c := range h.conns {
				if c.Group() == g {
					h.loop.Leave(c)
				}
			}
			h.loop.Push(other, bytes.Repeat([]byte("x"), 3000)) // into the buffer of the log that nobody needs
		},
		"join": func(h *witness, _ *netpoll.Conn, g, _ *netpoll.Group) { h.loop.Join(h.pull(), g) },
		"own":  func(h *witness, c *netpoll.Conn, _, _ *netpoll.Group) { h.loop.Write(c, []byte("4;")) },
	} {
		for _, members := range []int{1, 3} {
			for _, takes := range []int{0, 2, -1} {
				t.Run(fmt.Sprintf("%s/members=%d/takes=%d", name, members, takes), func(t *testing.T) {
					w, h, l := one(t, wide, 1<<40)
					var g, other netpoll.Group
					_, s := w.connect(h)
					l.Join(h.last, &other)
					got := map[*netpoll.Conn]*basket{}
					var first *netpoll.Conn
					for range members {
						c := h.pull()
						l.Join(c, &g)
						got[c] = &basket{takes: takes}
						if first == nil {
							first = c
						}
					}
					done := false
					h.onWrite = func(c *netpoll.Conn, b []byte) int {
						k := got[c]
						if k == nil { // it came by join
							t.Errorf("who joined after a push was offered %q", b)
							return len(b)
						}
						n := k.write(c, b)
						if c == first && !done {
							done = true
							change(h, c, &g, &other)
						}
						return n
					}
					w.do(h, func() { l.Push(&g, []byte("0;1;")) })
					w.net.Settle()
					for c, k := range got {
						k.takes = -1
						w.do(h, func() { l.Fetch(c) })
					}
					w.net.Settle()
					for c, k := range got {
						want := "0;1;"
						switch {
						case name == "push":
							want += "2;" + strings.Repeat("\x00", 70_000)
						case name == "switch" && c == first:
							want += "3;"
						case name == "own" && c == first:
							want += "4;"
						}
						if string(k.got) != want {
							t.Errorf("got %d bytes %.80q, want %d", len(k.got), k.got, len(want))
						}
					}
					if name == "switch" && string(s.Wrote) != "not for it;3;" {
						t.Errorf("the other group got %q", s.Wrote)
					}
					if st := l.Stats(); st.Unsent != 0 || st.Backlog != 0 {
						t.Errorf("unsent %d, backlog %d", st.Unsent, st.Backlog)
					}
				})
			}
		}
	}
}

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
