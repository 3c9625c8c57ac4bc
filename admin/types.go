package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/router"
)

// API is what operators ask of a server and have it do. Its methods are safe from any goroutine, and end with ctx; router.Node has most of them, and says
// more of each.
type API interface {
	Rooms(ctx context.Context, prefix, after string, most int) (rooms []channel.RoomInfo, more bool, err error)
	// LargestRooms are those with the most members, whose names begin with prefix.
	LargestRooms(ctx context.Context, prefix string, most int) ([]channel.RoomInfo, error)
	Room(ctx context.Context, name string) (info channel.RoomInfo, owned bool, err error)
	Members(ctx context.Context, room string) ([]string, error)
	ListSessions(ctx context.Context, f router.SessionFilter, from router.SessionCursor, most int) (list []router.SessionInfo, rest *router.SessionCursor, err error)
	History(ctx context.Context, room string, most int) ([]byte, error)
	Snapshot(ctx context.Context) (*router.Snapshot, error)
	Process() Process
	// Nodes are those of the fleet; none where there is no fleet.
	Nodes(ctx context.Context) (*Nodes, error)
	// Limits are the values of the flags that are limits, by name.
	Limits() map[string]string

	DeleteMessages(ctx context.Context, d router.Deletion) (router.Deleted, error)
	KickMember(ctx context.Context, room, name, reason string) error
	KickSessions(ctx context.Context, f router.SessionFilter, reason string) (int, error)
	// KickEverywhere is KickSessions at every node of the fleet, if there is one. The number is of this one; the others need some milliseconds, and nobody waits for them.
	KickEverywhere(ctx context.Context, k Kick) (n int, fleet bool, err error)
	// Rules are those that hold, and whether they survive a restart.
	Rules() (rules []Rule, kept bool)
	// SetRule has a rule hold in the fleet in place of those about the same, and about names that look alike; with lift none. It fails with app.ErrAbsent if there is none to lift. An error says what is
	// wrong with it; what is wrong with the file is a RuleFileError.
	SetRule(r Rule, lift bool) (kept bool, err error)
	// RoomPolicy is what an operator says of a room, and what holds in it at this node.
	RoomPolicy(room string) RoomPolicy
	// Drain asks a node of the fleet to end in order, and tells how it is once it has heard that, or when it should have. It fails with app.ErrAbsent if there is no such node.
	Drain(ctx context.Context, node string) (Node, error)
	// Upgrade has the binary on disk take the place of this process, and tells what came of it. It fails where this process goes on.
	Upgrade(ctx context.Context) (result string, err error)
	// Reload reads files again, all or nothing, and tells what came of it.
	Reload() (Reloaded, error)
	PublishRoom(ctx context.Context, p router.Publication) (router.Published, error)
	// PublishEverywhere pushes to the sessions that p names, at every node of the fleet, once for each mid. It waits for what the nodes say, and fails with ErrPartly where one says
	// nothing, or that it did not do it, and with ErrNotNow where this one cannot tell the others. Where there is no fleet nobody knows the mid, and to push to nobody is app.ErrAbsent.
	PublishEverywhere(ctx context.Context, p Publish) (Spread, error)
}

// Spread is what became of what all nodes of a fleet were asked.
type Spread struct {
	Sessions int  // to which it went
	Nodes    int  // that have done it; 0: there is no fleet
	Again    bool // all of them had done it before
}

// ErrNotNow means that nothing has happened, and may later.
var ErrNotNow = errors.New("nothing has happened; try again later")

// ErrPartly means that something is done at some nodes of a fleet, and at others it may not be.
var ErrPartly = errors.New("not known to be done at all nodes")

// Scopes of an answer: what it is about. Where there is no fleet both are the same.
const (
	ScopeNode  = "node"  // this process
	ScopeFleet = "fleet" // whatever node the room and its members are on
)

// Pages of lists.
const (
	pageDefault = 100
	pageMost    = 1000
)

// maxBody is how long the body of a request may be.
const maxBody = 1 << 20

// Room is a room in answers. Kept and Slow are not known of one that another node owns.
type Room struct {
	Name    string   `json:"name"`
	Members int      `json:"members"`
	Kept    int      `json:"kept"`            // messages
	Slow    string   `json:"slow,omitempty"`  // its slow mode, as 1.5s
	Users   []string `json:"users,omitempty"` // in the order in which they entered; in the answer of /v1/room only
}

// Rooms is the answer of /v1/rooms.
type Rooms struct {
	Scope string `json:"scope"`
	Rooms []Room `json:"rooms"`
	Next  string `json:"next,omitempty"` // after of the next page
}

// RoomAnswer is the answer of /v1/room.
type RoomAnswer struct {
	Scope string `json:"scope"`
	Room
}

// Session is a session in answers. Without a room it has no name.
type Session struct {
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"` // of a login, or the name of one without
	Room      string `json:"room,omitempty"`
	Address   string `json:"address"`
	Transport string `json:"transport"`
	Loop      int    `json:"loop"`
}

// Sessions is the answer of /v1/sessions.
type Sessions struct {
	Scope    string    `json:"scope"`
	Sessions []Session `json:"sessions"`
	Next     string    `json:"next,omitempty"` // after of the next page
}

// History is the answer of /v1/history: messages, oldest first, as chat.chatHandler.history tells them, and whether there are older ones.
type History struct {
	Scope   string          `json:"scope"`
	History json.RawMessage `json:"history"`
}

// Error is every answer but 200.
type Error struct {
	Error string `json:"error"`
}

// Limits is the answer of /v1/limits.
type Limits struct {
	Scope   string            `json:"scope"`
	Limits  map[string]string `json:"limits"`  // flags and their values
	Limited map[string]uint64 `json:"limited"` // what they have refused since the start, by reason
	Refused map[string]uint64 `json:"refused"` // who was turned away at once, by reason
}

