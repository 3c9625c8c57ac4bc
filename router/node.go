package router

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/names"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
)

// Limits bound what clients and programs may take of a node. docs/ARCHITECTURE.md, "What is bounded", says what happens at each of them.
type Limits struct {
	Conn             netpoll.Limits
	PackageBytes     int           // longest package accepted
	HeadBytes        int           // longest HTTP head
	HeadSeconds      uint32        // from its first byte
	HandshakeSeconds uint32        // from connect to working, and from the beginning of a message or a request to its end
	IdleSeconds      uint32        // silence allowed where heartbeats are off
	RequestSeconds   uint32        // a worker's time to answer
	Inflight         int           // requests of one session at workers
	Inbox            int           // requests on their way to one worker
	LoopBytes        int           // mail and unwritten pushes of one loop; beyond it nothing new is admitted for it
	RoomBytes        int           // unwritten pushes of one room on one loop; the same for that room
	NameBytes        int           // longest name of a user or room, as JSON has it
	Spread           int           // members from which on a room uses all loops
	Delay            time.Duration // when clients' bytes wait for longer until a loop comes to them, it refuses messages; 0: never
	// What sessions may do; 0 in any of these is no limit.
	SessionRate   limit.Rate // messages and the like of one session
	SendRate      limit.Rate // its sends, which go to many
	EnterRate     limit.Rate // its enters: two pushes to many, and a list that may be long
	Flood         int        // packages refused beyond those admitted, after which a session is ended
	EarlyBytes    int        // before the end of the handshake, of packages
	EarlyPackages int        // the same in packages
	FirstSeconds  uint32     // from the handshake to the first message; not where there is an App
	Rooms         channel.Limits
	History       History // what rooms keep of what is said
	// HTTP and socket.io.
	KeepAliveSeconds    uint32 // an idle HTTP connection
	Pulls               int    // sessions without a socket, whose clients fetch
	PingSeconds         uint32 // between two pings or heartbeats of socket.io clients
	PingTimeoutSeconds  uint32 // silence allowed after that: socket.io 0.9 and Engine.IO 3
	PingTimeout4Seconds uint32 // the same for Engine.IO 4
	PollSeconds         uint32 // a GET of 0.9 is held
	ConnectSeconds      uint32 // from an Engine.IO 4 handshake to the connect of socket.io
	UpgradeSeconds      uint32 // from a WebSocket's probe to the upgrade
}

// History bounds what rooms keep of what is said in them (channel.History).
type History struct {
	Messages int // of one room; 0: none
	Bytes    int // of one room
	Age      time.Duration
	Memory   int64 // of all rooms; 0: no limit
}

// MaxGrace is the longest time for which a member that was cut off may be away.
const MaxGrace = 5 * time.Minute

// DefaultLimits returns the limits of a server whose clients are trusted: those on rates and on what comes before a handshake are off.
func DefaultLimits() Limits {
	return Limits{
		Conn:         netpoll.Limits{Outbound: 512 << 10, Stuck: 20, Buffered: 256 << 20},
		PackageBytes: 256 << 10, HeadBytes: 16 << 10, HeadSeconds: 5, HandshakeSeconds: 20, IdleSeconds: 90,
		RequestSeconds: 5, Inflight: 32, Inbox: 16384, LoopBytes: 32 << 20, RoomBytes: 1 << 20, NameBytes: 64, Spread: 256, Delay: time.Second,
		KeepAliveSeconds: 60, Pulls: 20_000, PingSeconds: 25, PingTimeoutSeconds: 60, PingTimeout4Seconds: 20, PollSeconds: 20,
		ConnectSeconds: 45, UpgradeSeconds: 10,
	}
}

// pollSeconds is how long a GET of 0.9 is held: a client gives up after the timeout that it was told.
func (l *Limits) pollSeconds() uint32 { return max(min(l.PollSeconds, l.PingTimeoutSeconds/2), 1) }

