//go:build linux

package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSplitIsFair(t *testing.T) {
	for _, s := range []split{
		{}, {1, 10, 5, 2}, {2, 600, 600, 16}, {3, 600, 600, 1}, {3, 600, 20, 0}, {3, 601, 20, 0}, {3, 600, 1, 0}, {4, 400, 20, 16}, {5, 37, 37, 3}, {2, 4, 2, 2}, {7, 19000, 1, 0},
	} {
		counts := make([]int, max(s.Processes, 1))
		for i := range s.Members {
			p := s.of(i)
			counts[p]++
			if i%s.Size < s.Senders && p != 0 {
				t.Errorf("%+v: sender %d is with process %d", s, i, p)
			}
		}
		senders := 0
		if s.Size > 0 {
			senders = s.Members / s.Size * s.Senders
		}
		for p, n := range counts {
			if n != s.count(p, s.Members) {
				t.Errorf("%+v: process %d counts %d, has %d", s, p, s.count(p, s.Members), n)
			}
			if fair := s.Members / len(counts); (n < fair-1 || n > fair+len(counts)) && senders <= fair {
				t.Errorf("%+v: process %d has %d of %d", s, p, n, s.Members)
			}
		}
		if s.Members > 0 && s.of(0) != 0 {
			t.Errorf("%+v: the first member is not the leader's", s)
		}
	}
}

// Every member counts, wherever it lives.
func TestFleetOnPomelod(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scenario, wire string
		args           []string
		each           float64 // deliveries of a message
	}{
		{"broadcast", "ws", []string{"-members", "300", "-rate", "50"}, 300},
		{"broadcast", "mixed=ws,tcp,eio4", []string{"-members", "300", "-rooms", "2", "-inflight", "3"}, 150},
		{"rooms", "tcp", []string{"-rooms", "20", "-room-size", "15", "-rate", "200"}, 15},
	} {
		t.Run(c.scenario+"/"+c.wire, func(t *testing.T) {
			gently(t)
			r := trial(t, c.scenario, c.wire, realServer(t), append(c.args, "-processes", "3", "-warm", "100ms", "-patience", "5s")...)
			got, _ := r.Figures.get("deliveries")
			all, _ := r.Figures.get("messages")
			if r.Void || got < c.each || got > all*c.each {
				t.Errorf("%v deliveries of %v messages, faults %+v", got, all, r.Faults)
			}
		})
	}
	t.Run("idle", func(t *testing.T) {
		gently(t)
		r := trial(t, "idle", "ws", realServer(t), "-few", "30", "-members", "300", "-room-size", "4", "-periods", "0.001", "-processes", "3")
		if n, _ := r.Figures.get("conns"); r.Void || n != 300 {
			t.Errorf("%v conns, faults %+v", n, r.Faults)
		}
	})
}

// network is where a client of naughty comes from: 127.0.network.x.
func network(p peer) (n int) {
	var x int
	fmt.Sscanf(p.(hybridPeer).RemoteAddr().String(), "127.0.%d.%d", &n, &x)
	return n
}

var fleetArgs = []string{"-members", "12", "-rate", "200", "-senders", "1", "-processes", "3"}

func TestProcessesHaveAddressesOfTheirOwn(t *testing.T) {
	gently(t)
	s := &naughty{}
	r := trial(t, "broadcast", "tcp", s.serve(t, "tcp"), fleetArgs...)
	counts := map[int]int{}
	for _, m := range s.members {
		counts[network(m)]++
	}
	if r.Void || counts[1] != 4 || counts[2] != 4 || counts[3] != 4 {
		t.Errorf("%v, faults %+v", counts, r.Faults)
	}
}

// Faults that only a helper sees make the run void like the leader's.
func TestHelpersDetect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		deliver func(n int, content string, p peer) // to one member of helper 2
		want    faults
	}{
		"loss": {func(n int, content string, p peer) {
			if n != 10 {
				p.push(content)
			}
		}, faults{Lost: 1}},
		"duplicate": {func(n int, content string, p peer) {
			if p.push(content); n == 10 {
				p.push(content)
			}
		}, faults{Duplicated: 1}},
		"closed connection": {func(n int, content string, p peer) {
			if p.push(content); n == 10 {
				p.close()
			}
		}, faults{Closed: 1}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			gently(t)
			s, victim := &naughty{}, -1
			s.deliver = func(n, member int, content string, p peer) {
				if victim < 0 && network(p) == 3 {
					victim = member
				}
				if member == victim {
					c.deliver(n, content, p)
				} else {
					p.push(content)
				}
			}
			r := trial(t, "broadcast", "tcp", s.serve(t, "tcp"), fleetArgs...)
			f := r.Faults
			if c.want.Closed > 0 {
				f.Lost = 0 // as much as was sent since
			}
			if !r.Void || f.Lost != c.want.Lost || f.Duplicated != c.want.Duplicated || f.Closed != c.want.Closed || f.Strange != 0 {
				t.Errorf("void %v, found %+v, want %+v", r.Void, f, c.want)
			}
		})
	}
}

