package netpoll_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"iter"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// remote is a TLS client that shakes hands as a coroutine: it hears what it is sent a round trip later.
type remote struct {
	*far
	yield func(struct{}) bool
	step  func() (struct{}, bool)
	stop  func()
	seen  int   // bytes that it has been sent
	hears int64 // when it hears the last of them
	over  bool
	err   error
}

func (r *remote) Read(b []byte) (int, error) {
	for r.at == len(r.s.Wrote) {
		if r.s.ShutDown || r.s.Closed {
			return 0, io.EOF
		}
		if !r.yield(struct{}{}) {
			return 0, errNothing
		}
	}
	n := copy(b, r.s.Wrote[r.at:])
	r.at += n
	return n, nil
}

func (w *sealed) remote(s *looptest.Socket) *remote {
	r := &remote{far: &far{w: w, s: s}}
	r.step, r.stop = iter.Pull(func(yield func(struct{}) bool) {
		r.yield = yield
		r.err = tls.Client(r, &tls.Config{InsecureSkipVerify: true}).Handshake()
		r.over = true
	})
	r.step()
	return r
}

// Many who come at once from behind one address, farther away than the time in which as many as one client may have begin: they wait for each other, and none
// of them is ended for another one. Those who go silent have their places for a second.
func TestSecureManyBehindOneAddress(t *testing.T) {
	const clients, roundTrip = 100, int64(200 * time.Millisecond)
	limits := netpoll.HandshakeLimits{All: 256, Client: 16, Rate: 1000, Seconds: 5}
	w, h, hello := newQueue(t, limits)
	connect := func() *looptest.Socket {
		return w.net.ConnectAs(h.loop, netpoll.ConnState{Tag: 1, Pass: 1, Peer: netip.MustParseAddrPort("192.0.2.1:1")})
	}
	for range limits.Client {
		connect().Send(hello)
	}
	w.pump()
	var remotes []*remote
	for range clients {
		r := w.remote(connect())
		defer r.stop()
		remotes = append(remotes, r)
	}
	for ms, left := 0, clients; left > 0 && ms < 4000; ms++ {
		w.net.Pass(time.Millisecond)
		w.pump()
		left = 0
		for _, r := range remotes {
			if !r.over {
				left++
			}
			if n := len(r.s.Wrote); n > r.seen || r.s.Closed {
				if r.hears == 0 {
					r.hears = w.net.Now() + roundTrip
				}
				r.seen = n
			}
			if r.hears != 0 && w.net.Now() >= r.hears && !r.over {
				r.hears = 0
				r.step()
			}
		}
	}
	for i, r := range remotes {
		if !r.over || r.err != nil {
			t.Fatalf("client %d: done %v, %v; %+v", i, r.over, r.err, w.hands.Stats())
		}
	}
	if s := w.hands.Stats(); s.Done != clients || s.Evicted != uint64(limits.Client) {
		t.Errorf("handshakes: %+v; all silent ones should have made place", s)
	}
	w.net.Seconds(8)
	if s := w.hands.Stats(); s.Running != 0 {
		t.Errorf("handshakes: %+v", s)
	}
}

// Who asks for changes of keys and does not read what is said to that is ended before it costs memory, though it never asks too often.
func TestSecureAnswersThatNobodyTakes(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	h := w.on[0]
	_, f, c, k := w.open(t, h)
	h.onData = func(_ *netpoll.Conn, b []byte) int { return len(b) }
	id := c.ID(h.loop)
	f.s.Room = 0
	most := 0
	for s := 0; s < 60 && h.closed[id] == 0; s++ {
		for range 3 {
			f.s.Send(k.Update())
		}
		f.s.Send(k.Record(23, []byte("x")))
		w.net.Seconds(1)
		most = max(most, h.loop.Stats().Unsent)
	}
	if h.closed[id] != netpoll.ReasonTLS || most == 0 || most > 2<<10 {
		t.Errorf("closed for %d, with %d bytes unsent", h.closed[id], most)
	}
}

// Where one handshake may be under way at a time, its client is known for as long as it is: the next one of the same client waits for it.
func TestSecureOneHandshake(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{All: 1, Client: 1, Rate: 1000, Seconds: 5}, 1<<30)
	w.budget.Gate = nil
	h := w.on[0]
	h.gate = nil
	hello := helloOf(t, w)
	for i, wait := range []time.Duration{0, time.Second, 0, time.Second} {
		w.net.Pass(wait)
		w.net.ConnectAs(h.loop, netpoll.ConnState{Tag: 1, Pass: 1, Peer: netip.MustParseAddrPort("192.0.2.1:1")}).Send(hello)
		w.pump()
		if s := w.hands.Stats(); s.Running != 1 || s.Evicted != uint64((i+1)/2) || w.hands.Clients() != 1 {
			t.Errorf("after %d: %+v, %d clients", i, s, w.hands.Clients())
		}
	}
	w.do(h, func() { h.loop.Each(func(c *netpoll.Conn) { h.loop.Kill(c, netpoll.ReasonHandler) }) })
	w.pump()
	if n := w.hands.Clients(); n != 0 {
		t.Errorf("%d clients are known", n)
	}
}

// So many handshakes begin a second, and a few more at once after a pause, however many wait.
func TestSecureHandshakesArePaced(t *testing.T) {
	const burst, rate = 32, 50
	w, h, hello := newQueue(t, netpoll.HandshakeLimits{All: 4096, Client: 4096, Rate: rate, Seconds: 60})
	for i := range burst + 4*rate {
		w.net.ConnectAs(h.loop, netpoll.ConnState{Tag: 1, Pass: netpoll.Pass(1 + i), Peer: netip.MustParseAddrPort("192.0.2.1:1")}).Send(hello)
	}
	w.pump()
	for second := range 3 {
		if n, want := w.hands.Stats().Running, burst+second*rate; n < want || n > want+2 {
			t.Errorf("%d have begun after %d s, want %d", n, second, want)
		}
		for range 10 {
			w.net.Pass(100 * time.Millisecond)
			w.pump()
		}
	}
}

