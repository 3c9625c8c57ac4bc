//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Tests of the command run before those that are parallel: it spins.

// execute runs the load generator as a command; stderr is no terminal.
func execute(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := loader(args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), said.String(), cmd.ProcessState.ExitCode()
}

// briefly are flags of a run that is over soon, however little of the cpu it gets: commands spin, all on the same one.
func briefly(addr string, more ...string) []string {
	return append([]string{"broadcast", "-wire", "tcp", "-addr", addr, "-warm", "10ms", "-time", "300ms", "-patience", "20s", "-members", "4", "-rate", "200", "-senders", "1"}, more...)
}

// The exit code tells a good run from a void one from none, and stdout has JSON lines only, one a run.
func TestCommandSaysHowItWent(t *testing.T) {
	good, wrong := &naughty{}, &naughty{deliver: func(n, member int, content string, p peer) {
		if p.push(content); n == 5 && member == 1 {
			p.push(content)
		}
	}}
	goodAddr, wrongAddr := good.serve(t, "tcp"), wrong.serve(t, "tcp")
	silent := &naughty{deliver: func(int, int, string, peer) {}}
	silentAddr := silent.serve(t, "tcp")
	for name, c := range map[string]struct {
		args  []string
		code  int
		void  []bool // of the lines that are runs
		lines int
		says  string // on stderr
	}{
		"good":          {briefly(goodAddr), 0, []bool{false}, 1, ""},
		"void":          {briefly(wrongAddr), exitVoid, []bool{true}, 1, "1 of 1 runs are void"},
		"silent":        {briefly(silentAddr, "-patience", "500ms"), exitVoid, []bool{true}, 1, "void"},
		"no server":     {briefly("127.0.0.1:1"), exitWrong, nil, 0, "connection refused"},
		"no scenario":   {[]string{"polka"}, exitWrong, nil, 0, `no scenario "polka"`},
		"nothing":       {nil, exitWrong, nil, 0, "usage: bench SCENARIO"},
		"unknown flag":  {briefly(goodAddr, "-x"), exitWrong, nil, 0, "-x"},
		"wrong flag":    {briefly(goodAddr, "-size", "3"), exitWrong, nil, 0, "-size 3"},
		"no base":       {briefly(goodAddr, "-base", "x"), exitWrong, nil, 0, "-base x"},
		"flags of idle": {[]string{"idle", "-h"}, 0, nil, 0, "-periods"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			out, said, code := execute(t, c.args...)
			lines := strings.SplitAfter(out, "\n")
			if lines = lines[:len(lines)-1]; code != c.code || len(lines) != c.lines || !strings.Contains(said, c.says) {
				t.Fatalf("exit code %d, want %d; %d lines, want %d; stderr %q", code, c.code, len(lines), c.lines, said)
			}
			for i, line := range lines {
				var r struct {
					Scenario string
					Void     bool
					Figures  map[string]float64
				}
				if err := json.Unmarshal([]byte(line), &r); err != nil || r.Scenario != "broadcast" || r.Void != c.void[i] || len(r.Figures) == 0 {
					t.Errorf("line %d: %v, %s", i, err, line)
				}
			}
			if strings.Contains(said, "\x1b") {
				t.Errorf("progress where nobody looks: %q", said)
			}
		})
	}
}

