//go:build linux

package server

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/pomelod/pomelod/router"
)

// settingsError is an error of flags, environment or files: the same start would fail again. pomelod ends with 2 for it, and
// with 1 for everything that the machine refuses.
type settingsError struct{ error }

func (e settingsError) Unwrap() error { return e.error }

// wanted is one address that pomelod would bind.
type wanted struct {
	index  int    // as in plan.inherited
	source string // the flag or file it is from
	addr   string
	host   netip.Addr // invalid: every address, or a name
	name   string     // the host, where it is a name
	port   int
}

// everyAddress tells whether an address is for all of the machine's, perhaps of IPv4 only.
func everyAddress(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip, _ := netip.ParseAddr(host)
	return err == nil && host == "" || ip.IsValid() && ip.IsUnspecified()
}

// wanted are the addresses that are not passed by a service manager.
func (p *plan) wanted() (list []wanted) {
	for i, l := range p.listeners {
		list = append(list, wanted{index: i, source: l.flag, addr: l.addr})
	}
	if p.admin != "" {
		list = append(list, wanted{index: len(p.listeners), source: "-admin", addr: p.admin})
	}
	return list
}

// defaultAdminPort is the one of -admin's default.
const defaultAdminPort = 3005

// exampleAddr is for sentences.
var exampleAddr = map[string]string{"-gate": ":3014", "-tls-listen": tlsListenDefault, "-tls-gate": tlsGateDefault, "-admin": "127.0.0.1:3005"}

// checkAddrs refuses addresses that are none, and those that take each other's port. Nothing is bound.
func (p *plan) checkAddrs() error {
	var bound []wanted
	for _, w := range p.wanted() {
		if err := w.parse(); err != nil {
			return settingsError{err}
		}
		if _, passed := p.inherited[w.index]; passed {
			continue
		}
		if err := w.lookUp(); err != nil {
			return err
		}
		for _, other := range bound {
			if other.collides(w) {
				return settingsError{fmt.Errorf("%s %s and %s %s would take the same port: give each a port of its own", other.source, other.addr, w.source, w.addr)}
			}
		}
		bound = append(bound, w)
	}
	return nil
}

// parse finds host and port. Its errors are the user's.
func (w *wanted) parse() error {
	example := exampleAddr[w.source]
	if example == "" {
		example = ":3050"
	}
	host, service, err := net.SplitHostPort(w.addr)
	if err != nil {
		if _, err := strconv.ParseUint(w.addr, 10, 16); err == nil {
			example = ":" + w.addr
		} else if ip, err := netip.ParseAddr(w.addr); err == nil {
			_, port, _ := net.SplitHostPort(example)
			example = net.JoinHostPort(ip.String(), port)
		}
		return fmt.Errorf("%s %q: must be an address with a port; write for example %s %s", w.source, w.addr, w.source, example)
	}
	if w.port, err = net.LookupPort("tcp", service); err != nil {
		return fmt.Errorf("%s %q: %q is no port; write a number from 1 to 65535, for example %s %s", w.source, w.addr, service, w.source, example)
	}
	w.name = host
	w.host, err = netip.ParseAddr(host)
	if err == nil || host == "" {
		w.name = ""
	}
	return nil
}

// lookUp asks the machine whether it knows the host's name.
func (w *wanted) lookUp() error {
	if w.name == "" {
		return nil
	}
	if _, err := net.LookupHost(w.name); err != nil {
		return fmt.Errorf("%s %q: this machine does not know the name %q: %w; write one of its addresses, or none for all", w.source, w.addr, w.name, err)
	}
	return nil
}

// collides tells whether only one of two addresses can be bound. Names are compared as they are: what they stand for is the
// machine's to say, when they are bound.
func (w *wanted) collides(other wanted) bool {
	if w.port != other.port || w.port == 0 {
		return false
	}
	a, b := w.host.Unmap(), other.host.Unmap()
	all, otherAll := everyAddress(w.addr), everyAddress(other.addr)
	switch {
	case all && otherAll:
		return true
	case all:
		return !(a.Is4() && b.Is6())
	case otherAll:
		return !(b.Is4() && a.Is6())
	case a.IsValid() || b.IsValid():
		return a == b
	}
	return w.addr == other.addr
}

// announced is -advertise: the host and port that gates announce instead of the listener's, as far as given.
func (c *settings) announced() (host string, port int, err error) {
	return announced("-advertise", c.advertise)
}

// announced parses the value of a flag that says what gates announce.
func announced(flag, value string) (host string, port int, err error) {
	if scheme, rest, ok := strings.Cut(value, "://"); ok {
		rest, _, _ = strings.Cut(rest, "/")
		return "", 0, fmt.Errorf("%s %q: write the host without %s://, which clients choose themselves: %s %s", flag, value, scheme, flag, withPort(scheme, rest))
	}
	if ip, err := netip.ParseAddr(value); err == nil && ip.Is6() {
		return "[" + value + "]", 0, nil
	}
	host, p, noPort := net.SplitHostPort(value)
	if noPort != nil {
		host = value
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if u, err := url.Parse("http://" + host); err != nil || u.Host != host {
		return "", 0, fmt.Errorf("%s %q: must be HOST or HOST:PORT, for example chat.example.com or chat.example.com:443", flag, value)
	}
	if noPort != nil {
		return host, 0, nil
	}
	if port, err = strconv.Atoi(p); err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("%s %q: the port must be a number from 1 to 65535", flag, value)
	}
	return host, port, nil
}

// withPort is the host of a URL with the port that its scheme means where a proxy speaks TLS; else the connector's is right.
func withPort(scheme, host string) string {
	if _, _, err := net.SplitHostPort(host); err != nil && (scheme == "https" || scheme == "wss") {
		return host + ":443"
	}
	return host
}

// checkBind refuses a -bind that is no host.
func (c *settings) checkBind() error {
	if _, err := netip.ParseAddr(c.bind); err != nil && strings.ContainsAny(c.bind, ":/[] ") {
		return fmt.Errorf("-bind %q: must be a host or an address without a port, for example 127.0.0.1; servers.json has the ports", c.bind)
	}
	return nil
}

// loopbackOnly tells whether a host that clients are told leads every client to its own machine.
func loopbackOnly(host string) bool {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// warnOfLoopback says that all clients are sent to their own machine, though this one listens for others too.
func (p *plan) warnOfLoopback() {
	told, instead := "", ""
	for _, l := range p.listeners {
		if l.profile.Type != router.Connector {
			continue
		}
		if !loopbackOnly(l.host) {
			return
		}
		if everyAddress(l.addr) {
			told = l.host
			if instead = "-bind " + l.host; l.flag == "-listen" {
				instead = "-listen " + net.JoinHostPort(l.host, strings.TrimPrefix(l.addr, ":"))
			}
		}
	}
	if told != "" {
		p.warnings = append(p.warnings, fmt.Sprintf("the gate sends all clients to %s, where those on other machines do not find this one: "+
			"write -advertise HOST with the name by which they reach it, or %s if all are on this machine", told, instead))
	}
}
