//go:build linux

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// comers are clients that come to a crowd's rooms, stay a moment and go, at a rate that does not depend on the server. Every
// onAdd and onLeave that they cause must reach each member of the crowd in that room exactly once, and in that order.
type comers struct {
	rate              float64       // per second
	stay              time.Duration // in each room
	abrupt, switching float64       // shares

	crowd *crowd
	m     *meter
	dice  *rand.Rand // the same in each run
	start int64      // when the first is due
	all   []*comer   // by number
	stays []stay     // those who are in, by when they go on
	stop  bool       // nobody comes any more

	present    int   // conns that have not ended
	unheard    int64 // onAdd and onLeave, of all visits
	joins      int64 // in the window
	switches   int64 // in the whole run
	refused    int64
	deliveries int64 // to comers, in the whole run
	took       histogram
}

// maxChurn bounds -churn: more than one thread can bring up.
const maxChurn = 20000

type stay struct {
	until int64
	*comer
}

// comer is one who comes, and goes.
type comer struct {
	*comers
	number, way int
	due         int64
	conn        *conn
	visits      []*visit // the last one is where it is, or wants to be
	asked       uint32   // the id of the enter that has no answer yet; 0: none
	abrupt      bool
	leaving     bool // of its own will
}

// visit is the time of one comer in one room.
type visit struct {
	room  *room
	heard []known // by place of the room's member; nil when all have heard of both its ends
	left  int     // what is still to be heard
	over  bool    // it has ended, or is about to
	seen  []span  // by the room's senders
}

// known is what one member has heard of a visit.
type known uint8

const (
	knowsAdd known = 1 << iota
	knowsLeave
)

// span is what a comer has seen of one sender: whatever it begins with, no hole.
type span struct {
	stream
	first uint32
}

func (w *comers) begin(c *crowd, m *meter) {
	w.crowd, w.m, w.start = c, m, m.start
	w.dice = rand.New(rand.NewPCG(1, 2))
	c.announced = w.told
}

// pace brings up who is due at now, and sends on their way those who have stayed long enough.
func (w *comers) pace(now int64) {
	for range turnEvents {
		due := w.start + int64(float64(len(w.all))*1e9/w.rate)
		if w.stop || due > now {
			break
		}
		w.come(due)
	}
	for len(w.stays) > 0 && w.stays[0].until <= now {
		c := w.stays[0].comer
		w.stays = w.stays[1:]
		c.goOn()
	}
}

// come connects the next comer.
func (w *comers) come(due int64) {
	r := w.crowd.run
	n := len(w.all)
	c := &comer{comers: w, number: n, due: due, abrupt: w.dice.Float64() < w.abrupt}
	c.plan(w.crowd.rooms[n%len(w.crowd.rooms)])
	w.all = append(w.all, c)
	i := len(w.crowd.members) + n
	c.way = r.wayOf(i)
	if err := r.connect(i, c); err != nil {
		c.cancel()
		w.stop = true
		r.faults().reason("%v", err)
		return
	}
	w.present++
}

// Names of comers are equally long, and like nothing else that a body of onAdd or onLeave holds.
const (
	comerStart  = "zz"
	comerDigits = 7
)

func (c *comer) name() string { return fmt.Sprintf("%s%0*d", comerStart, comerDigits, c.number) }

// plan notes a visit that is about to begin.
func (c *comer) plan(r *room) {
	v := &visit{room: r, heard: make([]known, len(r.members)), left: 2 * len(r.members), seen: make([]span, len(r.senders))}
	c.unheard += int64(v.left)
	c.visits = append(c.visits, v)
}

// cancel takes the last plan back: the server said no, or was never asked.
func (c *comer) cancel() {
	v := c.visits[len(c.visits)-1]
	if v.left != 2*len(v.heard) {
		c.strange("%s was refused, yet others heard of it", c.name())
	}
	c.unheard -= int64(v.left)
	c.visits = c.visits[:len(c.visits)-1]
}

func (w *comers) strange(format string, args ...any) {
	w.crowd.run.faults().Strange++
	w.crowd.run.faults().reason(format, args...)
}

func (c *comer) ready(conn *conn) {
	c.conn = conn
	c.enter()
}

func (c *comer) enter() {
	v := c.visits[len(c.visits)-1]
	c.asked = c.conn.request(routeEnter, fmt.Appendf(nil, `{"username":%q,"rid":%q}`, c.name(), v.room.name))
}

func (c *comer) answered(_ *conn, id uint32, body []byte) {
	now := c.crowd.run.driver.now
	if id != c.asked || c.asked == 0 {
		c.strange("answer %d to %s, who had asked %d", id, c.name(), c.asked)
		return
	}
	c.asked = 0
	switch in := strings.HasPrefix(string(body), `{"users":[`); {
	case in && len(c.visits) == 1:
		c.came(now)
	case in:
		c.switches++
	default:
		c.refused++
		c.cancel()
		if len(c.visits) > 0 {
			c.visits[0].over = false
		}
	}
	c.stays = append(c.stays, stay{now + int64(c.stay), c})
}

