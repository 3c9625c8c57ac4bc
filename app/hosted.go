package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

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
		if own.inline {
			r.Run = h.aside(name, r.Run)
		}
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

// aside has what runs on an event loop run so that it cannot end that.
func (h *hosted) aside(route string, run hosting.RunFunc) hosting.RunFunc {
	return func(c *hosting.Call) (answer []byte, passed bool) {
		if err := h.asides.call(func() error { answer, passed = run(c); return nil }); err != nil { // panics are caught in run
			h.panics.Add(1)
			slog.Error("a handler has failed; the request is answered 500", "route", route, "err", err)
			return hosting.Refusal(route), false
		}
		return answer, passed
	}
}

// Attach implements hosting.App.
func (h *hosted) Attach(n hosting.Node) {
	h.asides.keep(n != nil)
	if n == nil {
		h.node.Store(nil)
		return
	}
	h.timers.begin()
	h.node.Store(&n)
}

// NewSession implements hosting.App.
func (h *hosted) NewSession(c hosting.Client, remote netip.AddrPort, where hosting.Where) hosting.Session {
	return (*hostedSession)(&Session{app: h.app(), client: c, remote: remote, at: where})
}

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

// run carries a call through filters and handler to the JSON of its answer. passed is false when it was answered before the handler. For a route of
// the chat application fn is nil, and the result is the call's body as the filters have left it. Runs on any goroutine.
func (a *App) run(c *Call, fn HandlerFunc, filters []FilterFunc) (body []byte, passed bool) {
	defer func() {
		if p := recover(); p != nil {
			a.panicked(c, p)
			body, passed = hosting.Refusal(c.Route), false
		}
	}()
	if fn == nil && hasTwins(c.Body) {
		slog.Debug("a request is refused before the filters: two of its members have the same name but for case", "route", c.Route)
		return hosting.Refusal(c.Route), false
	}
	for _, f := range filters {
		if err := f(c); err != nil {
			return errorBody(c, err), false
		}
	}
	if fn == nil {
		return c.Body, true
	}
	result, err := a.handle(c, fn)
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

// hasTwins tells whether a body has two members of the same name but for case. Decode takes each of them for the field of a struct, as encoding/json does, and the
// chat application that alone which is spelt as it should be: so a filter would judge one name or room, and another one would be entered.
func hasTwins(body []byte) bool {
	body = codec.NormalizeUTF8(body)
	lower := true // nearly all bodies are: then there is nothing to compare
	members := codec.ScanObject(body)
	for key, _, more := members.Next(); more && lower; key, _, more = members.Next() {
		lower = !bytes.ContainsFunc(key, func(r rune) bool { return r >= 'A' && r <= 'Z' || r >= utf8.RuneSelf })
	}
	if lower {
		return false
	}
	seen := make(map[string]string)
	members = codec.ScanObject(body)
	for key, _, more := members.Next(); more; key, _, more = members.Next() {
		folded := strings.ToLower(strings.ToUpper(string(key))) // either alone leaves characters apart that fold to one
		if other, has := seen[folded]; has && other != string(key) {
			return true
		}
		seen[folded] = string(key)
	}
	return false
}

// handle calls a handler, whose panic is an error.
func (a *App) handle(c *Call, fn HandlerFunc) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.panicked(c, p)
			result, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	return fn(c)
}

// panicked counts and logs a panic of a handler or filter. Runs where it is recovered.
func (a *App) panicked(c *Call, p any) {
	a.panics.Add(1)
	slog.Error("panic in a handler; the request is answered 500", "route", c.Route, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// maxAnswer leaves room for the head of a message in the longest package there is.
const maxAnswer = codec.MaxPackageBody - codec.MaxMessageHeadBytes

// errorBody is how a client is told of an error. Every refusal of enter has "error", which stock pages test.
func errorBody(c *Call, err error) []byte {
	var coded *Error
	if !errors.As(err, &coded) {
		slog.Debug("a handler failed", "route", c.Route, "err", err)
		return hosting.Refusal(c.Route)
	}
	b := fmt.Appendf(nil, `{"code":%d`, coded.Code)
	if c.Route == hosting.RouteEnter {
		b = append(b, `,"error":true`...)
	}
	if coded.Body == nil {
		return append(b, '}')
	}
	more, err := encodeJSON(coded.Body)
	members := codec.ScanObject(more)
	for key, value, ok := members.Next(); ok; key, value, ok = members.Next() {
		if name := string(key); name != "code" && name != "error" {
			b = append(codec.AppendString(append(b, ','), name), ':')
			b = append(b, value...)
		}
	}
	if err != nil || members.Err() != nil || len(b) > maxAnswer {
		slog.Error("an Error's Body cannot be sent: it must be a JSON object, and not be longer than a message may be", "route", c.Route, "err", err)
		return errorBody(c, &Error{Code: coded.Code})
	}
	return append(b, '}')
}

// hostedSession is a Session with the methods that its node calls.
type hostedSession Session

func session(s hosting.Session) *Session { return (*Session)(s.(*hostedSession)) }

// UID implements hosting.Session.
func (s *hostedSession) UID() string { return (*Session)(s).UID() }

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
func (s *hostedSession) End(why string) {
	s.mu.Lock()
	if s.done != nil && !s.closed {
		close(s.done)
	}
	s.closed = true
	at := s.at
	s.mu.Unlock()
	s.Abandon()
	for _, room := range at.Rooms {
		s.app.tellLeft((*Session)(s), Place{room, at.User}, Why(why))
	}
}
