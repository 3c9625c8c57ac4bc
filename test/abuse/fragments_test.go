//go:build linux

package abuse

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// Clients who send fragments of WebSocket messages that never end, up to what a message may have, are kept no more of than
// -max-buffered in all: they count as half messages do, and go first. Who reads slowly meanwhile is not who pays for them.
func TestFragments(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's memory is not the server's")
	}
	const most = 16 << 20
	fragments("fragments", 600, most, "-max-buffered", fmt.Sprint(most)).run(t)
}

// fragments are sent by a crowd, of whom so many bytes may be kept.
func fragments(name string, crowd, most int, flags ...string) scenario {
	const pieces, piece, addresses = 16, 16 << 10, 8 // two could have as many connections, by default
	first, more := wsFrame(0x02, make([]byte, piece)), wsFrame(0x00, make([]byte, piece-100))
	return scenario{
		name:  name,
		flags: flags,
		busy:  "to send so much in so short a time keeps both processors copying",
		attack: func(a *arena) error {
			before := a.peak()
			slow, err := a.chatter(0, "slow", "slow")
			if err != nil {
				a.t.Fatal(err)
			}
			var peers []*peer
			for i := range crowd {
				p, err := a.dial(i%addresses + 1)
				if err == nil {
					err = p.upgrade()
				}
				if err == nil {
					err = p.speak()
				}
				if err != nil {
					a.t.Fatal(err)
				}
				peers = append(peers, p)
			}
			for n := range pieces {
				if err := slow.raw(heartbeat); err != nil { // on a slow machine it would be silent for too long
					return fmt.Errorf("who did nothing was closed: %w", err)
				}
				for _, p := range peers {
					frame := more
					if n == 0 {
						frame = first
					}
					_ = p.raw(frame) // who has been closed meanwhile may go on
				}
				if kept := a.metrics()["pomelod_inbound_bytes"]; kept > float64(most+crowd*2*piece) {
					return fmt.Errorf("%.0f bytes of fragments are kept", kept)
				}
			}
			if _, err := slow.ask("no.such.route", "{}"); err != nil {
				return fmt.Errorf("who did nothing was closed: %w", err)
			}
			after := a.peak()
			a.t.Logf("RSS rose from %.1f to %.1f MB", float64(before)/1e6, float64(after)/1e6)
			if after > before+4*most+mayKeep { // the collector lets garbage be as much as what lives, and buffers that grow leave some
				return fmt.Errorf("RSS rose from %d to %d bytes", before, after)
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast("pomelod_read_bytes_total", 2*float64(most)) },
		held:   func(d delta) error { return d.atLeast(closedForMemory, float64(crowd/2)) },
		without: weakness{
			edits: []edit{{"netpoll/inboxes.go", "x.ledger.inbound += bytes - i.kept", "_ = bytes"}},
			fails: "RSS rose from",
		},
	}
}

// Who has begun a message has its time to end it. Neither pings nor more fragments, nor bytes of what never ends, prolong that; on
// a gate too, where any byte is a sign of life.
func TestUnfinished(t *testing.T) {
	const each = 20
	stages := []stage{
		{name: "fragments without end", open: (*peer).wsSpeak, say: func(tenths int) []byte {
			if tenths == 0 {
				return wsFrame(0x02, []byte("x"))
			}
			return wsFrame(0x00, []byte("x"))
		}},
		{name: "a fragment and pings", open: (*peer).wsSpeak, say: func(tenths int) []byte {
			if tenths == 0 {
				return wsFrame(0x02, []byte("x"))
			}
			return wsFrame(0x89, nil)
		}},
		{name: "a frame by bytes", open: (*peer).wsSpeak, say: drip(wsFrame(0x82, bytes.Repeat([]byte("x"), 1000)))},
		{name: "a package by bytes", open: (*peer).speak, say: drip(message(1, routeSend, `{"content":"`+long+`","target":"*"}`))},
	}
	scenario{
		name:  "unfinished",
		flags: []string{"-handshake-timeout", "2s", "-heartbeat", "0", "-first-message-timeout", "0"},
		attack: func(a *arena) error {
			return a.linger(stages, a.n(each), soon)
		},
		landed: func(d delta) error { return d.atLeast("pomelod_accepted_total", crowd(each)*float64(len(stages))) },
		held: func(d delta) error {
			return errors.Join(d.atLeast(`pomelod_closed_total{reason="unfinished"}`, crowd(each)*float64(len(stages))))
		},
		without: weakness{flags: []string{"-handshake-timeout", "1h"}, fails: "still connected: " + stageNames(stages)},
	}.run(t)
}

// wsSpeak is speak by WebSocket.
func (p *peer) wsSpeak() error {
	if err := p.upgrade(); err != nil {
		return err
	}
	return p.speak()
}
