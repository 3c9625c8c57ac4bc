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
}