// Done is the answer to a POST.
type Done struct {
	Scope string `json:"scope"`
	Count *int   `json:"count,omitempty"` // sessions, where they are known; of /v1/delete messages
	Kept  *bool  `json:"kept,omitempty"`  // whether a rule survives a restart of this process
	// Of /v1/publish: the place in the room's stream, and when that was, in Unix ms; to how many event loops, of all nodes, it went for the sessions that are counted; how many nodes of a fleet have done it.
	Seq       string `json:"seq,omitempty"`
	Time      int64  `json:"time,omitempty"`
	Delivered *int   `json:"delivered,omitempty"`
	Nodes     *int   `json:"nodes,omitempty"`
	// Repeated says that this was done before, for the same mid; the rest of the answer is of that time.
	Repeated bool `json:"repeated,omitempty"`
	// Warning says what else was to be done and may not have been. What was asked for has been done.
	Warning string `json:"warning,omitempty"`
}

// Reload is the answer to /v1/reload.
type Reload struct {
	Scope string `json:"scope"`
	Reloaded
}

// Reloaded is what a reload has done.
type Reloaded struct {
	Read    []string `json:"read"`    // what was read again
	Changed []string `json:"changed"` // flags, with their values: session-rate=50:100
	Later   []string `json:"later"`   // flags that have changed and take effect at the next start or upgrade
}

// Kick is the body of /v1/kick: Name, Address, UID or All, and with Name a room.
type Kick struct {
	Name    string `json:"name,omitempty"`
	Address string `json:"address,omitempty"` // or a network: 192.0.2.0/24
	UID     string `json:"uid,omitempty"`     // of a login, or the name of one without
	All     bool   `json:"all,omitempty"`
	Room    string `json:"room,omitempty"`
	Reason  string `json:"reason"`
}

// Sessions chooses the sessions that a kick without a room is about. An error says what is wrong with it.
func (k *Kick) Sessions() (f router.SessionFilter, err error) {
	named := 0
	for _, by := range []bool{k.Name != "", k.Address != "", k.UID != "", k.All} {
		if by {
			named++
		}
	}
	if named != 1 {
		return f, bad("give name, address, uid or all, one of them")
	}
	f, err = filter(k.Name, k.Address)
	f.UID = k.UID
	return f, err
}

// Publish is the body of /v1/publish: Room, User, both, UID, or All.
type Publish struct {
	Room  string          `json:"room,omitempty"`
	User  string          `json:"user,omitempty"`
	UID   string          `json:"uid,omitempty"` // of a login, or the name of one without, or what a program has bound the session to
	All   bool            `json:"all,omitempty"`
	Mid   string          `json:"mid,omitempty"` // what comes again with it, to the same, is done once
	Route string          `json:"route"`
	Body  json.RawMessage `json:"body"`
}

// to tells whom it is for, where that is no room.
func (p *Publish) to() string {
	switch {
	case p.User != "":
		return "user\x00" + p.User
	case p.UID != "":
		return "uid\x00" + p.UID
	}
	return "all"
}

// ID is by what nodes know it again, wherever it is asked for; empty: it has no mid.
func (p *Publish) ID() string {
	if p.Mid == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(p.Room + "\x00" + p.to() + "\x00" + p.Mid))
	return hex.EncodeToString(sum[:8])
}

// Sessions chooses those that it is for, where it is for no room.
func (p *Publish) Sessions() router.SessionFilter {
	return router.SessionFilter{Name: p.User, UID: p.UID}
}

// Delete is the body of /v1/delete: Room, and Seq, Mid or User.
type Delete struct {
	Room string `json:"room"`
	Seq  string `json:"seq,omitempty"`  // of the message, as /v1/history tells it
	Mid  string `json:"mid,omitempty"`  // the id that its client has given it
	User string `json:"user,omitempty"` // all that this one has said
}

// Close is the body of /v1/close.
type Close struct {
	Room   string `json:"room"`
	Reason string `json:"reason"`
}

// Kinds of rules.
const (
	RuleBan  = "ban"  // of a name, an address or a network: may not connect, or enter by that name
	RuleMute = "mute" // of a name, in one room or all: may say nothing
	RuleLock = "lock" // of a room: takes in nobody new

	RulePolicy = "policy" // of a room: other limits hold there than in others
)

// Rule is what an operator forbids, or says of a room.
type Rule struct {
	Kind    string     `json:"kind"`
	Name    string     `json:"name,omitempty"`
	Address string     `json:"address,omitempty"`
	Room    string     `json:"room,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Policy  *Policy    `json:"policy,omitempty"`
	Until   *time.Time `json:"until,omitempty"` // missing: for ever
	By      string     `json:"by,omitempty"`
	At      time.Time  `json:"at"`
}

// Rules is the answer of /v1/rules.
type Rules struct {
	Scope string `json:"scope"`
	Kept  bool   `json:"kept"` // they survive a restart
	Rules []Rule `json:"rules"`
}

// Forbid is the body of /v1/ban, /v1/mute and /v1/lock. Ban: Name or Address; its sessions are kicked, with Reason. Mute: Name, and Room or all. Lock: Room.
type Forbid struct {
	Name    string `json:"name,omitempty"`
	Address string `json:"address,omitempty"` // or a network: 192.0.2.0/24
	Room    string `json:"room,omitempty"`
	For     string `json:"for,omitempty"` // as 90s, 30m, 24h; missing: for ever
	Reason  string `json:"reason,omitempty"`
}

// RuleFileError says that rules could not be written, so nothing has changed.
type RuleFileError struct{ Err error }

func (e *RuleFileError) Error() string { return e.Err.Error() }
func (e *RuleFileError) Unwrap() error { return e.Err }
