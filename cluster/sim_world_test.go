package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/cluster/membus"
)

// The simulation: whole fleets in one goroutine, under virtual time of a millisecond a step. Nodes are real: bus sides, Holders, Workers, links and
// encodings; only sockets and clients are not. A seed gives the fleet's shape, its faults and its clients, and repeats a run exactly.

const (
	ms         = int64(1e6)
	simParts   = 16 // partitions, with one room each
	simClients = 20
	simStop    = 13000 // ms: clients stop and all faults have ended
	simEnd     = 23000
	simLast    = 12500 // no fault lasts longer
)

// simRooms are names of rooms, one for each partition.
var simRooms = func() (names [simParts]string) {
	for i, left := 0, simParts; left > 0; i++ {
		name := fmt.Sprint("r", i)
		if p := channel.Partition(name); p < simParts && names[p] == "" {
			names[p] = name
			left--
		}
	}
	return names
}()

// world is one run.
type world struct {
	seed    uint64
	rng     *rand.Rand
	net     *membus.Net
	now     int64 // ms
	procs   []*proc
	clients []*client
	faults  []fault
	failsAt int64 // when the next of them is due
	quorum  int
	alone   bool   // no followers
	split   bool   // nodes are cut off from each other: without a quorum both sides may go on
	shifts  bool   // partitions move all the time
	pad     string // behind the number of all that is said
	returns bool   // places of who is cut off are kept, and what is said
	lossy   int64  // when the bus lost much last

	sends  []*said // by number; the first is none
	seats  []*seat
	live   []*seat
	double map[string]bool // names that two sessions have, as was said already
	lost   map[string]bool

	sums  sums
	cells *cells
	bad   []string
	trace bool

	upgrades *rand.Rand // nil: there are none
	freeze   int        // ms: how long a process that is replaced does not turn, at most
	later    int        // views that were made after settled

	chance   *rand.Rand // nil: nobody logs in
	visitors []*visitor
	sessions channel.Sessions // of a user

	setting *rand.Rand // nil: no program sets anything
	setters []*setter
	setReq  uint32
	setTo   map[counted]count
	lapses  [simParts]int // of what is set
	vacant  int           // how many rooms that nobody is in may have something set; 0: any number

	programs *programs // nil: there are none

	deletions map[uint32]*said // that operators have asked for, by request
	oustings  []ousting
}

// sums are what runs add up to.
type sums map[string]int

func (s sums) add(other sums) {
	for k, n := range other {
		s[k] += n
	}
}

// violation notes that a promise was broken.
func (w *world) violation(format string, args ...any) {
	if len(w.bad) < 20 {
		w.bad = append(w.bad, fmt.Sprintf("%d ms: ", w.now)+fmt.Sprintf(format, args...))
	}
}

func (w *world) logf(format string, args ...any) {
	if w.trace {
		fmt.Printf("%6d  %s\n", w.now, fmt.Sprintf(format, args...))
	}
}

// newWorld makes a fleet of a random shape, with random faults to come.
func newWorld(seed uint64) *world {
	w := &world{seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), sums: sums{}, cells: new(cells), sends: []*said{nil}, double: map[string]bool{}, lost: map[string]bool{}}
	w.net = membus.New(w.rng)
	w.net.Loss, w.net.Twice, w.net.Late = 0.001, 0.002, 0.0015
	const all = cluster.RoleChat | cluster.RoleConnector
	var roles []cluster.Roles
	switch w.rng.IntN(4) {
	case 0:
		roles = []cluster.Roles{all, all}
	case 1:
		roles = []cluster.Roles{all, all, all}
	default:
		roles = []cluster.Roles{cluster.RoleChat, cluster.RoleChat, cluster.RoleChat, cluster.RoleConnector, cluster.RoleConnector, cluster.RoleConnector}
	}
	dense := seed%2 == 0
	if len(roles) > 2 && (!dense && w.rng.IntN(4) == 0 || dense && w.rng.IntN(4) > 0) {
		w.quorum = len(roles)/2 + 1
	}
	w.shifts = w.rng.IntN(2) == 0
	late := -1
	for i, r := range roles {
		p := &proc{w: w, i: i, name: fmt.Sprint("n", i), roles: r, host: fmt.Sprint("h", i%2), skew: int64(w.rng.IntN(4000)), base: int64(w.rng.IntN(1e6)) * ms}
		w.procs = append(w.procs, p)
		if late < 0 && w.rng.IntN(8) == 0 {
			late = i
			w.faults = append(w.faults, fault{at: 1000 + int64(w.rng.IntN(6000)), kind: faultStart, a: i})
			continue
		}
		w.faults = append(w.faults, fault{at: 1 + int64(w.rng.IntN(300)), kind: faultStart, a: i})
	}
	w.planFaults(len(roles), dense)
	if m := seed % 8; m == 2 || m == 4 || m == 6 {
		w.wish()
	}
	for i := range simClients {
		w.clients = append(w.clients, &client{w: w, id: i, next: 2500 + int64(w.rng.IntN(1000)), plain: i%3 == 0})
	}
	w.sums["nodes"], w.sums["clients"], w.sums["seeds"] = len(roles), simClients, 1
	return w
}

