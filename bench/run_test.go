//go:build linux

package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Runs mostly wait, so there may be more of them at a time than cpus. The test binary is the load generator as well:
// tests run it as a command.
func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() == "" {
		flag.Set("test.parallel", "16")
	}
	code := m.Run()
	os.RemoveAll(built)
	os.Exit(code)
}

// asCommand is the variable of the environment that makes a command of the test binary.
const asCommand = "BENCH_TEST_COMMAND"

// loader is the load generator as a command.
func loader(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	return cmd
}

// trial runs a scenario against a server and returns its result. It has patience, as a busy machine may hold up server and generator
// for seconds; where deliveries are missing on purpose, impatient saves the wait.
func trial(t *testing.T, name, wire, addr string, args ...string) *result {
	t.Helper()
	return trialOf(t, scenarios[name].make(), name, wire, addr, args...)
}

// trialOf is trial for a scenario of the test's own.
func trialOf(t *testing.T, s scenario, name, wire, addr string, args ...string) *result {
	t.Helper()
	gate, _, _ := strings.Cut(addr, ",")
	o, err := parse(name, s, append([]string{"-wire", wire, "-addr", addr, "-gate-addr", gate, "-pid", fmt.Sprint(os.Getpid()), "-warm", "20ms", "-time", "400ms", "-patience", "30s"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	rep := newReport(name, o)
	rep.out = io.Discard
	r := &run{options: o, entrant: o.entrants[0], report: rep, result: rep.result(o.entrants[0], 1), tag: "r", pause: time.Millisecond}
	rests := 0
	r.rest = func() error { rests++; return nil }
	if err := r.do(s, cpuSet(nil)); err != nil {
		t.Fatal(err)
	}
	if rests != o.slices-1 {
		t.Errorf("rested %d times between %d slices", rests, o.slices)
	}
	return r.result
}

// The wires that naughty speaks: Pomelo's, and those without routes.
var (
	pomelos  = []string{"tcp", "sio09", "eio3", "eio4", "sio09-polling", "eio3-polling", "eio4-polling"}
	chatting = append([]string{"plain", "sio4", "centrifuge"}, pomelos...)
	secured  = []string{"tls+tcp", "tls+plain", "tls+eio3", "tls+eio4-polling"}
)

// slots bound how many tests at a time start processes or keep on connecting: more of them starve those that mostly wait.
var slots = make(chan struct{}, 8)

// gently is t.Parallel for such tests.
func gently(t *testing.T) {
	t.Parallel()
	slots <- struct{}{}
	t.Cleanup(func() { <-slots })
}

// onEachWire runs a test on all of them, at a time.
func onEachWire(t *testing.T, wires []string, test func(t *testing.T, wire string)) {
	t.Parallel()
	for _, wire := range wires {
		t.Run("wire="+wire, func(t *testing.T) {
			t.Parallel()
			test(t, wire)
		})
	}
}

// impatient is for runs of which something never comes.
var impatient = []string{"-patience", "3s"}

var broadcastArgs = []string{"-members", "5", "-rate", "200", "-senders", "1"}

func TestRunWithoutFaultsCountsEveryDelivery(t *testing.T) {
	onEachWire(t, append(secured, chatting...), func(t *testing.T, wire string) {
		for _, args := range [][]string{broadcastArgs, {"-members", "6", "-rooms", "1", "-inflight", "3"}} {
			s := &naughty{}
			r := trial(t, "broadcast", wire, s.serve(t, wire), args...)
			if r.Void {
				t.Errorf("%v: void: %+v", args, r.Faults)
			}
			got, _ := r.Figures.get("deliveries")
			all, _ := r.Figures.get("messages")
			if members := float64(len(s.members)); got == 0 || got > all*members {
				t.Errorf("%v: %v deliveries of %v messages to %v members", args, got, all, members)
			}
			for _, name := range []string{"cpu_s_per_million", "p50_us", "p99_us", "max_us", "deliveries_per_s", "rss_bytes"} {
				if v, ok := r.Figures.get(name); !ok || v < 0 {
					t.Errorf("%v: %s is %v, %v", args, name, v, ok)
				}
			}
		}
	})
}

// With slices the window is as long, and what was under way between two of them is neither lost nor counted.
func TestRunInSlices(t *testing.T) {
	for _, tc := range []struct {
		scenario, count string
		args            []string
	}{
		{"broadcast", "deliveries", []string{"-members", "6", "-inflight", "3"}},
		{"broadcast", "deliveries", broadcastArgs},
		{"echo", "answers", []string{"-conns", "5", "-inflight", "2"}},
		{"echo", "answers", []string{"-conns", "5", "-rate", "200"}},
	} {
		t.Run(tc.scenario, func(t *testing.T) {
			t.Parallel()
			s := &naughty{}
			r := trial(t, tc.scenario, "tcp", s.serve(t, "tcp"), append(tc.args, "-slices", "4")...)
			got, _ := r.Figures.get(tc.count)
			seconds, _ := r.Figures.get("seconds")
			perSecond, _ := r.Figures.get(tc.count + "_per_s")
			if r.Void || got == 0 || seconds < 0.4 || perSecond < got/seconds*0.99 || perSecond > got/seconds*1.01 {
				t.Errorf("%v %v, %v a second in %v s, %+v", got, tc.count, perSecond, seconds, r.Faults)
			}
		})
	}
}

// Each fault is really made by a server and must be seen, counted and make the run void.
func TestRunDetects(t *testing.T) {
	onEachWire(t, chatting, func(t *testing.T, wire string) {
		var held string
		for name, c := range map[string]struct {
			server *naughty
			want   faults
		}{
			"loss": {&naughty{deliver: func(n, member int, content string, p peer) {
				if n != 10 || member != 2 {
					p.push(content)
				}
			}}, faults{Lost: 1}},
			"duplicate": {&naughty{deliver: func(n, member int, content string, p peer) {
				p.push(content)
				if n == 10 && member == 2 {
					p.push(content)
				}
			}}, faults{Duplicated: 1}},
			"disorder": {&naughty{deliver: func(n, member int, content string, p peer) {
				switch {
				case n == 10 && member == 2:
					held = content
				case n == 11 && member == 2:
					p.push(content)
					p.push(held)
				default:
					p.push(content)
				}
			}}, faults{Disordered: 1}},
			"mark cut short": {&naughty{deliver: func(n, member int, content string, p peer) {
				if n == 10 && member == 2 {
					content = content[:markBytes-1]
				}
				p.push(content)
			}}, faults{Lost: 1, Strange: 1}},
			"closed connection": {&naughty{deliver: func(n, member int, content string, p peer) {
				if n < 10 || member != 4 {
					p.push(content)
				} else if n == 10 {
					p.close()
				}
			}}, faults{Closed: 1}},
			"garbled packet": {&naughty{deliver: func(n, member int, content string, p peer) {
				if p.push(content); n == 10 && member == 4 {
					p.garble()
				}
			}}, faults{Closed: 1}},
			"refused and yet delivered": {&naughty{refuse: func(n int) bool { return n == 10 }, deliver: func(n, member int, content string, p peer) {
				p.push(content)
			}}, faults{Strange: 5}},
		} {
			t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				r := trial(t, "broadcast", wire, c.server.serve(t, wire), append(impatient, broadcastArgs...)...)
				f := r.Faults
				if c.want.Closed > 0 { // what else it comes to depends on when, and on who it is
					f.Lost, f.Strange, f.Closed = 0, 0, min(f.Closed, 1)
				}
				if f.Lost != c.want.Lost || f.Disordered != c.want.Disordered || f.Duplicated != c.want.Duplicated || f.Strange != c.want.Strange || f.Closed != c.want.Closed {
					t.Errorf("found %+v, want %+v", f, c.want)
				}
				if !r.Void {
					t.Error("the run is not void")
				}
			})
		}
	})
}

func TestRefusedMessagesAreNotLost(t *testing.T) {
	onEachWire(t, chatting, func(t *testing.T, wire string) {
		s := &naughty{refuse: func(n int) bool { return n%4 == 0 }}
		r := trial(t, "broadcast", wire, s.serve(t, wire), broadcastArgs...)
		if gone, _ := r.Figures.get("refused"); r.Void || gone == 0 {
			t.Errorf("%v refused, faults %+v", gone, r.Faults)
		}
	})
}

func TestRunEchoAndIdle(t *testing.T) {
	onEachWire(t, pomelos, func(t *testing.T, wire string) {
		s := &naughty{}
		r := trial(t, "echo", wire, s.serve(t, wire), "-conns", "3", "-rate", "300")
		if got, _ := r.Figures.get("answers"); r.Void || got == 0 {
			t.Errorf("%v answers, faults %+v", got, r.Faults)
		}
		s = &naughty{}
		r = trial(t, "idle", wire, s.serve(t, wire), "-few", "2", "-members", "5", "-room-size", "2", "-periods", "0.001")
		if n, _ := r.Figures.get("conns"); r.Void || n != 5 || len(s.members) != 5 {
			t.Errorf("%v conns, %d members, faults %+v", n, len(s.members), r.Faults)
		}
	})
}

func TestRunConnectAndNeighbour(t *testing.T) {
	onEachWire(t, pomelos, func(t *testing.T, wire string) {
		s := &naughty{}
		r := trial(t, "connect", wire, s.serve(t, wire), "-few", "3", "-conns", "7", "-room-size", "5", "-inflight", "2")
		if n, _ := r.Figures.get("conns_per_s"); r.Void || n <= 0 || len(s.members) != 10 {
			t.Errorf("%v a second, %d members, faults %+v", n, len(s.members), r.Faults)
		}
		s = &naughty{}
		r = trial(t, "neighbour", wire, s.serve(t, wire), "-members", "4", "-conns", "2")
		got, _ := r.Figures.get("echoes")
		also, _ := r.Figures.get("deliveries")
		if r.Void || got == 0 || also == 0 {
			t.Errorf("%v answers beside %v deliveries, faults %+v", got, also, r.Faults)
		}
	})
}

// A server may give up those that do not read, and nobody else.
func TestRunFrozen(t *testing.T) {
	t.Parallel()
	args := append([]string{"-members", "5", "-frozen", "2", "-rate", "200", "-senders", "1", "-size", "100"}, impatient...)
	for closed, void := range map[int]bool{3: false, 0: true} { // members 3 and 4 freeze
		s := &naughty{deliver: func(n, member int, content string, p peer) {
			if n > 120 && member == closed { // in the second window
				p.close()
			} else {
				p.push(content)
			}
		}}
		r := trial(t, "frozen", "tcp", s.serve(t, "tcp"), args...)
		n, ok := r.Figures.get("frozen_closed")
		if r.Void != void || !ok || (n == 1) == void {
			t.Errorf("member %d closed: void is %v, %v of the frozen were closed, faults %+v", closed, r.Void, n, r.Faults)
		}
	}
}

func TestStartWaitsUntilReadyAndStops(t *testing.T) {
	t.Parallel()
	log := `{"msg":"listening","server":"connector","addr":"127.0.0.1:1234"}` + "\n" + `{"msg":"listening","server":"gate","addr":"127.0.0.1:1235"}` + "\n" +
		`{"msg":"listening","server":"connector","addr":"127.0.0.1:1236"}` + "\n" + `{"msg":"ready"}`
	path := t.TempDir() + "/server"
	os.WriteFile(path, []byte("#!/bin/sh\nsleep 0.05\ncat >&2 <<E\n"+log+"\nE\nexec sleep 60\n"), 0o755)
	v, err := parseVariant("mine=sh " + path + " -x") // run by name it may be busy: what another test forks has it open for writing (golang.org/issue/22315)
	if err != nil || v.name != "mine" {
		t.Fatal(v, err)
	}
	s, err := start(v, nil, nil, cpuSet(nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.connectors) != 2 || s.connectors[0].Port() != 1234 || s.connectors[1].Port() != 1236 || len(s.gates) != 1 || s.gates[0].Port() != 1235 || !s.usage().known || s.usage().rss == 0 {
		t.Errorf("%+v", s)
	}
	began := time.Now()
	if s.stop(); time.Since(began) > 30*time.Second || alive(s.pids[0]) {
		t.Error("it did not end")
	}
	os.WriteFile(path, []byte("#!/bin/sh\necho no such port >&2\nexit 1\n"), 0o755)
	if _, err = start(v, nil, nil, cpuSet(nil)); err == nil || !bytes.Contains([]byte(err.Error()), []byte("no such port")) {
		t.Errorf("a server that ends gives %v", err)
	}
}
