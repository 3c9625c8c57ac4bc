//go:build linux

package server

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/router"
)

// tlsSettings are the flags about TLS.
type tlsSettings struct {
	listen, gate string
	advertise    string
	certs, keys  listFlag
	self         bool
	limits       netpoll.HandshakeLimits
}

// Where TLS is spoken if no flag says it.
const tlsListenDefault, tlsGateDefault = ":3443", ":3414"

func (t *tlsSettings) declare(f *flag.FlagSet) {
	t.limits = netpoll.HandshakeLimits{All: 4096, Client: 64, Rate: 1000, Seconds: 5}
	f.StringVar(&t.listen, "tls-listen", "", "`address` of the connector for clients that speak TLS (wss, https, raw TCP over TLS); where there is a certificate "+tlsListenDefault+"; none for none")
	f.StringVar(&t.gate, "tls-gate", "", "`address` of the gate for clients that speak TLS; where there is a certificate "+tlsGateDefault+"; none for none")
	f.Var(&t.certs, "tls-cert", "`files` with certificates, PEM, each with those of its issuers behind it: chat.pem,other.pem. A client gets the first that is for the name it asks for. Read again when they change, and on SIGHUP")
	f.Var(&t.keys, "tls-key", "`files` with their keys, in the same order")
	f.BoolVar(&t.self, "tls-self", false, "make a certificate for this machine at the start, to try TLS out: browsers warn of it, and everybody could make the like")
	f.StringVar(&t.advertise, "tls-advertise", "", "`host[:port]` of the connector with TLS as the gate with TLS tells it to clients; by default the host of -advertise, and the port of -tls-listen")
	f.IntVar(&t.limits.All, "tls-handshakes", t.limits.All, "TLS handshakes that may wait for their clients at a time; beyond it the oldest is ended. Of one address 64")
	f.IntVar(&t.limits.Rate, "tls-rate", t.limits.Rate, "TLS handshakes begun a second; others wait, addresses in turn")
	f.Var((*secondsFlag)(&t.limits.Seconds), "tls-timeout", "`time` for a TLS handshake, from its first byte")
}

// on tells whether anybody may speak TLS.
func (t *tlsSettings) on() bool { return t.self || len(t.certs) > 0 }

// check refuses what cannot work, and fills in what no flag says.
func (t *tlsSettings) check() error {
	switch {
	case t.self && len(t.certs)+len(t.keys) > 0:
		return errors.New("-tls-self and -tls-cert: use one of them; -tls-self is for trying TLS out without a certificate")
	case len(t.certs) != len(t.keys):
		return fmt.Errorf("-tls-cert names %d files and -tls-key %d: each certificate needs its key, in the same order", len(t.certs), len(t.keys))
	case !t.on() && (t.listen != "" && t.listen != noAddr || t.gate != "" && t.gate != noAddr):
		return errors.New("-tls-listen and -tls-gate need a certificate: give -tls-cert and -tls-key, or -tls-self to try it out")
	case t.limits.All < 1 || t.limits.Rate < 1 || t.limits.Rate > 1_000_000 || t.limits.Seconds < 1:
		return errors.New("-tls-handshakes, -tls-rate and -tls-timeout: must be at least 1, and the rate at most 1000000")
	}
	t.limits.Client = min(t.limits.Client, t.limits.All)
	for _, l := range []struct {
		addr     *string
		standard string
	}{{&t.listen, tlsListenDefault}, {&t.gate, tlsGateDefault}} {
		if *l.addr == "" && t.on() {
			*l.addr = l.standard
		}
		if *l.addr == noAddr {
			*l.addr = ""
		}
	}
	if t.on() && t.listen == "" && t.gate == "" {
		return errors.New("-tls-listen and -tls-gate are both none: drop the certificate, or give one of them an address")
	}
	_, _, err := announced("-tls-advertise", t.advertise)
	return err
}

// certificates reads the files, or makes what -tls-self asks for; nil without TLS.
func (t *tlsSettings) certificates(hosts []string) (*certificates, error) {
	if !t.on() {
		return nil, nil
	}
	k := &certificates{certs: t.certs, keys: t.keys}
	if t.self {
		if name, err := os.Hostname(); err == nil {
			hosts = append(hosts, name)
		}
		c, err := selfSigned(append(hosts, "localhost"))
		if err == nil {
			k.use([]tls.Certificate{c})
		}
		return k, err
	}
	k.seen = k.look() // first: what changes meanwhile is read again
	return k, k.read()
}

// planTLS adds the listeners of clients that speak TLS. They are as the first connector and the first gate are to others.
func (c *settings) planTLS(p *plan) (err error) {
	host, port, err := announced("-tls-advertise", c.tls.advertise)
	if err != nil || !c.tls.on() {
		return err
	}
	if host == "" {
		host, _, _ = c.announced()
	}
	hosts := []string{strings.Trim(host, "[]")}
	if p.certificates, err = c.tls.certificates(hosts); err != nil {
		return err
	}
	add := func(kind router.ServerType, name, flag, addr string) {
		if addr == "" {
			return
		}
		profile := router.Profile{Type: kind}
		if kind == router.Connector {
			profile.HeartbeatSeconds = int(c.heartbeat / time.Second)
		}
		for _, l := range p.listeners {
			if l.profile.Type == kind {
				profile = *l.profile
				break
			}
		}
		profile.Name, profile.TLS = name, true
		p.listeners = append(p.listeners, plannedListener{profile: &profile, addr: addr, flag: flag, host: host, port: port})
	}
	add(router.Connector, "connector-tls", "-tls-listen", c.tls.listen)
	add(router.Gate, "gate-tls", "-tls-gate", c.tls.gate)
	if len(p.listeners) > 256 {
		return fmt.Errorf("there are %d gates and connectors; one process serves 256", len(p.listeners))
	}
	if c.tls.self {
		p.warnings = append(p.warnings, "-tls-self: the certificate was made just now and proves nothing; clients must be told to accept it, and anybody in between could make another. Do not serve users with it: -tls-cert and -tls-key")
	}
	p.warnings = append(p.warnings, p.certificates.warnings(time.Now())...)
	if h := strings.Trim(host, "[]"); h != "" && !p.certificates.names(h) {
		p.warnings = append(p.warnings, fmt.Sprintf("no certificate is for %s, which the gate would tell clients of TLS: they are told the name by which they reach the gate instead; get a certificate for it, or correct -tls-advertise", h))
	}
	return nil
}

// shakers is how many goroutines make the sums of handshakes: half of what there is to make them, so that event loops keep the rest.
func shakers() int { return max(1, processors/2) }
