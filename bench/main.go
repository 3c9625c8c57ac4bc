//go:build linux

// Command bench is a load generator for chat servers that speak NetEase Pomelo's wire. It is a stranger to pomelod: it
// talks to sockets, reads /proc, and shares no code with the server.
//
// One thread does everything. Its driver (driver.go) owns all conns; a conn talks its wire (wire.go) and belongs to a
// client: a member of a crowd (crowd.go), one of callers (callers.go), or whatever a scenario makes. A scenario
// (scenario_*.go) brings clients up, lets traffic.go, callers or itself send, and has a meter (meter.go) take what the
// server used and what came of it. Each run gives one JSON line; main.go repeats runs over servers, wires and rounds, and
// report.go makes medians of them.
//
// What comes after reads those lines (subcommands.go): results.go sorts them into rows and rounds, render.go
// makes the report, which holds them against bars.go, and compare.go tells two revisions apart.
//
// A wire is hybrid.go or, for socket.io, a dialect (sio09.go, engineio.go) that travels by WebSocket (socketio.go) or by
// polling (polling.go).
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Exit codes.
const (
	exitVoid   = 1 // a run lost something: its figures mean nothing
	exitSlower = 1 // of compare: something is slower, or head's run is void
	exitWrong  = 2 // no run: wrong flags, no server, interrupted; of compare: no verdict
)

// memoryLimit is where the garbage collector goes to work even while the server is measured.
const memoryLimit = 2 << 30

func main() {
	runtime.GOMAXPROCS(1)
	debug.SetMemoryLimit(memoryLimit)
	code, err := bench(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = exitWrong
	}
	os.Exit(code)
}

func bench(args []string) (int, error) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		help(os.Stderr)
		return exitWrong, nil
	}
	switch args[0] {
	case "report":
		return reportCommand(args[1:])
	case "compare":
		return compareCommand(args[1:])
	}
	kind, ok := scenarios[args[0]]
	if !ok {
		help(os.Stderr)
		return 0, fmt.Errorf("no scenario %q, nor anything else of that name", args[0])
	}
	s := kind.make()
	o, err := parse(args[0], s, args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	raiseFiles()
	return o.rounded(args[0], s)
}

func help(w *os.File) {
	fmt.Fprint(w, "usage: bench SCENARIO [flags]; bench SCENARIO -h lists them\n\n")
	for _, name := range scenarioNames() {
		fmt.Fprintf(w, "  %-10s %s\n", name, scenarios[name].about)
	}
	fmt.Fprint(w, `
and of the lines that they wrote with -out:

  bench report FILE.jsonl...     medians in Markdown, held against the bars
  bench compare FILE.jsonl...    is the server named head slower than the one named base?
`)
}

// rounded does all rounds of all entrants, in turn, so that what the machine does meanwhile meets them all.
func (o *options) rounded(name string, s scenario) (code int, err error) {
	own, err := o.pin()
	if err != nil {
		return 0, err
	}
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt, syscall.SIGTERM)
	rep := newReport(name, o)
	if o.out != "" {
		f, err := os.OpenFile(o.out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		rep.out = io.MultiWriter(rep.out, f)
	}
	for round := 1; round <= o.rounds; round++ {
		y := newRelay(len(o.entrants))
		err := y.run(func(i int) error {
			runtime.LockOSThread() // Pdeathsig and affinity are a thread's; this one ends with the run, behind its server
			e := o.entrants[i]
			r := &run{options: o, report: rep, entrant: e, result: rep.result(e, round), interrupt: interrupt, tag: fmt.Sprintf("r%d-%d-%d", os.Getpid(), round, i)}
			r.rest = func() error { return y.rest(i) }
			if err := r.do(s, own); err != nil {
				return fmt.Errorf("%s, round %d: %w", e.name, round, err)
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	rep.end()
	if rep.void > 0 {
		fmt.Fprintf(os.Stderr, "bench: %d of %d runs are void\n", rep.void, o.rounds*len(o.entrants))
		return exitVoid, nil
	}
	return 0, nil
}

// pin settles who runs where, and moves this process there.
func (o *options) pin() (own unix.CPUSet, err error) {
	if err := unix.SchedGetaffinity(0, &own); err != nil {
		return own, err
	}
	var cpus []int
	for i := range len(own) * 64 {
		if own.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	if len(cpus) < 2 && o.clientCPU < 0 {
		fmt.Fprintln(os.Stderr, "bench: one cpu only: server and load generator share it, so latencies and rates mean little")
		return own, nil
	}
	if o.clientCPU < 0 {
		o.clientCPU = cpus[len(cpus)-1]
	}
	if len(o.serverCPUs) == 0 && o.addr == "" {
		o.serverCPUs = cpuList{cpus[0]}
	}
	own = cpuSet([]int{o.clientCPU})
	return own, pin(own)
}

// run is one measurement of one server.
type run struct {
	*options
	entrant   entrant
	report    *report
	result    *result
	target    *target
	driver    *driver
	tag       string // in the names of rooms: they are new in each run
	interrupt <-chan os.Signal
	rest      func() error // lets the other runs of the round have their slice

	// pause is how long a turn may wait while the server is measured. 0, as it should be, spins; tests need no figures
	// and leave the cpu to others.
	pause time.Duration
}

func (r *run) faults() *faults { return &r.result.Faults }

// figure notes one number of the result.
func (r *run) figure(name string, value float64) { r.result.Figures[name] = value }

func (r *run) progress(format string, args ...any) {
	r.report.progress(fmt.Sprintf("%s %s %d/%d: ", r.result.Scenario, r.result.Server, r.result.Round, r.rounds) + fmt.Sprintf(format, args...))
}

// do starts the server, has the scenario measure it, and reports.
func (r *run) do(s scenario, own unix.CPUSet) (err error) {
	r.progress("starting")
	if r.target, err = r.find(r.entrant.variant, own); err != nil {
		return err
	}
	defer r.target.stop()
	if r.driver, err = newDriver(r.faults(), r.interrupt); err != nil {
		return err
	}
	defer r.driver.close()
	defer debug.SetGCPercent(debug.SetGCPercent(100)) // the meter turns it off
	if err = s.run(r); err == nil {
		r.report.add(r.result)
	}
	if err != nil || r.faults().void() {
		if said := r.target.said(); said != "" {
			fmt.Fprintf(os.Stderr, "bench: %s said at the end:\n%s\n", r.entrant.name, said)
		}
	}
	return err
}

func (r *run) find(v variant, own unix.CPUSet) (t *target, err error) {
	if len(v.command) > 0 {
		return start(v, strings.Fields(r.args), r.serverCPUs, own)
	}
	t = &target{}
	if t.connectors, err = endpoints(r.addr); err != nil {
		return nil, fmt.Errorf("-addr: %w", err)
	}
	if t.gates, err = endpoints(r.gate); err != nil {
		return nil, fmt.Errorf("-gate-addr: %w", err)
	}
	cpu := -1
	if len(r.serverCPUs) == 1 {
		cpu = r.serverCPUs[0]
	}
	if t.process = newProcess(cpu); r.pid != 0 {
		t.pids = []int{r.pid}
	}
	return t, nil
}

// raiseFiles asks for as many descriptors as there may be.
func raiseFiles() {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		l.Cur = l.Max
		unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
	}
}