// A panic in a handshake costs its conn only. It is counted, and logged with the place where it was.
func TestSecurePanic(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	h := w.on[0]
	config := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return panics(), nil }}
	w.hands = netpoll.NewHandshakes(config, netpoll.HandshakeLimits{All: 16, Client: 16, Rate: 1e9, Seconds: 5}, w.net.Now)
	w.budget.Handshakes = w.hands
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	client, _, c := w.dial(h, nil)
	id := c.ID(h.loop)
	if err := client.Handshake(); err == nil {
		t.Fatal("the handshake was done")
	}
	h.panics++
	if s := w.hands.Stats(); h.closed[id] != netpoll.ReasonTLS || s.Failed != 1 || s.Running != 0 || h.loop.Stats().Panics != 1 {
		t.Errorf("closed for %d, %+v, %d panics", h.closed[id], s, h.loop.Stats().Panics)
	}
	if !strings.Contains(log.String(), "netpoll_test.panics") {
		t.Errorf("the log does not say where: %s", log.String())
	}
}

//go:noinline
func panics() *tls.Config { panic("what nobody thought of") }

// newQueue is a world of one loop in which no gate stands before the handshakes, and what a client says first.
func newQueue(t testing.TB, limits netpoll.HandshakeLimits) (w *sealed, h *witness, hello []byte) {
	t.Helper()
	w = newSealed(t, 1, limits, 1<<30)
	w.budget.Gate, w.on[0].gate = nil, nil
	return w, w.on[0], helloOf(t, w)
}

// helloOf is what a client says first.
func helloOf(t testing.TB, w *sealed) []byte {
	t.Helper()
	c, s := w.connect(w.on[0])
	f := &far{w: w, s: s, hold: true}
	_ = tls.Client(f, &tls.Config{InsecureSkipVerify: true}).Handshake()
	w.do(w.on[0], func() { w.on[0].loop.Kill(c, netpoll.ReasonHandler) })
	clear(w.on[0].closed)
	return f.sent
}

// Whatever many do who say hello and no more: so many handshakes are under way at most, those of one client are its own affair, and
// whoever comes then waits for his turn among clients, not behind all their handshakes.
func TestSecureSilentHandshakes(t *testing.T) {
	limits := netpoll.HandshakeLimits{All: 256, Client: 16, Rate: 1000, Seconds: 5}
	w, h, hello := newQueue(t, limits)
	const addresses, each = 32, 128
	for i := range addresses * each {
		s := w.net.ConnectAs(h.loop, netpoll.ConnState{Tag: 1, Pass: netpoll.Pass(1 + i%addresses), Peer: netip.MustParseAddrPort("192.0.2.1:1")})
		s.Send(hello)
	}
	for range 1000 {
		w.net.Pass(time.Millisecond)
		w.pump()
		if n := w.hands.Stats().Running; n > limits.All {
			t.Fatalf("%d handshakes run", n)
		}
	}
	if s := w.hands.Stats(); s.Evicted == 0 || s.Running != limits.All {
		t.Errorf("handshakes: %+v", s)
	}
	if in := w.budget.Inbound(); in < int64(limits.All)*10_000 {
		t.Errorf("%d bytes are counted for %d handshakes", in, limits.All)
	}
	s := w.net.ConnectAs(h.loop, netpoll.ConnState{Tag: 1, Pass: 1000, Peer: netip.MustParseAddrPort("192.0.2.2:1")})
	w.net.TurnLoop(0)
	client := tls.Client(&far{w: w, s: s, patient: true}, &tls.Config{InsecureSkipVerify: true})
	began := w.net.Now()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if took := time.Duration(w.net.Now() - began); took > 100*time.Millisecond {
		t.Errorf("a newcomer waited for %v", took)
	}
	w.pump()
	w.net.Seconds(8)
	w.pump()
	if s := w.hands.Stats(); s.Running != 0 || s.Done != 1 {
		t.Errorf("handshakes: %+v", s)
	}
	if in := w.budget.Inbound(); in != 0 {
		t.Errorf("%d bytes are counted, nobody shakes hands any more", in)
	}
}

// Who ends while his handshake waits in line is closed at once, and has no turn. What is sent behind a hello that waits is read once, and then no more.
func TestSecureEndsInLine(t *testing.T) {
	w, h, hello := newQueue(t, netpoll.HandshakeLimits{All: 256, Client: 16, Rate: 1, Seconds: 60})
	connect := func() *looptest.Socket {
		s := w.net.ConnectAs(h.loop, netpoll.ConnState{Tag: 1, Pass: 1, Peer: netip.MustParseAddrPort("192.0.2.1:1")})
		s.Send(hello)
		w.net.Settle()
		return s
	}
	ends, talks := connect(), connect()
	ends.End()
	before := w.budget.Inbound()
	for range 100 {
		talks.Send(make([]byte, 16<<10))
		w.net.Settle()
	}
	if !ends.Closed || talks.Closed {
		t.Errorf("closed: who has ended %v, who talks %v", ends.Closed, talks.Closed)
	}
	if in := w.budget.Inbound() - before; in > 64<<10 {
		t.Errorf("%d bytes are kept behind a hello", in)
	}
	w.pump()
	if s := w.hands.Stats(); s.Failed+uint64(s.Running) > 1 {
		t.Errorf("handshakes: %+v", s)
	}
}
