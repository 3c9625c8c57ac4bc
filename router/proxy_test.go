package router

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/limit"
)

const (
	proxyV1    = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 3050\r\n"
	proxyV2    = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0f\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x0b\xea\x04\x00\x00"
	proxyLocal = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

func proxyRig(t *testing.T, loops int, perAddress limit.PerAddress) *rig {
	return accessRig(t, loops, Access{ProxyProtocol: tens, PerAddress: perAddress})
}

// helloTCP is what a hybrid client sends first.
func helloTCP() string {
	return string(codec.AppendPackage(nil, codec.PackageHandshake, []byte(`{"sys":{"type":"test","version":"1"}}`)))
}

// Behind a header everything is as without one, however both are cut.
func TestProxyHeader(t *testing.T) {
	for _, header := range []string{proxyV1, proxyV2, proxyLocal} {
		for _, hello := range []string{helloTCP(), get("/gate/queryEntry?uid=a"), upgradeTo("/")} {
			for cut := range len(header) + 3 {
				r := proxyRig(t, 1, limit.PerAddress{Conns: 10})
				w := r.web(atConnector)
				all := header + hello
				w.send(all[:cut])
				r.net.Settle()
				if len(w.sock.Wrote) > 0 {
					t.Fatalf("answered after %d bytes: %q", cut, w.sock.Wrote)
				}
				w.send(all[cut:])
				r.net.Settle()
				if len(w.sock.Wrote) == 0 || w.sock.ShutDown {
					t.Fatalf("%q, cut at %d: %q, ended %v", all, cut, w.sock.Wrote, w.sock.ShutDown)
				}
				if header == proxyLocal {
					r.counted(0, 0)
				} else {
					r.counted(1, 1)
				}
				r.endAll()
				r.counted(0, 0)
			}
		}
	}
}

// From a trusted proxy a header is required, and it has three seconds for it.
func TestProxyHeaderIsRequired(t *testing.T) {
	r := proxyRig(t, 1, limit.PerAddress{Conns: 10})
	for _, first := range []string{helloTCP(), upgradeTo("/"), "PROXY nonsense\r\n", "\r\n\r\n\x00\r\nQUIT\n\x31"} {
		w := r.web(atConnector)
		w.send(first)
		r.net.Settle()
		if !w.sock.ShutDown || len(w.sock.Wrote) > 0 {
			t.Errorf("%q: ended %v, answered %q", first, w.sock.ShutDown, w.sock.Wrote)
		}
	}
	if n := r.closedFor(reasonProtocol); n != 4 {
		t.Errorf("%d closed for their protocol", n)
	}
	w := r.web(atConnector)
	w.send(proxyV1[:20])
	r.net.Seconds(2)
	if w.sock.ShutDown {
		t.Error("closed too early")
	}
	r.net.Seconds(2)
	if !w.sock.ShutDown || r.closedFor(reasonHandshakeTimeout) != 1 {
		t.Error("a proxy that tells nothing is not closed in time")
	}
	// With the header the time for the handshake begins.
	w = r.web(atConnector)
	w.send(proxyV1)
	r.net.Seconds(int(DefaultLimits().HandshakeSeconds) - 2)
	if w.sock.ShutDown {
		t.Error("closed before the time for the handshake was over")
	}
	r.net.Seconds(4)
	if !w.sock.ShutDown {
		t.Error("the handshake has no end")
	}
	r.endAll()
	r.counted(0, 0)
}

// From elsewhere a header is garbage like any other: from who is not trusted, and from trusted proxies that are not said to send one.
func TestProxyHeaderIsForbiddenElsewhere(t *testing.T) {
	other := []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}
	for peer, on := range map[netip.Addr][]netip.Prefix{netip.MustParseAddr("203.0.113.9"): tens, proxyAddr: nil, proxyAddr.Next(): other} {
		r := accessRig(t, 1, Access{ProxyProtocol: on, PerAddress: limit.PerAddress{Conns: 10}})
		r.peer = peer
		for _, header := range []string{proxyV1, proxyV2, proxyLocal} {
			w := r.web(atConnector)
			w.send(header + helloTCP())
			r.net.Settle()
			if !w.sock.ShutDown || len(w.sock.Wrote) > 0 {
				t.Errorf("on %v, %q: ended %v, answered %q", on, header, w.sock.ShutDown, w.sock.Wrote)
			}
		}
		if n := r.closedFor(reasonProtocol); n != 3 {
			t.Errorf("%d closed for their protocol", n)
		}
		r.endAll()
		r.counted(0, 0)
	}
}

