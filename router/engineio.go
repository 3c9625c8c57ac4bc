package router

import (
	"bytes"
	"strconv"

	"github.com/pomelod/pomelod/codec"
)

// pathSIO is where all generations of socket.io clients connect by default.
const pathSIO = "/socket.io/"

// eioError answers with one of Engine.IO's errors (protocol.md §6.5).
func (l *loop) eioError(s *session, code int) {
	l.counters.httpErrors++
	body := append(strconv.AppendInt([]byte(`{"code":`), int64(code), 10), `,"message":"`...)
	body = append(append(body, eioErrors[code]...), `"}`...)
	headers := s.x.http.reply.cors(make([]codec.HTTPHeader, 0, 4))
	l.respondHTTP(s, 400, "application/json", body, headers...)
}

const (
	eioTransportUnknown = iota
	eioSessionUnknown
	eioBadMethod
	eioBadRequest
)

var eioErrors = [...]string{"Transport unknown", "Session ID unknown", "Bad handshake method", "Bad request"}

// isEIO tells whether a request under /socket.io is of Engine.IO (protocol.md §8): what stands behind the path does not matter to it
// then. 0.9 has paths and no such query; /socket.io/ alone is its welcome.
func isEIO(head *codec.HTTPHead) bool {
	if len(head.Path) <= len(pathSIO) { // with or without the slash at its end
		return len(head.Query) > 0 || head.IsUpgrade()
	}
	_, version := codec.QueryValue(head.Query, "EIO")
	_, transport := codec.QueryValue(head.Query, "transport")
	return version && transport
}

// eioVersion is the generation that a request asks for (protocol.md §8).
func eioVersion(r *request) wire {
	if v, _ := codec.QueryValue(r.head.Query, "EIO"); string(v) == "4" {
		return wireEIO4
	}
	return wireEIO3
}

// serveEIO carries out a polling request (protocol.md §6.3, §7).
func (l *loop) serveEIO(s *session, r *request) bool {
	method := string(r.head.Method)
	transport, _ := codec.QueryValue(r.head.Query, "transport")
	polling := string(transport) == "polling"
	rep := &s.x.http.reply
	rep.wants = eioVersion(r) == wireEIO3
	if method == "OPTIONS" {
		status := 200
		if eioVersion(r) == wireEIO4 {
			status = 204
		}
		l.preflight(s, r, status)
		return true
	}
	if !polling && string(transport) != "websocket" {
		l.eioError(s, eioTransportUnknown)
		return true
	}
	jsonp := false
	if len(r.sid) == 0 {
		switch {
		case method != "GET":
			l.eioError(s, eioBadMethod)
		case !polling:
			l.eioError(s, eioBadRequest)
		default:
			l.openPolling(s, r)
		}
		return true
	}
	in := l.pulled(s, r)
	if in == nil || in.wire == wireSIO09 {
		l.eioError(s, eioSessionUnknown)
		return true
	}
	if in.x == nil || in.x.pull == nil || !polling {
		l.eioError(s, eioBadRequest)
		return true
	}
	jsonp = rep.setForm(r, in)
	switch method {
	case "GET":
		l.poll(s, in)
	case "POST":
		form := rep.form
		if in.wire == wireEIO3 {
			form = codec.PayloadEIO3Text
			if !jsonp && bytes.HasPrefix(r.head.ContentType, []byte("application/octet-stream")) {
				form = codec.PayloadEIO3Binary
			}
		}
		malformed, taken := l.receive(s, in, r, form, jsonp)
		if !taken {
			return false
		}
		headers := rep.cors(make([]codec.HTTPHeader, 0, 5))
		if in.wire == wireEIO4 {
			headers = append(headers, noStore)
		}
		l.respondHTTP(s, 200, "text/html", []byte("ok"), headers...)
		if malformed {
			l.counters.malformed++
			l.end(in, reasonProtocol)
		}
	default:
		l.respondHTTP(s, 500, "", nil)
	}
	return true
}

// setForm finds out how the answer to a GET is to be written. It tells whether that is JSONP.
func (rep *reply) setForm(r *request, in *session) bool {
	rep.form = codec.PayloadEIO4
	if in.wire != wireEIO3 {
		return false
	}
	j, jsonp := codec.QueryValue(r.head.Query, "j")
	if jsonp {
		rep.callback = "___eio[" + digits(j) + "]"
	}
	rep.form = codec.PayloadEIO3Binary
	if in.x.pull.text || jsonp {
		rep.form = codec.PayloadEIO3Text
	}
	return jsonp
}

