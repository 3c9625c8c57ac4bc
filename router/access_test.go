package router

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/limit"
)

var (
	proxyAddr  = netip.MustParseAddr("10.0.0.1")
	personAddr = netip.MustParseAddr("192.0.2.1")
	tens       = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
)

// accessRig is a node that trusts tens, 10.0.0.0/8, and is asked from there.
func accessRig(t *testing.T, loops int, a Access) *rig {
	a.Trusted = tens
	r := newRig(t, shape{loops: loops, follow: loops > 1}, func(c *Config) { c.Access = a })
	r.peer, r.uncounted = proxyAddr, true
	return r
}

// counted fails unless so many connections and sessions are counted, for so many addresses.
func (r *rig) counted(conns, addresses int) {
	r.t.Helper()
	if f := r.node.access.figures(); f.Conns != conns || f.Addresses != addresses {
		r.t.Errorf("counted: %+v, want %d connections of %d addresses", f, conns, addresses)
	}
}

// refusals fails unless so many were turned away, by reason.
func (r *rig) refusals(want map[string]uint64) {
	r.t.Helper()
	for reason, n := range r.node.access.refusedBy() {
		if n != want[reason] {
			r.t.Errorf("%d refused for %s, want %d", n, reason, want[reason])
		}
	}
}

func forwarded(request, chain string) string {
	return strings.Replace(request, "\r\n", "\r\nX-Forwarded-For: "+chain+"\r\n", 1)
}

// A WebSocket counts for the address that the proxy tells, and one too many is answered 429; when all have gone nothing is left.
func TestForwardedConnections(t *testing.T) {
	for _, loops := range []int{1, 3} {
		r := accessRig(t, loops, Access{PerAddress: limit.PerAddress{Conns: 2}})
		open := func(chain string, want int) *web {
			t.Helper()
			w := r.web(atConnector)
			p := w.ask(forwarded(upgradeTo("/"), chain))
			if p.status != want || want == 429 && p.header["Retry-After"] != codec.RetryAfter {
				t.Fatalf("%s: %v", chain, p)
			}
			return w
		}
		open("192.0.2.1", 101)
		second := open("198.51.100.1, 192.0.2.1", 101) // what the client itself sent is not believed
		open("198.51.100.2, 192.0.2.1, 10.9.9.9", 429) // nor behind two proxies
		open("192.0.2.2", 101)
		r.counted(3, 2)
		second.sock.End()
		r.net.Settle()
		open("192.0.2.1", 101)
		for range 5 { // the proxy itself is exempt
			open("10.0.0.7", 101)
		}
		r.counted(3, 2)
		r.refusals(map[string]uint64{"addr_conns": 1})
		r.endAll()
		r.counted(0, 0)
	}
}

// From elsewhere X-Forwarded-For is not believed.
func TestForgedForwardedFor(t *testing.T) {
	r := accessRig(t, 1, Access{PerAddress: limit.PerAddress{Conns: 2}})
	r.peer, r.uncounted = personAddr, false
	for i := range 2 {
		if p := r.web(atConnector).ask(forwarded(upgradeTo("/"), fmt.Sprintf("192.0.2.%d", 10+i))); p.status != 101 {
			t.Fatal(p)
		}
	}
	if r.dial(atConnector) != nil {
		t.Error("a third is let in")
	}
	r.counted(2, 1)
	r.refusals(map[string]uint64{"addr_conns": 1})

	r = accessRig(t, 1, Access{PerAddress: limit.PerAddress{Conns: 3}})
	r.peer, r.uncounted = personAddr, false
	w := r.web(atConnector)
	for i, want := range []int{200, 200, 429} { // nor for sessions that poll
		if p := w.ask(forwarded(get("/socket.io/?EIO=4&transport=polling"), fmt.Sprintf("192.0.2.%d", 10+i))); p.status != want {
			t.Errorf("session %d: %v", i, p)
		}
	}
	r.counted(3, 1)
}

// Who asks for one thing at a time uses nothing of what the clients of its address share in a turn, over WebSocket too: so a loop that has
// nothing else to do need not turn for it.
func TestOneThingAtATimeIsNotShared(t *testing.T) {
	for _, ws := range []bool{false, true} {
		r := accessRig(t, 1, Access{PerAddress: limit.PerAddress{Conns: 10}})
		r.peer, r.uncounted = personAddr, false
		c := r.login(atConnector, ws)
		for range 3 {
			c.sock.Send(c.bytes(codec.PackageHeartbeat, nil))
			c.sock.Ready()
			if r.net.TurnLoop(0) {
				t.Errorf("ws=%v: the loop had to turn for a heartbeat", ws)
			}
		}
	}
}

// Who asks too much over HTTP is closed, and does not come back as often as who did not: each time counts as many connections.
func TestRefusedRequestsCostConnections(t *testing.T) {
	r := accessRig(t, 1, Access{PerAddress: limit.PerAddress{Conns: 100, Requests: limit.Rate{PerSecond: 1, Burst: 1}, Connects: limit.Rate{PerSecond: 1, Burst: 50}}})
	r.peer, r.uncounted = personAddr, false
	for i, want := range []int{200, 429, 429, 429} { // 1 connection, and three times 21
		if p := r.web(atGate).ask(get("/gate/queryEntry?uid=x")); p.status != want {
			t.Errorf("%d: %v", i, p)
		}
	}
	if r.dial(atConnector) != nil {
		t.Error("it has 50 connections at once, and 64 are used up")
	}
	r.refusals(map[string]uint64{"addr_requests": 3, "addr_connects": 1})
}

