package cluster

import (
	"errors"
	"log/slog"
	"math"

	"github.com/pomelod/pomelod/channel"
)

// desk is the bus side of this node's channels to all partitions. It numbers requests and keeps them until the owner says that they were
// executed, sends them again to a new owner, and hands items on in order, each once. Its methods run on the bus side.
type desk struct {
	// Static after construction.
	home    desktop
	post    func(to channel.Node, m *Message)
	full    func(to channel.Node) bool
	timeout int64 // ns

	self      channel.Node
	view      *View
	parts     [channel.Partitions]*counter // nil: nothing was ever asked of the partition
	toConfirm []uint16
	busy      bool  // nothing is confirmed now
	held      bool  // nothing is sent now
	bytes     int64 // of all requests that are kept
	looks     int   // at requests by send and giveUp, for tests
	stats     deskStats
}

// desktop is what a desk asks of the rest of the process: Home, of which it uses this.
type desktop interface {
	Items(part uint16, items []channel.Item)
	Lost(part uint16, why string)
	Refused(r *channel.Request, sent bool)
}

// deskStats count since the start.
type deskStats struct {
	Again    uint64 // requests sent again to a new owner
	Timeouts uint64
	Waited   uint64 // requests that a move, or the wait for the maker's word, kept for too long
	Poison   uint64 // requests at which two owners died
	Known    uint64 // items that came again
	Gaps     uint64
	Fenced   uint64 // messages of who does not own the partition
	NotOwner uint64
	Lost     uint64 // partitions whose owner knows less than this node
	Born     uint64 // partitions that this node knew and that began anew
}

// counter is this node's side of the channel to a partition.
type counter struct {
	born     ViewID
	last     uint64 // the last item that was handed on
	in       uint64 // the last request that is known to be executed
	requests []waiting
	confirm  bool

	// How many of the requests need no look any more, from the first on, so that none is looked at in every turn.
	sent   int    // by send: they were sent under the epoch that is the next field
	under  ViewID // zero: none were
	over   int    // by giveUp: they are older than desk.timeout
	waited int    // by giveUp, where what is not sent waits: they were sent, or given up
}

// waiting is a request that is not known to be executed. The first has the number counter.in+1.
type waiting struct {
	r      channel.Request
	at     int64  // when it came
	sent   ViewID // the epoch under which it was sent last; zero: never
	deaths int    // of owners that had it
}

const (
	// heldWait is how long, in ns, a request that was not sent waits for the node to hear whether it was replaced.
	heldWait = 1000 * ms
	// moveWait is how long it waits for a partition that moves: longer than a maker lets that take, so that nobody is refused for it unless the maker is gone.
	moveWait = 2 * moveWithin
	// deskBytes are the most that requests may take which are not known to be executed. What sets things free is taken beyond it.
	deskBytes = 16 << 20
	// requestWeight is what a request counts beside its strings and content.
	requestWeight = 192
	// poisonDeaths is how many owners a request may have seen die.
	poisonDeaths = 2
)

// errDeskFull is the error of a request for which there is no room. It was not sent.
var errDeskFull = errors.New("the request was not sent: too much waits for the owner of its room already")

// whyLost and whyBorn are what members are told whose partition has lost messages.
const (
	whyLost = "messages were lost; please enter again"
	whyBorn = "the room was lost; please enter again"
)

// newDesk makes the desk of a node that is in no view. full tells whether the link to a node has no room; timeout, in ns, is how long a
// request waits for its answer.
func newDesk(home desktop, post func(to channel.Node, m *Message), full func(to channel.Node) bool, timeout int64) *desk {
	return &desk{home: home, post: post, full: full, timeout: timeout}
}

// restart forgets everything: the node goes on as a new run. What has not left it has certainly not happened; who has asked anything else is told of the end.
func (d *desk) restart() {
	for _, c := range d.parts {
		if c == nil {
			continue
		}
		for i := range c.requests {
			if w := &c.requests[i]; w.sent == (ViewID{}) && w.r.Op != channel.OpNothing && !w.r.Op.Leaves() {
				d.home.Refused(&w.r, false)
			}
		}
	}
	*d = desk{home: d.home, post: d.post, full: d.full, timeout: d.timeout, stats: d.stats}
}

// at is the counter of a partition, which begins when it is first asked for.
func (d *desk) at(part uint16) *counter {
	if d.parts[part] == nil {
		d.parts[part] = &counter{born: d.view.Shares[part].Born}
	}
	return d.parts[part]
}

