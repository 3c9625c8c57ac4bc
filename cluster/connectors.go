package cluster

import (
	"cmp"
	"math"
	"slices"
)

// Connector is a member to which a gate may send clients.
type Connector struct {
	Name    string
	Address string // Config.Address of that node
	Load    uint64 // its sessions, as it has said last
}

// Connectors appends the connectors of the view that may be given clients, in order of names: those that were heard lately, that nobody suspects and
// that are not draining. The node itself is one of them if it is a connector and serves. A node that has heard nobody lately does not judge: where it would
// name nobody, it names those that it would if it had heard them.
func (n *Node) Connectors(dst []Connector) []Connector {
	if n.view == nil {
		return dst
	}
	first := len(dst)
	if dst = n.appendConnectors(dst, freshWithin); len(dst) == first && !n.hearsAny() {
		dst = n.appendConnectors(dst, math.MaxInt64)
	}
	slices.SortFunc(dst[first:], func(a, b Connector) int { return cmp.Compare(a.Name, b.Name) })
	return dst
}

// hearsAny tells whether another member was heard lately.
func (n *Node) hearsAny() bool {
	return slices.ContainsFunc(n.peers.list, func(x *peer) bool { return n.view.is(x.runID) && x.fresh(n.now) })
}

// appendConnectors appends those that were heard within some time, in ns.
func (n *Node) appendConnectors(dst []Connector, within int64) []Connector {
	for i := range n.view.Names {
		row := &n.view.Names[i]
		switch x := n.peers.find(row.Name); {
		case row.Run == 0 || row.Roles&RoleConnector == 0:
		case row.Name == n.config.Name:
			if row.Run == n.peers.self.Run && !n.draining && !n.Suspended() {
				dst = append(dst, Connector{row.Name, n.config.Address, n.load})
			}
		case x != nil && x.Run == row.Run && x.heardWithin(within, n.now) && x.said != nil && !x.said.Draining:
			dst = append(dst, Connector{row.Name, x.said.Address, x.said.Load})
		}
	}
	return dst
}

// Load says how many sessions this node has, by which gates may compare connectors. Others hear it with the next heartbeat.
func (n *Node) Load(sessions uint64) { n.load = sessions }

// Busy tells that this node's loops have more to do than they should. While that is so nothing is confirmed: owners go on sending what they
// must, and admit nothing new once a window of it is unconfirmed.
func (n *Node) Busy(busy bool) { n.desk.busy = busy }
