package router

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// secured are shapes whose clients speak TLS: crypto/tls' own, with the loops' transport at the other end. What clients say and are told is the same as without.
var secured = []shape{{loops: 1, tls: true}, {loops: 3, follow: true, tls: true}}

// selfSigned is a certificate, made once.
var selfSigned = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// secure has every listener speak TLS.
func (r *rig) secure(cfg *Config) {
	config := &tls.Config{Certificates: []tls.Certificate{selfSigned()}, DynamicRecordSizingDisabled: true}
	r.hands = netpoll.NewHandshakes(config, netpoll.HandshakeLimits{All: 4096, Client: 4096, Rate: 1e9, Seconds: 5}, r.net.Now)
	cfg.Handshakes, r.record = r.hands, make([]byte, 16<<10)
	for _, p := range cfg.Profiles {
		p.TLS = true
	}
}

// layer is a client's TLS.
type layer struct {
	net.Conn // nil: crypto/tls asks for Read and Write only
	tls      *tls.Conn
	in, out  []byte
	more     func() bool // in the handshake: has the loops go on, and tells whether there is more to read
	t        testing.TB
	record   []byte // what one is opened into; the rig's
}

var errNothing = &net.DNSError{Err: "nothing is there", IsTemporary: true}

func (y *layer) Read(b []byte) (int, error) {
	if len(y.in) == 0 && (y.more == nil || !y.more()) {
		return 0, errNothing
	}
	n := copy(b, y.in)
	y.in = y.in[n:]
	return n, nil
}

func (y *layer) Write(b []byte) (int, error) {
	y.out = append(y.out, b...)
	return len(b), nil
}

func (y *layer) SetWriteDeadline(time.Time) error { return nil }

func (y *layer) Seal(plain []byte) []byte {
	y.out = nil
	if _, err := y.tls.Write(plain); err != nil {
		y.t.Errorf("to seal %d bytes: %v", len(plain), err)
	}
	return y.out
}

func (y *layer) Open(sealed []byte) (plain []byte) {
	y.in = append(y.in, sealed...)
	b := y.record
	for {
		n, err := y.tls.Read(b)
		plain = append(plain, b[:n]...)
		switch {
		case errors.Is(err, errNothing), err == io.EOF: // there is nothing more by now, or ever
			return plain
		case err != nil:
			y.t.Errorf("to open %d bytes: %v", len(sealed), err)
			return plain
		}
	}
}

// shake shakes hands over a socket, whose Layer is TLS from then on.
func (r *rig) shake(s *looptest.Socket) {
	r.t.Helper()
	at := 0
	y := &layer{t: r.t, record: r.record}
	take := func() bool {
		s.Send(y.out)
		y.out = nil
		for r.net.Settle(); r.hands.Step(); {
			r.net.Pass(1000)
			r.net.Settle()
		}
		y.in = append(y.in, s.Wrote[at:]...)
		at = len(s.Wrote)
		return len(y.in) > 0
	}
	y.tls = tls.Client(y, &tls.Config{InsecureSkipVerify: true})
	y.more = take
	if err := y.tls.Handshake(); err != nil {
		if s.Closed || s.ShutDown { // nobody is let in
			return
		}
		r.t.Fatal("handshake: ", err)
	}
	take() // the last flight goes out, and tickets come
	y.more = nil
	s.Wrote, s.Writes, s.Largest = nil, 0, 0
	if got := y.Open(nil); len(got) > 0 {
		r.t.Fatalf("told %q before anything was said", got)
	}
	s.Layer = y
}

// What a client of any wire is told over TLS, with a login, is what it is told in the clear without one, and so is what others are told of it.
func TestWiresOverTLSWithLogin(t *testing.T) {
	type said struct {
		hybrid, ws bool
		kind       flavour
	}
	var wires []said
	for _, ws := range []bool{false, true} {
		wires = append(wires, said{hybrid: true, ws: ws, kind: flavour{name: fmt.Sprintf("hybrid, websocket %v", ws)}})
	}
	for _, kind := range flavours {
		wires = append(wires, said{kind: kind})
	}
	for _, wire := range wires {
		t.Run(wire.kind.name, func(t *testing.T) {
			var want []string
			for _, way := range []struct {
				shape
				login bool
			}{{shape{loops: 1}, false}, {shape{loops: 1, tls: true}, false}, {shape{loops: 1, tls: true}, true}, {shape{loops: 3, tls: true, follow: true}, true}, {shape{loops: 3, tls: true}, true}} {
				r := newRig(t, way.shape, nil)
				body := func(user, room, token string) string { return enterBody(user, room) }
				if way.login {
					r, _ = loginRig(t, way.shape, nil)
					body = withToken
				}
				witness := r.login(atConnector, !wire.ws)
				witness.told(routeEnter, body("witness", "r", "witness@7"))
				var say func(route, body string) string
				var notes func() []string
				if wire.hybrid {
					c := r.login(atConnector, wire.ws)
					say, notes = c.told, c.take
				} else {
					c := r.sioLogin(wire.kind)
					say, notes = c.answer, c.take
				}
				var got []string
				ask := func(route, body string) {
					got = append(got, "alice asks: "+say(route, body))
					r.net.Settle()
					got = append(got, notes()...)
					for _, line := range witness.take() {
						got = append(got, "witness: "+line)
					}
				}
				ask(routeEnter, body("alice", "r", "alice"))
				ask(routeSend, sendBody("to all", "*"))
				ask(routeSend, sendBody("王五 😀", "witness"))
				ask(routeSend, sendBody("to nobody", "nobody"))
				ask("no.such.route", "{}")
				ask(routeEnter, enterBody("alice", "s"))
				ask(routeSend, sendBody("alone", "*"))
				ask(routeEnter, enterBody("alice", "r"))
				if want == nil {
					want = got
				}
				if !slices.Equal(got, want) {
					t.Errorf("%v, login %v\ngot  %q\nwant %q", way.shape, way.login, got, want)
				}
			}
		})
	}
}

// answer is ask where the answer may take real time, as that to a login does.
func (c *sioClient) answer(route, body string) (text string) {
	c.r.t.Helper()
	id := c.request(route, body)
	c.r.until(func() bool {
		c.run()
		for i, e := range c.events {
			if e.kind == "answer" && e.id == id {
				c.events = append(c.events[:i], c.events[i+1:]...)
				text = e.text
				return true
			}
		}
		return c.lost()
	})
	return text
}

// Who speaks HTTP in the clear where TLS is spoken is told so, and ended; so is, without a word, who speaks anything else.
func TestClearWhereTLSIsSpoken(t *testing.T) {
	r := newRig(t, shape{loops: 1, tls: true}, nil)
	for said, want := range map[string]string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n": answerPlain, "\x01\x00\x00\x00": ""} {
		pass, ok := r.node.access.Admit(r.peer)
		if !ok {
			t.Fatal("not let in")
		}
		s := r.net.ConnectAs(r.node.Loops()[0], netpoll.ConnState{Tag: atConnector, Peer: netip.AddrPortFrom(r.peer, 0), Pass: pass})
		s.Send([]byte(said))
		r.net.Settle()
		if string(s.Wrote) != want || !s.ShutDown {
			t.Errorf("%q: told %q, ended %v", said, s.Wrote, s.ShutDown)
		}
		s.End()
		r.net.Settle()
	}
}
