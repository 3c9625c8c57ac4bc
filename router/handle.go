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

// program is the App of a node. Static after construction.
type program struct {
	hosting.App
	timeout time.Duration // App.Timeout
	routes  []appRoute
	shake   hosting.ShakeFunc // nil: none
	rates   int               // routes that App.Limit names
}

// appRoute is a function of an App's that runs for a route: a handler, or the filters of one of the chat application's.
type appRoute struct {
	name   string
	run    hosting.RunFunc
	inline bool
	rate   *routeRate // nil: no limit
}

// routeRate is what App.Limit says of a route.
type routeRate struct {
	limit.Rate
	index int // into appClient.rates
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
	p.shake = p.Handshake()
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

// seconds is the App's Timeout in ticks, rounded up.
func (p *program) seconds() uint32 { return uint32((p.timeout + 999_999_999) / 1_000_000_000) }

// handler is how a loop runs an App's handler.
func (r *appRoute) handler() handler {
	return handler{do: func(on *carriers, s *session, c *call) { on.handlers.handle(s, c, r) }}
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
	return handler{fansOut: builtin.fansOut, enters: builtin.enters, reads: builtin.reads, moves: builtin.moves, do: func(on *carriers, s *session, c *call) {
		on.handlers.call(s, c, filters, builtin.do)
	}}
}

// handlers runs an App's functions for the sessions of a loop. It has of its loop what it needs, and no more. Owned by the loop.
type handlers struct {
	calls    suspender
	app      *program // nil for none; then nothing here is called
	np       *netpoll.Loop
	mail     *netpoll.Mailbox[mail]
	access   *access
	seats    *[limit.Kinds]seats
	seconds  uint32 // that a worker has for an answer
	counters *counters
}

// suspender is how the calls of an App's functions are answered, now or by a goroutine later. The loop implements it.
type suspender interface {
	// appClient is what the App knows s by.
	appClient(s *session) *appClient
	// answer answers a call at once.
	answer(s *session, c *call, body []byte)
	// refuse answers a call that a limit refuses.
	refuse(s *session, c *call, why limitReason)
	// suspend has everything else that s sends wait, until finish or proceed. The call is answered with refusal when neither comes in time.
	suspend(s *session, c *call, refusal []byte, seconds uint32) (req uint32)
	// suspended is the session at an address, if it still waits for what suspend has returned; nil if that was given up, or the session ended.
	suspended(at channel.Addr, req uint32) *session
	// finish answers the call that s waits for, and has s go on.
	finish(s *session, body []byte, end string)
	// proceed carries out a call that s waits for by another function, and has s go on.
	proceed(s *session, c *call, do func(*carriers, *session, *call))
	// greeting has the handshake of s wait until greeted. The App knows s from then on.
	greeting(s *session) *appClient
	// greeted is the session at an address, and its handshake goes on; nil if it has ended.
	greeted(at channel.Addr) *session
	// postRun has the loop run f, which keeps weight bytes alive. Safe from any goroutine.
	postRun(weight int, f func())
}

// handle runs the handler of one of the App's routes, if its rate allows.
func (h *handlers) handle(s *session, c *call, r *appRoute) {
	if r.rate != nil && !h.calls.appClient(s).take(r.rate, h.app.rates, h.np.Nanos()) {
		h.calls.refuse(s, c, limitRoute)
		return
	}
	h.call(s, c, r, nil)
}

// call runs an App's handler, or the filters of a builtin one, which then goes on with what they have made of the body.
func (h *handlers) call(s *session, c *call, r *appRoute, then func(*carriers, *session, *call)) {
	body, ok := c.json()
	if !ok {
		h.calls.answer(s, c, hosting.Refusal(r.name))
		return
	}
	if !codec.ValidJSON(body) {
		body = channel.Done
	}
	who := h.calls.appClient(s)
	out := &hosting.Call{Context: context.Background(), Session: who.Session, Body: bytes.Clone(body), Notify: c.id == 0}
	if r.inline {
		h.callInline(s, c, r, who, out)
		return
	}
	kind := kindHandlers
	if then != nil {
		kind = kindFilters
	}
	seat := h.seat(s, kind)
	if seat == nil {
		h.calls.answer(s, c, hosting.Refusal(r.name))
		return
	}
	req := h.calls.suspend(s, c, hosting.Refusal(r.name), h.app.seconds())
	ctx, cancel := who.Begin(h.app.timeout, seat.leave)
	out.Context = ctx
	again := call{id: c.id, idBytes: c.idBytes, route: c.route}
	go func() {
		answer, passed := hosting.Refusal(r.name), false // should the handler end its goroutine (runtime.Goexit)
		defer func() {
			cancel()
			seat.end()
			h.calls.postRun(len(answer), func() { h.handled(who.addr, again, req, answer, passed, then) })
		}()
		answer, passed = r.run(out)
	}()
}

// callInline runs a handler on the event loop.
func (h *handlers) callInline(s *session, c *call, r *appRoute, who *appClient, out *hosting.Call) {
	answer, _ := r.run(out)
	if h.mail.Empty() {
		h.calls.answer(s, c, answer)
		return
	}
	// What the handler pushed to this session is in the mail, and the answer goes the same way behind it, as with other handlers
	// (TestInlinePushComesBeforeTheAnswer). That way costs 0.8 µs and two allocations more, and a turn for each call that a client
	// sends in one write; so an answer takes it only where there is something to come behind.
	req := h.calls.suspend(s, c, channel.Refused, h.seconds)
	h.calls.postRun(len(answer), func() { h.handled(who.addr, call{}, req, answer, false, nil) })
}

// greet has the App look at the handshake of s, which waits for that. then is called unless the session has ended meanwhile; ok is false if the handshake
// is refused, and answer what that is answered, else the JSON of what the client is told, or nil.
func (h *handlers) greet(s *session, g *hosting.Handshake, then func(s *session, answer []byte, ok bool)) {
	seat := h.seat(s, kindHandlers)
	if seat == nil {
		then(s, channel.Refused, false)
		return
	}
	who := h.calls.greeting(s)
	ctx, cancel := who.Begin(h.app.timeout, seat.leave)
	g.Context, g.Session = ctx, who.Session
	go func() {
		answer, ok := channel.Refused, false // should the function end its goroutine
		defer func() {
			cancel()
			seat.end()
			h.calls.postRun(len(answer), func() {
				if s := h.calls.greeted(who.addr); s != nil {
					then(s, answer, ok)
				}
			})
		}()
		answer, ok = h.app.shake(g)
	}()
}

// handled takes a handler's result, unless it was given up or its session has ended.
func (h *handlers) handled(at channel.Addr, c call, req uint32, result []byte, passed bool, then func(*carriers, *session, *call)) {
	s := h.calls.suspended(at, req)
	switch {
	case s == nil:
	case then == nil || !passed:
		h.calls.finish(s, result, "")
	default: // the filters of a builtin route let the call through: it goes on where it would have begun
		c.body = result
		h.calls.proceed(s, &c, then)
	}
}

// suspend implements suspender.
func (l *loop) suspend(s *session, c *call, refusal []byte, seconds uint32) (req uint32) {
	req = l.await(s, c, 0, refusal, seconds)
	s.x.handling = true
	return req
}

// greeting implements suspender.
func (l *loop) greeting(s *session) *appClient {
	l.extra(s).greeting = true
	return l.appClient(s)
}

// greeted implements suspender.
func (l *loop) greeted(at channel.Addr) *session {
	s := l.byAddr(at)
	if s == nil || s.phase != opening || s.x == nil || !s.x.greeting {
		return nil
	}
	s.x.greeting = false
	return s
}

// suspended implements suspender. A suspended session waits for nothing else: nothing else of it is begun.
func (l *loop) suspended(at channel.Addr, req uint32) *session {
	if s := l.byAddr(at); s != nil && s.inflight() > 0 && s.x.pending[0].req == req {
		return s
	}
	return nil
}

// proceed implements suspender. Nothing can have come after the call, as the session waited.
func (l *loop) proceed(s *session, c *call, do func(*carriers, *session, *call)) {
	s.x.pending, s.x.handling, s.x.sifting = s.x.pending[:0], false, nil
	do(&l.carriers, s, c)
	l.resume(s)
}
