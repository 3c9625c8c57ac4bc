package router

import (
	"log/slog"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/filter"
	"github.com/pomelod/pomelod/netpoll"
)

// session is one client's protocol state, from the first byte to the end. Plain data, owned by the loop of its conn;
// it lies in a slab of the loop, at the conn's slot.
//
// Idle members are most of what a server has, so a session is small (TestSessionIsSmall). What few sessions have lies behind a pointer: in
// extra what passes, in rare what stays.
type session struct {
	conn      *netpoll.Conn
	room      *room  // nil: not in a room
	x         *extra // nil when there is nothing unusual; pooled
	rare      *rare  // nil: it has nothing of that
	uid       string // user*room while in a room, one string that the worker shares
	star      uint8  // where the star is
	phase     phase
	proto     protocolID // what it speaks
	step      uint8      // what its protocol knows of it besides
	transport transport  // as it is counted
	hops      uint8      // moves to other loops (follow)
	owes      debts      // answers that wait for the next second
	beats     beats      // heartbeats and pings answered in this second
	alive     uint32     // tick until which the client need not be heard of
	variant   variantID  // how it gets what is sent to it (loop.variant)
	meter     meter      // what it has used of its limits
}

// phase is where a session stands. Everything finer is its protocol's (session.proto, session.step).
type phase uint8

const (
	opening phase = iota // it has yet to finish its handshake; a connection that speaks HTTP never does
	working
	ended
)

// become takes s to another phase, and does what belongs to that. Nothing else changes a session's phase.
//
//	opening → working   the App hears of it, and its rates begin
//	working → opening   it leaves its room; Engine.IO clients may go on with another handshake
//	any     → ended     one that polls leaves its room, as its conn stays until somebody fetches the reason. Others do at the end of the conn
func (l *loop) become(s *session, to phase) {
	from := s.phase
	s.phase = to
	switch {
	case to == working:
		l.tellOpened(s)
	case to == opening && from == working:
		l.depart(s, reasonGoodbye)
	case to == ended && s.x != nil && s.x.pull != nil:
		l.depart(s, s.x.pull.why)
		l.releaseAll(s)
	}
}

// extra is what few sessions have at a time, and none for long: loop.tidy takes it back.
type extra struct {
	pending []pending      // requests at a worker, oldest first
	stash   []byte         // what a pause left of a WebSocket frame: packages, or a stream of packets (codec.AppendPacket)
	ping    []byte         // the WebSocket ping whose pong is owed (owesPong)
	ws      codec.WSReader // what has come of a WebSocket message in fragments
	host    string         // the host by which a gate's client reached us, as codec.Hostname has it: 255 bytes at most
	http    *httpConn      // while it speaks HTTP
	errand  errand         // what the connection does for a session that is not its own
	pull    *pull          // while its client polls
	login   *login         // that is being judged; nil: none
	sifting *call          // what it says, while the filter looks at that; nil: nothing. It is the only pending request
	changes []change       // what a program asks of its rooms, oldest first
	// Where its socket goes when Data returns (transfer).
	to   *loop      // nil: nowhere
	heir netpoll.ID // session here that takes it over; 0: none
	// An enter in flight: what the session will be.
	entering string
	enters   *identity // of a login that becomes the session's own only once it has entered; nil: the one it has
	star     uint8
	rename   bool // same room, new name
	joins    bool // it stays in its other rooms
	// Short ones stand together, or each would take eight bytes (TestSessionIsSmall).
	handling bool   // a function of the App's, whoever judges logins, or the filter has the oldest pending request
	greeting bool   // a function of the App's looks at its handshake
	origin   bool   // its upgrade had an Origin; until the handshake
	begun    uint32 // tick at which the message in ws began, while it has not ended
}

// rare is what few sessions have, and those until they end. It is the place for whatever else concerns few of them.
type rare struct {
	client *appClient // nil until an App's function has seen the session
	secret uint64     // hash of the secret it gave (secretKey); 0: none
	key    uint64     // that of the one it gave with its last enter, where a program may have it join rooms by that; 0: none
	who    *identity  // what its login has shown; nil: none
	token  string     // in the URL by which it came, until its first enter; empty: none
	claims []string   // users as one of whose sessions it is counted (claim.go)
	// Rooms beside the first one (further.go).
	further []further
}

// appClient is what an App knows s by; nil: no function of it has seen s.
func (s *session) appClient() *appClient {
	if s.rare == nil {
		return nil
	}
	return s.rare.client
}

