//go:build linux

package server

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/cluster/natsbus"
	"github.com/pomelod/pomelod/config"
	"github.com/pomelod/pomelod/router"
)

// fleetSettings are the flags of a process that is one node of several. Without -nats there is no fleet.
type fleetSettings struct {
	nats       natsFlag
	bus        natsbus.Config // files
	cluster    string
	id         string
	roles      rolesFlag
	quorum     int
	followers  int
	linkMemory sizeFlag
	policy     string // hash or load
}

// fleetOnly are the flags that say nothing without -nats.
var fleetOnly = []string{"nats-creds", "nats-nkey", "nats-ca", "nats-cert", "nats-key", "cluster-name", "id", "role", "cluster-quorum", "followers", "link-memory", "gate-policy"}

func (c *settings) fleetFlags(f *flag.FlagSet) {
	s := &c.fleet
	s.linkMemory = 64 << 20
	f.Var(&s.nats, "nats", "`url`s of NATS servers, separated by commas, as nats://user:password@host:4222 or tls://host:4222: this process is one node of a fleet, which they connect. The environment (POMELOD_NATS) hides a password from other users")
	f.StringVar(&s.bus.Credentials, "nats-creds", "", "`file` with the JWT and seed of a NATS user")
	f.StringVar(&s.bus.NKey, "nats-nkey", "", "`file` with the seed of a NATS user's NKey")
	f.StringVar(&s.bus.CA, "nats-ca", "", "`file` with the certificates (PEM) of who may have signed that of NATS")
	f.StringVar(&s.bus.Certificate, "nats-cert", "", "`file` with a certificate (PEM) to show NATS")
	f.StringVar(&s.bus.Key, "nats-key", "", "`file` with its key")
	f.StringVar(&s.cluster, "cluster-name", "pomelod", "`name` of the fleet among those on the same NATS")
	f.StringVar(&s.id, "id", "", "`name` of this node, unlike all others of the fleet; with a servers.json the id of the entry that this process is. By default host name and roles")
	f.Var(&s.roles, "role", "`what` this node does: gate, connector and chat, separated by commas; by default all")
	f.IntVar(&s.quorum, "cluster-quorum", 0, "nodes without which nobody is served: more than half of the largest fleet keeps names unique even when the network splits. 0 for none")
	f.IntVar(&s.followers, "followers", 1, "how many chat nodes follow each partition of rooms: 1, or 0, with which the crash of a chat node loses its rooms and nothing waits for a second node. Give all chat nodes the same")
	f.Var(&s.linkMemory, "link-memory", "what a node keeps for others that have not confirmed it yet, `bytes`; beyond it new requests are refused")
	f.StringVar(&s.policy, "gate-policy", "hash", "`policy` by which a gate chooses a connector: hash (Pomelo's, of the uid) or load (the fewest sessions)")
}

// natsFlag is the addresses of NATS. What it shows has no passwords.
type natsFlag string

func (n *natsFlag) String() string { return natsbus.Redact(string(*n)) }

func (n *natsFlag) Set(text string) error {
	*n = natsFlag(text)
	return nil
}

// rolesFlag is what a node does; 0: everything.
type rolesFlag cluster.Roles

var roleNames = []struct {
	role cluster.Roles
	name string
}{{cluster.RoleGate, "gate"}, {cluster.RoleConnector, "connector"}, {cluster.RoleChat, "chat"}}

const allRoles = cluster.RoleGate | cluster.RoleConnector | cluster.RoleChat

func (r *rolesFlag) String() string { return strings.Join(r.names(), ",") }

func (r *rolesFlag) names() []string {
	names := []string{}
	for _, n := range roleNames {
		if cluster.Roles(*r)&n.role != 0 {
			names = append(names, n.name)
		}
	}
	return names
}

func (r *rolesFlag) Set(text string) error {
	*r = 0
	for _, word := range strings.Split(text, ",") {
		i := slices.IndexFunc(roleNames, func(n struct {
			role cluster.Roles
			name string
		}) bool {
			return n.name == strings.TrimSpace(word)
		})
		if i < 0 {
			return errors.New("must be gate, connector or chat, or several of them with commas between")
		}
		*r |= rolesFlag(roleNames[i].role)
	}
	return nil
}

// on tells whether the process is a node of a fleet.
func (s *fleetSettings) on() bool { return s.nats != "" }

// node is the name of the process in its fleet, empty if it is in none.
func (s *fleetSettings) node() string {
	if !s.on() {
		return ""
	}
	return s.id
}

func (s *fleetSettings) has(role cluster.Roles) bool { return cluster.Roles(s.roles)&role != 0 }

