package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/netpoll"
)

// Loops are the loops of the process, with their sessions and workers: a router.Node, which says what each method does. All but Workers are safe from
// any goroutine.
type Loops interface {
	ID() channel.Node
	Workers(turned func(loop int)) []*channel.Worker
	Run(loop, weight int, f func())
	Deliver(channel.Item) bool
	EndMembers(parts []uint16, why string)
	Busy(loop int) bool
	Sessions() int
}

// Config says what a Fleet is made of. It must not be changed afterwards.
type Config struct {
	// Cluster is the node. Its Address is what a gate tells clients: host:port of each listener for clients, with commas between; an empty host is
	// the one by which the client has reached the gate. Its Timeout, in ns, is 5 s if it is 0.
	Cluster cluster.Config
	Bus     cluster.Bus
	// Inbox is how many requests may be on their way to this node's side of the bus before new ones are refused, by channel.Request.Weight; 0:
	// 16384.
	Inbox int
	// Retire is told once, within Turn, when this node is asked to end in order (Fleet.Retire), and which node was asked for that; nil: nobody is told.
	Retire func(by string)
	// News is told of notes that other nodes have written (Fleet.Write), within Turn, so it must not wait; nil: nobody is told.
	News func([]cluster.Note)
	// Connectors is told the connectors that a gate may name, first of all and whenever they change, within Turn; nil: nobody wants to know. It must
	// not keep the list.
	Connectors func([]cluster.Connector)
}

const (
	defaultInbox   = 16384
	defaultTimeout = 5e9
	// tickEvery is how often Holders are told the time, in ns.
	tickEvery = 20e6
	// surveyEvery is how often the node looks at its loops and at the fleet's connectors, in ns.
	surveyEvery = 100e6
	// turnEvery is how often Run turns although nothing has come.
	turnEvery = 10 * time.Millisecond
	// pulseEvery is how often each loop is asked whether it turns, in ns, and stuckAfter how long it may not answer: then the node falls silent, as if its
	// process were stopped, and the others take over. Of the time between two turns at most pulseEvery counts: when the whole process was stopped it is
	// not a loop that is stuck.
	pulseEvery = 100e6
	stuckAfter = 3e9
	// turnSlice is how much mail one turn takes.
	turnSlice = 4096
	// lastTurns are the turns after the end at most: 65,536 letters.
	lastTurns = 16
	// maxPackets are the bytes of packets that wait for a turn; more are dropped. NATS cuts a client off at 64 MiB.
	maxPackets = 64 << 20
	// maxOut are the bytes of messages of Holders that may wait for a turn, or half of what links may keep if that is less; beyond it nothing new is admitted.
	maxOut = 32 << 20
)

// Fleet is the process's place in a fleet. Inlet, Join, then Run, or Turn by hand.
type Fleet struct {
	// Static after Join.
	cfg     Config
	node    *cluster.Node
	loops   Loops
	count   int          // of loops
	local   channel.Node // by which the loops know their own sessions
	sides   []*side      // by loop; none if the node has no partitions
	pulse   []pulse      // by loop
	mail    *netpoll.Mailbox[letter]
	wake    chan struct{}   // holds one while there is something to do
	window  *cluster.Window // of all Holders
	mostOut int64           // maxOut, as long as LinkMemory is not small

	// Safe from any goroutine.
	requests atomic.Int64 // weight of those in mail
	packets  atomic.Int64 // bytes of those in mail
	out      atomic.Int64 // bytes of messages in mail
	dropped  atomic.Uint64
	away     atomic.Bool
	draining atomic.Bool
	stuck    atomic.Bool // a loop does not turn
	status   atomic.Pointer[Status]
	full     atomic.Pointer[[]channel.Node] // whose links had no room at the end of the last turn; nil: none

	turning sync.Mutex // held by Run while it turns, and from Rest on
	ceded   bool       // guarded by turning: another process is the node now
	began   time.Time  // when its clock was 0. Guarded by turning

	// Owned by whoever turns.
	now        int64
	run        uint64            // of new runs that have begun: what Holders sent before is void
	leaves     []channel.Request // that follow from this turn
	lost       []uint16          // partitions whose members have yet to be ended, in this turn, for one reason
	why        string            // that one
	ticked     int64
	surveyed   int64
	pulsed     int64
	view       *cluster.View // of status
	connectors []cluster.Connector
	told       bool // Config.Connectors
	retired    bool // Config.Retire was told
}

