package netpoll_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pomelod/pomelod/internal/tlskeys"
	"github.com/pomelod/pomelod/netpoll"
)

// FuzzSecurePeer has two clients of crypto/tls send the same: one to crypto/tls' own server, the other to a loop. The input says what: messages, changes of keys,
// records that say nothing, alerts, the end of TLS, garbage, bits that flip, and where all of it is cut. Both servers must hear the same text and come to the same end, and both
// clients must be told the same of it.
func FuzzSecurePeer(f *testing.F) {
	f.Add([]byte{0, 0, 200, 0, 3, 1, 0, 9, 4})                             // messages, keys
	f.Add([]byte{0, 0, 5, 2, 0, 7, 3, 0, 1, 0, 9})                         // the end of TLS, and what follows it
	f.Add([]byte{1, 0, 255, 5, 21, 3, 0, 9, 100, 200, 7})                  // garbage behind a message
	f.Add([]byte{2, 0, 9, 6, 30, 1, 0, 9, 1, 1})                           // a bit that flips in the next record
	f.Add([]byte{0, 4, 90, 1, 1, 0, 255, 7, 3, 8, 4, 2, 9, 3, 0, 8})       // alerts, handshake messages that are none
	f.Add([]byte{0, 0, 9, 6, 3, 255, 0, 9, 6, 4, 255, 0, 9, 0, 8})         // a length that is another
	f.Add([]byte{1, 2, 0, 0, 9, 0, 9, 8, 200})                             // the end, in the version before
	f.Add([]byte{0, 9, 0, 3, 0, 3, 0, 3, 0, 3, 0, 3, 1, 3, 1, 0, 1, 8, 3}) // what says nothing
	f.Add([]byte{0, 4, 0, 48})                                             // an alert, and nothing else
	names := []string{"TLS 1.3", "TLS 1.2", "CBC"}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 || len(in) > 120 {
			return
		}
		config := versions[names[int(in[0])%len(names)]]
		theirs := newTheirs(t, config)
		w := newSealed(t, 1, netpoll.HandshakeLimits{}, 1<<30)
		h := w.on[0]
		h.onData = func(c *netpoll.Conn, b []byte) int {
			if !c.Secured() {
				h.loop.Secure(c)
				return 0
			}
			w.got[c] = append(w.got[c], b...)
			return len(b)
		}
		var log bytes.Buffer
		own := config.Clone()
		own.KeyLogWriter = &log
		client, far, c := w.dial(h, own)
		id := c.ID(h.loop)
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		w.pump()

		far.hold, far.sent = true, nil
		newSayer(t, client, log.String(), &far.sent).say(in[1:])
		newSayer(t, theirs.client, theirs.log.String(), &theirs.link.held).say(in[1:])
		ours, other := far.sent, theirs.link.held
		if len(ours) != len(other) {
			t.Fatalf("%d bytes for the loop and %d for crypto/tls", len(ours), len(other))
		}
		for at := 0; at < len(ours); {
			n := min(1+int(in[at%len(in)])*int(in[(at+1)%len(in)])%97, len(ours)-at)
			far.s.Send(ours[at : at+n])
			w.pump()
			at += n
		}
		far.s.End()
		w.pump()
		text, err := theirs.hear()

		if got := w.got[c]; !bytes.Equal(got, text) {
			t.Errorf("the loop heard %d bytes, crypto/tls %d, or others", len(got), len(text))
		}
		want := netpoll.ReasonTLS
		if err == io.EOF || err == io.ErrUnexpectedEOF || h.closed[id] == netpoll.ReasonPeer && inRecord(ours) {
			want = netpoll.ReasonPeer // a loop looks at no record before all of it is there
		}
		if why, closed := h.closed[id]; !closed || why != want {
			t.Errorf("the loop closed: %v, for %d, and not %d; crypto/tls: %v", closed, why, want, err)
		}
		if inRecord(ours) {
			return
		}
		told, wanted := lastWord(client), lastWord(theirs.client)
		if told != wanted {
			t.Errorf("the loop's client is told %q, that of crypto/tls %q", told, wanted)
		}
	})
}

// lastWord is how a client sees its connection end.
func lastWord(c *tls.Conn) string {
	b := make([]byte, 1024)
	for {
		if _, err := c.Read(b); err != nil {
			return err.Error()
		}
	}
}

// inRecord tells whether what was sent ends within a record.
func inRecord(b []byte) bool {
	for len(b) >= 5 {
		n := 5 + int(binary.BigEndian.Uint16(b[3:]))
		if n > len(b) {
			return true
		}
		b = b[n:]
	}
	return len(b) > 0
}

// sayer says what an input wants, by a client that has shaken hands.
type sayer struct {
	client *tls.Conn
	keys   *tlskeys.Keys // of TLS 1.3; nil before, when the client itself seals
	sent   *[]byte
	ended  bool
	idle   int            // records that said nothing
	flip   func(b []byte) // what becomes of the next that is sent; nil: nothing
}

func newSayer(t *testing.T, client *tls.Conn, log string, sent *[]byte) *sayer {
	s := &sayer{client: client, sent: sent}
	if state := client.ConnectionState(); state.Version == tls.VersionTLS13 {
		if state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
			t.Skip("without AES in hardware crypto/tls chooses another cipher")
		}
		s.keys = keysIn(t, log)
	}
	return s
}

