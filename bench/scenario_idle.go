//go:build linux

package main

import (
	"errors"
	"flag"
	"time"
)

var _ = register("idle", "memory of the server per joined member who says nothing", func() scenario { return &idle{} })

// idle asks what a member costs who is only there: memory at many members less that at few, each after the heartbeats
// have gone around, so that what was needed for joining can be given back.
type idle struct {
	few, members, size int
	periods            float64
}

func (s *idle) flags(f *flag.FlagSet) {
	f.IntVar(&s.few, "few", 100, "members at the first look")
	f.IntVar(&s.members, "members", 19000, "members at the second look")
	f.IntVar(&s.size, "room-size", 20, "members of each room")
	f.Float64Var(&s.periods, "periods", 2, "heartbeat intervals to wait before each look")
}

func (s *idle) run(r *run) error {
	if s.few < 1 || s.members <= s.few || s.size < 1 {
		return errors.New("-members must be more than -few")
	}
	if len(r.target.pids) == 0 {
		return errors.New("whose memory? give -pid")
	}
	w := newCrowd(r)
	at := [2]usage{}
	for i, n := range []int{s.few, s.members} {
		if err := w.join(n, s.size); err != nil {
			return err
		}
		joined := r.target.usage()
		if err := s.wait(w, n); err != nil {
			return err
		}
		at[i] = r.target.usage()
		if i == 1 {
			r.figure("rss_joined_bytes", float64(joined.rss)) // before the wait
		}
	}
	more := float64(s.members - s.few)
	r.figure("conns", float64(r.driver.open))
	r.figure("rss_few_bytes", float64(at[0].rss))
	r.figure("rss_bytes", float64(at[1].rss))
	r.figure("rss_per_conn", float64(at[1].rss-at[0].rss)/more)
	r.figure("anon_per_conn", float64(at[1].anon-at[0].anon)/more)
	r.figure("cpu_s", (at[1].cpu - at[0].cpu).Seconds())
	return nil
}

// wait lets heartbeats go around. Nothing here is a matter of time, so it may sleep.
func (s *idle) wait(w *crowd, n int) error {
	every := w.members[0].conn.every
	if every == 0 {
		every = 5 * time.Second
	}
	for end := clock() + int64(s.periods*float64(every)); ; {
		left := time.Duration(end - clock())
		if left <= 0 {
			return nil
		}
		w.run.progress("%d members, idle for another %v", n, left.Round(time.Second))
		if _, err := w.run.driver.turn(min(left+time.Millisecond, 100*time.Millisecond)); err != nil {
			return err
		}
	}
}
