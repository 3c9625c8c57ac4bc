package router

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/cluster/membus"
	"github.com/pomelod/pomelod/fleet"
	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// fleets are the shapes of fleets in which everything must be as on one node: a letter for each node.
var fleets = []shape{{loops: 1, fleet: "a"}, {loops: 2, fleet: "aa", follow: true}, {loops: 2, fleet: "gnc"}, {loops: 2, fleet: "gnnnccc", follow: true}}

func init() {
	if raceEnabled { // see fewer
		fleets = fleets[2:3]
		shapes = []shape{{loops: 1}, {loops: 3, roundTrip: true, follow: true}}
	}
}

var rolesOf = map[rune]cluster.Roles{
	'a': cluster.RoleGate | cluster.RoleConnector | cluster.RoleChat,
	'g': cluster.RoleGate, 'n': cluster.RoleConnector, 'c': cluster.RoleChat,
}

// fleetRig is a fleet of nodes over hand-turned loops and a bus in memory, all in one goroutine, under virtual time. While nothing is said, time
// passes only as packets take it.
type fleetRig struct {
	t     testing.TB
	r     *rig
	bus   *membus.Net
	now   int64 // ns
	nodes []*fleetNode
}

// fleetNode is one process.
type fleetNode struct {
	name   string
	roles  cluster.Roles
	run    uint64
	node   *Node
	loops  *looptest.Net
	fleet  *fleet.Fleet
	port   *membus.Port
	dead   bool
	paused bool
	next   int // loop that takes the next socket
}

const msec = int64(1e6)

// formFleet makes the nodes of r, of which the first that takes clients is r.node, and waits until the fleet is calm.
func formFleet(r *rig, letters string) {
	x := &fleetRig{t: r.t, r: r, bus: membus.New(rand.New(rand.NewPCG(1, 2)))}
	r.fleet = x
	r.net.Outside = x.outside
	r.node = nil
	last := r.net
	for i, letter := range letters {
		loops := r.net
		if i > 0 {
			loops = looptest.New()
			last.Beside, last = loops, loops
		}
		p := &fleetNode{name: fmt.Sprintf("%c%d", letter, i), roles: rolesOf[letter], loops: loops}
		x.nodes = append(x.nodes, p)
		x.boot(p)
		if r.node == nil && p.roles&cluster.RoleConnector != 0 {
			r.node = p.node
		}
	}
	x.calm()
}

// boot starts a process.
func (x *fleetRig) boot(p *fleetNode) {
	p.run++
	p.paused = false
	c := fleet.Config{Cluster: cluster.Config{Name: p.name, Run: uint64(x.now/msec) + p.run, Roles: p.roles, Host: p.name,
		Address: strings.Repeat("ch"+p.name+".example:3050", int(p.roles>>1&1))}}
	f := new(fleet.Fleet)
	p.port = x.bus.Connect(p.name, func(b []byte) { f.Receive(b) }, func(name string) { f.NoResponder(name) })
	c.Bus = p.port
	if p.roles&cluster.RoleGate != 0 {
		c.Connectors = func(list []cluster.Connector) { p.node.SetConnectors(endpointsOf(x.t, list), false) }
	}
	f = fleet.New(c)
	cfg := x.r.cfg
	cfg.Elsewhere, cfg.Nanos = f.Inlet(), x.r.net.Now
	cfg.NewDriver = func(int) (netpoll.Driver, error) { return p.loops.Driver(), nil }
	if x.r.apps != nil {
		cfg.App, cfg.Profiles = x.r.apps(p.name), nil
		for _, profile := range x.r.cfg.Profiles { // a node adds its program's routes to them
			own := *profile
			cfg.Profiles = append(cfg.Profiles, &own)
		}
	}
	node, err := NewNode(cfg)
	if err != nil {
		x.t.Fatal(err)
	}
	for _, l := range node.Loops() {
		p.loops.Attach(l)
	}
	p.node, p.fleet = node, f
	f.Join(node)
}

func (x *fleetRig) wall() int64 { return 1_000_000 + x.now/msec }

func (x *fleetRig) turn(p *fleetNode) { p.fleet.Turn(x.now+1, x.wall()) }

// outside does what is next, and lets 20 ms of the fleet's time pass when seconds of the loops' do: tests of sessions let many pass, and nothing
// of the fleet depends on those.
func (x *fleetRig) outside(ns int64) (any bool) {
	if ns > 0 {
		x.step(20 * msec)
	}
	return x.next() || ns > 0
}

// pass lets so many ms pass, for the loops too.
func (x *fleetRig) pass(ms int64) {
	for ; ms > 0; ms -= 10 {
		before := x.r.net.Now() / 1e9
		x.r.net.Pass(10 * time.Millisecond)
		x.step(10 * msec)
		if x.r.net.Now()/1e9 == before {
			continue
		}
		for _, p := range x.nodes {
			if p.lives() {
				for _, l := range p.node.loops {
					l.np.Tick()
				}
			}
		}
		x.rest()
	}
}

// step lets time pass at the bus and for the nodes' bus sides, and then everything come to rest.
func (x *fleetRig) step(ns int64) {
	x.now += ns
	x.bus.Advance(x.now)
	for _, p := range x.nodes {
		if p.lives() {
			x.turn(p)
		}
	}
	x.rest()
}

