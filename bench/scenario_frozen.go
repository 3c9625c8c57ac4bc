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

var _ = register("frozen", "a room at a steady rate, before and after some of its members stop reading", func() scenario { return &frozen{} })

// frozen asks what readers that stop reading cost the others, and the server's memory. There are two windows, the second
// from when they stop. A server may end their connections, and what they got is not checked.
type frozen struct {
	members, frozen int
	before          time.Duration
	traffic         traffic // its settings
}

func (s *frozen) flags(f *flag.FlagSet) {
	f.IntVar(&s.members, "members", 2000, "members of the room, frozen ones included")
	f.IntVar(&s.frozen, "frozen", 20, "those of them that stop reading")
	f.DurationVar(&s.before, "before", 0, "the first window, when all read; 0 for as long as -time")
	f.Float64Var(&s.traffic.rate, "rate", 40, "messages per second")
	s.traffic.inflight, s.traffic.size = 1, 1024
	trafficFlags(f, &s.traffic)
}

func (s *frozen) run(r *run) error {
	t := s.traffic
	if s.frozen < 1 || s.members <= s.frozen || t.rate <= 0 {
		return errors.New("-members must be more than -frozen, and -rate positive")
	}
	if err := t.check(); err != nil {
		return err
	}
	w := newCrowd(r)
	if err := w.join(s.members-s.frozen, s.members); err != nil {
		return err
	}
	sleepers, err := s.bring(w)
	if err != nil {
		return err
	}
	if err := t.begin(w); err != nil {
		return err
	}
	before := newMeter(r)
	if s.before > 0 {
		before.length = s.before
	}
	if err := t.window(before); err != nil {
		return err
	}
	for _, z := range sleepers {
		z.slept = true
		z.conn.freeze()
	}
	if err := r.target.resetPeak(); err != nil {
		return err
	}
	during := newMeter(r)
	if err := t.window(during); err != nil {
		return err
	}
	peak := r.target.peak()
	if err := t.drain(); err != nil {
		return err
	}
	before.latency.figures(r, "before_")
	r.figure("before_rss_bytes", float64(before.after.rss))
	r.figure("rss_peak_bytes", float64(peak))
	r.figure("rss_peak_by_owed", float64(peak)/(float64(before.after.rss)+float64(s.frozen)*frozenBytes))
	t.end()
	if p99 := before.latency.quantile(0.99); p99 > 0 {
		r.figure("p99_by_before", float64(during.latency.quantile(0.99))/float64(p99))
	}
	r.figure("frozen", float64(s.frozen))
	return s.count(sleepers, r)
}

// frozenBytes is what one member that does not read may have unsent: the default of pomelod's -outbound.
const frozenBytes = 512 << 10

// sleeper is a member that will stop reading. The crowd does not count it.
type sleeper struct {
	run   *run
	body  []byte
	conn  *conn
	in    bool
	slept bool
	gone  bool // since
}

// bring has the sleepers enter the room of w.
func (s *frozen) bring(w *crowd) (all []*sleeper, err error) {
	r := w.run
	for i := range s.frozen {
		z := &sleeper{run: r, body: fmt.Appendf(nil, `{"username":"z%05d","rid":%q}`, i, w.rooms[0].name)}
		all = append(all, z)
		if err := r.connect(len(w.members)+i, z); err != nil {
			return nil, err
		}
	}
	for begun := clock(); slices.ContainsFunc(all, func(z *sleeper) bool { return !z.in }); {
		if _, err := r.driver.turn(100 * time.Millisecond); err != nil {
			return nil, err
		}
		if r.faults().void() || clock()-begun > int64(30*time.Second) {
			return nil, fmt.Errorf("not all that will freeze could enter: %v", r.faults().Reasons)
		}
	}
	return all, w.settle()
}

// count wakes them up and tells how many the server has given up meanwhile: the end of the connection stands behind what
// they have not read.
func (s *frozen) count(all []*sleeper, r *run) error {
	for _, z := range all {
		if !z.gone {
			z.conn.thaw()
		}
	}
	for reads, since := r.driver.reads, clock(); clock()-since < int64(quiet); {
		if _, err := r.driver.turn(50 * time.Millisecond); err != nil {
			return err
		}
		if r.driver.reads != reads {
			reads, since = r.driver.reads, clock()
		}
	}
	closed := 0
	for _, z := range all {
		if z.gone {
			closed++
		}
	}
	r.figure("frozen_closed", float64(closed))
	return nil
}

func (z *sleeper) ready(c *conn) {
	z.conn = c
	c.request(routeEnter, z.body)
}

func (z *sleeper) answered(_ *conn, _ uint32, body []byte) {
	if z.in = strings.HasPrefix(string(body), `{"users":[`); !z.in {
		z.run.faults().Strange++
		z.run.faults().reason("enter answered %.100s", body)
	}
}

func (z *sleeper) pushed(*conn, []byte, []byte) {}

// ended forgives what happens to those that sleep, or slept.
func (z *sleeper) ended(sink) bool {
	z.gone = z.slept
	return z.gone
}
