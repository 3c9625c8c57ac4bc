package cluster_test

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/codec"
)

// client is somebody who enters rooms, says things to all or to one, leaves, is cut, and comes back, by another connector too.
type client struct {
	w       *world
	id      int
	plain   bool // it cannot prove who it is, so it waits until its old session is gone
	name    string
	part    uint16
	next    int64 // when it does something, ms
	since   int64 // when it began to enter
	s       *session
	pending []*said
	keep    bool      // it comes back to the same room with the same name
	heard   codec.Seq // how far it has come, if it is extended
	last    *seat     // where it was told that
	all     []*session
}

// session is a session of a client on a connector.
type session struct {
	c        *client
	p        *proc
	ref      channel.Ref
	node     channel.Node // its connector
	name     string
	part     uint16
	room     channel.RoomID // 0: not in yet
	req      uint32         // the last one
	enter    uint32         // of the enter
	ended    bool
	left     bool // its leave was posted
	cut      bool // it was cut off, and did not say goodbye
	followed bool // a later one has its place
	toldBack bool // and programs have said so since they said that it is away
	seat     *seat
}

// seat is a membership, as its client saw it.
type seat struct {
	s        *session
	part     uint16
	name     string
	from     int64  // since when it was told all that was said
	enter    int64  // since when its session was there
	end      int64  // 0: not yet
	by       bool   // the client ended it itself
	why      string // else
	list     map[string]bool
	got      map[int]bool
	lastFrom map[*session]int
	seq      uint64
	gone     map[int]bool         // what it was told is deleted
	latest   *said                // of what it was pushed
	ticks    map[channel.Node]int // the last volatile push of a node
	ticked   map[int]bool         // all of them
	back     map[int]bool         // who is back, as programs say: false where one is away again behind that
}

// said is something a client has sent.
type said struct {
	number int
	s      *session
	part   uint16
	target string
	at     int64
	done   int64 // when it was acknowledged; 0: it was not
	req    uint32
	node   channel.Node // the sender's
	// members are the sessions that were there, as the owner knew when it decided that answer, and had those that the answer was of.
	members map[replyKey][]*session
	had     []*session
	place   [2]uint64 // where it came in the room: room and number
	deletion
}

// replyKey names an answer, whoever delivers it in the end.
type replyKey struct {
	epoch cluster.ViewID
	node  channel.Node
	n     uint64
}

// saidIn is what a client said that led to records and items; nil: they are of something else.
func (w *world) saidIn(records []channel.Record, items []channel.Item) *said {
	for i := range records {
		if r := &records[i]; r.Kind == channel.RecordLetter {
			return w.sends[numberIn(r.Body)]
		}
	}
	for i := range items {
		if it := &items[i]; it.Push != nil && it.Push.Route == "onChat" {
			return w.sends[numberIn(it.Push.Body)]
		}
	}
	return nil
}

// roster is who is in the room of a partition that a process owns. To ask the state for each message would take most of a run's time.
func (p *proc) roster(part uint16) map[string]channel.Addr {
	if p.rosters[part] == nil {
		p.rosters[part] = members(p.worker.State(nil, part))
	}
	return p.rosters[part]
}

// enrol notes who comes and goes.
func (p *proc) enrol(part uint16, records []channel.Record) {
	list := p.rosters[part]
	for i := range records {
		switch r := &records[i]; {
		case list == nil:
		case r.Kind == channel.RecordAdd, r.Kind == channel.RecordReplace:
			list[r.User] = r.Addr
		case r.Kind == channel.RecordAway:
			list[r.User] = channel.Addr{}
		case r.Kind == channel.RecordRemove:
			delete(list, r.User)
		}
	}
}

// membersOf are the sessions that must get m, as the owner that executes it has them.
func (w *world) membersOf(m *said, members map[string]channel.Addr) (list []*session) {
	for name, a := range members {
		if m.target != channel.Everybody && name != m.target {
			continue
		}
		for _, p := range w.procs {
			if p.up && p.node.Self() == a.Node && p.byRef[a.Ref] != nil {
				list = append(list, p.byRef[a.Ref])
			}
		}
	}
	return list
}

