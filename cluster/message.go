package cluster

import "github.com/pomelod/pomelod/channel"

// Kind says what a Message is.
type Kind uint8

// The kinds of messages that travel over links, and who sends them to whom.
const (
	// KindRequest: Request, from a node to the owner.
	KindRequest Kind = iota + 1
	// KindNotOwner: Request.N of the receiver's requests has reached a node that does not own the partition under View.
	KindNotOwner
	// KindServe: the sender owns the partition since Epoch, born in Born; it has executed the receiver's requests up to In, numbered its
	// items up to Out, and keeps those after Index. The first message of an owner to a node, before its items.
	KindServe
	// KindItems: Items of one turn's decisions, from the owner to a node, under Epoch. In is the last of the receiver's requests that led to them;
	// 0 if none did.
	KindItems
	// KindConfirm: the sender has applied all items up to Out, under Epoch, and has the answers to its requests up to In.
	KindConfirm
	// KindResend: the sender lacks items from Out+1 on.
	KindResend
	// KindSnapshot: part number In of a snapshot, from the owner to a follower or joiner: State, as channel.Snapshot has it, at Index; in the
	// last part also the kept Items and the running Hash.
	KindSnapshot
	// KindRecords: Records and Items of one turn's decisions, from the owner to a follower or joiner. Index is the number of the last of the
	// records, Hash the running hash after them, every 64th time.
	KindRecords
	// KindAck: the sender has all records up to Index, and so many parts of the snapshot: In.
	KindAck
	// KindConfirmed: Node has confirmed items up to Out, from the owner to a follower or joiner.
	KindConfirmed
	// KindInStep: the joiner named by Naming has everything that is released, from the owner to the maker.
	KindInStep
	// KindDropFollower: the follower or joiner named by Naming does not acknowledge, from the owner to the maker.
	KindDropFollower
	// KindSealed: the owner has stopped at Index, as the move Moving wants, to the follower.
	KindSealed
	// KindReady: the follower has everything up to the seal of Moving, to the maker.
	KindReady
	kinds
)

// Message is what travels over a link. Only the fields that its kind names are set, and Part and Epoch always.
type Message struct {
	Kind    Kind
	Part    uint16
	Epoch   ViewID
	Naming  ViewID // Snapshot, Records, Ack, Confirmed, Sealed, InStep, DropFollower: the view that named the follower or joiner
	Moving  ViewID // Sealed, Ready
	Born    ViewID // Serve
	View    ViewID // NotOwner
	Index   uint64
	In, Out uint64
	Hash    uint64
	Node    channel.Node
	Request channel.Request
	Records []channel.Record
	Items   []channel.Item
	State   []byte
}
