package cluster

import (
	"slices"

	"github.com/pomelod/pomelod/channel"
)

// ViewID names a view: its number and who made it. It is also what channel.Epoch is, the id of the view that made somebody an owner. Ids are
// ordered by number, then by maker (Less), so that of two views made at once all nodes choose the same one.
type ViewID = channel.Epoch

// Less tells whether a names an older view than b.
func Less(a, b ViewID) bool {
	return a.View < b.View || a.View == b.View && a.Maker < b.Maker
}

// Roles are what a node does, as bits.
type Roles uint8

// The roles. A node may have several.
const (
	RoleChat      Roles = 1 << iota // owns and follows partitions
	RoleConnector                   // has sessions
	RoleGate                        // names connectors to clients
)

// Name is a row of a view's table of names. A name keeps its row, and so its number, while it has a member, and for long after (vacantFor): then the row
// may become another name's. So the table has as many rows as there were names in some ten minutes, however many the fleet has seen.
type Name struct {
	Name  string
	Run   uint64 // the incarnation that is a member; 0: none
	Gone  uint64 // the highest incarnation that was ever left out of the row: only a higher one is admitted
	Roles Roles
	Host  string // followers are on another one, if there is one
}

// None stands for nobody where a view has the number of a name.
const None = 0

// Share is a row of a view's table of partitions. Nodes are numbers of names; 0 is nobody.
type Share struct {
	Owner, Follower, Joiner uint16
	Epoch                   ViewID // the view that made Owner the owner
	Born                    ViewID // the view in which the partition began empty
	Following, Joining      ViewID // the views that named Follower and Joiner
	Moving                  ViewID // the view that began to move the partition to Follower; zero: it stays
}

// View is what a fleet agrees on. Immutable. Safe from any goroutine.
type View struct {
	ID        ViewID
	Members   ViewID   // the last view that changed who is a member
	Ancestors []ViewID // the newest first, at most maxAncestors
	Names     []Name   // row i has the number i+1
	Shares    []Share  // of channel.Partitions; a simulation has fewer
}

// maxAncestors is how many views a node may have slept through and still be of the same fleet.
const maxAncestors = 64

// Node is the node of a number as the view has it, 0 if it is no member.
func (v *View) Node(number uint16) channel.Node {
	if number == None || int(number) > len(v.Names) || v.Names[number-1].Run == 0 {
		return 0
	}
	return channel.NewNode(number, v.Names[number-1].Run)
}

// Has tells whether a node is a member.
func (v *View) Has(n channel.Node) bool { return n != 0 && v.Node(n.Number()) == n }

// number is the number of a name, None if it has no row.
func (v *View) number(name string) uint16 {
	for i := range v.Names {
		if v.Names[i].Name == name {
			return uint16(i + 1)
		}
	}
	return None
}

// run is the run of a number that is a member, 0 if none is.
func (v *View) run(number uint16) uint64 {
	if number == None || int(number) > len(v.Names) {
		return 0
	}
	return v.Names[number-1].Run
}

// is tells whether a run is a member.
func (v *View) is(id runID) bool { return id.Run != 0 && v.run(v.number(id.Name)) == id.Run }

// follows tells whether old is among v's ancestors; nothing is before the first view.
func (v *View) follows(old *View) bool { return old == nil || slices.Contains(v.Ancestors, old.ID) }

// continues tells whether an id is v's, or that of an ancestor.
func (v *View) continues(id ViewID) bool { return id == v.ID || slices.Contains(v.Ancestors, id) }