// checkFleet refuses flags that do not fit together.
func (c *settings) checkFleet() error {
	s := &c.fleet
	if !s.on() {
		for _, name := range fleetOnly {
			if c.set[name] {
				return fmt.Errorf("-%s is for a node of a fleet: give -nats too, or leave it out", name)
			}
		}
		return nil
	}
	switch {
	case s.policy != "hash" && s.policy != "load":
		return fmt.Errorf("-gate-policy %q: must be hash or load", s.policy)
	case s.quorum < 0 || s.quorum > 1000:
		return fmt.Errorf("-cluster-quorum %d: must be more than half of the number of nodes, or 0 for none", s.quorum)
	case s.followers < 0 || s.followers > 1:
		return fmt.Errorf("-followers %d: must be 1, or 0 for none", s.followers)
	case s.linkMemory < 1<<20:
		return fmt.Errorf("-link-memory %s: must be at least 1MiB", s.linkMemory.String())
	case len(s.id) > 255:
		return fmt.Errorf("-id has %d bytes: 255 are the most", len(s.id))
	}
	return nil
}

// planEntry makes the process the entry of servers.json that -id names: its role, and its listener if it has one.
func (c *settings) planEntry(project *config.Project) error {
	s := &c.fleet
	if s.roles != 0 {
		return errors.New("-role does not go with a servers.json, which gives each entry its type; drop it, and name the entry by -id")
	}
	var ids []string
	for i := range project.Servers {
		e := &project.Servers[i]
		if e.ID == s.id {
			_ = s.roles.Set(e.Type) // config knows no other types
			return c.checkTLSRoles()
		}
		ids = append(ids, e.ID)
	}
	if s.id == "" {
		return fmt.Errorf("-nats and a servers.json: write which entry this process is, as -id %s", strings.Join(ids, " or -id "))
	}
	return fmt.Errorf("-id %s: servers.json in %s has no such entry for environment %q; it has %s", s.id, c.dir, c.env, strings.Join(ids, ", "))
}

// adminOf is the admin address of an entry of servers.json that is a process of its own; empty if there is no such entry, or no port is left. The
// first entry has master.json's port, or the usual one, and the others those that follow, without clientPorts: so processes of one host do not take each other's.
func adminOf(project *config.Project, id string) string {
	port := project.MasterPort
	if port == 0 {
		port = defaultAdminPort
	}
	isClientPort := func(s config.Server) bool { return s.ClientPort == port }
	for i := range project.Servers {
		for slices.ContainsFunc(project.Servers, isClientPort) {
			port++
		}
		if project.Servers[i].ID == id && port <= math.MaxUint16 {
			return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		}
		port++
	}
	return ""
}

// planNode finds what the node does and how it is called, where there is no servers.json.
func (c *settings) planNode() error {
	s := &c.fleet
	chosen := s.roles != 0
	if !chosen {
		s.roles = rolesFlag(allRoles)
		if c.gate == "" {
			s.roles &^= rolesFlag(cluster.RoleGate)
		}
	}
	switch {
	case s.has(cluster.RoleGate) && c.gate == "":
		return errors.New("-role gate and -gate none: a gate needs its address")
	case !s.has(cluster.RoleGate) && c.gate != "" && c.set["gate"]:
		return fmt.Errorf("-gate %s without the role: add gate to -role, or drop it", c.gate)
	case !s.has(cluster.RoleConnector) && c.set["listen"]:
		return fmt.Errorf("-listen %s without the role: add connector to -role, or drop it", c.listen)
	case !s.has(cluster.RoleConnector) && c.set["advertise"]:
		return fmt.Errorf("-advertise %s without the role: add connector to -role, or drop it", c.advertise)
	}
	if s.id == "" {
		name := "all"
		if chosen {
			name = strings.ReplaceAll(s.roles.String(), ",", "-")
		}
		s.id = hostName() + "-" + name
	}
	return c.checkTLSRoles()
}

// checkTLSRoles drops the listeners of TLS that a certificate brings and the node's roles have no use for, and refuses them where they were given.
func (c *settings) checkTLSRoles() error {
	for _, l := range []struct {
		role cluster.Roles
		flag string
		addr *string
	}{{cluster.RoleConnector, "tls-listen", &c.tls.listen}, {cluster.RoleGate, "tls-gate", &c.tls.gate}} {
		if c.fleet.has(l.role) || *l.addr == "" {
			continue
		}
		if c.set[l.flag] {
			return fmt.Errorf("-%s %s without the role: drop it", l.flag, *l.addr)
		}
		*l.addr = ""
	}
	return nil
}

// hostName is what fails together: a partition is followed on another host, if there is one.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "unknown"
	}
	return name[:min(len(name), 200)]
}

// keepRoles drops the listeners that the node's roles have no use for.
func (p *plan) keepRoles(s *fleetSettings) {
	p.listeners = slices.DeleteFunc(p.listeners, func(l plannedListener) bool {
		switch l.profile.Type {
		case router.Gate:
			return !s.has(cluster.RoleGate)
		case router.Connector:
			return !s.has(cluster.RoleConnector)
		}
		return false
	})
	if s.has(cluster.RoleConnector) && !s.has(cluster.RoleGate) && slices.ContainsFunc(p.listeners, func(l plannedListener) bool { return l.host == "" }) {
		p.warnings = append(p.warnings, "gates on other hosts do not know under which name clients reach this connector, and tell them their own: write -advertise HOST, unless one address leads to all nodes")
	}
}
