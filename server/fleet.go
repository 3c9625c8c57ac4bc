//go:build linux

package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/cluster/natsbus"
	"github.com/pomelod/pomelod/fleet"
	"github.com/pomelod/pomelod/router"
)

// fleetNode is the process as a node of a fleet. Its methods may be called on nil, a process without one.
type fleetNode struct {
	*fleet.Fleet
	bus     *natsbus.Bus
	id      string
	terms   string
	stop    context.CancelFunc
	running sync.WaitGroup
	begun   bool          // it is on the bus
	up      chan struct{} // closed when it was connected first
	ended   sync.Once

	// Owned by the bus.
	said     error     // the kind of error that was logged last
	saidWhen time.Time // when
}

// A node that ends waits for others to have taken its partitions, as long as they do: a busy machine may take half a minute for what takes four seconds on a quiet one. What is left then is taken over as
// after a crash: nothing that was acknowledged is lost, and its rooms wait for some seconds.
const (
	handOverTime  = 30 * time.Second // at most
	handOverStill = 10 * time.Second // without one that was taken
	handOverDeaf  = 2 * time.Second  // without hearing the fleet: a node that has only stood still hears it again after some milliseconds
)

// handOver is how the hand-over of a node's partitions gets on.
type handOver struct {
	least               int // that were left
	began, since, heard time.Time
}

// over tells whether it is not worth waiting for any longer.
func (h *handOver) over(s *fleet.Status, now time.Time) bool {
	if h.began.IsZero() {
		h.began, h.since, h.heard, h.least = now, now, now, math.MaxInt
	}
	late := now.Sub(h.began) >= handOverTime
	if s.Suspended && !s.Stuck && s.Err == nil && s.Owned+s.Followed > 0 {
		return late || now.Sub(h.heard) >= handOverDeaf
	}
	h.heard = now
	left := left(s)
	if left < h.least {
		h.since, h.least = now, left
	}
	return late || left == 0 || now.Sub(h.since) >= handOverStill
}

// newFleetNode makes the node, nil without -nats. connectors are what its own gate would announce; announce is told what they are in the fleet,
// retire that the node is asked to end, news of rules that operators have given at other nodes.
func newFleetNode(c *settings, connectors []router.Endpoint, announce func([]cluster.Connector), retire func(by string), news func([]cluster.Note)) (*fleetNode, error) {
	s := &c.fleet
	if !s.on() {
		return nil, nil
	}
	cfg := s.bus
	cfg.Servers, cfg.Cluster, cfg.Node = string(s.nats), s.cluster, s.id
	bus, err := natsbus.New(cfg)
	if err != nil {
		return nil, settingsError{fmt.Errorf("-nats, -nats-* and -cluster-name: %w", err)}
	}
	address := ""
	if s.has(cluster.RoleConnector) {
		if address = formatEndpoints(connectors); len(address) > 255 {
			return nil, settingsError{fmt.Errorf("what gates are told of this connector has %d bytes, 255 are the most: shorten -advertise", len(address))}
		}
	}
	return &fleetNode{bus: bus, id: s.id, terms: c.terms(), up: make(chan struct{}), Fleet: fleet.New(fleet.Config{
		Cluster: cluster.Config{
			Name: s.id, Run: uint64(time.Now().UnixMilli()), Roles: cluster.Roles(s.roles), Host: hostName(), Address: address, Terms: c.terms(),
			Quorum: s.quorum, Alone: s.followers == 0, LinkMemory: int64(s.linkMemory), Timeout: int64(c.limits.RequestSeconds) * int64(time.Second),
		},
		Bus: bus, Inbox: c.limits.Inbox, Connectors: announce, Retire: retire, News: news,
	})}, nil
}

// terms are the settings that all nodes of a fleet must have alike, or else one would let in what another refuses.
func (c *settings) terms() string {
	l := &c.login
	text := fmt.Sprintf("-auth %s -sessions %s -names %s", l.kind, (*sessionsFlag)(&c.limits.Rooms.Sessions), c.naming.kind)
	if l.kind == loginJWT {
		text += fmt.Sprintf(" -auth-name %s -auth-issuer %q -auth-audience %q", l.token.Name, l.token.Issuer, l.token.Audience)
	}
	if l.query {
		text += " -auth-query"
	}
	if len(text) > maxTerms {
		sum := sha256.Sum256([]byte(text))
		text = fmt.Sprintf("%s… (%x)", strings.ToValidUTF8(text[:maxTerms-30], ""), sum[:8])
	}
	return text
}

