package limit

import (
	"encoding/binary"
	"net/netip"
)

// What counts as one address: an IPv4 address, or the first 64 bits of an IPv6 address, as whoever has one of those has all 2^64
// behind it. An IPv6 address that only carries an IPv4 address counts as that: mapped (RFC 4291 §2.5.5.2), from NAT64
// (64:ff9b::/96, RFC 6052), 6to4 (2002::/16, RFC 3056) and Teredo (2001::/32, RFC 4380, where it is the client's and inverted).
//
// Who has one /64 often has all of a /56 or a /48: providers give those to homes and sites. So networks are limited as well, by the
// same limits times levelTimes. As one address has at most a quarter of all connections and handlers, these have a limit of their own
// there: a /56 never has more than half of all, and a /48 three quarters.
const levels = 3

var (
	levelBits  = [levels]uint8{64, 56, 48}
	levelTimes = [levels]int{1, 4, 16}
	levelParts = [levels]int{0, 2, 3} // quarters of all connections and handlers
)

// byLevel is what an address, and each of the networks around it, may.
func (p PerAddress) byLevel() (all [levels]PerAddress) {
	for level, n := range levelTimes {
		q := PerAddress{Conns: p.Conns * n, Connects: p.Connects.times(n), Handshakes: p.Handshakes.times(n), Requests: p.Requests.times(n), Handlers: p.Handlers * n}
		if part := levelParts[level]; part > 0 {
			q.Conns = partOf(p.All, part, q.Conns, p.Conns)
			q.Handlers = partOf(p.AllHandlers, part, q.Handlers, p.Handlers)
		}
		all[level] = q
	}
	return all
}

// partOf is what a network may have: most, but no more than so many quarters of all, or what one address may. all is 0 if not known.
func partOf(all, quarters, most, address int) int {
	if all == 0 {
		return most
	}
	return min(most, max(all*quarters/4, address))
}

// key names an address or a network: its first bits, the others being 0. The zero key names none.
type key struct {
	net  uint64
	bits uint8
}

const ipv4Bits = 32

// address is 1 for the key of an address and 0 for that of a network around one.
func (k key) address() int {
	if k.bits == ipv4Bits || k.bits == levelBits[0] {
		return 1
	}
	return 0
}

// keysOf are the keys of an address and of the networks around it.
func keysOf(addr netip.Addr) (keys [levels]key) {
	if v4, ok := embedded(addr); ok {
		keys[0] = key{uint64(binary.BigEndian.Uint32(v4[:])), ipv4Bits}
		return keys
	}
	b := addr.As16()
	net := binary.BigEndian.Uint64(b[:8])
	for level, bits := range levelBits {
		keys[level] = key{net &^ (1<<(64-bits) - 1), bits}
	}
	return keys
}

var (
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	sixToIV = netip.MustParsePrefix("2002::/16")
	teredo  = netip.MustParsePrefix("2001::/32")
)

// embedded is the IPv4 address that addr is, or carries.
func embedded(addr netip.Addr) (v4 [4]byte, ok bool) {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.As4(), true
	}
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return [4]byte(b[12:]), true
	case sixToIV.Contains(addr):
		return [4]byte(b[2:6]), true
	case teredo.Contains(addr):
		return [4]byte{^b[12], ^b[13], ^b[14], ^b[15]}, true
	}
	return v4, false
}
