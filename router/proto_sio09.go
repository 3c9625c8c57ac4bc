package router

import (
	"bytes"
	"strconv"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// sio09 is socket.io 0.9, the wire of 2013 (protocol.md §5).
type sio09 struct{ packets }

func newSIO09(b base) protocol {
	p := &sio09{packets{base: b}}
	p.take = p.packet
	return p
}

// The transports of the table.
const (
	sio09WS = iota
	sio09XHR
	sio09JSONP
)

func variantsSIO09(*Profile) []codec.Variant {
	return []codec.Variant{{Framing: codec.FramingSIO09WS}, {Framing: codec.FramingSIO09Pull}}
}

// splitSIO09 takes the path of a socket.io 0.9 request apart: what stands behind /socket.io/1/ (protocol.md §5).
func splitSIO09(path []byte) (transport string, sid []byte) {
	rest, ok := bytes.CutPrefix(path, []byte(pathSIO+"1/"))
	if !ok {
		return "", nil
	}
	name, sid, _ := bytes.Cut(rest, []byte("/"))
	if len(name) == 0 {
		return "", nil
	}
	for _, known := range [...]string{"websocket", "xhr-polling", "jsonp-polling"} {
		if string(name) == known {
			return known, sid
		}
	}
	return "unknown", sid
}

// owns implements endpoint: 0.9 has what is under /socket.io and not of Engine.IO.
func (p *sio09) owns(r *request) bool {
	if !underSIO(r.head.Path) || isEIO(r.head) {
		return false
	}
	_, r.sid = splitSIO09(r.head.Path)
	return true
}

// serve carries out a request.
func (p *sio09) serve(s *session, r *request) bool {
	l := p.l
	rep := &s.x.http.reply
	rep.wants = true
	transport, sid := splitSIO09(r.head.Path)
	method := string(r.head.Method)
	version, _, _ := bytes.Cut(r.head.Path[min(len(pathSIO), len(r.head.Path)):], []byte("/"))
	switch {
	case method == "OPTIONS":
		l.http.preflight(s, r, 200)
	case len(version) == 0:
		l.http.respond(s, 200, "text/plain", []byte("Welcome to socket.io."), rep.cors09(nil)...)
	case !isNumber(version):
		l.http.refuse(s, errNoSuchPage, rep.headOnly)
	case string(version) != "1":
		l.http.respond(s, 500, "text/plain", []byte("Protocol version not supported."), rep.cors09(nil)...)
	case method != "GET" && method != "POST":
		l.http.refuse(s, errSIO09Method, rep.headOnly)
	case transport == "":
		p.handshake(s, r)
	case transport == "unknown" || transport == "websocket" || len(sid) == 0:
		l.http.refuse(s, errNoSuchPage, rep.headOnly)
	default:
		return p.polling(s, r, transport == "jsonp-polling")
	}
	return true
}

var errSIO09Method = &codec.HTTPError{Status: 405, Reason: "GET polls and POST sends"}

func isNumber(b []byte) bool { return len(b) < 9 && digits(b) == string(b) }

// cors09 is cors as 0.9 does it: only for requests with an Origin (protocol.md §5.1).
func (rep *reply) cors09(headers []codec.HTTPHeader) []codec.HTTPHeader {
	if rep.origin == "" {
		return headers
	}
	return rep.cors(headers)
}

// handshake opens a session, which has 30 seconds for its first connection (protocol.md §5.1).
func (p *sio09) handshake(s *session, r *request) {
	l := p.l
	in, err := l.polls.open(s, r, &p.base, codec.FramingSIO09Pull)
	if err != nil {
		l.http.refuseSession(s, err)
		return
	}
	l.keepToken(in, r)
	l.until(in, l.np.Now()+connect09Seconds)
	timeout := strconv.Itoa(int(l.limits.PingTimeoutSeconds))
	b := l.node.sids.append(nil, in.conn.ID(l.np))
	b = append(b, ":"+timeout+":"+timeout+":websocket,xhr-polling,jsonp-polling"...)
	rep := &s.x.http.reply
	if n, ok := codec.QueryValue(r.head.Query, "jsonp"); ok {
		l.http.respond(s, 200, "application/javascript", codec.AppendJSONP(nil, "io.j["+digits(n)+"]", b), rep.cors09(nil)...)
		return
	}
	l.http.respond(s, 200, "text/plain", b, rep.cors09(nil)...)
}

const connect09Seconds = 30

// polling carries out a GET or POST of xhr-polling or jsonp-polling (protocol.md §5.4, §5.5).
func (p *sio09) polling(s *session, r *request, jsonp bool) bool {
	l := p.l
	rep := &s.x.http.reply
	rep.form = codec.PayloadSIO09
	in := p.pulled(s, r)
	if string(r.head.Method) == "POST" {
		if in == nil {
			l.counters.httpErrors++
		} else if _, taken := l.polls.receive(s, in, r, codec.PayloadSIO09, jsonp); !taken {
			return false
		}
		headers := rep.cors09(make([]codec.HTTPHeader, 0, 4))
		if rep.origin != "" {
			headers = append(headers, noXSS)
		}
		l.http.respond(s, 200, "text/plain; charset=UTF-8", []byte("1"), headers...) // always, §5.4
		return true
	}
	if jsonp {
		i, _ := codec.QueryValue(r.head.Query, "i")
		if i := digits(i); i != "" {
			rep.callback = "io.j[" + i + "]"
		} else {
			rep.callback = "io.j[0]"
		}
	}
	switch _, disconnect := codec.QueryValue(r.head.Query, "disconnect"); {
	case in == nil:
		p.refuse(s)
	case disconnect:
		l.end(in, reasonGoodbye)
		l.http.respond(s, 200, "", nil)
	case in.phase == opening:
		p.count(in, sio09XHR)
		if jsonp {
			p.count(in, sio09JSONP)
		}
		p.send(in, []byte("1::"))
		p.work(in)
		fallthrough
	default:
		l.polls.poll(s, in)
	}
	return true
}

// pulled finds the session that a request names, if its client polls.
func (p *sio09) pulled(s *session, r *request) *session {
	in := p.l.polledBy(s, r)
	if in == nil || in.proto != p.id || in.x == nil || in.x.pull == nil {
		return nil
	}
	return in
}

// refuse tells a client that its session is not known; it then starts anew.
func (p *sio09) refuse(s *session) {
	l := p.l
	l.counters.httpErrors++
	rep := &s.x.http.reply
	body := []byte(comeBack09)
	if rep.callback != "" {
		l.http.respond(s, 200, "text/javascript; charset=UTF-8", codec.AppendJSONP(nil, rep.callback, body), noXSS)
		return
	}
	l.http.respond(s, 200, "text/plain; charset=UTF-8", body, rep.cors09(nil)...)
}

// upgrade gives a WebSocket to the session that the handshake has opened (protocol.md §5.3).
func (p *sio09) upgrade(s *session, r *request) *codec.HTTPError {
	l := p.l
	if transport, _ := splitSIO09(r.head.Path); transport != "websocket" {
		return errNoSuchPage
	}
	in := p.pulled(s, r)
	if err := l.http.acceptWebSocket(s, r); err != nil {
		return err
	}
	p.speak(s)
	p.frame(s, codec.FramingSIO09WS)
	if in == nil || in.phase == ended {
		p.send(s, []byte(comeBack09))
		l.end(s, reasonProtocol)
		return nil
	}
	first := in.phase == opening
	greeting := ""
	if first {
		greeting = "1::"
	}
	l.polls.takeSocket(in, s, codec.FramingSIO09WS, greeting)
	p.count(in, sio09WS)
	if first {
		p.work(in)
	} else {
		p.startPings(in)
	}
	return nil
}

// packet takes a packet (protocol.md §5.2). Whatever is none is ignored.
func (p *sio09) packet(s *session, b []byte, _ bool) bool {
	l := p.l
	pkt, ok := codec.ParseSIO09Packet(b)
	message := ok && (pkt.Type == codec.SIO09Message || pkt.Type == codec.SIO09Event || pkt.Type == codec.SIO09JSON) && len(pkt.Endpoint) == 0
	if !message && pkt.Type != codec.SIO09Disconnect {
		l.charge(s, len(b)) // nothing of it is answered, so it does the same beyond the rate
	}
	if !ok || s.phase != working {
		return true
	}
	if len(pkt.Endpoint) > 0 { // there is only the one without a name
		l.heard(s)
		return true
	}
	switch pkt.Type {
	case codec.SIO09Disconnect:
		l.end(s, reasonGoodbye)
		return true
	case codec.SIO09Message, codec.SIO09Event, codec.SIO09JSON:
		ack := pkt.ID
		if pkt.DataAck { // it wants an answer of the application, which never gives one
			ack = nil
		}
		text, ok := pkt.AppendText(l.text[:0])
		l.text = keep(text)
		if !ok {
			p.acknowledge(s, ack)
			l.charge(s, len(b))
		} else if !l.textMessage(s, text, ack) {
			return false
		}
	}
	l.heard(s)
	return true
}

// acknowledge tells a client that its packet has come, if it gave that an id. It says nothing of what becomes of the message in it:
// that is what a request is answered for.
func (p *sio09) acknowledge(s *session, id []byte) {
	if len(id) > 0 {
		b := append(append(p.l.packet[:0], "6:::"...), id...)
		p.l.packet = keep(b)
		p.send(s, b)
	}
}

// alive: over WebSocket it is we who ping; where a client polls, the GET that is held is life (protocol.md §5.3, §5.4).
func (p *sio09) alive(s *session) uint32 {
	limits, now := &p.l.limits, p.l.np.Now()
	switch {
	case s.phase != working: // it has its time for the first connection
		return s.alive
	case p.l.variant(s).Framing.WebSocket():
		return p.nextPing(s)
	case s.x != nil && s.x.pull != nil && s.x.pull.get != 0:
		return now + limits.PollSeconds + limits.PingTimeoutSeconds
	}
	return now + limits.PingTimeoutSeconds
}

func (p *sio09) silent(s *session, waiting bool) {
	if !p.l.variant(s).Framing.WebSocket() || !p.ping(s, "2::", p.l.limits.PingTimeoutSeconds) {
		p.base.silent(s, waiting)
	}
}

// goodbye: 0.9 closes without a word (protocol.md §5.3).
func (p *sio09) goodbye(*session, uint16, string) {}

// idle and what follows implement polled.
func (p *sio09) idle() string { return "8::" }

func (p *sio09) farewell(netpoll.Reason) string { return "0::" }

// comeBack09 tells a client to open another session.
const comeBack09 = "7:::1+0"

func (p *sio09) patience() uint32 { return p.l.np.Now() + p.l.limits.pollSeconds() }

// fetched: a GET that comes or goes is life (protocol.md §5.4).
func (p *sio09) fetched(in *session) {
	if in.phase == working && p.l.checkSpoken(in) {
		p.l.heard(in)
	}
}

func (p *sio09) unheld(*session) {} // the client asks again

func (p *sio09) sendAway(in, get *session) {
	if get.x.http.reply.callback != "" { // JSONP: such a client does not notice that its script did not load, for a minute
		p.l.polls.say(in, comeBack09)
	}
	p.l.np.Close(get.conn, reasonShutdown) // a client that is told of an end would not come back
}

func (p *sio09) answer(in, get *session, body []byte) {
	rep := &get.x.http.reply
	contentType := "text/plain; charset=UTF-8"
	headers := rep.cors09(make([]codec.HTTPHeader, 0, 6))
	if rep.callback != "" {
		body = p.l.polls.script(rep, body)
		headers = append(headers, noXSS)
		contentType = "text/javascript; charset=UTF-8"
	}
	p.l.http.respond(get, 200, contentType, body, headers...)
}