// The address that the proxy tells is the one that counts, and one too many is closed.
func TestProxiedAddressCounts(t *testing.T) {
	r := proxyRig(t, 1, limit.PerAddress{Conns: 2})
	open := func(header string) *web {
		w := r.web(atConnector)
		w.send(header + helloTCP())
		r.net.Settle()
		return w
	}
	first := open(proxyV1)
	open(proxyV2)
	if w := open(proxyV1); !w.sock.Closed || len(w.sock.Wrote) > 0 { // at once: it has a place and counts for nobody
		t.Errorf("a third of one address: closed %v, %q", w.sock.Closed, w.sock.Wrote)
	}
	if w := open(strings.Replace(proxyV1, "192.0.2.1", "192.0.2.2", 1)); w.sock.ShutDown {
		t.Error("another address is refused")
	}
	r.counted(3, 2)
	first.sock.End()
	r.net.Seconds(3)
	if w := open(proxyV1); w.sock.ShutDown {
		t.Error("refused though one has gone")
	}
	r.refusals(map[string]uint64{"addr_conns": 1})
	if n := r.closedFor(reasonAddress); n != 1 {
		t.Errorf("%d closed for their address", n)
	}
	r.endAll()
	r.counted(0, 0)
}

// What a client writes into X-Forwarded-For is not believed because a proxy carries it; but that of a proxy behind the proxy is, and
// then it is that client who counts.
func TestForwardedBehindProxyHeader(t *testing.T) {
	r := accessRig(t, 1, Access{ProxyProtocol: tens, PerAddress: limit.PerAddress{Conns: 1}, LimitAll: true})
	if p := r.web(atConnector).ask(proxyV1 + forwarded(upgradeTo("/"), "192.0.2.50")); p.status != 101 {
		t.Fatal(p)
	}
	if p := r.web(atConnector).ask(strings.Replace(proxyV1, "192.0.2.1", "192.0.2.50", 1) + upgradeTo("/")); p.status != 101 {
		t.Error("a forged address is believed, and the one it belongs to refused:", p)
	}
	inner := strings.Replace(proxyV1, "192.0.2.1", "10.5.5.5", 1)
	if p := r.web(atConnector).ask(inner + forwarded(upgradeTo("/"), "192.0.2.60")); p.status != 101 {
		t.Fatal(p)
	}
	if p := r.web(atConnector).ask(inner + forwarded(upgradeTo("/"), "192.0.2.60")); p.status != 429 {
		t.Error(p)
	}
	r.endAll()
	r.counted(0, 0)
}

// An App learns where its clients are, and a connection that moves to another loop is not asked for a header again.
func TestRemoteAddr(t *testing.T) {
	for _, loops := range []int{1, 3} {
		a := app.New()
		var seen atomic.Pointer[netip.AddrPort]
		a.OnOpen(func(s *app.Session) { at := s.RemoteAddr(); seen.Store(&at) })
		r := newRig(t, shape{loops: loops}, func(c *Config) {
			c.App = a
			c.Access = Access{ProxyProtocol: tens, Trusted: tens}
		})
		want := func(what, addr string) {
			t.Helper()
			r.net.Settle()
			if got := seen.Swap(nil); got == nil || *got != netip.MustParseAddrPort(addr) {
				t.Errorf("%s: %v, want %s", what, got, addr)
			}
		}
		ack := string(codec.AppendPackage(nil, codec.PackageHandshakeAck, nil))
		r.peer = proxyAddr
		for range loops {
			r.web(atConnector).send(proxyV2 + helloTCP() + ack)
			want("PROXY", "192.0.2.1:56324")
			hello := "/socket.io/?EIO=3&transport=polling"
			w := r.web(atConnector)
			body := w.ask(proxyV1 + get(hello)).body
			want("polling", "192.0.2.1:56324")
			sid := body[strings.Index(body, `sid":"`)+6:][:sidChars]
			w = r.web(atConnector) // by another loop, perhaps: it moves, and then polls on
			w.send(proxyV1 + get(hello+"&sid="+sid))
			r.net.Settle()
			if w.sock.ShutDown {
				t.Error("a request of a session on another loop is refused")
			}
		}
		r.peer = personAddr
		c := r.login(atConnector, true)
		want("direct", netip.AddrPortFrom(personAddr, uint16(c.sock.FD)).String())
	}
}
