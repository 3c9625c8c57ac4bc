package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
)

// What the simulation knows of what programs set of rooms. Setters count: each reads the data of a room by whatever connector, and makes it one more if it is still what it has read. What was
// answered is never undone, unless the partition is lost; and nobody's step is lost under another's. That owner and follower have the same settings is looked at with all else that they have.
//
// What is set of a room lapses when nobody has been in it for simVacancy, or too many are like that. It never does while somebody is there or too early, and in the end none is left that should.

const (
	simSetters = 6
	simVacancy = 1000 // ms
	simSetWait = 9000 // ms: how long a setter waits for an answer that its connector may have died with
)

// programRef is the address, on each connector, of who asks for programs.
const programRef = channel.Ref(1) << 56

// counted is a life of a room's data: until its partition is born anew, or what is set lapses.
type counted struct {
	part uint16
	born cluster.ViewID
	life int
}

// count is how far the count has come for certain, and when.
type count struct {
	n  int
	at int64
}

// setter counts.
type setter struct {
	w     *world
	part  uint16
	next  int64
	known int // what it has read; -1: it has to read

	// What it waits for.
	req   uint32 // 0: nothing
	op    channel.Op
	p     *proc
	at    int64
	of    counted
	floor count // how far the room had come before it asked
}

// planSettings has a run have setters, with random numbers of their own.
func (w *world) planSettings() {
	w.setting, w.setTo, w.vacant = rand.New(rand.NewPCG(w.seed, 19)), make(map[counted]count), int(w.seed%3)
	for i := range simSetters {
		w.setters = append(w.setters, &setter{w: w, part: uint16(i / 2 * 3), known: -1, next: 2500 + int64(w.setting.IntN(1000))})
	}
}

// step lets a setter do what it does next.
func (x *setter) step() {
	w := x.w
	if x.next = w.now + 50 + int64(w.setting.IntN(300)); x.req != 0 {
		if w.now-x.at > simSetWait {
			x.req, x.known = 0, -1
		}
		return
	}
	open := w.serving()
	if w.now > simStop || len(open) == 0 {
		return
	}
	if w.setting.IntN(16) == 0 { // what is set has time to lapse
		x.next = w.now + int64(w.setting.IntN(4*simVacancy))
		return
	}
	p := open[w.setting.IntN(len(open))]
	r := &channel.Request{Op: channel.OpRoom, Part: x.part, From: channel.Addr{Node: p.node.Self(), Ref: programRef}, Room: simRooms[x.part]}
	switch {
	case x.known >= 0 && w.setting.IntN(6) == 0:
		r.Op, r.Content = channel.OpSet, fmt.Appendf(nil, `{"capacity":%d}`, 1000+w.setting.IntN(3))
	case x.known == 0:
		r.Op, r.Content = channel.OpData, []byte(`{"was":null,"data":1}`)
	case x.known > 0:
		r.Op, r.Content = channel.OpData, fmt.Appendf(nil, `{"was":%d,"data":%d}`, x.known, x.known+1)
	}
	w.setReq++
	r.Req = w.setReq
	x.req, x.op, x.p, x.at, x.of = r.Req, r.Op, p, w.now, w.lifeOf(p, x.part)
	x.floor = w.setTo[x.of]
	if err := p.post(r); err != nil {
		x.req = 0
	}
}

// setBy is the setter that waits for an answer; nil: it has given up.
func (w *world) setBy(p *proc, req uint32) *setter {
	for _, x := range w.setters {
		if x.req == req && x.p == p {
			return x
		}
	}
	return nil
}

