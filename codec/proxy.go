package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
)

// The header by which a proxy says, before anything else on a connection, whose bytes it carries: PROXY protocol, versions 1
// (a line of text) and 2 (binary). Whoever reads it must know that the peer is such a proxy, since anybody can write one.
//
//	version 1   PROXY TCP4 192.0.2.1 198.51.100.1 56324 3050 CR LF      or TCP6, or UNKNOWN and anything
//	version 2   signature (12) | version 2:4 command:4 | family:4 protocol:4 | length (2) | addresses, then TLVs
//	            over IPv4 addresses are source (4), destination (4), ports (2, 2); over IPv6 (16), (16), (2, 2)

// Lengths and values of version 2.
const (
	proxyHeadBytes   = 16
	proxyV2          = 0x2
	proxyLocal       = 0x0 // the proxy speaks for itself: a health check
	proxyProxy       = 0x1
	proxyUnspec      = 0x00
	proxyTCP4        = 0x11
	proxyTCP6        = 0x21
	proxyTCP4Bytes   = 12
	proxyTCP6Bytes   = 36
	maxProxyV1Bytes  = 107 // the longest line there can be, with CR LF
	maxProxyV2Length = 536 // what is behind the first 16 bytes; so that all of it comes in one packet on any path
)

var (
	proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")
	proxyV1Start   = []byte("PROXY ")
)

// errProxyHeader means that a connection does not begin with a PROXY protocol header, or with a malformed one, or one for what is
// not TCP.
var errProxyHeader = errors.New("not a PROXY protocol header")

// ParseProxyHeader reads the header at the start of b, and returns whom the proxy speaks for and the bytes it took. An
// address that is not valid means the proxy itself, or that it does not know. n == 0 without an error means that more
// bytes are needed. It fails as soon as it is certain that b begins with no such header.
func ParseProxyHeader(b []byte) (client netip.AddrPort, n int, err error) {
	switch {
	case begins(b, proxySignature):
		return parseProxyV2(b)
	case begins(b, proxyV1Start):
		return parseProxyV1(b)
	}
	return client, 0, errProxyHeader
}

// begins tells whether b begins with start, or could if it were longer.
func begins(b, start []byte) bool {
	n := min(len(b), len(start))
	return bytes.Equal(b[:n], start[:n])
}

func parseProxyV2(b []byte) (client netip.AddrPort, n int, err error) {
	if len(b) > len(proxySignature) && b[12]>>4 != proxyV2 {
		return client, 0, errProxyHeader
	}
	if len(b) < proxyHeadBytes {
		return client, 0, nil
	}
	command, family, length := b[12]&0xf, b[13], int(binary.BigEndian.Uint16(b[14:]))
	local := command == proxyLocal
	if length > maxProxyV2Length || !local && command != proxyProxy {
		return client, 0, errProxyHeader
	}
	n = proxyHeadBytes + length
	addresses := 0
	switch {
	case local || family == proxyUnspec: // whatever the rest is, it is skipped
	case family == proxyTCP4:
		addresses = proxyTCP4Bytes
	case family == proxyTCP6:
		addresses = proxyTCP6Bytes
	default: // UDP and Unix sockets
		return client, 0, errProxyHeader
	}
	switch {
	case length < addresses:
		return client, 0, errProxyHeader
	case len(b) < n:
		return client, 0, nil
	}
	rest := b[proxyHeadBytes:n]
	switch addresses {
	case proxyTCP4Bytes:
		client = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:]))
	case proxyTCP6Bytes:
		client = netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)).Unmap(), binary.BigEndian.Uint16(rest[32:]))
	}
	return client, n, nil
}

func parseProxyV1(b []byte) (client netip.AddrPort, n int, err error) {
	line := b[:min(len(b), maxProxyV1Bytes)]
	end := bytes.IndexByte(line, '\n')
	switch {
	case end < 0 && len(b) >= maxProxyV1Bytes, end > 0 && line[end-1] != '\r':
		return client, 0, errProxyHeader
	case end < 0:
		return client, 0, nil
	}
	n = end + 1
	fields := bytes.Split(line[len(proxyV1Start):end-1], []byte{' '})
	family := string(fields[0])
	if family == "UNKNOWN" {
		return client, n, nil
	}
	if len(fields) != 5 || family != "TCP4" && family != "TCP6" {
		return client, 0, errProxyHeader
	}
	from, ok1 := proxyAddr(fields[1], family)
	_, ok2 := proxyAddr(fields[2], family)
	port, ok3 := proxyPort(fields[3])
	_, ok4 := proxyPort(fields[4])
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return client, 0, errProxyHeader
	}
	return netip.AddrPortFrom(from, port), n, nil
}

func proxyAddr(b []byte, family string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(string(b))
	if err != nil || a.Zone() != "" || a.Is4() != (family == "TCP4") {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

func proxyPort(b []byte) (uint16, bool) {
	n := 0
	for _, c := range b {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	if len(b) == 0 || len(b) > 5 || n > 0xffff || len(b) > 1 && b[0] == '0' {
		return 0, false
	}
	return uint16(n), true
}
