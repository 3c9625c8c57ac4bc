package router

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// A kicked client is told why, if it has come far enough to understand, and closed (protocol.md §2.8). The others see it leave.
func TestKick(t *testing.T) {
	forWires(t, func(t *testing.T, ws bool) {
		r := newRig(t, shape{loops: 1}, nil)
		kick := func(c *client, reason string) {
			l := r.node.loops[0]
			var addr channel.Addr
			l.np.Each(func(conn *netpoll.Conn) {
				if int(conn.Peer().Port()) == c.sock.FD {
					addr = l.addr(conn)
				}
			})
			l.mail.Post(mail{item: channel.Item{Kind: channel.ItemKick, To: addr, Body: []byte(reason)}})
		}
		c, other, early := r.login(atConnector, ws), r.login(atConnector, ws), r.connect(atConnector, ws)
		other.enter("other", "r")
		c.enter("c", "r")
		c.rest()
		other.take()
		early.rest()
		kick(c, "say \"bye\" "+smile)
		c.wantClosed(c.packed(codec.PackageKick, `{"reason":"say \"bye\" \ud83d\ude00"}`))
		other.want(`push 0 onLeave {"route":"onLeave","user":"c"}`)
		kick(early, "too early")
		early.wantClosed("")
		kick(c, "again") // an address of the past names nobody
		r.net.Settle()
		if n := r.closedFor(reasonKick); n != 2 {
			t.Errorf("%d counted", n)
		}
	})
}

// HTTP that opens no WebSocket is answered and closed, at once (protocol.md §2.1, §8).
func TestHTTPRefusals(t *testing.T) {
	const ok = "Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " + upgradeKey + "\r\nSec-WebSocket-Version: 13\r\n"
	for _, tc := range []struct{ name, head, status, header string }{
		{"a page", "GET / HTTP/1.1\r\nHost: h\r\n", "404 Not Found", ""},
		{"a page, by HTTP/1.0", "GET /x HTTP/1.0\r\n", "404 Not Found", ""},
		{"POST", "POST / HTTP/1.1\r\nHost: h\r\n", "405 Method Not Allowed", "Allow: GET\r\n"},
		{"OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: h\r\n", "405 Method Not Allowed", "Allow: GET\r\n"},
		{"DELETE", "DELETE / HTTP/1.1\r\nHost: h\r\n", "405 Method Not Allowed", "Allow: GET\r\n"},
		{"PUT with upgrade", "PUT / HTTP/1.1\r\n" + ok, "405 Method Not Allowed", "Allow: GET\r\n"},
		{"CONNECT", "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n", "405 Method Not Allowed", ""},
		{"an old version", "GET / HTTP/1.1\r\n" + strings.Replace(ok, "13", "8", 1), "426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n"},
		{"no version", "GET / HTTP/1.1\r\n" + strings.Replace(ok, "Version", "Wersion", 1), "426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n"},
		{"no key", "GET / HTTP/1.1\r\n" + strings.Replace(ok, "Key", "Kex", 1), "400 Bad Request", ""},
		{"no Connection", "GET / HTTP/1.1\r\n" + strings.Replace(ok, "Connection", "Konnection", 1), "400 Bad Request", ""},
		{"no Host", "GET / HTTP/1.1\r\n" + strings.Replace(ok, "Host", "Hosd", 1), "400 Bad Request", ""},
		{"a body", "GET / HTTP/1.1\r\nContent-Length: 1\r\n" + ok, "400 Bad Request", ""},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n" + ok, "400 Bad Request", ""},
		{"nonsense", "GET /\r\n", "400 Bad Request", ""},
		{"bare line feed", "GET / HTTP/1.1\n", "400 Bad Request", ""},
		{"HTTP/2", "PRI * HTTP/2.0\r\n", "505 HTTP Version Not Supported", ""},
		{"a head that never ends", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 17000), "431 Request Header Fields Too Large", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, nil)
			c := r.connect(atConnector, false)
			c.sock.Send([]byte(tc.head + "\r\n"))
			got := c.rest()
			head, body, _ := strings.Cut(got, "\r\n\r\n")
			head += "\r\n"
			if !strings.HasPrefix(head, "HTTP/1.1 "+tc.status+"\r\n") || !strings.Contains(head, tc.header) || !c.ended() ||
				!strings.Contains(head, "Connection: close") || !strings.Contains(head, fmt.Sprintf("Content-Length: %d\r\n", len(body))) {
				t.Errorf("ended %v, got %q", c.ended(), got)
			}
			if r.closedFor(reasonHTTP) != 1 || r.node.loops[0].counters.httpErrors != 1 {
				t.Error("not counted")
			}
		})
	}
}