// request numbers a request and sends it to the owner of its partition. It keeps r and what r refers to. What is Sheddable is refused when
// there is no room; everything else is taken.
func (d *desk) request(r *channel.Request, now int64) error {
	if d.view == nil {
		return errDeskFull
	}
	weight := weightOfRequest(r)
	if owner := d.view.Node(d.view.Shares[r.Part].Owner); r.Sheddable() && (d.bytes+weight > deskBytes || owner != 0 && owner != d.self && d.full(owner)) {
		return errDeskFull
	}
	c := d.at(r.Part)
	w := waiting{r: *r, at: now}
	w.r.N = c.in + uint64(len(c.requests)) + 1
	w.r.From.Node = d.self
	c.requests = append(c.requests, w)
	d.bytes += weight
	d.send(r.Part)
	return nil
}

func weightOfRequest(r *channel.Request) int64 {
	return requestWeight + int64(len(r.Room)+len(r.User)+len(r.Prev)+len(r.Target)+len(r.Route)+len(r.Content))
}

// hold says whether the node does not know whether it was replaced. As long as that is so everything waits, in its order.
func (d *desk) hold(held bool) {
	before := d.held
	if d.held = held; !before || held {
		return
	}
	for part, c := range d.parts {
		if c != nil {
			d.send(uint16(part))
		}
	}
}

// send sends what the owner has not been sent. While the partition moves everything waits.
func (d *desk) send(part uint16) {
	c, s := d.parts[part], &d.view.Shares[part]
	owner := d.view.Node(s.Owner)
	if c == nil || owner == 0 || d.held || s.Moving != (ViewID{}) {
		return
	}
	if c.under != s.Epoch {
		c.sent, c.under = 0, s.Epoch
	}
	for ; c.sent < len(c.requests); c.sent++ {
		d.looks++
		if w := &c.requests[c.sent]; w.sent != s.Epoch {
			if w.sent != (ViewID{}) {
				d.stats.Again++
			}
			w.sent = s.Epoch
			d.post(owner, &Message{Kind: KindRequest, Part: part, Epoch: s.Epoch, Request: w.r})
		}
	}
}

// executed forgets requests that the owner has executed.
func (d *desk) executed(c *counter, in uint64) {
	n := 0
	for ; n < len(c.requests) && c.requests[n].r.N <= in; n++ {
		d.bytes -= weightOfRequest(&c.requests[n].r)
	}
	clear(c.requests[:n]) // it keeps content alive
	if c.requests = c.requests[n:]; len(c.requests) == 0 {
		c.requests = nil
	}
	c.in = max(c.in, in)
	c.sent, c.over, c.waited = max(0, c.sent-n), max(0, c.over-n), max(0, c.waited-n)
}

// void takes a request out of the way that nobody waits for any more. Its number remains: the owner must not find a gap. Where the request was
// executed already its number says so, and what takes its place is dropped.
func (d *desk) void(w *waiting) {
	d.bytes -= weightOfRequest(&w.r)
	w.r = channel.Request{Op: channel.OpNothing, Part: w.r.Part, N: w.r.N, From: w.r.From}
	d.bytes += weightOfRequest(&w.r)
}

// adopt takes a view that is newer than the last one. self is this node in it.
func (d *desk) adopt(v *View, self channel.Node) {
	old := d.view
	if d.self != self {
		d.restart()
		old = nil
	}
	d.view, d.self = v, self
	for part, c := range d.parts {
		if c == nil {
			continue
		}
		s, before := &v.Shares[part], &old.Shares[part]
		if c.born != s.Born {
			d.bornAnew(uint16(part), c, s.Born)
			continue
		}
		if s.Epoch != before.Epoch && !v.Has(old.Node(before.Owner)) {
			d.ownerDied(c, before.Epoch)
		}
		d.send(uint16(part))
	}
}

// bornAnew begins the channel again: the partition is empty, and nobody knows what came of what was asked.
func (d *desk) bornAnew(part uint16, c *counter, born ViewID) {
	d.stats.Born++
	waited := c.requests
	*c = counter{born: born, confirm: c.confirm}
	for i := range waited {
		w := &waited[i]
		d.bytes -= weightOfRequest(&w.r)
		if w.r.Op != channel.OpNothing && !w.r.Op.Leaves() {
			d.home.Refused(&w.r, w.sent != (ViewID{}))
		}
	}
	d.home.Lost(part, whyBorn)
}

// ownerDied notes at which requests an owner may have died.
func (d *desk) ownerDied(c *counter, epoch ViewID) {
	for i := range c.requests {
		w := &c.requests[i]
		if w.sent != epoch || w.r.Op == channel.OpNothing {
			continue
		}
		if w.deaths++; w.deaths < poisonDeaths || w.r.Op.Leaves() {
			continue
		}
		d.stats.Poison++
		slog.Error("two owners have died while they had this request: it is not sent again", "room", w.r.Room, "op", w.r.Op, "user", w.r.User)
		r := w.r
		d.void(w)
		d.home.Refused(&r, true)
	}
}