// step lets a client do what it does next.
func (c *client) step() {
	switch {
	case c.s == nil:
		c.begin()
	case c.s.room == 0:
		c.next = c.w.now + 50
		if c.s.patience(c.since) {
			c.hangUp()
		}
	default:
		c.talk()
	}
}

// serving are the connectors that take clients.
func (w *world) serving() (open []*proc) {
	for _, p := range w.procs {
		if p.serves() {
			open = append(open, p)
		}
	}
	return open
}

// begin enters a room by some connector.
func (c *client) begin() {
	w := c.w
	if w.now > simStop {
		return
	}
	c.next = w.now + 200
	open := w.serving()
	if len(open) == 0 {
		w.sums["no connector"]++
		return
	}
	p := open[w.rng.IntN(len(open))]
	if c.name == "" || !c.keep && w.rng.IntN(3) > 0 {
		c.name, c.part = fmt.Sprint("u", w.rng.IntN(26)), uint16(w.rng.IntN(simParts))
		if w.rng.IntN(2) == 0 {
			c.part = uint16(w.rng.IntN(2))
		}
	}
	c.keep = false
	c.enter(p)
}

// key proves that two sessions are the client's; 0: nothing does.
func (c *client) key() uint64 {
	if c.plain {
		return 0
	}
	return uint64(c.id + 1)
}

// enter enters the client's room by a connector.
func (c *client) enter(p *proc) {
	w := c.w
	p.refs++
	s := &session{c: c, p: p, ref: p.refs, node: p.node.Self(), name: c.name, part: c.part}
	p.sessions = append(p.sessions, s)
	p.byRef[s.ref] = s
	c.s, c.since, c.next = s, w.now, w.now+50
	c.all = append(c.all, s)
	r := s.request(channel.OpEnter)
	r.User = c.name
	r.Key = c.key()
	if w.returns {
		c.returning(r)
	}
	s.enter = r.Req
	if err := p.post(r); err != nil {
		s.end("refused: not sent", false)
		s.left = true
	}
}

// talk says something, or goes.
func (c *client) talk() {
	w, s := c.w, c.s
	c.next = w.now + 20 + int64(w.rng.IntN(300))
	for _, m := range c.pending {
		if s.patience(m.at) {
			c.hangUp()
			return
		}
	}
	if w.now > simStop || !s.p.running() {
		return
	}
	switch z := w.rng.IntN(100); {
	case z < 75 && len(c.pending) < 3:
		target := channel.Everybody
		if z < 18 {
			target = c.somebody()
		}
		c.say(target)
	case z >= 80 && z < 90 && w.programs != nil:
		s.pushes()
	case z == 90 && w.returns && s.seat.latest != nil:
		s.deletes(s.seat.latest)
	case z >= 97:
		w.sums["leaves"]++
		c.hangUp()
	case z == 96 || w.returns && z > 91:
		w.sums["cuts"]++
		c.keep, s.cut = true, w.returns
		if c.hangUp(); w.returns {
			c.next = w.now + c.rests()
		}
	}
}

// patience tells whether a client has waited for too long. It must not have to while its connector is well.
func (s *session) patience(since int64) (over bool) {
	w := s.p.w
	if w.now-since <= 8000 {
		return false
	}
	w.sums["clients who gave up"]++
	if w.now-s.p.sick > 8000 {
		w.violation("client %d at %s, which is well, has waited since %d", s.c.id, s.p.name, since)
	}
	return true
}

// somebody is one of those whom the client knows to be there.
func (c *client) somebody() string {
	names := make([]string, 0, len(c.s.seat.list))
	for name := range c.s.seat.list {
		names = append(names, name)
	}
	slices.Sort(names)
	return names[c.w.rng.IntN(len(names))]
}

// say says something to all or to one.
func (c *client) say(target string) *said {
	w, s := c.w, c.s
	m := &said{number: len(w.sends), s: s, part: s.part, target: target, at: w.now, node: s.p.node.Self(), members: map[replyKey][]*session{}}
	w.sends = append(w.sends, m)
	r := s.request(channel.OpSend)
	r.User, r.Target, r.Content = c.name, m.target, []byte(strconv.Quote(strconv.Itoa(m.number)+w.pad))
	m.req = r.Req
	if err := s.p.post(r); err != nil {
		w.sums["refused, not sent"]++
		return m
	}
	c.pending = append(c.pending, m)
	return m
}

