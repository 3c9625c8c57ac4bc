package router

import (
	"bytes"
	"strconv"

	"github.com/pomelod/pomelod/codec"
)

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

// serveSIO09 carries out a request of a socket.io 0.9 client.
func (l *loop) serveSIO09(s *session, r *request) bool {
	rep := &s.x.http.reply
	rep.wants = true
	transport, sid := splitSIO09(r.head.Path)
	method := string(r.head.Method)
	version, _, _ := bytes.Cut(r.head.Path[min(len(pathSIO), len(r.head.Path)):], []byte("/"))
	switch {
	case method == "OPTIONS":
		l.preflight(s, r, 200)
	case len(version) == 0:
		l.respondHTTP(s, 200, "text/plain", []byte("Welcome to socket.io."), rep.cors09(nil)...)
	case !isNumber(version):
		l.refuseHTTP(s, errNoSuchPage, rep.headOnly)
	case string(version) != "1":
		l.respondHTTP(s, 500, "text/plain", []byte("Protocol version not supported."), rep.cors09(nil)...)
	case method != "GET" && method != "POST":
		l.refuseHTTP(s, errSIO09Method, rep.headOnly)
	case transport == "":
		l.handshake09(s, r)
	case transport == "unknown" || transport == "websocket" || len(sid) == 0:
		l.refuseHTTP(s, errNoSuchPage, rep.headOnly)
	default:
		return l.polling09(s, r, transport == "jsonp-polling")
	}
	return true
}

var errSIO09Method = &codec.HTTPError{Status: 405, Reason: "GET polls and POST sends"}

func isNumber(b []byte) bool { return len(b) < 9 && digits(b) == string(b) }

// cors09 is cors as 0.9 does it: only for those who say where they come from (protocol.md §5.1).
func (rep *reply) cors09(headers []codec.HTTPHeader) []codec.HTTPHeader {
	if rep.origin == "" {
		return headers
	}
	return rep.cors(headers)
}

// handshake09 opens a session, which has 30 seconds for its first connection (protocol.md §5.1).
func (l *loop) handshake09(s *session, r *request) {
	in, err := l.openPull(s, r, wireSIO09, codec.FramingSIO09Pull)
	if err != nil {
		l.refuseSession(s, err)
		return
	}
	if in.profile.Type == Gate {
		in.x.host = l.hostOf(s, r)
	}
	in.state = stateInited
	in.alive = l.np.Now() + connect09Seconds
	l.np.SetDue(in.conn, in.alive)
	timeout := strconv.Itoa(int(l.node.limits.PingTimeoutSeconds))
	b := l.node.sids.append(nil, in.conn.ID(l.np))
	b = append(b, ":"+timeout+":"+timeout+":websocket,xhr-polling,jsonp-polling"...)
	rep := &s.x.http.reply
	if n, ok := codec.QueryValue(r.head.Query, "jsonp"); ok {
		l.respondHTTP(s, 200, "application/javascript", codec.AppendJSONP(nil, "io.j["+digits(n)+"]", b), rep.cors09(nil)...)
		return
	}
	l.respondHTTP(s, 200, "text/plain", b, rep.cors09(nil)...)
}

const connect09Seconds = 30

// polling09 carries out a GET or POST of xhr-polling or jsonp-polling (protocol.md §5.4, §5.5).
func (l *loop) polling09(s *session, r *request, jsonp bool) bool {
	rep := &s.x.http.reply
	rep.form = codec.PayloadSIO09
	in := l.pulled(s, r)
	if in != nil && (in.wire != wireSIO09 || in.x == nil || in.x.pull == nil) {
		in = nil
	}
	if string(r.head.Method) == "POST" {
		if in == nil {
			l.counters.httpErrors++
		} else if _, taken := l.receive(s, in, r, codec.PayloadSIO09, jsonp); !taken {
			return false
		}
		headers := rep.cors09(make([]codec.HTTPHeader, 0, 4))
		if rep.origin != "" {
			headers = append(headers, noXSS)
		}
		l.respondHTTP(s, 200, "text/plain; charset=UTF-8", []byte("1"), headers...) // always, §5.4
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
		l.refuse09(s)
	case disconnect:
		l.end(in, reasonGoodbye)
		l.respondHTTP(s, 200, "", nil)
	case in.state == stateInited:
		l.countTransport(in, transportSIO09XHR)
		if jsonp {
			l.countTransport(in, transportSIO09JSONP)
		}
		l.np.Commit(in.conn, in.variant.AppendPacket(l.np.Stage(in.conn), []byte("1::")))
		l.open(in)
		fallthrough
	default:
		l.poll(s, in)
	}
	return true
}