// The log names an address that is refused something, once in ten seconds however many there are.
func TestRefusedAddressesAreLogged(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	now := int64(0)
	a := newAccess(Access{PerAddress: limit.PerAddress{Conns: 1}}, func() int64 { return now })
	for range 25 {
		a.Admit(personAddr)
		now += 1e9
	}
	if n := strings.Count(log.String(), "addr=192.0.2.1 reason=addr_conns"); n != 3 {
		t.Errorf("%d lines:\n%s", n, &log)
	}
}

// Sessions that poll count for the client's address, whatever connection their requests come by, from the handshake until they
// end, also when they change to a WebSocket; and handshakes have a rate of their own.
func TestPollingSessionsOfAnAddress(t *testing.T) {
	for _, hello := range []string{"/socket.io/?EIO=3&transport=polling", "/socket.io/?EIO=4&transport=polling", "/socket.io/1/"} {
		for _, loops := range []int{1, 3} {
			r := accessRig(t, loops, Access{PerAddress: limit.PerAddress{Conns: 2, Handshakes: limit.Rate{PerSecond: 1, Burst: 3}}})
			w := r.web(atConnector)
			begin := func(client string) *response {
				t.Helper()
				return w.ask(forwarded(get(hello, "Origin: http://page.example"), client))
			}
			for range 2 {
				if p := begin("192.0.2.1"); p.status != 200 {
					t.Fatal(p)
				}
			}
			p := begin("192.0.2.1") // a third session
			if p.status != 429 || p.header["Retry-After"] == "" || p.header["Access-Control-Allow-Origin"] != "http://page.example" {
				t.Errorf("%s: a third session: %v", hello, p)
			}
			if p = begin("192.0.2.1"); p.status != 429 || p.body != errOften.Reason {
				t.Errorf("%s: a fourth handshake: %v", hello, p)
			}
			w.wantIdle() // others come by this connection
			if p := begin("192.0.2.2"); p.status != 200 {
				t.Errorf("%s: another client of the same proxy: %v", hello, p)
			}
			r.counted(3, 2)
			r.refusals(map[string]uint64{"addr_conns": 1, "addr_handshakes": 1})
			r.endAll()
			r.counted(0, 0)
		}
	}
}

// Every flavour of socket.io, changes of transport and loops included, leaves nothing behind; what is counted while it lives is
// checked by every test of this package (checkAddresses).
func TestNothingStaysCounted(t *testing.T) {
	for _, kind := range flavours {
		for _, loops := range []int{1, 3} {
			r := newRig(t, shape{loops: loops}, nil)
			r.peer = personAddr
			for range 3 {
				c := r.sioLogin(kind)
				if !kind.ws && !kind.jsonp {
					c.upgrade()
					if kind.version != 9 {
						c.ws.send(textFrame("2probe"))
						r.net.Settle()
						c.ws.send(textFrame("5"))
					}
					r.net.Settle()
				}
			}
			r.checkAddresses()
			if f := r.node.access.figures(); f.Conns < 3 || f.Addresses != 1 {
				t.Errorf("%s: %+v", kind.name, f)
			}
			r.endAll()
			r.counted(0, 0)
		}
	}
}

// A hybrid client that begins a session too often is told so in the handshake and closed; one of socket.io over WebSocket gets 429.
func TestHandshakesOfAnAddress(t *testing.T) {
	for _, ws := range []bool{false, true} {
		r := newRig(t, shape{loops: 1}, func(c *Config) {
			c.Access = Access{PerAddress: limit.PerAddress{Handshakes: limit.Rate{PerSecond: 1, Burst: 2}}}
		})
		r.peer = personAddr
		hello := func() *client {
			c := r.connect(atConnector, ws)
			c.send(codec.PackageHandshake, []byte(`{"sys":{"type":"test","version":"1"}}`))
			r.net.Settle()
			c.pump()
			return c
		}
		for range 2 {
			hello().want(`handshake 0 {"code":200,"sys":{"heartbeat":3}}`)
		}
		c := hello()
		if got := c.take(); len(got) == 0 || got[0] != `handshake 0 {"code":500}` || !c.ended() {
			t.Errorf("ws %v: %q, ended %v", ws, got, c.ended())
		}
		if p := r.web(atConnector).ask(upgradeTo("/socket.io/?EIO=4&transport=websocket")); p.status != 429 {
			t.Error(p)
		}
		r.refusals(map[string]uint64{"addr_handshakes": 2})
		r.net.Seconds(1)
		if p := r.web(atConnector).ask(upgradeTo("/socket.io/?EIO=4&transport=websocket")); p.status != 101 {
			t.Error("after a second:", p)
		}
		if n := r.closedFor(reasonHandshake); n != 1 {
			t.Errorf("%d closed for a handshake", n)
		}
	}
}