// hangUp ends the client's session.
func (c *client) hangUp() {
	s := c.s
	s.end("", true)
	switch {
	case s.p.running():
		s.leave()
	case s.p.up:
		s.p.closed = append(s.p.closed, s)
	}
}

// request is the session's next request, without what is special.
func (s *session) request(op channel.Op) *channel.Request {
	s.req++
	r := &channel.Request{Op: op, Part: s.part, Req: s.req, From: channel.Addr{Node: s.p.node.Self(), Ref: s.ref}, Room: simRooms[s.part]}
	return r
}

func (p *proc) post(r *channel.Request) error {
	p.woken = true
	p.w.cells.request(p, r)
	return p.node.Request(r, p.mono())
}

// leave posts the session's leave, whose end the client has seen or not.
func (s *session) leave() {
	if s.left || s.p.byRef[s.ref] != s {
		return
	}
	s.left = true
	told := s.away()
	r := s.request(channel.OpLeave)
	r.Req, r.User = 0, s.name
	if told {
		r.Key = s.c.key()
	}
	if s.p.w.returns {
		s.cutOff(r)
	}
	if err := s.p.post(r); err != nil {
		s.p.w.violation("a leave is refused: %v", err)
	}
}

// end notes that the session has ended for its client.
func (s *session) end(why string, by bool) {
	if s.ended {
		return
	}
	w := s.p.w
	s.ended = true
	if s.seat != nil {
		s.seat.end, s.seat.why, s.seat.by = w.now, why, by
	}
	if !by {
		w.sums["ended: "+why]++
	}
	if c := s.c; c.s == s {
		c.s, c.pending = nil, nil
		c.next = w.now + 50 + int64(w.rng.IntN(500))
	}
}

// refused ends a request without an answer.
func (s *session) refused(r *channel.Request, sent bool) {
	w := s.p.w
	w.sums[map[bool]string{false: "refused, not sent", true: "timeouts"}[sent]]++
	if r.Op == channel.OpEnter {
		s.end("its enter was not answered", false)
		if sent {
			s.leave()
		}
		return
	}
	s.answered(r.Req, false, replyKey{})
}

// answered takes the answer to a send.
func (s *session) answered(req uint32, ok bool, key replyKey) {
	c, w := s.c, s.p.w
	if c.s != s {
		return
	}
	for i, m := range c.pending {
		if m.req != req {
			continue
		}
		c.pending = slices.Delete(c.pending, i, i+1)
		if !ok {
			w.sums["refused"]++
			return
		}
		m.done = w.now
		had, ok := m.members[key]
		if m.had = had; !ok {
			w.violation("%d of client %d is acknowledged, and nobody has executed it", m.number, c.id)
		}
		w.sums["acknowledged sends"]++
		if m.target == channel.Everybody && !s.seat.got[m.number] {
			w.violation("client %d has the answer to %d before the message", c.id, m.number)
		}
		return
	}
	w.sums["late answers"]++
}

// Items are what the node's sessions get.
func (p *proc) Items(part uint16, items []channel.Item) {
	for i := range items {
		p.item(part, &items[i])
	}
}

func (p *proc) item(part uint16, it *channel.Item) {
	if it.Kind == channel.ItemPush || it.Kind == channel.ItemVolatile {
		for _, s := range p.sessions {
			switch {
			case s.ended || s.room != it.Room:
			case it.Kind == channel.ItemVolatile:
				s.ticks(it)
			default:
				s.push(it)
			}
		}
		return
	}
	switch it.To.Ref {
	case operatorRef:
		p.w.deleted(it)
		return
	case programRef:
		p.isSet(it)
		return
	case pushRef:
		p.isPushed(it)
		return
	case leadRef:
		p.leads(it)
		return
	}
	if s := p.logins[it.To.Ref]; s != nil {
		s.item(it)
		return
	}
	s := p.byRef[it.To.Ref]
	if s == nil && p.questionAnswered(it) || s == nil || s.ended {
		return
	}
	switch it.Kind {
	case channel.ItemDirect:
		s.hear(it)
	case channel.ItemReply:
		if it.Req != s.enter {
			s.answered(it.Req, bytes.Equal(it.Body, channel.Done), replyKey{it.Epoch, it.To.Node, it.N})
		} else {
			s.end("its enter was refused", false)
			s.left = true
		}
	case channel.ItemEnter:
		if it.Req == 0 {
			s.isTold()
		} else {
			s.enters(it)
		}
	case channel.ItemKick:
		s.end("kicked: "+string(it.Body), false)
	}
}

