//go:build linux

package main

import (
	"errors"
	"flag"
)

var _ = register("neighbour", "how long a request waits beside a room that is saturated", func() scenario { return &neighbour{} })

// neighbour asks how long those wait who have nothing to do with a room that is as busy as can be, on the same event loop:
// requests to the gate at a low rate, first alone, then beside the room.
type neighbour struct {
	members, conns int
	rate           float64
	traffic        traffic // its settings
}

func (s *neighbour) flags(f *flag.FlagSet) {
	f.IntVar(&s.members, "members", 4000, "members of the room")
	f.IntVar(&s.conns, "conns", 8, "connections that ask")
	f.Float64Var(&s.rate, "rate", 200, "requests per second in all")
	f.IntVar(&s.traffic.inflight, "inflight", 16, "messages in flight in the room")
	trafficFlags(f, &s.traffic)
}

func (s *neighbour) run(r *run) error {
	t := s.traffic
	if s.conns < 1 || s.rate <= 0 || s.members < 1 {
		return errors.New("-members, -conns and -rate must be positive")
	}
	if err := t.check(); err != nil {
		return err
	}
	asking := &callers{rate: s.rate, run: r, hurry: true}
	if err := asking.connect(s.conns); err != nil {
		return err
	}
	alone := newMeter(r)
	if err := asking.window(alone); err != nil {
		return err
	}
	w := newCrowd(r)
	if err := w.join(s.members, s.members); err != nil {
		return err
	}
	if err := t.begin(w); err != nil {
		return err
	}
	room, beside := newMeter(r), newMeter(r)
	asking.begin(beside)
	t.alongside = func(now int64, found bool) {
		beside.turn(now, found, asking.answers)
		asking.pace(now)
	}
	if err := t.window(room); err != nil {
		return err
	}
	if err := errors.Join(asking.drain(), t.drain()); err != nil {
		return err
	}
	if beside.latency.n == 0 || alone.latency.n == 0 {
		r.faults().reason("no answers in the window")
	}
	r.figure("echoes", float64(beside.latency.n))
	beside.latency.figures(r, "echo_")
	alone.latency.figures(r, "echo_alone_")
	r.figure("echo_p99_more_us", float64(beside.latency.quantile(0.99)-alone.latency.quantile(0.99))/1e3)
	r.figure("echo_lag_max_us", float64(beside.lag)/1e3)
	t.end()
	return nil
}
