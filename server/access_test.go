//go:build linux

package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/limit"
)

// dialFrom is dial from another address of this machine.
func dialFrom(t testing.TB, from string, to *net.TCPAddr) *tcpClient {
	t.Helper()
	conn, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.ParseIP(from)}, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(deadline))
	return &tcpClient{t: t, conn: conn, r: bufio.NewReaderSize(conn, 1<<12)}
}

var helloTCP = codec.AppendPackage(nil, codec.PackageHandshake, []byte(`{"sys":{}}`))

// served tells whether a client that says hello is answered.
func (c *tcpClient) served() bool {
	c.t.Helper()
	_, _ = c.conn.Write(helloTCP)
	p, err := c.read()
	return err == nil && strings.Contains(string(p.Body), `"code":200`)
}

// upgrade asks for a WebSocket with these headers and returns the status.
func (c *tcpClient) upgrade(headers ...string) int {
	c.t.Helper()
	c.write([]byte("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		strings.Join(append(headers, ""), "\r\n") + "\r\n"))
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode
}

// metric is the value of a line of /metrics.
func (r *running) metric(t testing.TB, line string) (value string) {
	t.Helper()
	resp, err := http.Get("http://" + r.admin.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "pomelod_"+line+" "); ok {
			value = rest
		}
	}
	return value
}

// wantEmpty waits until nothing is counted any more.
func (r *running) wantEmpty(t testing.TB) {
	t.Helper()
	waitFor(t, func() bool { return r.snapshot(t).Addresses == limit.Figures{} })
}

// One address has so many connections and no more; others have theirs; a refusal is a plain end, and counted; and who leaves
// makes room, however it leaves.
func TestConnectionsOfAnAddress(t *testing.T) {
	s := start(t, "-limit-loopback", "-addr-conns", "3", "-loops", "2")
	to := s.addr("connector")
	var all []*tcpClient
	for range 3 {
		all = append(all, dialFrom(t, "127.0.0.2", to))
	}
	if !all[0].served() || all[1].upgrade() != 101 { // the third says nothing
		t.Fatal("not served")
	}
	refused := dialFrom(t, "127.0.0.2", to)
	if n, err := refused.conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the fourth got %d bytes, %v", n, err)
	}
	other := dialFrom(t, "127.0.0.3", to)
	if !other.served() {
		t.Error("another address is refused")
	}
	if got := s.metric(t, `refused_total{reason="addr_conns"}`); got != "1" {
		t.Errorf("refused: %q", got)
	}
	if got := s.metric(t, "addresses"); got != "2" {
		t.Errorf("addresses: %q", got)
	}
	_ = all[0].conn.(*net.TCPConn).SetLinger(0) // a reset
	for _, c := range all {
		c.conn.Close()
	}
	waitFor(t, func() bool { return s.snapshot(t).Addresses.Conns == 1 })
	if !dialFrom(t, "127.0.0.2", to).served() {
		t.Error("refused after the others have gone")
	}
	other.conn.Close()
}

// When all have gone nothing is left, whatever they did: chat, move between loops, poll, upgrade, or say nothing.
func TestAddressesAreForgotten(t *testing.T) {
	s := start(t, "-limit-loopback", "-loops", "2")
	var all []*tcpClient
	for i := range 12 {
		from := fmt.Sprintf("127.0.0.%d", 2+i%3)
		c := dialFrom(t, from, s.addr("connector"))
		all = append(all, c)
		switch i % 4 {
		case 0:
			c.write(codec.AppendPackage(helloTCP[:len(helloTCP):len(helloTCP)], codec.PackageHandshakeAck, nil))
			c.next()
			c.enter(fmt.Sprintf("u%d", i), fmt.Sprintf("room%d", i))
		case 1:
			c.upgrade()
		case 2:
			c.write([]byte("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: h\r\n\r\n"))
			resp, err := http.ReadResponse(c.r, nil)
			if err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
			body, _ := io.ReadAll(resp.Body)
			sid := strings.Split(string(body), `"`)[3]
			c.write([]byte("POST /socket.io/?EIO=4&transport=polling&sid=" + sid + " HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1")) // close
			if resp, err = http.ReadResponse(c.r, nil); err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
		}
	}
	if f := s.snapshot(t).Addresses; f.Addresses != 3 {
		t.Errorf("%+v", f)
	}
	for _, c := range all {
		c.conn.Close()
	}
	s.wantEmpty(t)
}