// enters takes the list of users.
func (s *session) enters(it *channel.Item) {
	w := s.p.w
	if s.room != 0 {
		w.violation("client %d enters twice by one session", s.c.id)
	}
	s.room = it.Room
	s.seat = &seat{s: s, part: s.part, name: s.name, from: w.now, enter: w.now, list: map[string]bool{}, got: map[int]bool{}, gone: map[int]bool{}, lastFrom: map[*session]int{}, seq: it.Seq,
		ticks: map[channel.Node]int{}, ticked: map[int]bool{}, back: map[int]bool{}}
	body, tail, _ := strings.Cut(string(it.Body)+it.End(), "]")
	body = body[len(`{"users":[`):]
	for body != "" {
		end := 1 + bytes.IndexByte([]byte(body[1:]), '"')
		s.seat.list[body[1:end]] = true
		body = body[end+1:]
		if body != "" {
			body = body[1:]
		}
	}
	if !s.seat.list[s.name] || len(s.seat.list) != it.Members() {
		w.violation("client %d enters as %s and gets the list %v, of %d", s.c.id, s.name, s.seat.list, it.Count)
	}
	s.resumes(tail)
	s.c.last = s.seat
	if it.Returns() {
		s.comesBack()
	}
	w.seats = append(w.seats, s.seat)
	w.live = append(w.live, s.seat)
	s.c.next = w.now + 1 + int64(w.rng.IntN(200)) // not in this turn: on a stage nobody does anything by themselves
	w.sums["enters"]++
}

// push takes a push to the room.
func (s *session) push(it *channel.Item) {
	if it.Seq != s.seat.seq+1 {
		s.p.w.violation("client %d gets push %d of room %x after %d", s.c.id, it.Seq, uint64(it.Room), s.seat.seq)
	}
	s.seat.seq = it.Seq
	s.hear(it)
}

// hear takes what a push or a direct message says.
func (s *session) hear(it *channel.Item) {
	w, t := s.p.w, s.seat
	s.notes(it.Push)
	switch it.Push.Route {
	case "onAdd":
		name := field(it.Push.Body, `"user":"`)
		if t.list[name] {
			w.violation("client %d hears that %s comes, who is there", s.c.id, name)
		}
		t.list[name] = true
	case "onLeave":
		name := field(it.Push.Body, `"user":"`)
		if !t.list[name] {
			w.violation("client %d hears that %s goes, who is not there", s.c.id, name)
		}
		delete(t.list, name)
	case "onAway":
		s.goesAway(it)
	case "onReturn":
		s.isBackAgain(it)
	case "onDelete":
		s.unsaid(it.Push)
	case "onChat":
		number := numberIn(it.Push.Body)
		m := w.sends[number]
		if t.got[number] {
			w.violation("client %d gets %d twice", s.c.id, number)
		}
		t.got[number] = true
		if number < t.lastFrom[m.s] {
			w.violation("client %d gets %d after %d of the same sender", s.c.id, number, t.lastFrom[m.s])
		}
		t.lastFrom[m.s] = number
		w.sums["deliveries"]++
		if it.Kind != channel.ItemPush {
			s.repeated(m)
			return
		}
		m.seq = codec.Seq{Incarnation: it.Push.Stream.Incarnation, Number: it.Push.Seq}
		t.latest = m
		place := [2]uint64{uint64(it.Room), it.Seq}
		if m.place != ([2]uint64{}) && m.place != place && (!w.split || w.quorum > 0) {
			w.violation("%d stands at two places of its room: %x and %x", number, m.place, place)
		}
		m.place = place
	}
}

// numberIn is the number of what was said, in a push of it.
func numberIn(body []byte) int {
	text, _, _ := strings.Cut(field(body, `"msg":"`), " ")
	number, _ := strconv.Atoi(text)
	return number
}

func field(body []byte, key string) string {
	_, rest, _ := bytes.Cut(body, []byte(key))
	value, _, _ := bytes.Cut(rest, []byte{'"'})
	return string(value)
}
