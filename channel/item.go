package channel

import (
	"bytes"

	"github.com/pomelod/pomelod/codec"
)

// Outlet carries a worker's items to one loop of one node, in order. Declared here because the worker is its user.
type Outlet interface {
	// Post hands over an item. It never blocks, never does I/O and never fails; what must not be accepted is refused
	// before anything is posted for it (Full). The item is valid until Post returns; what it refers to is immutable.
	Post(*Item)
	// Full tells that the loop has more to write than it should, altogether or for this room: nothing new may be
	// admitted.
	Full(RoomID) bool
	// Flush is called when everything that one input led to has been posted. Until then an outlet may keep items back, to send
	// them together.
	Flush()
}

// ItemKind says what an Item is.
type ItemKind uint8

// The kinds of items.
const (
	// ItemPush: Push goes to every session of Room on the loop, but for To's if To names one.
	ItemPush ItemKind = iota + 1
	// ItemEnter: To is now a member of Room; Body is its answer, nil to a Silent request. Pushes posted before are not for it, those after are. Without a Req it was one before, in the
	// place of a session of its user's that was told of as away all the same, and Returns.
	ItemEnter
	// ItemLeave: To is no longer a member of Room, although its session goes on.
	ItemLeave
	// ItemReply: Body answers To's request Req.
	ItemReply
	// ItemDirect: Push goes to To only, if it is still in Room (0: wherever it is). To one that is no session (Addr.Asker) it is for all sessions of its node.
	ItemDirect
	// ItemKick: To's session ends if it is still in Room (0: wherever it is); Body is the reason it is told.
	ItemKick
	// ItemVolatile: Push goes to every session of Room on the loop that takes what it is written, unless a later one of its route comes before that can begin. It has no
	// number among the room's pushes.
	ItemVolatile

	itemKinds
)

// Item is one decision of a worker on its way to a loop.
type Item struct {
	Kind  ItemKind
	Open  bool   // Body is a list that lacks its end (End)
	Part  uint16 // the partition that decided
	Req   uint32 // ItemEnter, ItemReply: the number the loop gave the request
	Count uint32 // ItemEnter: Members and Returns. ItemPush: 0, or Urgent. ItemKick: 0, or RoomEnds
	Epoch Epoch  // of the partition: another one means that its owner has changed
	N     uint64 // number among the partition's items for To's node, from 1, without gaps
	Room  RoomID
	Seq   uint64 // of Room, after this item: every push adds one
	To    Addr   // ItemPush: the loop, or the session on it that is left out
	Push  *codec.Push
	Body  []byte // immutable; longer lists of the same room may share its memory
	Tail  string // what follows the list of an Open body, if not ListEnd: more members of the answer
}

// Urgent is the Count of an ItemPush that does not wait for the room's hold (Request.Urgent).
const Urgent = 1

// RoomEnds is the Count of an ItemKick that ends a room with all its members: a session that is in other rooms, too, may go on in them.
const RoomEnds = 1

// returned is the bit of the Count of an ItemEnter of who has its place again, or takes it over from another session of its user's: others are not told that it comes.
const returned = 1 << 31

// Members is how many members the Room of an ItemEnter has, To included.
func (it *Item) Members() int { return int(it.Count &^ returned) }

// Returns tells whether To was away in the Room of an ItemEnter and has its place again, or has it from another session of its user's.
func (it *Item) Returns() bool { return it.Count&returned != 0 }

// Replaces tells whether the item ends a session because its user has come back to Room by another one, which may go to its other rooms, too.
func (it *Item) Replaces() bool {
	return it.Kind == ItemKick && it.Room != 0 && bytes.Equal(it.Body, replacedReason)
}

// ListEnd ends a list of users. Lists that grow share what comes before it.
const ListEnd = "]}"

// End is what follows Body where the item is made an answer; nothing, unless the item is Open.
func (it *Item) End() string {
	switch {
	case !it.Open:
		return ""
	case it.Tail != "":
		return it.Tail
	}
	return ListEnd
}
