//go:build linux

package main

import (
	"errors"
	"flag"
)

var _ = register("echo", "requests to the gate that are answered at once", func() scenario { return &echo{} })

// echo asks what a request costs that needs nobody else.
type echo struct {
	conns, inflight int
	rate            float64
}

func (s *echo) flags(f *flag.FlagSet) {
	f.IntVar(&s.conns, "conns", 200, "connections")
	f.IntVar(&s.inflight, "inflight", 1, "closed loop: requests in flight on each connection")
	f.Float64Var(&s.rate, "rate", 0, "open loop: requests per second in all; 0: closed loop")
}

func (s *echo) run(r *run) error {
	if s.conns < 1 || s.inflight < 1 || s.rate < 0 {
		return errors.New("-conns and -inflight must be positive")
	}
	w := &callers{inflight: s.inflight, rate: s.rate, run: r}
	if err := w.connect(s.conns); err != nil {
		return err
	}
	var sum *meter
	for i := range r.slices {
		if i > 0 {
			if err := w.rest(); err != nil {
				return err
			}
		}
		m := newSlice(r)
		if err := w.window(m); err != nil {
			return err
		}
		if sum == nil {
			sum = m
		} else {
			sum.add(m)
		}
	}
	if err := w.drain(); err != nil {
		return err
	}
	sum.end("answers", r)
	return nil
}