// digits are the first digits in b, more than clients count with: nothing else may get into a script, and it is kept with a held GET.
func digits(b []byte) string {
	var d []byte
	for _, c := range b {
		if c >= '0' && c <= '9' && len(d) < 32 {
			d = append(d, c)
		}
	}
	return string(d)
}

// openPolling opens a session whose client fetches.
func (l *loop) openPolling(s *session, r *request) {
	in, err := l.openPull(s, r, eioVersion(r), codec.FramingEIOPull)
	if err != nil {
		l.refuseSession(s, err)
		return
	}
	if in.profile.Type == Gate {
		in.x.host = l.hostOf(s, r)
	}
	b64, _ := codec.QueryValue(r.head.Query, "b64")
	in.x.pull.text = len(b64) > 0
	rep := &s.x.http.reply
	rep.setForm(r, in)
	rep.cookie = in.wire == wireEIO3
	l.welcome(in, `["websocket"]`)
	l.poll(s, in)
}

// upgradeEIO opens a session over WebSocket, or lets one try whether it works (protocol.md §6.2, §6.4).
func (l *loop) upgradeEIO(s *session, r *request) *codec.HTTPError {
	transport, _ := codec.QueryValue(r.head.Query, "transport")
	in := l.pulled(s, r)
	switch {
	case string(transport) != "websocket":
		return errEIOTransport
	case len(r.sid) > 0 && (in == nil || in.wire == wireSIO09):
		return errEIOSession
	case in != nil && (in.x == nil || in.x.pull == nil):
		return errEIORequest
	case in == nil && !l.node.access.handshake(s.conn.Peer().Addr()):
		return errOften
	}
	if err := l.acceptWebSocket(s, r); err != nil {
		return err
	}
	s.variant = s.profile.variants[variantKey{framing: codec.FramingEIOWS}]
	if in == nil {
		if s.profile.Type == Gate {
			l.extra(s).host = l.hostOf(s, r)
		}
		s.wire = eioVersion(r)
		l.welcome(s, "[]")
		return nil
	}
	s.wire, s.state = in.wire, stateProbe
	p := in.x.pull
	if p.probe != 0 { // one at a time
		l.end(s, reasonProtocol)
		return nil
	}
	p.probe = s.conn.ID(l.np)
	h := l.httpConn(s)
	h.task, h.pull = taskProbe, in.conn.ID(l.np)
	s.alive = l.np.Now() + l.node.limits.UpgradeSeconds
	l.np.SetDue(s.conn, s.alive)
	return nil
}

var (
	errEIOTransport = &codec.HTTPError{Status: 400, Reason: eioErrors[eioTransportUnknown]}
	errEIOSession   = &codec.HTTPError{Status: 400, Reason: eioErrors[eioSessionUnknown]}
	errEIORequest   = &codec.HTTPError{Status: 400, Reason: eioErrors[eioBadRequest]}
)

// welcome sends a new session's first packets.
func (l *loop) welcome(s *session, upgrades string) {
	limits := &l.node.limits
	timeout := limits.PingTimeoutSeconds
	if s.wire == wireEIO4 {
		timeout = limits.PingTimeout4Seconds
	}
	b := append(l.packet[:0], `0{"sid":"`...)
	b = l.node.sids.append(b, s.conn.ID(l.np))
	b = append(append(b, `","upgrades":`...), upgrades...)
	b = strconv.AppendInt(append(b, `,"pingInterval":`...), int64(limits.PingSeconds)*1000, 10)
	b = strconv.AppendInt(append(b, `,"pingTimeout":`...), int64(timeout)*1000, 10)
	if s.wire == wireEIO4 {
		b = strconv.AppendInt(append(b, `,"maxPayload":`...), int64(limits.PackageBytes), 10)
	}
	l.packet = append(b, '}')
	out := s.variant.AppendPacket(l.np.Stage(s.conn), l.packet)
	l.changeTransport(s)
	if s.wire == wireEIO4 { // it is the client that connects (protocol.md §7)
		l.np.Commit(s.conn, out)
		s.state = stateInited
		s.alive = l.np.Now() + limits.ConnectSeconds
		l.np.SetDue(s.conn, s.alive)
		return
	}
	l.np.Commit(s.conn, s.variant.AppendPacket(out, []byte("40")))
	l.open(s)
}

