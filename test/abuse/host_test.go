//go:build linux

package abuse

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// The gate tells a client the host by which it came. One host that is long would come back with each of many short requests.
func TestGateHost(t *testing.T) {
	const requests = 200
	gate := "127.0.0.1:" + lowPort(t)
	scenario{
		name:  "gate's host",
		flags: append(slices.Clone(unmetered), "-gate", gate),
		attack: func(a *arena) error {
			p, err := dial(attackers+"1", gate)
			if err != nil {
				return err
			}
			a.keep(p)
			if err := p.raw([]byte(strings.Replace(upgradeHead, "Host: h", "Host: "+strings.Repeat("h", 7900), 1))); err != nil {
				return err
			}
			if status, _, body, err := p.response("GET"); err != nil || status != http.StatusSwitchingProtocols {
				return fmt.Errorf("upgrade answered %d: %.100q, %v", status, body, err)
			}
			p.ws = true
			if err := p.login(); err != nil {
				return err
			}
			var asks []byte
			for id := range uint32(requests) {
				asks = append(asks, p.framed(message(id+1, "gate.gateHandler.queryEntry", `{"uid":"x"}`))...)
			}
			if err := p.raw(asks); err != nil {
				return err
			}
			got := 0
			for range requests {
				answer, err := p.pkg()
				if err != nil {
					return err
				}
				got += len(answer.Body)
			}
			a.t.Logf("%d bytes of answers for %d", got, len(asks))
			if got > 2*len(asks) {
				return fmt.Errorf("%d bytes of answers for %d", got, len(asks))
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast("pomelod_requests_total", requests) },
		without: weakness{
			edits: []edit{{"codec/http_host.go", "len(name) > maxHostname ||", ""}},
			fails: "bytes of answers for",
		},
	}.run(t)
	scenario{
		name:    "hosts that are none",
		attack:  func(a *arena) error { return oddHosts(a.addr) },
		landed:  func(d delta) error { return d.atLeast("pomelod_accepted_total", 5) },
		without: weakness{edits: []edit{{"router/proto_http.go", "if r.head.Absolute {", "if r.head == nil {"}}, fails: "as a part of the target came back"},
	}.run(t)
}

// oddHosts asks a gate by names that no host has, and by one that only a proxy is told. None may come back.
func oddHosts(gate string) error {
	const path = "/gate/queryEntry?uid=x"
	for _, ask := range []struct{ name, target, host string }{
		{"as a part of the target", "http://evil.example" + path, "h"},
		{"with markup", path, `evil"><script>`},
		{"with a space", path, "evil evil"},
		{"with a user", path, "evil@h"},
		{"with a path", path, "evil/h"},
		{"in brackets", path, "[evil]"},
		{"with a port that is none", path, "evil:http"},
	} {
		p, err := dial(attackers+"1", gate)
		if err != nil {
			return err
		}
		status, body, err := p.request("GET " + ask.target + " HTTP/1.1\r\nHost: " + ask.host + "\r\n\r\n")
		p.reset()
		if err != nil {
			return err
		}
		if strings.Contains(body, "evil") {
			return fmt.Errorf("a host %s came back: %d %.100q", ask.name, status, body)
		}
	}
	return nil
}
