//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// proxies are the flags under which all attackers' addresses are those of trusted proxies, behind which others are. An address may
// begin fifty sessions at once, and ten a second.
var proxies = []string{"-trusted-proxies", attackers + "0/24", "-addr-handshakes", "10:50", "-sio-heartbeat", "1s", "-sio-timeout", "1s"}

// often is what proxies allow one address, times so many for a network.
func often(times int, began time.Time) allowance { return allowance{10 * times, 50 * times, began} }

// garbageLists are values of X-Forwarded-For in which no address stands where a trusted proxy would have put its client's.
var garbageLists = []string{
	"unknown", "-", "x", "client", "1.2.3", "1.2.3.4.5", "999.1.1.1", "01.2.3.4", "1.2.3.4/32", "1.2.3.4 5.6.7.8", "1.2.3.4;5.6.7.8", "0x7f000001",
	"2130706433", ":::", "2001:db8::1::2", "[2001:db8::1", "2001:db8::1]", "[]", "[]:80", "1.2.3.4:99999", "for=1.2.3.4", `"1.2.3.4"`, "localhost",
	"_hidden", "１.2.3.4", "1.2.3.4, unknown", "1.2.3.4,x,", "x, , ,", strings.Repeat("1", 65), strings.Repeat("1.2.3.4 ", 500),
	"unknown\r\nX-Forwarded-For: y", "1.2.3.4\r\nX-Forwarded-For: unknown", "1.2.3.4\r\nX-Forwarded-For: \r\nX-Forwarded-For: y",
}

// opens begins to poll by a proxy's connection, with X-Forwarded-For, and tells how that was answered.
func (p *peer) opens(forwarded string) (status int, err error) {
	status, _, _, err = p.http("GET", pathPolling+"3", "X-Forwarded-For: "+forwarded+"\r\n")
	return status, err
}

// A proxy's request that tells no address where its client's should be is refused. It must not count for the proxy, which others
// share, and which is exempt.
func TestForwardedGarbage(t *testing.T) {
	const rounds = 20
	scenario{
		name:  "forwarded garbage",
		flags: proxies,
		attack: func(a *arena) error {
			var wrong error
			for i := range a.n(rounds) {
				for _, list := range garbageLists {
					p, err := dial(fmt.Sprint(attackers, 1+i%8), a.addr)
					if err != nil {
						a.t.Fatal(err)
					}
					status, err := p.opens(list)
					if err == nil && status != http.StatusBadRequest {
						err = fmt.Errorf("it was answered %d", status)
					} else if err == nil {
						_, err = p.gone()
					}
					p.reset()
					if err != nil && wrong == nil {
						wrong = fmt.Errorf("%.40q: %w", list, err)
					}
				}
			}
			return errors.Join(wrong, a.welcomedBy(1, "198.51.100.1"))
		},
		landed: func(d delta) error {
			return d.atLeast("pomelod_accepted_total", crowd(rounds)*float64(len(garbageLists)))
		},
		held: func(d delta) error {
			return d.atLeast(`pomelod_refused_total{reason="forwarded_for"}`, crowd(rounds)*float64(len(garbageLists)))
		},
		without: weakness{
			edits: []edit{{"codec/forwarded.go", "return netip.Addr{}, ErrForwardedFor", "return netip.Addr{}, nil"}},
			fails: "it was answered 200",
		},
	}.run(t)
}

// welcomedBy is an error unless an address gets in by the i-th proxy.
func (a *arena) welcomedBy(i int, client string) error {
	p, err := dial(fmt.Sprint(attackers, i), a.addr)
	if err != nil {
		return err
	}
	defer p.reset()
	if status, err := p.opens(client); err != nil || status != http.StatusOK {
		return fmt.Errorf("%s, who has done nothing, was answered %d, %w", client, status, err)
	}
	return nil
}

// Whatever a client writes into X-Forwarded-For before it comes to the proxy, other addresses, networks or proxies, in one line or in
// several: its sessions count for the address that the proxy saw.
func TestForwardedLists(t *testing.T) {
	const each = 300
	lists := []string{ // # is another number each time, and CLIENT what the proxy writes
		"203.0.113.#, CLIENT", "10.0.0.#,CLIENT", "2001:db8:#::1, CLIENT", "127.0.66.#, CLIENT", "x#, CLIENT", "CLIENT, CLIENT",
		"203.0.113.#\r\nX-Forwarded-For: CLIENT", "203.0.113.#, CLIENT, 127.0.66.9", "203.0.113.#, CLIENT\r\nX-Forwarded-For: 127.0.66.7, 127.0.66.9",
		"a\r\nX-Forwarded-For: b\r\nX-Forwarded-For: c\r\nX-Forwarded-For: 1.1.1.#\r\nX-Forwarded-For: CLIENT",
		"203.0.113.#, CLIENT:#", "203.0.113.#, ::ffff:CLIENT", "203.0.113.#, [64:ff9b::CLIENT]:80", ", ,203.0.113.# , CLIENT , ,",
	}
	scenario{
		name:  "forwarded lists",
		flags: proxies,
		attack: func(a *arena) error {
			var all []error
			for i, list := range lists {
				p, err := a.dial(i % 8)
				if err != nil {
					a.t.Fatal(err)
				}
				client, in, began := fmt.Sprint("198.51.100.", 10+i), 0, time.Now()
				for n := range max(a.n(each), 100) {
					forwarded := strings.NewReplacer("#", fmt.Sprint(n%200), "CLIENT", client).Replace(list)
					status, err := p.opens(forwarded)
					if err != nil || status != http.StatusOK && status != http.StatusTooManyRequests {
						all = append(all, fmt.Errorf("%.100q was answered %d, %w", forwarded, status, err))
						break
					}
					if status == http.StatusOK {
						in++
					}
				}
				all = append(all, often(1, began).check(fmt.Sprintf("%q began a session", list), in))
			}
			// Who is no proxy has no word.
			const from = "127.0.67.1"
			p, err := dial(from, a.addr)
			if err != nil {
				a.t.Fatal(err)
			}
			defer p.reset()
			in, began := 0, time.Now()
			for n := range max(a.n(each), 100) {
				status, err := p.opens(fmt.Sprint("203.0.113.", n%200))
				if err != nil {
					return err
				}
				if status == http.StatusOK {
					in++
				}
			}
			return errors.Join(append(all, often(1, began).check(from+" began a session", in), a.welcomedBy(1, "198.51.100.1"))...)
		},
		landed: func(d delta) error {
			return d.atLeast("pomelod_http_requests_total", float64(max(new(arena).n(each), 100)*len(lists)/2))
		},
		held: func(d delta) error {
			return d.atLeast(`pomelod_refused_total{reason="addr_handshakes"}`, 20*float64(len(lists)))
		},
		without: weakness{
			edits: []edit{{"codec/forwarded.go", "if client = a; !trusted(a) {", "if client = a; false {"}}, // the leftmost is believed
			fails: "began a session",
		},
	}.run(t)
}