// secret is the hash of the secret that s gave; 0: none.
func (s *session) secret() uint64 {
	if s.rare == nil {
		return 0
	}
	return s.rare.secret
}

// needRare gives s its rare state.
func (s *session) needRare() *rare {
	if s.rare == nil {
		s.rare = new(rare)
	}
	return s.rare
}

// pending is a request a worker has yet to answer.
type pending struct {
	req     uint32 // our number for it
	id      uint32 // the client's; 0: a notify, which gets no answer
	idBytes uint8
	op      channel.Op
	due     uint32 // tick at which it is given up
	route   *route
	body    []byte // the answer, when it was decided here and only waits for its turn
	// refusal is the answer when it is given up.
	refusal []byte
}

func (s *session) user() string     { return s.uid[:s.star] }
func (s *session) roomName() string { return s.uid[int(s.star)+1:] }

// inflight is the number of requests at workers.
func (s *session) inflight() int {
	if s.x == nil {
		return 0
	}
	return len(s.x.pending)
}

// session finds a conn's session.
func (l *loop) session(c *netpoll.Conn) *session {
	slot := c.Slot()
	return &l.sessions[slot/slabSessions][slot%slabSessions]
}

// slabSessions is the number of sessions in a slab; sessions never move. These are six whole pages of Go's heap, while 256 sessions would
// fall into a size class that is a tenth larger.
const slabSessions = 512

// extra gives s its extra, from the pool.
func (l *loop) extra(s *session) *extra {
	if s.x == nil {
		if n := len(l.extras); n > 0 {
			s.x = l.extras[n-1]
			l.extras = l.extras[:n-1]
		} else {
			s.x = new(extra)
		}
	}
	return s.x
}

// entered forgets an enter that is in flight no longer, whatever has come of it.
func (x *extra) entered() { x.entering, x.rename, x.joins, x.enters = "", false, false, nil }

// tidy gives the extra back when nothing is left in it.
func (l *loop) tidy(s *session) {
	if x := s.x; x != nil && len(x.pending) == 0 && len(x.stash) == 0 && x.begun == 0 && s.owes&owesPong == 0 && x.host == "" && !x.origin && x.entering == "" &&
		x.http == nil && x.errand.task == taskNone && x.pull == nil && x.to == nil && x.heir == 0 && x.login == nil && !x.greeting && len(x.changes) == 0 {
		l.freeExtra(s)
	}
}

func (l *loop) freeExtra(s *session) {
	l.dropLogin(s)
	if s.x != nil {
		l.http.drop(s.x)
	}
	if s.x != nil && len(l.extras) < maxPooledExtras {
		*s.x = extra{pending: s.x.pending[:0]}
		l.extras = append(l.extras, s.x)
	}
	s.x = nil
}

const maxPooledExtras = 256

// Open implements netpoll.Handler.
func (l *loop) Open(c *netpoll.Conn, state []byte) {
	s := l.newSession(c)
	if state != nil {
		if err := l.importSession(s, state); err != nil {
			l.leaveLost(l.addr(c), c.Peer().Addr(), state)
			slog.Error("a session that came from another event loop is lost; please report this", "err", err)
			l.np.Kill(c, netpoll.ReasonPanic)
			return
		}
	}
	if l.node.ending.Load() { // accepted, or moved, while Drain was looking at the others
		l.np.Close(c, reasonShutdown)
		return
	}
	switch {
	case state != nil:
	case l.node.access.expectsProxy(c):
		l.awaitProxyHeader(s)
	default:
		l.sniffing(s)
	}
}

// newSession makes the session of a new conn.
func (l *loop) newSession(c *netpoll.Conn) *session {
	for int(c.Slot()) >= len(l.sessions)*slabSessions {
		l.sessions = append(l.sessions, new([slabSessions]session))
	}
	s := l.session(c)
	*s = session{conn: c}
	return s
}

// Closed implements netpoll.Handler: any end of a conn is a leave, exactly one (protocol.md §9.6). With an enter in
// flight the worker will first add and then remove.
func (l *loop) Closed(c *netpoll.Conn, why netpoll.Reason) {
	s := l.session(c)
	if s.x != nil && s.x.heir != 0 && why != netpoll.ReasonMoved { // a session has given up polling for this socket, and has nothing now
		if heir := l.np.Find(s.x.heir); heir != nil {
			l.np.Kill(heir, why)
		}
	}
	l.depart(s, why)
	l.releaseAll(s)
	l.polls.connGone(s)
	l.polls.sessionGone(s)
	l.countTransport(s, 0)
	l.freeExtra(s)
	*s = session{phase: ended}
}

