package app

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/auth"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
	"github.com/pomelod/pomelod/limit"
)

// App is what a program adds to the chat server: handlers for routes of its own, filters, and events. Register everything,
// then run the server; from then on what App asks of rooms and sessions (Room, Broadcast, SessionsOf, PushUIDs) is safe from any goroutine.
type App struct {
	// Timeout is the time a handler has; then its context ends, its client gets 500 and what it returns is dropped. Default 30 s.
	Timeout time.Duration
	// MaxRunning is how many calls may wait for handlers at a time, and as many again for filters of the chat application's routes;
	// calls beyond it are answered 500, and so are those of an address that has its share (-addr-handlers, by default at most a
	// quarter). A call that is given up, because its time is over or its client has gone, counts no more although its goroutine runs
	// on until it looks at Call.Context; so up to twice as many goroutines run. Default 1024.
	MaxRunning int

	handlers map[string]handler
	before   []filter
	after    []func(c *Call, result any, err error)
	onOpen   []func(*Session)
	onClose  []func(*Session)
	onEnter  []func(*Session)
	onJoin   []func(*Session, Place)
	onLeave  []func(*Session, Place, Why)
	onRename []func(*Session, Place)
	onAway   []func(*Session, Place)
	onReturn []func(*Session, Place)
	judge    auth.Func     // of logins; nil: none
	shake    HandshakeFunc // nil: none
	kinds    []sessionData // what NewData has registered
	carry    carry
	onStart  []func() error
	onStop   []func(context.Context)
	rates    map[string]limit.Rate // of routes (Limit)

	flags *flag.FlagSet // nil: none

	node   atomic.Pointer[hosting.Node] // nil before the server runs, and after it has ended
	bound  bound
	timers timers
	asides asides
	panics atomic.Uint64
}

// HandlerFunc handles a call. Its result is sent as JSON, nil as {}. An error is answered {"code":500}, an *Error with its own code. A panic
// is logged and counts as an error.
type HandlerFunc func(c *Call) (result any, err error)

// FilterFunc sees a call before its handler, and may change the call's body (Call.SetBody). If it returns an error, that is the answer and the
// handler does not run.
type FilterFunc func(c *Call) error

// Error is an error of a handler or filter that is answered {"code":Code}, with the members of Body behind it.
type Error struct {
	Code int
	Text string // for the log; no client is told
	Body any    // nil, or what is a JSON object: {"reason":"words"}. Its members code and error are left out
}

func (e *Error) Error() string { return fmt.Sprintf("code %d: %s", e.Code, e.Text) }

type handler struct {
	fn     HandlerFunc
	inline bool
}

type filter struct {
	route string // empty: every route of the App's own
	fn    FilterFunc
}

// New makes an App with the default limits and no handlers.
func New() *App {
	return &App{Timeout: 30 * time.Second, MaxRunning: 1024, handlers: make(map[string]handler)}
}

// Flags are the program's own flags. Those that are declared here can be given beside the server's, on the command line and in the environment (-words
// as POMELOD_WORDS), and stand in -help. They have their values when OnStart functions are called. One with the name of a flag of the server's keeps the
// server from starting.
func (a *App) Flags() *flag.FlagSet {
	if a.flags == nil {
		a.flags = flag.NewFlagSet("program", flag.ContinueOnError)
		a.flags.SetOutput(io.Discard)
	}
	return a.flags
}

// Handle registers the handler of route "serverType.handler.method". It runs on a goroutine of its own, one at a time for each
// session; the session's next message waits for it. Panics when the route has a handler or is malformed.
func (a *App) Handle(route string, fn HandlerFunc) { a.register(route, fn, false) }

// HandleInline is Handle for a handler that runs on the event loop: it costs no goroutine and must not block, not even
// on a lock that others hold for long: all clients of the loop wait meanwhile. A panic, or runtime.Goexit, costs its call only, as with Handle.
func (a *App) HandleInline(route string, fn HandlerFunc) { a.register(route, fn, true) }

func (a *App) register(route string, fn HandlerFunc, inline bool) {
	parts := strings.Split(route, ".")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" || len(route) > codec.MaxRouteBytes {
		panic(fmt.Sprintf("app: %q is no route; it must be serverType.handler.method", route))
	}
	if _, taken := a.handlers[route]; taken {
		panic(fmt.Sprintf("app: %q is registered twice", route))
	}
	if hosting.Builtin(route) {
		panic(fmt.Sprintf("app: %q is the chat application's own; filter it with Before", route))
	}
	a.handlers[route] = handler{fn: fn, inline: inline}
}

// Before adds a filter for a route. It may be one of the chat application's, say to refuse words in chat.chatHandler.send, or to replace them. An empty route
// stands for all routes of the App's own. Filters run in the order in which they were added, on the goroutine of the handler; those of the
// chat application's routes on a goroutine of their own. A body for these of which two members have the same name but for case is refused before any filter sees it:
// Call.Decode could read one of them, and the chat application the other.
func (a *App) Before(route string, fn FilterFunc) {
	a.before = append(a.before, filter{route, fn})
}

// After adds a function that sees every call of the App's own routes after its handler, with what it returned.
func (a *App) After(fn func(c *Call, result any, err error)) { a.after = append(a.after, fn) }

// Limit bounds how often each session may call one of the App's own routes: perSecond calls in the long run, burst at once. A
// request beyond it is answered {"code":500,"reason":"route_rate"} and a notify is dropped; neither reaches filters or
// handler. The chat application's routes have -send-rate and -enter-rate instead. Panics when the route has a limit already.
func (a *App) Limit(route string, perSecond float64, burst int) {
	if a.rates == nil {
		a.rates = make(map[string]limit.Rate)
	}
	if _, twice := a.rates[route]; twice {
		panic(fmt.Sprintf("app: %q is limited twice", route))
	}
	a.rates[route] = limit.Rate{PerSecond: perSecond, Burst: burst}
}
