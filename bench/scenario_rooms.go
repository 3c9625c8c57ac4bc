//go:build linux

package main

import "flag"

var _ = register("rooms", "many small rooms; a fixed rate of messages over all of them", func() scenario { return &rooms{} })

// rooms asks what small rooms cost: there is little to share between members, and much to find.
type rooms struct {
	rooms, size int
	traffic     traffic // its settings
}

func (s *rooms) flags(f *flag.FlagSet) {
	f.IntVar(&s.rooms, "rooms", 500, "rooms")
	f.IntVar(&s.size, "room-size", 20, "members of each")
	f.Float64Var(&s.traffic.rate, "rate", 4000, "messages per second in all")
	s.traffic.inflight = 1
	trafficFlags(f, &s.traffic)
}

func (s *rooms) run(r *run) error {
	return inRooms(r, s.rooms*s.size, s.size, s.traffic)
}
