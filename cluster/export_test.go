package cluster

import (
	"github.com/pomelod/pomelod/channel"
)

// WithParts is a config of a fleet with fewer partitions than channel.Partitions.
func WithParts(c Config, parts int) Config {
	c.parts = parts
	return c
}

// WithVersions is a config of a program of another version.
func WithVersions(c Config, least, greatest uint8) Config {
	c.speaks = versions{least, greatest}
	return c
}

// RoleOf is what a Holder has of a partition, in the words of ARCHITECTURE.md's table.
func (h *Holder) RoleOf(part uint16) string {
	p := h.parts[part]
	switch {
	case p == nil:
		return "nobody"
	case p.role == owns && p.owner.sealed != (ViewID{}):
		return "sealed"
	case p.role == owns && p.owner.follower != nil:
		return "protected"
	case p.role == owns:
		return "unprotected"
	case h.view.Shares[part].Joiner != None && h.view.Node(h.view.Shares[part].Joiner) == h.self:
		return "joiner"
	}
	return "follower"
}

// Unsettled is how many units of items wait for their nodes to confirm, and how many for a follower to acknowledge.
func (h *Holder) Unsettled(part uint16) (kept, out int) {
	p := h.parts[part]
	if p == nil {
		return 0, 0
	}
	for i := range p.kept {
		kept += len(p.kept[i].units)
	}
	return kept, len(p.owner.out)
}

// Woken tells whether a node waits to hear that its view is the newest.
func (n *Node) Woken() bool { return n.peers.woken != 0 }

// NodeState is a node's state in the words of ARCHITECTURE.md's table; whether it is stopped is for others to know.
func (n *Node) NodeState() string {
	switch {
	case n.Self() == 0:
		return "lost"
	case n.peers.quorum > 0 && n.peers.suspended(n.view, n.now):
		return "suspended"
	case n.peers.woken != 0 || n.peers.deaf(n.now):
		return "held"
	}
	return "serving"
}

// Kinds are all kinds of messages, PacketKinds of packets.
const (
	Kinds       = int(kinds)
	PacketKinds = int(packetKinds)
)

// WhyLost is why members end whose owner knows less than their node.
const WhyLost = whyLost

// RecordsOf are the records of an exported state.
func RecordsOf(state []byte) (records []channel.Record) {
	for r := (reader{b: state}); len(r.b) > 0; {
		rec, err := channel.ParseRecord(r.take(r.uint()))
		if err != nil {
			panic(err)
		}
		records = append(records, rec)
	}
	return records
}

// LinksKeep is how many bytes all links of a node keep.
func (n *Node) LinksKeep() int64 { return n.links.kept }
