package router

import (
	"slices"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// pull is what a session has whose client fetches (polling). Its conn has no socket: what is written to that waits there, as the
// packets of codec.AppendPacket, until a GET comes; a POST's packets are fed to it. So everything else (groups, bounds,
// order, pauses) is as for any session.
type pull struct {
	get    netpoll.ID   // connection whose GET is held; 0: none
	posts  []netpoll.ID // connections whose POSTs wait, in the order they came
	probe  netpoll.ID   // WebSocket that may take over
	probed bool         // its probe was answered: the client waits for the end of its GET
	text   bool         // Engine.IO 3: payloads are text
	ended  bool         // only waits for a GET to fetch the reason
	why    netpoll.Reason
}

// lingerSeconds is how long an ended session waits for the GET that fetches the reason.
const lingerSeconds = 10

// awaySeconds is the same at the end of the server: a client that polls is never away for longer than it takes to ask again.
const awaySeconds = 2

// openPull makes a session whose client fetches, for the connection that asks for it, or tells why not.
func (l *loop) openPull(from *session, r *request, w wire, framing codec.Framing) (*session, *codec.HTTPError) {
	if l.node.short.Load() {
		l.counters.limited[limitMemory]++
		return nil, errFull
	}
	closing := l.node.closing.Load() && from.x.http.served // a first request is served, as nobody would make it again
	if closing && string(r.head.Method) == "GET" {
		return nil, errAskAgain
	}
	if closing || l.node.pulls() >= l.node.limits.Pulls {
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
	s := l.newSession(c)
	s.wire, s.variant = w, s.profile.variants[variantKey{framing: framing}]
	x := l.extra(s)
	x.pull = new(pull)
	return s, nil
}

// pulls is the number of sessions without a socket.
func (n *Node) pulls() int {
	total := 0
	for _, l := range n.loops {
		total += l.np.Pulls()
	}
	return total
}

// pulled finds the session a request names, of this listener.
func (l *loop) pulled(s *session, r *request) *session {
	if r.pull == 0 {
		return nil
	}
	c := l.np.Find(r.pull)
	if c == nil {
		return nil
	}
	in := l.session(c)
	if in.profile != s.profile || in.wire == wireHybrid {
		return nil
	}
	return in
}

// holder finds a connection that does something for a session.
func (l *loop) holder(id netpoll.ID) *session {
	if id == 0 {
		return nil
	}
	if c := l.np.Find(id); c != nil {
		return l.session(c)
	}
	return nil
}

// poll answers the GET of connection s with what waits for in, or holds it until there is something. A GET that is
// already held gives way: its client has given it up, or a proxy has (protocol.md §5.4, §6.3).
func (l *loop) poll(s, in *session) {
	p := in.x.pull
	if old := l.holder(p.get); old != nil {
		l.answerPoll(in, l.idle(in))
	}
	h := s.x.http
	p.get = s.conn.ID(l.np)
	h.task, h.pull = taskPoll, in.conn.ID(l.np)
	l.polled(in)
	l.np.Fetch(in.conn)
	switch {
	case p.get == 0: // answered
	case p.ended:
		l.answerPoll(in, l.farewell(in, p.why))
	case p.probed: // the client waits for this before it changes over (protocol.md §6.4)
		l.answerPoll(in, l.idle(in))
	default:
		l.np.Hold(s.conn)
		l.np.SetDue(s.conn, 0)
		if in.wire == wireSIO09 {
			l.np.SetDue(s.conn, l.np.Now()+l.node.limits.pollSeconds())
		}
	}
	switch {
	case !p.ended:
	case in.conn.Queued() == 0:
		l.np.Close(in.conn, p.why)
	default: // more than one answer carries: it has its time again
		l.np.SetDue(in.conn, l.np.Now()+lingerSeconds)
	}
}

// polled notes that a GET came or went: for clients of 0.9 that is life (protocol.md §5.4).
func (l *loop) polled(in *session) {
	if in.wire == wireSIO09 && in.state == stateWorking && l.settle(in) {
		l.heard(in)
	}
}

// pollTimeout answers a GET that was held for long enough.
func (l *loop) pollTimeout(s *session) {
	if in := l.holder(s.x.http.pull); in != nil {
		l.answerPoll(in, l.idle(in))
	}
}

// idle is the packet that says nothing.
func (l *loop) idle(in *session) string {
	if in.wire == wireSIO09 {
		return "8::"
	}
	return "6"
}

// farewell is the packet that ends a session whose GET is held.
func (l *loop) farewell(in *session, why netpoll.Reason) string {
	switch {
	case in.wire == wireSIO09:
		return "0::"
	case why == reasonGoodbye:
		return "6" // it is the client that closes
	}
	return "1"
}

// comeBack09 tells a client of 0.9 to open another session.
const comeBack09 = "7:::1+0"

// answerPoll answers the GET that is held for in with one packet.
func (l *loop) answerPoll(in *session, packet string) {
	l.Write(in.conn, codec.AppendPacket(l.packet[:0], []byte(packet)))
}

// Write implements netpoll.Handler: packets for a client that fetches go into the answer to its GET, if one is held.
func (l *loop) Write(c *netpoll.Conn, packets []byte) int {
	in := l.session(c)
	if in.x == nil || in.x.pull == nil {
		return 0
	}
	p := in.x.pull
	s := l.holder(p.get)
	if s == nil {
		return 0
	}
	p.get = 0
	h := s.x.http
	h.task, h.pull = taskNone, 0
	packets = firstPackets(packets)
	body := codec.AppendPayload(l.body[:0], packets, h.reply.form)
	l.body = keep(body)
	l.respondPayload(s, in, body)
	l.polled(in)
	if s.state == stateHTTP {
		l.np.SetDue(s.conn, l.np.Now()+l.node.limits.KeepAliveSeconds)
	}
	l.np.Release(s.conn)
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

// respondPayload answers a polling request with a body of packets.
func (l *loop) respondPayload(s, in *session, body []byte) {
	rep := &s.x.http.reply
	contentType := "text/plain; charset=UTF-8"
	headers := make([]codec.HTTPHeader, 0, 6)
	if in.wire == wireSIO09 {
		headers = rep.cors09(headers)
	} else {
		headers = append(rep.cors(headers), noStore)
	}
	headers = l.cookie(headers, rep, in)
	switch {
	case rep.callback != "":
		body = codec.AppendJSONP(l.jsonp[:0], rep.callback, body)
		l.jsonp = keep(body)
		headers = append(headers, noXSS)
		if in.wire == wireSIO09 {
			contentType = "text/javascript; charset=UTF-8"
		}
	case rep.form == codec.PayloadEIO3Binary:
		contentType = "application/octet-stream"
	}
	l.respondHTTP(s, 200, contentType, body, headers...)
}

// noXSS keeps old browsers from taking an echoed function name for an attack (protocol.md §5.4, §5.5).
var noXSS = codec.HTTPHeader{Name: "X-XSS-Protection", Value: "0"}

// cookie appends what tells a proxy which server a client of Engine.IO 3 belongs to (protocol.md §6.3). No client and nothing here
// reads it: it is told once, with the answer that opens the session, as Engine.IO itself does from 4 on if at all. Pages of other
// sites do not get it sent along.
func (l *loop) cookie(headers []codec.HTTPHeader, rep *reply, in *session) []codec.HTTPHeader {
	if !rep.cookie {
		return headers
	}
	value := append(l.node.sids.append([]byte("io="), in.conn.ID(l.np)), "; Path=/; HttpOnly; SameSite=Lax"...)
	if rep.tls {
		value = append(value, "; Secure"...)
	}
	return append(headers, codec.HTTPHeader{Name: "Set-Cookie", Value: string(value)})
}

// receive feeds the packets of a POST to in. It returns false when what came before has yet to be taken; then the connection waits.
// malformed tells that the body was no payload; then nothing was fed.
func (l *loop) receive(s, in *session, r *request, form codec.PayloadForm, jsonp bool) (malformed, taken bool) {
	p, h, id := in.x.pull, s.x.http, s.conn.ID(l.np)
	if !p.ended && (in.conn.Unread() > 0 || len(p.posts) > 0 && p.posts[0] != id) {
		if h.task == taskNone {
			h.task, h.pull = taskPost, in.conn.ID(l.np)
			p.posts = append(p.posts, id)
		}
		l.np.Hold(s.conn)
		l.np.SetDue(s.conn, 0)
		return false, false
	}
	p.forget(id)
	h.task, h.pull = taskNone, 0
	stream, ok := l.packetsOf(r.body, form, jsonp)
	if !ok || p.ended {
		l.drained(in)
		return !ok, true
	}
	l.np.Feed(in.conn, stream)
	return false, true
}

// packetsOf is the body of a POST as a stream of packets, which is valid until the next call.
func (l *loop) packetsOf(body []byte, form codec.PayloadForm, jsonp bool) (stream []byte, ok bool) {
	if jsonp {
		body, ok = codec.AppendJSONPBody(l.jsonp[:0], body, form)
		l.jsonp = keep(body)
		if !ok || len(body) > l.node.limits.PackageBytes {
			return nil, false
		}
	}
	stream, err := codec.AppendPackets(l.stream[:0], body, form)
	l.stream = keep(stream)
	return stream, err == nil
}

// forget takes a connection off those whose POSTs wait.
func (p *pull) forget(post netpoll.ID) {
	if i := slices.Index(p.posts, post); i >= 0 {
		p.posts = slices.Delete(p.posts, i, i+1)
	}
}

// packetStream reads what POSTs have fed to a session, or what a pause has left of that or of a frame.
func (l *loop) packetStream(s *session, b []byte) (used int) {
	for used < len(b) && s.state != stateEnded {
		packet, binary, n := codec.NextPacket(b[used:])
		if n == 0 || !l.takePacket(s, packet, binary) {
			return used
		}
		used += n
		if l.np.Throttle(s.conn) {
			return used
		}
	}
	l.drained(s)
	return len(b)
}

// drained lets the POST go on that has waited longest for a session's input to be taken.
func (l *loop) drained(in *session) {
	if in.x == nil || in.x.pull == nil || len(in.x.pull.posts) == 0 {
		return
	}
	if s := l.holder(in.x.pull.posts[0]); s != nil {
		l.np.Release(s.conn)
	}
}

// endPull ends a session whose client fetches. The GET that is held tells the client; if none is, a kick waits for one, and so
// does, while the server drains, what the client has yet to get.
func (l *loop) endPull(in *session, why netpoll.Reason) {
	p := in.x.pull
	if p.ended {
		return
	}
	in.state = stateEnded
	p.ended, p.why = true, why
	l.depart(in)
	l.drained(in)
	l.np.Fetch(in.conn)
	if get := l.holder(p.get); get != nil && why == reasonShutdown && in.wire == wireSIO09 {
		if get.x.http.reply.callback != "" { // JSONP: such a client does not notice that its script did not load, for a minute
			l.answerPoll(in, comeBack09)
		}
		l.np.Close(get.conn, reasonShutdown) // a client that is told of an end would not come back
	} else if get != nil {
		l.answerPoll(in, l.farewell(in, why))
	} else if (why == reasonKick || why == reasonFlood) && in.conn.Queued() > 0 {
		l.np.SetDue(in.conn, l.np.Now()+lingerSeconds)
		return
	} else if why == reasonShutdown && in.conn.Queued() > 0 && !l.node.ending.Load() {
		l.np.SetDue(in.conn, l.np.Now()+awaySeconds)
		return
	}
	l.np.Close(in.conn, why)
}

// forsaken tells a session that a connection which did something for it is gone.
func (l *loop) forsaken(s *session) {
	h := s.x.http
	in := l.holder(h.pull)
	if in == nil || in.x.pull == nil {
		return
	}
	p, id := in.x.pull, s.conn.ID(l.np)
	switch {
	case p.get == id:
		p.get = 0
		l.polled(in)
		if in.wire != wireSIO09 { // such a client gives up the session when a request fails (protocol.md §6.3)
			l.endPull(in, netpoll.ReasonPeer)
		}
	case p.probe == id:
		p.probe, p.probed = 0, false
	default:
		p.forget(id)
		if in.conn.Unread() == 0 { // it may have been its turn
			l.drained(in)
		}
	}
}

// released frees those who waited for a session that is gone.
func (l *loop) released(p *pull) {
	if s := l.holder(p.get); s != nil { // it ended without a word: so does its GET
		l.np.Close(s.conn, reasonHTTP)
	}
	l.releasePosts(p)
	if s := l.holder(p.probe); s != nil {
		l.end(s, reasonProtocol)
	}
}

// releasePosts lets all POSTs go on that wait for a session; they will find out what has become of it.
func (l *loop) releasePosts(p *pull) {
	for _, id := range p.posts {
		if s := l.holder(id); s != nil {
			s.x.http.task, s.x.http.pull = taskNone, 0
			l.np.Release(s.conn)
		}
	}
}

// takeSocket gives the socket of s, a WebSocket, to a session whose client has fetched until now: what waits goes out first, in
// its new framing, what was POSTed is read before any frame, and the session stays what it is. It takes effect when s's
// handler returns.
func (l *loop) takeSocket(in, s *session, framing codec.Framing) {
	p := in.x.pull
	if get := l.holder(p.get); get != nil {
		l.answerPoll(in, l.idle(in))
	}
	in.x.pull = nil
	l.releasePosts(p)
	in.x.stash = l.np.TakeInput(in.conn)
	waiting := l.np.TakeOutput(in.conn)
	in.variant = in.profile.variants[variantKey{framing: framing}]
	if r := in.room; r != nil {
		l.dropEmpty(r)
		l.joinGroup(in, r)
	}
	out := l.np.Stage(in.conn)
	if in.wire == wireSIO09 && in.state == stateInited {
		out = in.variant.AppendPacket(out, []byte("1::"))
	}
	l.np.Commit(in.conn, appendPackets(out, in.variant, waiting))
	l.changeTransport(in)
	s.state = stateMoved
	l.extra(s).heir = in.conn.ID(l.np)
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
