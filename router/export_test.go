package router

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/filter"
	"github.com/pomelod/pomelod/netpoll"
)

// thaw freezes every session that can be exported, forgets it, and makes it anew of the bytes. It returns how many there were.
func (r *rig) thaw() (n int) {
	for _, l := range r.node.loops {
		l.np.Each(func(c *netpoll.Conn) {
			s := l.session(c)
			if s.movable() != 0 {
				return
			}
			n++
			state := l.exportSession(s)
			l.countTransport(s, 0)
			l.freeExtra(s)
			*s = session{conn: c}
			l.np.SetDue(c, 0)
			if err := l.importSession(s, bytes.Clone(state)); err != nil {
				r.t.Fatalf("%v: %x", err, state)
			}
			if again := l.exportSession(s); !bytes.Equal(again, state) {
				r.t.Fatalf("exported  %x\nand again %x", state, again)
			}
		})
	}
	return n
}

// anySID is what differs from one node to the next.
var anySID = regexp.MustCompile(`"sid":"[^"]*"`)

// A session that is frozen and thawed after every byte that its client sends says what one says that is left alone.
func TestThawedAfterEveryByte(t *testing.T) {
	upgrade := func(target string) []byte {
		return []byte("GET " + target + " HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	}
	text := func(packets ...string) (b []byte) {
		for _, p := range packets {
			b = append(b, maskedFrame(byte(codec.WSText), []byte(p))...)
		}
		return b
	}
	fragment := func(head byte, payload string) []byte {
		f := maskedFrame(2, []byte(payload))
		f[0] = head
		return f
	}
	packages := func(frame func([]byte) []byte) []byte {
		p := func(kind codec.PackageType, body []byte) []byte { return frame(codec.AppendPackage(nil, kind, body)) }
		b := p(codec.PackageHandshake, []byte(`{"sys":{},"user":{"secret":"0123456789abcdef"}}`))
		b = append(b, p(codec.PackageHandshakeAck, nil)...)
		b = append(b, p(codec.PackageHeartbeat, nil)...)
		for id, route := range []string{"connector.no.such", routeSend, "chat.no.such"} {
			b = append(b, p(codec.PackageData, plainMessage(uint32(id+1), route, `{"content":"x"}`))...)
		}
		b = append(b, frame(append(codec.AppendPackage(nil, codec.PackageHeartbeat, nil),
			codec.AppendPackage(nil, codec.PackageData, plainMessage(4, "chat.no.such", "{}"))...))...)
		return append(b, p(codec.PackageData, plainMessage(5, routeEnter, enterBody("a", "r")))...)
	}
	whole := func(b []byte) []byte { return b }
	frames := func(b []byte) []byte { return maskedFrame(byte(codec.WSBinary), b) }
	pieces := func(b []byte) []byte { // a message of three fragments, with a ping between them
		f := fragment(0x02, string(b[:1]))
		f = append(f, maskedFrame(byte(codec.WSPing), []byte("are you there"))...)
		f = append(f, fragment(0x00, string(b[1:2]))...)
		return append(f, fragment(0x80, string(b[2:]))...)
	}
	message := func(id string) string {
		return `42["message","\u0000\u0000\u0000\u000` + id + `\fchat.no.such{}"]`
	}
	for name, sent := range map[string][]byte{
		"tcp":                 packages(whole),
		"websocket":           append(upgrade("/"), packages(frames)...),
		"websocket, in parts": append(upgrade("/"), packages(pieces)...),
		"eio3": append(upgrade("/socket.io/?EIO=3&transport=websocket"), text("2", "2probe", message("1"), "40", message("2"),
			"x")...),
		"eio4": append(upgrade("/socket.io/?EIO=4&transport=websocket"), text("40", "3", message("1"), "41", "40", message("2"), "1")...),
	} {
		t.Run(name, func(t *testing.T) {
			var wrote [2][]byte
			thaws := 0
			for i := range wrote {
				r := newRig(t, shape{loops: 1}, nil)
				c := r.connect(atConnector, false)
				for _, x := range sent {
					c.sock.Send([]byte{x})
					r.net.Settle()
					if i == 1 {
						thaws += r.thaw()
						r.net.Settle()
					}
				}
				r.net.Seconds(1)
				wrote[i] = anySID.ReplaceAll(c.sock.Wrote, []byte(`"sid":""`))
			}
			if thaws < 20 {
				t.Errorf("%d thaws of %d bytes", thaws, len(sent))
			}
			if !bytes.Equal(wrote[0], wrote[1]) {
				t.Errorf("left alone %q\nthawed     %q", wrote[0], wrote[1])
			}
		})
	}
}

// A session that cannot go to another loop, or to one that takes the place of its own, says why.
func TestWhyASessionStays(t *testing.T) {
	a := app.New()
	a.Timeout = time.Second
	over := make(chan struct{})
	defer close(over)
	a.Handle("connector.x.wait", func(c *app.Call) (any, error) {
		<-over // its goroutine reads the clock when it ends, which goes on until then
		return nil, nil
	})
	r := newRig(t, shape{loops: 1}, func(c *Config) { c.App, c.Access = a, Access{} })
	l := r.node.loops[0]
	check := func(c *client, move, hand stays) {
		t.Helper()
		var s *session
		l.np.Export(func(conn *netpoll.Conn, fd int, _ *netpoll.ConnState) {
			if fd == c.sock.FD {
				s = l.session(conn)
			}
		})
		if got := s.movable(); got != move {
			t.Errorf("to another loop: %v, want %v", got, move)
		}
		if got := s.exportable(); got != hand {
			t.Errorf("to a loop in this one's place: %v, want %v", got, hand)
		}
	}
	c := r.connect(atConnector, false)
	check(c, staysOpening, 0)
	c.send(codec.PackageHandshake, []byte(`{"sys":{}}`))
	c.send(codec.PackageHandshakeAck, nil)
	r.net.Settle()
	c.pump()
	check(c, 0, 0)
	c.request(routeEnter, enterBody("a", "r"))
	r.net.Settle()
	check(c, staysInRoom, 0)

	gone := r.login(atConnector, false)
	l.np.Each(func(conn *netpoll.Conn) {
		if s := l.session(conn); s.phase == working && s.room == nil && s.appClient() == nil {
			l.np.Close(conn, reasonKick)
			if s.movable() != staysEnded || s.exportable() != staysEnded {
				t.Errorf("one that ends: %v, %v", s.movable(), s.exportable())
			}
			l.np.Ring()
		}
	})
	r.net.Settle()
	if open(r, gone) {
		t.Error("it has not ended")
	}

	waits := r.login(atConnector, false)
	waits.request("connector.x.wait", "{}")
	r.net.Settle()
	check(waits, staysHandled, staysHandled)
	r.net.Seconds(2)
	r.until(func() bool { return l.counters.handlerTimeouts > 0 })
	check(waits, staysKnown, staysKnown)
	for why := stays(1); why < staysReasons; why++ {
		if why.String() == "" {
			t.Errorf("reason %d has no words", why)
		}
	}
}

// Whatever a client has asked of a room on another node is answered to it behind a hand-over.
func TestRequestsOnTheirWayAreHandedOver(t *testing.T) {
	for route, body := range map[string]string{
		routeEnter: enterBody("a", "q"), routeSend: sendBody("x", "*"), routeHistory: `{}`, routeMembers: `{}`,
	} {
		r := twoNodes(t, shape{loops: 1}, 1, keepHistory)
		c := r.login(atConnector, false)
		c.enter("a", "r")
		id := c.request(route, body)
		r.net.Events() // the other node has yet to answer
		waiting := 0
		l := r.node.loops[0]
		l.np.Each(func(conn *netpoll.Conn) { waiting += l.session(conn).inflight() })
		if waiting != 1 {
			t.Fatalf("%s: %d requests are on their way", route, waiting)
		}
		r.handOver(true)
		r.net.Settle()
		answer := ""
		for _, line := range c.take() {
			if text, is := strings.CutPrefix(line, fmt.Sprintf("answer %d ", id)); is {
				answer = text
			}
		}
		if answer == "" || strings.Contains(answer, `"code"`) {
			t.Errorf("%s is answered %q", route, answer)
		}
	}
}

// exportedSessions are states of sessions of all kinds.
func exportedSessions(t testing.TB) (states [][]byte) {
	r := twoNodes(t, shape{loops: 1}, 1, nil)
	for _, ws := range []bool{false, true} {
		c := r.withSecret(ws, "0123456789abcdef")
		c.sock.Send(maskedFrame(0x02, []byte("begun")))
	}
	r.login(atConnector, true).enter("a", "r")
	r.connect(atConnector, true).send(codec.PackageHandshake, []byte(`{"sys":{}}`))
	for _, sent := range []string{
		"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: h\r\n\r\nGET / HT", "GET /socket.io/?EIO=3&transport=polling HTTP/1.1\r\nHost: h\r\nOrigin: http://o\r\n\r\n",
		"GET /socket.io/1/ HTTP/1.1\r\nHost: h\r\n\r\n", "PO", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n12",
	} {
		r.connect(atConnector, false).sock.Send([]byte(sent))
	}
	r.net.Settle()
	waits := r.login(atConnector, false)
	waits.request(routeEnter, enterBody("b", "r"))
	for range 12 {
		waits.send(codec.PackageHeartbeat, nil)
	}
	r.net.Events() // the other node has yet to answer
	l := r.node.loops[0]
	l.np.Each(func(c *netpoll.Conn) { states = append(states, l.exportSession(l.session(c))) })
	return append(states, siftedSession(t))
}

// siftedSession is the state of a session whose message is at the filter.
func siftedSession(t testing.TB) (state []byte) {
	over := make(chan struct{})
	defer close(over)
	r := newRig(t, shape{loops: 1}, func(c *Config) {
		c.Filter = Filter{Timeout: time.Hour, AtOnce: 1, Judge: func(context.Context, filter.Said) (filter.Verdict, error) {
			<-over
			return filter.Verdict{}, nil
		}}
	})
	c := r.login(atConnector, false)
	c.enter("c", "r")
	c.request(routeSend, sendBody("x", "*"))
	r.net.Settle()
	l := r.node.loops[0]
	l.np.Each(func(c *netpoll.Conn) { state = l.exportSession(l.session(c)) })
	return state
}

// A session's state is refused whole if anything is missing, follows, or is of another version.
func TestMalformedSessionsAreRefused(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	r.uncounted = true
	r.login(atConnector, false).enter("z", "r")
	l := r.node.loops[0]
	r.connect(atConnector, false)
	var sock *netpoll.Conn
	l.np.Each(func(c *netpoll.Conn) { sock = c })
	pull := l.np.OpenPull(atConnector, sock.Peer())
	refused := func(b []byte) bool {
		for _, c := range []*netpoll.Conn{sock, pull} {
			s := l.newSession(c)
			if l.importSession(s, b) == nil {
				l.depart(s, reasonGoodbye)
				l.countTransport(s, 0)
				return false
			}
			if *s != (session{conn: c}) {
				t.Error("something was taken of what was refused")
			}
		}
		return true
	}
	states := exportedSessions(t)
	if len(states) < 12 {
		t.Fatalf("%d states", len(states))
	}
	for _, b := range states {
		if refused(b) {
			t.Errorf("refused: %x", b)
		}
		for n := range b {
			if !refused(b[:n]) {
				t.Errorf("%d bytes of it are enough: %x", n, b)
			}
		}
		if !refused(append(bytes.Clone(b), 0)) {
			t.Errorf("one byte more is none too many: %x", b)
		}
		for _, version := range []byte{0, sessionVersion - 1, sessionVersion + 1} {
			if other := append([]byte{version}, b[1:]...); !refused(other) {
				t.Errorf("version %d was read", version)
			}
		}
	}
}

// FuzzImportSession reads any bytes as a session's state: they are refused, or make a session that exports the same as often as it is
// asked, and serves its client.
func FuzzImportSession(f *testing.F) {
	for _, b := range exportedSessions(f) {
		f.Add(b, []byte("\x04\x00\x00\x00"))
	}
	f.Fuzz(func(t *testing.T, state, sent []byte) {
		if len(state)+len(sent) > 4096 {
			return
		}
		r := newRig(t, shape{loops: 1}, nil)
		r.uncounted = true
		r.login(atConnector, false).enter("z", "r")
		c := r.connect(atConnector, false)
		l := r.node.loops[0]
		pull := l.np.OpenPull(atConnector, netip.AddrPortFrom(r.peer, 1))
		l.newSession(pull)
		imported := func(conn *netpoll.Conn) bool {
			s := l.session(conn)
			if s.phase != opening || s.variant != 0 || l.importSession(s, bytes.Clone(state)) != nil {
				return false
			}
			once := l.exportSession(s)
			l.np.Leave(conn)
			*s = session{conn: conn, transport: s.transport}
			if err := l.importSession(s, bytes.Clone(once)); err != nil {
				t.Fatalf("exported %x, of %x: %v", once, state, err)
			}
			if again := l.exportSession(s); !bytes.Equal(again, once) {
				t.Fatalf("exported  %x\nand again %x", once, again)
			}
			return true
		}
		var conns []*netpoll.Conn
		l.np.Each(func(conn *netpoll.Conn) { conns = append(conns, conn) })
		for _, conn := range conns {
			if !imported(conn) && conn == pull {
				l.np.Kill(pull, netpoll.ReasonPeer)
			}
		}
		c.sock.Send(sent)
		if pull.Alive() {
			l.np.Feed(pull, codec.AppendPacket(nil, sent))
			l.np.Fetch(pull)
		}
		r.net.Settle()
		r.net.Seconds(2)
		if s := l.np.Stats(); s.Panics+l.counters.panics != 0 {
			t.Fatal("a panic was contained; it should not have been")
		}
	})
}
