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

	handshake uint32 // tick at which the time for the handshake ends
	served    bool   // a request was answered on this connection before
	reply     reply  // how the request that is being carried out is answered
}

// errand is what a connection does for a session that is not its own.
type errand struct {
	task    task
	session netpoll.ID
}

type task uint8

const (
	taskNone  task = iota
	taskPoll       // its GET is held until there is something to tell
	taskPost       // its POST waits until what was sent before has been taken
	taskProbe      // it is a WebSocket that may become the session's (protocol.md §6.4)
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

	client netip.AddrPort // its client: the peer, or the address that a trusted proxy names
}

// httpServer speaks HTTP with a connection. Requests of sessions are for the endpoints of their protocols; all others are for pages.
type httpServer struct {
	base
	free []*httpConn
	body []byte // of a chunked request
}

func newHTTP(b base) protocol {
	b.l.http = &httpServer{base: b}
	return b.l.http
}

func (p *httpServer) fits(_ *session, x *extra) bool {
	return x.http != nil && x.errand.task != taskProbe
}

const pathGate = "/gate/queryEntry"

// endpointOf chooses by path (protocol.md §8), and finds out which session the request is about. It is nil for a page.
func (p *httpServer) endpointOf(r *request) endpoint {
	l := p.l
	for _, e := range l.endpoints {
		if e.owns(r) {
			r.pull = l.node.sids.parse(r.sid)
			return e
		}
	}
	return nil
}

// servePage answers a request of no session.
func (p *httpServer) servePage(s *session, r *request) {
	l := p.l
	switch {
	case string(r.head.Path) == pathGate:
		p.serveGate(s, r)
	case l.node.files[string(r.head.Path)] != nil:
		p.serveFile(s, r)
	default:
		p.serveNothing(s, r)
	}
}

// conn is the connection's HTTP state, made when it is first needed.
func (p *httpServer) conn(s *session) *httpConn {
	l := p.l
	x := l.extra(s)
	if x.http == nil {
		if n := len(p.free); n > 0 {
			x.http = p.free[n-1]
			p.free = p.free[:n-1]
		} else {
			x.http = new(httpConn)
		}
		x.http.handshake = s.alive
	}
	return x.http
}

// drop gives the HTTP state of x back to the pool: a client that upgrades at once, as most do, leaves no garbage.
func (p *httpServer) drop(x *extra) {
	if h := x.http; h != nil && len(p.free) < maxPooledExtras {
		*h = httpConn{}
		p.free = append(p.free, h)
	}
	x.http = nil
}

// data reads requests, one after the other, until there are no more bytes, or one is held, or the connection is a WebSocket.
func (p *httpServer) data(s *session, b []byte) (used int) {
	for used < len(b) {
		n := p.request(s, b[used:])
		used += n
		if n == 0 || s.proto != p.id || s.phase == ended || s.x.errand.task != taskNone || p.l.np.Throttle(s.conn) {
			break
		}
	}
	return used
}

