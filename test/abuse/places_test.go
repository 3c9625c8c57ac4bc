//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// One address that connects as often as it can, and stays, gets a quarter of what the server takes, by default. There is room for others,
// who get in at once.
func TestOneAddressFillsServer(t *testing.T) {
	const most, tries, others = 800, 1200, 100
	scenario{
		name:  "one address",
		flags: []string{"-max-conns", fmt.Sprint(most)},
		attack: func(a *arena) error {
			for range tries {
				p, err := dial(attackers+"1", a.addr)
				if err != nil {
					a.t.Fatal(err)
				}
				a.keep(p)
			}
			if err := a.await(atLeast(tries), "pomelod_accepted_total", `pomelod_refused_total{reason="max_conns"}`, `pomelod_refused_total{reason="addr_conns"}`); err != nil {
				return err
			}
			var all []error
			if has := a.metrics()["pomelod_connections"] - 2*pairs; has > most/4 {
				all = append(all, fmt.Errorf("one address has %v connections of %d", has, most))
			}
			for i := range others {
				if p, err := a.login(1 + i%50); err != nil {
					return errors.Join(append(all, fmt.Errorf("another address did not get in: %w", err))...)
				} else if i%2 > 0 {
					p.reset()
				}
			}
			return errors.Join(all...)
		},
		landed:  func(d delta) error { return d.atLeast("pomelod_accepted_total", most/4) },
		held:    func(d delta) error { return d.atLeast(`pomelod_refused_total{reason="addr_conns"}`, tries-most/4) },
		without: weakness{flags: []string{"-addr-conns", "0"}, fails: "another address did not get in"},
	}.run(t)
}

// A GET that is held is not read behind: of what follows it the kernel has 64 KiB, and the server 16, and both are counted.
func TestHeldGets(t *testing.T) {
	const polls, addresses, each = 1500, 20, 120 << 10 // bytes, of which a few are still in the attacker's own socket
	scenario{
		name: "held GETs",
		busy: "to send so much in so short a time keeps both processors copying",
		attack: func(a *arena) error {
			before := a.metrics()["pomelod_memory_bytes"]
			peers := make([]*peer, a.n(polls))
			for i := range peers {
				p, err := a.dial(i % addresses)
				if err != nil {
					a.t.Fatal(err)
				}
				_ = p.tcp().SetWriteBuffer(4 << 10)
				sid, err := p.openPolling("3")
				if err == nil {
					err = p.raw([]byte(httpText("GET", pathPolling+"3&sid="+sid, "")))
				}
				if err != nil {
					a.t.Fatal(err)
				}
				peers[i] = p
			}
			more := []byte(httpText("GET", "/", "", "X: "+strings.Repeat("x", 4<<10)))
			sent := make([]int, len(peers))
			_ = together(len(peers), func(i int) error { // until nothing more is taken
				for sent[i] < 4*each {
					_ = peers[i].SetWriteDeadline(time.Now().Add(time.Second))
					n, err := peers[i].Write(more)
					sent[i] += n
					if err != nil {
						break
					}
				}
				return nil
			})
			total := 0
			for _, n := range sent {
				total += n
			}
			a.t.Logf("%.1f KB were taken behind each of %d held GETs; %.1f MB in all", float64(total)/1e3/float64(len(peers)), len(peers), float64(total)/1e6)
			if total > each*len(peers) {
				return fmt.Errorf("%d bytes were taken behind %d held GETs", total, len(peers))
			}
			err := a.await(atLeast(before+float64(total)), "pomelod_memory_bytes") // it is read once a second
			for _, p := range peers {
				p.reset() // of an end behind what is not read nobody hears
			}
			if err != nil {
				return fmt.Errorf("of %d bytes, not all are counted: %w", total, err)
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast("pomelod_http_requests_total", crowd(2*polls)) },
		without: weakness{
			edits: []edit{{"netpoll/listener_linux.go", "{unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer},", ""}},
			fails: "bytes were taken behind",
		},
	}.run(t)
}
