package router

import (
	"errors"
	"math"
	"net/netip"
	"slices"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
	"github.com/pomelod/pomelod/internal/wirebytes"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
)

// A session that goes to another loop goes as bytes: to a loop of this node, where it gets another name, or to one that takes the place of
// its own (handover.go). So nothing of it can stay behind by accident. Numbers are varints, strings are prefixed by their length. Times are
// told as what is left of them: no clock goes along. The encoding has a version; another one is refused.

// sessionVersion is the first byte of an exported session.
const sessionVersion = 8

// errSession is the error of importSession: its input was not written by exportSession, or by that of another version.
var errSession = errors.New("malformed session state")

// The flags of an exported session.
const (
	exportedCESU = 1 << iota
	exportedOrigin
	exportedBegun
	exportedSpoke
	exportedBeat
	exportedPong
	exportedRoom
	exportedRename
	exportedHTTP
	exportedPull
	exportedExtended
	exportedApp
	exportedJoins
)

// stays says why a session cannot go elsewhere now. 0: it can.
type stays uint8

const (
	staysEnded    stays = iota + 1 // it has ended, or its socket is another's already
	staysHandled                   // a function of the App is at work for it or waits for its login, or that is being judged
	staysKnown                     // an App holds its Session, which names its loop, and does not carry it
	staysOpening                   // its handshake is not finished, or it is no session but an HTTP connection
	staysPolling                   // its client's connections know it by its name
	staysInRoom                    // its room knows it by its name
	staysInFlight                  // a partition is to answer it by its name
	staysCounted                   // it is counted as its user's session by its name
	staysSecured                   // it speaks TLS, whose state is this process's
	staysListener                  // its listener is not there any more, or is another
	staysReasons
)

var staysTexts = [staysReasons]string{
	staysEnded: "it has ended", staysHandled: "an App's function is at work for it or waits for its login, or that is being judged", staysKnown: "the App knows it",
	staysOpening: "its handshake is not finished", staysPolling: "it polls", staysInRoom: "it is in a room",
	staysInFlight: "an answer to it is due", staysCounted: "it is counted as one of its user's sessions", staysSecured: "it speaks TLS",
	staysListener: "its listener is gone, or tells clients something else",
}

// String says it in words.
func (r stays) String() string { return staysTexts[r] }

// exportable says why s cannot go to a loop that takes the place of its own, where it keeps its name.
func (s *session) exportable() stays {
	switch {
	case s.leaving() || !s.conn.Alive():
		return staysEnded
	case s.x != nil && (s.x.handling && s.x.sifting == nil || s.x.greeting || s.x.login != nil || len(s.x.changes) > 0):
		return staysHandled
	}
	switch k := s.appClient(); {
	case k == nil:
	case k.logins.Load() > 0 || k.telling.Load() || k.loggingIn(): // a caller that waits for it would not hear of it; and the session may have become another user's after the App was asked
		return staysHandled
	case k.packed == nil:
		return staysKnown
	}
	return 0
}

// movable says why s cannot go to another loop, where it gets another name: somebody knows the one that it has.
func (s *session) movable() stays {
	switch why := s.exportable(); {
	case why != 0:
		return why
	case s.appClient() != nil:
		return staysKnown
	case s.phase == ended:
		return staysEnded
	case s.conn.IsPull():
		return staysPolling
	case s.phase != working:
		return staysOpening
	case s.room != nil:
		return staysInRoom
	case s.inflight() > 0:
		return staysInFlight
	case len(s.counted()) > 0:
		return staysCounted
	}
	return 0
}

