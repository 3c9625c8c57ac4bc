//go:build linux

package abuse

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// heartbeats sends a heartbeat once a second for each who comes, until all have and stop is closed. What the server answers is not read:
// a few bytes.
func heartbeats(come <-chan *peer, stop <-chan struct{}) {
	type due struct {
		*peer
		at time.Time
	}
	var all []due // as they have come, which is the order in which they are due
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case p := <-come:
			all = append(all, due{p, time.Now().Add(time.Second)})
		case now := <-tick.C:
			for i := range all {
				if p := &all[i]; now.After(p.at) {
					_ = p.send(heartbeat) // who was thrown out is found later
					p.at = now.Add(time.Second)
				}
			}
		}
	}
}

// stopped waits until no thread of the server runs.
func (s *server) stopped() {
	s.t.Helper()
	waitFor(s.t, "the server to stand still", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
		_, state, _ := bytes.Cut(stat, []byte(") "))
		return err == nil && len(state) > 0 && state[0] == 'T'
	})
}

// ticked waits until every loop has looked for those who are silent, and had time for all whom it found.
func (s *server) ticked() {
	s.t.Helper()
	const look = "pomelod_ticks_total{loop="
	before := s.metrics()
	waitFor(s.t, "ticks", func() bool {
		loops := 0
		for name, n := range s.metrics() {
			if strings.HasPrefix(name, look) {
				if n < before[name]+2 {
					return false
				}
				loops++
			}
		}
		return loops > 0
	})
}

// A server that is stopped for longer than anybody may be silent, and goes on, throws nobody out: the silence was its own.
func TestStoppedServer(t *testing.T) {
	const crowd, standstill = 300, 5 * time.Second // who is not heard of for two heartbeats is let go
	scenario{
		name:  "stopped server",
		flags: []string{"-heartbeat", "2s"},
		attack: func(a *arena) error {
			peers := make([]*peer, a.n(crowd))
			come, stop, ended := make(chan *peer), make(chan struct{}), make(chan struct{})
			go func() { heartbeats(come, stop); close(ended) }()
			defer func() { close(stop); <-ended }()
			for i := range peers {
				p, err := a.dial(i % 4)
				if err == nil {
					err = p.loginBy(i%2 == 0)
				}
				if err != nil {
					a.t.Fatal(err)
				}
				peers[i] = p
				come <- p
			}
			if err := a.server.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				a.t.Fatal(err)
			}
			a.stopped()
			time.Sleep(standstill)
			_ = a.server.cmd.Process.Signal(syscall.SIGCONT)
			var problems []string
			waitFor(a.t, "the witnesses to hear what has waited", func() bool {
				stood := a.phase()
				problems = append(problems, stood.Problems...)
				return stood.Max >= standstill-every || len(problems) > 0
			})
			if len(problems) > 0 {
				return fmt.Errorf("a witness: %q", problems)
			}
			a.ticked()
			if stood := a.phase(); len(stood.Problems) > 0 { // what was late for that reason is not judged
				return fmt.Errorf("a witness: %q", stood.Problems)
			}
			for i, p := range peers {
				if _, err := p.enter("still", fmt.Sprint("still", i)); err != nil {
					return fmt.Errorf("client %d was thrown out: %w", i, err)
				}
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast("pomelod_accepted_total", crowd/10) },
		held: func(d delta) error {
			if n := d.grown(`pomelod_closed_total{reason="silent"}`); n > 0 {
				return fmt.Errorf("%v clients were closed for silence", n)
			}
			return nil
		},
		without: weakness{
			edits: []edit{{"netpoll/clock.go", "if elapsed > maxTickNanos {", "if elapsed > 1e6*maxTickNanos {"}},
			fails: "clients were closed for silence",
		},
	}.run(t)
}

// Clients that freeze in the rooms of the witnesses, neither reading nor sending, are let go two heartbeats later, and not before;
// nobody else is delayed.
func TestFrozenClients(t *testing.T) {
	const crowd, beats = 400, 2 * time.Second // two of them
	scenario{
		name:  "frozen clients",
		flags: []string{"-heartbeat", "1s"},
		attack: func(a *arena) error {
			frozen := make([]*peer, a.n(crowd))
			began := make([]time.Time, len(frozen))
			for i := range frozen {
				p, err := a.dial(i % 4)
				if err == nil {
					err = p.loginBy(i%2 == 0)
				}
				var answer string
				if err == nil { // a name that the witnesses take for one of theirs
					began[i] = time.Now()
					answer, err = p.enter(fmt.Sprint("witnessed", i), fmt.Sprint("witnesses", i%pairs))
				}
				if err != nil || !strings.Contains(answer, "users") {
					a.t.Fatal(answer, err)
				}
				frozen[i] = p
			}
			for i, p := range frozen {
				p.late = soon
				if _, err := p.gone(); err != nil {
					return fmt.Errorf("client %d: %w", i, err)
				}
				if took := time.Since(began[i]); took < beats {
					return fmt.Errorf("client %d was let go after %v", i, took)
				}
			}
			return nil
		},
		landed:  func(d delta) error { return d.atLeast("pomelod_accepted_total", crowd/10) },
		held:    func(d delta) error { return d.atLeast(`pomelod_closed_total{reason="silent"}`, crowd/10) },
		without: weakness{flags: []string{"-heartbeat", "0", "-idle-timeout", "1h"}, fails: "still connected"},
	}.run(t)
}
