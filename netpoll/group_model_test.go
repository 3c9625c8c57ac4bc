package netpoll_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/internal/race"
	"github.com/pomelod/pomelod/internal/seed"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// TestGroupModel lets conns of two loops join, leave, switch, get frames of their own, wait, move to the other loop and end in any
// order while passes run, over sockets that take any number of bytes or fail, and over peers that come to fetch and
// may change to a socket. It compares each stream with what it should be: every push of the group between join and leave, and every
// frame of one's own, in the order they were made, none twice; and what a conn hears with what its peer sent.
func TestGroupModel(t *testing.T) {
	rng := seed.Rand(t)
	done := map[string]int{}
	for round := range race.Fewer(300) {
		newModel(t, rng, done).run()
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	for _, what := range []string{"moved", "attached", "moved with unsent bytes", "moved with unread bytes", "attached with unsent bytes", "attached with unread bytes", "fetched", "changed within an offer", "throttled", "memory", "lent", "rested", "volatile", "outdated", "withheld"} {
		if done[what] == 0 && !race.Enabled { // too few rounds for the rarest
			t.Errorf("in 300 rounds it never happened: %s", what)
		}
	}
}

// modelConn is one stream from us to a peer. Its conn changes when it moves.
type modelConn struct {
	on    *witness      // nil while it is between two loops
	c     *netpoll.Conn // nil after its end, too
	s     *looptest.Socket
	group *netpoll.Group

	got    []byte // what a peer without a socket has taken
	want   []byte // what it, or the socket, should be given
	prefix bool   // it may be given less: its end came first
	from   *modelConn

	blocked    [2]bool // paused, held
	sent, read int     // bytes it sent, and those of them that were heard: each is the low byte of its number
}

// model is two loops with groups, and all the streams there have been.
type model struct {
	t       *testing.T
	w       *world
	rng     *rand.Rand
	groups  [2][3]netpoll.Group
	conns   []*modelConn
	sockets []*looptest.Socket // all there have been
	by      map[*netpoll.Conn]*modelConn
	narrow  bool // limits are
	big     bool // pushes are
	paces   bool // groups have paces, which change
	serial  int
	idle    bool // nothing but reading is done any more
	within  *modelConn
	done    map[string]int // how often the rarer things happened
}

func newModel(t *testing.T, rng *rand.Rand, done map[string]int) *model {
	limits, budget := wide, int64(1<<40)
	if rng.IntN(4) == 0 { // conns end at their bounds
		limits.Outbound, budget = 200_000, 250_000
	}
	m := &model{narrow: limits != wide, t: t, w: makeWorld(t, 2, limits, budget), rng: rng, by: map[*netpoll.Conn]*modelConn{}, big: rng.IntN(4) == 0, done: done}
	m.w.budget.RoundTrip = rng.IntN(2) == 0
	m.w.net.Pause = rng.Int64N(2) * 300_000 // pushes are written at once, or in a turn
	m.paces = rng.IntN(2) == 0
	for _, h := range m.w.on {
		h.loop.SetSlice(1 + rng.IntN(4)) // so passes go on over turns, while everything else happens
		h.onOpen = func(c *netpoll.Conn) { m.opened(h, c) }
		h.onData = func(c *netpoll.Conn, b []byte) int { return m.data(m.by[c], b) }
		h.onWrite = func(c *netpoll.Conn, b []byte) int { return m.offered(m.by[c], b) }
		h.onClosed = func(c *netpoll.Conn, why netpoll.Reason) { m.closed(m.by[c], why) }
	}
	return m
}

func (m *model) frame() []byte {
	m.serial++
	size := m.rng.IntN(20)
	if m.big {
		size = m.rng.IntN(40_000)
	}
	return fmt.Appendf(bytes.Repeat([]byte{'.'}, size), "<%d>", m.serial)
}

// opened tells whether a socket is new or comes from the other loop.
func (m *model) opened(h *witness, c *netpoll.Conn) {
	for _, k := range m.conns {
		if k.s != nil && k.s.FD == int(c.Peer().Port()) && k.c == nil && k.on == nil {
			k.on, k.c = h, c
			m.by[c] = k
			return
		}
	}
	m.t.Errorf("a socket was opened that was not expected")
}

// data hears some of b and does something for it; then the conn may move, or become another's.
func (m *model) data(k *modelConn, b []byte) int {
	if k.blocked != [2]bool{} {
		m.t.Errorf("paused or held (%v), a conn heard %d bytes", k.blocked, len(b))
	}
	if !m.expected(k, b) {
		return len(b)
	}
	if m.idle {
		k.read += len(b)
		return len(b)
	}
	used := m.rng.IntN(len(b) + 1)
	k.read += used
	on := k.on
	for range min(used, 3) {
		m.step(on)
	}
	if k.s == nil || m.rng.IntN(4) > 0 {
		return used
	}
	if m.rng.IntN(3) == 0 {
		on.move(m.w.on[m.rng.IntN(2)])
	} else if to := m.absent(on); to != nil {
		m.attach(to, k)
	}
	for range m.rng.IntN(3) {
		m.step(on) // what is done for it before its handler returns goes along
	}
	return used
}

// expected tells whether b goes on where k was heard last.
func (m *model) expected(k *modelConn, b []byte) bool {
	for i := range b {
		if b[i] != byte(k.read+i) {
			m.t.Errorf("heard %d as byte %d of what was sent", b[i], k.read+i)
			return false
		}
	}
	return true
}

// absent is a conn of the loop that has no socket.
func (m *model) absent(on *witness) *modelConn {
	for _, i := range m.rng.Perm(len(m.conns)) {
		if k := m.conns[i]; k.c != nil && k.on == on && k.s == nil && k.c.Alive() && k.from == nil {
			return k
		}
	}
	return nil
}

// attach asks for the socket of from to be given to to. What waits for to is changed to another form.
func (m *model) attach(to, from *modelConn) {
	l := to.on.loop
	unread := l.TakeInput(to.c)
	if m.expected(to, unread); len(unread) != to.sent-to.read || to.c.Unread() != 0 {
		m.t.Errorf("%d bytes were unread, want %d; then %d are", len(unread), to.sent-to.read, to.c.Unread())
	}
	to.read = to.sent
	waits := l.TakeOutput(to.c)
	if want := to.want[len(to.got):]; !bytes.Equal(lasting(waits), want) {
		m.t.Errorf("waiting: %d bytes %.200q\nwant %d bytes %.200q", len(waits), waits, len(want), want)
	}
	other := bytes.ReplaceAll(waits, []byte("."), []byte("#"))
	to.want = append(to.want[:len(to.got):len(to.got)], lasting(other)...)
	to.group = nil
	l.Write(to.c, other)
	to.on.attach(to.c)
	to.from = from
	if m.rng.IntN(2) == 0 {
		m.join(to)
	}
}

// offered takes some whole frames of b for a peer that fetches. Meanwhile anything may happen.
func (m *model) offered(k *modelConn, b []byte) int {
	if last := b[len(b)-1]; last != '>' && last != '}' {
		m.t.Errorf("an offer ends within a frame: %.200q", b)
	}
	if want := k.want[len(k.got):]; !bytes.HasPrefix(want, lasting(b)) {
		m.t.Errorf("offered %d bytes %.200q\nwant %d bytes %.200q", len(b), b, len(want), want)
	}
	n := 0
	switch what := m.rng.IntN(4); {
	case m.idle || what == 0:
		n = len(b)
	case what == 1:
		for range 1 + m.rng.IntN(3) {
			n += bytes.IndexByte(b[n:], '>') + 1
		}
	}
	k.got = append(k.got, lasting(b[:n])...)
	if !m.idle && m.within == nil && m.rng.IntN(4) == 0 {
		m.within = k
		m.done["changed within an offer"]++
		for range m.rng.IntN(4) {
			m.step(k.on)
		}
		m.within = nil
	}
	return n
}

// closed notes the end of a conn, of which its stream may live on.
func (m *model) closed(k *modelConn, why netpoll.Reason) {
	delete(m.by, k.c)
	if why != netpoll.ReasonMoved {
		// Also a conn that was closed in order may have to be cut short at its bounds.
		k.prefix = k.prefix || why != netpoll.ReasonHandler || k.s == nil || m.narrow
		k.c, k.group, k.from = nil, nil, nil
		for _, to := range m.conns {
			if to.from == k { // it stays without a socket
				to.from = nil
			}
		}
		if why == netpoll.ReasonMemory {
			m.done["memory"]++
		}
		return
	}
	unsent := len(k.s.Wrote) < len(k.want)
	for _, to := range m.conns {
		if to.from == k && to.c.Alive() { // if not, nothing came of it
			m.count("attached", unsent, k)
			to.from, to.s, to.prefix = nil, k.s, to.prefix || k.prefix
			to.want, to.got = append(k.want[:len(k.want):len(k.want)], to.want[len(to.got):]...), nil
			to.sent, to.read = k.sent, k.read
			m.drop(k)
			return
		}
	}
	m.count("moved", unsent, k)
	k.c, k.on, k.group, k.blocked = nil, nil, nil, [2]bool{}
}

func (m *model) count(what string, unsent bool, k *modelConn) {
	m.done[what]++
	if unsent {
		m.done[what+" with unsent bytes"]++
	}
	if k.read < k.sent {
		m.done[what+" with unread bytes"]++
	}
}

func (m *model) drop(k *modelConn) {
	for i := range m.conns {
		if m.conns[i] == k {
			m.conns[i] = m.conns[len(m.conns)-1]
			m.conns = m.conns[:len(m.conns)-1]
			return
		}
	}
}

func (m *model) join(k *modelConn) {
	k.group = nil
	if i := m.rng.IntN(4); i < 3 {
		k.group = &m.groups[k.on.loop.Index()][i]
		k.on.loop.Join(k.c, k.group)
	}
}

// step does one thing on a loop.
func (m *model) step(on *witness) {
	l := on.loop
	op := m.rng.IntN(22)
	if op < 8 {
		g := &m.groups[l.Index()][m.rng.IntN(3)]
		if m.paces && m.rng.IntN(20) == 0 {
			l.Pace(g, time.Duration(m.rng.IntN(3))*time.Millisecond)
		}
		if m.rng.IntN(4) == 0 {
			m.pushVolatile(l, g)
			return
		}
		f := m.frame()
		l.Push(g, f)
		for _, k := range m.conns {
			if k.group == g && k.c != nil && k.c.Alive() {
				k.want = append(k.want, f...)
			}
		}
		return
	}
	if len(m.conns) == 0 {
		return
	}
	k := m.conns[m.rng.IntN(len(m.conns))]
	if k.on != on || k.c == nil || !k.c.Alive() {
		return
	}
	switch {
	case op < 12:
		f := m.frame()
		if m.rng.IntN(3) == 0 {
			l.Lend(k.c, f)
			if k.s != nil && len(f) > 10_000 {
				m.done["lent"]++
			}
		} else {
			l.Write(k.c, f)
		}
		k.want = append(k.want, f...)
	case op < 15:
		l.Leave(k.c)
		m.join(k)
	case op < 16 && m.rng.IntN(4) == 0:
		l.Close(k.c, netpoll.ReasonHandler)
	case op < 17 && m.rng.IntN(8) == 0:
		l.Kill(k.c, netpoll.ReasonHandler)
		k.prefix = true
	case op < 18 && k.s == nil && m.within == nil:
		l.Fetch(k.c)
		m.done["fetched"]++
	case op < 18 && k.s != nil:
		k.s.Room, k.s.Whole = []int{0, 1, 7, 1000, 70_000, -1}[m.rng.IntN(6)], max(m.rng.IntN(6)-3, 0)
	case op < 19 && k.s != nil && m.rng.IntN(10) == 0:
		k.s.Err = syscall.ECONNRESET
		k.prefix = true
	case op < 19 && k.s != nil && m.rng.IntN(10) == 0:
		k.s.End()
		k.prefix = true
	case op < 19:
		if l.Throttle(k.c) {
			m.done["throttled"]++
		}
	case op < 20:
		l.Pause(k.c)
		k.blocked[0] = true
	case op < 21:
		l.Hold(k.c)
		k.blocked[1] = true
	default:
		m.unblock(k)
	}
}

// pushVolatile pushes a volatile frame, which tells its group, its kind and its number.
func (m *model) pushVolatile(l *netpoll.Loop, g *netpoll.Group) {
	i := 0
	for ; &m.groups[l.Index()][i] != g; i++ {
	}
	m.serial++
	kind := fmt.Sprint(m.rng.IntN(3))
	l.PushVolatile(g, kind, fmt.Appendf([]byte("{"), "%s%d.%d.%s.%d}", strings.Repeat(".", m.rng.IntN(20)), l.Index(), i, kind, m.serial))
}

// volatileFrame is one, or the beginning of one at the end of a stream.
var volatileFrame = regexp.MustCompile(`\{[^}]*(\}|$)`)

// lasting is a stream without volatile frames.
func lasting(b []byte) []byte {
	if !bytes.Contains(b, []byte("{")) {
		return b
	}
	return volatileFrame.ReplaceAll(b, nil)
}

// checkVolatile tells whether volatile frames of a group and kind come in their order, and none twice.
func (m *model) checkVolatile(b []byte) {
	last := map[string]int{}
	for _, f := range wholeVolatile.FindAllSubmatch(b, -1) {
		n, _ := strconv.Atoi(string(f[2]))
		if m.done["volatile"]++; n <= last[string(f[1])] {
			m.t.Errorf("%s behind number %d", f[0], last[string(f[1])])
		}
		last[string(f[1])] = n
	}
}

var wholeVolatile = regexp.MustCompile(`\{[.#]*([0-9]\.[0-9]\.[0-9])\.([0-9]+)\}`)

func (m *model) unblock(k *modelConn) {
	k.on.loop.Resume(k.c)
	k.on.loop.Release(k.c)
	k.blocked = [2]bool{}
}

// event lets something come from outside: a new peer, bytes of one, or time for a loop.
func (m *model) event() {
	w, h := m.w, m.w.on[m.rng.IntN(2)]
	if m.paces && m.rng.IntN(8) == 0 {
		if _, any := h.loop.Resting(); any {
			m.done["rested"]++
		}
		w.net.Pass(time.Duration(m.rng.Int64N(2e6)))
		h.loop.Wake()
	}
	switch m.rng.IntN(13) {
	case 12:
		if n := len(m.sockets); n > 0 {
			m.sockets[m.rng.IntN(n)].Stale()
		}
	case 0:
		if len(m.conns) >= 40 {
			return
		}
		k := &modelConn{}
		m.conns = append(m.conns, k)
		if m.rng.IntN(3) == 0 {
			k.on, k.c = h, h.pull()
			m.by[k.c] = k
			return
		}
		k.s = w.net.Connect(h.loop, uint8(m.rng.IntN(3)))
		m.sockets = append(m.sockets, k.s)
	case 1:
		w.net.Turn()
	case 2:
		w.net.TurnLoop(m.rng.IntN(2))
	case 3:
		w.net.Events()
	case 4, 5, 6:
		w.do(h, func() { m.step(h) })
	default:
		if len(m.conns) == 0 {
			return
		}
		k := m.conns[m.rng.IntN(len(m.conns))]
		b := make([]byte, 1+m.rng.IntN(4))
		if m.rng.IntN(50) == 0 {
			b = make([]byte, 20_000) // more than a held conn is read
		}
		number := func() {
			for i := range b {
				b[i] = byte(k.sent + i)
			}
			k.sent += len(b)
		}
		switch {
		case k.s != nil:
			number()
			k.s.Send(b)
			k.s.Ready()
		case k.c != nil:
			w.do(k.on, func() {
				if k.s == nil && k.c != nil && k.c.Alive() { // the turn may have begun with its end
					number()
					k.on.loop.Feed(k.c, b)
				}
			})
		}
	}
}

func (m *model) run() {
	for range 400 {
		m.event()
	}
	m.idle = true
	for range 3 { // a socket may be between two loops
		for _, k := range m.conns {
			if k.s != nil {
				k.s.Room, k.s.Whole = -1, 0
			}
			if k.c != nil && k.c.Alive() {
				w := k.on
				m.w.do(w, func() {
					w.loop.Pause(k.c) // what it has left unread so far is given to it after a Resume only
					m.unblock(k)
					if k.s == nil {
						w.loop.Fetch(k.c)
					}
				})
			}
		}
		m.w.net.Settle()
		m.w.net.Wait(time.Second)
	}
	for i, k := range m.conns {
		got := k.got
		if k.s != nil {
			got = lasting(k.s.Wrote)
			m.checkVolatile(k.s.Wrote)
		}
		same := bytes.Equal(got, k.want)
		if k.prefix {
			same = bytes.HasPrefix(k.want, got)
		}
		if !same {
			m.t.Errorf("conn %d (socket %v, alive %v, prefix %v): given %d bytes %.200q\nwant %d bytes %.200q", i, k.s != nil, k.c != nil, k.prefix, len(got), got, len(k.want), k.want)
		}
		if k.c != nil && k.read != k.sent {
			m.t.Errorf("conn %d (socket %v): heard %d of %d bytes", i, k.s != nil, k.read, k.sent)
		}
	}
	for _, h := range m.w.on {
		if s := h.loop.Stats(); s.Backlog != 0 || s.Unsent != 0 || s.Slow != 0 || s.Panics != 0 {
			m.t.Errorf("something is left: %+v", s)
		} else {
			m.done["outdated"] += int(s.Outdated)
			m.done["withheld"] += int(s.Withheld)
		}
	}
	if !m.t.Failed() {
		m.w.end(m.t)
	}
}
