package cluster_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/codec"
)

// What the simulation knows of places and of what rooms keep. Its clients are cut off and return: those that can prove who they are by that, the plain ones by
// where they are. Two of three are extended, and say how far they have come.
//
// A member that is cut off leaves when its time is over, and then the others are told so once; one that returns in time is told what it has missed, and the others
// are told nothing. What followers know of all that must be what the owner knows, which the hashes of states and the comparison at the end show.

const (
	simGrace   = 1500 // ms
	simHistory = 32   // messages
)

// places are the members of a room that an owner has noted as away under its epoch, and when, in ms.
type places struct {
	epoch cluster.ViewID
	away  map[string]int64
	set   int64 // when the room was set last, Unix ms; 0: nobody knows
	wall  int64 // the greatest time that was seen, Unix ms
}

// keepPlaces has a process's rooms keep places, and what is said.
func (p *proc) keepPlaces(limits *channel.Limits) {
	limits.Grace = simGrace * time.Millisecond
	p.worker.KeepHistory(channel.History{Messages: simHistory, Bytes: 1 << 20, Wall: p.wall, Salt: uint64(p.wall())<<8 | uint64(p.i), Vacancy: simVacancy * time.Millisecond, Vacant: p.w.vacant})
}

// decided looks at what the owner of a partition has decided of places.
func (p *proc) decided(part uint16, records []channel.Record, items []channel.Item) {
	w, here := p.w, &p.places[part]
	if v := p.node.View(); v != nil && here.epoch != v.Shares[part].Epoch { // what others have decided in between is not known
		*here = places{epoch: v.Shares[part].Epoch, away: map[string]int64{}}
	}
	asked := false // by somebody
	for i := range records {
		switch r := &records[i]; r.Kind {
		case channel.RecordIn, channel.RecordGone:
			asked = true
		case channel.RecordAway:
			w.sums["cut off"]++
			here.away[r.User] = w.now
			w.toldOf(part, r.User, items, 0, "is cut off")
		case channel.RecordReplace:
			if r.Num == 1 {
				w.sums["returns"]++
				w.toldOf(part, r.User, items, 0, "is back")
			}
			delete(here.away, r.User)
		case channel.RecordRemove:
			cut, away := here.away[r.User]
			if delete(here.away, r.User); asked || !away {
				break
			}
			w.sums["expired"]++
			if w.now-cut < simGrace {
				w.violation("room %d: %s leaves %d ms after it was cut off", part, r.User, w.now-cut)
			}
			w.toldOf(part, r.User, items, 1, "does not return")
		}
	}
}

// toldOf holds how often each node is told of somebody in a decision against what it should be at most.
func (w *world) toldOf(part uint16, name string, items []channel.Item, most int, why string) {
	told := map[channel.OutletID]int{}
	for i := range items {
		it := &items[i]
		if it.Kind != channel.ItemPush || it.Push.Route != "onAdd" && it.Push.Route != "onLeave" || field(it.Push.Body, `"user":"`) != name {
			continue
		}
		if told[it.To.Outlet()]++; told[it.To.Outlet()] > most || it.Push.Route == "onAdd" {
			w.violation("room %d: %s %s, and others are told %s", part, name, why, it.Push.Route)
		}
	}
}

// near is where a plain client is, which is how it is known again.
func (c *client) near() uint64 {
	if c.plain {
		return 1<<32 | uint64(c.id+1)
	}
	return 0
}

// extended tells whether a client says how far it has come.
func (c *client) extended() bool { return c.w.returns && c.id%3 != 1 }

// returning adds to an enter what returns need.
func (c *client) returning(r *channel.Request) {
	r.Near = c.near()
	if c.last != nil && c.last.part != c.part {
		c.heard = codec.Seq{} // of another room
	}
	if c.extended() {
		r.Ext = &channel.Extended{Since: c.heard, HasSince: c.heard != codec.Seq{}}
	}
}

