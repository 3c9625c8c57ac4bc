package netpoll_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// certificate is for chat.example, made once.
var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"chat.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// sealed is a world whose witnesses have every conn speak TLS from its first byte on. What is decrypted goes to their onPlain; nil echoes it.
type sealed struct {
	*world
	hands *netpoll.Handshakes
	got   map[*netpoll.Conn][]byte // decrypted so far
}

func newSealed(t testing.TB, loops int, limits netpoll.HandshakeLimits, budget int64) *sealed {
	w := &sealed{world: newWorld(t, loops, netpoll.Limits{Outbound: 1 << 20, Stuck: 20, Unfinished: 20}, budget), got: map[*netpoll.Conn][]byte{}}
	if limits == (netpoll.HandshakeLimits{}) {
		limits = netpoll.HandshakeLimits{All: 4096, Client: 64, Rate: 1e9, Seconds: 5}
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate()}, DynamicRecordSizingDisabled: true}
	w.hands = netpoll.NewHandshakes(config, limits, w.net.Now)
	w.budget.Handshakes = w.hands
	for _, h := range w.on {
		w.echo(h)
	}
	return w
}

// echo has h secure every conn and echo what is decrypted.
func (w *sealed) echo(h *witness) {
	h.onData = func(c *netpoll.Conn, b []byte) int {
		if !c.Secured() {
			h.loop.Secure(c)
			return 0
		}
		w.got[c] = append(w.got[c], b...)
		h.loop.Write(c, b)
		return len(b)
	}
}

// pump does all there is to do, handshakes included.
func (w *sealed) pump() {
	for w.net.Settle(); w.hands.Step(); {
		w.net.Pass(1000)
		w.net.Settle()
	}
}

// far is the far end of a socket as a transport of crypto/tls' client. Reading has the world do all there is to do first.
type far struct {
	net.Conn // nil
	w        *sealed
	s        *looptest.Socket
	at       int // of s.Wrote
	piece    int // bytes that one write sends at once; 0: all
	sent     []byte
	hold     bool // what is written goes to sent only
	patient  bool // reading has time pass until something is there
}

var errNothing = &net.DNSError{Err: "nothing is there", IsTemporary: true}

// errNoNotify is the end of the stream. crypto/tls takes an io.EOF for an end in order, whether a close_notify came before it or not.
var errNoNotify = errors.New("the stream ended without a close_notify")

func (f *far) Read(b []byte) (int, error) {
	if f.at == len(f.s.Wrote) {
		f.w.pump()
	}
	for ms := 0; f.patient && f.at == len(f.s.Wrote) && ms < 1000; ms++ {
		f.w.net.Pass(time.Millisecond)
		f.w.pump()
	}
	if f.at == len(f.s.Wrote) {
		if f.s.ShutDown || f.s.Closed {
			return 0, errNoNotify
		}
		return 0, errNothing
	}
	n := copy(b, f.s.Wrote[f.at:])
	f.at += n
	return n, nil
}

func (f *far) Write(b []byte) (int, error) {
	f.sent = append(f.sent, b...)
	for left := b; len(left) > 0 && !f.hold; {
		n := len(left)
		if f.piece > 0 {
			n = min(n, f.piece)
		}
		f.s.Send(left[:n])
		left = left[n:]
		if f.piece > 0 {
			f.w.pump()
		}
	}
	return len(b), nil
}

func (f *far) Close() error                     { return nil }
func (f *far) SetDeadline(time.Time) error      { return nil }
func (f *far) SetReadDeadline(time.Time) error  { return nil }
func (f *far) SetWriteDeadline(time.Time) error { return nil }

// dial connects a TLS client to h, which has not shaken hands.
func (w *sealed) dial(h *witness, config *tls.Config) (*tls.Conn, *far, *netpoll.Conn) {
	c, s := w.connect(h)
	f := &far{w: w, s: s}
	if config == nil {
		config = &tls.Config{}
	}
	config.InsecureSkipVerify, config.ServerName = true, "chat.example"
	return tls.Client(f, config), f, c
}

// read reads n bytes.
func read(t testing.TB, c *tls.Conn, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if k, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("read %d of %d bytes: %v", k, n, err)
	}
	return b
}

