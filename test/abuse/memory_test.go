//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// Where clients hoard memory by not reading what they asked for, the largest hoards are taken away before the process takes more than
// it may. Where what is left cannot be taken away, because it is many who have nothing, newcomers and enters are refused; and when
// the attack is over so is that.
//
// No judgement depends on how fast the machine is: who hoards goes on until hoards have been taken away, and idle connections come
// until the server says that memory is short, which stays so as long as they do.
func TestMemory(t *testing.T) {
	const hoarders, times, bytes, budget, taken = 160, 46, 16 << 10, 40 << 20, 10
	if raceEnabled {
		t.Skip("the race detector's memory is not the server's")
	}
	scenario{
		name:  "memory",
		flags: []string{"-memory", fmt.Sprint(budget), "-handshake-timeout", "1m"},
		busy:  "to fill the memory in so short a time keeps both processors copying",
		attack: func(a *arena) error {
			before := a.metrics()
			idle, err := a.login(0)
			if err != nil {
				a.t.Fatal(err)
			}
			var talkers []*peer
			for i := range hoarders {
				for _, user := range []string{"hoarder", "talker"} {
					p, err := a.chatter(i, user, fmt.Sprint("hoard", i))
					if err != nil {
						a.t.Fatal(err)
					}
					if user == "talker" {
						talkers = append(talkers, p)
					}
				}
			}
			say := message(0, routeSend, fmt.Sprintf(`{"content":%q,"target":"hoarder"}`, strings.Repeat("x", bytes)))
			for round := range 3 { // a server that is late refuses some of what is said
				_ = together(hoarders, func(i int) (err error) {
					for n := 0; n < times && err == nil; n++ {
						err = talkers[i].raw(say) // one of whom much has come, and waits for a server that is late, may be let go too
					}
					return nil
				})
				// It is all said, and then comes the look at the memory, once a second; or else nothing is taken away.
				_ = a.await(atLeast(before["pomelod_requests_total"]+float64((round+1)*hoarders*times)), "pomelod_requests_total")
				for end := time.Now().Add(3 * time.Second); !a.taken(before, taken) && time.Now().Before(end); {
					time.Sleep(20 * time.Millisecond)
				}
				if a.taken(before, taken) {
					break
				}
			}
			peak, was := a.peak(), int(before["process_resident_memory_bytes"])
			a.t.Logf("RSS was at most %.1f MB, %.1f before", float64(peak)/1e6, float64(was)/1e6)
			if peak-was > budget*3/2 { // memory is read once a second; what comes in between is on top
				return fmt.Errorf("RSS rose from %d to %d bytes", was, peak)
			}
			return a.crowdUntilShort(idle, budget)
		},
		landed: func(d delta) error { return d.atLeast("pomelod_sends_total", hoarders*times/4) },
		held: func(d delta) error {
			return errors.Join(d.atLeast(`pomelod_refused_total{reason="memory"}`, 1), d.atLeast(`pomelod_limited_total{reason="memory"}`, 1),
				d.atLeast(closedForMemory, taken))
		},
		without: weakness{flags: []string{"-memory", "16GiB", "-max-buffered", "1GiB"}, fails: "RSS rose from"},
	}.run(t)
}

const closedForMemory = `pomelod_closed_total{reason="memory"}`

// taken tells whether so many have been closed for what was kept for them.
func (a *arena) taken(before metrics, n float64) bool {
	return delta{before, a.metrics()}.atLeast(closedForMemory, n) == nil
}