// exportSession encodes what s, which is exportable or was until its move began, is beside its conn (netpoll.ConnState) and its listener,
// which the conn's tag tells.
func (l *loop) exportSession(s *session) []byte {
	x := s.x
	if x == nil {
		x = new(extra)
	}
	framing, cesu, extended := uint8(0), false, false
	if v := l.variant(s); v != nil {
		framing, cesu, extended = 1+uint8(v.Framing), v.CESU, v.Extended
	}
	var packed *hosting.Carried
	if k := s.appClient(); k != nil {
		packed = k.packed
	}
	flags, m := uint64(0), &s.meter
	for i, set := range [...]bool{
		cesu, x.origin, m.begun, m.spoke, s.owes&owesBeat != 0, s.owes&owesPong != 0, s.room != nil, x.rename, x.http != nil, x.pull != nil, extended, packed != nil, x.joins,
	} {
		if set {
			flags |= 1 << i
		}
	}
	now := l.np.Now()
	began := uint64(0)
	if x.begun != 0 {
		began = 1 + uint64(now-x.begun)
	}
	opening := uint64(m.opening)
	if m.begun {
		opening = uint64(secondsTo(m.opening, now))
	}
	l.limiter.read()
	at := l.limiter.now
	b := append(make([]byte, 0, 160), sessionVersion, byte(s.phase), byte(s.proto), s.step, framing, byte(s.transport))
	b = wirebytes.AppendUints(b, flags, uint64(s.hops), uint64(s.beats.in(now)), timeLeft(s.alive, now), s.secret(),
		uint64(m.refused), opening, uint64(m.all.Debt(at)), uint64(m.sends.Debt(at)), uint64(m.enters.Debt(at)), began)
	b = s.rare.append(b)
	b = x.ws.AppendState(b)
	for _, block := range [...][]byte{x.stash, []byte(x.host), x.ping} {
		b = wirebytes.AppendBlock(b, block)
	}
	if s.room != nil {
		b = wirebytes.AppendBlock(wirebytes.AppendUints(b, uint64(s.room.id), uint64(s.star)), s.uid)
		b = wirebytes.AppendUints(b, uint64(len(s.further())))
		for i, f := range s.further() {
			b = wirebytes.AppendBlock(wirebytes.AppendUints(b, uint64(f.room.id)), s.furtherName(i))
		}
	}
	b = x.enters.append(wirebytes.AppendBlock(wirebytes.AppendUints(b, uint64(x.star)), x.entering))
	b = wirebytes.AppendUints(b, uint64(len(x.pending)))
	for i := range x.pending {
		b = x.pending[i].append(b, now, x.sifting)
	}
	b = wirebytes.AppendUints(b, uint64(x.errand.task), uint64(x.errand.session))
	if x.http != nil {
		b = x.http.append(b, now)
	}
	if x.pull != nil {
		b = x.pull.append(b)
	}
	if packed != nil {
		b = wirebytes.AppendBlock(wirebytes.AppendBlock(b, packed.UID), packed.State)
	}
	return b
}

// exportedHead is what of an exported session is no member of a session, as far as places in rooms go.
type exportedHead struct {
	version, framing uint8
	by               transport
	flags, key       uint64
	began            uint32
	room             channel.RoomID
	further          []exportedFurther
}

// exportedFurther is a further room of an exported session.
type exportedFurther struct {
	room channel.RoomID
	uid  string
}

// parseHead decodes an exported session up to its places in rooms, which need no listener to be known.
func (l *loop) parseHead(r *wirebytes.Reader, to *session, x *extra) (h exportedHead) {
	now := l.np.Now()
	h.version = r.Byte()
	to.phase, to.proto, to.step = phase(r.Byte()), protocolID(r.Byte()), r.Byte()
	h.framing, h.by = r.Byte(), transport(r.Byte())
	h.flags = r.Uint()
	to.hops, to.beats = uint8(r.UpTo(math.MaxUint8)), beats(now<<4)|beats(r.UpTo(beatsPerSecond))
	to.alive = tickIn(r.UpTo(neverDue), now)
	h.key = r.Uint()
	to.meter = meter{refused: uint16(r.UpTo(maxFlood)), opening: r.Uint32(), begun: h.flags&exportedBegun != 0, spoke: h.flags&exportedSpoke != 0}
	if to.meter.begun {
		to.meter.opening += now
	}
	l.limiter.read()
	for _, bucket := range [...]*limit.Bucket{&to.meter.all, &to.meter.sends, &to.meter.enters} {
		*bucket = limit.Bucket(l.limiter.now + int64(r.UpTo(uint64(limit.MaxFill))))
	}
	h.began = r.Uint32()
	l.parseLogin(to, r)
	r.Parse(x.ws.ParseState)
	x.stash, x.host = append([]byte(nil), r.Block()...), string(r.Block())
	x.ping = append([]byte(nil), r.Block()...)
	if h.flags&exportedRoom != 0 {
		h.room = channel.RoomID(r.Uint())
		to.star, to.uid = uint8(r.UpTo(math.MaxUint8)), string(r.Block())
		for range r.UpTo(maxFurther) {
			f := exportedFurther{room: channel.RoomID(r.Uint())}
			if f.uid = string(r.Block()); isUID(to.uid, to.star) {
				f.uid = to.uid[:to.star+1] + f.uid
			}
			h.further = append(h.further, f)
		}
	}
	x.star, x.entering, x.rename, x.joins = uint8(r.UpTo(math.MaxUint8)), string(r.Block()), h.flags&exportedRename != 0, h.flags&exportedJoins != 0
	return h
}

