// Package hosting is what packages app and router know of each other and programs need not: a node hosts an App, that is, it runs the
// App's functions and carries out what they ask for.
package hosting

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/pomelod/pomelod/auth"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/limit"
)

// The chat application's routes.
const (
	RouteQueryEntry = "gate.gateHandler.queryEntry"
	RouteEnter      = "connector.entryHandler.enter"
	RouteSend       = "chat.chatHandler.send"
)

// Builtin tells whether a route is the chat application's.
func Builtin(route string) bool {
	return route == RouteQueryEntry || route == RouteEnter || route == RouteSend
}

// Refusal is what a refusal of this route looks like: enter's has "error" (protocol.md §1). It must not be changed.
func Refusal(route string) []byte {
	if route == RouteEnter {
		return channel.EnterRefused
	}
	return channel.Refused
}

// Of is the App that an *app.App is, for a node. Set by package app.
var Of func(app any) App

// App is an App as a node sees it. After Check, and but for Attach, it is safe from any goroutine.
type App interface {
	// Check refuses what would surprise later, and readies the App.
	Check() error
	// Bounds are App.Timeout and App.MaxRunning.
	Bounds() (timeout time.Duration, maxRunning int)
	// Routes are those that the App handles.
	Routes() []Route
	// Filter runs the filters before one of the chat application's routes; nil if it has none.
	Filter(route string) RunFunc
	// Start calls the functions for the begin, and fails with the error of the first that does; Stop those for the end, which have until ctx ends.
	Start() error
	Stop(ctx context.Context) error
	// Judge is the program's judge of logins; nil if it has none.
	Judge() auth.Func
	// Handshake is called with the handshakes of clients; nil if the program has nothing to say to them.
	Handshake() ShakeFunc
	// Watches tells whether there are functions for what sessions do: then each session is made known (NewSession) when it opens.
	Watches() bool
	// Attach gives the App its node; nil when that ends.
	Attach(Node)
	// NewSession makes the Session of a client that an App's function is about to see, and says in which room it is.
	NewSession(c Client, remote netip.AddrPort, where Where) Session
	// Opened and Closed tell the App of a session's begin and end. They run on the event loop.
	Opened(Session)
	Closed(Session)
	// Carries tells whether sessions that the App knows can go along in an upgrade. Then Pack tells what the next process must know of one, and false if it has
	// none of it; Unpack tells that process's App, in the place of Opened, and false if that can do nothing with it.
	Carries() bool
	Pack(Session) (Carried, bool)
	Unpack(Session, Carried) bool
	// Panics counts those of handlers and filters.
	Panics() uint64
}

// Carried is what an App knows of a session, for the next process.
type Carried struct {
	UID   string // what it is bound to
	State []byte // the program's
}

// RunFunc carries a call through filters and handler to the JSON of its answer. passed is false when it was answered before the
// handler. Where there are only filters and they let the call through, it is the call's body instead, as they have left it. Runs on any goroutine.
type RunFunc func(c *Call) (answer []byte, passed bool)

// Call is one request or notify for a RunFunc, which may keep it.
type Call struct {
	Context context.Context
	Session Session
	Body    []byte // JSON
	Notify  bool
}

// ShakeFunc looks at a handshake. It returns the JSON of the answer's member user, nil for none; or, with false, the body that refuses the handshake. Runs on any
// goroutine.
type ShakeFunc func(*Handshake) (answer []byte, ok bool)

// Handshake is one of a client for a ShakeFunc, which may keep it.
type Handshake struct {
	Context       context.Context
	Session       Session
	User          []byte // JSON; nil: the client gave none
	Type, Version string // of the client, as it says
}

// Route is a route that an App handles.
type Route struct {
	Name   string
	Inline bool // its handler runs on the event loop
	Run    RunFunc
	Rate   *limit.Rate // of each session; nil: no limit
}

// Where is in which rooms a session is, the first one first, and its name there; both are empty in none.
type Where struct {
	User  string
	Rooms []string
}

// Change is what a program asks of the rooms that a session is in.
type Change struct {
	Kind ChangeKind
	Room string
	User string // ChangeEnter: its name there; empty: the one that it has
	// Done is called once with what has come of it. It runs on the event loop.
	Done func(error)
}

