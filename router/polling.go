package router

import (
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// polls is what a loop does for sessions whose clients poll. The conn of such a session has no socket: what is written to it waits there, as
// the packets of codec.AppendPacket, until a GET comes; a POST's packets are fed to it. So everything else (groups, bounds, order,
// pauses) is as for any session. Names in its methods: in is the session; s, or get, is a connection that does something for it.
type polls struct {
	l      *loop
	packet []byte // one that is said
	stream []byte // packets of a POST
	body   []byte // of an answer
	jsonp  []byte // the same, as JSONP has it
}

// lingerSeconds is how long an ended session waits for the GET that fetches the reason.
const lingerSeconds = 10

// awaySeconds is the same at the end of the server: a client that polls is never away for longer than it takes to ask again.
const awaySeconds = 2

// open makes a session whose client polls, for the connection that asks for it, or tells why not.
func (ps *polls) open(from *session, r *request, p *base, framing codec.Framing) (*session, *codec.HTTPError) {
	l := ps.l
	if l.limiter.memoryShort() {
		return nil, errFull
	}
	closing := l.node.closing.Load() && from.x.http.served // a first request is served, as nobody would make it again
	if closing && string(r.head.Method) == "GET" {
		return nil, errAskAgain
	}
	if closing || l.node.pulls() >= l.limits.Pulls {
		l.counters.pullsRefused++
		return nil, errFull
	}
	if !l.node.access.handshake(r.client.Addr()) {
		return nil, errOften
	}
	pass, ok := l.node.access.hold(r.client.Addr())
	if !ok {
		return nil, errAddress
	}
	c := l.np.OpenPull(from.conn.Tag(), r.client)
	c.SetPass(pass)
	in := l.newSession(c)
	p.speak(in)
	p.frame(in, framing)
	x := l.extra(in)
	x.pull = new(pull)
	if l.profile(in).Type == Gate {
		x.host = l.http.hostOf(from, r)
	}
	return in, nil
}

// pulls is the number of sessions without a socket.
func (n *Node) pulls() int {
	total := 0
	for _, l := range n.loops {
		total += l.np.Pulls()
	}
	return total
}

// polledBy finds the session that a request names, of this listener.
func (l *loop) polledBy(s *session, r *request) *session {
	in := l.byID(r.pull)
	if in == nil || in.conn.Tag() != s.conn.Tag() {
		return nil
	}
	return in
}

// byID finds the session of a conn; nil for 0, and when it is gone.
func (l *loop) byID(id netpoll.ID) *session {
	if id == 0 {
		return nil
	}
	if c := l.np.Find(id); c != nil {
		return l.session(c)
	}
	return nil
}

// via finds the connection that is on an errand for in; nil when it is gone. Both have to know of it: a state that another process handed over may name any connection.
func (ps *polls) via(id netpoll.ID, task task, in *session) *session {
	s := ps.l.byID(id)
	if s == nil || s.x == nil || s.x.errand != (errand{task, in.conn.ID(ps.l.np)}) {
		return nil
	}
	return s
}

// held is the connection whose GET is held for in, if one is.
func (ps *polls) held(in *session) *session { return ps.via(in.x.pull.get, taskPoll, in) }

// of is the protocol of a session that polls.
func (ps *polls) of(in *session) polled { return ps.l.protocol(in).(polled) }

// poll answers the GET of connection get with what waits for in, or holds it until there is something. A GET that is
// already held gives way: its client has given it up, or a proxy has (protocol.md §5.4, §6.3).
func (ps *polls) poll(get, in *session) {
	l, p := ps.l, in.x.pull
	if ps.held(in) != nil {
		ps.idle(in)
	}
	p.get = get.conn.ID(l.np)
	get.x.errand = errand{taskPoll, in.conn.ID(l.np)}
	ps.of(in).fetched(in)
	l.np.Fetch(in.conn)
	if p.get != 0 { // not yet answered
		switch p.due() {
		case dueFarewell:
			ps.say(in, ps.of(in).farewell(p.why))
		case dueIdle:
			ps.idle(in)
		default:
			l.np.Hold(get.conn)
			l.until(get, ps.of(in).patience())
		}
	}
	if p.ended && in.conn.Queued() == 0 {
		l.np.Close(in.conn, p.why)
	}
}

// idle ends the GET that is held for in without saying anything.
func (ps *polls) idle(in *session) { ps.say(in, ps.of(in).idle()) }

// say answers the GET that is held for in with one packet.
func (ps *polls) say(in *session, packet string) {
	ps.packet = codec.AppendPacket(ps.packet[:0], []byte(packet))
	ps.write(in, ps.packet)
}

// Write implements netpoll.Handler: packets for a client that polls go into the answer to its GET, if one is held.
func (l *loop) Write(c *netpoll.Conn, packets []byte) int {
	return l.polls.write(l.session(c), packets)
}

func (ps *polls) write(in *session, packets []byte) int {
	if in.x == nil || in.x.pull == nil {
		return 0
	}
	l := ps.l
	get := ps.held(in)
	if get == nil {
		return 0
	}
	in.x.pull.release()
	get.x.errand = errand{}
	packets = firstPackets(packets)
	body := codec.AppendPayload(ps.body[:0], packets, get.x.http.reply.form)
	ps.body = keep(body)
	ps.of(in).answer(in, get, body)
	ps.of(in).fetched(in)
	if get.phase != ended {
		l.until(get, l.np.Now()+l.limits.KeepAliveSeconds)
	}
	l.np.Release(get.conn)
	return len(packets)
}

// maxAnswered is how many packets one answer carries: python-engineio takes more for an attack and gives the session up. What is
// left goes with the next GET, which a client sends as soon as it has read this answer.
const maxAnswered = 16

// firstPackets cuts a stream behind as many packets as one answer may carry.
func firstPackets(stream []byte) []byte {
	at := 0
	for range maxAnswered {
		_, _, n := codec.NextPacket(stream[at:])
		if n == 0 {
			break
		}
		at += n
	}
	return stream[:at]
}

// script is a payload as the script that JSONP loads. It is valid until the next call.
func (ps *polls) script(rep *reply, body []byte) []byte {
	script := codec.AppendJSONP(ps.jsonp[:0], rep.callback, body)
	ps.jsonp = keep(script)
	return script
}

// noXSS keeps old browsers from taking an echoed function name for an attack (protocol.md §5.4, §5.5).
var noXSS = codec.HTTPHeader{Name: "X-XSS-Protection", Value: "0"}

// receive feeds the packets of a POST to in. It returns false when what came before has yet to be taken; then the connection waits.
// malformed tells that the body was no payload; then nothing was fed.
func (ps *polls) receive(s, in *session, r *request, form codec.PayloadForm, jsonp bool) (malformed, taken bool) {
	l, p := ps.l, in.x.pull
	if !p.take(s.conn.ID(l.np), in.conn.Unread() > 0) {
		s.x.errand = errand{taskPost, in.conn.ID(l.np)}
		l.np.Hold(s.conn)
		l.until(s, neverDue)
		return false, false
	}
	s.x.errand = errand{}
	stream, ok := ps.packetsOf(r.body, form, jsonp)
	if !ok || p.ended {
		ps.drained(in)
		return !ok, true
	}
	l.np.Feed(in.conn, stream)
	return false, true
}

// packetsOf is the body of a POST as a stream of packets, which is valid until the next call.
func (ps *polls) packetsOf(body []byte, form codec.PayloadForm, jsonp bool) (stream []byte, ok bool) {
	if jsonp {
		body, ok = codec.AppendJSONPBody(ps.jsonp[:0], body, form)
		ps.jsonp = keep(body)
		if !ok || len(body) > ps.l.limits.PackageBytes {
			return nil, false
		}
	}
	stream, err := codec.AppendPackets(ps.stream[:0], body, form)
	ps.stream = keep(stream)
	return stream, err == nil
}

// drained lets the POST go on that has waited longest for a session's input to be taken.
func (ps *polls) drained(in *session) {
	if in.x == nil || in.x.pull == nil {
		return
	}
	if s := ps.via(in.x.pull.next(), taskPost, in); s != nil {
		ps.l.np.Release(s.conn)
	}
}

// end ends a session whose client polls. The GET that is held tells the client; if none is, a kick waits for one, and so
// does, while the server drains, what the client has yet to get.
func (ps *polls) end(in *session, why netpoll.Reason) {
	l, p := ps.l, in.x.pull
	if !p.end(why) {
		return
	}
	l.become(in, ended)
	ps.drained(in)
	l.np.Fetch(in.conn)
	get := ps.held(in)
	unread := in.conn.Queued() > 0
	switch {
	case get != nil && why == reasonShutdown:
		ps.of(in).sendAway(in, get)
	case get != nil:
		ps.say(in, ps.of(in).farewell(why))
	case unread && p.waits(l.node.ending.Load()):
		linger := uint32(lingerSeconds)
		if why == reasonShutdown {
			linger = awaySeconds
		}
		l.until(in, l.np.Now()+linger)
		return
	}
	l.np.Close(in.conn, why)
}

// connGone tells the session for which connection s did something that it is gone.
func (ps *polls) connGone(s *session) {
	l := ps.l
	if s.x == nil || s.x.errand.task == taskNone {
		return
	}
	in := l.byID(s.x.errand.session)
	if in == nil || in.x == nil || in.x.pull == nil {
		return
	}
	switch in.x.pull.gone(s.conn.ID(l.np)) {
	case taskPoll:
		ps.of(in).fetched(in)
		ps.of(in).unheld(in)
	case taskPost:
		if in.conn.Unread() == 0 { // it may have been its turn
			ps.drained(in)
		}
	}
}

// sessionGone frees the connections that waited for a session that is gone.
func (ps *polls) sessionGone(in *session) {
	if in.x == nil || in.x.pull == nil {
		return
	}
	l, p := ps.l, in.x.pull
	get := ps.held(in)
	in.x.pull = nil
	if get != nil { // it ended without a word: so does its GET
		l.np.Close(get.conn, reasonHTTP)
	}
	ps.releasePosts(p, in)
	if s := ps.via(p.probe, taskProbe, in); s != nil {
		l.end(s, reasonProtocol)
	}
}

// releasePosts lets all POSTs go on that wait for in; they will find out what has become of it.
func (ps *polls) releasePosts(p *pull, in *session) {
	for _, id := range p.posts {
		if s := ps.via(id, taskPost, in); s != nil {
			s.x.errand = errand{}
			ps.l.np.Release(s.conn)
		}
	}
}

// takeSocket gives the socket of s, a WebSocket, to a session whose client has polled until now: what waits goes out first, in
// its new framing and behind a greeting, if there is one; what was POSTed is read before any frame, and the session stays what it is.
// It takes effect when s's handler returns.
func (ps *polls) takeSocket(in, s *session, framing codec.Framing, greeting string) {
	l, p := ps.l, in.x.pull
	if ps.held(in) != nil {
		ps.idle(in)
	}
	in.x.pull = nil
	ps.releasePosts(p, in)
	in.x.stash = l.np.TakeInput(in.conn)
	waiting := l.np.TakeOutput(in.conn)
	l.rooms.unhostAll(in)
	if l.variant(in).Extended {
		in.variant = l.profile(in).extendedVariant(framing)
	} else {
		in.variant = l.profile(in).variant(framing, false)
	}
	if r := in.room; r != nil {
		l.rooms.dropEmpty(r)
		l.rooms.joinGroup(in, r)
		l.rooms.hostAll(in)
	}
	out := l.np.Stage(in.conn)
	if greeting != "" {
		out = l.variant(in).AppendPacket(out, []byte(greeting))
	}
	l.np.Commit(in.conn, appendPackets(out, l.variant(in), waiting))
	x := l.extra(s)
	x.errand, x.heir = errand{}, in.conn.ID(l.np)
	l.tidy(in)
}

// appendPackets appends the packets of a stream as clients of v get them.
func appendPackets(dst []byte, v *codec.Variant, stream []byte) []byte {
	for {
		packet, _, n := codec.NextPacket(stream)
		if n == 0 {
			return dst
		}
		dst = v.AppendPacket(dst, packet)
		stream = stream[n:]
	}
}
