//go:build linux

package server

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/router"
)

// preset is -limits: what limits are that no flag of their own was given for. Each such limit is a flag like any other, whose
// default is that of "public", and is declared here with what it is under "off".
type preset struct {
	name string
	off  []presetValue
}

type presetValue struct{ flag, value string }

const presetPublic, presetOff = "public", "off"

func (p *preset) String() string { return p.name }

func (p *preset) Set(text string) error {
	if text != presetPublic && text != presetOff {
		return errors.New("must be public or off")
	}
	p.name = text
	return nil
}

// declare says what the flag is set to by -limits off.
func (p *preset) declare(flag, off string) { p.off = append(p.off, presetValue{flag, off}) }

// apply sets the declared flags that were not given. It comes after everything else that sets flags.
func (p *preset) apply(f *flag.FlagSet, given map[string]bool) error {
	if p.name != presetOff {
		return nil
	}
	return setUngiven(f, given, "-limits off", p.off)
}

// setUngiven sets flags to values, for the sake of another flag, but for those that were given.
func setUngiven(f *flag.FlagSet, given map[string]bool, because string, values []presetValue) error {
	for _, v := range values {
		if given[v.flag] {
			continue
		}
		if err := f.Set(v.flag, v.value); err != nil {
			return fmt.Errorf("%s: -%s %s: %w", because, v.flag, v.value, err)
		}
	}
	return nil
}

// defaultPerAddress never bothers an office of 5,000 people behind one address. A person has one WebSocket, or two connections
// and a session when polling, and a browser keeps a few connections for another minute after it has loaded the page: four
// in all. When everybody comes back at once after a restart, a person needs two connections and two handshakes (gate and
// connector), and as many again should the first try fail: again four. 50,000 requests a second are more than two processors serve
// one by one: 20,000 people who poll behind one address make one or two a second each. 5,000 people who call a handler of 20 ms twice a
// second keep 200 busy.
func defaultPerAddress() limit.PerAddress {
	return limit.PerAddress{
		Conns:      20_000,
		Connects:   limit.Rate{PerSecond: 1000, Burst: 20_000},
		Handshakes: limit.Rate{PerSecond: 1000, Burst: 20_000},
		Requests:   limit.Rate{PerSecond: 50_000, Burst: 20_000},
		Handlers:   256,
	}
}

// accessFlags registers the flags about who connects.
func (c *settings) accessFlags(f *flag.FlagSet) {
	c.preset.name = presetPublic
	a := &c.access
	a.PerAddress = defaultPerAddress()
	f.Var(&c.preset, "limits", "`public|off`: what one address or session may do where no flag of its own says it. off is no limits, for benchmarks")
	f.BoolVar(&a.LimitAll, "limit-loopback", false, "hold addresses of this machine and of -trusted-proxies to the limits per address too")
	f.IntVar(&a.PerAddress.Conns, "addr-conns", a.PerAddress.Conns, "connections and polling sessions of one address (IPv6: one /64); more are refused. By default at most a quarter of -max-conns; 0 for no limit. All -addr limits hold for an IPv6 /56 at 4 and for a /48 at 16 times as much, connections there at most for half and three quarters of -max-conns")
	f.Var((*rateFlag)(&a.PerAddress.Connects), "addr-connects", "new connections of one address, `rate:burst`: so many a second, and so many at once. 0 for no limit")
	f.Var((*rateFlag)(&a.PerAddress.Handshakes), "addr-handshakes", "sessions begun by one address, `rate:burst`. 0 for no limit")
	f.Var((*rateFlag)(&a.PerAddress.Requests), "addr-requests", "HTTP requests of one address, polling included, `rate:burst`; more are answered 429 and their connection is closed. 0 for no limit")
	f.IntVar(&a.PerAddress.Handlers, "addr-handlers", a.PerAddress.Handlers, "handlers of a program's App that run for one address, and as many filters of the chat application's routes; more calls are answered 500. By default at most a quarter of App.MaxRunning; 0 for no limit")
	for _, name := range []string{"addr-conns", "addr-connects", "addr-handshakes", "addr-requests", "addr-handlers"} {
		c.preset.declare(name, "0")
	}
	f.Var((*prefixesFlag)(&a.Trusted), "trusted-proxies", "`networks` (10.0.0.0/8,192.0.2.7) of proxies that are believed where a client is, by X-Forwarded-For or PROXY protocol")
	f.Var(&c.proxyProtocol, "proxy-protocol", "`on|off|networks`: every connection from -trusted-proxies, or from those of them, begins with a PROXY protocol header, version 1 or 2")
	f.Var(&c.origins, "origins", "`origins` of web pages that may connect: https://chat.example.com,https://*.example.com; empty for all. What is no browser may always")
}