// An address that connects faster than it may is refused for as long as it does, and no other.
func TestConnectRateOfAnAddress(t *testing.T) {
	s := start(t, "-limit-loopback", "-addr-connects", "1:5", "-addr-handshakes", "1:3")
	to := s.addr("connector")
	served, begun := 0, time.Now()
	for range 12 {
		c := dialFrom(t, "127.0.0.2", to)
		if c.served() {
			served++
		}
		c.conn.Close()
	}
	if took := int(time.Since(begun) / time.Second); served < 3 || served > 3+took+1 {
		t.Errorf("%d of 12 served in %d s; 3 handshakes at once and one a second are allowed", served, took)
	}
	if c, h := s.metric(t, `refused_total{reason="addr_connects"}`), s.metric(t, `refused_total{reason="addr_handshakes"}`); c == "0" || h == "0" {
		t.Errorf("refused: %s connections, %s handshakes", c, h)
	}
	if !dialFrom(t, "127.0.0.3", to).served() {
		t.Error("another address is refused")
	}
	waitFor(t, func() bool {
		c := dialFrom(t, "127.0.0.2", to)
		defer c.conn.Close()
		return c.served()
	})
}

// Behind a proxy that tells where its clients are, each client counts for itself, and who is no such proxy is not believed.
func TestProxyProtocol(t *testing.T) {
	s := start(t, "-trusted-proxies", "127.0.0.9,10.0.0.0/8", "-proxy-protocol", "on", "-addr-conns", "2")
	to := s.addr("connector")
	v1 := "PROXY TCP4 192.0.2.1 198.51.100.1 56324 3050\r\n"
	v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x0b\xea"
	via := func(header string) *tcpClient {
		c := dialFrom(t, "127.0.0.9", to)
		c.write([]byte(header))
		return c
	}
	for _, header := range []string{v1, v2} {
		if !via(header).served() {
			t.Fatalf("%q: not served", header)
		}
	}
	if via(v1).served() || via(v2).served() {
		t.Error("a third connection of one address is served")
	}
	if c := via(strings.Replace(v1, "192.0.2.1", "192.0.2.2", 1)); c.upgrade() != 101 {
		t.Error("another address is refused")
	}
	if via("").served() {
		t.Error("served without a header")
	}
	forger := dialFrom(t, "127.0.0.8", to)
	forger.write([]byte(v1))
	if forger.served() {
		t.Error("a header of somebody else is believed")
	}
	if !dialFrom(t, "127.0.0.8", to).served() {
		t.Error("who needs no proxy is refused")
	}
	if f := s.snapshot(t).Addresses; f.Conns != 3 || f.Addresses != 2 {
		t.Errorf("%+v", f)
	}
	if got := s.metric(t, `refused_total{reason="addr_conns"}`); got != "2" {
		t.Errorf("refused: %q", got)
	}
}

// X-Forwarded-For counts when a trusted proxy wrote it, and only the part that it did.
func TestForwardedFor(t *testing.T) {
	s := start(t, "-trusted-proxies", "127.0.0.9,10.0.0.0/8", "-addr-conns", "1")
	to := s.addr("connector")
	ask := func(from, chain string, want int) *tcpClient {
		t.Helper()
		c := dialFrom(t, from, to)
		if got := c.upgrade("X-Forwarded-For: " + chain); got != want {
			t.Errorf("from %s, %s: %d, want %d", from, chain, got, want)
		}
		return c
	}
	first := ask("127.0.0.9", "192.0.2.1", 101)
	ask("127.0.0.9", "198.51.100.9, 192.0.2.1", 429)
	ask("127.0.0.9", "198.51.100.8, 192.0.2.1, 10.1.2.3", 429)
	ask("127.0.0.9", "192.0.2.1, 192.0.2.2", 101)
	ask("127.0.0.9", "192.0.2.1, unknown", 400)
	ask("127.0.0.9", "2001:db8::1", 101)
	ask("127.0.0.9", "2001:db8::ffff:2", 429) // the same /64
	ask("127.0.0.9", "2001:db8:0:1::1", 101)
	ask("127.0.0.8", "192.0.2.1", 101)
	first.conn.Close()
	waitFor(t, func() bool { return s.snapshot(t).Addresses.Conns == 3 })
	ask("127.0.0.9", "192.0.2.1", 101)
}

// Pages of foreign origin get 403, and nothing tells their browsers otherwise.
func TestOriginsFlag(t *testing.T) {
	s := start(t, "-origins", "https://chat.example, https://*.chat.example")
	for origin, want := range map[string]int{"": 101, "https://chat.example": 101, "https://a.chat.example": 101, "https://evil.example": 403, "null": 403} {
		var headers []string
		if origin != "" {
			headers = []string{"Origin: " + origin}
		}
		if got := dial(t, s.addr("connector")).upgrade(headers...); got != want {
			t.Errorf("%q: %d, want %d", origin, got, want)
		}
	}
	if got := s.metric(t, `refused_total{reason="origin"}`); got != "2" {
		t.Errorf("refused: %q", got)
	}
}