// maxTerms are the bytes that cluster.Config.Terms may have.
const maxTerms = 255

// start connects the node, whose loops turn. failed is told when the fleet does not have it any more, for one reason that stays.
func (n *fleetNode) start(failed func(error)) {
	if n == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	if !n.begun {
		n.Away(true)
	}
	n.running.Go(func() {
		if err := n.Run(ctx); err != nil {
			failed(fmt.Errorf("fleet: %w", err))
		}
	})
	n.listen()
}

// listen connects the node. What comes waits until it runs.
func (n *fleetNode) listen() {
	if !n.begun {
		n.begun = true
		n.bus.Start(natsbus.Handlers{Receive: n.Receive, NoResponder: n.NoResponder, Changed: n.changed})
	}
}

// changed tells the log and the fleet what has become of NATS. The same kind of trouble is told once in a while: attempts follow each other by the
// second.
func (n *fleetNode) changed(err error) {
	n.Away(err != nil)
	if err == nil && n.up != nil {
		close(n.up)
		n.up = nil
	}
	kind := errors.Unwrap(err)
	if kind == n.said && time.Since(n.saidWhen) < 30*time.Second {
		return
	}
	n.said, n.saidWhen = kind, time.Now()
	if err == nil {
		slog.Info("connected to NATS", "id", n.id)
	} else {
		slog.Warn("this node is not ready: "+err.Error(), "id", n.id)
	}
}

// trouble is why the node is not ready, nil when it is.
func (n *fleetNode) trouble() error {
	if n == nil {
		return nil
	}
	s := n.Status()
	return trouble(&s, n.bus.Err(), n.terms)
}

// trouble is why a node whose settings are terms is not ready.
func trouble(s *fleet.Status, bus error, terms string) error {
	switch {
	case s.Err != nil:
		return s.Err
	case s.Stuck:
		return errors.New("an event loop is stuck, so this node is silent and the others take over; the stacks are in the log")
	case bus != nil:
		return bus
	case s.Odd.Older:
		return fmt.Errorf("this node's settings are others than those of node %q, which was here before (here: %s; there: %s): give all nodes the same -auth, -sessions and -names", s.Odd.Name, terms, s.Odd.Terms)
	case s.Self == 0:
		return errors.New("this node is not a member of the fleet yet")
	case s.Suspended:
		return errors.New("this node does not hear enough of the fleet, so it refuses requests")
	}
	return nil
}

// leave has the others take what this node has: from now on it is given no clients, and its partitions go.
func (n *fleetNode) leave() {
	if n != nil {
		n.Drain(true)
	}
}

// handOver waits until others have all partitions, if there are others that may.
func (n *fleetNode) handOver() {
	if n == nil {
		return
	}
	var h handOver
	s := n.Status()
	for ; !h.over(&s, time.Now()); s = n.Status() {
		time.Sleep(20 * time.Millisecond)
	}
	if left(&s) > 0 || s.Suspended && s.Owned > 0 {
		slog.Warn("not all partitions were handed over; others take them as after a crash", "owned", s.Owned, "followed", s.Followed)
	}
}

// left is how many partitions others have yet to take of a node that ends. Those that it follows count where a third node can: their owners would
// acknowledge nothing until the fleet has noticed that the node is gone.
func left(s *fleet.Status) int {
	switch {
	case s.Takers == 0 || s.Suspended:
		return 0
	case s.Takers == 1:
		return s.Owned
	}
	return s.Owned + s.Followed
}

// close ends the node, which sends what there is to be sent.
func (n *fleetNode) close() {
	if n == nil {
		return
	}
	n.ended.Do(func() {
		if n.stop != nil {
			n.stop()
			n.running.Wait()
		}
		n.bus.Close()
	})
}