// isSet takes an answer.
func (p *proc) isSet(it *channel.Item) {
	w := p.w
	x := w.setBy(p, it.Req)
	if x == nil {
		return
	}
	x.req = 0
	if x.of != w.lifeOf(p, x.part) { // it may be of either
		x.known = -1
		return
	}
	body := string(it.Body) + it.End()
	switch {
	case x.op != channel.OpRoom && w.vacant > 0 && body == string(channel.RoomsRefused):
		w.sums["settings refused"]++
	case x.op == channel.OpSet:
		if body != string(channel.Done) {
			w.violation("setting room %d is answered %s", x.part, body)
		}
	case x.op == channel.OpData && body == string(channel.Done):
		w.sums["counts"]++
		x.known++
		if x.known > w.setTo[x.of].n {
			w.setTo[x.of] = count{x.known, w.now}
		}
	case x.op == channel.OpData && body == string(channel.Conflict):
		w.sums["counts in conflict"]++
		x.known = -1
	case x.op == channel.OpData:
		w.violation("the data of room %d is answered %s", x.part, body)
	default:
		x.known = 0
		_, _ = fmt.Sscan(field(it.Body, `"data":`), &x.known) // there may be none
		w.sums["counts read"]++
		if x.known < x.floor.n && (!w.split || w.quorum > 0) && w.inhabited(p, x.part, x.floor.at) { // else it has lapsed, and the owner has not come to taking it out
			w.violation("room %d has counted to %d, at %s it is %s, asked for at %d", x.part, x.floor.n, p.name, body, x.at)
		}
	}
}

// lifeOf is the life of a room's data, as far as a node knows.
func (w *world) lifeOf(p *proc, part uint16) counted {
	return counted{part, p.node.View().Shares[part].Born, w.lapses[part]}
}

// inhabited tells whether somebody has been in a room all the time since, and is no member of a node that is left out and has not heard of it.
func (w *world) inhabited(p *proc, part uint16, since int64) bool {
	return slices.ContainsFunc(w.live, func(t *seat) bool {
		o := t.s.p
		return t.part == part && t.enter < since && t.end == 0 && o.running() && !o.node.Suspended() && p.node.View().Has(o.node.Self())
	})
}

// decidedSettings looks at what the owner of a partition has set, or forgotten, of its room.
func (p *proc) decidedSettings(part uint16, records []channel.Record) {
	w, here := p.w, &p.places[part]
	here.wall = max(here.wall, p.wall())
	comes := 0
	for i := range records {
		if records[i].Kind == channel.RecordAdd { // who enters a room whose settings hold no longer finds none
			comes++
		}
	}
	for i := range records {
		r := &records[i]
		if r.Kind != channel.RecordSettings {
			continue
		}
		n := 0
		_, _ = fmt.Sscan(string(r.Body), &n) // there may be none
		lapses := r.Num == 0 && len(r.Body) == 0
		if lapses {
			w.sums["settings lapsed"]++
			if n := len(p.roster(part)) - comes; n > 0 {
				w.violation("room %d: what is set lapses, and %d are there", part, n)
			}
			if w.vacant == 0 && here.set != 0 && here.wall-here.set < simVacancy {
				w.violation("room %d: what is set lapses after %d ms", part, here.wall-here.set)
			}
		}
		if lapses || n < w.setTo[w.lifeOf(p, part)].n {
			w.lapses[part]++
		}
		here.set = r.Time
	}
}

// checkSettings looks for what should have lapsed in the end: it was left too long ago, or there is more of it than a worker may have.
func (w *world) checkSettings(o *proc, part uint16, records []channel.Record, members int) {
	wall := o.wall()
	for i := range records {
		if r := &records[i]; r.Kind == channel.RecordPartition {
			wall = max(wall, int64(r.Place))
		}
	}
	for i := range records {
		r := &records[i]
		if r.Kind != channel.RecordSettings || members > 0 {
			continue
		}
		if wall-r.Time > 3*simVacancy {
			w.violation("room %d: nobody is there, and what was set %d ms ago still holds", part, wall-r.Time)
		}
		if o.vacant++; w.vacant > 0 && o.vacant > w.vacant {
			w.violation("%s has %d rooms that nobody is in, and of which something is set", o.name, o.vacant)
		}
	}
}

// notSet takes the word that a request has no answer: nobody knows what has come of it.
func (p *proc) notSet(r *channel.Request) {
	if x := p.w.setBy(p, r.Req); x != nil {
		x.req, x.known = 0, -1
	}
}
