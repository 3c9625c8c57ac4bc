//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// callers are clients that ask the gate: gate.gateHandler.queryEntry, answered at once and without anybody else.
//
// Closed loop (rate 0): inflight requests on each connection. Open loop: rate requests per second over all of them.
type callers struct {
	inflight int
	rate     float64

	run     *run
	m       *meter
	hurry   bool // their events come before others'
	all     []*caller
	up      int
	start   int64 // open loop: when the first request was due, had there been no break
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

// connect brings up n of them.
func (w *callers) connect(n int) error {
	r := w.run
	begun := clock()
	for w.up < n {
		for len(w.all) < n && len(w.all)-w.up < pipeline {
			i := len(w.all)
			c := &caller{callers: w, next: 1, body: fmt.Appendf(nil, `{"uid":"m%05d*room","rid":"room"}`, i)}
			w.all = append(w.all, c)
			if err := r.connectGate(i, c); err != nil {
				return err
			}
		}
		if _, err := r.driver.turn(100 * time.Millisecond); err != nil {
			return err
		}
		if r.faults().void() || clock()-begun > int64(time.Minute) {
			return errors.New("connect: " + strings.Join(r.faults().Reasons, "; "))
		}
		r.progress("connected %d of %d", w.up, n)
	}
	return nil
}

// begin sends the first requests, or goes on; what is due from now on belongs to m.
func (w *callers) begin(m *meter) {
	w.m = m
	if w.rate > 0 {
		w.start = m.start - int64(float64(w.sent)*1e9/w.rate)
	} else if w.sent == w.answers {
		for range w.inflight {
			for _, c := range w.all {
				c.call(clock())
			}
		}
	}
}

// pace sends what is due at now.
func (w *callers) pace(now int64) {
	if w.rate == 0 {
		return
	}
	for range turnEvents {
		at := w.start + int64(float64(w.sent)*1e9/w.rate)
		if w.stop || at > now {
			return
		}
		w.m.lag = max(w.m.lag, now-at)
		w.all[int(w.sent)%len(w.all)].call(at)
	}
}

// window is the meter's window with nothing else going on.
func (w *callers) window(m *meter) error {
	w.begin(m)
	for {
		n, err := w.run.driver.turn(w.run.pause)
		if err != nil {
			return err
		}
		now := clock()
		if m.turn(now, n > 0, w.answers) {
			return nil
		}
		w.pace(now)
	}
}

// rest lets others measure: nothing of ours is under way meanwhile.
func (w *callers) rest() error {
	if err := w.drain(); err != nil {
		return err
	}
	w.stop = false
	return w.run.rest()
}

// drain sends no more and waits for the answers that are missing.
func (w *callers) drain() error {
	w.stop = true
	r := w.run
	for last, since := w.answers, clock(); w.answers < w.sent; {
		if _, err := r.driver.turn(r.pause); err != nil {
			return err
		}
		if now := clock(); w.answers != last {
			last, since = w.answers, now
		} else if now-since > int64(r.patience) {
			r.faults().Lost += w.sent - w.answers
			r.faults().reason("%d requests were not answered", w.sent-w.answers)
			break
		}
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
	if c.hurry {
		conn.hurry()
	}
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