// run runs it to its end, with all checks.
func (w *world) run() {
	for w.now < simEnd {
		w.step()
	}
	w.checkEnd()
}

// step lets a millisecond pass.
func (w *world) step() {
	w.now++
	w.fail()
	w.net.Advance(w.now * ms)
	for _, p := range w.procs {
		if p.running() {
			p.turn()
		}
	}
	for _, c := range w.clients {
		if c.next <= w.now {
			c.step()
		}
	}
	for _, v := range w.visitors {
		if v.next <= w.now {
			v.step()
		}
	}
	for _, x := range w.setters {
		if x.next <= w.now {
			x.step()
		}
	}
	w.stepPrograms()
	if w.now%20 == 0 {
		w.checkNames()
	}
	if w.trace {
		w.traceViews()
	}
}

func (w *world) traceViews() {
	for _, p := range w.procs {
		if p.node == nil || p.node.View() == nil || p.node.View().ID == p.traced {
			continue
		}
		v := p.node.View()
		p.traced = v.ID
		s := ""
		for i := range v.Names {
			s += fmt.Sprintf(" %s/%d", v.Names[i].Name, v.Names[i].Run)
		}
		for i := range v.Shares {
			b := &v.Shares[i]
			s += fmt.Sprintf(" %d>%d<%d", b.Owner, b.Follower, b.Joiner)
			if b.Moving.View != 0 {
				s += "M"
			}
		}
		w.logf("%s run %d adopts %d of %x:%s", p.name, p.node.Self().Incarnation(), v.ID.View, uint64(v.ID.Maker), s)
	}
}

// proc is a process: a node with its sessions.
type proc struct {
	w     *world
	i     int
	name  string
	roles cluster.Roles
	host  string

	limits channel.Limits
	memory int64    // cluster.Config.LinkMemory
	speaks [2]uint8 // the least and the greatest version; 0: what everybody does

	up       bool
	draining bool
	paused   int64 // until, ms
	awayTill int64
	sick     int64 // when it was stopped, dead or away last
	skew     int64 // of the wall clock, in ms: it is a second or more after the beginning in any case
	base     int64 // what its monotonic clock began with, in ns

	node     *cluster.Node
	port     *membus.Port
	holder   *cluster.Holder
	places   [simParts]places
	rosters  [simParts]map[string]channel.Addr // who is in the rooms that it owns, as far as it was asked under this view
	worker   *channel.Worker
	woken    bool  // something has come since the last turn
	frozen   int64 // until, ms: it has just been replaced
	heir     *heir
	turned   int64
	traced   cluster.ViewID
	sessions []*session
	byRef    map[channel.Ref]*session
	refs     channel.Ref // the last one
	closed   []*session  // whose clients have gone while the process was stopped
	asks     map[channel.Ref]*question
	vacant   int // rooms that nobody is in and of which something is set, at the end
	logins   map[channel.Ref]*login
	closesAt int64 // when the first of them may have to be closed
}

func (p *proc) running() bool { return p.up && p.w.now >= p.paused }
func (p *proc) away() bool    { return p.w.now < p.awayTill }
func (p *proc) mono() int64   { return p.base + p.w.now*ms }
func (p *proc) wall() int64   { return max(1_000_000+p.w.now+p.skew, 1) }

