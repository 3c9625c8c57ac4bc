package router

import (
	"bytes"
	"strconv"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// engineIO is what Engine.IO 3 (socket.io 1 and 2) and 4 (socket.io 3 and 4) have in common (protocol.md §6, §7).
type engineIO struct {
	packets
	generation
	probe           protocolID // of WebSockets that may take over a session
	timeout         uint32     // told to the client: seconds of silence after a ping or its time
	preflight       int        // status of the answer to OPTIONS
	asksWith        bool       // its clients ask with credentials (reply.wants)
	acks            bool       // its clients wait for the acknowledgements that they ask for
	strict          bool       // what is no packet ends the session, and so does a message before the connect
	noSuchNamespace string     // behind "44" and the namespace
}

// generation is what one of the two does in its own way.
type generation interface {
	// welcomed goes on where the first packet of a new session has been staged.
	welcomed(s *session)
	// appendLimits appends what else the first packet tells.
	appendLimits(b []byte) []byte
	// connected answers the connect of a session. data is the JSON that came with it.
	connected(s *session, data []byte)
	// form finds out how the answer to a GET is to be written, and tells whether that is JSONP.
	form(rep *reply, r *request, text bool) (jsonp bool)
	// postForm is how the body of a POST is written.
	postForm(r *request, jsonp bool) codec.PayloadForm
	// postHeaders adds to the headers of the answer to a POST.
	postHeaders(headers []codec.HTTPHeader) []codec.HTTPHeader
}

// The transports of the table.
const (
	eioWS = iota
	eioPolling
)

func variantsEIO(*Profile) []codec.Variant {
	return []codec.Variant{{Framing: codec.FramingEIOWS}, {Framing: codec.FramingEIOPull}}
}

// engineOf is the Engine.IO that s speaks, nil when it speaks none. s may be nil.
func (l *loop) engineOf(s *session) *engineIO {
	if s == nil {
		return nil
	}
	if p, ok := l.protocol(s).(interface{ engine() *engineIO }); ok {
		return p.engine()
	}
	return nil
}

func (p *engineIO) engine() *engineIO { return p }

// pathSIO is where all generations of socket.io clients connect by default.
const pathSIO = "/socket.io/"

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

// ownsEIO tells whether a request is of Engine.IO and asks for generation 4, or for another (protocol.md §8).
func ownsEIO(r *request, four bool) bool {
	if !underSIO(r.head.Path) || !isEIO(r.head) {
		return false
	}
	if v, _ := codec.QueryValue(r.head.Query, "EIO"); (string(v) == "4") != four {
		return false
	}
	r.sid, _ = codec.QueryValue(r.head.Query, "sid")
	return true
}

func underSIO(path []byte) bool {
	return bytes.HasPrefix(path, []byte(pathSIO)) || string(path) == pathSIO[:len(pathSIO)-1]
}

// eioError answers with one of Engine.IO's errors (protocol.md §6.5).
func (p *engineIO) refuse(s *session, code int) {
	l := p.l
	l.counters.httpErrors++
	body := append(strconv.AppendInt([]byte(`{"code":`), int64(code), 10), `,"message":"`...)
	body = append(append(body, eioErrors[code]...), `"}`...)
	headers := s.x.http.reply.cors(make([]codec.HTTPHeader, 0, 4))
	l.http.respond(s, 400, "application/json", body, headers...)
}

const (
	eioTransportUnknown = iota
	eioSessionUnknown
	eioBadMethod
	eioBadRequest
)

var eioErrors = [...]string{"Transport unknown", "Session ID unknown", "Bad handshake method", "Bad request"}

// serve carries out a polling request (protocol.md §6.3, §7). Which generation a session is of was settled when it was opened.
func (p *engineIO) serve(s *session, r *request) bool {
	l, rep := p.l, &s.x.http.reply
	method := string(r.head.Method)
	transport, _ := codec.QueryValue(r.head.Query, "transport")
	polling := string(transport) == "polling"
	rep.wants = p.asksWith
	in := l.polledBy(s, r)
	of := l.engineOf(in)
	switch {
	case method == "OPTIONS":
		l.http.preflight(s, r, p.preflight)
	case !polling && string(transport) != "websocket":
		p.refuse(s, eioTransportUnknown)
	case len(r.sid) == 0 && method != "GET":
		p.refuse(s, eioBadMethod)
	case len(r.sid) == 0 && !polling:
		p.refuse(s, eioBadRequest)
	case len(r.sid) == 0:
		p.open(s, r)
	case of == nil:
		p.refuse(s, eioSessionUnknown)
	case in.x == nil || in.x.pull == nil || !polling:
		p.refuse(s, eioBadRequest)
	case method == "GET":
		of.form(rep, r, in.x.pull.text)
		l.polls.poll(s, in)
	case method == "POST":
		return of.post(s, in, r)
	default:
		l.http.respond(s, 500, "", nil)
	}
	return true
}

// post takes a POST of s for in.
func (p *engineIO) post(s, in *session, r *request) bool {
	l, rep := p.l, &s.x.http.reply
	jsonp := p.form(rep, r, in.x.pull.text)
	malformed, taken := l.polls.receive(s, in, r, p.postForm(r, jsonp), jsonp)
	if !taken {
		return false
	}
	headers := p.postHeaders(rep.cors(make([]codec.HTTPHeader, 0, 5)))
	l.http.respond(s, 200, "text/html", []byte("ok"), headers...)
	if malformed {
		l.counters.malformed++
		l.end(in, reasonProtocol)
	}
	return true
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

// open opens a session whose client polls.
func (p *engineIO) open(s *session, r *request) {
	l := p.l
	in, err := l.polls.open(s, r, &p.base, codec.FramingEIOPull)
	if err != nil {
		l.http.refuseSession(s, err)
		return
	}
	b64, _ := codec.QueryValue(r.head.Query, "b64")
	in.x.pull.text = len(b64) > 0
	l.keepToken(in, r)
	p.form(&s.x.http.reply, r, in.x.pull.text)
	p.count(in, eioPolling)
	p.welcome(in, `["websocket"]`)
	l.polls.poll(s, in)
}

// upgrade opens a session over WebSocket, or lets one try whether it works (protocol.md §6.2, §6.4).
func (p *engineIO) upgrade(s *session, r *request) *codec.HTTPError {
	l := p.l
	transport, _ := codec.QueryValue(r.head.Query, "transport")
	in := l.polledBy(s, r)
	of := l.engineOf(in)
	switch {
	case string(transport) != "websocket":
		return errEIOTransport
	case len(r.sid) > 0 && of == nil:
		return errEIOSession
	case of != nil && (in.x == nil || in.x.pull == nil):
		return errEIORequest
	case of == nil && !l.node.access.handshake(r.client.Addr()):
		return errOften
	}
	if err := l.http.acceptWebSocket(s, r); err != nil {
		return err
	}
	p.frame(s, codec.FramingEIOWS)
	if of != nil {
		l.protocols[of.probe].(*probe).begin(s, in)
		return nil
	}
	p.speak(s)
	p.count(s, eioWS)
	l.keepToken(s, r)
	if l.profile(s).Type == Gate {
		l.extra(s).host = l.http.hostOf(s, r)
	}
	p.welcome(s, "[]")
	return nil
}

var (
	errEIOTransport = &codec.HTTPError{Status: 400, Reason: eioErrors[eioTransportUnknown]}
	errEIOSession   = &codec.HTTPError{Status: 400, Reason: eioErrors[eioSessionUnknown]}
	errEIORequest   = &codec.HTTPError{Status: 400, Reason: eioErrors[eioBadRequest]}
)

// welcome stages a new session's first packets.
func (p *engineIO) welcome(s *session, upgrades string) {
	l := p.l
	b := append(l.packet[:0], `0{"sid":"`...)
	b = l.node.sids.append(b, s.conn.ID(l.np))
	b = append(append(b, `","upgrades":`...), upgrades...)
	b = strconv.AppendInt(append(b, `,"pingInterval":`...), int64(l.limits.PingSeconds)*1000, 10)
	b = strconv.AppendInt(append(b, `,"pingTimeout":`...), int64(p.timeout)*1000, 10)
	l.packet = append(p.appendLimits(b), '}')
	p.send(s, l.packet)
	p.welcomed(s)
}

// packet takes an Engine.IO packet (protocol.md §6.1, §7).
func (p *engineIO) packet(s *session, b []byte, binary bool) bool {
	l := p.l
	if s.shaking() {
		l.np.Pause(s.conn)
		return false
	}
	if binary || len(b) == 0 { // Pomelo's messages are strings; §6.1, Rule
		l.end(s, reasonProtocol)
		return true
	}
	switch b[0] {
	case '0', '3', '5', '6': // a pong, and what a client has no reason to say here
		l.charge(s, len(b))
		l.heard(s)
	case '1':
		l.end(s, p.closes(s))
	case '2':
		if l.answersNow(s, owesBeat, len(b)) {
			p.beat(s)
		}
		l.heard(s)
	case '4':
		return p.packetSIO(s, b[1:])
	default:
		l.end(s, reasonProtocol)
	}
	return true
}

// closes is why a client closes its session. Libraries that poll do so by themselves when a GET has failed, and connect anew: then no GET is held. Who leaves of its
// own will has said so before, in socket.io's words, or has one.
func (p *engineIO) closes(s *session) netpoll.Reason {
	if x := s.x; x != nil && x.pull != nil && p.l.polls.held(s) == nil {
		return netpoll.ReasonPeer
	}
	return reasonGoodbye
}

func (p *engineIO) beat(s *session) { p.send(s, []byte("3")) }

// packetSIO takes a socket.io packet. It returns false, having done nothing, when the session must wait.
func (p *engineIO) packetSIO(s *session, b []byte) bool {
	l := p.l
	pkt, ok := codec.ParseSIOPacket(b)
	message := ok && pkt.Type == codec.SIOEvent && pkt.Namespace == nil && s.phase == working
	leaves := pkt.Type == codec.SIODisconnect && s.phase == working // that is never refused
	if !message && !leaves {
		l.charge(s, len(b)) // a connect is answered beyond the rate, too: its client waits
		if s.phase == ended {
			return true
		}
	}
	if !ok {
		l.counters.malformed++
		l.heard(s)
	}
	if p.strict && (!ok || s.phase == opening && pkt.Type != codec.SIOConnect) { // §7
		l.end(s, reasonProtocol)
	}
	switch {
	case !ok || s.phase == ended:
	case pkt.Type == codec.SIOConnect:
		l.heard(s)
		p.connect(s, &pkt)
	case pkt.Namespace != nil:
		l.heard(s) // nobody can be in it
	case pkt.Type == codec.SIODisconnect:
		p.disconnect(s)
	case message:
		var ack []byte
		if p.acks {
			ack = pkt.AckID
		}
		text, ok := pkt.AppendEventText(l.text[:0])
		l.text = keep(text)
		if !ok {
			if l.charge(s, len(b)) {
				l.protocol(s).acknowledge(s, ack)
			}
		} else if !l.textMessage(s, text, ack) {
			return false
		}
		l.heard(s)
	}
	return true
}

// connect answers a connect to a namespace, of which there is only one.
func (p *engineIO) connect(s *session, pkt *codec.SIOPacket) {
	if pkt.Namespace == nil {
		p.connected(s, pkt.Data)
		return
	}
	b := append(append(p.l.packet[:0], "44"...), pkt.Namespace...)
	b = append(b, p.noSuchNamespace...)
	p.l.packet = keep(b)
	p.send(s, b)
}

// disconnect ends the session above the transport. The client closes that itself; it may also connect again (§7).
func (p *engineIO) disconnect(s *session) {
	if s.phase != working {
		return
	}
	p.l.become(s, opening)
	p.l.until(s, p.l.np.Now()+p.l.limits.HandshakeSeconds)
}

// idle and what follows implement polled.
func (p *engineIO) idle() string { return "6" }

func (p *engineIO) farewell(why netpoll.Reason) string {
	if why == reasonGoodbye { // it is the client that closes
		return "6"
	}
	return "1"
}

// patience: a GET is held for as long as it takes.
func (p *engineIO) patience() uint32 { return neverDue }

func (p *engineIO) fetched(*session) {}

// unheld: such a client gives up the session when a request fails (protocol.md §6.3).
func (p *engineIO) unheld(in *session) { p.l.polls.end(in, netpoll.ReasonPeer) }

func (p *engineIO) sendAway(in, _ *session) { p.l.polls.say(in, p.farewell(reasonShutdown)) }

func (p *engineIO) answer(in, get *session, body []byte) {
	rep := &get.x.http.reply
	contentType := "text/plain; charset=UTF-8"
	headers := append(rep.cors(make([]codec.HTTPHeader, 0, 6)), noStore)
	headers = p.cookie(headers, rep, in)
	if rep.callback != "" {
		body = p.l.polls.script(rep, body)
		headers = append(headers, noXSS)
	} else if rep.form == codec.PayloadEIO3Binary {
		contentType = "application/octet-stream"
	}
	p.l.http.respond(get, 200, contentType, body, headers...)
}

// cookie appends what tells a proxy which server a client of Engine.IO 3 belongs to (protocol.md §6.3). No client and nothing here
// reads it: it is told once, with the answer that opens the session, as Engine.IO itself does from 4 on if at all. Pages of other
// sites do not get it sent along.
func (p *engineIO) cookie(headers []codec.HTTPHeader, rep *reply, in *session) []codec.HTTPHeader {
	if !rep.cookie {
		return headers
	}
	value := append(p.l.node.sids.append([]byte("io="), in.conn.ID(p.l.np)), "; Path=/; HttpOnly; SameSite=Lax"...)
	if rep.tls {
		value = append(value, "; Secure"...)
	}
	return append(headers, codec.HTTPHeader{Name: "Set-Cookie", Value: string(value)})
}
