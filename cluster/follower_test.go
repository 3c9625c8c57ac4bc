package cluster

import (
	"fmt"
	"testing"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/internal/seed"
)

// A follower whose state turns out to differ says nothing more; it is dropped and begins anew.
func TestFollowerThatDiffers(t *testing.T) {
	for name, spoil := range map[string]func(m *Message){
		"a record is missing": func(m *Message) { m.Records = m.Records[1:] },
		"a record that fits is another one": func(m *Message) {
			for i := range m.Records {
				if m.Records[i].Kind == channel.RecordPush {
					m.Records[i].Num += 7
				}
			}
			m.Hash = 12345 // as every 64th time
		},
		"a record does not fit": func(m *Message) { m.Records[0] = channel.Record{Kind: channel.RecordRemove, Room: "r", User: "nobody"} },
	} {
		t.Run(name, func(t *testing.T) {
			f := populated(t)
			f.shut[[2]int{1, 2}] = true
			f.send(3, 1, "a", "one")
			f.settle()
			for _, x := range f.queues[[2]int{1, 2}] {
				if x.m.Kind == KindRecords {
					spoil(x.m)
				}
			}
			f.shut = map[[2]int]bool{}
			f.pass(400 * ms)
			f.want(3)
			if f.wish(KindDropFollower) == nil {
				t.Fatal("it is not dropped")
			}
			f.change(func(s *Share, id ViewID) { s.Follower, s.Following = None, ViewID{} })
			f.settle()
			f.want(3, chat("a", "one"), `1 {}`)
			f.join(2)
			f.follow()
			f.same(1, 2)
			f.answered()
		})
	}
}

// The running hash finds out within 64 decisions that a follower has taken other records.
func TestRunningHash(t *testing.T) {
	f := populated(t)
	h := f.nodes[2].holder
	h.parts[thePart].hash++
	for i := range hashEvery {
		if n := h.Stats().Differs; n != 0 {
			if i < 30 {
				t.Errorf("noticed after %d decisions", i)
			}
			return
		}
		f.send(3, 1, "a", "x")
		f.settle()
	}
	t.Error("not noticed")
}

// A snapshot comes in parts while everything goes on. Parts are bulk: as a link carries them they may overtake records that were sent before,
// and records follow a part in the bulk lane until it has arrived.
func TestSnapshotInParts(t *testing.T) {
	rng := seed.Rand(t)
	early := uint64(0)
	for range 20 {
		f := newFleet(t, 3)
		f.nodes[1].holder.partBytes = 1
		f.owned(None, None)
		var rooms []string
		for i := 0; len(rooms) < 12; i++ {
			if s := fmt.Sprint("x", i); channel.Partition(s) == thePart {
				rooms = append(rooms, s)
			}
		}
		any := func() {
			r := channel.Request{Op: channel.OpEnter, Part: thePart, Room: rooms[rng.IntN(len(rooms))], Req: 1, Target: "*", Content: []byte(`"x"`)}
			switch rng.IntN(3) {
			case 0:
				r.Op = channel.OpLeave
			case 1:
				r.Op = channel.OpSend
			}
			n := rng.IntN(5)
			r.User, r.From.Ref = fmt.Sprint("u", n), channel.Ref(n)
			if err := f.nodes[3].desk.request(&r, f.now); err != nil {
				t.Fatal(err)
			}
		}
		for i, room := range rooms {
			f.enterRoom(3, channel.Ref(100+i), "first", room)
		}
		f.settle()
		way := [2]int{1, 2}
		f.shut[way] = true
		f.change(func(s *Share, id ViewID) { s.Joiner, s.Joining = 2, id })
		var lanes [2][]letterOf
		for i := 0; f.wish(KindInStep) == nil || i < 200; i++ {
			if i < 150 {
				any()
			}
			f.shut[[2]int{2, 1}] = rng.IntN(2) == 0 // its acks are late
			f.settle()
			for _, m := range f.queues[way] {
				lane := 0
				if m.m.Kind == KindSnapshot || len(lanes[1]) > 0 {
					lane = 1
				}
				lanes[lane] = append(lanes[lane], m)
			}
			f.queues[way] = nil
			for range rng.IntN(9) {
				if lane := min(rng.IntN(4), 1); len(lanes[lane]) > 0 { // live ones may be sent again, and come late
					m := lanes[lane][0]
					lanes[lane] = lanes[lane][1:]
					f.nodes[2].deliver(f.nodes[1].node(), m.m)
				}
			}
			if i > 5000 {
				t.Fatal("never in step")
			}
		}
		f.queues[way] = append(lanes[0], lanes[1]...)
		f.shut = map[[2]int]bool{}
		f.settle()
		p := f.nodes[2].holder.parts[thePart]
		early += f.nodes[2].holder.Stats().Early
		if p.trail.parts < 12 || f.nodes[2].holder.Stats().Differs != 0 {
			t.Errorf("%d parts, %+v", p.trail.parts, f.nodes[2].holder.Stats())
		}
		f.follow()
		f.same(1, 2)
		f.answered()
	}
	if early == 0 {
		t.Error("nothing was overtaken")
	}
}
