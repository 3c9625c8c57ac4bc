//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"time"
)

var _ = register("churn", "rooms that chat at a steady rate while other clients come and go", func() scenario { return &churn{} })

// churn asks what those cost who come and go, and what those notice who stay. There are two windows with the same traffic:
// the first with nobody else, the second with comers.
type churn struct {
	rooms, size int
	comers      comers  // its settings
	traffic     traffic // its settings
}

func (s *churn) flags(f *flag.FlagSet) {
	f.IntVar(&s.rooms, "rooms", 50, "rooms")
	f.IntVar(&s.size, "room-size", 20, "members of each that stay")
	f.Float64Var(&s.traffic.rate, "rate", 1000, "messages per second in all")
	f.Float64Var(&s.comers.rate, "churn", 200, "clients per second that come, and go again")
	f.DurationVar(&s.comers.stay, "stay", 500*time.Millisecond, "how long they stay, in each room")
	f.Float64Var(&s.comers.abrupt, "abrupt", 0.25, "share of them that go by a reset")
	f.Float64Var(&s.comers.switching, "switch", 0.1, "share of them that enter a second room, on the same connection, without a word to the first. 0 for servers that do not know this")
	s.traffic.inflight = 1
	trafficFlags(f, &s.traffic)
}

func (s *churn) check(r *run) error {
	c := &s.comers
	switch {
	case s.rooms < 1 || s.size < 1 || s.traffic.rate <= 0 || c.rate <= 0 || c.rate > maxChurn || c.stay < 0:
		return fmt.Errorf("-rooms, -room-size, -rate and -churn must be positive, -churn at most %d and -stay not negative", maxChurn)
	case c.abrupt < 0 || c.abrupt > 1 || c.switching < 0 || c.switching > 1:
		return errors.New("-abrupt and -switch are shares, from 0 to 1")
	case c.switching > 0 && s.rooms < 2:
		return errors.New("-switch needs a second room: give -rooms 2 or -switch 0")
	}
	for _, w := range r.entrant.ways {
		if _, ok := w.wire().(parting); !ok {
			return fmt.Errorf("-wire %s: its clients cannot go by ending a connection; churn needs tcp or WebSocket", w.name)
		}
	}
	return s.traffic.check()
}

func (s *churn) run(r *run) error {
	if err := s.check(r); err != nil {
		return err
	}
	t := s.traffic
	w := newCrowd(r)
	if err := w.join(s.rooms*s.size, s.size); err != nil {
		return err
	}
	if err := t.begin(w); err != nil {
		return err
	}
	before := newMeter(r)
	if err := t.window(before); err != nil {
		return err
	}
	during := newMeter(r)
	during.from += 2 * int64(s.comers.stay) // until as many go as come, even those who switch
	c := s.comers
	c.begin(w, during)
	t.alongside = func(now int64, _ bool) { c.pace(now) }
	if err := t.window(during); err != nil {
		return err
	}
	if err := errors.Join(c.drain(), t.drain()); err != nil {
		return err
	}
	c.check()
	s.figures(r, &t, &c, before, during)
	return nil
}

func (s *churn) figures(r *run, t *traffic, c *comers, before, during *meter) {
	before.latency.figures(r, "before_")
	r.figure("before_rss_bytes", float64(before.after.rss))
	t.end()
	joins := float64(c.joins)
	r.figure("rss_end_bytes", float64(r.target.usage().rss))
	r.figure("joins", joins)
	r.figure("joins_per_s", joins/during.seconds())
	r.figure("joins_refused", float64(c.refused))
	r.figure("switches", float64(c.switches))
	r.figure("comer_deliveries", float64(c.deliveries))
	c.took.figures(r, "join_")
	if cpu, ok := during.cpu(); ok && joins > 0 {
		alone, _ := before.cpu()
		more := cpu - alone*during.seconds()/before.seconds()
		r.figure("before_server_busy", alone/before.seconds())
		r.figure("cpu_us_per_join", more/joins*1e6)
	}
}