// pulse is whether a loop turns.
type pulse struct {
	asked  atomic.Bool // in its mail
	waited int64       // since then, in ns. Owned by whoever turns
}

// letter is what waits for a turn: one of its fields is set.
type letter struct {
	packet  []byte
	nobody  string // a name for which the bus has no receiver
	call    func()
	request *channel.Request
	message *cluster.Message
	to      channel.Node // message
	run     uint64       // message
	weight  int          // message
}

// Status is what a Fleet is at a time.
type Status struct {
	Self      channel.Node   // 0: it is no member of a fleet
	View      cluster.ViewID // the newest that is known
	Members   int            // of the view
	Takers    int            // other members that may be given partitions: chat nodes that are heard and do not drain
	Suspended bool           // it refuses requests: it is no member, does not hear the fleet, a quorum is missing, or a loop is stuck
	Stuck     bool           // an event loop has not turned for 3 s: the node is silent, so that the others take over
	Owned     int            // partitions, by the view
	Followed  int            // partitions, joined ones included
	Unguarded int            // partitions of the fleet that have no follower
	Dropped   uint64         // packets of the bus that came faster than they could be looked at
	Odd       cluster.Odd    // a node whose settings are others
	Err       error          // why the fleet has ended the node, for good (cluster.Node.Err); nil: it has not
}

// New makes a Fleet that is in none yet.
func New(cfg Config) *Fleet {
	if cfg.Inbox == 0 {
		cfg.Inbox = defaultInbox
	}
	if cfg.Cluster.Timeout == 0 {
		cfg.Cluster.Timeout = defaultTimeout
	}
	if cfg.Cluster.LinkMemory == 0 {
		cfg.Cluster.LinkMemory = cluster.DefaultLinkMemory
	}
	memory := cfg.Cluster.LinkMemory
	f := &Fleet{cfg: cfg, window: cluster.NewWindow(memory), mostOut: min(maxOut, memory/2), wake: make(chan struct{}, 1), began: time.Now().Add(-1)}
	f.mail = netpoll.NewMailbox[letter](f.ring)
	f.node = cluster.New(cfg.Cluster, cfg.Bus, (*home)(f))
	f.status.Store(&Status{Suspended: true})
	return f
}

// Inlet is the way to all partitions, for router.Config.Elsewhere. It may be used once Join was called.
func (f *Fleet) Inlet() channel.Inlet { return (*inlet)(f) }

// Join gives the Fleet its loops, which do not turn yet.
func (f *Fleet) Join(loops Loops) {
	f.loops, f.local = loops, loops.ID()
	workers := loops.Workers(f.turned)
	f.count = len(workers)
	f.pulse = make([]pulse, f.count)
	if f.cfg.Cluster.Roles&cluster.RoleChat == 0 {
		return
	}
	f.sides = make([]*side, len(workers))
	for i, w := range workers {
		f.sides[i] = newSide(f, i, w)
	}
}

// ring asks for a turn.
func (f *Fleet) ring() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Receive takes a packet from the bus, and keeps it. Safe from any goroutine.
func (f *Fleet) Receive(packet []byte) {
	weight := packetWeight(packet)
	if f.packets.Add(weight) > maxPackets {
		f.packets.Add(-weight)
		f.dropped.Add(1)
		return
	}
	f.mail.Post(letter{packet: packet})
}

// packetWeight is about how many bytes a packet keeps alive that waits: its own, and its letter.
func packetWeight(packet []byte) int64 { return int64(len(packet)) + 128 }

