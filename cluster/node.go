package cluster

import (
	"errors"

	"github.com/pomelod/pomelod/channel"
)

// Config says what a node is. It must not be changed once the node is made.
type Config struct {
	Name string // unique in the fleet
	// Run is this incarnation: the wall clock's milliseconds at the start, or one more than any heard of under the name. A node that was left
	// out goes on as a greater one.
	Run     uint64
	Roles   Roles
	Host    string // the machine, or whatever else fails as a whole: a partition's follower is on another one than its owner, if there is one
	Address string // what gates tell clients of this node; nothing here looks into it
	Terms   string // what all nodes of the fleet must have alike, at most 255 bytes (Odd)
	// Quorum is the least number of members with which the fleet works, more than half of the largest fleet; 0: any number, also on both
	// sides of a split.
	Quorum int
	// Alone has partitions owned without followers, as long as this node makes the views: a crash loses rooms, as in one process, and nothing waits for a second
	// node. Planned moves need nothing else.
	Alone bool
	// LinkMemory bounds what all links keep, in bytes; 0: 64 MiB.
	LinkMemory int64
	// Timeout is how long a request waits for its answer, in ns.
	Timeout int64

	parts  int      // partitions that have owners at all: a simulation needs few; 0: all
	speaks versions // zero: what this program speaks
}

// Home is what the bus side of a node asks of the rest of its process. Its methods are called within Node's, and must not block; what is called first must be done
// first.
type Home interface {
	// Adopt tells every loop of a new view, and which node this one is in it.
	Adopt(v *View, self channel.Node)
	// Message is for the Holder of the loop on which m.Part lives. It may keep m.
	Message(from channel.Node, m *Message)
	// Items go to the loops of the sessions. They come without gaps, each once, under the epoch of the view.
	Items(part uint16, items []channel.Item)
	// Lost tells that messages of a partition may have been lost: all members of this node there end, and are told why.
	Lost(part uint16, why string)
	// Refused ends a request without an answer. sent tells whether it may have happened all the same.
	Refused(r *channel.Request, sent bool)
	// Restart tells that the node goes on as a new run. All sessions of the old one end, and all of its partitions are forgotten.
	Restart(old channel.Node)
}

// ErrNotSent is the error of a request that certainly has not happened: the node is not in a fleet now, or the way to the owner is full.
var ErrNotSent = errors.New("the request was not sent: this node does not hear the fleet, or too much waits for its owner already")

// Node is the bus side of a node. Its methods must be called by one goroutine at a time. A Home that is called by one of them may call Send, and nothing
// else.
type Node struct {
	config Config // but for Run: that is peers.self.Run
	bus    Bus
	home   Home

	now, wall int64
	turned    bool     // at least once
	inbox     []event  // since the last turn
	out       []parcel // from the Holders and the desk, not yet under way

	view     *View
	newest   uint64 // the greatest number of any view heard of
	away     bool   // the bus is not connected
	draining bool
	load     uint64 // sessions
	beatAt   int64  // when the last heartbeat was sent
	beatNow  bool
	lookAt   int64 // when the node looked at everything last
	doubt    int64 // since when it is not certain which view is the newest; 0: it is

	err                error // it has ended
	retired            string
	probeTill, probeAt int64 // until when, and when next, it asks for a namesake; 0: it does not

	board board
	peers peers
	maker maker
	links *links
	desk  *desk
	held  []parcel // while suspended: items of its owners
}

// event is something that happened between two turns.
type event struct {
	packet []byte // nil: no responders for name
	name   string
}

// parcel is a message on its way out.
type parcel struct {
	to channel.Node
	m  *Message
}

// lookEvery is how often a node looks at everything, in ns.
const lookEvery = 20 * ms

// New makes the bus side of a node that has not heard anything yet.
func New(config Config, bus Bus, home Home) *Node {
	if config.parts == 0 {
		config.parts = channel.Partitions
	}
	if config.LinkMemory == 0 {
		config.LinkMemory = DefaultLinkMemory
	}
	if config.speaks == (versions{}) {
		config.speaks = spoken
	}
	n := &Node{config: config, bus: bus, home: home}
	self := runID{config.Name, config.Run}
	n.peers = peers{self: self, quorum: config.Quorum}
	n.links = newLinks(self, config.LinkMemory, n.versionFor)
	n.desk = newDesk(home, n.Send, n.links.full, config.Timeout)
	return n
}

// Self is the node as its view has it, 0 if it is no member.
func (n *Node) Self() channel.Node {
	if n.view == nil || !n.view.is(n.peers.self) {
		return 0
	}
	return channel.NewNode(n.view.number(n.config.Name), n.peers.self.Run)
}

// View is the newest view that was adopted, nil before the first one.
func (n *Node) View() *View { return n.view }

// Suspended tells whether the node refuses requests: it is no member, has not heard whether its view is still the newest, or lacks a quorum.
func (n *Node) Suspended() bool {
	return n.err != nil || n.Self() == 0 || n.away || n.peers.suspended(n.view, n.now)
}

// Receive takes a packet that came from the bus, and keeps it. It is looked at in the next Turn.
func (n *Node) Receive(packet []byte) { n.inbox = append(n.inbox, event{packet: packet}) }

// NoResponder takes the bus's word that nobody receives what is sent to a name. It is looked at in the next Turn.
func (n *Node) NoResponder(name string) { n.inbox = append(n.inbox, event{name: name}) }

// Away says whether the bus is out of reach. As long as it is, the node refuses its sessions' requests, and judges nobody. When it is back, others hear of the
// node at once.
func (n *Node) Away(away bool) {
	n.beatNow = n.beatNow || n.away && !away
	n.away = away
}

// Drain says whether the fleet is to give this node no more partitions, and to move those away that it has, and gates no more clients. Others hear it at once.
func (n *Node) Drain(draining bool) {
	n.beatNow = n.beatNow || draining != n.draining
	n.draining = draining
}

// Shift asks for a partition to be moved to its follower. Only the node that makes the views heeds it.
func (n *Node) Shift(part uint16) {
	if int(part) < len(n.maker.parts) {
		n.maker.parts[part].shift = true
	}
}

// LinkFull tells whether so much waits for a member, or for all, that a Holder should admit nothing new that is for it (Holder.Bound).
func (n *Node) LinkFull(node channel.Node) bool { return n.links.full(node) }

// FullLinks appends the members for which LinkFull is so.
func (n *Node) FullLinks(dst []channel.Node) []channel.Node { return n.links.appendFull(dst) }

// Request sends a request of this node's to the owner of r.Part; what comes of it are Items or Refused. r and its content are kept. A leave is
// never refused. now is as for Turn: a node that was stopped sends nothing before it has heard whether it was replaced, also where a request is the first
// that it sees when it goes on. As that takes some milliseconds the request waits, but not where the bus is out of reach or a quorum is missing: that may last.
func (n *Node) Request(r *channel.Request, now int64) error {
	n.pass(now)
	held := n.peers.quorum == 0 && n.peers.woken != 0
	if r.Sheddable() && n.Suspended() && !(held && n.err == nil && n.Self() != 0 && !n.away) {
		return ErrNotSent
	}
	n.desk.hold(held)
	return n.desk.request(r, now)
}
