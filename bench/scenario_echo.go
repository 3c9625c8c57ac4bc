//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"
)

var _ = register("echo", "requests to the gate that are answered at once", func() scenario { return &echo{} })

// echo asks what a request costs that needs nobody else: gate.gateHandler.queryEntry.
type echo struct {
	conns, inflight int
	rate            float64
}

func (s *echo) flags(f *flag.FlagSet) {
	f.IntVar(&s.conns, "conns", 200, "connections")
	f.IntVar(&s.inflight, "inflight", 1, "closed loop: requests in flight on each connection")
	f.Float64Var(&s.rate, "rate", 0, "open loop: requests per second in all; 0: closed loop")
}

// callers are the clients of one run.
type callers struct {
	*echo
	run     *run
	m       *meter
	all     []*caller
	up      int
	sent    int64
	answers int64
	stop    bool
}

// caller is one client. It knows when each request without an answer was due.
type caller struct {
	*callers
	conn *conn
	body []byte
	at   []int64 // in closed loop by inflight bounded, in open loop by what the socket takes
	next uint32  // the id of the next answer, from 1
}

func (s *echo) run(r *run) error {
	if s.conns < 1 || s.inflight < 1 || s.rate < 0 {
		return errors.New("-conns and -inflight must be positive")
	}
	if !r.target.gate.IsValid() {
		return errors.New("where is the gate? give -gate-addr")
	}
	w := &callers{echo: s, run: r}
	if err := w.connect(); err != nil {
		return err
	}
	w.m = newMeter(r)
	if s.rate == 0 {
		for range s.inflight {
			for _, c := range w.all {
				c.call(clock())
			}
		}
	}
	progressed, before := clock(), int64(-1)
	for draining := false; !draining || w.answers < w.sent; {
		n, err := r.driver.turn(r.pause)
		if err != nil {
			return err
		}
		now := clock()
		if !draining {
			w.stop = w.m.turn(now, n > 0, w.answers)
			draining = w.stop
		}
		for !w.stop && s.rate > 0 {
			at := w.m.start + int64(float64(w.sent)*1e9/s.rate)
			if at > now {
				break
			}
			w.m.lag = max(w.m.lag, now-at)
			w.all[int(w.sent)%len(w.all)].call(at)
		}
		if w.answers != before || w.sent == 0 {
			before, progressed = w.answers, now
		} else if now-progressed > int64(r.patience) {
			r.faults().Lost += w.sent - w.answers
			r.faults().reason("%d requests were not answered", w.sent-w.answers)
			break
		}
	}
	w.m.end("answers", r)
	return nil
}

func (w *callers) connect() error {
	begun := clock()
	for w.up < w.conns {
		for len(w.all) < w.conns && len(w.all)-w.up < pipeline {
			i := len(w.all)
			c := &caller{callers: w, next: 1, body: fmt.Appendf(nil, `{"uid":"m%05d*room","rid":"room"}`, i)}
			w.all = append(w.all, c)
			if err := w.run.connect(i, w.run.target.gate, c); err != nil {
				return err
			}
		}
		if _, err := w.run.driver.turn(100 * time.Millisecond); err != nil {
			return err
		}
		if w.run.faults().void() || clock()-begun > int64(time.Minute) {
			return errors.New("connect: " + strings.Join(w.run.faults().Reasons, "; "))
		}
		w.run.progress("connected %d of %d", w.up, w.conns)
	}
	return nil
}

func (c *caller) call(at int64) {
	c.at = append(c.at, at)
	c.sent++
	c.conn.request(routeGate, c.body)
}

func (c *caller) ready(conn *conn) {
	c.conn = conn
	c.up++
}

func (c *caller) answered(_ *conn, id uint32, body []byte) {
	f := c.run.faults()
	if id != c.next || len(c.at) == 0 {
		f.Strange++
		f.reason("answer %d instead of %d", id, c.next)
		return
	}
	if !strings.HasPrefix(string(body), `{"code":200,`) {
		f.Strange++
		f.reason("answered %.80q", body)
	}
	c.next++
	c.answers++
	c.m.record(c.at[0], c.run.driver.now)
	c.at = c.at[:copy(c.at, c.at[1:])]
	if c.rate == 0 && !c.stop {
		c.call(c.run.driver.now)
	}
}

func (c *caller) pushed(_ *conn, _, _ []byte) { c.run.faults().Strange++ }