// rest lets sockets, loops and bus sides do what they have to, in no time.
func (x *fleetRig) rest() {
	for i := 0; ; i++ {
		for _, p := range x.nodes {
			if p.lives() {
				p.loops.OwnEvents()
			}
		}
		if !x.turnWanted() && !x.turnLoops() {
			return
		}
		if i > 100_000 {
			panic("the fleet does not come to rest")
		}
	}
}

func (p *fleetNode) lives() bool { return !p.dead && !p.paused }

// turnLoops turns the loops of all living nodes once.
func (x *fleetRig) turnLoops() (any bool) {
	for _, p := range x.nodes {
		if p.lives() {
			for i := range p.node.loops {
				any = p.loops.TurnLoop(i) || any
			}
		}
	}
	return any
}

// next turns who wants it; if nobody does the next packet arrives, whenever that is.
func (x *fleetRig) next() (any bool) {
	if x.turnWanted() {
		return true
	}
	at, ok := x.bus.Next()
	if ok {
		x.now = max(x.now, at)
		x.bus.Advance(x.now)
	}
	return ok
}

// turnWanted turns the bus sides of living nodes that want it.
func (x *fleetRig) turnWanted() (any bool) {
	for _, p := range x.nodes {
		if !p.lives() {
			continue
		}
		select {
		case <-p.fleet.Wanted():
			x.turn(p)
			any = true
		default:
		}
	}
	return any
}

// some turns one loop or the bus side of one node, or lets some packets arrive.
func (x *fleetRig) some(rng *rand.Rand) {
	p := x.nodes[rng.IntN(len(x.nodes))]
	switch {
	case !p.lives():
	case rng.IntN(4) == 0:
		x.next()
	case rng.IntN(3) == 0:
		x.turn(p)
	default:
		p.loops.TurnLoop(rng.IntN(len(p.node.loops)))
	}
}

// calm waits until all living nodes agree, serve, and have what they should.
func (x *fleetRig) calm() {
	x.t.Helper()
	x.until("the fleet is calm", func() bool { return x.guarded() && x.even() })
	x.pass(100)
}

// until lets time pass until something is so.
func (x *fleetRig) until(what string, is func() bool) {
	x.t.Helper()
	for range 3000 {
		if is() {
			return
		}
		x.pass(10)
	}
	for _, p := range x.nodes {
		x.t.Logf("%s: dead %v %+v", p.name, p.dead, p.fleet.Status())
	}
	x.t.Fatalf("not so after 30 s: %s", what)
}

// guarded tells whether all living nodes agree and serve, and all partitions have followers, if that can be.
func (x *fleetRig) guarded() bool {
	living, chats, unguarded := 0, 0, 0
	for _, p := range x.nodes {
		if p.lives() {
			living++
		}
	}
	var view cluster.ViewID
	for _, p := range x.nodes {
		if !p.lives() {
			continue
		}
		s := p.fleet.Status()
		if s.Self == 0 || s.Suspended || s.Members != living || view.View != 0 && s.View != view {
			return false
		}
		if p.roles&cluster.RoleChat != 0 {
			chats++
		}
		view, unguarded = s.View, s.Unguarded
	}
	return chats < 2 || unguarded == 0
}

// even tells whether all chat nodes own as many partitions.
func (x *fleetRig) even() bool {
	least, most := 1<<20, 0
	for _, p := range x.nodes {
		if p.lives() && p.roles&cluster.RoleChat != 0 {
			n := p.fleet.Status().Owned
			least, most = min(least, n), max(most, n)
		}
	}
	return most-least <= 1
}

// kill ends a process at once: its clients' sockets, its loops and its place on the bus.
func (x *fleetRig) kill(p *fleetNode) {
	p.dead = true
	p.port.Close()
}

// reboot starts a process again that was killed, with other loops.
func (x *fleetRig) reboot(p *fleetNode) {
	p.dead, p.loops = false, looptest.New()
	x.boot(p)
}

// doors are the nodes that take clients of a listener, in order.
func (x *fleetRig) doors(tag uint8) (list []*fleetNode) {
	role := cluster.RoleConnector
	if tag == atGate {
		role = cluster.RoleGate
	}
	for _, p := range x.nodes {
		if p.lives() && p.roles&role != 0 {
			list = append(list, p)
		}
	}
	return list
}

// door is the next node in turn that takes clients of a listener.
func (x *fleetRig) door(tag uint8) *fleetNode {
	doors := x.doors(tag)
	x.r.next++
	return doors[x.r.next%len(doors)]
}

// dialTo opens a socket to the next loop of a node in turn.
func (x *fleetRig) dialTo(p *fleetNode, tag uint8) *looptest.Socket {
	pass, ok := p.node.access.Admit(x.r.peer)
	if !ok {
		return nil
	}
	loops := p.node.Loops()
	p.next++
	return p.loops.ConnectAs(loops[p.next%len(loops)], netpoll.ConnState{Tag: tag, Peer: netip.AddrPortFrom(x.r.peer, 0), Pass: pass})
}

// endpointsOf is what a gate is told.
func endpointsOf(t testing.TB, list []cluster.Connector) (ends []Announced) {
	for _, c := range list {
		host, _, _ := strings.Cut(c.Address, ":")
		ends = append(ends, Announced{Endpoint: Endpoint{Host: host, Port: 3050}, Load: c.Load})
	}
	return ends
}
