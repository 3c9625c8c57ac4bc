//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"
)

// options are the flags that every scenario has.
type options struct {
	variants   []variant
	args       string
	addr, gate string
	pid        int
	serverCPUs cpuList
	clientCPU  int
	mixes      mixes
	rounds     int
	warm       time.Duration
	window     time.Duration
	slices     int
	patience   time.Duration
	base       string
	out        string
	row        string

	entrants []entrant
	flags    *flag.FlagSet
	command  string // that was given, for a shell
}

func parse(name string, s scenario, args []string) (*options, error) {
	o := &options{clientCPU: -1}
	f := flag.NewFlagSet("bench "+name, flag.ContinueOnError)
	f.Func("server", "start a server: `[name=]command`, words split at blanks; name@wire=command: its clients speak that wire, whatever -wire says. Give it several times to compare: they take turns in each round", func(text string) error {
		v, err := parseVariant(text)
		if slices.ContainsFunc(o.variants, func(other variant) bool { return other.name == v.name }) {
			return fmt.Errorf("two servers are named %s: say name=command", v.name)
		}
		o.variants = append(o.variants, v)
		return err
	})
	f.StringVar(&o.args, "server-args", "-listen 127.0.0.1:0 -gate 127.0.0.1:0 -admin=", "`arguments` that every -server gets behind its own")
	f.StringVar(&o.addr, "addr", "", "`host:port` of the connector of a server that runs already; several with commas between; tls+host:port with TLS")
	f.StringVar(&o.gate, "gate-addr", "", "`host:port` of its gate, for scenarios that need one; as -addr")
	f.IntVar(&o.pid, "pid", 0, "its process, to measure what it uses")
	f.Var(&o.serverCPUs, "server-cpus", "`cpus` for -server, as in 0,2; by default the first one, where there are two. With -addr: the cpu it is on")
	f.IntVar(&o.clientCPU, "client-cpu", -1, "`cpu` for the load generator; by default the last one, where there are two")
	f.Var(&o.mixes, "wire", "`wire` of the clients (default ws): tcp, ws, sio09, eio3, eio4, sio09-polling, eio3-polling, eio4-polling, plain, sio4, centrifuge; ws@2: to the server's second connector; tls+ws: with TLS, to its first connector that has it; ws,tcp: clients take turns. Give it several times, perhaps as name=wire,wire, to compare, as -server")
	f.IntVar(&o.rounds, "rounds", 1, "how often to repeat; with more than one, medians follow")
	f.DurationVar(&o.warm, "warm", time.Second, "traffic before the measured window")
	f.DurationVar(&o.window, "time", 5*time.Second, "the measured window")
	f.IntVar(&o.slices, "slices", 1, "parts of the window. With more than one the servers of a round run at the same time and measure a part each in turn (broadcast, rooms, echo); all their clients together must fit into this process")
	f.DurationVar(&o.patience, "patience", 5*time.Second, "how long to wait for deliveries that do not come")
	f.StringVar(&o.base, "base", "", "`name` of the server that medians are compared with, server/wire where there are several wires; by default floor if it takes part, else the first")
	f.StringVar(&o.row, "row", "", "`name` of what is measured, repeated in every line: reports tell rows apart by it")
	f.StringVar(&o.out, "out", "", "`file` to which every line is appended as well")
	s.flags(f)
	o.flags = f
	o.command = "bench " + name
	for _, word := range args {
		o.command += " " + shellWord(word)
	}
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
	case o.rounds < 1 || o.window <= 0 || o.warm < 0 || o.patience <= 0 || o.slices < 1:
		return errors.New("-rounds, -time, -slices and -patience must be positive")
	}
	if o.addr != "" {
		o.variants = []variant{{name: o.addr}}
	}
	if len(o.mixes) == 0 {
		o.mixes.Set("ws")
	}
	return o.enter()
}

// entrant is one that is measured in each round: a server and how its clients come.
type entrant struct {
	name string
	variant
	mix
}

// enter settles who is measured in each round, and who is the base.
func (o *options) enter() error {
	var names []string
	for _, v := range o.variants {
		mixes := o.mixes
		if len(v.wire) > 0 {
			mixes = v.wire
		}
		for _, m := range mixes {
			e := entrant{v.name, v, m}
			if len(mixes) > 1 {
				e.name += "/" + m.name
			}
			o.entrants = append(o.entrants, e)
			names = append(names, e.name)
		}
	}
	if o.base == "" {
		if o.base = names[0]; slices.Contains(names, "floor") {
			o.base = "floor"
		}
	}
	if !slices.Contains(names, o.base) {
		return fmt.Errorf("-base %s: there are %s", o.base, strings.Join(names, ", "))
	}
	return nil
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

// shellWord makes one word of text for a shell.
func shellWord(text string) string {
	if text != "" && !strings.ContainsAny(text, " \t\n'\"$`\\|&;<>()*?[]#~!{}") {
		return text
	}
	return "'" + strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "'", `'\''`) + "'"
}
