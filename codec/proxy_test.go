package codec

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// maxProxyHeader is the length of the longest header that ParseProxyHeader takes.
const maxProxyHeader = proxyHeadBytes + maxProxyV2Length

// proxyHex is the bytes of a header of version 2 without its signature.
func proxyHex(t testing.TB, rest string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll("0d0a0d0a000d0a515549540a"+rest, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// proxyHeaders are headers, and whom they name: the specification's layouts, by hand.
var proxyHeaders = []struct{ name, v1, v2, client string }{
	{name: "v1 TCP4", v1: "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", client: "192.0.2.1:56324"},
	{name: "v1 TCP6", v1: "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", client: "[2001:db8::1]:1"},
	{name: "v1 TCP6 that is IPv4", v1: "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", client: "192.0.2.1:1"},
	{name: "v1 unknown", v1: "PROXY UNKNOWN\r\n"},
	{name: "v1 unknown with more", v1: "PROXY UNKNOWN ffff::ffff ffff::ffff 65535 65535\r\n"},
	{name: "v1 of full length", v1: "PROXY UNKNOWN " + strings.Repeat("x", 91) + "\r\n"},
	{name: "v2 TCP4", v2: "21 11 000c c0000201 c6336401 dc04 01bb", client: "192.0.2.1:56324"},
	{name: "v2 TCP6", v2: "21 21 0024 20010db8000000000000000000000001 20010db8000000000000000000000002 0001 ffff", client: "[2001:db8::1]:1"},
	{name: "v2 TCP4 with TLVs", v2: "21 11 0014 c0000201 c6336401 dc04 01bb 040001ff 04000100", client: "192.0.2.1:56324"},
	{name: "v2 TCP4 with what is no TLV", v2: "21 11 000e c0000201 c6336401 dc04 01bb ffff", client: "192.0.2.1:56324"},
	{name: "v2 local", v2: "20 00 0000"},
	{name: "v2 local with addresses", v2: "20 11 000c c0000201 c6336401 dc04 01bb"},
	{name: "v2 unspecified", v2: "21 00 0003 010203"},
	{name: "v2 of full length", v2: "21 11 0218 c0000201 c6336401 dc04 01bb" + strings.Repeat("00", 524), client: "192.0.2.1:56324"},
}

// A header is read however it is cut, its client is found, and what follows it is left alone.
func TestParseProxyHeader(t *testing.T) {
	for _, h := range proxyHeaders {
		b := []byte(h.v1)
		if h.v2 != "" {
			b = proxyHex(t, h.v2)
		}
		for i := range b {
			if _, n, err := ParseProxyHeader(b[:i]); n != 0 || err != nil {
				t.Fatalf("%s: the first %d bytes: %d, %v", h.name, i, n, err)
			}
		}
		want := netip.AddrPort{}
		if h.client != "" {
			want = netip.MustParseAddrPort(h.client)
		}
		got, n, err := ParseProxyHeader(append(b[:len(b):len(b)], "PROXY GET /\r\n"...))
		if err != nil || n != len(b) || got != want {
			t.Errorf("%s: %v, %d of %d, %v; want %v", h.name, got, n, len(b), err, want)
		}
	}
}

func TestParseProxyHeaderRefuses(t *testing.T) {
	v2 := func(rest string) string { return string(proxyHex(t, rest)) }
	for name, text := range map[string]string{
		"HTTP": "GET / HTTP/1.1\r\n", "a package": "\x01\x00\x00\x00", "zero": "\x00", "lower case": "proxy ",
		"no space": "PROXY\tTCP4", "nothing behind it": "PROXY \r\n", "line feed only": "PROXY UNKNOWN\n",
		"a long line": "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", "an endless line": "PROXY " + strings.Repeat("x", 101),
		"UDP by v1": "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", "no ports": "PROXY TCP4 192.0.2.1 192.0.2.2\r\n",
		"one port": "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "a fifth field": "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
		"two spaces": "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", "a trailing space": "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
		"IPv6 as IPv4": "PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n", "IPv4 as IPv6": "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
		"a zone": "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", "leading zero": "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
		"a name": "PROXY TCP4 localhost 192.0.2.2 1 2\r\n", "large port": "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
		"port with zero": "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", "negative port": "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
		"version 1 in binary": v2("11 11 000c c0000201 c6336401 dc04 01bb"), "version 3": v2("31"), "an unknown command": v2("22 11 000c"),
		"too long": v2("21 11 0219"), "too long for local": v2("20 00 ffff"), "too short for IPv4": v2("21 11 000b"),
		"too short for IPv6": v2("21 21 0023"), "UDP": v2("21 12 000c"), "Unix": v2("21 31 00d8"), "no such family": v2("21 41 000c"),
	} {
		if got, n, err := ParseProxyHeader([]byte(text)); err != errProxyHeader || n != 0 || got.IsValid() {
			t.Errorf("%s is taken: %v, %d, %v", name, got, n, err)
		}
	}
}

// FuzzParseProxyHeader: it never takes more than there is or may be, what it says does not depend on what follows, and what
// it refuses or takes it neither took nor refused before the last byte.
func FuzzParseProxyHeader(f *testing.F) {
	for _, h := range proxyHeaders {
		if h.v2 != "" {
			f.Add(proxyHex(f, h.v2))
		}
		f.Add([]byte(h.v1))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		client, n, err := ParseProxyHeader(b)
		if n > len(b) || n > maxProxyHeader || err != nil && (n != 0 || client.IsValid()) || n == 0 && client.IsValid() {
			t.Fatalf("%v, %d, %v", client, n, err)
		}
		if client.Addr().Is4In6() || client.Addr().Zone() != "" {
			t.Fatalf("%v is no plain address", client)
		}
		if n == 0 && err == nil && len(b) >= maxProxyHeader {
			t.Fatalf("%d bytes are not enough", len(b))
		}
		if n > 0 {
			if again, m, err := ParseProxyHeader(b[:n]); again != client || m != n || err != nil {
				t.Fatalf("alone: %v, %d, %v", again, m, err)
			}
			if _, m, err := ParseProxyHeader(b[:n-1]); m != 0 || err != nil {
				t.Fatalf("without its last byte: %d, %v", m, err)
			}
			if bytes.IndexByte(b[:n], '\n') < 0 {
				t.Fatal("no header is without a line feed")
			}
		}
	})
}