// receive takes a message of the owner of a partition. What comes from anybody else, or under another epoch than the view's, is dropped: it
// was decided by who was the owner once.
func (d *desk) receive(from channel.Node, m *Message) {
	if d.view == nil || int(m.Part) >= len(d.view.Shares) {
		return
	}
	if m.Kind == KindNotOwner { // the view under which that is so has come, or will, and brings another epoch
		d.stats.NotOwner++
		return
	}
	if s := &d.view.Shares[m.Part]; m.Epoch != s.Epoch || from != d.view.Node(s.Owner) {
		d.stats.Fenced++
		return
	}
	switch m.Kind {
	case KindServe:
		d.serve(m)
	case KindItems:
		d.items(from, m)
	}
}

// items hands on what has not come before, and notes what was executed.
func (d *desk) items(from channel.Node, m *Message) {
	c := d.at(m.Part)
	d.wantConfirm(m.Part, c)
	items := m.Items
	for len(items) > 0 && items[0].N <= c.last {
		items = items[1:]
		d.stats.Known++
	}
	if len(items) > 0 {
		if items[0].N != c.last+1 {
			d.stats.Gaps++
			d.post(from, &Message{Kind: KindResend, Part: m.Part, Epoch: m.Epoch, Out: c.last})
			return
		}
		c.last = items[len(items)-1].N
		d.home.Items(m.Part, items)
	}
	d.executed(c, m.In)
}

// serve compares what a new owner knows with what this node has seen. An owner that knows less did not have all the records: whatever went
// wrong, members are told, and go on by the owner's numbers.
func (d *desk) serve(m *Message) {
	c := d.parts[m.Part]
	if c == nil && m.In == 0 && m.Out == 0 {
		return // neither has anything
	}
	c = d.at(m.Part)
	d.wantConfirm(m.Part, c)
	if m.Out >= c.last && m.Index <= c.last && m.In >= c.in && m.In <= c.in+uint64(len(c.requests)) {
		d.executed(c, m.In)
		return
	}
	d.stats.Lost++
	slog.Error("the owner of a partition does not know what this node has seen; the members here are asked to enter again",
		"partition", m.Part, "items", c.last, "owner has", m.Out, "keeps after", m.Index, "requests", c.in, "owner executed", m.In)
	c.last, c.in = m.Index, m.In
	for i := range c.requests {
		c.requests[i].r.N = c.in + uint64(i) + 1
		c.requests[i].sent = ViewID{}
	}
	c.under, c.waited = ViewID{}, 0
	d.send(m.Part)
	d.home.Lost(m.Part, whyLost)
}

func (d *desk) wantConfirm(part uint16, c *counter) {
	if !c.confirm {
		c.confirm = true
		d.toConfirm = append(d.toConfirm, part)
	}
}

// turn confirms what was handed on since the last one, and gives up what has waited for too long.
func (d *desk) turn(now int64) {
	if d.view == nil {
		return
	}
	toConfirm := d.toConfirm
	if d.busy {
		toConfirm = nil
	}
	for _, part := range toConfirm {
		c, s := d.parts[part], &d.view.Shares[part]
		c.confirm = false
		if owner := d.view.Node(s.Owner); owner != 0 {
			d.post(owner, &Message{Kind: KindConfirm, Part: part, Epoch: s.Epoch, In: c.in, Out: c.last})
		}
	}
	if !d.busy {
		d.toConfirm = d.toConfirm[:0]
	}
	if d.bytes == 0 {
		return // nothing waits
	}
	for part, c := range d.parts[:len(d.view.Shares)] {
		if c != nil && len(c.requests) > 0 {
			d.giveUp(uint16(part), c, now)
		}
	}
}

// giveUp refuses what has waited for too long. What came first is due first, so it stops at the first that is not.
func (d *desk) giveUp(part uint16, c *counter, now int64) {
	for ; c.over < len(c.requests); c.over++ {
		d.looks++
		w := &c.requests[c.over]
		if now-w.at <= d.timeout {
			break
		}
		d.refuse(w, &d.stats.Timeouts)
	}
	most := int64(math.MaxInt64)
	if d.view.Shares[part].Moving != (ViewID{}) {
		most = moveWait
	}
	if d.held {
		most = min(most, heldWait)
	}
	if most == math.MaxInt64 {
		return
	}
	for c.waited = max(c.waited, c.over); c.waited < len(c.requests); c.waited++ {
		d.looks++
		w := &c.requests[c.waited]
		if w.sent != (ViewID{}) {
			continue
		}
		if now-w.at <= most {
			break
		}
		d.refuse(w, &d.stats.Waited)
	}
}

// refuse gives a request up, and counts it. A leave is never given up.
func (d *desk) refuse(w *waiting, counted *uint64) {
	if w.r.Op == channel.OpNothing || w.r.Op.Leaves() {
		return
	}
	*counted++
	r, sent := w.r, w.sent != (ViewID{})
	d.void(w)
	d.home.Refused(&r, sent)
}