// request carries out the request at the start of b and returns its length, or 0 when more bytes are needed, or it has to wait,
// or the connection is on its way to another loop.
func (p *httpServer) request(s *session, b []byte) int {
	l := p.l
	h := p.conn(s)
	if len(b) < h.need {
		return 0
	}
	if h.searched == 0 && b[0] == '\r' { // RFC 9112 §2.2: an empty line before a request is ignored
		if len(b) > 1 && b[1] == '\n' {
			return 2
		}
		return 0
	}
	limits := &l.limits
	head, n, searched, err := codec.ParseHTTPHead(b, h.searched, limits.HeadBytes)
	if err != nil {
		p.refuse(s, err, false)
		return len(b)
	}
	if n == 0 {
		h.searched = searched
		if !h.timed {
			h.timed = true
			l.until(s, l.np.Now()+limits.HeadSeconds)
		}
		return 0
	}
	h.searched = 0
	r := request{head: &head}
	at := p.endpointOf(&r)
	if to := int(r.pull.Loop()); r.pull != 0 && to != l.index && to < len(l.node.loops) {
		l.counters.moves++
		s.x.to = l.node.loops[to] // a connection moves to its session, never the other way round
		return 0
	}
	if err := p.checkAccess(s, &r); err != nil {
		p.refuse(s, err, string(head.Method) == "HEAD")
		return len(b)
	}
	if head.IsUpgrade() {
		if err := at.upgrade(s, &r); err != nil {
			p.refuse(s, err, false)
			return len(b)
		}
		return n
	}
	h.reply = p.replyTo(s, &r)
	size, done, err := p.readBody(s, &r, b, n)
	if err != nil {
		p.refuse(s, err, h.reply.headOnly)
		return len(b)
	}
	if !done {
		return 0
	}
	if at == nil {
		p.servePage(s, &r)
	} else if !at.serve(s, &r) {
		return 0
	}
	l.counters.httpRequests++
	h.charged, h.served = false, true
	if s.phase != ended && s.x.errand.task == taskNone {
		l.until(s, l.np.Now()+limits.KeepAliveSeconds)
	}
	return n + size
}

// readBody takes the body of r, whose head is the first n bytes of b, and returns how long it is on the wire. It is not done when more bytes are needed.
func (p *httpServer) readBody(s *session, r *request, b []byte, n int) (size int, done bool, err *codec.HTTPError) {
	l, h, head, limit := p.l, s.x.http, r.head, p.l.limits.PackageBytes
	if r.pull != 0 && bytes.HasPrefix(head.ContentType, []byte("application/x-www-form-urlencoded")) {
		limit *= formFactor
	}
	size, done, err = h.body.End(head, b[n:], limit)
	if err != nil {
		return 0, false, err
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
		l.until(s, neverDue) // the loop says when the whole request is late
		return 0, false, nil
	}
	r.body = codec.HTTPBodyBytes(head, b[n:n+size], p.body[:0])
	if head.Chunked {
		p.body = keep(r.body)
	}
	h.need, h.body, h.timed, h.continued = 0, codec.HTTPBody{}, false, false
	return size, true, nil
}

// formFactor is how much longer a form may be than what it says: JSONP clients send three bytes for each that is no letter,
// and old ones encode UTF-8 twice before.
const formFactor = 4

func (p *httpServer) silent(s *session, _ bool) {
	l := p.l
	switch h := s.x.http; {
	case s.x.errand.task == taskPoll: // held for long enough
		if in := l.byID(s.x.errand.session); in != nil {
			l.polls.idle(in)
		}
	case h.timed:
		p.refuse(s, errRequestTimeout, false)
	default: // nothing to do for so long
		p.hangUp(s)
	}
}

func (p *httpServer) late(s *session) { p.refuse(s, errRequestTimeout, false) }

// hangUp closes a connection that speaks HTTP, without another word.
func (p *httpServer) hangUp(s *session) {
	l := p.l
	l.become(s, ended)
	l.np.Close(s.conn, reasonHTTP)
}

var (
	// errRequestTimeout answers a client that does not finish its request in time.
	errRequestTimeout = &codec.HTTPError{Status: 408, Reason: "the request took too long"}
	errNoSuchPage     = &codec.HTTPError{Status: 404, Reason: "nothing here; a Pomelo client connects by WebSocket, socket.io or TCP"}
	errMethodNotGET   = &codec.HTTPError{Status: 405, Reason: "only GET"}
	errFull           = &codec.HTTPError{Status: 503, Reason: "too many sessions; try again later"}
)

// serveNothing refuses what no path is for.
func (p *httpServer) serveNothing(s *session, r *request) {
	switch string(r.head.Method) {
	case "GET", "HEAD":
		p.refuse(s, errNoSuchPage, s.x.http.reply.headOnly)
	default:
		p.refuse(s, errMethodNotGET, false)
	}
}