// staged is a room with two helpers, whose traffic the test can look into.
type staged struct {
	during func(f *fleet)
	own    int64 // deliveries of the leader in the window
}

func (s *staged) flags(*flag.FlagSet) {}

func (s *staged) run(r *run) error {
	w := newCrowd(r)
	f, err := (&fleetFlags{processes: 3}).start(w, 12, 12, 1)
	if err != nil {
		return err
	}
	defer f.stop()
	if err := f.join(w, 12, 12); err != nil {
		return err
	}
	t := traffic{rate: 200, senders: 1, inflight: 1, size: 53}
	t.alongside = func(int64, bool) { s.during(f) }
	if err := errors.Join(t.begin(w), t.window(newMeter(r)), t.drain()); err != nil {
		return err
	}
	s.own = t.m.got
	if err := f.drain(&t); err != nil {
		return err
	}
	t.end()
	return nil
}

func TestDeliveriesToHelpersCount(t *testing.T) {
	gently(t)
	n, s := &naughty{}, &staged{during: func(*fleet) {}}
	r := trialOf(t, s, "broadcast", "tcp", n.serve(t, "tcp"), "-time", "1s")
	if got, _ := r.Figures.get("deliveries"); r.Void || s.own == 0 || got < 2*float64(s.own) || got > 4*float64(s.own) { // it has a third
		t.Errorf("%v deliveries, of which the leader had %d; faults %+v", got, s.own, r.Faults)
	}
}

func TestAHelperThatIsKilledMakesTheRunVoid(t *testing.T) {
	gently(t)
	n := &naughty{}
	r := trialOf(t, &staged{during: func(f *fleet) { f.helpers[1].cmd.Process.Kill() }}, "broadcast", "tcp", n.serve(t, "tcp"))
	if want := "helper 2, count: it ended: signal: killed"; !r.Void || !strings.Contains(strings.Join(r.Faults.Reasons, "\n"), want) {
		t.Errorf("void %v, faults %+v, want %q", r.Void, r.Faults, want)
	}
}

// Whatever ends the leader, nobody is left behind.
func TestHelpersDieWithTheLeader(t *testing.T) {
	s := &naughty{}
	addr := s.serve(t, "tcp")
	leader := loader("broadcast", "-wire", "tcp", "-addr", addr, "-time", "20s", "-members", "9", "-processes", "3", "-rate", "10")
	if err := leader.Start(); err != nil {
		t.Fatal(err)
	}
	defer leader.Process.Kill()
	var helpers []int
	eventually(t, "helpers with all their members", func() bool {
		helpers = children(leader.Process.Pid)
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(helpers) == 2 && len(s.members) == 9
	})
	leader.Process.Kill()
	leader.Wait()
	eventually(t, "the end of the helpers", func() bool { return !alive(helpers[0]) && !alive(helpers[1]) })
}

// A helper whose orders end, ends.
func TestAHelperEndsWithItsOrders(t *testing.T) {
	h := exec.Command("/proc/self/exe", helperName)
	in, err := h.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := h.StdoutPipe()
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	defer h.Process.Kill()
	fmt.Fprintln(in, `{"do":"setup","process":1,"wire":"tcp"}`)
	fmt.Fprintln(in, `{"do":"dance"}`)
	if line, err := bufio.NewReader(out).ReadString('\n'); !strings.Contains(line, "dance") {
		t.Errorf("%q, %v", line, err)
	}
	in.Close()
	eventually(t, "the end of the helper", func() bool { return !alive(h.Process.Pid) })
	h.Wait()
}

// eventually polls.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20s", what)
		}
	}
}

// children are the processes that a process has started.
func children(pid int) (pids []int) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var b []byte
	for _, name := range threads {
		own, _ := os.ReadFile(name)
		b = append(b, own...)
	}
	for _, word := range strings.Fields(string(b)) {
		var child int
		fmt.Sscan(word, &child)
		pids = append(pids, child)
	}
	return pids
}