// NoResponder takes the bus's word that nobody receives what is sent to a name. Safe from any goroutine.
func (f *Fleet) NoResponder(name string) { f.mail.Post(letter{nobody: name}) }

// Away tells whether the bus is out of reach. Safe from any goroutine.
func (f *Fleet) Away(away bool) {
	f.away.Store(away)
	f.ring()
}

// Drain tells the fleet to give this node neither partitions nor clients, and to take away the partitions that it has; Status tells how far that
// is. Safe from any goroutine.
func (f *Fleet) Drain(draining bool) {
	f.draining.Store(draining)
	f.ring()
}

// Status is what the Fleet was at the end of its last turn. Safe from any goroutine.
func (f *Fleet) Status() Status { return *f.status.Load() }

// Peers are the nodes of the fleet as this one sees them, in no order. It waits for a turn. Safe from any goroutine.
func (f *Fleet) Peers(ctx context.Context) ([]cluster.Peer, error) {
	return inTurn(ctx, f, func() []cluster.Peer { return f.node.Peers() })
}

// Retire asks a node of the fleet to end in order: that one's Config.Retire is told. The word may be lost: a caller that wants to be sure asks again until the
// node drains. It waits for a turn. Safe from any goroutine.
func (f *Fleet) Retire(ctx context.Context, name string) error {
	refused, err := inTurn(ctx, f, func() error { return f.node.Retire(name) })
	return errors.Join(err, refused)
}

// Write has all nodes of the fleet know notes, now and whenever one joins. It does not wait. Safe from any goroutine.
func (f *Fleet) Write(list []cluster.Note) {
	f.mail.Post(letter{call: func() { f.node.Write(list) }})
}

// inTurn calls a function within a turn.
func inTurn[T any](ctx context.Context, f *Fleet, do func() T) (result T, err error) {
	done := make(chan T, 1)
	f.mail.Post(letter{call: func() { done <- do() }})
	select {
	case result = <-done:
		return result, nil
	case <-ctx.Done():
		return result, fmt.Errorf("the fleet's side of this process does not turn: %w", ctx.Err())
	}
}

// Wanted can be received from when something has come that wants a Turn. It is for callers of Turn: Run receives from it.
func (f *Fleet) Wanted() <-chan struct{} { return f.wake }

// Run turns whenever there is something to do, until ctx ends or another process is the node (nil), or the node has ended (cluster.Node.Err): it refuses
// everything then, and the process should end.
func (f *Fleet) Run(ctx context.Context) error {
	ticker := time.NewTicker(turnEvery)
	defer ticker.Stop()
	for {
		turns := 1
		select {
		case <-ctx.Done(): // what has come before is sent, as leaves of the last sessions; what comes meanwhile is no reason to go on
			turns = lastTurns
		case <-f.wake:
		case <-ticker.C:
		}
		if ceded, err := f.turnFor(turns); ceded || err != nil || turns == lastTurns {
			return err
		}
	}
}

// turnFor turns so many times at most, as long as there is mail.
func (f *Fleet) turnFor(turns int) (ceded bool, err error) {
	f.turning.Lock()
	defer f.turning.Unlock()
	for range turns {
		if f.ceded {
			return true, nil
		}
		f.Turn(f.clock(), time.Now().UnixMilli())
		if err := f.node.Err(); err != nil && turns == 1 {
			return false, err
		}
		if f.mail.Empty() {
			break
		}
	}
	return false, nil
}

// clock is the node's monotonic clock, in ns.
func (f *Fleet) clock() int64 { return int64(time.Since(f.began)) }

