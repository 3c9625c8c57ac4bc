package netpoll_test

import (
	"net/netip"
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
	panics uint64           // that the test wants
	gate   *counter         // nil: none
	next   netpoll.Transfer // asked for in the call of Data that is at work (move, attach)

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

func (h *witness) Open(c *netpoll.Conn, state []byte) {
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
	if h.gate != nil {
		h.gate.check(c)
	}
}

// move has the conn whose Data is at work go to another loop.
func (h *witness) move(to *witness) { h.next = netpoll.Transfer{To: to.loop} }

// attach has its socket go to heir.
func (h *witness) attach(heir *netpoll.Conn) { h.next = netpoll.Transfer{Heir: heir.ID(h.loop)} }

func (h *witness) Data(c *netpoll.Conn, b []byte) (used int, next netpoll.Transfer) {
	outer := h.next // Data of one conn may feed another
	h.next = netpoll.Transfer{}
	defer func() { h.next = outer }()
	used = h.data(c, b)
	return used, h.next
}

func (h *witness) data(c *netpoll.Conn, b []byte) int {
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

func (h *witness) Tick() {}

func (h *witness) Late(c *netpoll.Conn) {
	if h.conns[c] != c.ID(h.loop) || !c.Alive() {
		h.t.Errorf("Late for a conn that is not open: %x", c.ID(h.loop))
	}
	h.loop.Close(c, late)
}

// late is why a witness ends a conn that does not finish what it has begun.
const late = netpoll.ReasonHandler + 100

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
	gate   *counter
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
	w := &world{net: looptest.New(), budget: netpoll.NewBudget(budget), gate: newCounter(t)}
	w.budget.Gate, w.budget.RoundTrip = w.gate, true
	for range loops {
		h := newWitness(t)
		h.loop, h.gate = w.net.Loop(h, limits, w.budget), w.gate
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
		if s.Conns != 0 || s.Pulls != 0 || s.Backlog != 0 || s.Unsent != 0 || s.Slow != 0 || s.Unread != 0 || h.loop.Open() != 0 || h.loop.Pulls() != 0 {
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
	if n := w.gate.left(); n != 0 {
		t.Errorf("%d passes have not come back", n)
	}
	if n := w.budget.Buffered() + w.budget.Inbound(); n != 0 {
		t.Errorf("%d unsent bytes are counted in the budget, none are there", n)
	}
	if n := w.net.Unclosed(); n != 0 {
		t.Errorf("%d sockets leaked", n)
	}
}