// depart takes the session out of its rooms, for a reason, and forgets what it waits for. Its transport may live on.
func (l *loop) depart(s *session, why netpoll.Reason) {
	from := l.addr(s.conn)
	l.dropLogin(s)
	end := l.endOf(s, why)
	if s.room != nil {
		l.tellWent(s, why)
		l.departRooms(s, end, why)
	}
	if x := s.x; x != nil {
		clear(x.pending)
		x.pending = x.pending[:0]
		if x.entering != "" {
			end.Handed = channel.Unheard
			l.leaveEntering(from, x, end)
		}
		x.entered()
		x.handling, x.sifting = false, nil
		l.dropChanges(s, end)
	}
	l.tellClosed(s, why)
	if k := s.appClient(); k != nil {
		k.ended.Store(true)
		s.rare.client = nil
		k.dropBindings()
		l.releaseBound(s)
	}
}

// leave posts the leave of a member; end is what else it says (endOf).
func (l *loop) leave(from channel.Addr, user, room string, part uint16, end channel.Request) {
	end.Op, end.From, end.User, end.Room, end.Part = channel.OpLeave, from, user, room, part
	l.inlet(part).Post(end)
}

// leaveEntering undoes an enter that is in flight.
func (l *loop) leaveEntering(from channel.Addr, x *extra, end channel.Request) {
	room := x.entering[int(x.star)+1:]
	l.leave(from, x.entering[:x.star], room, channel.Partition(room), end)
}

// heard restarts the time after which a silent client is disconnected. Heartbeats do it, and so does data, which the
// original did not count (protocol.md §2.7).
func (l *loop) heard(s *session) {
	if s.phase != ended {
		l.until(s, l.protocol(s).alive(s))
	}
}

// until gives the client of s until tick before it must be heard of; neverDue is no limit.
func (l *loop) until(s *session, tick uint32) {
	s.alive = tick
	l.schedule(s)
}

// schedule has Due called when the next thing is due: the end of the client's time, the oldest request in flight, what it is owed. It is the
// only place that sets a deadline.
func (l *loop) schedule(s *session) {
	if !s.conn.Alive() {
		return
	}
	now, due := l.np.Now(), s.alive
	if s.inflight() > 0 {
		if due <= now { // it is we who keep the client waiting
			due = neverDue
		}
		due = min(due, s.x.pending[0].due)
	}
	if c := s.changing(); c != nil {
		due = min(due, c.due)
	}
	if s.owes != 0 {
		due = min(due, now+1)
	}
	if who := s.identity(); who != nil && s.phase == working { // else it may wait for the GET that fetches the reason
		due = min(due, who.until)
	}
	if due == neverDue {
		due = 0
	}
	l.np.SetDue(s.conn, due)
}

// neverDue is the deadline of what has none, or waits only for what stands before it.
const neverDue = 1<<32 - 1

// Due implements netpoll.Handler.
func (l *loop) Due(c *netpoll.Conn) {
	s := l.session(c)
	if s.phase == ended { // it polls, and nobody came to fetch the reason
		l.np.Close(c, s.x.pull.why)
		return
	}
	l.checkSpoken(s)
	l.expireRequests(s, l.np.Now())
	l.expireChange(s, l.np.Now())
	l.expireLogin(s)
	if c.Alive() && s.phase != ended {
		l.payOwed(s)
		l.expireClient(s)
		l.schedule(s)
	}
}

// expireClient deals with a client that has not been heard of in its time.
func (l *loop) expireClient(s *session) {
	waiting := s.inflight() > 0 || s.changing() != nil
	if s.conn.Throttled() && !s.conn.IsPull() && !waiting { // we do not listen to it; whether it takes its answers is the network's to judge (Limits.Stuck)
		s.alive = l.protocol(s).alive(s)
	}
	if s.alive <= l.np.Now() {
		l.protocol(s).silent(s, waiting)
	}
}

// Late implements netpoll.Handler: a message, a package or a request was begun and not finished, whatever else was sent meanwhile.
func (l *loop) Late(c *netpoll.Conn) {
	s := l.session(c)
	l.protocol(s).late(s)
}