// Addresses of this machine and of proxies are exempt unless LimitAll.
func TestExemptAddresses(t *testing.T) {
	for _, all := range []bool{false, true} {
		r := accessRig(t, 1, Access{PerAddress: limit.PerAddress{Conns: 1}, LimitAll: all})
		for _, peer := range []string{"127.0.0.1", "127.8.9.1", "::1"} {
			r.peer = netip.MustParseAddr(peer)
			if first, second := r.dial(atConnector), r.dial(atConnector); first == nil || (second == nil) != all {
				t.Errorf("%s, limit all %v: %v, %v", peer, all, first, second)
			}
		}
		r.peer = proxyAddr // it tells nobody's address
		if p := r.web(atConnector).ask(upgradeTo("/")); p.status != 101 {
			t.Error(p)
		}
		if p := r.web(atConnector).ask(upgradeTo("/")); (p.status == 429) != all {
			t.Errorf("limit all %v: %v", all, p)
		}
		if c := r.connect(atGate, false); c != nil { // nor by raw TCP
			c.send(codec.PackageHandshake, []byte(`{"sys":{}}`))
			r.net.Settle()
			if c.ended() != all {
				t.Errorf("limit all %v: raw TCP ended %v", all, c.ended())
			}
		}
		r.endAll()
		r.counted(0, 0)
	}
}

// Pages of other origins than those listed may not connect, by any way, and are not told that they might.
func TestOrigins(t *testing.T) {
	origins, err := ParseOrigins([]string{"https://chat.example", "http://*.pages.example:8080"})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, shape{loops: 1}, func(c *Config) { filed(c); c.Access.Origins = origins })
	refused := uint64(0)
	for _, request := range []string{
		upgradeTo("/"), upgradeTo("/chat"), upgradeTo("/socket.io/?EIO=3&transport=websocket"), get("/socket.io/?EIO=3&transport=polling"),
		get("/socket.io/?EIO=4&transport=polling"), get("/socket.io/1/"), post("/socket.io/?EIO=3&transport=polling&sid=x", "1:1"),
		get("/gate/queryEntry?uid=x"), strings.Replace(get("/socket.io/?EIO=4&transport=polling"), "GET", "OPTIONS", 1),
		strings.Replace(get("/socket.io/1/xhr-polling/x"), "GET", "OPTIONS", 1),
	} {
		for _, origin := range []string{"https://chat.example", "http://a.pages.example:8080"} {
			w := r.web(atConnector)
			p := w.ask(strings.Replace(request, "\r\n", "\r\nOrigin: "+origin+"\r\n", 1))
			if p.status == 403 || p.status != 101 && p.header["Access-Control-Allow-Origin"] != origin {
				t.Errorf("%.60q from %s: %v", request, origin, p)
			}
		}
		if p := r.web(atConnector).ask(request); p.status == 403 {
			t.Errorf("%.60q without an origin: %v", request, p)
		}
		for _, origin := range []string{"http://chat.example", "https://chat.example:8443", "https://pages.example", "null"} {
			refused++
			w := r.web(atConnector)
			p := w.ask(strings.Replace(request, "\r\n", "\r\nOrigin: "+origin+"\r\n", 1))
			if p.status != 403 || p.header["Access-Control-Allow-Origin"] != "" {
				t.Errorf("%.60q from %s: %v", request, origin, p)
			}
			w.wantEnd()
		}
	}
	if p := r.web(atConnector).ask(get("/chat", "Origin: http://elsewhere.example")); p.status != 200 {
		t.Error("a file:", p)
	}
	r.refusals(map[string]uint64{"origin": refused})
}

func TestParseOrigins(t *testing.T) {
	o, err := ParseOrigins([]string{"https://Chat.Example:443", "http://h:80", "http://localhost:3050", "https://*.example.com", "http://[::1]:80", "null", "file://"})
	if err != nil {
		t.Fatal(err)
	}
	for origin, want := range map[string]bool{
		"https://chat.example": true, "http://h": true, "http://localhost:3050": true, "http://localhost": false, "http://[::1]": true,
		"https://a.example.com": true, "https://a.b.example.com": true, "https://example.com": false, "https://.example.com": false,
		"http://a.example.com": false, "https://a.example.com:8443": false, "https://evil.com/.example.com": false,
		"https://evil.com:1.example.com": false, "https://u@a.example.com": false, "https://aexample.com": false,
		"https://a.example.com.evil.com": false, "null": true, "file://": true, "": false, "https://": false,
	} {
		if o.allow([]byte(origin)) != want {
			t.Errorf("%q is allowed: %v", origin, !want)
		}
	}
	for _, bad := range []string{"chat.example", "https://", "https://a/", "https://a/b", "https://a?b", "https://u@a", "https://a.*.b", "https://*", "*", "https://**.a", "https://*a.b", "//a", "https://a#", "://a"} {
		if _, err := ParseOrigins([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if all := new(Origins); !all.allow([]byte("http://anywhere")) {
		t.Error("without a list, not all are allowed")
	}
}