// Turn does everything that is due. now is a monotonic clock, in ns, never 0 and never less than before; wall is the wall clock, in ms. It wants
// to be called after something was posted, and at least each 20 ms. Must be called by one goroutine at a time.
func (f *Fleet) Turn(now, wall int64) {
	stuck := f.feel(now)
	f.now = now
	if stuck != f.stuck.Load() {
		f.stuck.Store(stuck)
		f.report()
	}
	if stuck {
		return
	}
	f.node.Away(f.away.Load()) // first: what is asked now is refused without a bus
	f.node.Drain(f.draining.Load())
	if f.mail.Drain(turnSlice, f.take) {
		f.ring()
	}
	if now-f.surveyed >= surveyEvery {
		f.surveyed = now
		f.survey()
	}
	f.node.Turn(now, wall)
	(*home)(f).endLost()
	if by := f.node.Retired(); by != "" && !f.retired && f.cfg.Retire != nil {
		f.retired = true
		f.cfg.Retire(by)
	}
	if news := f.node.News(); len(news) > 0 && f.cfg.News != nil {
		f.cfg.News(news)
	}
	leaves := f.leaves
	f.leaves = nil
	for i := range leaves {
		f.request(&leaves[i])
	}
	if now-f.ticked >= tickEvery {
		f.ticked = now
		for _, s := range f.sides {
			s.wantTick(now)
		}
	}
	f.report()
	f.lookAtLinks()
}

// lookAtLinks tells the loops which links have no room.
func (f *Fleet) lookAtLinks() {
	var full *[]channel.Node
	if list := f.node.FullLinks(nil); len(list) > 0 {
		full = &list
	}
	f.full.Store(full)
}

// linkFull tells whether a link had no room when it was looked at last. Safe from any goroutine.
func (f *Fleet) linkFull(node channel.Node) bool {
	full := f.full.Load()
	return full != nil && slices.Contains(*full, node)
}

// feel tells whether a loop is stuck.
func (f *Fleet) feel(now int64) (stuck bool) {
	passed, due := min(now-f.now, pulseEvery), now-f.pulsed >= pulseEvery
	if due {
		f.pulsed = now
	}
	for i := range f.pulse {
		p := &f.pulse[i]
		if p.asked.Load() {
			p.waited += passed
			stuck = stuck || p.waited > stuckAfter
		} else if p.waited = 0; due {
			p.asked.Store(true)
			f.loops.Run(i, 0, func() { p.asked.Store(false) })
		}
	}
	return stuck
}

// take looks at one letter.
func (f *Fleet) take(l *letter) {
	switch {
	case l.packet != nil:
		f.packets.Add(-packetWeight(l.packet))
		f.node.Receive(l.packet)
	case l.request != nil:
		f.requests.Add(-l.request.Weight())
		f.request(l.request)
	case l.message != nil:
		f.out.Add(-int64(l.weight))
		if l.run == f.run {
			f.node.Send(l.to, l.message)
		}
	case l.call != nil:
		l.call()
	default:
		f.node.NoResponder(l.nobody)
	}
}

// request sends a request to the owner of its partition, or refuses it.
func (f *Fleet) request(r *channel.Request) {
	if err := f.node.Request(r, f.now); err != nil {
		(*home)(f).Refused(r, false)
	}
}

// survey looks at the loops, and at who the fleet's connectors are.
func (f *Fleet) survey() {
	busy := false
	for i := range f.count {
		busy = busy || f.loops.Busy(i)
	}
	f.node.Busy(busy)
	f.node.Load(uint64(f.loops.Sessions()))
	if f.cfg.Connectors == nil {
		return
	}
	before := f.connectors
	f.connectors = f.node.Connectors(make([]cluster.Connector, 0, len(before)))
	if !f.told || !slices.Equal(before, f.connectors) {
		f.told = true
		f.cfg.Connectors(f.connectors)
	}
}

// inlet is the way from the loops to all partitions. Safe from any goroutine.
type inlet Fleet

// Post implements channel.Inlet.
func (in *inlet) Post(r channel.Request) {
	r.Content = bytes.Clone(r.Content) // it lies in a read buffer
	in.requests.Add(r.Weight())
	in.mail.Post(letter{request: &r})
}

// Full implements channel.Inlet.
func (in *inlet) Full() bool { return in.stuck.Load() || in.requests.Load() >= int64(in.cfg.Inbox) }