// Check refuses limits that cannot hold together, and says what to do.
func (l *Limits) Check() error {
	switch {
	case l.PackageBytes > l.Conn.Outbound/2:
		return fmt.Errorf("a message of %d bytes does not fit into half of what a connection may have unsent (%d bytes): raise -outbound to at least %d or lower -max-package",
			l.PackageBytes, l.Conn.Outbound, 2*l.PackageBytes)
	case l.Conn.Buffered < int64(l.Conn.Outbound):
		return fmt.Errorf("-max-buffered (%d bytes for all connections) is less than -outbound (%d for one): raise it", l.Conn.Buffered, l.Conn.Outbound)
	case l.Inbox < 1 || l.Inflight < 1:
		return fmt.Errorf("-inbox %d and -inflight %d: must be at least 1, or every request would be refused", l.Inbox, l.Inflight)
	case l.NameBytes < 1 || l.NameBytes > 255:
		return fmt.Errorf("-max-name %d: must be 1 to 255 bytes", l.NameBytes)
	case l.PingSeconds < 1 || l.PingTimeoutSeconds < 1 || l.PingTimeout4Seconds < 1:
		return errors.New("-sio-heartbeat, -sio-timeout and -sio-timeout4 must be at least a second")
	case l.Spread < 1:
		return fmt.Errorf("-spread %d: must be at least 1", l.Spread)
	case l.Flood < 0 || l.Flood > maxFlood || l.EarlyPackages < 0 || l.EarlyPackages >= maxFlood || l.EarlyBytes < 0:
		return fmt.Errorf("-flood %d and -handshake-packages %d: must be below %d, or 0 for no limit", l.Flood, l.EarlyPackages, maxFlood)
	case l.Rooms.Members < 0 || l.Rooms.Rooms < 0 || l.Rooms.Slow < 0 || l.Rooms.Grace < 0 || l.Rooms.Grace > MaxGrace:
		return fmt.Errorf("-room-members %d, -rooms %d, -slow-mode %v and -grace %v: must not be negative, and -grace at most %v; 0 is no limit, and no grace",
			l.Rooms.Members, l.Rooms.Rooms, l.Rooms.Slow, l.Rooms.Grace, MaxGrace)
	case l.History.Messages < 0 || l.History.Messages > MaxHistory || l.History.Bytes < 0 || l.History.Bytes > 1<<30 || l.History.Age < 0 || l.History.Memory < 0:
		return fmt.Errorf("-history %d, -history-bytes %d, -history-age %v and -history-memory %d: must not be negative, -history at most %d and -history-bytes at most 1GiB",
			l.History.Messages, l.History.Bytes, l.History.Age, l.History.Memory, MaxHistory)
	case l.PackageBytes > codec.MaxPackageBody:
		return fmt.Errorf("-max-package %d: the format ends at %d bytes", l.PackageBytes, codec.MaxPackageBody)
	}
	for name, rate := range map[string]limit.Rate{"-session-rate": l.SessionRate, "-send-rate": l.SendRate, "-enter-rate": l.EnterRate} {
		if err := rate.Check(); err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
	}
	return nil
}

// Config is what a Node is made of. It must not be changed afterwards.
type Config struct {
	Loops      int
	Limits     Limits
	Profiles   []*Profile // a listener's tag is an index into them
	Connectors []Endpoint // what gates announce, in configuration order, until SetConnectors
	// Handshakes carries out those of listeners with TLS; nil where there is none. The caller runs it.
	Handshakes *netpoll.Handshakes
	// Stay keeps sessions on the loop that accepted them, whatever room they enter.
	Stay   bool
	CESU8  CESU8 // which clients' protobuf strings are CESU-8
	Names  names.Rules
	Logins Logins   // how logins are judged; the zero value: everybody is let in
	Filter Filter   // looks at what is said
	Access Access   // who may connect
	App    *app.App // handlers of one's own; nil for none
	Files  []File   // served by HTTP on every listener
	// RoundTrip sends every request and item through its encoding, as if all partitions were on another node, and every connection that
	// goes to another loop through its own.
	RoundTrip bool
	// NewDriver makes the driver of a loop that will be turned; tests give their own.
	NewDriver func(i int) (netpoll.Driver, error)
	// Nanos is the loops' clock; nil means the real one.
	Nanos func() int64
	// Wall is the time in Unix milliseconds; nil means the real one, or what Nanos says.
	Wall func() int64
	// After calls f in d on a goroutine, unless stop is called before, which tells whether it was; nil means time.AfterFunc. It is for timers of the App.
	After func(d time.Duration, f func()) (stop func() bool)
	// Policy is what holds in a room of that name; nil: what Limits say, in all of them. Safe from any goroutine.
	Policy func(room string) Policy
	// Journal takes what rooms keep, so that it outlives the process, and Restored is what an earlier one kept; not for nodes whose partitions are elsewhere.
	Journal  channel.Journal
	Restored []channel.KeptRoom

	// Outlets finds the outlets of other nodes; nil while there are none.
	Outlets func(channel.OutletID) channel.Outlet
	// Predecessor is what Node.Export has returned of the node whose place this one takes (handover.go). The loops then own nothing until ImportLoop
	// gives them what that node had.
	Predecessor []byte
	// PredecessorTags are the tags that the predecessor's listeners have here, by their tags there; -1 for a listener whose conns stay there. nil: all are
	// the same.
	PredecessorTags []int
	// Elsewhere is the way to all partitions, if they begin on other nodes; nil if they begin here. Safe from any goroutine.
	Elsewhere channel.Inlet

	protocols []row  // what clients may speak; nil for the table of that name
	salt      uint64 // channel.History.Salt; 0 for a random one
}