// acceptWebSocket answers 101. The connection speaks HTTP no longer.
func (p *httpServer) acceptWebSocket(s *session, r *request) *codec.HTTPError {
	l := p.l
	if err := r.head.CheckUpgrade(); err != nil {
		return err
	}
	l.np.Commit(s.conn, codec.AppendUpgradeResponse(l.np.Stage(s.conn), r.head.SecWebSocketKey, r.head.Subprotocol()))
	p.drop(s.x)
	l.tidy(s)
	return nil
}

// refuse answers a request with an error and closes; a HEAD gets no body (RFC 9110 §9.3.2).
func (p *httpServer) refuse(s *session, err *codec.HTTPError, headOnly bool) {
	l := p.l
	l.counters.httpErrors++
	out := l.np.Stage(s.conn)
	at := len(out)
	out = codec.AppendHTTPError(out, err)
	if headOnly {
		out = out[:at+bytes.Index(out[at:], []byte("\r\n\r\n"))+4]
	}
	l.np.Commit(s.conn, out)
	if err == errRequests {
		l.become(s, ended)
		l.np.CloseBriefly(s.conn, reasonHTTP)
		return
	}
	p.hangUp(s)
}

// respond answers the request that s is carrying out, and closes when its client wants that.
func (p *httpServer) respond(s *session, status int, contentType string, body []byte, headers ...codec.HTTPHeader) {
	l := p.l
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
		p.hangUp(s)
	}
}

// replyTo is how r wants to be answered. checkAccess has let it pass.
func (p *httpServer) replyTo(s *session, r *request) reply {
	l := p.l
	a := l.node.access
	rep := reply{headOnly: string(r.head.Method) == "HEAD", keepAlive: r.head.KeepAlive}
	rep.tls = s.conn.Secured() || r.head.XForwardedTLS && a.trusts(s.conn.Peer().Addr())
	if r.head.HasOrigin() {
		rep.origin, rep.listed = string(r.head.Origin), a.origins.Load().lists(r.head.Origin)
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
func (p *httpServer) preflight(s *session, r *request, status int) {
	allowed, vary := "Content-Type", "Origin"
	if list := r.head.RequestHeaders(); list != nil {
		allowed, vary = string(list), "Origin, Access-Control-Request-Headers"
	}
	headers := s.x.http.reply.corsVary(make([]codec.HTTPHeader, 0, 6), vary)
	headers = append(headers, codec.HTTPHeader{Name: "Access-Control-Allow-Methods", Value: "GET,POST,OPTIONS"},
		codec.HTTPHeader{Name: "Access-Control-Allow-Headers", Value: allowed},
		codec.HTTPHeader{Name: "Access-Control-Max-Age", Value: "600"})
	p.respond(s, status, "", nil, headers...)
}

var noStore = codec.HTTPHeader{Name: "Cache-Control", Value: "no-store"}

// serveGate is the gate over HTTP: a client need not open a WebSocket only to learn where to open one.
func (p *httpServer) serveGate(s *session, r *request) {
	l := p.l
	var uid []byte
	switch string(r.head.Method) {
	case "OPTIONS":
		p.preflight(s, r, 204)
		return
	case "GET", "HEAD":
		if text, ok := codec.QueryValue(r.head.Query, "uid"); ok {
			uid = codec.AppendString(nil, string(text))
		}
	case "POST":
		uid = uidOf(codec.NormalizeUTF8(r.body))
	default:
		p.refuse(s, errGateMethod, false)
		return
	}
	headers := s.x.http.reply.cors(make([]codec.HTTPHeader, 0, 4))
	p.respond(s, 200, "application/json", l.entryOf(s, uid, saidHost(r)), append(headers, noStore)...)
}

var errGateMethod = &codec.HTTPError{Status: 405, Reason: "GET with ?uid=… or POST with {\"uid\":…}"}

// hostOf is the host by which the client of s reached us; where it does not say, the address.
func (p *httpServer) hostOf(s *session, r *request) string {
	l := p.l
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