// serves tells whether a client that comes now is let in.
func (p *proc) serves() bool {
	return p.roles&cluster.RoleConnector != 0 && p.running() && !p.node.Suspended() && p.w.now-p.turned < 50
}

// boot starts the process.
func (p *proc) boot() {
	p.up, p.paused, p.frozen = true, 0, 0
	p.make(p.connect(func(b []byte) { p.node.Receive(b) }))
	p.sessions, p.byRef, p.closed, p.asks = nil, map[channel.Ref]*session{}, nil, map[channel.Ref]*question{}
	p.logins = map[channel.Ref]*login{}
	p.turned = p.w.now
}

// connect puts the process on the bus. What comes goes to receive.
func (p *proc) connect(receive func([]byte)) *membus.Port {
	port := p.w.net.Connect(p.name, func(b []byte) {
		p.woken = true
		p.w.cells.packet(p, b)
		receive(b)
	}, func(name string) {
		p.woken = true
		p.w.cells.visit(nobodyRow, p)
		p.node.NoResponder(name)
	})
	if p.away() {
		port.Away(p.awayTill * ms)
	}
	return port
}

// make makes a node that knows nothing yet.
func (p *proc) make(port *membus.Port) {
	p.port = port
	p.worker, p.rosters = channel.NewWorker(nil), [simParts]map[string]channel.Addr{}
	limits := p.limits
	limits.Sessions = p.w.sessions
	if p.w.returns {
		p.keepPlaces(&limits)
	}
	p.worker.SetLimits(limits, new(atomic.Int64), p.mono)
	p.holder = cluster.NewHolder(p.worker, func(to channel.Node, m *cluster.Message) {
		p.woken = true
		p.w.sums["messages of Holders"]++
		p.node.Send(to, m)
	})
	p.worker.KeepBack(witness{p.holder, p})
	config := cluster.Config{Name: p.name, Run: uint64(p.wall()), Roles: p.roles, Host: p.host, Quorum: p.w.quorum, Alone: p.w.alone, LinkMemory: p.memory, Timeout: 5000 * ms}
	if p.speaks[1] != 0 {
		config = cluster.WithVersions(config, p.speaks[0], p.speaks[1])
	}
	p.node = cluster.New(cluster.WithParts(config, simParts), p.port, p)
	memory := p.memory
	if memory == 0 {
		memory = 64 << 20
	}
	p.holder.Bound(cluster.NewWindow(memory), p.node.LinkFull)
	p.node.Drain(p.draining)
}

// witness sees what a worker decides, on the way to its Holder.
type witness struct {
	*cluster.Holder
	p *proc
}

// Keep notes, with the answer to what a client says, whom the owner has in the room.
func (x witness) Keep(part uint16, records []channel.Record, items []channel.Item) {
	x.p.decided(part, records, items)
	x.p.enrol(part, records)
	x.p.decidedSettings(part, records)
	x.p.decidedLogins(part, records, items)
	x.p.decidedPrograms(part, items)
	if m := x.p.w.saidIn(records, items); m != nil {
		for i := range items {
			if it := &items[i]; it.Kind == channel.ItemReply {
				m.members[replyKey{it.Epoch, it.To.Node, it.N}] = x.p.w.membersOf(m, x.p.roster(part))
			}
		}
	}
	x.Holder.Keep(part, records, items)
}

// kill ends the process at once.
func (p *proc) kill() {
	p.up = false
	p.port.Close()
	p.giveUp()
	for _, s := range p.sessions {
		if !s.ended {
			s.end("its connector died", false)
			s.c.keep = p.w.rng.IntN(2) == 0
		}
	}
	p.dropLogins()
	p.node, p.holder, p.worker = nil, nil, nil
}

