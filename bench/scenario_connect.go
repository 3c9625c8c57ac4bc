//go:build linux

package main

import (
	"errors"
	"flag"
)

var _ = register("connect", "clients that connect, shake hands and enter a room", func() scenario { return &connect{} })

// connect asks what a client costs until it is in: connection, upgrade, handshake, enter, its list of members, and the onAdd of
// all who are there already. Clients come some at a time, one room after the other, so that no two come into one room at
// once: nobody can merge what they cause.
type connect struct {
	few, conns, size, abreast int
}

func (s *connect) flags(f *flag.FlagSet) {
	f.IntVar(&s.few, "few", 400, "clients that come first, to warm the server up, and are not measured")
	f.IntVar(&s.conns, "conns", 18000, "clients that are measured")
	f.IntVar(&s.size, "room-size", 20, "members of each room, in the end")
	f.IntVar(&s.abreast, "inflight", 64, "clients that come up at a time")
}

func (s *connect) run(r *run) error {
	if s.few < 1 || s.conns < 1 || s.abreast < 1 || s.size < 1 || (s.few+s.conns)%s.size != 0 {
		return errors.New("-few and -conns must be positive, and together a multiple of -room-size")
	}
	w := newCrowd(r)
	w.abreast, w.wait, w.inTurn = s.abreast, r.pause, (s.few+s.conns)/s.size
	if err := w.join(s.few, s.size); err != nil {
		return err
	}
	w.took = histogram{}
	before, begun, pushes := r.target.usage(), clock(), w.pushes
	if err := w.join(s.few+s.conns, s.size); err != nil {
		return err
	}
	after := r.target.usage()
	n := float64(s.conns)
	r.figure("conns", n)
	r.figure("conns_per_s", n/(float64(w.in-begun)/1e9))
	r.figure("pushes_per_conn", float64(w.pushes-pushes)/n)
	if cpu := after.cpu - before.cpu; before.known && after.known {
		r.figure("cpu_s", cpu.Seconds())
		r.figure("cpu_us_per_conn", cpu.Seconds()/n*1e6)
		r.figure("rss_bytes", float64(after.rss))
	}
	w.took.figures(r, "join_")
	return nil
}