// expireRequests gives up what a worker has not answered in time. A worker that does so later finds nobody waiting; an
// enter that succeeds after all is undone by the leave that follows it.
func (l *loop) expireRequests(s *session, now uint32) {
	for s.inflight() > 0 && s.x.pending[0].due <= now {
		p := s.x.pending[0]
		if c := s.x.sifting; c != nil {
			l.sifted(l.addr(s.conn), p.req, c, filter.Verdict{}, errFilterHangs)
			continue
		}
		if s.x.handling {
			if s.x.login != nil {
				l.counters.logins[loginFailed]++
				l.dropLogin(s)
			} else {
				l.counters.handlerTimeouts++
			}
			if k := s.appClient(); k != nil {
				k.Abandon()
			}
		} else {
			l.counters.timeouts++
		}
		if p.op == channel.OpEnter {
			l.forsake(s, s.x.entering, s.x.star)
		}
		l.finish(s, p.refusal, "")
	}
}

// finish answers the oldest request in flight with body and its end, then what was decided here meanwhile, and lets the session
// go on.
func (l *loop) finish(s *session, body []byte, end string) {
	x := s.x
	if x.pending[0].op == channel.OpEnter {
		x.entered()
	}
	x.handling, x.sifting = false, nil
	l.explain(s, x.pending[0].route, nil, body)
	done := 0
	for ; done == 0 || done < len(x.pending) && x.pending[done].body != nil; done++ {
		p := &x.pending[done]
		if p.body != nil {
			body, end = p.body, ""
		}
		l.respond(s, p.id, p.idBytes, body, end, p.route.response)
	}
	kept := copy(x.pending, x.pending[done:])
	clear(x.pending[kept:])
	x.pending = x.pending[:kept]
	if len(x.changes) > 0 { // they wait for a client's enter
		l.nextChange(s)
	}
	l.resume(s)
}

// resume reads a session on that had to wait.
func (l *loop) resume(s *session) {
	if s.conn.Paused() {
		l.np.Resume(s.conn)
		s.alive = l.protocol(s).alive(s) // it could not be heard meanwhile
	}
	if s.inflight() == 0 {
		l.schedule(s)
		l.tidy(s)
	}
}

// answer answers a call that needs no worker, after those before it.
func (l *loop) answer(s *session, c *call, body []byte) {
	l.explain(s, c.route, c, body)
	if s.inflight() > 0 {
		s.x.pending = append(s.x.pending, pending{id: c.id, idBytes: c.idBytes, due: neverDue, route: c.route, body: body})
		return
	}
	l.respond(s, c.id, c.idBytes, body, "", c.route.response)
}

// respond stages the answer to request id: body, which nobody changes any more, and end. A notify (id 0) gets none.
func (l *loop) respond(s *session, id uint32, idBytes uint8, body []byte, end string, proto *codec.ProtoMessage) {
	if id == 0 || !s.conn.Alive() {
		return
	}
	v := l.variant(s)
	if end != "" && v.Verbatim(proto) { // the list of a large room is not copied for each that enters
		l.np.Commit(s.conn, v.AppendResponseHead(l.np.Stage(s.conn), id, idBytes, len(body)+len(end)))
		l.np.Lend(s.conn, body)
		l.np.Commit(s.conn, append(l.np.Stage(s.conn), end...))
		return
	}
	if end != "" {
		l.scratch = append(append(l.scratch[:0], body...), end...)
		body = l.scratch
	}
	l.np.Commit(s.conn, v.AppendResponse(l.np.Stage(s.conn), id, idBytes, body, proto))
	l.scratch = keep(l.scratch)
}

// end closes a session, without saying why if its transport allows that.
func (l *loop) end(s *session, why netpoll.Reason) { l.endWith(s, why, 0, "") }

// endWith is end with a WebSocket close code and a reason. What was staged before is sent first.
func (l *loop) endWith(s *session, why netpoll.Reason, code uint16, reason string) {
	if s.x != nil && s.x.pull != nil {
		l.polls.end(s, why)
		return
	}
	if s.conn.Alive() {
		l.protocol(s).goodbye(s, code, reason)
	}
	l.become(s, ended)
	l.np.Close(s.conn, why)
}

// kick tells the client a reason and closes (protocol.md §2.8).
func (l *loop) kick(s *session, reason string) { l.kickFor(s, reason, reasonKick) }

// kickFor is kick, counted under another reason than that somebody wanted it.
func (l *loop) kickFor(s *session, reason string, why netpoll.Reason) {
	if s.phase == working && s.conn.Alive() {
		l.protocol(s).kick(s, reason)
	}
	l.end(s, why)
}