// Rounds are lines of their own, -out has them all, and void runs do not count for the medians that stderr gets.
func TestCommandRepeats(t *testing.T) {
	s := &naughty{}
	s.deliver = func(n, member int, content string, p peer) {
		if p.push(content); n == 5 && member == 1 { // in the first round only: n goes on
			p.push(content)
		}
	}
	room := ""
	s.came = func(p peer, body string) bool { // each round has a room of its own
		if _, r, _ := strings.Cut(body, `"rid":`); r != room {
			room, s.members = r, nil
		}
		return true
	}
	path := t.TempDir() + "/out"
	out, said, code := execute(t, briefly(s.serve(t, "tcp"), "-rounds", "3", "-out", path)...)
	if lines := strings.Count(out, "\n"); code != exitVoid || lines != 3 || !strings.Contains(said, ", 2 rounds |") || !strings.Contains(said, "| deliveries | ") {
		t.Errorf("exit code %d, %d lines\n%s\n%s", code, lines, out, said)
	}
	if b, err := os.ReadFile(path); string(b) != out {
		t.Errorf("%v: -out differs from stdout: %q", err, b)
	}
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

func TestCommandIsInterrupted(t *testing.T) {
	s := &naughty{}
	cmd := loader(briefly(s.serve(t, "tcp"), "-time", "20s")...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	eventually(t, "messages", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.n > 3
	})
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitWrong || out.Len() > 0 || !strings.Contains(said.String(), "interrupted") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, &out, &said)
	}
}

// A terminal sees progress and a table; stdout stays what it is.
func TestCommandOnATerminal(t *testing.T) {
	ours, theirs := terminal(t)
	cmd := loader(briefly((&naughty{}).serve(t, "tcp"))...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, theirs
	err := cmd.Run()
	theirs.Close()
	shown, _ := io.ReadAll(ours) // ends with an error: nobody has it open
	if err != nil || !json.Valid(out.Bytes()) {
		t.Errorf("%v: %s", err, &out)
	}
	for _, want := range []string{"joined ", "measuring for", "deliveries_per_s"} {
		if !bytes.Contains(shown, []byte(want)) {
			t.Errorf("no %q in %q", want, shown)
		}
	}
}

// terminal opens both ends of one.
func terminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { ours.Close() })
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skip(err)
	}
	return ours, theirs
}

const stall = 200 * time.Millisecond

// once is for a server that stalls when it gets the nth request of a route.
func once(route string, nth int) func(string) {
	n := 0
	return func(r string) {
		if r != route {
			return
		}
		if n++; n == nth {
			time.Sleep(stall)
		}
	}
}

// A server that stalls delays everything that was due meanwhile, and in open loop the figures say so.
func TestAStallShowsInOpenLoop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scenario, route string
		nth             int
		args            []string
	}{
		{"broadcast", routeSend, 30, broadcastArgs},
		{"echo", routeGate, 30, []string{"-conns", "3", "-rate", "200"}},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			gently(t)
			s := &naughty{}
			s.before = once(c.route, c.nth)
			r := trial(t, c.scenario, "tcp", s.serve(t, "tcp"), c.args...)
			p99, _ := r.Figures.get("p99_us")
			// It may stall just before the window: the last in the queue are in it then.
			if r.Void || p99 < float64(stall.Microseconds())*2/3 {
				t.Errorf("p99 of %v µs after a stall of %v, faults %+v", p99, stall, r.Faults)
			}
		})
	}
}

// late is a room whose generator sleeps once.
type late struct{ broadcast }

func (s *late) run(r *run) error {
	t := s.traffic
	w := newCrowd(r)
	if err := w.join(s.members, s.members); err != nil {
		return err
	}
	slept := false
	t.alongside = func(now int64, _ bool) {
		if t.m.begun && !slept && now > t.m.from+int64(50*time.Millisecond) {
			slept = true
			time.Sleep(stall)
		}
	}
	return t.measure(w)
}

// A generator that was late does not call that the start: latency counts from when a message was due.
func TestALateGeneratorShows(t *testing.T) {
	gently(t)
	s := &naughty{}
	r := trialOf(t, &late{}, "broadcast", "tcp", s.serve(t, "tcp"), append([]string{"-time", "1500ms"}, broadcastArgs...)...)
	p99, _ := r.Figures.get("p99_us")
	lag, _ := r.Figures.get("send_lag_max_us")
	if least := float64(stall.Microseconds()) * 2 / 3; r.Void || p99 < least || lag < least {
		t.Errorf("p99 of %v µs and a lag of %v µs after a sleep of %v, faults %+v", p99, lag, stall, r.Faults)
	}
}