// packetEIO processes an Engine.IO packet (protocol.md §6.1, §7).
func (l *loop) packetEIO(s *session, b []byte, binary bool) bool {
	if binary || len(b) == 0 { // Pomelo's messages are strings; §6.1, Rule
		l.end(s, reasonProtocol)
		return true
	}
	switch b[0] {
	case '0', '3', '5', '6': // a pong, and what a client has no reason to say here
		l.charge(s, len(b))
		l.heard(s)
	case '1':
		l.end(s, reasonGoodbye)
	case '2':
		if l.answers(s, owesBeat, len(b)) {
			l.heartbeat(s)
		}
		l.heard(s)
	case '4':
		return l.packetSIO(s, b[1:])
	default:
		l.end(s, reasonProtocol)
	}
	return true
}

// packetSIO processes a socket.io packet. It returns false, having done nothing, when the session must wait.
func (l *loop) packetSIO(s *session, b []byte) bool {
	p, ok := codec.ParseSIOPacket(b)
	message := ok && p.Type == codec.SIOEvent && p.Namespace == nil && s.state == stateWorking
	leaves := p.Type == codec.SIODisconnect && s.state == stateWorking // that is never refused
	if !message && !leaves {
		l.charge(s, len(b)) // a connect is answered beyond the rate, too: its client waits
		if s.state == stateEnded {
			return true
		}
	}
	if !ok {
		l.counters.malformed++
		l.heard(s)
		if s.wire == wireEIO4 {
			l.end(s, reasonProtocol)
		}
		return true
	}
	if s.state == stateInited && s.wire == wireEIO4 && p.Type != codec.SIOConnect {
		l.end(s, reasonProtocol) // §7: a message before the connect
		return true
	}
	switch {
	case p.Type == codec.SIOConnect:
		l.heard(s)
		l.connectSIO(s, &p)
	case p.Namespace != nil:
		l.heard(s) // nobody can be in it
	case p.Type == codec.SIODisconnect:
		l.disconnectSIO(s)
	case p.Type == codec.SIOEvent && s.state == stateWorking:
		ack := p.AckID
		if s.wire == wireEIO3 { // Pomelo never acknowledged to these, and they do not wait for it
			ack = nil
		}
		text, ok := p.AppendEventText(l.text[:0])
		l.text = keep(text)
		if !ok {
			if l.charge(s, len(b)) {
				l.acknowledge(s, ack)
			}
		} else if !l.pomeloMessage(s, text, ack) {
			return false
		}
		l.heard(s)
	}
	return true
}

// connectSIO answers a connect to a namespace, of which there is only one.
func (l *loop) connectSIO(s *session, p *codec.SIOPacket) {
	b := l.packet[:0]
	switch {
	case p.Namespace != nil && s.wire == wireEIO4:
		b = append(append(append(b, "44"...), p.Namespace...), `,{"message":"Invalid namespace"}`...)
	case p.Namespace != nil:
		b = append(append(append(b, "44"...), p.Namespace...), `,"Invalid namespace"`...)
	case s.state == stateInited && s.wire == wireEIO4:
		b = append(l.node.sids.appendPublic(append(b, `40{"sid":"`...), s.conn.ID(l.np)), `"}`...)
	default:
		return
	}
	l.packet = keep(b)
	l.np.Commit(s.conn, s.variant.AppendPacket(l.np.Stage(s.conn), b))
	if p.Namespace == nil {
		l.open(s)
	}
}

// disconnectSIO ends the session above the transport. The client closes that itself; it may also connect again (§7).
func (l *loop) disconnectSIO(s *session) {
	if s.state != stateWorking {
		return
	}
	l.depart(s)
	l.runLocal()
	s.state = stateInited
	s.alive = l.np.Now() + l.node.limits.HandshakeSeconds
	l.wake(s)
}

// probed processes a packet of a WebSocket that may take over a session (protocol.md §6.4).
func (l *loop) probed(s *session, b []byte) {
	h := s.x.http
	in := l.holder(h.pull)
	switch {
	case in == nil || in.x == nil || in.x.pull == nil:
		l.end(s, reasonProtocol)
	case string(b) == "2probe":
		l.np.Commit(s.conn, s.variant.AppendPacket(l.np.Stage(s.conn), []byte("3probe")))
		in.x.pull.probed = true
		if in.x.pull.get != 0 { // the client waits for this GET's end
			l.answerPoll(in, l.idle(in))
		}
	case string(b) == "5" && in.x.pull.ended: // the client will not fetch the reason, so it goes this way
		l.np.Commit(s.conn, appendPackets(l.np.Stage(s.conn), s.variant, l.np.TakeOutput(in.conn)))
		l.np.Close(in.conn, in.x.pull.why)
	case string(b) == "5":
		h.task, h.pull = taskNone, 0
		l.takeSocket(in, s, codec.FramingEIOWS)
		l.counters.upgrades++
		l.heard(in)
	default:
		l.end(s, reasonProtocol)
	}
}
