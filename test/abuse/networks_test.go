//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// proxyHeader is a PROXY header for a client's address: version 1, or 2 over IPv6.
func proxyHeader(client string, version int) []byte {
	if version == 1 {
		family := "TCP4"
		if strings.Contains(client, ":") {
			family = "TCP6"
		}
		server := map[string]string{"TCP4": "192.0.2.1", "TCP6": "2001:db8:ffff::1"}[family]
		return fmt.Appendf(nil, "PROXY %s %s %s 4242 3010\r\n", family, client, server)
	}
	a := netip.MustParseAddr(client).As16() // an IPv4 address as IPv6 has it
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24"), a[:]...)
	return append(append(b, make([]byte, 16)...), 0x10, 0x92, 0x0b, 0xc2)
}

// Who has a whole network of IPv6 addresses does not do as much as each of them may: a /56 may four times, and a /48 sixteen times, what an
// address may, and has a part of all connections. Addresses that carry one IPv4 address are one.
func TestNetworks(t *testing.T) {
	const (
		most    = 400 // connections in all
		conns   = 50  // of an address; so 200 of a /56, half of all, and 300 of a /48, three quarters
		tries   = 500
		byProxy = attackers + "128/25" // those whose connections begin with a PROXY header
	)
	kinds := []struct {
		name  string
		times int                // what an address may
		tries int                // sessions
		addr  func(n int) string // the n-th address
	}{
		{"a /64", 1, 300, func(n int) string { return fmt.Sprintf("2001:db8:1:1::%x", n+1) }},
		{"a /56", 4, 800, func(n int) string { return fmt.Sprintf("2001:db8:2:%x::%x", n%256, n+1) }},
		{"a /48", 16, 2400, func(n int) string { return fmt.Sprintf("2001:db8:3:%x::%x", n*331%65536, n+1) }},
		{"an IPv4 address", 1, 300, func(n int) string {
			return []string{"198.51.100.7", "::ffff:198.51.100.7", "64:ff9b::198.51.100.7", fmt.Sprintf("2002:c633:6407:%x::1", n)}[n%4]
		}},
	}
	scenario{
		name:  "networks",
		flags: append(proxies, "-proxy-protocol", byProxy, "-max-conns", fmt.Sprint(most), "-addr-conns", fmt.Sprint(conns), "-max-polling", "10000"),
		attack: func(a *arena) error {
			var all []error
			for i, k := range kinds { // sessions, by raw TCP: each has a connection, which ends at once
				in, began := 0, time.Now()
				for n := range k.tries {
					p, err := dial(fmt.Sprint(attackers, 129+i), a.addr)
					if err != nil {
						a.t.Fatal(err)
					}
					if err := p.raw(proxyHeader(k.addr(n), 1+n%2)); err != nil {
						return err
					}
					if p.login() == nil {
						in++
					}
					p.reset()
				}
				all = append(all, often(k.times, began).check(k.name+" began a session", in))
				if in < 50*k.times/2 {
					a.t.Errorf("the attack did not land: %s began %d sessions", k.name, in)
				}
			}
			for name, network := range map[string]struct {
				most int
				addr func(n int) string
			}{
				"a /56": {most / 2, func(n int) string { return fmt.Sprintf("2001:db8:4:%x::1", n%256) }},
				"a /48": {most * 3 / 4, func(n int) string { return fmt.Sprintf("2001:db8:5:%x::1", n*331%65536) }},
			} { // connections, which stay
				var held []*peer
				for n := range tries {
					p, err := a.dial(129)
					if err != nil {
						a.t.Fatal(err)
					}
					if err := p.raw(proxyHeader(network.addr(n), 1+n%2)); err != nil {
						return err
					}
					if p.upgrade() == nil {
						held = append(held, p)
					}
				}
				if len(held) > network.most {
					all = append(all, fmt.Errorf("%s has %d connections of %d", name, len(held), most))
				} else if len(held) < network.most/2 {
					a.t.Errorf("the attack did not land: %s has %d connections", name, len(held))
				}
				all = append(all, a.welcomedBy(1, "2001:db8:7::1"), a.welcomed("127.0.67.1"))
				for _, p := range held {
					p.reset()
				}
			}
			return errors.Join(all...)
		},
		landed: func(d delta) error { return d.atLeast("pomelod_accepted_total", tries) },
		held: func(d delta) error {
			return errors.Join(d.atLeast(`pomelod_refused_total{reason="addr_handshakes"}`, 500), d.atLeast(`pomelod_refused_total{reason="addr_conns"}`, 100))
		},
		without: weakness{
			edits: []edit{{"limit/network.go", "range levelBits {\n\t\tkeys", "range levelBits[:1] {\n\t\tkeys"}},
			fails: "a /56 began a session",
		},
		also: []weakness{{
			edits: []edit{{"limit/network.go", "case nat64.Contains(addr):", `case addr.Zone() == "none":`}},
			fails: "an IPv4 address began a session",
		}},
	}.run(t)
}
