//go:build linux

// Command bench is a load generator for chat servers that speak NetEase Pomelo's wire. It is a stranger to pomelod: it
// talks to sockets, reads /proc, and shares no code with the server.
//
// One thread does everything. Its driver (driver.go) owns all conns; a conn talks its wire (hybrid.go) and belongs to a
// client: a member of a crowd (crowd.go), or whatever a scenario makes. A scenario (scenario_*.go) brings clients up,
// lets traffic.go or itself send, and has a meter (meter.go) take what the server used and what came of it. Each run
// gives one JSON line; main.go repeats runs over servers and rounds, and report.go makes medians of them.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Exit codes.
const (
	exitVoid  = 1 // a run lost something: its figures mean nothing
	exitWrong = 2 // no run: wrong flags, no server, interrupted
)

// memoryLimit is where the garbage collector goes to work even while the server is measured.
const memoryLimit = 2 << 30

// options are the flags that every scenario has.
type options struct {
	variants   []variant
	args       string
	addr, gate string
	pid        int
	serverCPUs cpuList
	clientCPU  int
	wire       string
	rounds     int
	warm       time.Duration
	window     time.Duration
	patience   time.Duration
	base       string

	flags *flag.FlagSet
}

func main() {
	runtime.LockOSThread() // Pdeathsig and affinity are a thread's
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
	kind, ok := scenarios[args[0]]
	if !ok {
		help(os.Stderr)
		return 0, fmt.Errorf("no scenario %q", args[0])
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
}

func parse(name string, s scenario, args []string) (*options, error) {
	o := &options{clientCPU: -1}
	f := flag.NewFlagSet("bench "+name, flag.ContinueOnError)
	f.Func("server", "start a server: `[name=]command`, words split at blanks. Give it several times to compare: they take turns in each round", func(text string) error {
		v, err := parseVariant(text)
		if slices.ContainsFunc(o.variants, func(other variant) bool { return other.name == v.name }) {
			return fmt.Errorf("two servers are named %s: say name=command", v.name)
		}
		o.variants = append(o.variants, v)
		return err
	})
	f.StringVar(&o.args, "server-args", "-listen 127.0.0.1:0 -gate 127.0.0.1:0 -admin=", "`arguments` that every -server gets behind its own")
	f.StringVar(&o.addr, "addr", "", "`host:port` of the connector of a server that runs already")
	f.StringVar(&o.gate, "gate-addr", "", "`host:port` of its gate, for scenarios that need one")
	f.IntVar(&o.pid, "pid", 0, "its process, to measure what it uses")
	f.Var(&o.serverCPUs, "server-cpus", "`cpus` for -server, as in 0,2; by default the first one, where there are two. With -addr: the cpu it is on")
	f.IntVar(&o.clientCPU, "client-cpu", -1, "`cpu` for the load generator; by default the last one, where there are two")
	f.StringVar(&o.wire, "wire", "ws", "ws or tcp; ws,tcp: clients take turns")
	f.IntVar(&o.rounds, "rounds", 1, "how often to repeat; with more than one, medians follow")
	f.DurationVar(&o.warm, "warm", time.Second, "traffic before the measured window")
	f.DurationVar(&o.window, "time", 5*time.Second, "the measured window")
	f.DurationVar(&o.patience, "patience", 5*time.Second, "how long to wait for deliveries that do not come")
	f.StringVar(&o.base, "base", "floor", "`name` of the server that medians are compared with, if it takes part")
	s.flags(f)
	o.flags = f
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	return o, o.check(f.Args())
}

func (o *options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected %q", rest[0])
	case len(o.variants) == 0 && o.addr == "":
		return errors.New("give -server (once or more) or -addr")
	case len(o.variants) > 0 && o.addr+o.gate != "":
		return errors.New("-server starts a server, -addr names one: give one of them")
	case o.rounds < 1 || o.window <= 0 || o.warm < 0 || o.patience <= 0:
		return errors.New("-rounds, -time and -patience must be positive")
	}
	for _, w := range strings.Split(o.wire, ",") {
		if wires[w] == nil {
			return fmt.Errorf("-wire: no %q", w)
		}
	}
	if o.addr != "" {
		o.variants = []variant{{name: o.addr}}
	}
	return nil
}

// rounded does all rounds of all variants, in turn, so that what the machine does meanwhile meets them all.
func (o *options) rounded(name string, s scenario) (code int, err error) {
	own, err := o.pin()
	if err != nil {
		return 0, err
	}
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt, syscall.SIGTERM)
	rep := newReport(name, o)
	for round := 1; round <= o.rounds; round++ {
		for _, v := range o.variants {
			r := &run{options: o, report: rep, result: rep.result(v.name, round), interrupt: interrupt, tag: fmt.Sprintf("r%d-%d", os.Getpid(), round)}
			if err := r.do(s, v, own); err != nil {
				return 0, fmt.Errorf("%s, round %d: %w", v.name, round, err)
			}
		}
	}
	rep.medians()
	if rep.void > 0 {
		fmt.Fprintf(os.Stderr, "bench: %d of %d runs are void\n", rep.void, o.rounds*len(o.variants))
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
	report    *report
	result    *result
	target    *target
	driver    *driver
	wires     []func() wire
	tag       string // in the names of rooms: they are new in each run
	interrupt <-chan os.Signal

	// pause is how long a turn may wait while the server is measured. 0, as it should be, spins; tests need no figures
	// and leave the cpu to others.
	pause time.Duration
}

func (r *run) faults() *faults { return &r.result.Faults }

// figure notes one number of the result.
func (r *run) figure(name string, value float64) { r.result.Figures.set(name, value) }

func (r *run) progress(format string, args ...any) {
	r.report.progress(fmt.Sprintf("%s %s %d/%d: ", r.result.Scenario, r.result.Server, r.result.Round, r.rounds) + fmt.Sprintf(format, args...))
}

// do starts the server, has the scenario measure it, and reports.
func (r *run) do(s scenario, v variant, own unix.CPUSet) (err error) {
	r.progress("starting")
	if r.target, err = r.find(v, own); err != nil {
		return err
	}
	defer r.target.stop()
	for _, w := range strings.Split(r.wire, ",") {
		r.wires = append(r.wires, wires[w])
	}
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
			fmt.Fprintf(os.Stderr, "bench: %s said at the end:\n%s\n", v.name, said)
		}
	}
	return err
}

func (r *run) find(v variant, own unix.CPUSet) (t *target, err error) {
	if len(v.command) > 0 {
		return start(v, strings.Fields(r.args), r.serverCPUs, own)
	}
	t = &target{}
	if t.addr, err = netip.ParseAddrPort(r.addr); err != nil {
		return nil, fmt.Errorf("-addr: %w", err)
	}
	if r.gate != "" {
		if t.gate, err = netip.ParseAddrPort(r.gate); err != nil {
			return nil, fmt.Errorf("-gate-addr: %w", err)
		}
	}
	cpu := -1
	if len(r.serverCPUs) == 1 {
		cpu = r.serverCPUs[0]
	}
	t.process = newProcess(r.pid, cpu)
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

// cpuList is a flag: numbers with commas between.
type cpuList []int

func (c *cpuList) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint([]int(*c)), " ", ","), "[]")
}

func (c *cpuList) Set(text string) error {
	*c = nil
	for _, word := range strings.Split(text, ",") {
		var n int
		if _, err := fmt.Sscanf(word, "%d", &n); err != nil || n < 0 || n >= 1024 {
			return fmt.Errorf("%q is no cpu", word)
		}
		*c = append(*c, n)
	}
	return nil
}