// stats are the figures of the node, nil without a fleet.
func (n *fleetNode) stats() *admin.Fleet {
	if n == nil {
		return nil
	}
	s, b := n.Status(), n.bus.Stats()
	return &admin.Fleet{
		Connected: n.bus.Err() == nil, Serving: !s.Suspended, View: s.View.View, Members: s.Members, Owned: s.Owned, Followed: s.Followed, Unguarded: s.Unguarded,
		Connections: b.Connections, Sent: b.Sent, SentBytes: b.SentBytes, Received: b.Received, ReceivedBytes: b.ReceivedBytes, NoResponders: b.NoResponders,
		Dropped: map[string]uint64{"away": b.Away, "full": b.Full, "too_long": b.TooLong, "slow": b.Slow + s.Dropped},
	}
}

// nodes are the fleet's nodes for the admin, in order of names.
func (n *fleetNode) nodes(ctx context.Context) (*admin.Nodes, error) {
	peers, err := n.Peers(ctx)
	if err != nil {
		return nil, err
	}
	s := n.Status()
	all := &admin.Nodes{Asked: n.id, View: s.View.View, Unguarded: s.Unguarded, Nodes: make([]admin.Node, 0, len(peers))}
	for i := range peers {
		p := &peers[i]
		roles := rolesFlag(p.Roles)
		all.Nodes = append(all.Nodes, admin.Node{Name: p.Name, Run: p.Run, Roles: roles.names(), Host: p.Host, Address: p.Address, Sessions: p.Load, Owns: p.Owned, Follows: p.Followed,
			State: stateOf(p), Maker: p.Maker, View: p.View, SilentMS: p.Silent / int64(time.Millisecond)})
	}
	slices.SortFunc(all.Nodes, func(a, b admin.Node) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// members are the names of the nodes of the fleet, this one's included: admin.ErrNotNow where this one does not hear it.
func (n *fleetNode) members(ctx context.Context) (names []string, err error) {
	if s := n.Status(); s.Self == 0 || s.Suspended || n.bus.Err() != nil {
		return nil, fmt.Errorf("this node does not hear the fleet: %w", admin.ErrNotNow)
	}
	peers, err := n.Peers(ctx)
	for i := range peers {
		if peers[i].Member {
			names = append(names, peers[i].Name)
		}
	}
	return names, err
}

// stateOf is how a node is doing, in a word.
func stateOf(p *cluster.Peer) string {
	switch {
	case !p.Member:
		return "joining"
	case p.Silent > int64(silentAfter):
		return "silent"
	case p.Draining:
		return "draining"
	case p.Held:
		return "deaf"
	}
	return "ok"
}

// silentAfter is when a node that is not heard is told to be silent: some heartbeats are missing.
const silentAfter = 1500 * time.Millisecond

// announce has the node's gates tell clients of the fleet's connectors.
func (s *server) announce(list []cluster.Connector) {
	var all []router.Announced
	for i := range list {
		for _, e := range parseEndpoints(list[i].Address) {
			all = append(all, router.Announced{Endpoint: e, Load: list[i].Load})
		}
	}
	s.node.SetConnectors(all, s.cfg.fleet.policy == "load")
}

// retire has the process end as by SIGTERM. Runs on the goroutine of the fleet.
func (s *server) retire(by string) {
	select {
	case s.retired <- by:
	default:
	}
}

// A node tells gates of its listeners for clients: host:port each, with commas between. The host may be empty. +tls and +named behind it stand
// for Endpoint's fields of these names.
func formatEndpoints(list []router.Endpoint) string {
	texts := make([]string, len(list))
	for i, e := range list {
		texts[i] = e.Host + ":" + strconv.Itoa(e.Port)
		if e.TLS {
			texts[i] += "+tls"
		}
		if e.Named {
			texts[i] += "+named"
		}
	}
	return strings.Join(texts, ",")
}

// parseEndpoints reads what formatEndpoints writes, and skips what it does not understand: a later version may have written it.
func parseEndpoints(text string) (list []router.Endpoint) {
	for _, t := range strings.Split(text, ",") {
		t, named := strings.CutSuffix(t, "+named")
		t, tls := strings.CutSuffix(t, "+tls")
		at := strings.LastIndexByte(t, ':')
		if at < 0 {
			continue
		}
		port, err := strconv.Atoi(t[at+1:])
		if err != nil || port < 1 || port > 65535 {
			continue
		}
		list = append(list, router.Endpoint{Host: t[:at], Port: port, TLS: tls, Named: named})
	}
	return list
}
