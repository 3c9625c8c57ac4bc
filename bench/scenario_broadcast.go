//go:build linux

package main

import (
	"errors"
	"flag"
)

var _ = register("broadcast", "members in rooms; messages to all of a room, some in flight or at a rate", func() scenario { return &broadcast{} })

// broadcast is the plain case: what does a message cost that goes to every member of a room?
type broadcast struct {
	members, rooms int
	traffic        traffic // its settings
}

func (s *broadcast) flags(f *flag.FlagSet) {
	f.IntVar(&s.members, "members", 1000, "members in all")
	f.IntVar(&s.rooms, "rooms", 1, "rooms that they are spread over, equally")
	f.IntVar(&s.traffic.inflight, "inflight", 1, "closed loop: messages in flight in each room")
	f.Float64Var(&s.traffic.rate, "rate", 0, "open loop: messages per second in all; 0: closed loop")
	trafficFlags(f, &s.traffic)
}

func trafficFlags(f *flag.FlagSet, t *traffic) {
	f.BoolVar(&t.poisson, "poisson", false, "open loop: messages come at random times, at -rate on average, as those of many people do")
	f.IntVar(&t.senders, "senders", 0, "members of each room that send; 0: one per message in flight, in open loop up to 16")
	if t.size == 0 {
		t.size = 53
	}
	f.IntVar(&t.size, "size", t.size, "bytes of a message's content; 53 make a push of 106 bytes over TCP")
}

func (s *broadcast) run(r *run) error {
	if s.rooms < 1 || s.members < s.rooms || s.members%s.rooms != 0 {
		return errors.New("-members must be a multiple of -rooms")
	}
	return inRooms(r, s.members, s.members/s.rooms, s.traffic)
}

// inRooms measures the traffic t in rooms of size members.
func inRooms(r *run, members, size int, t traffic) error {
	if err := t.check(); err != nil {
		return err
	}
	w := newCrowd(r)
	if err := w.join(members, size); err != nil {
		return err
	}
	return t.measure(w)
}
