package router

import (
	"bytes"
	"net/netip"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// httpConn is what a connection has while it speaks HTTP.
type httpConn struct {
	// Of the request that is being received.
	searched  int // bytes of the head searched for its end
	need      int // bytes of the whole request, once known
	body      codec.HTTPBody
	timed     bool // the time for the head runs
	continued bool // 100 was sent
	charged   bool // its client's address has paid for it

	served bool // a request was answered on this connection before
	task   httpTask
	pull   netpoll.ID // the session the task is for
	reply  reply      // how the request that is being carried out is answered
}

// httpTask is what a connection does for a session that is not its own.
type httpTask uint8

const (
	taskNone  httpTask = iota
	taskPoll           // its GET is held until there is something to tell
	taskPost           // its POST waits until what was sent before has been taken
	taskProbe          // it is a WebSocket that may become the session's (protocol.md §6.4)
)

// reply is how a request wants to be answered.
type reply struct {
	headOnly  bool // HEAD
	keepAlive bool
	tls       bool   // the client came by TLS, a trusted proxy says
	listed    bool   // its origin is in -origins
	wants     bool   // its client asks with credentials, whatever there are (credentials)
	cookie    bool   // it opens a session whose id proxies look for in a cookie
	origin    string // of the page that asks, empty for none
	form      codec.PayloadForm
	callback  string // JSONP's function, empty for none
}

// request is one HTTP request, whole. It is valid while it is handled.
type request struct {
	head *codec.HTTPHead
	body []byte
	sid  []byte // the session it names, nil for none
	pull netpoll.ID

	client netip.AddrPort // who makes it: the peer, or whom a trusted proxy names
}

// endpoint carries out requests of a path.
type endpoint struct {
	// serve answers, or parks the connection. It returns false, having done nothing, when the request has to wait.
	serve func(l *loop, s *session, r *request) bool
	// upgrade opens a WebSocket. An error refuses it.
	upgrade func(l *loop, s *session, r *request) *codec.HTTPError
}

var (
	endpointHybrid = endpoint{(*loop).serveNothing, (*loop).upgradeHybrid}
	endpointGate   = endpoint{(*loop).serveGate, (*loop).upgradeHybrid}
	endpointFile   = endpoint{(*loop).serveFile, (*loop).upgradeHybrid}
	endpointEIO    = endpoint{(*loop).serveEIO, (*loop).upgradeEIO}
	endpointSIO09  = endpoint{(*loop).serveSIO09, (*loop).upgradeSIO09}
)

const pathGate = "/gate/queryEntry"

// endpointOf chooses by path (protocol.md §8) and finds out which session the request is about.
func (l *loop) endpointOf(r *request) endpoint {
	path := r.head.Path
	switch {
	case bytes.HasPrefix(path, []byte(pathSIO)) || string(path) == pathSIO[:len(pathSIO)-1]:
		at := endpointSIO09
		if isEIO(r.head) {
			r.sid, _ = codec.QueryValue(r.head.Query, "sid")
			at = endpointEIO
		} else {
			_, r.sid = splitSIO09(path)
		}
		r.pull = l.node.sids.parse(r.sid)
		return at
	case string(path) == pathGate:
		return endpointGate
	case l.node.files[string(path)] != nil:
		return endpointFile
	}
	return endpointHybrid
}

// httpConn is the conn's HTTP state, made when it is first needed.
func (l *loop) httpConn(s *session) *httpConn {
	x := l.extra(s)
	if x.http == nil {
		if n := len(l.https); n > 0 {
			x.http = l.https[n-1]
			l.https = l.https[:n-1]
		} else {
			x.http = new(httpConn)
		}
	}
	return x.http
}

// dropHTTP gives the HTTP state of x back to the pool: a client that upgrades at once, as most do, leaves no garbage.
func (l *loop) dropHTTP(x *extra) {
	if h := x.http; h != nil && len(l.https) < maxPooledExtras {
		*h = httpConn{}
		l.https = append(l.https, h)
	}
	x.http = nil
}

// httpRequests reads HTTP requests, one after the other, until there are no more bytes, or one is held, or the connection
// is a WebSocket.
func (l *loop) httpRequests(s *session, b []byte) (used int) {
	for s.state == stateHTTP && used < len(b) {
		n := l.httpRequest(s, b[used:])
		used += n
		if s.state == stateEnded {
			return len(b)
		}
		if n == 0 || s.state == stateHTTP && (s.x.http.task != taskNone || l.np.Throttle(s.conn)) {
			return used
		}
	}
	return used
}

// httpRequest carries out the request at the start of b and returns its length, or 0 when more bytes are needed, or it has to wait,
// or the connection is on its way to another loop.
func (l *loop) httpRequest(s *session, b []byte) int {
	h := l.httpConn(s)
	if len(b) < h.need {
		return 0
	}
	if h.searched == 0 && b[0] == '\r' { // RFC 9112 §2.2: an empty line before a request is ignored
		if len(b) > 1 && b[1] == '\n' {
			return 2
		}
		return 0
	}
	limits := &l.node.limits
	head, n, searched, err := codec.ParseHTTPHead(b, h.searched, limits.HeadBytes)
	if err != nil {
		l.refuseHTTP(s, err.(*codec.HTTPError), false)
		return len(b)
	}
	if n == 0 {
		h.searched = searched
		if !h.timed {
			h.timed = true
			l.np.SetDue(s.conn, l.np.Now()+limits.HeadSeconds)
		}
		return 0
	}
	h.searched = 0
	r := request{head: &head}
	at := l.endpointOf(&r)
	if to := int(r.pull.Loop()); r.pull != 0 && to != l.index && to < len(l.node.loops) {
		l.counters.moves++
		s.x.to = l.node.loops[to] // a connection moves to its session, never the other way round
		return 0
	}
	if err := l.checkAccess(s, &r); err != nil {
		l.refuseHTTP(s, err, string(head.Method) == "HEAD")
		return len(b)
	}
	if head.IsUpgrade() {
		err := at.upgrade(l, s, &r)
		if err != nil {
			l.refuseHTTP(s, err, false)
			return len(b)
		}
		return n
	}
	h.reply = l.replyTo(s, &r)
	limit := limits.PackageBytes
	if r.pull != 0 && bytes.HasPrefix(head.ContentType, []byte("application/x-www-form-urlencoded")) {
		limit *= formFactor
	}
	size, done, err := h.body.End(&head, b[n:], limit)
	if err != nil {
		l.refuseHTTP(s, err.(*codec.HTTPError), h.reply.headOnly)
		return len(b)
	}
	if !done {
		if head.ContentLength > 0 {
			h.need = n + int(head.ContentLength)
		}
		if head.ExpectContinue && !h.continued {
			h.continued = true
			l.np.Write(s.conn, []byte("HTTP/1.1 100 Continue\r\n\r\n"))
		}
		h.timed = false
		l.np.SetDue(s.conn, 0) // the loop says when the whole request is late
		return 0
	}
	r.body = codec.HTTPBodyBytes(&head, b[n:n+size], l.body[:0])
	if head.Chunked {
		l.body = keep(r.body)
	}
	h.need, h.body, h.timed, h.continued = 0, codec.HTTPBody{}, false, false
	if !at.serve(l, s, &r) {
		return 0
	}
	l.counters.httpRequests++
	h.charged = false
	l.runLocal()
	if s.state == stateHTTP {
		h.served = true
		if h.task == taskNone {
			l.np.SetDue(s.conn, l.np.Now()+limits.KeepAliveSeconds)
		}
	}
	return n + size
}

// formFactor is how much longer a form may be than what it says: JSONP clients send three bytes for each that is no letter,
// and old ones encode UTF-8 twice before.
const formFactor = 4

// dueHTTP is Due for a connection that speaks HTTP.
func (l *loop) dueHTTP(s *session) {
	h := l.httpConn(s)
	switch {
	case h.task == taskPoll:
		l.pollTimeout(s)
	case h.timed:
		l.refuseHTTP(s, errRequestTimeout, false)
	default: // nothing to do for so long
		s.state = stateEnded
		l.np.Close(s.conn, reasonHTTP)
	}
}

var (
	// errRequestTimeout answers a client that does not finish its request in time.
	errRequestTimeout = &codec.HTTPError{Status: 408, Reason: "the request took too long"}
	errNoSuchPage     = &codec.HTTPError{Status: 404, Reason: "nothing here; a Pomelo client connects by WebSocket, socket.io or TCP"}
	errMethodNotGET   = &codec.HTTPError{Status: 405, Reason: "only GET"}
	errFull           = &codec.HTTPError{Status: 503, Reason: "too many sessions; try again later"}
)

// serveNothing refuses what no path is for.
func (l *loop) serveNothing(s *session, r *request) bool {
	switch string(r.head.Method) {
	case "GET", "HEAD":
		l.refuseHTTP(s, errNoSuchPage, s.x.http.reply.headOnly)
	default:
		l.refuseHTTP(s, errMethodNotGET, false)
	}
	return true
}

// upgradeHybrid opens a WebSocket that carries packages.
func (l *loop) upgradeHybrid(s *session, r *request) *codec.HTTPError {
	if err := l.acceptWebSocket(s, r); err != nil {
		return err
	}
	if s.profile.Type == Gate {
		l.extra(s).host = l.hostOf(s, r)
	}
	l.speak(s, codec.FramingWS)
	if s.profile.Protos != nil && len(r.head.Origin) > 0 {
		l.extra(s).origin = true
	}
	s.alive = max(s.alive, l.np.Now()+l.node.limits.HeadSeconds)
	l.np.SetDue(s.conn, s.alive)
	return nil
}

// acceptWebSocket answers 101. The connection speaks HTTP no longer.
func (l *loop) acceptWebSocket(s *session, r *request) *codec.HTTPError {
	if err := r.head.CheckUpgrade(); err != nil {
		return err.(*codec.HTTPError)
	}
	l.np.Commit(s.conn, codec.AppendUpgradeResponse(l.np.Stage(s.conn), r.head.SecWebSocketKey, r.head.Subprotocol()))
	l.dropHTTP(s.x)
	l.tidy(s)
	return nil
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

// respondHTTP answers the request that s is carrying out, and closes when its client wants that.
func (l *loop) respondHTTP(s *session, status int, contentType string, body []byte, headers ...codec.HTTPHeader) {
	if !s.conn.Alive() {
		return
	}
	rep := &s.x.http.reply
	out := l.np.Stage(s.conn)
	at := len(out)
	out = codec.AppendHTTPResponse(out, status, contentType, body, rep.keepAlive, headers...)
	if rep.headOnly {
		out = out[:at+bytes.Index(out[at:], []byte("\r\n\r\n"))+4]
	}
	l.np.Commit(s.conn, out)
	if !rep.keepAlive {
		s.state = stateEnded
		l.np.Close(s.conn, reasonHTTP)
	}
}

// replyTo is how r wants to be answered. checkAccess has let it pass.
func (l *loop) replyTo(s *session, r *request) reply {
	a := l.node.access
	rep := reply{headOnly: string(r.head.Method) == "HEAD", keepAlive: r.head.KeepAlive}
	rep.tls = r.head.XForwardedTLS && a.trusts(s.conn.Peer().Addr())
	if r.head.HasOrigin() {
		rep.origin, rep.listed = string(r.head.Origin), a.Origins.lists(r.head.Origin)
	}
	return rep
}

// credentials tells whether a page may ask with what its browser keeps for us, and then read the answer. Clients of socket.io 0.9, 1
// and 2 always ask so (withCredentials) and fail otherwise, though nothing here reads a cookie. For all others only the pages that
// are listed may: a proxy in front may let people in by a cookie.
func (rep *reply) credentials() bool { return rep.origin != "" && (rep.wants || rep.listed) }

// cors appends the headers by which a page of another origin may read the answer (protocol.md §6.5).
func (rep *reply) cors(headers []codec.HTTPHeader) []codec.HTTPHeader {
	return rep.corsVary(headers, "Origin")
}

// corsVary is cors for an answer that depends on the headers in vary.
func (rep *reply) corsVary(headers []codec.HTTPHeader, vary string) []codec.HTTPHeader {
	switch {
	case rep.callback != "":
		return headers
	case rep.origin == "":
		return append(headers, codec.HTTPHeader{Name: "Access-Control-Allow-Origin", Value: "*"})
	}
	headers = append(headers, codec.HTTPHeader{Name: "Access-Control-Allow-Origin", Value: rep.origin})
	if rep.credentials() {
		headers = append(headers, codec.HTTPHeader{Name: "Access-Control-Allow-Credentials", Value: "true"})
	}
	return append(headers, codec.HTTPHeader{Name: "Vary", Value: vary})
}

// preflight answers OPTIONS (Fetch standard, CORS-preflight): a page that may ask may send any header with that.
func (l *loop) preflight(s *session, r *request, status int) {
	allowed, vary := "Content-Type", "Origin"
	if list := r.head.RequestHeaders(); list != nil {
		allowed, vary = string(list), "Origin, Access-Control-Request-Headers"
	}
	headers := s.x.http.reply.corsVary(make([]codec.HTTPHeader, 0, 6), vary)
	headers = append(headers, codec.HTTPHeader{Name: "Access-Control-Allow-Methods", Value: "GET,POST,OPTIONS"},
		codec.HTTPHeader{Name: "Access-Control-Allow-Headers", Value: allowed},
		codec.HTTPHeader{Name: "Access-Control-Max-Age", Value: "600"})
	l.respondHTTP(s, status, "", nil, headers...)
}

var noStore = codec.HTTPHeader{Name: "Cache-Control", Value: "no-store"}

// serveGate is the gate over HTTP: a client need not open a WebSocket only to learn where to open one.
func (l *loop) serveGate(s *session, r *request) bool {
	var uid []byte
	switch string(r.head.Method) {
	case "OPTIONS":
		l.preflight(s, r, 204)
		return true
	case "GET", "HEAD":
		if text, ok := codec.QueryValue(r.head.Query, "uid"); ok {
			uid = codec.AppendString(nil, string(text))
		}
	case "POST":
		uid = uidOf(codec.NormalizeUTF8(r.body))
	default:
		l.refuseHTTP(s, errGateMethod, false)
		return true
	}
	headers := s.x.http.reply.cors(make([]codec.HTTPHeader, 0, 4))
	l.respondHTTP(s, 200, "application/json", l.entryOf(s, uid, saidHost(r)), append(headers, noStore)...)
	return true
}

var errGateMethod = &codec.HTTPError{Status: 405, Reason: "GET with ?uid=… or POST with {\"uid\":…}"}

// hostOf is the host by which the client of s reached us; where it does not say, the address.
func (l *loop) hostOf(s *session, r *request) string {
	if host := saidHost(r); host != "" {
		return host
	}
	return l.localAddr(s).String()
}

// saidHost is the host that a request was sent to, empty when it names none that may be said back: the gate would repeat it to its
// client with every answer, and keep it. A target with a host in it is for a proxy, and tells nothing of how we are reached.
func saidHost(r *request) string {
	if r.head.Absolute {
		return ""
	}
	return string(codec.Hostname(r.head.Host))
}

// keep is a buffer to be used again, unless it has grown too large for that.
func keep(b []byte) []byte {
	if cap(b) > maxScratch {
		return nil
	}
	return b
}