// RFC 9110 §9.3.2: no content in the answer to HEAD.
func TestHEADIsAnsweredWithoutBody(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	c := r.connect(atConnector, false)
	c.sock.Send([]byte("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"))
	if got := c.rest(); !strings.HasPrefix(got, "HTTP/1.1 404 ") || !strings.HasSuffix(got, "\r\n\r\n") {
		t.Errorf("got %q", got)
	}
}

// belled is a driver whose doorbell another goroutine may ring, as it does while a node shuts down.
type belled struct {
	netpoll.Driver
	foreign *atomic.Bool
	rung    chan struct{}
}

func (b *belled) Ring() {
	if !b.foreign.Load() {
		b.Driver.Ring()
		return
	}
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

// A node that shuts down tells everybody, after what it had for them already, and is done when all have closed.
func TestShutdown(t *testing.T) {
	for _, tc := range []struct {
		loops    int
		patience bool // until the peers have closed
	}{{1, true}, {3, true}, {1, false}} {
		t.Run(fmt.Sprintf("loops=%d,patience=%v", tc.loops, tc.patience), func(t *testing.T) {
			bell := belled{foreign: new(atomic.Bool), rung: make(chan struct{}, 1)}
			r := newRig(t, shape{loops: tc.loops}, func(c *Config) {
				inner := c.NewDriver
				c.NewDriver = func(i int) (netpoll.Driver, error) {
					d, err := inner(i)
					return &belled{Driver: d, foreign: bell.foreign, rung: bell.rung}, err
				}
			})
			ws, tcp, stuck := r.login(atConnector, true), r.login(atConnector, false), r.login(atConnector, true)
			clients := []*client{ws, tcp, stuck, r.connect(atConnector, true), r.connect(atConnector, false)}
			for i, c := range clients[:3] {
				c.enter(fmt.Sprint("n", i), "r")
			}
			for _, c := range clients {
				c.rest()
			}
			stuck.sock.Room = 0
			ws.ask(routeSend, sendBody("before the end", "*"))
			tcp.rest()
			ws.rest()

			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			done := make(chan error, 1)
			bell.foreign.Store(true)
			go func() { done <- r.node.Shutdown(ctx) }()
			round := func() {
				for _, l := range r.node.loops {
					l.np.Turn()
				}
				r.net.Events()
			}
			for !ws.ended() || !tcp.ended() || r.closedFor(reasonShutdown) != uint64(len(clients)) {
				<-bell.rung
				round()
			}
			if stuck.ended() {
				t.Error("one who had not got everything was ended")
			}
			stuck.sock.Room = -1
			for range 2 * tc.loops {
				round()
			}
			goodbye := string(codec.AppendWSClose(nil, codec.WSCloseGoingAway, "server is shutting down"))
			chat := stuck.packed(codec.PackageData, "\x06\x06onChat"+`{"msg":"before the end","from":"n0","target":"*"}`)
			if got := string(stuck.sock.Wrote[stuck.read:]); !stuck.ended() || !strings.HasPrefix(got, chat) || !strings.HasSuffix(got, goodbye) {
				t.Errorf("the slow one: ended %v, got %q", stuck.ended(), got)
			}
			for i, c := range clients {
				got := string(c.sock.Wrote[c.read:])
				if !c.ended() || c.ws != strings.HasSuffix(got, goodbye) || i > 2 && c.ws && got != goodbye {
					t.Errorf("client %d: ended %v, got %q", i, c.ended(), got)
				}
			}
			select {
			case err := <-done:
				t.Fatalf("done while sockets were open: %v", err)
			default:
			}
			if !tc.patience {
				cancel()
			} else {
				for _, c := range clients {
					c.sock.End()
				}
				round()
			}
			if err := <-done; (err == nil) != tc.patience {
				t.Error(err)
			}
		})
	}
}
