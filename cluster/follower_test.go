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

// What came before is acknowledged again. What is missing is not made up for, as links lose nothing: the follower begins anew.
func TestFollowerMindsTheOrder(t *testing.T) {
	f := populated(t)
	way := [2]int{1, 2}
	f.shut[way] = true
	f.send(3, 1, "a", "one")
	f.settle()
	f.send(3, 1, "a", "two")
	f.settle()
	var records []*Message
	for _, x := range f.queues[way] {
		if x.m.Kind == KindRecords {
			records = append(records, x.m)
		}
	}
	if len(records) != 2 {
		t.Fatalf("%d messages of records", len(records))
	}
	p, h := f.nodes[2], f.nodes[2].holder
	again := *records[0]
	acks := f.posted[KindAck]
	p.deliver(f.nodes[1].node(), records[0])
	h.Flush()
	p.deliver(f.nodes[1].node(), &again)
	h.Flush()
	if h.Stats().Differs != 0 || f.posted[KindAck] != acks+2 {
		t.Errorf("%+v, %d acks", h.Stats(), f.posted[KindAck]-acks)
	}
	late := *records[1]
	late.Index += 5
	p.deliver(f.nodes[1].node(), &late)
	if h.Stats().Differs != 1 || h.worker.Shadows(thePart) {
		t.Error("it goes on although something is missing")
	}
}

// A snapshot comes in parts while everything goes on.
func TestSnapshotInParts(t *testing.T) {
	rng := seed.Rand(t)
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
		var lane []letterOf
		for i := 0; f.wish(KindInStep) == nil || i < 200; i++ {
			if i < 150 {
				any()
			}
			f.shut[[2]int{2, 1}] = rng.IntN(2) == 0 // its acks are late
			f.settle()
			lane = append(lane, f.queues[way]...)
			f.queues[way] = nil
			n := min(rng.IntN(9), len(lane))
			for _, m := range lane[:n] {
				f.nodes[2].deliver(f.nodes[1].node(), m.m)
			}
			lane = lane[n:]
			if i > 5000 {
				t.Fatal("never in step")
			}
		}
		f.queues[way] = lane
		f.shut = map[[2]int]bool{}
		f.settle()
		p := f.nodes[2].holder.parts[thePart]
		if p.trail.parts < 12 || f.nodes[2].holder.Stats().Differs != 0 {
			t.Errorf("%d parts, %+v", p.trail.parts, f.nodes[2].holder.Stats())
		}
		f.follow()
		f.same(1, 2)
		f.answered()
	}
}