// Login has a session counted as one of a uid's, if that may have so many. Until then it is whose it was.
type Login struct {
	UID   string
	Most  int  // how many sessions it may have; 0: any number; -n: n, and the oldest are ended
	Again bool // it is asked whether those have ended, unless the session has become another's
	// Taken, which may be nil, is called once if the session is counted, before Done. It runs on the event loop.
	Taken func()
	// Done is called once, with how many sessions of the uid have yet to end, or why it is not counted. It runs on the event loop.
	Done func(waits int, err error)
}

// BoundUser is the user that a uid is to partitions (channel.OpBind). A login's (auth.Identity.User) never looks so.
func BoundUser(uid string) string { return boundPrefix + uid }

// IsBoundUser tells whether a user is a uid's.
func IsBoundUser(user string) bool { return strings.HasPrefix(user, boundPrefix) }

// LeaderUser is the user whose only session is the node that leads (app.App.Leads) in what a name stands for. No uid and no login looks so.
func LeaderUser(name string) string { return "leader\x00" + name }

const boundPrefix = "bound\x00"

// ChangeKind says what a Change is.
type ChangeKind uint8

// The kinds of Change.
const (
	ChangeEnter ChangeKind = iota // out of all other rooms
	ChangeJoin                    // beside the others
	ChangeLeave
)

// Session is an app.Session as a node sees it. Safe from any goroutine.
type Session interface {
	// Moved says in which rooms it is now and under which name, tells the App what is new of that, and why it has left those in which it is no longer (an
	// app.Why). Runs on the event loop.
	Moved(to Where, why string)
	// Away tells the App that its connection broke and its place in a room is kept, before the owner of that hears of it and before End; Returned that it has taken up
	// such a place, after Moved has told of the room. They run on the event loop.
	Away(room string)
	Returned(room string)
	// Begin makes the context of a call, which its goroutine cancels in the end. giveUp is called once or more often when nobody waits
	// for the answer any more: with Abandon, with End, and late, when the call has ended long since. A call that was given up may still run
	// when the next begins, so only the latest is given up by Abandon and End.
	Begin(timeout time.Duration, giveUp func()) (context.Context, context.CancelFunc)
	// Abandon gives the latest call up.
	Abandon()
	// End marks the session as closed, gives its call up, and tells the App if it leaves a room by that, and why (an app.Why). Runs on the event
	// loop.
	End(why string)
	// UID is whose session it is; empty: nobody's. Safe from any goroutine.
	UID() string
}

// Client is what an app.Session needs of its session on a loop. Safe from any goroutine.
type Client interface {
	Push(p *codec.Push) error
	Kick(reason string)
	// Change has its rooms changed, or fails, and then does not call Done.
	Change(c Change) error
	// Bound has the session counted as one of the uid that it has by now (Session.UID), and of no other, sooner or later.
	Bound()
	// Login has the session counted as one of a uid's, or fails, and then does not call Done.
	Login(b *Login) error
	// LoggingIn says that somebody waits for what comes of a login, until done is called: meanwhile the session does not go along in an upgrade.
	LoggingIn() (done func())
}

// Node is what an App asks of its node. Safe from any goroutine, and Ask from any but a loop's.
type Node interface {
	// Fits tells whether a push may have a body of so many bytes.
	Fits(bytes int) bool
	// Request has the owner of a room, or of a user where it names none, execute a request.
	Request(channel.Request) error
	// Ask is Request and waits for the answer.
	Ask(context.Context, channel.Request) ([]byte, error)
	// After calls f once, in d, on any goroutine, unless stop is called before, which tells whether it was. f must not block.
	After(d time.Duration, f func()) (stop func() bool)
	// OnRoom has a loop call f with what tells a room's life from others of its name, 0 if nobody is in it; or with the error that nobody knows. It is the loop that
	// decides for the room, in order with requests, if that is of this process; else what f asks comes behind all that was said when the owner was asked.
	OnRoom(room string, f func(life uint64, err error))
	// Rooms are the rooms, of the whole fleet, whose names begin with prefix and stand behind after: most at most, and whether there are more. Waits for the loops.
	Rooms(ctx context.Context, prefix, after string, most int) (rooms []channel.RoomInfo, more bool, err error)
	// Broadcast stages a push for every session that has finished its handshake, of all nodes of a fleet.
	Broadcast(p *codec.Push) error
	// InFleet tells whether the node is one of a fleet.
	InFleet() bool
}
