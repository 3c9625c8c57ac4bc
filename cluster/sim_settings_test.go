package cluster_test

import (
	"fmt"
	"math/rand/v2"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
)

// What the simulation knows of what programs set of rooms. Setters count: each reads the data of a room by whatever connector, and makes it one more if it is still what it has read. What was
// answered is never undone, unless the partition is lost; and nobody's step is lost under another's. That owner and follower have the same settings is looked at with all else that they have.

const (
	simSetters = 6
	simSetWait = 9000 // ms: how long a setter waits for an answer that its connector may have died with
)

// programRef is the address, on each connector, of who asks for programs.
const programRef = channel.Ref(1) << 56

// counted is how far a room's data has come, while its partition is not born anew.
type counted struct {
	part uint16
	born cluster.ViewID
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
	floor int // how far the room had come before it asked
}

// planSettings has a run have setters, with random numbers of their own.
func (w *world) planSettings() {
	w.setting, w.setTo = rand.New(rand.NewPCG(w.seed, 19)), make(map[counted]int)
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
	x.req, x.op, x.p, x.at, x.of = r.Req, r.Op, p, w.now, counted{x.part, p.node.View().Shares[x.part].Born}
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
	if x.of.born != p.node.View().Shares[x.part].Born { // it may be of either
		x.known = -1
		return
	}
	body := string(it.Body) + it.End()
	switch {
	case x.op == channel.OpSet:
		if body != string(channel.Done) {
			w.violation("setting room %d is answered %s", x.part, body)
		}
	case x.op == channel.OpData && body == string(channel.Done):
		w.sums["counts"]++
		x.known++
		w.setTo[x.of] = max(w.setTo[x.of], x.known)
	case x.op == channel.OpData && body == string(channel.Conflict):
		w.sums["counts in conflict"]++
		x.known = -1
	case x.op == channel.OpData:
		w.violation("the data of room %d is answered %s", x.part, body)
	default:
		x.known = 0
		_, _ = fmt.Sscan(field(it.Body, `"data":`), &x.known) // there may be none
		w.sums["counts read"]++
		if x.known < x.floor && (!w.split || w.quorum > 0) {
			w.violation("room %d has counted to %d, at %s it is %s, asked for at %d", x.part, x.floor, p.name, body, x.at)
		}
	}
}

// notSet takes the word that a request has no answer: nobody knows what has come of it.
func (p *proc) notSet(r *channel.Request) {
	if x := p.w.setBy(p, r.Req); x != nil {
		x.req, x.known = 0, -1
	}
}
