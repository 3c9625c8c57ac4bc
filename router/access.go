package router

import (
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
)

// Access says who may connect, and how much one address may. The zero Access lets everybody do everything.
type Access struct {
	PerAddress limit.PerAddress
	// LimitAll holds addresses of this machine and of Trusted to PerAddress too. Otherwise they are exempt: behind them are others.
	LimitAll bool
	// Trusted are the proxies whose word counts on where a client is: by the PROXY protocol or by X-Forwarded-For.
	Trusted []netip.Prefix
	// ProxyProtocol are those of them whose connections all begin with a PROXY protocol header. From elsewhere one is garbage.
	ProxyProtocol []netip.Prefix
	// Origins are the web pages whose scripts may connect; empty for all.
	Origins Origins
}

// access is an Access at work. Safe from any goroutine.
//
// A connection counts for an address as soon as that is known. One that is not from a trusted proxy does so when it is
// accepted. One that is does when the proxy tells the client's address: with the PROXY header, or with the request that
// opens a WebSocket. Other requests of a proxy each tell their own, and its connections may carry those of many clients; so
// they count for nobody, but the sessions that poll by them do.
type access struct {
	Access
	origins atomic.Pointer[Origins] // Access.Origins, or what came in their place (Node.SetLimits)
	table   *limit.Table
	open    atomic.Bool // nothing is limited
	nanos   func() int64
	bans    *moderator // nil: there are none
	refused [refusals]atomic.Uint64
	warned  atomic.Int64 // when it was last logged that an address is at its limit
}

// passUncounted is of a conn whose address is known and not counted. With 0 a trusted proxy has yet to tell it.
const passUncounted = netpoll.PassAlone

// refusal is why somebody was turned away.
type refusal uint8

const (
	refusedConns refusal = iota
	refusedConnects
	refusedHandshakes
	refusedRequests
	refusedHandlers
	refusedForwarded
	refusedOrigin
	refusedBan
	refusals
)

// refusalNames are values of the label "reason" of pomelod_refused_total.
var refusalNames = [refusals]string{
	refusedConns: "addr_conns", refusedConnects: "addr_connects", refusedHandshakes: "addr_handshakes", refusedRequests: "addr_requests",
	refusedHandlers:  "addr_handlers",
	refusedForwarded: "forwarded_for", refusedOrigin: "origin", refusedBan: "ban",
}

func newAccess(cfg Access, nanos func() int64) *access {
	if nanos == nil {
		begin := time.Now()
		nanos = func() int64 { return int64(time.Since(begin)) }
	}
	a := &access{Access: cfg, nanos: nanos}
	a.warned.Store(-addressWarnEvery)
	a.table = limit.NewTable(cfg.PerAddress, limit.MaxAddresses)
	a.set(cfg.PerAddress, cfg.Origins)
	return a
}

// set has other limits and origins hold from now on. Connections that are there stay.
func (a *access) set(per limit.PerAddress, origins Origins) {
	a.table.SetLimits(per)
	a.open.Store(per.None())
	a.origins.Store(&origins)
}

// Admit implements netpoll.Gate.
func (a *access) Admit(peer netip.Addr) (netpoll.Pass, bool) {
	if a.trusts(peer) {
		return 0, true
	}
	return a.connect(peer)
}

// Leave implements netpoll.Gate.
func (a *access) Leave(p netpoll.Pass) {
	if p != passUncounted {
		a.table.Leave(limit.Ref(p), a.nanos())
	}
}

// trusts tells whether addr is a proxy whose word counts.
func (a *access) trusts(addr netip.Addr) bool { return within(a.Trusted, addr) }