// came notes that it is in. Its time counts from when it was due, so that a server that stalls hides nothing.
func (c *comer) came(now int64) {
	if m := c.m; m.begun && now >= m.from && now < m.till {
		c.joins++
	}
	if m := c.m; m.begun && c.due >= m.from && c.due < m.till {
		c.took.record(now - c.due)
	}
}

// goOn switches to the next room, or leaves.
func (c *comer) goOn() {
	if c.conn.state == ended {
		return
	}
	if n := len(c.visits); n == 1 && c.dice.Float64() < c.switching && !c.stop {
		rooms := c.crowd.rooms
		c.visits[0].over = true
		c.plan(rooms[(slices.Index(rooms, c.visits[0].room)+1)%len(rooms)])
		c.enter()
		return
	}
	c.part()
	if c.leaving = true; c.abrupt {
		c.conn.reset()
		c.present--
		return
	}
	c.conn.leave()
}

// part ends the visit that is under way.
func (c *comer) part() {
	if n := len(c.visits); n > 0 {
		c.visits[n-1].over = true
	}
}

// ended: only who leaves may end.
func (c *comer) ended(sink) bool {
	c.present--
	c.part()
	return c.leaving
}

// pushed checks what a comer gets of the traffic while it is there. Whoever else comes and goes is not its concern.
func (c *comer) pushed(_ *conn, route, body []byte) {
	w, f := c.crowd, c.crowd.run.faults()
	k, ok := findMark(body)
	if !ok && (string(route) == "onAdd" || string(route) == "onLeave") {
		return
	}
	if !ok || k.sender >= len(w.senders) {
		c.strange("push to %s that belongs to no message: %.80q", c.name(), body)
		return
	}
	s := w.senders[k.sender]
	for _, v := range c.visits {
		if v.room != s.member.room {
			continue
		}
		if x := &v.seen[s.slot]; x.take(k.number, f) {
			c.deliveries++
			if x.n == 1 {
				x.first = k.number
			}
		}
		return
	}
	c.strange("%s got a message of a room in which it never was", c.name())
}

// told takes an onAdd or onLeave that a member of the crowd got.
func (w *comers) told(m *member, route, body []byte) {
	v := w.visit(m.room, body)
	if v == nil {
		w.strange("%s of nobody who came: %.80q", route, body)
		return
	}
	f, what := w.crowd.run.faults(), knowsLeave
	if string(route) == "onAdd" {
		what = knowsAdd
	}
	if v.heard == nil || v.heard[m.place]&what != 0 {
		f.Duplicated++
		f.reason("%s twice: %.80q", route, body)
		return
	}
	h := &v.heard[m.place]
	switch *h |= what; {
	case what == knowsAdd && *h&knowsLeave != 0:
		f.Disordered++
		f.reason("onAdd behind its onLeave: %.80q", body)
	case what == knowsLeave && !v.over:
		w.strange("onLeave of one who is there: %.80q", body)
	}
	w.unheard--
	if v.left--; v.left == 0 {
		v.heard = nil
	}
}

// visit finds the visit to a room that a push is about; nil: there is none.
func (w *comers) visit(r *room, body []byte) *visit {
	_, rest, ok := bytes.Cut(body, []byte(comerStart))
	if !ok || len(rest) < comerDigits {
		return nil
	}
	n, err := strconv.ParseUint(string(rest[:comerDigits]), 10, 32)
	if err != nil || n >= uint64(len(w.all)) {
		return nil
	}
	for _, v := range w.all[n].visits {
		if v.room == r {
			return v
		}
	}
	return nil
}

// drain lets nobody else come, and waits until all have gone and everybody has heard of it.
func (w *comers) drain() error {
	w.stop = true
	r := w.crowd.run
	for last, since := int64(-1), clock(); w.present > 0 || w.unheard > 0; {
		if _, err := r.driver.turn(max(r.pause, time.Millisecond)); err != nil {
			return err
		}
		now := clock()
		w.pace(now)
		if left := w.unheard + int64(w.present); left != last || len(w.stays) > 0 {
			last, since = left, now
		} else if now-since > int64(r.patience) {
			break
		}
	}
	return nil
}

// check counts, once all is quiet, what has not come.
func (w *comers) check() {
	f := w.crowd.run.faults()
	if w.unheard > 0 {
		f.Lost += w.unheard
		f.reason("%d onAdd and onLeave did not reach members", w.unheard)
	}
	if w.present > 0 {
		f.reason("%d who came still had their connection, or no answer, after %v", w.present, w.crowd.run.patience)
	}
	if w.joins == 0 {
		f.reason("nobody came in the window")
	}
	for _, c := range w.all {
		for _, v := range c.visits {
			v.check(f)
		}
	}
}

// check counts holes in what a comer saw. Of a sender that was refused something, nobody knows where the hole belongs.
func (v *visit) check(f *faults) {
	for slot, x := range v.seen {
		if hole := int64(x.last) - int64(x.first) + 1 - int64(x.n); x.n > 0 && hole > 0 && v.room.senders[slot].refused == 0 {
			f.Lost += hole
			f.reason("%d messages did not reach one who came", hole)
		}
	}
}
