package channel

// Node is one run of one process: number:16 | incarnation:48. The number is the one that a fleet gives to a name. The incarnation tells two
// runs under that name apart: milliseconds of the wall clock at its start, or one more than the highest that was heard of.
type Node uint64

// NewNode is the Node of a number and an incarnation, of which the lower 48 bits count.
func NewNode(number uint16, incarnation uint64) Node {
	return Node(number)<<48 | Node(incarnation&(1<<48-1))
}

// Number is the number of the node's name.
func (n Node) Number() uint16 { return uint16(n >> 48) }

// Incarnation tells this run from others under the same name; a later one is greater.
func (n Node) Incarnation() uint64 { return uint64(n & (1<<48 - 1)) }

// Epoch is the id of the view that made a node the owner of a partition: the view's number and the node that made it. Two epochs are the same
// or not; neither is "later".
type Epoch struct {
	View  uint64
	Maker Node
}

// Ref names a session on its node: the netpoll.ID of its conn. The first byte is the loop. A Ref is never reused while its
// process lives, so what is sent to one that is gone finds nobody.
type Ref uint64

// Addr names a session anywhere.
type Addr struct {
	Node Node
	Ref  Ref
}

// Outlet is the outlet behind which the session sits.
func (a Addr) Outlet() OutletID { return OutletID{a.Node, uint8(a.Ref >> 56)} }

// Asker tells whether the address is not a session's, but that of a program's or an operator's question: no session has slot and generation 0.
func (a Addr) Asker() bool { return a.Ref<<8 == 0 }

// OutletID names an outlet: a loop of a node.
type OutletID struct {
	Node Node
	Loop uint8
}

// addr names the loop and no session there.
func (id OutletID) addr() Addr { return Addr{id.Node, Ref(id.Loop) << 56} }

// less is the order of a room's outlets.
func (id OutletID) less(other OutletID) bool {
	return id.Node < other.Node || id.Node == other.Node && id.Loop < other.Loop
}

// RoomID is a room's number: partition:16 | serial:48. A room that is empty and keeps no messages is forgotten; the next one of that name has another number.
type RoomID uint64

func newRoomID(partition uint16, serial uint64) RoomID {
	return RoomID(partition)<<48 | RoomID(serial&(1<<48-1))
}

// Partition is the partition of the room.
func (r RoomID) Partition() uint16 { return uint16(r >> 48) }

func (r RoomID) serial() uint64 { return uint64(r & (1<<48 - 1)) }

// Partitions is the number of hash partitions of room names; it outlives any number of workers and nodes.
const Partitions = 1024

// Partition is the partition of a room: FNV-1a of its name.
func Partition(room string) uint16 {
	h := uint32(2166136261)
	for i := 0; i < len(room); i++ {
		h = (h ^ uint32(room[i])) * 16777619
	}
	return uint16(h % Partitions)
}
