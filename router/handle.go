package router

import (
	"bytes"
	"context"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
)

// program is the App of a node.
type program struct {
	hosting.App
	timeout time.Duration
	routes  []appRoute
	rates   int // routes that App.Limit names
}

// appRoute is a function of an App's that runs for a route: a handler, or the filters of one of the chat application's.
type appRoute struct {
	name   string
	run    hosting.RunFunc
	inline bool
	rate   *routeRate // nil: no limit
}

// newProgram readies an App; nil for none.
func newProgram(a *app.App) (*program, error) {
	if a == nil {
		return nil, nil
	}
	p := &program{App: hosting.Of(a)}
	if err := p.Check(); err != nil {
		return nil, err
	}
	p.timeout, _ = p.Bounds()
	for _, r := range p.Routes() {
		route := appRoute{name: r.Name, run: r.Run, inline: r.Inline}
		if r.Rate != nil {
			route.rate = &routeRate{Rate: *r.Rate, index: p.rates}
			p.rates++
		}
		p.routes = append(p.routes, route)
	}
	return p, nil
}

// appClient is a session that functions of the App have seen. It implements hosting.Client.
type appClient struct {
	hosting.Session // static, as the loop and the address
	loop            *loop
	addr            channel.Addr
	rates           []limit.Bucket // of routes that App.Limit names; owned by the loop
}

// Push implements hosting.Client.
func (k *appClient) Push(p *codec.Push) error {
	if k.loop.busy() {
		return app.ErrBusy
	}
	k.loop.postRun(len(p.Body), func() {
		if s := k.loop.byAddr(k.addr); s != nil && s.phase == working {
			k.loop.pushTo(s, p)
		}
	})
	return nil
}

// Kick implements hosting.Client.
func (k *appClient) Kick(reason string) {
	k.loop.postRun(len(reason), func() {
		if s := k.loop.byAddr(k.addr); s != nil {
			k.loop.kick(s, reason)
		}
	})
}

// appClient is what the App knows s by, made when it is first needed: plain chat sessions have none.
func (l *loop) appClient(s *session) *appClient {
	x := s.needRare()
	if x.client == nil {
		k := &appClient{loop: l, addr: l.addr(s.conn)}
		k.Session = l.node.app.NewSession(k, s.conn.Peer())
		if s.room != nil {
			k.SetWhere(s.user(), s.roomName())
		}
		x.client = k
	}
	return x.client
}

// tellOpened tells the App of a session that has finished its handshake.
func (l *loop) tellOpened(s *session) {
	l.limiter.begin(&s.meter)
	if app := l.node.app; app != nil && app.Watches() {
		app.Opened(l.appClient(s).Session)
	}
}

// tellClosed tells the App of a session's end.
func (l *loop) tellClosed(s *session) {
	if k := s.appClient(); k != nil {
		k.End()
		l.node.app.Closed(k.Session)
	}
}

// handler is how a loop runs an App's handler.
func (r *appRoute) handler() handler {
	return handler{do: func(l *loop, s *session, c *call) {
		if l.overRoute(s, r.rate) {
			l.refuse(s, c, limitRoute)
			return
		}
		l.call(s, c, r, nil)
	}}
}

// filtered is a builtin handler behind the App's filters, if it has some for it. A nil program has none.
func (p *program) filtered(name string, builtin handler) handler {
	if p == nil {
		return builtin
	}
	run := p.Filter(name)
	if run == nil {
		return builtin
	}
	filters := &appRoute{name: name, run: run}
	return handler{fansOut: builtin.fansOut, enters: builtin.enters, reads: builtin.reads, do: func(l *loop, s *session, c *call) {
		l.call(s, c, filters, builtin.do)
	}}
}

