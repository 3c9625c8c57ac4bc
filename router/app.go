package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
)

// App is what a program adds to the chat server: handlers for routes of its own, filters, and events. Register everything,
// then make the Node; after that App's pushes and Kick may be called from any goroutine.
//
//	app := router.NewApp()
//	app.Handle("lobby.lobbyHandler.list", func(c *router.Call) (any, error) {
//		return map[string]any{"games": games.List()}, nil
//	})
type App struct {
	// Timeout is the time a handler has; then its context ends, its client gets 500 and what it returns is dropped. Default 30 s.
	Timeout time.Duration
	// MaxRunning is how many calls may wait for handlers at a time, and as many again for filters of the chat application's routes;
	// calls beyond it are answered 500, and so are those of an address that has its share (-addr-handlers, by default at most a
	// quarter). A call that is given up, because its time is over or its client has gone, counts no more although its goroutine runs
	// on until it looks at Call.Context; so up to twice as many goroutines run. Default 1024.
	MaxRunning int

	handlers map[string]appHandler
	before   []filter
	after    []func(c *Call, result any, err error)
	onOpen   []func(*Session)
	onClose  []func(*Session)
	rates    map[string]*routeRate // of routes (Limit)

	node   atomic.Pointer[Node] // nil before NewNode and after Shutdown
	panics atomic.Uint64
}

// HandlerFunc answers a call: the result is sent as JSON, nil as {}. An error is sent as {"code":500}, an *Error with its own
// code. A panic counts as an error.
type HandlerFunc func(c *Call) (result any, err error)

// FilterFunc sees a call before its handler. An error answers the call; the handler does not run.
type FilterFunc func(c *Call) error

// Error is an error whose code the client gets: {"code":Code}.
type Error struct {
	Code int
	Text string // for the log
}

func (e *Error) Error() string { return fmt.Sprintf("code %d: %s", e.Code, e.Text) }

// Errors of App's pushes.
var (
	// ErrBusy means that too much waits for the room's worker already. Nothing was pushed.
	ErrBusy = errors.New("the room's worker is busy; try again later")
	// ErrNotRunning means that the App belongs to no Node yet.
	ErrNotRunning = errors.New("the server is not running yet")
	// ErrTooLong means that a push is longer than half of what a connection may have unsent.
	ErrTooLong = errors.New("push is too long: raise -outbound or send less")
	// ErrRoute means that a push has no route, or one longer than 255 bytes.
	ErrRoute = errors.New("a push needs a route of 1 to 255 bytes")
	// ErrObject means that a push's body is no JSON object.
	ErrObject = errors.New("a push's body must be a JSON object without a member named body")
)

type appHandler struct {
	name   string
	fn     HandlerFunc // nil: a builtin route that has filters
	inline bool
}

type filter struct {
	route string // empty: every route of the App's own
	fn    FilterFunc
}

// NewApp makes an App without anything.
func NewApp() *App {
	return &App{Timeout: 30 * time.Second, MaxRunning: 1024, handlers: make(map[string]appHandler)}
}

// Handle registers the handler of route "serverType.handler.method". It runs on a goroutine of its own, one at a time for each
// session; the session's next message waits for it. Panics when the route is taken or is none.
func (a *App) Handle(route string, fn HandlerFunc) { a.register(route, fn, false) }

// HandleInline is Handle for a handler that runs on the event loop: it costs no goroutine and must not block, not even
// for a lock held elsewhere for long.
func (a *App) HandleInline(route string, fn HandlerFunc) { a.register(route, fn, true) }

func (a *App) register(route string, fn HandlerFunc, inline bool) {
	parts := strings.Split(route, ".")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" || len(route) > codec.MaxRouteBytes {
		panic(fmt.Sprintf("router: %q is no route; it must be serverType.handler.method", route))
	}
	if _, taken := a.handlers[route]; taken {
		panic(fmt.Sprintf("router: %q is registered twice", route))
	}
	if _, chat := builtin[route]; chat {
		panic(fmt.Sprintf("router: %q is the chat application's own; filter it with Before", route))
	}
	a.handlers[route] = appHandler{name: route, fn: fn, inline: inline}
}

// Before adds a filter for one route, which may be one of the chat application's (say, to refuse words in
// chat.chatHandler.send), or for every route of the App's own when route is empty. Filters run in the order added,
// where the handler runs; those of the chat application's routes on a goroutine.
func (a *App) Before(route string, fn FilterFunc) {
	a.before = append(a.before, filter{route, fn})
}

// After adds a function that sees every call of the App's own routes after its handler, with what it returned.
func (a *App) After(fn func(c *Call, result any, err error)) { a.after = append(a.after, fn) }

// OnOpen adds a function that is called when a session has finished its handshake. It runs on the event loop, must
// not block, and is before any call of that session.
func (a *App) OnOpen(fn func(*Session)) { a.onOpen = append(a.onOpen, fn) }

// OnClose adds a function that is called once when a session that was opened has ended. It runs on the event loop and must
// not block. A handler of the session may still be running; its context is done.
func (a *App) OnClose(fn func(*Session)) { a.onClose = append(a.onClose, fn) }