// leaveLost posts the leaves of a session that was exported and cannot be imported, and takes it out of its user's sessions: it is cut off.
func (l *loop) leaveLost(from channel.Addr, peer netip.Addr, b []byte) {
	r := wirebytes.NewReader(b)
	s, x := new(session), new(extra)
	h := l.parseHead(&r, s, x)
	if !r.OK() || h.version != sessionVersion {
		return
	}
	end := channel.Request{}
	if l.node.ghosts.grace > 0 {
		end.Cut, end.Near = true, l.node.access.near(peer)
	}
	l.postRun(0, func() { // when all loops have their partitions
		if h.flags&exportedRoom != 0 && isUID(s.uid, s.star) {
			l.leave(from, s.user(), s.roomName(), h.room.Partition(), end)
			for _, f := range h.further {
				l.leave(from, s.user(), f.uid[int(s.star)+1:], f.room.Partition(), end)
			}
		}
		if x.entering != "" && isUID(x.entering, x.star) {
			end.Handed = channel.Unheard
			l.leaveEntering(from, x, end)
		}
		for _, user := range s.counted() {
			r := releaseOf(from, user)
			l.inlet(r.Part).Post(r)
		}
	})
}

// importSession makes s, which is new, the session that exportSession has encoded on another loop. A room that it is in must be known here.
func (l *loop) importSession(s *session, b []byte) error {
	r, now := wirebytes.NewReader(b), l.np.Now()
	at := l.profile(s)
	to, x := session{conn: s.conn}, extra{}
	h := l.parseHead(&r, &to, &x)
	framing, by, flags, key, began := h.framing, h.by, h.flags, h.key, h.began
	if flags&exportedRoom != 0 {
		if to.room = l.rooms.byID[h.room]; to.room == nil {
			r.Fail()
		}
	}
	for i, f := range h.further {
		at := l.rooms.byID[f.room]
		if at == nil || at == to.room || slices.ContainsFunc(h.further[:i], func(other exportedFurther) bool { return other.room == f.room }) {
			r.Fail()
		}
		to.needRare().further = append(to.rare.further, further{room: at, uid: f.uid})
	}
	x.enters = l.parseIdentity(&r)
	for range r.UpTo(uint64(len(r.Rest()))) {
		x.pending = append(x.pending, x.parsePending(&r, at, now))
	}
	x.errand = errand{task(r.UpTo(uint64(taskProbe))), netpoll.ID(r.Uint())}
	if flags&exportedHTTP != 0 {
		x.http = parseHTTPConn(&r, now)
	}
	if flags&exportedPull != 0 {
		x.pull = parsePull(&r)
	}
	var packed hosting.Carried
	if flags&exportedApp != 0 {
		packed = hosting.Carried{UID: string(r.Block()), State: append([]byte(nil), r.Block()...)}
		if !l.node.Carries() || to.phase != working {
			r.Fail()
		}
	}
	if framing > 0 {
		to.variant = at.variant(codec.Framing(framing-1), flags&exportedCESU != 0)
		if flags&exportedExtended != 0 {
			to.variant = at.extendedVariant(codec.Framing(framing - 1))
		}
	}
	if h.version != sessionVersion || !r.End() || int(by) >= len(l.transports) || (to.variant == 0) != (framing == 0) || (began > 0) != (x.ws.Kept() > 0) || !l.consistent(&to, &x) {
		return errSession
	}
	x.origin = flags&exportedOrigin != 0
	to.owes = debts(flags/exportedBeat) & (owesBeat | owesPong)
	if began > 0 {
		x.begun = max(now-min(now, began-1), 1)
	}
	*s = to
	*l.extra(s) = x
	if s.owes&owesPong == 0 {
		l.tidy(s)
	}
	if key != 0 {
		s.needRare().secret = key
	}
	l.countTransport(s, by)
	if s.room != nil {
		l.rooms.joinGroup(s, s.room)
		l.rooms.hostAll(s)
	}
	l.keepInput(s)
	l.schedule(s)
	if x.sifting != nil {
		at, req := l.addr(s.conn), x.pending[0].req
		l.postRun(0, func() { l.siftAgain(at, req) }) // when all loops have their partitions
	}
	if flags&exportedApp != 0 {
		l.unpack(s, packed)
	} else {
		l.meet(s)
	}
	return nil
}