var versions = map[string]*tls.Config{
	"TLS 1.3": {MinVersion: tls.VersionTLS13},
	"TLS 1.2": {MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12},
	"CBC":     {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
}

// A client of crypto/tls and a loop understand each other, whatever the version, and both ends hear of the end.
func TestSecureEchoes(t *testing.T) {
	for name, config := range versions {
		t.Run(name, func(t *testing.T) {
			w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
			client, f, c := w.dial(w.on[0], config.Clone())
			for _, n := range []int{1, 100, 16 << 10, 16<<10 + 1, 100_000} {
				sent := bytes.Repeat([]byte("pomelo "), n/7+1)[:n]
				if _, err := client.Write(sent); err != nil {
					t.Fatal(err)
				}
				if got := read(t, client, n); !bytes.Equal(got, sent) {
					t.Fatalf("%d bytes came back otherwise", n)
				}
			}
			if name := w.on[0].loop.ServerName(c); name != "chat.example" || w.on[0].loop.Stats().Secured != 1 {
				t.Errorf("server name %q, %d secured", name, w.on[0].loop.Stats().Secured)
			}
			w.do(w.on[0], func() { w.on[0].loop.Write(c, []byte("bye")); w.on[0].loop.Close(c, netpoll.ReasonHandler) })
			if got, err := io.ReadAll(client); string(got) != "bye" || err != nil {
				t.Errorf("the end: %q, %v; the peer's close_notify makes it io.EOF", got, err)
			}
			f.s.End()
			w.pump()
			if s := w.hands.Stats(); s.Done != 1 || s.Running != 0 {
				t.Errorf("handshakes: %+v", s)
			}
		})
	}
}

// A socket that is full when a conn ends is waited for: the peer gets the last words and the close_notify, however little is taken at first, and the end of the stream
// behind them.
func TestSecureEndsBehindAFullSocket(t *testing.T) {
	for name, config := range versions {
		for room := range 60 {
			w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
			client, f, c := w.dial(w.on[0], config.Clone())
			if err := client.Handshake(); err != nil {
				t.Fatal(err)
			}
			w.pump()
			f.s.Room = room
			w.do(w.on[0], func() { w.on[0].loop.Write(c, []byte("bye")); w.on[0].loop.Close(c, netpoll.ReasonHandler) })
			w.pump()
			early, sent := f.s.ShutDown, len(f.s.Wrote)
			f.s.Room = -1
			if got, err := io.ReadAll(client); string(got) != "bye" || err != nil || !f.s.ShutDown {
				t.Fatalf("%s, room %d: %q, %v", name, room, got, err)
			}
			if early && len(f.s.Wrote) > sent {
				t.Fatalf("%s, room %d: the end of the stream has overtaken what is to be said before", name, room)
			}
			f.s.End()
			w.pump()
		}
	}
}

// The client's close_notify ends the conn as the end of its stream does, and is answered.
func TestSecurePeerEnds(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	client, _, c := w.dial(w.on[0], nil)
	id := c.ID(w.on[0].loop)
	if _, err := client.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(client); string(got) != "last words" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if why, ok := w.on[0].closed[id]; !ok || why != netpoll.ReasonPeer {
		t.Errorf("closed %v for %v", ok, why)
	}
}

// It does not matter where what the client sends is cut, nor how little our socket takes at a time.
func TestSecureInPieces(t *testing.T) {
	for name, config := range versions {
		for _, piece := range []int{1, 2, 3, 5, 64, 517, 1460} {
			for _, room := range []int{-1, 1, 7, 1000} {
				t.Run(fmt.Sprintf("%s/piece=%d/room=%d", name, piece, room), func(t *testing.T) {
					w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
					client, f, _ := w.dial(w.on[0], config.Clone())
					f.piece = piece
					sent := bytes.Repeat([]byte("0123456789"), 200)
					if err := client.Handshake(); err != nil {
						t.Fatal(err)
					}
					f.s.Room = room
					for i := range 4 {
						if _, err := client.Write(sent[:500*(i+1)]); err != nil {
							t.Fatal(err)
						}
					}
					var got []byte
					for rounds := 0; len(got) < 5000 && rounds < 100_000; rounds++ {
						b := make([]byte, 5000)
						n, err := client.Read(b)
						if got = append(got, b[:n]...); err != nil && !errors.Is(err, errNothing) {
							t.Fatal(err)
						}
						if room > 0 {
							f.s.Room = room
						}
					}
					var want []byte
					for i := range 4 {
						want = append(want, sent[:500*(i+1)]...)
					}
					if !bytes.Equal(got, want) {
						t.Errorf("%d bytes came back, want %d, or they differ", len(got), len(want))
					}
				})
			}
		}
	}
}

// A handshake is cut once, at every seventh byte of what the client sends, and a pause follows; TestSecureInPieces cuts at each.
func TestSecureHandshakeCutAnywhere(t *testing.T) {
	for name, config := range versions {
		t.Run(name, func(t *testing.T) {
			for cut := 1; ; cut += 7 {
				w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
				_, f, _ := w.dial(w.on[0], config.Clone())
				pos := 0
				cutting := &cutter{far: f, cut: cut, pos: &pos}
				client := tls.Client(cutting, &tls.Config{InsecureSkipVerify: true, MinVersion: config.MinVersion, MaxVersion: config.MaxVersion, CipherSuites: config.CipherSuites})
				if _, err := client.Write([]byte("hello")); err != nil {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				if got := read(t, client, 5); string(got) != "hello" {
					t.Fatalf("cut at %d: %q", cut, got)
				}
				w.end(t)
				if pos < cut {
					return
				}
			}
		})
	}
}

// cutter sends what is before a place, lets all happen, and then sends the rest.
type cutter struct {
	*far
	cut int
	pos *int
}

func (c *cutter) Write(b []byte) (int, error) {
	if n := c.cut - *c.pos; n > 0 && n < len(b) {
		_, _ = c.far.Write(b[:n])
		c.w.pump()
		_, _ = c.far.Write(b[n:])
	} else {
		_, _ = c.far.Write(b)
	}
	*c.pos += len(b)
	return len(b), nil
}

// What is no TLS, or no more, ends the conn with its reason. The handler never sees any of it.
func TestSecureGarbage(t *testing.T) {
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewPCG(seed, 1))
	for i := range 300 {
		w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
		h := w.on[0]
		client, f, c := w.dial(h, versions[[]string{"TLS 1.3", "TLS 1.2", "CBC"}[i%3]].Clone())
		id := c.ID(h.loop)
		if i%2 == 0 {
			if err := client.Handshake(); err != nil {
				t.Fatal(err)
			}
			w.pump()
		} else {
			f.s.Send([]byte{22, 3, 1}) // else the handler would say what it thinks of it
		}
		garbage := make([]byte, 20+random.IntN(3000))
		for k := range garbage {
			garbage[k] = byte(random.Uint32())
		}
		if i%4 < 2 { // as records
			for at := 0; at+5 < len(garbage); {
				n := random.IntN(40)
				copy(garbage[at:], []byte{byte(20 + random.IntN(4)), 3, 3, 0, byte(n)})
				at += 5 + n
			}
		}
		f.s.Send(garbage)
		w.pump()
		w.net.Seconds(30) // a record of which the rest does not come
		w.pump()
		why, closed := h.closed[id]
		if !closed || why != netpoll.ReasonTLS && why != late && why != netpoll.ReasonPeer {
			t.Fatalf("garbage %d: closed %v for %d", i, closed, why)
		}
		if len(w.got[c]) > 0 {
			t.Fatalf("the handler was given %q", w.got[c])
		}
	}
}

// A handshake has its time, from its first byte on, whatever comes of it.
func TestSecureHandshakeDeadline(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	h := w.on[0]
	hello := helloOf(t, w)
	var ids []netpoll.ID
	for _, n := range []int{1, 5, len(hello) / 2, len(hello)} {
		c, s := w.connect(h)
		ids = append(ids, c.ID(h.loop))
		s.Send(hello[:n])
		w.pump()
	}
	w.net.Seconds(5)
	if len(h.closed) != 0 {
		t.Fatalf("%d of them have ended before their time", len(h.closed))
	}
	if in := w.budget.Inbound(); in < int64(len(hello)) {
		t.Errorf("%d bytes are counted for them", in)
	}
	w.net.Seconds(1)
	for _, id := range ids {
		if h.closed[id] != netpoll.ReasonTLS {
			t.Errorf("closed for %d", h.closed[id])
		}
	}
	if s := w.hands.Stats(); s.Late != 4 || s.Running != 0 {
		t.Errorf("handshakes: %+v", s)
	}
}

// A conn that speaks TLS goes to another loop, and back, with what has come and is not decrypted, and what is unsent.
func TestSecureMoves(t *testing.T) {
	w := newSealed(t, 2, netpoll.HandshakeLimits{}, 1<<30)
	client, f, _ := w.dial(w.on[0], nil)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	w.pump()
	var all []byte
	for i, h := range w.on {
		other := w.on[1-i]
		h.onData = func(c *netpoll.Conn, b []byte) int {
			all = append(all, b...)
			h.loop.Write(c, b)
			if len(b) > 0 {
				h.move(other)
			}
			return len(b)
		}
	}
	var want, got []byte
	for i := range 200 {
		if i%3 == 0 {
			f.s.Room = i
		}
		b := bytes.Repeat([]byte{byte(i)}, 1+i*i%3000)
		if _, err := client.Write(b); err != nil {
			t.Fatal(err)
		}
		want = append(want, b...)
		if i%2 == 0 {
			w.pump()
		}
	}
	for range 100_000 {
		b := make([]byte, 4096)
		n, err := client.Read(b)
		if got = append(got, b[:n]...); err != nil && !errors.Is(err, errNothing) {
			t.Fatal(err)
		}
		if f.s.Room = -1; len(got) == len(want) {
			break
		}
	}
	if !bytes.Equal(all, want) || !bytes.Equal(got, want) {
		t.Errorf("%d bytes were decrypted and %d echoed of %d, or they differ", len(all), len(got), len(want))
	}
}

// A conn without a socket takes over one that speaks TLS.
func TestSecureHeir(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	h := w.on[0]
	client, f, _ := w.dial(h, nil)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	w.pump()
	var heir *netpoll.Conn
	w.do(h, func() {
		heir = h.pull()
		h.loop.Write(heir, []byte("what waited"))
	})
	echo := h.onData
	h.onData = func(c *netpoll.Conn, b []byte) int {
		h.onData = echo
		h.attach(heir)
		return 7
	}
	if _, err := client.Write([]byte("upgradeand more")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, client, 19); string(got) != "what waitedand more" {
		t.Errorf("%q", got)
	}
	if !heir.Secured() || h.loop.Stats().Secured != 1 {
		t.Error("the heir does not speak TLS")
	}
	f.s.End()
	w.pump()
}

// Who pushes to a group pushes to members with and without TLS alike, and slow ones share what waits.
func TestSecureMembersOfGroups(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	h := w.on[0]
	secure := h.onData
	h.onData = func(c *netpoll.Conn, b []byte) int {
		if c.Peer().Port()%2 == 0 && !c.Secured() {
			return len(b)
		}
		return secure(c, b)
	}
	var clients []*tls.Conn
	var fars []*far
	var plain []*looptest.Socket
	var members []*netpoll.Conn
	for len(clients) < 4 || len(plain) < 4 {
		client, f, c := w.dial(h, nil)
		members = append(members, c)
		if c.Peer().Port()%2 == 0 {
			plain = append(plain, f.s)
			continue
		}
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		clients, fars = append(clients, client), append(fars, f)
	}
	w.pump()
	g := new(netpoll.Group)
	w.do(h, func() {
		for _, c := range members {
			h.loop.Join(c, g)
		}
	})
	var want []byte
	for i := range 300 {
		b := bytes.Repeat([]byte{byte(i)}, 1+i*7%900)
		want = append(want, b...)
		if i == 50 {
			fars[0].s.Room, fars[1].s.Room = 10, 3000
		}
		w.do(h, func() { h.loop.Push(g, b) })
	}
	if unsent := w.budget.Buffered(); unsent < 100_000 || unsent > 300_000 {
		t.Errorf("%d bytes wait for two slow members; they lack %d each, and share them", unsent, len(want))
	}
	fars[0].s.Room, fars[1].s.Room = -1, -1
	w.pump()
	for i, c := range clients {
		if got := read(t, c, len(want)); !bytes.Equal(got, want) {
			t.Errorf("member %d got something else", i)
		}
	}
	for i, s := range plain {
		if !bytes.Equal(s.Wrote, want) {
			t.Errorf("plain member %d got something else", i)
		}
	}
}

// To write to a conn that speaks TLS takes no memory, and to read it 24 bytes, by which crypto/tls reads a record.
func TestSecureAllocatesNothing(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	h := w.on[0]
	_, f, c, k := w.open(t, h)
	h.onData = func(_ *netpoll.Conn, b []byte) int { h.loop.Write(c, b); return len(b) }
	message := make([]byte, 100)
	records := make([][]byte, 300)
	for i := range records {
		records[i] = k.Record(23, message)
	}
	f.s.Wrote = make([]byte, 0, 1<<20)
	i := 0
	if n := testing.AllocsPerRun(250, func() {
		f.s.Send(records[i])
		f.s.Ready()
		i++
	}); n > 2 && !raceEnabled { // one is the test's own Send
		t.Errorf("%v allocations for a message that is echoed", n)
	}
}

// What crypto/tls does and does not document: an error that calls itself temporary is not kept. Where a release of Go keeps it, nothing here works.
func TestCryptoTLSReadsOn(t *testing.T) {
	w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
	client, _, _ := w.dial(w.on[0], nil)
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	w.pump()
	for i := range 3 {
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, errNothing) {
			t.Fatalf("a read of nothing: %v", err)
		}
		if _, err := client.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if got := read(t, client, 1); got[0] != byte(i) {
			t.Fatalf("%x", got)
		}
	}
}
