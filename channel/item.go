package channel

import "github.com/pomelod/pomelod/codec"

// Ref names a session on its node: the netpoll.ID of its conn. The first byte is the loop. A Ref is never reused while its
// process lives, so what is sent to one that is gone finds nobody.
type Ref uint64

// Addr names a session anywhere.
type Addr struct {
	Node uint16
	Ref  Ref
}

// OutletID names an outlet: a loop of a node.
type OutletID uint32

// Outlet is the outlet behind which the session sits.
func (a Addr) Outlet() OutletID { return OutletID(a.Node)<<8 | OutletID(a.Ref>>56) }

// Outlet carries a worker's items to one loop, in order. Declared here because the worker is its user.
type Outlet interface {
	// Post hands over an item. It never blocks, never does I/O and never fails; what must not be accepted is refused
	// before anything is posted for it (Full).
	Post(Item)
	// Full tells that the loop has more to write than it should, altogether or for this room: nothing new may be
	// admitted.
	Full(RoomID) bool
}

// RoomID is a room's number: worker:16 | serial:48. An empty room is forgotten; the next one of that name has another number.
type RoomID uint64

// Worker is the index of the worker that owns the room.
func (r RoomID) Worker() int { return int(r >> 48) }

// ItemKind says what an Item is.
type ItemKind uint8

// The kinds of items.
const (
	// ItemPush: Push goes to every session of Room on the loop.
	ItemPush ItemKind = iota + 1
	// ItemEnter: To is now a member of Room; Body is its answer, nil to a Silent request. Pushes posted before are not for it, those after are.
	ItemEnter
	// ItemLeave: To is no longer a member of Room, although its session goes on.
	ItemLeave
	// ItemReply: Body answers To's request Req.
	ItemReply
	// ItemDirect: Push goes to To only.
	ItemDirect
	// ItemKick: To's session ends if it is still in Room (0: wherever it is); Body is the reason it is told.
	ItemKick

	itemKinds
)

// Item is one decision of a worker on its way to a loop.
type Item struct {
	Kind  ItemKind
	Open  bool   // Body is a long list that lacks its end, ListEnd
	Epoch uint32 // of Room: another one means that its owner has changed
	Req   uint32 // ItemEnter, ItemReply: the number the loop gave the request
	Room  RoomID
	Seq   uint64 // of Room, after this item: every push adds one
	To    Addr   // all but ItemPush
	Push  *codec.Push
	Body  []byte // immutable; longer lists of the same room may share its memory
}

// ListEnd ends a list of users. Lists that grow share what comes before it.
const ListEnd = "]}"

// End is what follows Body.
func (it *Item) End() string {
	if it.Open {
		return ListEnd
	}
	return ""
}

// Op says what a Request asks for. Enter, Leave and Members are the sample application's remote service (chatRemote add,
// kick and get) as data.
type Op uint8

// The operations.
const (
	// OpEnter adds User to Room: ItemEnter, or ItemReply with EnterRefused. With Prev, the session's present name in the
	// same room, it changes the name. With the Key of the session that has the name, From takes that session's place, which is
	// kicked; the others are told nothing.
	OpEnter Op = iota + 1
	// OpLeave removes User from Room if it still is the session From. It is never refused and never answered.
	OpLeave
	// OpSend pushes onChat to Room, or to Target alone.
	OpSend
	// OpMembers answers with the names in Room.
	OpMembers
	// OpPush pushes Route with Content to Room, or to Target alone. From nobody.
	OpPush
	// OpKick ends Target's session; Content is the reason it is told, as JSON text.
	OpKick
	// OpSlow sets Room's slow mode; Content is the milliseconds between two messages of a member, as JSON: 0 turns it off,
	// a negative number gives back what all rooms have. From nobody, or one that wants an answer.
	OpSlow

	ops
)

// Request is what a session asks of a worker. The strings and Content are valid until Handle returns; what the
// worker keeps of them it may keep because strings are immutable.
type Request struct {
	Op      Op
	Req     uint32 // number for the answer; 0: no answer is wanted
	Silent  bool   // OpEnter: nobody reads the list of users, so none is made; the loop still learns that it is done
	From    Addr
	Room    string
	User    string
	Prev    string // OpEnter
	Key     uint64 // OpEnter: what proves that two sessions are one user's; 0 for none
	Target  string // OpSend, OpPush: a name, or Everybody; OpKick: a name
	Route   string // OpPush
	Content []byte // JSON as codec.AppendCanonical writes it: what is said, pushed (an object), or a reason (a string)
}

// Weight is what the request counts in a worker's Inbox: 1, and 1 more for each 4 KiB of content.
func (r *Request) Weight() int64 { return 1 + int64(len(r.Content)>>12) }

// Everybody is the target of a send to the whole room. It can be nobody's name.
const Everybody = "*"

// Sheddable tells whether the request may be refused for want of room. A leave or a kick may not: it sets things free. Slow mode is
// what a flooded room needs.
func (r *Request) Sheddable() bool { return r.Op != OpLeave && r.Op != OpKick && r.Op != OpSlow }

// The bodies of answers (protocol.md §1): every refusal of enter has "error", which stock pages test.
var (
	Done         = []byte(`{}`)
	Refused      = []byte(`{"code":500}`)
	EnterRefused = []byte(`{"code":500,"error":true}`)
)

// RefusedBody is the body that refuses a request of this kind.
func (o Op) RefusedBody() []byte {
	if o == OpEnter {
		return EnterRefused
	}
	return Refused
}

// Partitions is the number of hash partitions of room names; it outlives any number of workers and nodes.
const Partitions = 1024

// Partition is the partition of a room: FNV-1a of its name.
func Partition(room string) int {
	h := uint32(2166136261)
	for i := 0; i < len(room); i++ {
		h = (h ^ uint32(room[i])) * 16777619
	}
	return int(h % Partitions)
}