// consistent tells whether s, with x for its extra, can be a session: what its protocol and others rely on holds.
func (l *loop) consistent(s *session, x *extra) bool {
	if int(s.proto) >= len(l.protocols) || s.phase > ended || s.phase == ended && (x.pull == nil || !x.pull.ended) {
		return false
	}
	_, isPolled := l.protocol(s).(polled)
	pulls := s.conn.IsPull()
	if l.node.protocols[s.proto].variants == nil { // a session that speaks it is sent nothing but its own answers
		if s.variant != 0 || s.phase != opening || pulls {
			return false
		}
	} else if v := l.variant(s); v == nil || !l.node.carries(s.proto, v.Framing) || isPull(v.Framing) != pulls {
		return false
	}
	switch {
	case !l.protocol(s).fits(s, x), (x.pull != nil) != pulls, pulls && !isPolled:
	case (x.errand.task == taskPoll || x.errand.task == taskPost) && x.http == nil:
	case s.phase == working && !s.meter.begun:
	case s.room != nil && (s.phase != working || !isUID(s.uid, s.star)):
	case (x.entering != "") != (len(x.pending) > 0 && x.pending[0].op == channel.OpEnter), x.entering != "" && (s.phase != working || !isUID(x.entering, x.star)):
	case x.rename && (s.room == nil || x.entering == ""), x.joins && x.entering == "", x.enters != nil && x.entering == "":
	case len(x.pending) > 0 && (x.pending[0].body != nil || s.phase != working), x.sifting != nil && len(x.pending) != 1:
	default:
		return true
	}
	return false
}

// isPull tells whether clients with this framing poll.
func isPull(f codec.Framing) bool { return f == codec.FramingSIO09Pull || f == codec.FramingEIOPull }

// isUID tells whether uid is user*room, with the star where it should be.
func isUID(uid string, star uint8) bool { return int(star) < len(uid) && uid[star] == '*' }

// What an exported request has for a body.
const (
	keepsNothing  = iota // its answer comes from elsewhere
	keepsAnswer          // it was decided here, and waits for its turn
	keepsQuestion        // the filter was looking at it: the next process asks again. One that does not know this yet refuses the session
	keepsKinds
)

// append encodes a request in flight. sifting is what the filter is looking at, if that is what it waits for; else nil.
func (p *pending) append(b []byte, now uint32, sifting *call) []byte {
	keeps, body := uint64(keepsNothing), p.body
	switch {
	case sifting != nil:
		keeps, body = keepsQuestion, sifting.body
	case body != nil:
		keeps = keepsAnswer
	}
	b = wirebytes.AppendUints(b, uint64(p.req), uint64(p.id), uint64(p.idBytes), uint64(p.op), timeLeft(p.due, now), keeps)
	return wirebytes.AppendBlock(wirebytes.AppendBlock(b, p.route.name), body)
}

// submitted are the operations of requests that wait for an answer.
var submitted = [...]channel.Op{channel.OpEnter, channel.OpSend, channel.OpHistory, channel.OpMembers}

