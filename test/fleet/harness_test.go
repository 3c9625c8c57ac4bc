package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/internal/freeport"
)

// harness is a whole fleet of processes with a real nats-server, which faults happen to.
type harness struct {
	t     *testing.T
	rng   *rand.Rand
	nats  *natsServer
	nodes []*member
	ns    *namespace // in which the last chat node is; nil: there is none
	way   *proxy     // from the last chat node of a spread fleet to NATS

	gates []string          // addresses
	at    map[string]string // nodes by the addresses for clients

	failed   failures  // of this round
	audience *audience // of the rounds of one fault; nil: there is none
}

// member is a node, process after process.
type member struct {
	h *harness
	*process
	roles  cluster.Roles
	args   []string
	socket string // admin socket; empty: none
	binary string // another version's; empty: this one's
}

// role is what a fault chooses nodes by.
const (
	gates      = cluster.RoleGate
	connectors = cluster.RoleConnector
	chats      = cluster.RoleChat
)

// newSpread is a fleet of one gate, three connectors and three chat nodes, of which the last one may have a network of its own.
func newSpread(t *testing.T, rng *rand.Rand, network bool) *harness {
	h := &harness{t: t, rng: rng, at: make(map[string]string)}
	h.nats = startNATS(t, nil)
	if network {
		h.ns = newNamespace(t, h.nats.address())
	}
	if h.ns != nil {
		h.way = h.ns.way
	} else {
		h.way = newProxy(t, h.nats.address())
	}
	h.add("gate-1", gates)
	for i := range 3 {
		h.add(fmt.Sprint("connector-", i+1), connectors)
	}
	for i := range 3 {
		h.add(fmt.Sprint("chat-", i+1), chats)
	}
	h.calm()
	return h
}

// newPair is a fleet of two nodes that do everything.
func newPair(t *testing.T, rng *rand.Rand) *harness {
	h := &harness{t: t, rng: rng, at: make(map[string]string)}
	h.nats = startNATS(t, nil)
	h.add("a", gates|connectors|chats)
	h.add("b", gates|connectors|chats)
	h.calm()
	return h
}

// add starts a node. Its addresses for clients are the same each time.
func (h *harness) add(name string, roles cluster.Roles) *member { return h.addAs("", name, roles) }

// addAs starts a node that is another version's binary.
func (h *harness) addAs(binary, name string, roles cluster.Roles) *member {
	h.t.Helper()
	m := &member{h: h, roles: roles, binary: binary}
	urls := h.nats.url()
	if h.way != nil && name == "chat-3" {
		urls = "nats://" + h.way.address()
	}
	m.args = []string{"-nats", urls, "-grace", "0"}
	if roles&connectors != 0 {
		addr := fmt.Sprint("127.0.0.1:", freeport.Get(h.t))
		m.args, h.at[addr] = append(m.args, "-listen", addr), name
	}
	if roles&chats != 0 {
		m.socket = filepath.Join(h.t.TempDir(), "s")
		m.args = append(m.args, "-admin-socket", m.socket)
	}
	if roles&gates != 0 {
		addr := fmt.Sprint("127.0.0.1:", freeport.Get(h.t))
		m.args, h.gates = append(m.args, "-gate", addr), append(h.gates, addr)
	}
	switch roles {
	case gates:
		m.args = append(m.args, "-role", "gate")
	case connectors:
		m.args = append(m.args, "-role", "connector")
	case chats:
		m.args = append(m.args, "-role", "chat")
	}
	h.nodes = append(h.nodes, m)
	m.start(name)
	return m
}

func (m *member) start(name string) {
	m.h.t.Helper()
	switch {
	case m.h.ns != nil && name == "chat-3":
		m.process = m.h.ns.launch(m.h.t, name, m.args...)
	case m.binary != "":
		m.process = launchAs(m.h.t, m.binary, name, m.args...)
	default:
		m.process = launch(m.h.t, name, m.args...)
	}
}

// entry asks a gate for a connector.
func (h *harness) entry(uid string) (string, error) {
	var all error
	for _, gate := range h.gates {
		g, err := client.Dial(gate, dialTime)
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		var at struct {
			Host string
			Port int
		}
		err = g.Request("gate.gateHandler.queryEntry", map[string]string{"uid": uid}, &at)
		g.Close()
		if err == nil {
			return net.JoinHostPort(at.Host, fmt.Sprint(at.Port)), nil
		}
		all = errors.Join(all, err)
	}
	return "", all
}

// nodeAt is the node at an address for clients.
func (h *harness) nodeAt(addr string) string { return h.at[addr] }

// nodesSeen are the nodes as m sees them, and how many partitions have no follower; nil when it does not answer.
func (m *member) nodesSeen() (list []nodeSeen, unguarded int) {
	r, err := web.Get("http://" + m.addr("admin") + "/nodes")
	if err != nil {
		return nil, 0
	}
	defer r.Body.Close()
	var all struct {
		Unguarded int
		Nodes     []nodeSeen
	}
	if json.NewDecoder(r.Body).Decode(&all) != nil {
		return nil, 0
	}
	return all.Nodes, all.Unguarded
}

type nodeSeen struct {
	Name, State string
	Maker       bool
	Run         uint64
}