// checkAccess finishes what the flags of accessFlags say.
func (c *settings) checkAccess() (err error) {
	switch {
	case c.access.PerAddress.Conns < 0:
		return fmt.Errorf("-addr-conns %d: must be at least 1, or 0 for no limit", c.access.PerAddress.Conns)
	case c.access.PerAddress.Handlers < 0:
		return fmt.Errorf("-addr-handlers %d: must be at least 1, or 0 for no limit", c.access.PerAddress.Handlers)
	case c.proxyProtocol.on && len(c.access.Trusted) == 0:
		return errors.New("-proxy-protocol on: say in -trusted-proxies from which addresses such connections come; nobody else may send that header")
	}
	c.access.ProxyProtocol = c.proxyProtocol.networks
	if c.proxyProtocol.on {
		c.access.ProxyProtocol = c.access.Trusted
	}
	for _, n := range c.access.ProxyProtocol {
		if !slices.ContainsFunc(c.access.Trusted, func(t netip.Prefix) bool { return t.Bits() <= n.Bits() && t.Contains(n.Addr()) }) {
			return fmt.Errorf("-proxy-protocol %v: add it to -trusted-proxies, or its headers would not be believed", n)
		}
	}
	if c.access.Origins, err = router.ParseOrigins(c.origins); err != nil {
		return fmt.Errorf("-origins: %w", err)
	}
	return nil
}

// shareConns sees to it that one address cannot have all connections: it has at most a quarter of them, if -addr-conns was not given.
func (c *settings) shareConns() error {
	p := &c.access.PerAddress
	p.All = c.maxConns
	if quarter := max(c.maxConns/4, 1); p.Conns > quarter && !c.set["addr-conns"] {
		return c.flags.Set("addr-conns", strconv.Itoa(quarter))
	}
	return nil
}

// shareHandlers is shareConns for the handlers of app.
func (c *settings) shareHandlers(app *app.App) error {
	if app == nil {
		return nil
	}
	p := &c.access.PerAddress
	p.AllHandlers = app.MaxRunning
	if quarter := max(app.MaxRunning/4, 1); p.Handlers > quarter && !c.set["addr-handlers"] {
		return c.flags.Set("addr-handlers", strconv.Itoa(quarter))
	}
	return nil
}

// warnConns tells when one address may have all connections.
func (c *settings) warnConns() {
	if n := c.access.PerAddress.Conns; n >= c.maxConns {
		slog.Warn("one address may have all connections, and so lock out everybody else", "addr_conns", n, "max_conns", c.maxConns,
			"hint", "lower -addr-conns (by default it is a quarter of -max-conns), or raise -max-conns")
	}
}

// rateFlag is a limit.Rate: 100:500.
type rateFlag limit.Rate

func (r *rateFlag) String() string { return limit.Rate(*r).String() }

func (r *rateFlag) Set(text string) error {
	rate, err := limit.ParseRate(text)
	*r = rateFlag(rate)
	return err
}

// proxyFlag is on, off or a list of networks.
type proxyFlag struct {
	on       bool
	networks prefixesFlag
}

func (p *proxyFlag) String() string {
	switch {
	case p.on:
		return "on"
	case len(p.networks) > 0:
		return p.networks.String()
	}
	return "off"
}

func (p *proxyFlag) Set(text string) error {
	*p = proxyFlag{on: text == "on"}
	if text == "on" || text == "off" {
		return nil
	}
	if err := p.networks.Set(text); err != nil || len(p.networks) == 0 {
		return errors.New("must be on, off, or networks such as 10.0.0.0/8")
	}
	return nil
}

// listFlag is a list with commas.
type listFlag []string

func (l *listFlag) String() string { return strings.Join(*l, ",") }

func (l *listFlag) Set(text string) error {
	*l = nil
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			*l = append(*l, item)
		}
	}
	return nil
}

// prefixesFlag is a list of networks; an address alone is a network of one.
type prefixesFlag []netip.Prefix

func (p *prefixesFlag) String() string {
	var list []string
	for _, x := range *p {
		list = append(list, x.String())
	}
	return strings.Join(list, ",")
}

func (p *prefixesFlag) Set(text string) error {
	var list listFlag
	_ = list.Set(text)
	*p = nil
	for _, item := range list {
		n, err := parsePrefix(item)
		if err != nil {
			return fmt.Errorf("%q: must be a network such as 10.0.0.0/8 or an address such as 192.0.2.7", item)
		}
		*p = append(*p, n)
	}
	return nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		n, err := netip.ParsePrefix(text)
		if err == nil && n.Addr().Is4In6() {
			err = errors.New("IPv4 in IPv6")
		}
		return n.Masked(), err
	}
	a, err := netip.ParseAddr(text)
	a = a.Unmap()
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, errors.New("not an address")
	}
	return a.Prefix(a.BitLen())
}