// parsePending decodes a request of a session of a listener. Its route may be gone: then its answer is JSON.
func (x *extra) parsePending(r *wirebytes.Reader, at *Profile, now uint32) pending {
	p := pending{req: r.Uint32(), id: r.Uint32(), idBytes: uint8(r.UpTo(math.MaxUint8)), op: channel.Op(r.UpTo(uint64(channel.OpHistory))), due: tickIn(r.UpTo(neverDue), now)}
	keeps := r.UpTo(keepsKinds - 1)
	name := r.Block()
	p.route = orUnknown(at.routes[string(name)], name)
	p.refusal = p.op.RefusedBody()
	body := r.Block()
	switch {
	case keeps == keepsAnswer:
		p.body, p.due = append([]byte{}, body...), neverDue
	case keeps == keepsQuestion && p.op == 0:
		x.sifting = &call{id: p.id, idBytes: p.idBytes, route: p.route, body: append([]byte{}, body...)}
		x.handling, p.refusal, p.due = true, limitFilter.answer(false), neverDue // siftAgain gives it its time, maybe seconds later
	case keeps == keepsQuestion, len(body) > 0, !slices.Contains(submitted[:], p.op):
		r.Fail()
	}
	return p
}

// append encodes what a connection has while it speaks HTTP. Where the request ends that is being received is found out anew.
func (h *httpConn) append(b []byte, now uint32) []byte {
	flags, rep := uint64(0), &h.reply
	for i, set := range h.flags() {
		if *set {
			flags |= 1 << i
		}
	}
	b = wirebytes.AppendUints(b, flags, uint64(secondsTo(h.handshake, now)), uint64(rep.form))
	return wirebytes.AppendBlock(wirebytes.AppendBlock(b, rep.origin), rep.callback)
}

func (h *httpConn) flags() [10]*bool {
	rep := &h.reply
	return [...]*bool{&h.timed, &h.continued, &h.charged, &h.served, &rep.headOnly, &rep.keepAlive, &rep.tls, &rep.listed, &rep.wants, &rep.cookie}
}

func parseHTTPConn(r *wirebytes.Reader, now uint32) *httpConn {
	h := new(httpConn)
	flags := r.UpTo(1<<len(h.flags()) - 1)
	for i, set := range h.flags() {
		*set = flags>>i&1 != 0
	}
	h.handshake = now + r.Uint32()
	h.reply.form = codec.PayloadForm(r.UpTo(uint64(codec.PayloadEIO4)))
	h.reply.origin, h.reply.callback = string(r.Block()), string(r.Block())
	return h
}

// append encodes a pull.
func (p *pull) append(b []byte) []byte {
	flags := uint64(0)
	for i, set := range [...]bool{p.probed, p.text, p.ended} {
		if set {
			flags |= 1 << i
		}
	}
	b = wirebytes.AppendUints(b, flags, uint64(p.why), uint64(p.get), uint64(p.probe), uint64(len(p.posts)))
	for _, id := range p.posts {
		b = wirebytes.AppendUints(b, uint64(id))
	}
	return b
}

func parsePull(r *wirebytes.Reader) *pull {
	flags := r.UpTo(7)
	p := &pull{probed: flags&1 != 0, text: flags&2 != 0, ended: flags&4 != 0}
	p.why, p.get, p.probe = netpoll.Reason(r.UpTo(uint64(reasons-1))), netpoll.ID(r.Uint()), netpoll.ID(r.Uint())
	for range r.UpTo(uint64(len(r.Rest()))) {
		p.posts = append(p.posts, netpoll.ID(r.Uint()))
	}
	return p
}

// secondsTo is how many seconds there are until tick.
func secondsTo(tick, now uint32) uint32 { return max(tick, now) - now }

// timeLeft is one more than the seconds until tick, 0 for never.
func timeLeft(tick, now uint32) uint64 {
	if tick == neverDue {
		return 0
	}
	return 1 + uint64(secondsTo(tick, now))
}

// tickIn is the tick of which timeLeft has told.
func tickIn(left uint64, now uint32) uint32 {
	if left == 0 || left-1 >= uint64(neverDue-now) {
		return neverDue
	}
	return now + uint32(left-1)
}
