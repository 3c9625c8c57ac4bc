package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
	"github.com/pomelod/pomelod/limit"
)

func init() { hosting.Of = func(a any) hosting.App { return (*hosted)(a.(*App)) } }

// hosted is an App with the methods that its node calls, and programs do not see.
type hosted App

func (h *hosted) app() *App { return (*App)(h) }

// Check implements hosting.App.
func (h *hosted) Check() error {
	a := h.app()
	if a.node.Load() != nil {
		return errors.New("an App belongs to one Node")
	}
	if a.Timeout < time.Second || a.Timeout > 24*time.Hour || a.MaxRunning < 1 {
		return fmt.Errorf("App.Timeout %v must be a second to a day, and App.MaxRunning %d at least 1", a.Timeout, a.MaxRunning)
	}
	for _, f := range a.before {
		if _, own := a.handlers[f.route]; f.route != "" && !own && !hosting.Builtin(f.route) {
			return fmt.Errorf("App.Before: nobody handles %q", f.route)
		}
	}
	for route, r := range a.rates {
		if _, own := a.handlers[route]; !own {
			return fmt.Errorf("App.Limit: %q is no route of the App's", route)
		}
		if r == (limit.Rate{}) {
			return fmt.Errorf("App.Limit: %q is limited to nothing; give a rate and a burst above 0", route)
		}
		if err := r.Check(); err != nil {
			return fmt.Errorf("App.Limit: %q: %w", route, err)
		}
	}
	return nil
}

// Bounds implements hosting.App.
func (h *hosted) Bounds() (time.Duration, int) { return h.Timeout, h.MaxRunning }

// Routes implements hosting.App.
func (h *hosted) Routes() (list []hosting.Route) {
	for name, own := range h.handlers {
		r := hosting.Route{Name: name, Inline: own.inline, Run: h.runner(name, own.fn)}
		if rate, limited := h.rates[name]; limited {
			r.Rate = &rate
		}
		list = append(list, r)
	}
	return list
}

// Filter implements hosting.App.
func (h *hosted) Filter(route string) hosting.RunFunc {
	if len(h.app().filtersOf(route)) == 0 {
		return nil
	}
	return h.runner(route, nil)
}

func (h *hosted) runner(route string, fn HandlerFunc) hosting.RunFunc {
	a := h.app()
	filters := a.filtersOf(route)
	return func(c *hosting.Call) ([]byte, bool) {
		return a.run(&Call{Session: session(c.Session), Route: route, Body: c.Body, Notify: c.Notify, ctx: c.Context}, fn, filters)
	}
}

// Watches implements hosting.App.
func (h *hosted) Watches() bool { return len(h.onOpen)+len(h.onClose) > 0 }

// Attach implements hosting.App.
func (h *hosted) Attach(n hosting.Node) {
	if n == nil {
		h.node.Store(nil)
		return
	}
	h.node.Store(&n)
}

// NewSession implements hosting.App.
func (h *hosted) NewSession(c hosting.Client, remote netip.AddrPort) hosting.Session {
	return (*hostedSession)(&Session{app: h.app(), client: c, remote: remote})
}

// Opened implements hosting.App.
func (h *hosted) Opened(s hosting.Session) { tell(h.onOpen, session(s)) }

// Closed implements hosting.App.
func (h *hosted) Closed(s hosting.Session) { tell(h.onClose, session(s)) }

// Panics implements hosting.App.
func (h *hosted) Panics() uint64 { return h.panics.Load() }

// filtersOf are the filters of a route.
func (a *App) filtersOf(route string) []FilterFunc {
	_, own := a.handlers[route]
	var list []FilterFunc
	for _, f := range a.before {
		if f.route == route || f.route == "" && own {
			list = append(list, f.fn)
		}
	}
	return list
}

// tell calls event functions; a panic costs that event.
func tell(list []func(*Session), s *Session) {
	defer func() {
		if p := recover(); p != nil {
			slog.Error("panic in an event function", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	for _, f := range list {
		f(s)
	}
}

// run carries a call through filters and handler, which is nil for a route of the chat application, to the JSON of its answer. passed is false when it was answered before
// the handler. Runs on any goroutine.
func (a *App) run(c *Call, fn HandlerFunc, filters []FilterFunc) (body []byte, passed bool) {
	defer func() {
		if p := recover(); p != nil {
			a.panics.Add(1)
			slog.Error("panic in a handler; the request is answered 500", "route", c.Route, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			body, passed = hosting.Refusal(c.Route), false
		}
	}()
	for _, f := range filters {
		if err := f(c); err != nil {
			return errorBody(c, err), false
		}
	}
	if fn == nil {
		return nil, true
	}
	result, err := fn(c)
	for _, f := range a.after {
		f(c, result, err)
	}
	if err != nil {
		return errorBody(c, err), true
	}
	if body, err = encodeJSON(result); err != nil {
		slog.Error("a handler's result cannot be JSON; the request is answered 500", "route", c.Route, "err", err)
		return channel.Refused, true
	}
	if len(body) > maxAnswer {
		slog.Error("a handler's result is longer than a message may be; the request is answered 500", "route", c.Route, "bytes", len(body))
		return channel.Refused, true
	}
	return body, true
}

// maxAnswer leaves room for the head of a message in the longest package there is.
const maxAnswer = codec.MaxPackageBody - codec.MaxMessageHeadBytes

// errorBody is how a client is told of an error.
func errorBody(c *Call, err error) []byte {
	var coded *Error
	if errors.As(err, &coded) {
		if c.Route == hosting.RouteEnter {
			return fmt.Appendf(nil, `{"code":%d,"error":true}`, coded.Code)
		}
		return fmt.Appendf(nil, `{"code":%d}`, coded.Code)
	}
	slog.Debug("a handler failed", "route", c.Route, "err", err)
	return hosting.Refusal(c.Route)
}

// hostedSession is a Session with the methods that its node calls.
type hostedSession Session

func session(s hosting.Session) *Session { return (*Session)(s.(*hostedSession)) }

// SetWhere implements hosting.Session.
func (s *hostedSession) SetWhere(user, room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user, s.room = user, room
}

// Begin implements hosting.Session.
func (s *hostedSession) Begin(timeout time.Duration, giveUp func()) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveUp = func() { cancel(); giveUp() }
	return ctx, cancel
}

// Abandon implements hosting.Session.
func (s *hostedSession) Abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.giveUp != nil {
		s.giveUp()
	}
}

// End implements hosting.Session.
func (s *hostedSession) End() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.Abandon()
}