// Node is the sessions, loops and rooms of one process. Methods that take a context, but for StopApp and Drain, wait for the loops: they are safe from any
// goroutine but a loop's, which they would hold up, and fail with ErrStuck when a loop has not answered before the context ends. Of the others each says who may call it.
type Node struct {
	id         channel.Node
	loops      []*loop
	placement  atomic.Pointer[placement]
	posting    sync.RWMutex  // held for reading while something that is no loop reads placement and posts
	moving     chan struct{} // holds one while a partition moves
	asks       asks
	profiles   []*Profile
	connectors [2]atomic.Pointer[directory] // for clients without TLS, and with it
	limits     atomic.Pointer[Limits]       // as SetLimits was told last; each loop has its own copy
	budget     *netpoll.Budget
	app        *program           // nil for none
	seats      [limit.Kinds]seats // for the App's calls
	roundTrip  bool
	access     *access
	ghosts     *ghosts
	follow     bool // sessions move to the loop of their room
	cesu8      CESU8
	names      names.Rules // what users may be called
	moderator  moderator
	policies   atomic.Uint64 // how often Config.Policy has changed (SetPolicies)
	logins     *logins       // nil: nobody needs to log in
	sieve      *sieve        // nil: nobody looks at what is said
	loginTold  atomic.Int64  // when it was last logged that logins cannot be judged
	wall       func() int64  // in Unix ms, as the machine's clock has it now
	after      func(d time.Duration, f func()) (stop func() bool)
	protocols  []row // what clients may speak
	sids       *sids
	files      map[string]*File                      // by path
	closing    atomic.Bool                           // Drain has begun
	ending     atomic.Bool                           // its time is over: nobody is served any more
	short      atomic.Bool                           // of memory (SetShort)
	broadcasts atomic.Int32                          // of App.Broadcast, as many as loops that have yet to do theirs
	elsewhere  func(channel.OutletID) channel.Outlet // outlets of other nodes; nil: there are none
	inFleet    bool                                  // partitions are wherever the fleet says
	misrouted  atomic.Uint64                         // items for loops that are not there
	tags       []int                                 // Config.PredecessorTags. Static after construction
}

// MaxLoops is the number of loops that a session's address has room for.
const MaxLoops = 256

// NewNode makes a node. Its drivers must then be turned, one goroutine each.
func NewNode(cfg Config) (*Node, error) {
	if cfg.Loops < 1 || cfg.Loops > MaxLoops {
		return nil, fmt.Errorf("-loops %d: must be 1 to %d", cfg.Loops, MaxLoops)
	}
	if err := cfg.Limits.Check(); err != nil {
		return nil, err
	}
	n, err := newNode(&cfg)
	if err != nil {
		return nil, err
	}
	var variants []*codec.Variant
	for _, p := range cfg.Profiles {
		if err := p.prepare(n.protocols, &variants, n.app, n.sieve != nil); err != nil {
			return nil, err
		}
	}
	began := uint64(time.Now().UnixMilli())
	if cfg.Wall != nil {
		began = uint64(cfg.Wall())
	}
	if cfg.Predecessor != nil {
		err = n.succeed(cfg.Predecessor, cfg.Loops)
	} else {
		n.id = channel.NewNode(0, began)
		n.sids, err = newSIDs(newKey())
	}
	if err != nil {
		return nil, err
	}
	if cfg.salt == 0 {
		if cfg.salt, err = newSalt(); err != nil {
			return nil, err
		}
	}
	for i := range cfg.Loops {
		l, err := n.newLoop(&cfg, i, variants)
		if err != nil {
			return nil, err
		}
		n.loops = append(n.loops, l)
	}
	n.newWorkers(&cfg, began)
	if n.app != nil {
		n.app.Attach(host{n})
	}
	return n, nil
}