// check refuses what would surprise later, and readies the App.
func (a *App) check() error {
	if a == nil {
		return nil
	}
	if a.node.Load() != nil {
		return errors.New("an App belongs to one Node")
	}
	if a.Timeout < time.Second || a.Timeout > 24*time.Hour || a.MaxRunning < 1 {
		return fmt.Errorf("App.Timeout %v must be a second to a day, and App.MaxRunning %d at least 1", a.Timeout, a.MaxRunning)
	}
	for _, f := range a.before {
		_, own := a.handlers[f.route]
		if _, chat := builtin[f.route]; f.route != "" && !own && !chat {
			return fmt.Errorf("App.Before: nobody handles %q", f.route)
		}
	}
	if err := a.checkRates(); err != nil {
		return err
	}
	return nil
}

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

// Push sends a push to user in room. It is in order with what the room is told. Whether the user is there is not told (PushContext).
func (a *App) Push(room, user, route string, body any) error {
	return a.push(room, user, route, body)
}

// PushRoom sends a push to every member of room. A room that is empty or has too much to take already gets none, which is
// not told (PushRoomContext).
func (a *App) PushRoom(room, route string, body any) error {
	return a.push(room, channel.Everybody, route, body)
}

func (a *App) push(room, target, route string, body any) error {
	node, content, err := a.encodePush(route, body)
	if err != nil {
		return err
	}
	return node.request(channel.Request{Op: channel.OpPush, Room: room, Target: target, Route: route, Content: content})
}

// Broadcast sends a push to every session that has finished its handshake, in a room or not. Between it and what rooms are
// told there is no order.
func (a *App) Broadcast(route string, body any) error {
	node, content, err := a.encodePush(route, body)
	if err != nil {
		return err
	}
	for _, l := range node.loops {
		if l.busy() {
			return ErrBusy
		}
	}
	p := &codec.Push{Route: route, Body: content, Shared: new(codec.SharedFrames)}
	node.broadcasts.Add(int32(len(node.loops))) // until all have done it no session moves, or both loops might miss it
	for _, l := range node.loops {
		l.postRun(len(content), func() {
			l.postRun(len(content), func() { l.broadcast(p, 0) }) // a turn later, when those are here that were on their way
		})
	}
	return nil
}

// Kick ends user's session in room with a reason that it is told. Whether the user was there is not told (KickContext).
func (a *App) Kick(room, user, reason string) error {
	node := a.node.Load()
	if node == nil {
		return ErrNotRunning
	}
	return node.request(kickRequest(room, user, reason))
}

// encodePush checks what a push must be and encodes its body. It returns the node that runs.
func (a *App) encodePush(route string, body any) (*Node, []byte, error) {
	node := a.node.Load()
	if node == nil {
		return nil, nil, ErrNotRunning
	}
	if route == "" || len(route) > codec.MaxRouteBytes {
		return nil, nil, ErrRoute
	}
	b, err := encodeJSON(body)
	if err != nil {
		return nil, nil, fmt.Errorf("encode push %s: %w", route, err)
	}
	if !node.limits.fits(len(b)) {
		return nil, nil, ErrTooLong
	}
	object := codec.ScanObject(b)
	for key, _, ok := object.Next(); ok; key, _, ok = object.Next() {
		if string(key) == "body" {
			return nil, nil, ErrObject
		}
	}
	if object.Err() != nil {
		return nil, nil, ErrObject
	}
	return node, b, nil
}

// encodeJSON is v as canonical JSON.
func encodeJSON(v any) ([]byte, error) {
	if v == nil {
		return channel.Done, nil
	}
	b, err := codec.Marshal(v)
	if err != nil {
		return nil, err
	}
	b = codec.NormalizeUTF8(b)
	if codec.IsCanonical(b) {
		return b, nil
	}
	return codec.AppendCanonical(make([]byte, 0, len(b)+len(b)/2), b), nil
}

// Call is one request or notify on its way to a handler. It belongs to the handler.
type Call struct {
	// Session is who called.
	Session *Session
	// Route is what was called.
	Route string
	// Body is the JSON that came with it, {} when it was no JSON. A handler may keep it.
	Body []byte
	// Notify says that no answer will be sent.
	Notify bool

	ctx context.Context
}

// Context ends when the call's time is over or its session ends.
func (c *Call) Context() context.Context { return c.ctx }

// Bind decodes the body into v, which is as for encoding/json. The error answers 500 when it is returned.
func (c *Call) Bind(v any) error { return codec.Unmarshal(c.Body, v) }

// run carries a call through filters and handler to the JSON of its answer. passed is false when it was answered before
// the handler. Runs on any goroutine.
func (a *App) run(c *Call, h appHandler, filters []FilterFunc) (body []byte, passed bool) {
	defer func() {
		if p := recover(); p != nil {
			a.panics.Add(1)
			slog.Error("panic in a handler; the request is answered 500", "route", c.Route, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			body, passed = builtinRefusal(c.Route), false
		}
	}()
	for _, f := range filters {
		if err := f(c); err != nil {
			return errorBody(c, err), false
		}
	}
	if h.fn == nil {
		return nil, true
	}
	result, err := h.fn(c)
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
		if c.Route == routeEnter {
			return fmt.Appendf(nil, `{"code":%d,"error":true}`, coded.Code)
		}
		return fmt.Appendf(nil, `{"code":%d}`, coded.Code)
	}
	slog.Debug("a handler failed", "route", c.Route, "err", err)
	return builtinRefusal(c.Route)
}

// builtinRefusal is what a refusal of this route looks like: enter's has "error" (protocol.md §1).
func builtinRefusal(route string) []byte {
	if route == routeEnter {
		return channel.EnterRefused
	}
	return channel.Refused
}
