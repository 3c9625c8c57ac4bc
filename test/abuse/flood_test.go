//go:build linux

package abuse

import (
	"testing"
)

// A client that notifies as fast as it can is refused, and then disconnected.
func TestNotifyFlood(t *testing.T) {
	const notifies = 50_000
	scenario{
		name: "notify flood",
		attack: func(a *arena) error {
			p, err := a.chatter(0, "flooder", "flooded")
			if err != nil {
				a.t.Fatal(err)
			}
			b := message(0, routeSend, `{"content":"x","target":"*"}`)
			for range a.n(notifies) {
				if err := p.raw(b); err != nil {
					return nil // disconnected, as it should be
				}
			}
			_, err = p.gone()
			return err
		},
		landed:  func(d delta) error { return d.atLeast("pomelod_requests_total", 1000) },
		held:    func(d delta) error { return d.atLeast(`pomelod_closed_total{reason="flood"}`, 1) },
		without: weakness{flags: []string{"-session-rate", "0", "-send-rate", "0", "-flood", "0"}, fails: "still connected"},
	}.run(t)
}