// crowdUntilShort connects, says nothing, and so makes memory short: each connection counts with what the kernel takes for it, and
// none has anything that could be taken away. Then who is in may not enter, and who is not stays out.
func (a *arena) crowdUntilShort(idle *peer, budget int) error {
	const each, step = 5 << 10, 200 // bytes a connection counts with at least
	n, answer := 0, "nothing"
	for end := time.Now().Add(2 * patience); time.Now().Before(end); {
		if a.metrics()["pomelod_memory_short"] == 0 { // not yet, or no more: the collector has found something
			for i := 0; i < step && n < budget/each; i++ {
				if _, err := a.dial(i); err != nil {
					a.t.Fatal(err)
				}
				n++
			}
			time.Sleep(20 * time.Millisecond) // memory is read once a second
			continue
		}
		var err error
		if answer, err = idle.enter("idle", "idle"); err != nil {
			return err
		}
		newcomer, err := a.dial(1)
		if err != nil {
			return err
		}
		in := errors.New("not yet")
		for newcomer.late = time.Second; in != nil && a.metrics()["pomelod_memory_short"] > 0 && time.Now().Before(end); { // and -enter-rate is kept to
			_, in = newcomer.gone()
		}
		if strings.Contains(answer, `"reason":"memory"`) && in == nil {
			a.t.Logf("memory was short with %d connections that do nothing", n)
			return nil
		}
		answer += fmt.Sprint(", a newcomer: ", in)
	}
	return fmt.Errorf("memory is not short with %d connections that do nothing: an enter was answered %s", n, answer)
}

// Clients who begin long messages and never end them, each as long as may be, are kept no more of than -max-buffered in all: packages, the bodies of
// POSTs, and the forms of JSONP sessions, which may be four times as long.
func TestHalfMessages(t *testing.T) {
	const crowd, declared, sent, most, factor = 210, 250 << 10, 200 << 10, 8 << 20, 4
	post := func(target, kind string, n int) []byte {
		return append([]byte(httpText("POST", target, "", fmt.Sprint("Content-Length: ", n*declared), "Content-Type: "+kind)), make([]byte, n*sent)...)
	}
	half := append([]byte{byte(codec.PackageData), declared >> 16, declared >> 8 & 0xff, declared & 0xff}, make([]byte, sent)...)
	scenario{
		name:  "half messages",
		flags: []string{"-max-buffered", fmt.Sprint(most)},
		attack: func(a *arena) error {
			var sids []string
			for i := range crowd {
				p, said, sid := (*peer)(nil), half, ""
				var err error
				switch i % 3 {
				case 0:
					p, err = a.chatter(i, "hoarder", fmt.Sprint("hoard", i))
				case 1:
					p, err = a.dial(i)
					said = post("/gate/queryEntry", "application/json", 1)
				case 2:
					if p, err = a.dial(i); err == nil {
						sid, err = p.openPolling("3")
					}
					said = post(pathPolling+"3&j=0&sid="+sid, "application/x-www-form-urlencoded", factor)
				}
				if err != nil {
					a.t.Fatal(err)
				}
				if err := p.raw(said); timedOut(err) {
					return err
				}
				if sid != "" {
					sids = append(sids, sid)
				}
				if i%20 > 0 {
					continue
				}
				if kept := a.metrics()["pomelod_inbound_bytes"]; kept > most+2<<20 {
					return fmt.Errorf("%.0f bytes of half messages are kept", kept)
				}
			}
			return a.closePolling(sids)
		},
		landed:  func(d delta) error { return d.atLeast("pomelod_read_bytes_total", most) },
		held:    func(d delta) error { return d.atLeast(`pomelod_closed_total{reason="memory"}`, crowd/2) },
		without: weakness{flags: []string{"-max-buffered", "1GiB"}, fails: "of half messages are kept"},
	}.run(t)
}

// closePolling ends sessions, which would wait for their clients.
func (a *arena) closePolling(sids []string) error {
	p, err := a.dial(0)
	for _, sid := range sids {
		if err == nil {
			_, _, err = p.request(httpText("POST", pathPolling+"3&sid="+sid, "1:1"))
		}
	}
	return err
}

// resetPeak begins to watch for the most memory that the server has at any time.
func (s *server) resetPeak() {
	s.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0); err != nil {
		s.t.Fatal(err)
	}
}

// peak is the most memory that the server had since, or since it began, in bytes.
func (s *server) peak() int {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	line, _, _ := strings.Cut(rest, "kB")
	kb, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		s.t.Fatal(err)
	}
	return kb << 10
}