// call runs an App's handler, or the filters of a builtin one, which then goes on.
func (l *loop) call(s *session, c *call, r *appRoute, then func(*loop, *session, *call)) {
	body, ok := c.json()
	if !ok {
		l.answer(s, c, hosting.Refusal(r.name))
		return
	}
	if !codec.ValidJSON(body) {
		body = channel.Done
	}
	who := l.appClient(s)
	out := &hosting.Call{Context: context.Background(), Session: who.Session, Body: bytes.Clone(body), Notify: c.id == 0}
	if r.inline {
		answer, _ := r.run(out)
		if l.mail.Empty() {
			l.answer(s, c, answer)
			return
		}
		// What the handler pushed to this session is in the mail, and the answer goes the same way behind it, as with other handlers
		// (TestInlinePushComesBeforeTheAnswer). That way costs 0.8 µs and two allocations more, and a turn for each call that a client
		// sends in one write; so an answer takes it only where there is something to come behind.
		req := l.await(s, c, 0, channel.Refused, l.node.limits.RequestSeconds)
		s.x.handling = true
		l.postRun(len(answer), func() { l.handled(who.addr, call{}, req, answer, false, nil) })
		return
	}
	kind := kindHandlers
	if then != nil {
		kind = kindFilters
	}
	seat := l.seat(s, kind)
	if seat == nil {
		l.answer(s, c, hosting.Refusal(r.name))
		return
	}
	req := l.await(s, c, 0, hosting.Refusal(r.name), l.node.handlerSeconds())
	s.x.handling = true
	ctx, cancel := who.Begin(l.node.app.timeout, seat.leave)
	out.Context = ctx
	again := call{id: c.id, idBytes: c.idBytes, route: c.route, body: out.Body}
	go func() {
		answer, passed := hosting.Refusal(r.name), false // should the handler end its goroutine (runtime.Goexit)
		defer func() {
			cancel()
			seat.end()
			l.postRun(len(answer), func() { l.handled(who.addr, again, req, answer, passed, then) })
		}()
		answer, passed = r.run(out)
	}()
}

// handled takes a handler's result, unless it was given up or its session has ended.
func (l *loop) handled(addr channel.Addr, c call, req uint32, answer []byte, passed bool, then func(*loop, *session, *call)) {
	s := l.byAddr(addr)
	if s == nil || s.inflight() == 0 || s.x.pending[0].req != req { // it waited alone: who calls a handler waits until nothing is in flight
		return
	}
	if then == nil || !passed {
		l.finish(s, answer, "")
		return
	}
	// The filters of a builtin route let the call through: it goes on where it would have begun. Nothing can have come
	// after it, as the session waited.
	s.x.pending, s.x.handling = s.x.pending[:0], false
	then(l, s, &c)
	l.resume(s)
}

// pushTo stages a push for one session.
func (l *loop) pushTo(s *session, p *codec.Push) {
	l.np.Commit(s.conn, p.AppendFrame(l.np.Stage(s.conn), l.variant(s)))
}

// broadcast stages a push for the sessions from slot on, so many in a turn that neither the turn nor what is staged grows
// with their number.
func (l *loop) broadcast(p *codec.Push, slot int) {
	end, more := slot+broadcastSlice, false
	defer func() {
		if !more { // done, or given up in a panic: otherwise no session would ever move again
			l.node.broadcasts.Add(-1)
		}
	}()
	more = l.np.EachIn(slot, end, func(c *netpoll.Conn) {
		if s := l.session(c); s.phase == working {
			l.pushTo(s, p)
		}
	})
	if more {
		l.postRun(len(p.Body), func() { l.broadcast(p, end) })
	}
}

const broadcastSlice = 256

// request posts a request that no session asked for. Safe from any goroutine.
func (n *Node) request(req channel.Request) error {
	req.Part, req.Fold = channel.Partition(req.Room), n.names.Fold(req.Target)
	n.posting.RLock() // held only while a partition begins to move
	defer n.posting.RUnlock()
	at := n.placement.Load()[req.Part]
	if req.Sheddable() && at.inlet.Full() {
		return app.ErrBusy
	}
	req.From = n.asker(at.loop)
	at.inlet.Post(req)
	return nil
}

// handlerSeconds is the App's Timeout in ticks, rounded up.
func (n *Node) handlerSeconds() uint32 { return uint32((n.app.timeout + 999_999_999) / 1_000_000_000) }

// host is a node as its App sees it. It implements hosting.Node.
type host struct{ *Node }

// Fits implements hosting.Node.
func (h host) Fits(bytes int) bool { return h.limits.fits(bytes) }

// Request implements hosting.Node.
func (h host) Request(r channel.Request) error { return h.request(r) }

// Broadcast implements hosting.Node.
func (h host) Broadcast(p *codec.Push) error {
	for _, l := range h.loops {
		if l.busy() {
			return app.ErrBusy
		}
	}
	h.posting.RLock()
	defer h.posting.RUnlock()
	h.broadcasts.Add(int32(len(h.loops))) // until all have done it no session moves, or both loops might miss it
	for _, l := range h.loops {
		l.postRun(len(p.Body), func() {
			l.postRun(len(p.Body), func() { l.broadcast(p, 0) }) // a turn later, when those are here that were on their way
		})
	}
	return nil
}