// refuse09 tells a client that its session is not known; it then starts anew.
func (l *loop) refuse09(s *session) {
	l.counters.httpErrors++
	rep := &s.x.http.reply
	body := []byte("7:::1+0")
	if rep.callback != "" {
		l.respondHTTP(s, 200, "text/javascript; charset=UTF-8", codec.AppendJSONP(nil, rep.callback, body), noXSS)
		return
	}
	l.respondHTTP(s, 200, "text/plain; charset=UTF-8", body, rep.cors09(nil)...)
}

// upgradeSIO09 gives a WebSocket to the session that the handshake has opened (protocol.md §5.3).
func (l *loop) upgradeSIO09(s *session, r *request) *codec.HTTPError {
	if transport, _ := splitSIO09(r.head.Path); transport != "websocket" {
		return errNoSuchPage
	}
	in := l.pulled(s, r)
	if err := l.acceptWebSocket(s, r); err != nil {
		return err
	}
	s.wire, s.variant = wireSIO09, s.profile.variants[variantKey{framing: codec.FramingSIO09WS}]
	if in == nil || in.wire != wireSIO09 || in.x == nil || in.x.pull == nil || in.state == stateEnded {
		l.np.Commit(s.conn, s.variant.AppendPacket(l.np.Stage(s.conn), []byte("7:::1+0")))
		l.end(s, reasonProtocol)
		return nil
	}
	first := in.state == stateInited
	l.takeSocket(in, s, codec.FramingSIO09WS)
	if first {
		l.open(in)
	} else {
		l.startPings(in)
	}
	return nil
}

// packet09 processes a packet of a socket.io 0.9 client (protocol.md §5.2). Whatever is none is ignored.
func (l *loop) packet09(s *session, b []byte) bool {
	p, ok := codec.ParseSIO09Packet(b)
	message := ok && (p.Type == codec.SIO09Message || p.Type == codec.SIO09Event || p.Type == codec.SIO09JSON) && len(p.Endpoint) == 0
	if !message && p.Type != codec.SIO09Disconnect {
		l.charge(s, len(b)) // nothing of it is answered, so it does the same beyond the rate
	}
	if !ok || s.state != stateWorking {
		return true
	}
	if len(p.Endpoint) > 0 { // there is only the one without a name
		l.heard(s)
		return true
	}
	switch p.Type {
	case codec.SIO09Disconnect:
		l.end(s, reasonGoodbye)
		return true
	case codec.SIO09Message, codec.SIO09Event, codec.SIO09JSON:
		ack := p.ID
		if p.DataAck { // it wants an answer of the application, which never gives one
			ack = nil
		}
		text, ok := p.AppendText(l.text[:0])
		l.text = keep(text)
		if !ok {
			l.acknowledge(s, ack)
			l.charge(s, len(b))
		} else if !l.pomeloMessage(s, text, ack) {
			return false
		}
	}
	l.heard(s)
	return true
}

// acknowledge tells a client that its packet has come, if it gave that an id. It says nothing of what becomes of the message in it:
// that is what a request is answered for.
func (l *loop) acknowledge(s *session, id []byte) {
	if len(id) == 0 {
		return
	}
	b := l.packet[:0]
	if s.wire == wireSIO09 {
		b = append(append(b, "6:::"...), id...)
	} else {
		b = append(append(append(b, "43"...), id...), "[]"...)
	}
	l.packet = keep(b)
	l.np.Commit(s.conn, s.variant.AppendPacket(l.np.Stage(s.conn), b))
}
