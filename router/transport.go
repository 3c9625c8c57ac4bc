package router

import (
	"bytes"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// Data implements netpoll.Handler: it finds out what the client speaks and feeds it the bytes.
func (l *loop) Data(c *netpoll.Conn, b []byte) int {
	s := l.session(c)
	used := 0
	if s.state == stateSniff {
		transport, known := codec.SniffTransport(b)
		switch {
		case !known:
			return 0
		case transport == codec.TransportHTTP:
			s.state = stateHTTP
			l.np.SetDue(c, min(s.alive, l.np.Now()+l.node.limits.HeadSeconds))
		default:
			l.speak(s, codec.FramingTCP)
		}
	}
	if s.state == stateHTTP {
		if used = l.httpHead(s, b); used == 0 || s.state == stateEnded {
			return len(b[:used])
		}
	}
	if s.variant.Framing == codec.FramingWS {
		return used + l.frames(s, b[used:])
	}
	return used + l.packages(s, b[used:])
}

// speak settles the transport; text and protobuf may change the variant at the handshake.
func (l *loop) speak(s *session, framing codec.Framing) {
	s.variant = s.profile.variants[variantKey{framing: framing}]
	s.state = stateInited
}

// errHeadTimeout answers a client that does not finish its head in time.
var errHeadTimeout = &codec.HTTPError{Status: 408, Reason: "the request head took too long"}

// httpHead reads the head of the request that opens a WebSocket, and answers every other one (protocol.md §8).
func (l *loop) httpHead(s *session, b []byte) int {
	searched := 0
	if s.x != nil {
		searched = s.x.searched
	}
	head, n, searched, err := codec.ParseHTTPHead(b, searched, l.node.limits.HeadBytes)
	if err == nil && n == 0 {
		l.extra(s).searched = searched
		return 0
	}
	if s.x != nil {
		s.x.searched = 0
		l.tidy(s)
	}
	if err == nil {
		err = checkRequest(&head)
	}
	if err == nil {
		err = head.CheckUpgrade()
	}
	if err != nil {
		l.refuseHTTP(s, err.(*codec.HTTPError), string(head.Method) == "HEAD")
		return len(b)
	}
	l.np.Commit(s.conn, codec.AppendUpgradeResponse(l.np.Stage(s.conn), head.SecWebSocketKey))
	if s.profile.Type == Gate {
		l.extra(s).host = string(hostname(head.Host))
	}
	l.speak(s, codec.FramingWS)
	l.np.SetDue(s.conn, s.alive)
	return n
}

var (
	errNoSuchPage   = &codec.HTTPError{Status: 404, Reason: "nothing here; a Pomelo client connects by WebSocket or TCP"}
	errMethodNotGET = &codec.HTTPError{Status: 405, Reason: "only GET"}
)

// checkRequest refuses what is no upgrade.
func checkRequest(head *codec.HTTPHead) error {
	switch {
	case head.IsUpgrade():
		return nil
	case string(head.Method) != "GET" && string(head.Method) != "HEAD":
		return errMethodNotGET
	}
	return errNoSuchPage
}

// refuseHTTP answers a request with an error and closes; a HEAD gets no body (RFC 9110 §9.3.2).
func (l *loop) refuseHTTP(s *session, err *codec.HTTPError, headOnly bool) {
	l.counters.httpErrors++
	out := l.np.Stage(s.conn)
	at := len(out)
	out = codec.AppendHTTPError(out, err)
	if headOnly {
		out = out[:at+bytes.Index(out[at:], []byte("\r\n\r\n"))+4]
	}
	l.np.Commit(s.conn, out)
	s.state = stateEnded
	l.np.Close(s.conn, reasonHTTP)
}

// hostname cuts the port off a Host header. An IPv6 address keeps its brackets: a client that came by a URL puts the
// host into the next one.
func hostname(host []byte) []byte {
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		return host[:i]
	}
	return host
}

// packages reads a raw TCP stream: packages back to back.
func (l *loop) packages(s *session, b []byte) (used int) {
	for used < len(b) {
		p, n, err := codec.ParsePackage(b[used:], l.node.limits.PackageBytes)
		if err != nil {
			l.refusePackage(s, err)
			return len(b)
		}
		if n == 0 || !l.take(s, p) {
			return used
		}
		used += n
		if s.state == stateEnded {
			return len(b)
		}
		if l.np.Throttle(s.conn) {
			return used
		}
	}
	return used
}

func (l *loop) refusePackage(s *session, err error) {
	if err == codec.ErrPackageTooLong {
		l.endWith(s, reasonTooLong, codec.WSCloseTooBig, "package exceeds the limit")
	} else {
		l.end(s, reasonProtocol)
	}
}

// frames reads WebSocket frames. Data frames, text ones included (protocol.md §2.2), carry whole packages.
func (l *loop) frames(s *session, b []byte) (used int) {
	if x := s.x; x != nil && len(x.stash) > 0 { // what a pause left of the last frame comes first
		stash := x.stash
		n := l.payload(s, stash)
		if s.state == stateEnded {
			return len(b)
		}
		if x.stash = stash[n:]; len(x.stash) > 0 {
			return 0
		}
		x.stash = nil
		l.tidy(s)
		if s.conn.Throttled() {
			return 0
		}
	}
	for used < len(b) {
		ev, n, err := s.ws.Next(b[used:], l.node.limits.PackageBytes+codec.PackageHeadBytes)
		if err != nil {
			e, why := err.(*codec.WSError), netpoll.Reason(reasonProtocol)
			if e.Code == codec.WSCloseTooBig {
				why = reasonTooLong
			}
			l.endWith(s, why, e.Code, e.Reason)
			return len(b)
		}
		if n == 0 {
			return used
		}
		used += n
		switch ev.Kind {
		case codec.WSText, codec.WSBinary:
			if len(ev.Payload) == 0 {
				l.end(s, reasonProtocol)
				return len(b)
			}
			if k := l.payload(s, ev.Payload); s.state != stateEnded && k < len(ev.Payload) {
				l.extra(s).stash = bytes.Clone(ev.Payload[k:])
			}
		case codec.WSPing:
			l.np.Commit(s.conn, codec.AppendWSFrame(l.np.Stage(s.conn), codec.WSPong, ev.Payload))
		case codec.WSClose:
			l.goodbye(s, &ev)
		}
		if s.state == stateEnded {
			return len(b)
		}
		if s.conn.Paused() || s.conn.Throttled() || l.np.Throttle(s.conn) {
			return used
		}
	}
	return used
}

// goodbye answers a client's close frame with its own code and reason, and one without a code with 1000, as the original does.
func (l *loop) goodbye(s *session, ev *codec.WSEvent) {
	code := ev.Code
	if code == codec.WSCloseNoStatus {
		code = codec.WSCloseNormal
	}
	l.endWith(s, reasonGoodbye, code, string(ev.Payload))
}

// payload takes the packages of one frame. It returns how many bytes it took: all, unless the session has to wait or has ended.
func (l *loop) payload(s *session, b []byte) (used int) {
	for used < len(b) {
		p, n, err := codec.ParsePackage(b[used:], l.node.limits.PackageBytes)
		switch {
		case err != nil:
			l.refusePackage(s, err)
			return used
		case n == 0: // trailing bytes that are no package
			l.end(s, reasonProtocol)
			return used
		case !l.take(s, p):
			return used
		}
		used += n
		if s.state == stateEnded || l.np.Throttle(s.conn) {
			return used
		}
	}
	return used
}
