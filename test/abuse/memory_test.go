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

// Where clients hoard memory by not reading what they asked for, the largest hoards are taken away, and newcomers and enters refused,
// before the process takes more than it may; and when the attack is over so is that.
func TestMemory(t *testing.T) {
	const hoarders, times, bytes, budget = 160, 46, 16 << 10, 40 << 20
	if raceEnabled {
		t.Skip("the race detector's memory is not the server's")
	}
	scenario{
		name:  "memory",
		flags: []string{"-memory", fmt.Sprint(budget)},
		busy:  "to fill the memory in so short a time keeps both processors copying",
		attack: func(a *arena) error {
			before := a.metrics()["process_resident_memory_bytes"]
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
			if err := together(hoarders, func(i int) (err error) {
				for n := 0; n < times && err == nil; n++ {
					err = talkers[i].raw(say)
				}
				return err
			}); err != nil {
				return err
			}
			answer := ""
			for end := time.Now().Add(3 * time.Second); !strings.Contains(answer, `"reason":"memory"`) && time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
				if answer, err = idle.enter("idle", "idle"); err != nil {
					return err
				}
			}
			peak := a.peak()
			a.t.Logf("RSS was at most %.1f MB, %.1f before", float64(peak)/1e6, before/1e6)
			if peak-int(before) > budget*3/2 { // memory is read once a second; what comes in between is on top
				return fmt.Errorf("RSS rose from %.0f to %d bytes", before, peak)
			}
			if !strings.Contains(answer, `"reason":"memory"`) {
				return fmt.Errorf("memory is not short: an enter was answered %s", answer)
			}
			newcomer, err := a.dial(1)
			if err == nil {
				newcomer.late = time.Second
				_, err = newcomer.gone()
			}
			return err
		},
		landed: func(d delta) error { return d.atLeast("pomelod_sends_total", hoarders*times/2) },
		held: func(d delta) error {
			return errors.Join(d.atLeast(`pomelod_refused_total{reason="memory"}`, 1), d.atLeast(`pomelod_limited_total{reason="memory"}`, 1),
				d.atLeast(`pomelod_closed_total{reason="memory"}`, 10))
		},
		without: weakness{flags: []string{"-memory", "16GiB", "-max-outbound", "1GiB"}, fails: "RSS rose from"},
	}.run(t)
}

// Clients who begin long messages and never end them, each as long as may be, are kept no more of than -max-outbound in all.
func TestHalfMessages(t *testing.T) {
	const crowd, declared, sent, most = 200, 250 << 10, 200 << 10, 8 << 20
	scenario{
		name:  "half messages",
		flags: []string{"-max-outbound", fmt.Sprint(most)},
		attack: func(a *arena) error {
			half := append([]byte{byte(codec.PackageData), declared >> 16, declared >> 8 & 0xff, declared & 0xff}, make([]byte, sent)...)
			for i := range crowd {
				p, err := a.chatter(i, "hoarder", fmt.Sprint("hoard", i))
				if err != nil {
					a.t.Fatal(err)
				}
				if err := p.raw(half); timedOut(err) {
					return err
				}
				if i%20 > 0 {
					continue
				}
				if kept := a.metrics()["pomelod_inbound_bytes"]; kept > most+512<<10 {
					return fmt.Errorf("%.0f bytes of half messages are kept", kept)
				}
			}
			return nil
		},
		landed:  func(d delta) error { return d.atLeast("pomelod_read_bytes_total", most) },
		held:    func(d delta) error { return d.atLeast(`pomelod_closed_total{reason="memory"}`, crowd/2) },
		without: weakness{flags: []string{"-max-outbound", "1GiB"}, fails: "of half messages are kept"},
	}.run(t)
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
