package cluster

import (
	"fmt"

	"github.com/pomelod/pomelod/channel"
)

// Programs of several versions may be in one fleet, if they have one in common: so it is upgraded, a node at a time. Hellos, which all versions read, say which
// encodings a node speaks. What is for one node goes in the greatest that both speak, and what is for all in one that everybody does who has said so. Until a node has
// said it is told in the least. A link has one version as long as it lives: a message may stand in two batches.

// versions are the encodings that a node speaks: all from Least to Greatest.
type versions struct{ Least, Greatest uint8 }

// linkVersion counts the changes of packets and messages. What is in messages are records and requests, of which channel.StateVersion counts the changes:
// so the sum grows with each of both. TestGoldenBytes has the bytes.
const linkVersion = 2

// spoken are the versions of this program. It encodes in one only: an owner's records, of whatever kind, must be its follower's. To speak one more, what appendMessage
// writes has to depend on the version, and what the older one does not know must not be decided while a member speaks no other.
var spoken = versions{linkVersion + channel.StateVersion, linkVersion + channel.StateVersion}

// helloVersion is the version of hellos, for ever.
const helloVersion = 1

// hello tells whether a packet is read by programs of all versions: by these they get to know each other, and a run finds out whether another has its name. An answer is one
// where it has no view.
func hello(kind packetKind) bool {
	return kind == packetHeartbeat || kind == packetGreeting || kind == packetAsk || kind == packetAnswer
}

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

// versionForAll is the version in which all are talked to at once. Who has not said what it speaks is no member of this node's making, and fetches what it missed.
func (n *Node) versionForAll() uint8 {
	version := n.config.speaks.Greatest
	for _, x := range n.peers.list {
		if x.said != nil {
			version = min(version, n.versionWith(x))
		}
	}
	return version
}

// foreign tells whether a peer has no version in common with this node. A newcomer ends then, if the peer was there before it: by its run, or as a member of a view.
func (n *Node) foreign(from runID, v versions, member bool) bool {
	own := n.config.speaks
	_, ok := own.common(v)
	if !ok && n.Self() == 0 && (member || from.Run < n.peers.self.Run) {
		n.err = fmt.Errorf("node %q of this fleet speaks versions %d to %d of the protocol between nodes, and this one %d to %d: end all nodes of the fleet before you start this version, or upgrade by way of a release that speaks one of each",
			from.Name, v.Least, v.Greatest, own.Least, own.Greatest)
	}
	return !ok
}
