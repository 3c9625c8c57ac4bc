//go:build linux

package abuse

import (
	"fmt"
	"testing"
	"time"
)

// Clients that connect and say nothing, or no more than a part of a head, are let go in good time.
func TestSilentConnections(t *testing.T) {
	const crowd = 500
	scenario{
		name:  "silent",
		flags: []string{"-handshake-timeout", "1s", "-head-timeout", "1s"},
		attack: func(a *arena) error {
			silent := make([]*peer, a.n(crowd))
			for i := range silent {
				p, err := a.dial(i % 4)
				if err != nil {
					a.t.Fatal(err)
				}
				if i%2 == 0 {
					_ = p.raw([]byte(upgradeHead[:40]))
				}
				silent[i] = p
			}
			for i, p := range silent {
				p.late = 5 * time.Second
				if _, err := p.gone(); err != nil {
					return fmt.Errorf("connection %d: %w", i, err)
				}
			}
			return nil
		},
		landed:  func(d delta) error { return d.atLeast("pomelod_accepted_total", crowd/10) },
		held:    func(d delta) error { return d.atLeast(`pomelod_closed_total{reason="handshake_timeout"}`, crowd/10) },
		without: weakness{flags: []string{"-handshake-timeout", "1h", "-head-timeout", "1h"}, fails: "still connected"},
	}.run(t)
}