func within(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

func (a *access) exempt(addr netip.Addr) bool {
	return a.open.Load() || !a.LimitAll && (addr.IsLoopback() || a.trusts(addr))
}

// connect counts a new connection of addr.
func (a *access) connect(addr netip.Addr) (netpoll.Pass, bool) {
	if a.banned(addr) {
		return 0, false
	}
	if a.exempt(addr) {
		return passUncounted, true
	}
	return a.counted(addr, a.table.Connect)
}

// banned tells whether an operator keeps addr out, and counts that.
func (a *access) banned(addr netip.Addr) bool {
	if a.bans == nil || !a.bans.refuses(addr) {
		return false
	}
	a.refused[refusedBan].Add(1)
	return true
}

// hold counts a session of addr that polls.
func (a *access) hold(addr netip.Addr) (netpoll.Pass, bool) {
	if a.exempt(addr) {
		return passUncounted, true
	}
	return a.counted(addr, a.table.Hold)
}

func (a *access) counted(addr netip.Addr, count func(netip.Addr, int64) (limit.Ref, limit.Verdict)) (netpoll.Pass, bool) {
	ref, verdict := count(addr, a.nanos())
	switch verdict {
	case limit.TooMany:
		a.refuse(refusedConns, addr)
		return 0, false
	case limit.TooOften:
		a.refuse(refusedConnects, addr)
		return 0, false
	}
	return netpoll.Pass(ref), true
}

// again counts anew what had a pass in the node in whose place this one is. Connections that are there stay, whatever the limits are now.
func (a *access) again(old netpoll.Pass, peer netip.Addr) netpoll.Pass {
	switch {
	case old == 0: // a trusted proxy has yet to tell whose it is
		return 0
	case old == passUncounted:
		return passUncounted
	}
	pass, ok := a.hold(peer)
	if !ok {
		return passUncounted
	}
	return pass
}

// handshake tells whether addr may begin another session.
func (a *access) handshake(addr netip.Addr) bool {
	if a.exempt(addr) || a.table.Handshake(addr, a.nanos()) == limit.Granted {
		return true
	}
	a.refuse(refusedHandshakes, addr)
	return false
}

// request tells whether addr may make another HTTP request, by a connection that has pass.
func (a *access) request(pass netpoll.Pass, addr netip.Addr) bool {
	verdict := limit.Granted
	switch {
	case pass != 0 && pass != passUncounted:
		verdict = a.table.RequestBy(limit.Ref(pass), a.nanos())
	case !a.exempt(addr):
		verdict = a.table.Request(addr, a.nanos())
	}
	if verdict == limit.Granted {
		return true
	}
	if pass != 0 && pass != passUncounted {
		a.table.ChargeConnects(limit.Ref(pass), againConnects, a.nanos())
	}
	a.refuse(refusedRequests, addr)
	return false
}

// againConnects is how many new connections it counts as when one is closed because its address asks too much over HTTP: it, the refusal,
// reading what comes behind and the next one cost as much. Else a client that is refused would come back as often as -addr-connects lets it, and
// that burst would cost more than the requests.
const againConnects = 20

// charge has an answer count as so many requests more.
func (a *access) charge(pass netpoll.Pass, addr netip.Addr, n int) {
	switch {
	case pass != 0 && pass != passUncounted:
		a.table.Charge(limit.Ref(pass), addr, n, a.nanos())
	case !a.exempt(addr):
		a.table.Charge(0, addr, n, a.nanos())
	}
}

// begin tells whether another handler of that kind may run for a connection that has pass, of addr. If so it counts until done.
func (a *access) begin(pass netpoll.Pass, addr netip.Addr, kind limit.Kind) bool {
	if pass == passUncounted || a.table.Begin(limit.Ref(pass), kind) == limit.Granted {
		return true
	}
	a.refuse(refusedHandlers, addr)
	return false
}

// done ends what begin granted.
func (a *access) done(pass netpoll.Pass, kind limit.Kind) {
	if pass != passUncounted {
		a.table.End(limit.Ref(pass), kind, a.nanos())
	}
}

// addressWarnEvery is the least time between two log lines about addresses at their limits, in nanoseconds.
const addressWarnEvery = int64(10 * time.Second)

func (a *access) refuse(why refusal, addr netip.Addr) {
	a.refused[why].Add(1)
	now, last := a.nanos(), a.warned.Load()
	if now-last < addressWarnEvery || !a.warned.CompareAndSwap(last, now) {
		return
	}
	slog.Warn("an address is at its limit, and is refused what exceeds it", "addr", addr.String(), "reason", refusalNames[why],
		"hint", "many people behind one address: raise -addr-conns, -addr-connects, -addr-handshakes, -addr-requests or -addr-handlers; a proxy: name it in -trusted-proxies")
}

// refusedBy are the refusals so far, by reason.
func (a *access) refusedBy() map[string]uint64 {
	m := make(map[string]uint64, refusals)
	for i, name := range refusalNames {
		m[name] = a.refused[i].Load()
	}
	return m
}

// figures are the table's.
func (a *access) figures() limit.Figures {
	return a.table.Figures(a.nanos())
}

// expectsProxy tells whether a new conn has to begin with a PROXY header. A conn that came from another loop has had its own.
func (a *access) expectsProxy(c *netpoll.Conn) bool {
	peer := c.Peer().Addr()
	return c.Pass() == 0 && within(a.ProxyProtocol, peer) && a.trusts(peer)
}

// claim counts a conn, which a trusted proxy has made, for client. It tells whether client may have it.
func (a *access) claim(c *netpoll.Conn, client netip.AddrPort) bool {
	pass, ok := a.connect(client.Addr())
	if ok {
		if old := c.Pass(); old != 0 {
			a.Leave(old)
		}
		c.SetPass(pass)
		c.SetPeer(client)
	}
	return ok
}

// turnAway ends a conn that its address may not have, at once, as the acceptor does. There is no goodbye to be read, and while the conn
// waited for its peer to close it would have a place of -max-conns and count for nobody.
func (l *loop) turnAway(s *session) {
	l.become(s, ended)
	l.np.Kill(s.conn, reasonAddress)
}

// client is where the sender of a request is. It fails with codec.ErrForwardedFor.
func (l *loop) client(s *session, r *request) (netip.AddrPort, *codec.HTTPError) {
	peer, a := s.conn.Peer(), l.node.access
	if r.head.XForwardedFor == nil || !a.trusts(peer.Addr()) {
		return peer, nil
	}
	addr, err := r.head.ForwardedFor(a.trusts)
	switch {
	case err != nil:
		return peer, codec.ErrForwardedFor
	case addr.IsValid():
		return netip.AddrPortFrom(addr, 0), nil
	}
	return peer, nil
}

// checkAccess finds out which client's request r is. It refuses one of a client whose address makes too many, pages of foreign origin, and the
// upgrade of a client whose address has connections enough. Files are for all origins: no browser lets a foreign page read them.
func (p *httpServer) checkAccess(s *session, r *request) *codec.HTTPError {
	l := p.l
	a, upgrade, h := l.node.access, r.head.IsUpgrade(), s.x.http
	var err *codec.HTTPError
	if r.client, err = l.client(s, r); err != nil {
		a.refused[refusedForwarded].Add(1)
		return err
	}
	if a.banned(r.client.Addr()) {
		return errBanned
	}
	if !h.charged && !a.request(s.conn.Pass(), r.client.Addr()) {
		return errRequests
	}
	h.charged = true
	if len(r.head.Origin) > 0 && !a.origins.Load().allow(r.head.Origin) && !r.head.OriginIsHost() && (upgrade || l.node.files[string(r.head.Path)] == nil) {
		a.refused[refusedOrigin].Add(1)
		return errOrigin
	}
	if upgrade && a.trusts(s.conn.Peer().Addr()) && !a.claim(s.conn, r.client) {
		return errAddress
	}
	return nil
}

var (
	errBanned   = &codec.HTTPError{Status: 403, Reason: "your address may not connect"}
	errOrigin   = &codec.HTTPError{Status: 403, Reason: "pages of this origin may not connect"}
	errAddress  = &codec.HTTPError{Status: 429, Reason: "too many connections from your address; try again later"}
	errRequests = &codec.HTTPError{Status: 429, Reason: "too many requests from your address; try again later"}
	errOften    = &codec.HTTPError{Status: 429, Reason: "too many sessions begun from your address; try again later"}

	// errAskAgain is not said: a GET whose connection ends without an answer, having carried others before, is made again on a new
	// one (RFC 9112 §9.3.1), by browsers and proxies alike. While the process ends that one leads to the next process.
	errAskAgain = &codec.HTTPError{}
)

// refuseSession answers a request for a session that may not be had. When that is about the address the page may read why, and a
// proxy keeps its connection.
func (p *httpServer) refuseSession(s *session, err *codec.HTTPError) {
	l := p.l
	if err == errAskAgain {
		p.hangUp(s)
		return
	}
	if err.Status != 429 {
		p.refuse(s, err, false)
		return
	}
	l.counters.httpErrors++
	headers := s.x.http.reply.cors(make([]codec.HTTPHeader, 0, 5))
	headers = append(headers, codec.HTTPHeader{Name: "Retry-After", Value: codec.RetryAfter})
	p.respond(s, err.Status, "text/plain; charset=utf-8", []byte(err.Reason), headers...)
}
