package router

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// loop is the part of a node that one event loop owns: sessions, rooms as far as they have members here, and the partitions that
// run here. It implements netpoll.Handler.
type loop struct {
	// Static after construction.
	node  *Node
	np    *netpoll.Loop
	index int

	// Safe from any goroutine.
	mail      *netpoll.Mailbox[mail]
	mailBytes atomic.Int64 // in mail
	inbox     atomic.Int64 // weight (channel.Request.Weight) of the requests in mail; it decides what is admitted
	paced     uint64       // Node.policies, when rooms here were last made to follow them
	announced uint32       // tick at which the fleet was last told of this node's program
	backlog   atomic.Int64 // in the logs of groups, as last published

	// Owned by the loop.
	limits     Limits // a copy of Node.limits
	sessions   []*[slabSessions]session
	extras     []*extra
	rooms      rooms
	worker     *channel.Worker              // the partitions that run here; reached by their inlets only
	arriving   map[uint16][]channel.Request // by partition on its way here: what waits for it
	requests   []channel.Request            // that wait for this loop's worker, while it is at work (catchUp)
	current    call                         // the one a handler is carrying out
	running    bool                         // the worker decides, or what one has decided is being carried out
	serial     uint32                       // numbers requests
	scratch    []byte
	inflater   codec.Inflater
	inflated   []byte     // the body that it made
	text       []byte     // of a socket.io message that is being handled
	packet     []byte     // short packets of ours
	transports []int64    // sessions, by transport
	turned     func()     // ends each slice of mail, where the worker's decisions are kept back (Workers); nil otherwise
	protocols  []protocol // by protocolID. Static after construction
	endpoints  []endpoint // of these. Static after construction
	http       *httpServer
	polls      polls
	carriers   carriers
	counters   counters
	limiter    limiter
}

// mail is what other goroutines send to a loop: an item, a request, or something to run.
type mail struct {
	item    channel.Item
	request *channel.Request
	run     func()
	weight  int64 // bytes, as counted in mailBytes
}

// postRun has the loop run f, which keeps weight bytes alive. Safe from any goroutine.
func (l *loop) postRun(weight int, f func()) {
	l.mailBytes.Add(int64(weight))
	l.mail.Post(mail{run: f, weight: int64(weight)})
}

// busy tells whether more waits for the loop, or for the sockets of its rooms, than should. Safe from any goroutine.
func (l *loop) busy() bool {
	return l.mailBytes.Load()+l.backlog.Load() > int64(l.node.limits.Load().LoopBytes)
}

// addr names a conn for workers.
func (l *loop) addr(c *netpoll.Conn) channel.Addr {
	return channel.Addr{Node: l.node.id, Ref: channel.Ref(c.ID(l.np))}
}

// byAddr is the session that an address names, or nil when it has ended.
func (l *loop) byAddr(a channel.Addr) *session {
	if a.Node != l.node.id {
		return nil
	}
	if c := l.np.Find(netpoll.ID(a.Ref)); c != nil {
		return l.session(c)
	}
	return nil
}

// Turn implements netpoll.Handler.
func (l *loop) Turn() {
	l.rooms.tellVolatile()
	n, deadline := 0, int64(0)
	more := l.mail.Drain(mailSlice, func(m *mail) {
		if n == 0 { // not since the turn began: newcomers and handshakes may have taken longer than that
			deadline = l.np.Nanos() + mailNanos
		}
		l.mailBytes.Add(-m.weight)
		switch {
		case m.request != nil:
			l.inbox.Add(-m.request.Weight())
			(*ownInlet)(l).Post(*m.request)
		case m.run != nil:
			l.run(m.run)
		default:
			l.running = true
			l.apply(&m.item)
			l.catchUp()
		}
		if n++; n%mailLook == 0 && l.np.Nanos() > deadline {
			l.mail.EndSlice()
		}
	})
	if l.turned != nil {
		l.run(l.turned)
	}
	if more {
		l.np.Ring()
	}
}

// A turn carries out mailSlice pieces of mail at most, and fewer when they have taken mailNanos, as those with long contents do: other clients wait for the loop
// too. The clock is looked at behind each mailLook of them.
const (
	mailSlice = 256
	mailNanos = 1_000_000
	mailLook  = 8
)

// Tick implements netpoll.Handler: time passes for the partitions that want it to.
func (l *loop) Tick() {
	l.announce()
	if l.paced != l.node.policies.Load() || l.worker.LimitsWait() {
		l.run(l.followPolicies)
	}
	if due := l.worker.Due(); due != 0 && due <= l.np.Nanos() {
		l.run(l.tick)
		l.postRun(0, l.Tick) // there may be more than is done at once
	}
}

