package router

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// Session is a client as handlers see it: from handshake to close. Safe from any goroutine.
type Session struct {
	// Static after construction.
	loop   *loop
	addr   channel.Addr
	remote netip.AddrPort

	mu     sync.Mutex
	user   string             // guarded by mu, as the rest
	room   string             //
	data   map[string]any     //
	giveUp context.CancelFunc // of the latest call; calling it late is harmless
	closed bool

	rates []routeBucket // of routes that App.Limit names; owned by the loop
}

// RemoteAddr is where the client was when the session began: as its proxy tells it, if that is a trusted one. The port is 0 when
// the proxy tells none. A client that polls may have moved since.
func (s *Session) RemoteAddr() netip.AddrPort { return s.remote }

// User is the name under which the session is in a room; empty when it is in none.
func (s *Session) User() string { user, _ := s.where(); return user }

// Room is the room the session is in, empty when it is in none.
func (s *Session) Room() string { _, room := s.where(); return room }

func (s *Session) where() (user, room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user, s.room
}

// Set keeps a value with the session until it ends.
func (s *Session) Set(key string, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data == nil {
		s.data = make(map[string]any)
	}
	s.data[key] = value
}

// Get is the value that Set kept, or nil.
func (s *Session) Get(key string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data[key]
}

// Closed tells whether the session has ended.
func (s *Session) Closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Push sends a push to this session only. One that has ended gets nothing. A push of a running handler comes before
// the handler's answer.
func (s *Session) Push(route string, body any) error {
	_, content, err := s.loop.node.app.encodePush(route, body)
	if err != nil {
		return err
	}
	if s.loop.busy() {
		return ErrBusy
	}
	p := &codec.Push{Route: route, Body: content}
	s.loop.postRun(len(content), func() {
		if in := s.loop.find(s.addr); in != nil && in.phase == working {
			s.loop.direct(in, p)
		}
	})
	return nil
}

// Kick ends the session with a reason that it is told.
func (s *Session) Kick(reason string) {
	s.loop.postRun(len(reason), func() {
		if in := s.loop.find(s.addr); in != nil {
			s.loop.kick(in, reason)
		}
	})
}

func (s *Session) setWhere(user, room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user, s.room = user, room
}

// end marks the session and gives its call up.
func (s *Session) end() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.abandon()
}

// abandon gives the latest call up: its context ends, and its seat is free for others.
func (s *Session) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.giveUp != nil {
		s.giveUp()
	}
}

// begin makes the context of a call, which its goroutine cancels in the end. A call that was given up may still run then,
// so there can be several; only the latest is stopped by the session's end.
func (s *Session) begin(app *App, on *seat) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), app.Timeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveUp = func() { cancel(); on.leave() }
	return ctx, cancel
}

// handle is the Session of s, made when it is first needed: plain chat sessions have none.
func (l *loop) handle(s *session) *Session {
	if s.handle == nil {
		s.handle = &Session{loop: l, addr: l.addr(s.conn), remote: s.conn.Peer()}
		if s.room != nil {
			s.handle.setWhere(s.user(), s.roomName())
		}
	}
	return s.handle
}

// opened tells the App of a session that has finished its handshake.
func (l *loop) opened(s *session) {
	l.beginMeter(s)
	if app := l.node.app; app != nil && len(app.onOpen)+len(app.onClose) > 0 {
		l.tell(app.onOpen, l.handle(s))
	}
}

// closed tells the App of a session's end.
func (l *loop) closed(s *session) {
	if s.handle != nil {
		s.handle.end()
		l.tell(l.node.app.onClose, s.handle)
	}
}