// record sends one. Those that say nothing are at most as many as a loop takes in a second (idleRecords).
func (s *sayer) record(kind byte, contents []byte) {
	if kind != 23 || len(contents) == 0 {
		if s.idle++; s.idle > 8 {
			return
		}
	}
	before := len(*s.sent)
	switch {
	case s.keys != nil:
		*s.sent = append(*s.sent, s.keys.Record(kind, contents)...)
	case kind == 23 && len(contents) > 0 && !s.ended:
		_, _ = s.client.Write(contents)
	case kind == 21 && len(contents) == 2 && contents[1] == 0 && !s.ended:
		s.ended = true
		_ = s.client.CloseWrite()
	}
	if b := (*s.sent)[before:]; len(b) > 0 && s.flip != nil {
		s.flip(b)
		s.flip = nil
	}
}

// say says what the input tells.
func (s *sayer) say(in []byte) {
	next := func() (b byte) {
		if len(in) > 0 {
			b, in = in[0], in[1:]
		}
		return b
	}
	for len(in) > 0 {
		switch next() % 10 {
		case 0:
			n := 1 + int(next())*61
			s.record(23, bytes.Repeat([]byte{byte(n)}, n))
		case 1: // a change of keys, perhaps with the wish for another
			if asks := next() % 2; s.keys != nil && s.idle < 8 {
				s.record(22, []byte{24, 0, 0, 1, asks})
				s.keys.Next()
			}
		case 2:
			s.record(21, []byte{1, next() % 2 * 90}) // close_notify, user_canceled
		case 3:
			s.record(23, make([]byte, int(next())%2))
		case 4:
			s.record(21, []byte{1 + next()%2, next()})
		case 5: // a record in the clear
			kind, n := 20+next()%5, int(next())
			*s.sent = append(append(*s.sent, kind, 3, 3, 0, byte(n)), make([]byte, n)...)
		case 6: // bits of the next record
			at, with := int(next()), next()
			s.flip = func(b []byte) { b[at%len(b)] ^= with }
		case 7: // a message of a handshake
			s.record(22, []byte{next(), 0, 0, 1, next()})
		case 8: // in the clear, and no record
			*s.sent = append(*s.sent, bytes.Repeat([]byte{next()}, 1+int(next())%40)...)
		case 9:
			s.record(next(), []byte{next()})
		}
	}
}

// theirs is a connection of crypto/tls' client to crypto/tls' server.
type theirs struct {
	client *tls.Conn
	link   *link
	log    bytes.Buffer
	heard  chan struct{} // closed when the server has come to its end
	text   []byte
	err    error
}

func newTheirs(t *testing.T, config *tls.Config) *theirs {
	there, back := newPipe(io.EOF), newPipe(errNoNotify)
	x := &theirs{link: &link{in: back, out: there}, heard: make(chan struct{})}
	config = config.Clone()
	config.InsecureSkipVerify, config.ServerName, config.KeyLogWriter = true, "chat.example", &x.log
	x.client = tls.Client(x.link, config)
	server := tls.Server(&link{in: there, out: back}, &tls.Config{Certificates: []tls.Certificate{certificate()}, DynamicRecordSizingDisabled: true})
	go func() {
		defer close(x.heard)
		defer back.end()
		b := make([]byte, 4096)
		for x.err == nil {
			var n int
			n, x.err = server.Read(b)
			x.text = append(x.text, b[:n]...)
		}
		if alert := new(net.OpError); !errors.As(x.err, &alert) { // RFC 8446, section 6.2: nobody answers an alert
			_ = server.CloseWrite()
		}
	}()
	t.Cleanup(func() { there.end(); <-x.heard })
	if err := x.client.Handshake(); err != nil {
		t.Fatal(err)
	}
	x.link.hold = true
	return x
}

// hear sends what was held, and the end, and returns what the server made of it.
func (x *theirs) hear() ([]byte, error) {
	x.link.out.write(x.link.held)
	x.link.out.end()
	<-x.heard
	return x.text, x.err
}

// link is one end of a connection in memory.
type link struct {
	net.Conn // nil
	in, out  *pipe
	hold     bool // what is written is kept
	held     []byte
}

func (l *link) Read(b []byte) (int, error) { return l.in.read(b) }

func (l *link) Write(b []byte) (int, error) {
	if l.hold {
		l.held = append(l.held, b...)
	} else {
		l.out.write(b)
	}
	return len(b), nil
}

func (l *link) SetWriteDeadline(time.Time) error { return nil }

// pipe is one way of it. Safe from any goroutine.
type pipe struct {
	mu    sync.Mutex
	more  *sync.Cond
	bytes []byte
	over  bool
	last  error // what who reads is told at the end
}

func newPipe(last error) *pipe {
	p := &pipe{last: last}
	p.more = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) write(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes = append(p.bytes, b...)
	p.more.Broadcast()
}

func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.more.Broadcast()
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.bytes) == 0 && !p.over {
		p.more.Wait()
	}
	if len(p.bytes) == 0 {
		return 0, p.last
	}
	n := copy(b, p.bytes)
	p.bytes = p.bytes[n:]
	return n, nil
}