// -limits sets what no flag of its own sets, wherever that was given.
func TestLimitsPreset(t *testing.T) {
	public := defaultPerAddress()
	most, err := maxSockets()
	if err != nil {
		t.Fatal(err)
	}
	public.Conns = min(public.Conns, most/4)
	for _, tc := range []struct {
		env, args string
		want      limit.PerAddress
	}{
		{"", "", public},
		{"", "-limits public", public},
		{"", "-limits off", limit.PerAddress{}},
		{"POMELOD_LIMITS=off", "", limit.PerAddress{}},
		{"POMELOD_LIMITS=off", "-limits public", public},
		{"", "-addr-conns 7 -limits off", limit.PerAddress{Conns: 7}},
		{"POMELOD_ADDR_CONNECTS=5:6", "-limits off", limit.PerAddress{Connects: limit.Rate{PerSecond: 5, Burst: 6}}},
		{"", "-addr-handshakes 3", limit.PerAddress{Conns: public.Conns, Connects: public.Connects, Handshakes: limit.Rate{PerSecond: 3, Burst: 3}, Requests: public.Requests, Handlers: public.Handlers}},
		{"", "-addr-conns 0", limit.PerAddress{Connects: public.Connects, Handshakes: public.Handshakes, Requests: public.Requests, Handlers: public.Handlers}},
	} {
		c, err := parseFlags(strings.Fields(tc.args), []string{tc.env}, io.Discard)
		tc.want.All = most
		if err != nil {
			t.Errorf("%s %s: %v", tc.env, tc.args, err)
		} else if c.access.PerAddress != tc.want {
			t.Errorf("%s %s: %+v, want %+v", tc.env, tc.args, c.access.PerAddress, tc.want)
		}
	}
}

// One address has a quarter of all connections unless -addr-conns says otherwise, and there is a warning when that is all of them.
func TestShareOfConnections(t *testing.T) {
	for args, want := range map[string]int{"-max-conns 100": 25, "-max-conns 2": 1, "-max-conns 100 -addr-conns 100": 100, "-max-conns 100 -addr-conns 0": 0, "-max-conns 100 -limits off": 0} {
		c, err := parseFlags(strings.Fields(args), nil, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.access.PerAddress.Conns; got != want || c.flags.Lookup("addr-conns").Value.String() != strconv.Itoa(want) {
			t.Errorf("%s: %d, want %d", args, got, want)
		}
		var log bytes.Buffer
		before := slog.Default()
		slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
		c.warnConns()
		slog.SetDefault(before)
		if warned := strings.Contains(log.String(), "one address may have all connections"); warned != (want == 100) {
			t.Errorf("%s: %s", args, &log)
		}
	}
}

// The defaults do not bother an office of 5,000 that comes back at once: four connections and four handshakes each, all in the
// same second, and four connections of each stay.
func TestDefaultsFitAnOffice(t *testing.T) {
	tb := limit.NewTable(defaultPerAddress(), 10)
	office := netip.MustParseAddr("192.0.2.1")
	for i := range 4 * 5000 {
		if _, v := tb.Connect(office, int64(i)); v != limit.Granted {
			t.Fatalf("connection %d: %v", i, v)
		}
		if v := tb.Handshake(office, int64(i)); v != limit.Granted {
			t.Fatalf("handshake %d: %v", i, v)
		}
	}
}

func TestAccessMistakes(t *testing.T) {
	for args, want := range map[string]string{
		"-limits strict": "public or off", "-addr-conns -1": "-addr-conns", "-addr-connects 5:0": "100:500", "-addr-handshakes x": "100:500",
		"-trusted-proxies 10.0.0.0/33": "10.0.0.0/8", "-trusted-proxies proxy.example": "10.0.0.0/8", "-trusted-proxies ::ffff:10.0.0.0/104": "10.0.0.0/8",
		"-proxy-protocol on": "-trusted-proxies", "-proxy-protocol maybe": "on, off", "-proxy-protocol 10.0.0.0/8 -trusted-proxies 10.1.0.0/16": "-trusted-proxies", "-proxy-protocol=": "on, off", "-origins chat.example": "scheme://host", "-origins https://a.*.b": "star",
	} {
		if _, err := parseFlags(strings.Fields(args), nil, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want something about %q", args, err, want)
		}
	}
	for args, want := range map[string]string{"on": "[10.0.0.0/8 192.0.2.7/32]", "off": "[]", "10.1.0.0/16": "[10.1.0.0/16]"} {
		c, err := parseFlags([]string{"-trusted-proxies", "10.0.0.0/8,192.0.2.7", "-proxy-protocol", args}, nil, io.Discard)
		if err != nil || fmt.Sprint(c.access.ProxyProtocol) != want || !strings.HasPrefix(c.proxyProtocol.String(), args) {
			t.Errorf("-proxy-protocol %s: %v, %v", args, c.access.ProxyProtocol, err)
		}
	}
	c, err := parseFlags([]string{"-trusted-proxies", "10.1.2.3/8, 192.0.2.7,2001:db8::/32 ,::ffff:192.0.2.8"}, nil, io.Discard)
	if err != nil || (*prefixesFlag)(&c.access.Trusted).String() != "10.0.0.0/8,192.0.2.7/32,2001:db8::/32,192.0.2.8/32" {
		t.Errorf("%v, %v", c.access.Trusted, err)
	}
}
