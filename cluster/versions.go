package cluster

import "fmt"

// Programs of several versions may be in one fleet: so it is upgraded, a node at a time. Heartbeats and greetings, which all versions read, say which
// encodings a node speaks. What is for one node goes in the greatest that both speak, and what is for all in one that everybody does. Until a node has
// said it is told in the least. A link has one version as long as it lives: a message may stand in two batches.

// versions are the encodings that a node speaks: all from Least to Greatest.
type versions struct{ Least, Greatest uint8 }

// spoken are the versions of this program.
var spoken = versions{1, 1}

// common is the version in which two nodes talk, the lesser of the two greatest; false: there is none.
func (v versions) common(w versions) (version uint8, ok bool) {
	version = min(v.Greatest, w.Greatest)
	return version, version >= max(v.Least, w.Least)
}

// versionWith is the version in which a peer is talked to; nil is one that was never heard.
func (n *Node) versionWith(x *peer) uint8 {
	if x != nil && x.said != nil {
		if version, ok := n.config.speaks.common(x.said.Versions); ok {
			return version
		}
	}
	return n.config.speaks.Least
}

// versionFor is the version in which a run is talked to. What another run of its name has said is another program's word.
func (n *Node) versionFor(id runID) uint8 {
	x := n.peers.find(id.Name)
	if x != nil && x.Run != id.Run {
		x = nil
	}
	return n.versionWith(x)
}

// versionForAll is the version in which all are talked to at once.
func (n *Node) versionForAll() uint8 {
	version := n.config.speaks.Greatest
	for _, x := range n.peers.list {
		version = min(version, n.versionWith(x))
	}
	return version
}

// foreign ends a newcomer that has no version in common with a node that was there before it, and tells whether a peer is such a node.
func (n *Node) foreign(from runID, v versions) bool {
	own := n.config.speaks
	_, ok := own.common(v)
	if !ok && n.Self() == 0 && from.Run < n.peers.self.Run {
		n.err = fmt.Errorf("node %q of this fleet speaks versions %d to %d of the protocol between nodes, and this one %d to %d: upgrade by way of a release that speaks one of each",
			from.Name, v.Least, v.Greatest, own.Least, own.Greatest)
	}
	return !ok
}