// owned are the rooms that m owns; nil when it does not answer.
func (m *member) owned() (rooms []string) {
	ask := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", m.socket)
	}}}
	r, err := ask.Get("http://pomelod/v1/rooms")
	if err != nil {
		return nil
	}
	defer r.Body.Close()
	var all struct{ Rooms []struct{ Name string } }
	if json.NewDecoder(r.Body).Decode(&all) != nil {
		return nil
	}
	for _, room := range all.Rooms {
		rooms = append(rooms, room.Name)
	}
	return rooms
}

// owners are the nodes that own rooms, by the rooms' names.
func (h *harness) owners() map[string]string {
	at := make(map[string]string)
	for _, m := range h.nodes {
		if m.socket != "" {
			for _, room := range m.owned() {
				at[room] = m.name
			}
		}
	}
	return at
}

// isCalm tells whether all nodes see all of them well, and every partition has a follower: by followers of this run, as all see the same runs.
func (h *harness) isCalm() bool {
	runs := make(map[string]uint64)
	for _, m := range h.nodes {
		if status, _ := m.readyz(); status != http.StatusOK {
			return false
		}
		seen, unguarded := m.nodesSeen()
		if len(seen) != len(h.nodes) || unguarded > 0 {
			return false
		}
		for _, n := range seen {
			if n.State != "ok" || runs[n.Name] != 0 && runs[n.Name] != n.Run {
				return false
			}
			runs[n.Name] = n.Run
		}
	}
	return true
}

func (h *harness) calm() {
	h.t.Helper()
	eventually(h.t, "all nodes to be ready, and every partition to have a follower", h.isCalm)
}

// maker is the node that makes views.
func (h *harness) maker() *member {
	h.t.Helper()
	var found *member
	eventually(h.t, "somebody to say who makes views", func() bool {
		for _, m := range h.nodes {
			seen, _ := m.nodesSeen()
			for _, n := range seen {
				if n.Maker {
					i := slices.IndexFunc(h.nodes, func(m *member) bool { return m.name == n.Name })
					found = h.nodes[i]
					return true
				}
			}
		}
		return false
	})
	return found
}

// some is a node with roles that is not one of others.
func (h *harness) some(roles cluster.Roles, others ...*member) *member {
	var list []*member
	for _, m := range h.nodes {
		if m.roles&roles == roles && !slices.Contains(others, m) {
			list = append(list, m)
		}
	}
	return list[h.rng.IntN(len(list))]
}

// failures are when nodes were made to fail, by their names.
type failures map[string][]failure

// failure is when the clients of a node may begin to be disconnected.
type failure struct {
	from  time.Time
	till  time.Time // when its next process was started, with which it is over; zero: it was not, as of one that was only stopped
	drain bool
}

// mayCut says that a node's clients may be disconnected from now on, as it drains or as it fails.
func (m *member) mayCut(drain bool) {
	m.h.failed[m.name] = append(m.h.failed[m.name], failure{from: time.Now(), drain: drain})
}

// began says that a node has a process anew.
func (f failures) began(node string) {
	for i := range f[node] {
		if x := &f[node][i]; x.till.IsZero() {
			x.till = time.Now()
		}
	}
}

// cut tells whether the node of a stay has failed while it lasted, before a moment.
func (f failures) cut(s *stay, before time.Time) bool {
	return slices.ContainsFunc(f[s.node], func(x failure) bool { return x.meets(s) && x.from.Before(before) })
}

// drained tells whether the node of a stay was told to end while it lasted, before a moment.
func (f failures) drained(s *stay, before time.Time) bool {
	return slices.ContainsFunc(f[s.node], func(x failure) bool { return x.drain && x.meets(s) && x.from.Before(before) })
}

func (x *failure) meets(s *stay) bool {
	return (x.till.IsZero() || s.since.Before(x.till)) && (s.ended.IsZero() || x.from.Before(s.ended))
}

// die is kill -9, of several at once.
func (h *harness) die(nodes ...*member) {
	for _, m := range nodes {
		m.mayCut(false)
		m.cmd.Process.Kill()
	}
	for _, m := range nodes {
		m.kill()
	}
}

// remove drains a node, which does not come again.
func (h *harness) remove(m *member) {
	h.t.Helper()
	m.drain()
	h.nodes = slices.DeleteFunc(h.nodes, func(x *member) bool { return x == m })
	h.gates = slices.DeleteFunc(h.gates, func(addr string) bool { return m.roles&gates != 0 && addr == m.addr("gate") })
}

// again starts nodes that have ended.
func (h *harness) again(nodes ...*member) {
	h.t.Helper()
	for _, m := range nodes {
		h.failed.began(m.name)
		m.start(m.name)
	}
}

// pause is SIGSTOP for a time.
func (m *member) pause(d time.Duration) {
	m.mayCut(false)
	_ = m.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(d)
	_ = m.cmd.Process.Signal(syscall.SIGCONT)
}

// drain is SIGTERM, and the wait for the end.
func (m *member) drain() {
	m.h.t.Helper()
	m.mayCut(true)
	if code := m.stop(); code != 0 {
		m.h.t.Errorf("%s ended with %d", m.name, code)
	}
}