// turn lets the process do what is due. It does something at least each 10 ms.
func (p *proc) turn() {
	for _, s := range p.closed {
		s.leave()
	}
	p.closed = nil
	p.closeLogins()
	if p.frozen > p.w.now || !p.woken && (p.w.now+int64(p.i)*3)%10 != 0 {
		return
	}
	p.woken = false
	p.turned = p.w.now
	p.node.Drain(p.draining)
	if p.w.shifts && p.w.now < simStop && p.w.rng.IntN(10) == 0 {
		p.node.Shift(uint16(p.w.rng.IntN(simParts)))
	}
	before := p.node.View()
	p.node.Turn(p.mono(), p.wall())
	p.holder.Tick(p.mono())
	p.holder.Flush()
	if p.node.View() != before {
		p.w.viewed(p, before, p.node.View())
	}
}

// viewed counts what a view changes, as its maker adopts it, and looks whether it is just.
func (w *world) viewed(p *proc, old, v *cluster.View) {
	if v.ID.Maker != p.node.Self() {
		return
	}
	w.sums["views"]++
	if w.now > settled {
		w.later++
	}
	if old == nil {
		for _, x := range w.procs {
			if x != p && x.node != nil && x.node.View() != nil && x.node.View().ID != v.ID {
				w.split = true
				w.sums["second fleets"]++
			}
		}
		return
	}
	for i := range v.Shares {
		a, b := &old.Shares[i], &v.Shares[i]
		switch {
		case b.Born != a.Born:
			w.sums["born anew"]++
			w.underWay(i, "birth")
		case b.Epoch != a.Epoch && (b.Following == v.ID || w.alone):
			w.sums["moves"]++
			w.underWay(i, "move")
		case b.Epoch != a.Epoch:
			w.sums["promotions"]++
			w.underWay(i, "death")
		}
		if b.Follower != cluster.None && b.Following == a.Joining && a.Joiner != cluster.None {
			w.sums["followers in step"]++
		}
		if a.Follower != cluster.None && b.Follower == cluster.None && a.Epoch == b.Epoch && v.Has(old.Node(a.Follower)) {
			w.sums["followers dropped"]++
		}
	}
	for i := range old.Names {
		if node := old.Node(uint16(i + 1)); node != 0 && !v.Has(node) {
			w.sums["left out"]++
			j := slices.IndexFunc(w.procs, func(x *proc) bool { return x.name == old.Names[i].Name })
			if x := w.procs[j]; x != p && x.up && x.node.Self() == node && w.now-x.sick > 3600 && w.now-w.lossy > 3600 && !w.split {
				w.violation("%s leaves out %s, which has been well since %d", p.name, x.name, x.sick)
			}
		}
	}
}

// Home.

func (p *proc) Adopt(v *cluster.View, self channel.Node) {
	before := p.rolesNow()
	p.holder.Adopt(v, self)
	p.rosters = [simParts]map[string]channel.Addr{}
	p.w.cells.adopted(before, p.rolesNow())
}

func (p *proc) Message(from channel.Node, m *cluster.Message) {
	p.w.cells.message(p, m)
	p.holder.Receive(from, m)
}

func (p *proc) Lost(part uint16, why string) {
	p.w.sums["lost partitions told"]++
	if why == cluster.WhyLost {
		p.w.violation("%s has seen more of partition %d than its owner knows", p.name, part)
	}
	p.loginLost(part)
	for _, s := range p.sessions {
		if !s.ended && s.part == part {
			s.end("messages were lost: "+why, false)
			s.leave() // the owner may have it as a member
		}
	}
}

func (p *proc) Refused(r *channel.Request, sent bool) {
	if p.questionRefused(r, sent) {
		return
	}
	switch r.From.Ref {
	case operatorRef:
		return
	case programRef:
		p.notSet(r)
		return
	case pushRef, leadRef:
		return
	}
	if s := p.logins[r.From.Ref]; s != nil {
		s.refusedClaim(sent)
		return
	}
	if s := p.byRef[r.From.Ref]; s != nil && !s.ended {
		s.refused(r, sent)
	}
}

func (p *proc) Restart(old channel.Node) {
	p.w.logf("%s goes on as a new run", p.name)
	p.w.sums["new runs"]++
	p.holder.Restart()
	for _, s := range p.sessions {
		if !s.ended {
			s.end("its connector was left out", false)
		}
	}
	p.sessions, p.byRef = nil, map[channel.Ref]*session{}
	p.dropLogins()
}