// cutOff says of a session's leave how it was cut off.
func (s *session) cutOff(r *channel.Request) {
	if s.seat == nil {
		r.Handed = channel.Unheard
	} else {
		r.Handed = s.seat.seq
	}
	r.Cut, r.Near = s.cut, s.c.near()
}

// resumes takes what the answer to an enter says behind the list. Who has all that was said since its last session was told something goes on where that one
// was: nothing may come twice, and nothing be missing.
func (s *session) resumes(tail string) {
	c, w := s.c, s.p.w
	if !c.extended() {
		return
	}
	old := c.last
	_, text, _ := strings.Cut(tail, `"seq":"`)
	text, _, _ = strings.Cut(text, `"`)
	seq, ok := codec.ParseSeq(text)
	if !ok {
		w.violation("client %d enters, and is answered %s", c.id, tail)
	}
	if !strings.Contains(tail, `"complete":true`) {
		if c.heard != (codec.Seq{}) {
			w.sums["incomplete returns"]++
		}
		c.heard = seq // what follows says more
		return
	}
	w.sums["complete returns"]++
	if w.split && w.quorum == 0 { // both sides may have gone on, with the same numbers
		return
	}
	if old == nil || old.part != s.part || c.heard.Incarnation != seq.Incarnation {
		w.violation("client %d has all since %v, where it has not been", c.id, c.heard)
		return
	}
	s.seat.got, s.seat.lastFrom, s.seat.from = old.got, old.lastFrom, old.from
}

// notes keeps how far a client has come.
func (s *session) notes(p *codec.Push) {
	if s.c.extended() && s.c.s == s && p.Stream != nil && p.Seq != 0 {
		s.c.heard = codec.Seq{Incarnation: p.Stream.Incarnation, Number: p.Seq}
	}
}

// rests is how long a client that was cut off stays away: mostly for less than its place is kept, and sometimes for longer.
func (c *client) rests() int64 {
	if rest := int64(c.w.rng.IntN(4)); rest > 0 {
		return 20 + int64(c.w.rng.IntN(simGrace/2))
	}
	return simGrace + 100 + int64(c.w.rng.IntN(500))
}

// A new owner knows who is away and since when, and what has been said: who returns in time has all of that, and nobody else is told; who does not leaves, once.
func TestReturnsToANewOwner(t *testing.T) {
	for _, late := range []bool{false, true} {
		s := newStage(t, "cccnn", 0)
		s.returns = true
		for _, p := range s.procs {
			p.boot()
		}
		s.calm()
		const part = 3
		ann, bob, cid := s.enter(s.procs[3], part, "ann"), s.come(s.procs[4], part, "bob", true), s.come(s.procs[4], part, "cid", true)
		s.in(bob, cid)
		s.says(bob, channel.Everybody, 500)
		s.pass(100)
		for _, x := range []*session{bob, cid} { // by what its session was sent, and by what it says itself
			x.cut = true
			x.c.hangUp()
		}
		s.pass(100)
		missed := ann.c.say(channel.Everybody)
		s.pass(100)
		s.owner(part).kill()
		if late {
			s.pass(6000 + simGrace)
		} else {
			s.until("somebody owns the room", 9000, func() bool { return s.owner(part) != nil })
		}
		s.pass(100)
		s.here(ann)
		for _, x := range []*session{bob, cid} {
			if is := ann.seat.list[x.name]; is == late {
				t.Errorf("late %v: ann has %s in her list: %v", late, x.name, is)
			}
			back := s.again(x.c, s.procs[3])
			s.in(back)
			s.pass(100)
			if !s.got(missed, back) && !late {
				t.Errorf("%s has not got what it missed", x.name)
			}
		}
		if n, of := s.sums["returns"], map[bool]int{false: 2}[late]; n != of || late && s.sums["cut off"] != 2 {
			t.Errorf("late %v: %d returns of %d who were cut off", late, n, s.sums["cut off"])
		}
		s.end()
	}
}