// tell calls event functions; a panic costs that event.
func (l *loop) tell(list []func(*Session), handle *Session) {
	defer func() {
		if p := recover(); p != nil {
			slog.Error("panic in an event function", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	for _, f := range list {
		f(handle)
	}
}

// handler is how a loop runs an App's handler.
func (a *App) handler(h appHandler) handler {
	filters := a.filtersOf(h.name)
	rate := a.rates[h.name]
	return handler{do: func(l *loop, s *session, c *call) {
		if l.overRoute(s, rate) {
			l.refuse(s, c, limitRoute)
			return
		}
		l.call(s, c, h, filters, nil)
	}}
}

// filtered is a builtin handler behind the App's filters, if it has some for it. A nil App has none.
func (a *App) filtered(name string, builtin handler) handler {
	if a == nil {
		return builtin
	}
	filters := a.filtersOf(name)
	if len(filters) == 0 {
		return builtin
	}
	return handler{fansOut: builtin.fansOut, enters: builtin.enters, do: func(l *loop, s *session, c *call) {
		l.call(s, c, appHandler{name: name}, filters, builtin.do)
	}}
}

// call runs an App's handler, or the filters of a builtin one.
func (l *loop) call(s *session, c *call, h appHandler, filters []FilterFunc, then func(*loop, *session, *call)) {
	body, ok := c.json()
	if !ok {
		l.answer(s, c, builtinRefusal(h.name))
		return
	}
	app := l.node.app
	if !codec.ValidJSON(body) {
		body = channel.Done
	}
	out := &Call{Session: l.handle(s), Route: h.name, Body: bytes.Clone(body), Notify: c.id == 0}
	if h.inline {
		out.ctx = context.Background()
		answer, _ := app.run(out, h, filters)
		if l.mail.Empty() {
			l.answer(s, c, answer)
			return
		}
		// What the handler pushed to this session is in the mail: the answer goes the same way.
		req := l.await(s, c, 0, channel.Refused, l.node.limits.RequestSeconds)
		s.x.handling = true
		l.postRun(len(answer), func() { l.handled(out, call{}, req, answer, false, nil) })
		return
	}
	kind := kindHandlers
	if then != nil {
		kind = kindFilters
	}
	seat := l.seat(s, kind)
	if seat == nil {
		l.answer(s, c, builtinRefusal(h.name))
		return
	}
	req := l.await(s, c, 0, builtinRefusal(h.name), l.node.handlerSeconds())
	s.x.handling = true
	ctx, cancel := out.Session.begin(app, seat)
	out.ctx = ctx
	again := call{id: c.id, idBytes: c.idBytes, route: c.route, body: out.Body}
	go func() {
		answer, passed := builtinRefusal(h.name), false // should the handler end its goroutine (runtime.Goexit)
		defer func() {
			cancel()
			seat.end()
			l.postRun(len(answer), func() { l.handled(out, again, req, answer, passed, then) })
		}()
		answer, passed = app.run(out, h, filters)
	}()
}

// handled takes a handler's result, unless it was given up or its session has ended.
func (l *loop) handled(out *Call, c call, req uint32, answer []byte, passed bool, then func(*loop, *session, *call)) {
	s := l.find(out.Session.addr)
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
	l.goOn(s)
}

// direct stages a push for one session.
func (l *loop) direct(s *session, p *codec.Push) {
	l.np.Commit(s.conn, p.AppendFrame(l.np.Stage(s.conn), s.variant))
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
			l.direct(s, p)
		}
	})
	if more {
		l.postRun(len(p.Body), func() { l.broadcast(p, end) })
	}
}

const broadcastSlice = 256

// request posts a request that no session asked for. Safe from any goroutine.
func (n *Node) request(req channel.Request) error {
	req.Part = channel.Partition(req.Room)
	n.posting.RLock() // held only while a partition begins to move
	defer n.posting.RUnlock()
	at := n.placement.Load()[req.Part]
	if req.Sheddable() && at.inlet.Full() {
		return ErrBusy
	}
	req.From = n.asker(at.loop)
	at.inlet.Post(req)
	return nil
}

// handlerSeconds is the App's Timeout in ticks, rounded up.
func (n *Node) handlerSeconds() uint32 { return uint32((n.app.Timeout + 999_999_999) / 1_000_000_000) }