// newNode makes what all loops have in common.
func newNode(cfg *Config) (*Node, error) {
	n := &Node{
		profiles: cfg.Profiles,
		budget:   netpoll.NewBudget(cfg.Limits.Conn.Buffered), roundTrip: cfg.RoundTrip,
		elsewhere: cfg.Outlets, inFleet: cfg.Elsewhere != nil, tags: cfg.PredecessorTags,
		follow: !cfg.Stay && cfg.Loops > 1, moving: make(chan struct{}, 1), cesu8: cfg.CESU8, names: cfg.Names, wall: cfg.wall(), after: cfg.After,
	}
	if n.after == nil {
		n.after = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
	}
	n.limits.Store(&cfg.Limits)
	connectors := make([]Announced, len(cfg.Connectors))
	for i, e := range cfg.Connectors {
		connectors[i].Endpoint = e
	}
	n.SetConnectors(connectors, false)
	if n.protocols = cfg.protocols; n.protocols == nil {
		n.protocols = protocols
	}
	var err error
	if n.app, err = newProgram(cfg.App); err != nil {
		return nil, err
	}
	if n.app != nil {
		_, most := n.app.Bounds()
		for kind := range n.seats {
			n.seats[kind].most = most
		}
	}
	if n.logins, err = newLogins(cfg.Logins, n.app, cfg.Limits.Rooms.Sessions.Most > 0 && len(cfg.Profiles) > 0); err != nil {
		return nil, err
	}
	n.sieve = newSieve(cfg.Filter)
	n.access = newAccess(cfg.Access, cfg.Nanos)
	n.loginTold.Store(-loginTroubleEvery)
	n.moderator.names, n.moderator.trusted, n.moderator.wall, n.moderator.policy = &n.names, cfg.Access.Trusted, cfg.Wall, cfg.Policy
	n.access.bans = &n.moderator
	n.ghosts = newGhosts(int64(cfg.Limits.Rooms.Grace), cfg.Access.PerAddress.Conns, cfg.Access.PerAddress.All)
	n.budget.Gate, n.budget.RoundTrip, n.budget.Handshakes = n.access, cfg.RoundTrip, cfg.Handshakes
	n.files = make(map[string]*File, len(cfg.Files))
	for i := range cfg.Files {
		n.files[cfg.Files[i].Path] = &cfg.Files[i]
	}
	return n, nil
}

// newLoop makes a loop with all its parts but the worker.
func (n *Node) newLoop(cfg *Config, index int, variants []*codec.Variant) (*loop, error) {
	d, err := cfg.NewDriver(index)
	if err != nil {
		return nil, err
	}
	l := &loop{node: n, index: index, limits: cfg.Limits}
	l.np = netpoll.NewLoop(uint8(index), l, d, l.limits.conn(), n.budget, cfg.Nanos)
	l.mail = netpoll.NewMailbox[mail](l.np.Ring)
	l.rooms.init(l.np, &l.limits, slices.Concat([]*codec.Variant{nil}, variants), cfg.Policy)
	l.limiter = limiter{np: l.np, limits: &l.limits, short: &n.short}
	l.carriers.chat = chat{calls: l, logins: n.logins != nil, names: &n.names, moderator: &n.moderator, limits: &l.limits, limiter: &l.limiter, counters: &l.counters, filters: n.sieve != nil}
	l.carriers.handlers = handlers{calls: l, app: n.app, np: l.np, mail: l.mail, access: n.access, seats: &n.seats, seconds: l.limits.RequestSeconds, counters: &l.counters}
	l.polls.l = l
	l.makeProtocols()
	return l, nil
}

// newWorkers gives each loop its worker, and the workers the partitions that begin here. It comes when all loops are there, as each worker has an
// outlet to every loop.
func (n *Node) newWorkers(cfg *Config, began uint64) {
	rooms := new(atomic.Int64)
	for _, l := range n.loops {
		l.worker = channel.NewWorker(n.outlets(l))
		l.worker.SetLimits(cfg.Limits.Rooms, rooms, l.np.Nanos)
		l.limitRooms(cfg.Policy)
		l.worker.KeepHistory(l.keeping(cfg))
		if cfg.Journal != nil {
			l.worker.UseJournal(cfg.Journal)
		}
	}
	places, epoch := newPlacement(n.loops, cfg.Elsewhere), channel.Epoch{View: began, Maker: n.id}
	if cfg.Predecessor == nil && cfg.Elsewhere == nil {
		for part, at := range places {
			at.loop.worker.Own(uint16(part), epoch)
		}
		for _, l := range n.loops {
			l.worker.Restore(cfg.Restored)
		}
	}
	n.placement.Store(places)
}

// wall is the time in Unix milliseconds, as Config says; else by the machine's clock, which may be set.
func (cfg *Config) wall() func() int64 {
	switch {
	case cfg.Wall != nil:
		return cfg.Wall
	case cfg.Nanos != nil:
		return func() int64 { return cfg.Nanos() / int64(time.Millisecond) }
	}
	return func() int64 { return time.Now().UnixMilli() }
}

// Loops are the node's event loops, to be turned.
func (n *Node) Loops() []*netpoll.Loop {
	loops := make([]*netpoll.Loop, len(n.loops))
	for i, l := range n.loops {
		loops[i] = l.np
	}
	return loops
}