// run carries out what another goroutine asked for; a panic costs only that.
func (l *loop) run(f func()) {
	defer func() {
		if p := recover(); p != nil {
			l.counters.panics++
			slog.Error("panic on an event loop", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	f()
}

// submit posts a session's request to the owner of its room and notes that an answer is due. When the owner has
// too much to do already, nothing is posted and the session gets the refusal (docs/ARCHITECTURE.md, "What is bounded").
func (l *loop) submit(s *session, c *call, req channel.Request) bool {
	in := l.inlet(req.Part)
	if in.Full() {
		l.counters.busy++
		l.answer(s, c, req.Op.RefusedBody())
		return false
	}
	req.From = l.addr(s.conn)
	req.Req = l.await(s, c, req.Op, req.Op.RefusedBody(), l.patience(req.Part)) // notifies as well: they need credits
	in.Post(req)
	return true
}

// patience is how many seconds the owner of a partition has to answer.
func (l *loop) patience(part uint16) uint32 {
	if l.elsewhere(part) {
		return l.limits.RequestSeconds + elsewhereSeconds
	}
	return l.limits.RequestSeconds
}

// submitEnter is submit for an enter. uid is user*room, of which the request's names are parts: who the session will be.
func (l *loop) submitEnter(s *session, c *call, req channel.Request, uid string, who *identity) {
	x := l.extra(s)
	l.keepKey(s, req.Key)
	req.Near = l.node.access.near(s.conn.Peer().Addr())
	x.entering, x.star, x.rename, x.enters = uid, uint8(len(req.User)), req.Prev != "", who // first: the answer may come before submit returns
	if !l.submit(s, c, req) {
		x.entered()
		l.tidy(s)
	}
}

// await notes that an answer to c is due, and returns our number for it.
func (l *loop) await(s *session, c *call, op channel.Op, refusal []byte, seconds uint32) uint32 {
	x := l.extra(s)
	x.pending = append(x.pending, pending{
		req: l.number(), id: c.id, idBytes: c.idBytes, op: op, route: c.route, refusal: refusal, due: l.np.Now() + seconds,
	})
	l.schedule(s)
	return l.serial
}

// number is a new number of a request; never 0.
func (l *loop) number() uint32 {
	if l.serial++; l.serial == 0 {
		l.serial = 1
	}
	return l.serial
}

// tick lets time pass for this loop's partitions.
func (l *loop) tick() {
	l.running = true
	defer l.catchUp()
	l.worker.Tick()
}

// catchUp lets this loop's worker handle the loop's own requests, and those that come meanwhile. What it decides is carried out as it is
// posted; requests that this leads to wait, so nothing here is re-entered.
func (l *loop) catchUp() {
	l.running = true
	defer func() { l.running = false }()
	for i := 0; i < len(l.requests); i++ {
		l.execute(&l.requests[i])
	}
	clear(l.requests)
	l.requests = l.requests[:0]
}

// apply carries out one decision of a worker. A panic costs the session it is for, or the room's members here, as they
// would miss a push.
func (l *loop) apply(it *channel.Item) {
	defer l.rescue(it)
	switch it.Kind {
	case channel.ItemPush:
		l.pushRoom(it)
		return
	case channel.ItemVolatile:
		l.pushVolatile(it)
		return
	case channel.ItemEnter:
		l.renewRoom(it)
	}
	if it.To.Asker() {
		switch it.Kind {
		case channel.ItemReply:
			l.node.asks.answer(it)
		case channel.ItemDirect:
			l.node.broadcast(it.Push)
		}
		return
	}
	if s := l.byAddr(it.To); s != nil && s.phase != ended { // else its leave is on the way to the worker
		l.applyTo(s, it)
	}
}

// applyTo carries out a decision about one session.
func (l *loop) applyTo(s *session, it *channel.Item) {
	switch it.Kind {
	case channel.ItemEnter:
		if it.Req == 0 {
			l.tellReturned(s, it, s.nameOf(it.Room))
		} else if s.inflight() > 0 && s.x.pending[0].req == it.Req { // an enter waits until nothing is in flight, and everything waits for it
			l.entered(s, it)
			l.finish(s, it.Body, it.End())
			l.endBanned(s)
		} else if c := s.changing(); c != nil && c.req == it.Req {
			l.changed(s, it)
		}
	case channel.ItemLeave: // it has another name in the room by now, or is another user, of which it is told next
		if i := s.furtherIn(it.Room); i >= 0 {
			l.rooms.remove(s, i)
		} else if s.room != nil && s.room.id == it.Room {
			l.rooms.exit(s)
		}
	case channel.ItemReply:
		if s.x != nil && s.x.login != nil && s.x.login.claim == it.Req {
			l.claimed(s, it.Body)
		} else if c := s.changing(); c != nil && c.req == it.Req {
			l.refused(s, it.Body)
		} else if !l.bound(s, it) {
			l.takeAnswer(s, it)
		}
	case channel.ItemDirect:
		if it.Room == 0 && s.phase == working || s.in(it.Room) { // it may have switched rooms meanwhile
			l.pushTo(s, it.Push)
			if it.Push.Seq != 0 { // said before: nothing else that is for one alone has a number
				l.limiter.spendRead(&s.meter, len(it.Push.Body))
			}
		}
	case channel.ItemKick:
		if it.Room == 0 || s.in(it.Room) {
			l.kicked(s, it)
		}
	}
}

func (l *loop) rescue(it *channel.Item) {
	p := recover()
	if p == nil {
		return
	}
	l.counters.panics++
	slog.Error("panic while carrying out a room's decision; whom it was for is disconnected", "kind", it.Kind, "room", it.Room, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if r := l.rooms.byID[it.Room]; r != nil && it.Kind == channel.ItemPush {
		l.endRoom(r)
	} else if s := l.byAddr(it.To); s != nil {
		l.np.Kill(s.conn, netpoll.ReasonPanic)
	}
}

// takeAnswer takes the answer to a request. One that comes before the answer to an older request waits for it; one that was given up
// comes too late.
func (l *loop) takeAnswer(s *session, it *channel.Item) {
	for i := range s.inflight() {
		p := &s.x.pending[i]
		if p.req != it.Req || p.body != nil {
			continue
		}
		if p.op == channel.OpHistory || p.op == channel.OpMembers {
			l.limiter.spendRead(&s.meter, len(it.Body))
		}
		if i == 0 {
			if p.op == channel.OpEnter && bytes.Equal(it.Body, channel.EnterUnknown) {
				l.forsake(s, s.x.entering, s.x.star)
			}
			l.finish(s, it.Body, it.End())
			return
		}
		p.body, p.due = append(slices.Clip(it.Body), it.End()...), neverDue
		return
	}
}

// endBanned ends s if its user was banned since it asked to enter.
func (l *loop) endBanned(s *session) {
	if s.room != nil && l.node.moderator.bans(s.user(), s.conn.Peer().Addr()) {
		l.kick(s, whyBanned)
	}
}

// entered makes s a member of the room that its client has asked to enter.
func (l *loop) entered(s *session, it *channel.Item) {
	x := s.x
	if x.enters != nil {
		l.identifyAs(s, x.enters)
	}
	l.arrive(s, it, x.entering, x.star, x.rename, x.joins)
}

// arrive makes s a member of a room here, as whom uid and star say. Only now it leaves the rooms that it was in, so a refused switch changes nothing;
// unless it only has another name (rename), or joins one more.
func (l *loop) arrive(s *session, it *channel.Item, uid string, star uint8, rename, joins bool) {
	if joins && s.room != nil {
		if !s.in(it.Room) {
			l.rooms.add(s, it, uid)
		}
		l.tellMoved(s, app.Switched)
		l.tellReturned(s, it, uid[int(star)+1:])
		return
	}
	if s.room != nil {
		for i := len(s.further()) - 1; i >= 0; i-- {
			if r := s.rare.further[i].room; r.id != it.Room { // else that is where it arrives, and it stays a member
				l.leave(it.To, s.user(), s.furtherName(i), r.id.Partition(), channel.Request{})
			}
			l.rooms.remove(s, i)
		}
		if !rename && s.room.id != it.Room {
			l.leave(it.To, s.user(), s.roomName(), s.room.id.Partition(), channel.Request{})
		}
		l.rooms.exit(s)
	}
	s.uid, s.star = uid, star
	l.rooms.join(s, it)
	l.tellMoved(s, app.Switched)
	l.tellReturned(s, it, s.roomName())
	l.tellCame(s)
}

// Passed implements netpoll.Handler: workers, also those of other loops, learn how much there is to write here.
func (l *loop) Passed() {
	if n := int64(l.np.Backlog()); n != l.backlog.Load() {
		l.backlog.Store(n)
	}
	l.rooms.recheckCrowded()
}

// Data implements netpoll.Handler.
func (l *loop) Data(c *netpoll.Conn, b []byte) (used int, next netpoll.Transfer) {
	s := l.session(c)
	used = l.data(s, b)
	if s.x != nil {
		next = l.transfer(s)
	}
	l.keepInput(s)
	return used, next
}

// keepInput tells the conn's loop how much is kept of what s has sent, and since when its client owes the rest.
func (l *loop) keepInput(s *session) {
	kept, since := 0, uint32(0)
	if x := s.x; x != nil {
		kept, since = x.ws.Kept()+cap(x.stash), x.begun
	}
	if s.rare != nil {
		kept += len(s.rare.token)
	}
	l.np.Keep(s.conn, kept, since)
}

// data gives bytes to the protocols that s speaks, one after the other.
func (l *loop) data(s *session, b []byte) (used int) {
	for {
		proto := s.proto
		switch {
		case s.phase == ended:
			return len(b)
		case s.leaving():
			return used
		}
		if used += l.protocols[proto].data(s, b[used:]); s.proto == proto && s.phase != ended {
			return used
		}
	}
}
