package channel

import "github.com/pomelod/pomelod/codec"

// Inlet carries requests to the owner of a partition, in order. It is to a loop what an Outlet is to a partition. The loop that posts, and
// everything else that asks rooms for something, is its user; it is declared here so that the two stand together.
type Inlet interface {
	// Post hands over a request, whose Part is set. It never blocks, never does I/O and never fails; what must not be accepted is
	// refused before it is posted (Full). Content is only valid until Post returns.
	Post(Request)
	// Full tells that the owner has more to do than it should: nothing that is Sheddable may be posted.
	Full() bool
}

// Op says what a Request asks for. Enter, Leave and Members are the sample application's remote service (chatRemote add,
// kick and get) as data.
type Op uint8

// The operations.
const (
	// OpEnter adds User to Room: ItemEnter, or ItemReply with EnterRefused. With Prev, the session's present name in the
	// same room, it changes the name. With the Key of the session that has the name, From takes that session's place, which is
	// kicked; the others are told nothing. Nor are they when User is away and returns: with its Key, or, if it has none, from where it was. No two
	// members have one fold; with the Key of the member that has the same one, From enters in its place.
	OpEnter Op = iota + 1
	// OpLeave removes User from Room if it still is the session From. With Cut its place is kept for Limits.Grace. It is never refused and never
	// answered. With a Key the session that has User's place by that already is told so (ItemEnter).
	OpLeave
	// OpSend pushes onChat to Room, or to Target alone.
	OpSend
	// OpMembers answers with the names in Room, and with those of them that are away, if there are any: {"users":[…],"away":[…]}. With Ext it answers a member with a page of them, {"users":[…],"count":…,"next":…}: Ext.Most at most, those that entered
	// after the one of the serial Ext.Since.
	OpMembers
	// OpPush pushes Route with Content to Room, or to Target alone; if it is Silent, volatile to all of Room (ItemVolatile); without a Room to all of User's sessions (OpBind), but for those behind From's node if it is Silent. From
	// nobody. With Ext it is an operator's, as OpSay is then: with the same Ext.Mid it is done once, and the answer is {"seq":…,"time":…,"loops":…,"members":…}, of the first time with "again".
	OpPush
	// OpKick ends Target's session; Content is the reason it is told, as JSON text. With Everybody it ends those of all members, and the room, with
	// what it keeps. Without a Room it ends all of User's sessions (OpBind).
	OpKick
	// OpSlow sets Room's slow mode; Content is the milliseconds between two messages of a member, as JSON: 0 turns it off,
	// a negative number gives back what all rooms have. From nobody, or one that wants an answer.
	OpSlow
	// OpHistory answers a member with what Room keeps before Ext.Since, Ext.Most messages at most: {"messages":[…],"more":…}. One who asks for an
	// operator is told all of it (Addr.Asker), or Absent.
	OpHistory
	// OpSay pushes onChat from User, who need be no member, to all of Room, which keeps it as it keeps what members say. From nobody.
	OpSay
	// OpPushExcept pushes Route with Content to all of Room but Target, who need not be there. From nobody.
	OpPushExcept
	// OpCount answers with how many members Room has, without a Room how many sessions User has: {"count":…}.
	OpCount
	// OpNothing takes the place, and the number, of a request that nobody waits for any more. It is never answered.
	OpNothing
	// OpClaim counts From as one of User's sessions, which is a user and no member (Limits.Sessions): Done, or ClaimRefused. With a Key that another of
	// them has, From takes its place. Part is the partition of User.
	OpClaim
	// OpRelease takes From out of User's sessions. It is never refused and never answered.
	OpRelease
	// OpBind is OpClaim for a program, which says with each request how many sessions User may have. Content is that as JSON: 0 is any number; of n more are refused
	// (ClaimRefused); of -n the oldest are ended, and stay User's until they say so (OpRelease). Done, or {"waits":…} with how many have yet to do that. A request that comes
	// again is answered anew.
	OpBind
	// OpLife answers with what tells the life of Room from others of its name: {"life":…}, 0 if nobody is in it.
	OpLife
	// OpRooms answers with rooms of the partition Part that have members: those whose names begin with Target and stand behind Prev in the order of their bytes, Ext.Most at
	// most: {"rooms":[{"name":…,"members":…}…],"more":…}.
	OpRooms
	// OpDelete deletes messages that Room keeps: the one at Ext.Since, those with the id Ext.Mid, of which Content is the text as JSON, or else what User has said, so many at
	// most as one decision may. Extended sessions in the room are told of each: onDelete. It answers {"deleted":…,"more":…}, Absent where there are none, or Busy, and
	// executes nothing for a session.
	OpDelete
	// OpSet sets what clients may do in Room, and how many members it has room for: Content is {"locked":…,"capacity":…,"pass":…} or some of that, where 0 and false take back. Done, or Refused
	// with a reason where there are too many rooms without members. From an operator or a program, as the next two.
	OpSet
	// OpData makes the member "data" of Content, JSON, Room's data; null is none. With "was" in it that must be what the data is until now: else Conflict.
	OpData
	// OpRoom answers with what there is to know of Room, or Absent: {"name":…,"members":…,"locked":true,"capacity":…,"password":true,"data":…}, of what is set only that.
	OpRoom

	ops
)

// Request is what a session asks of a worker. The strings and Content are valid until Handle returns; what the
// worker keeps of them it may keep because strings are immutable.
type Request struct {
	Op      Op
	Part    uint16 // Partition(Room), where Room is empty Partition(User), so that a name is hashed once; OpRooms: any
	Silent  bool   // OpEnter: nobody reads the list of users, so none is made; the loop still learns that it is done. OpPush: volatile; without a Room, not to those behind From's node
	Req     uint32 // number for the answer; 0: no answer is wanted
	N       uint64 // number among the requests of From's node to this partition, from 1; 0: the next, as nothing can be lost between
	From    Addr
	Room    string
	User    string
	Prev    string    // OpEnter, OpRooms
	Key     uint64    // OpEnter: what proves that two sessions are one user's, OpClaim: one client's; OpLeave: that of an enter, of a session that was told of as away; 0 for none
	Target  string    // OpSend, OpPush, OpKick: a name, or Everybody; OpSay: Everybody; OpPushExcept: a name
	Route   string    // OpPush, OpPushExcept
	Fold    string    // OpEnter: of User, else of Target, what is the same of names that look alike; empty if it is the name itself
	Ext     *Extended // nil unless the session is extended
	Near    uint64    // OpEnter, OpLeave: where the client is, as far as that tells it from others; 0: it does not
	Pass    uint64    // OpEnter: what the client shows for a room that has a password, a hash of that, or PassAll; 0: nothing
	Handed  uint64    // OpLeave with Cut: number of the last of Room's pushes that the session was sent; 0: nobody knows. OpLeave: Unheard
	Cut     bool      // OpLeave: the session was cut off, and did not say goodbye
	Short   bool      // OpEnter: memory is short where From is, so only a user that returns may enter
	Locked  bool      // OpEnter: an operator has locked the room where From is, so only a member, or a user that returns, may enter
	Urgent  bool      // OpPush, OpPushExcept, OpSay, OpDelete: it does not wait for the room's hold
	Content []byte    // JSON as codec.AppendCanonical writes it: what is said, pushed (an object), or a reason (a string)
}

// Extended is what only extended sessions ask for.
type Extended struct {
	// Since is a place in the room's stream, if HasSince. OpEnter: what was said after it is wanted; OpHistory: before it; OpDelete: the message. OpMembers: Number is the serial of an entry.
	Since    codec.Seq
	HasSince bool
	Most     uint32 // messages that are wanted: OpEnter without Since, the last ones; OpHistory. OpMembers: names
	Mid      uint64 // OpSend, OpPush, OpSay, OpDelete: a hash of the message's id; 0: it has none
}

// Unheard is Request.Handed of a session that ended, or gave up its enter, before that was answered: it was told nothing of what it had missed.
const Unheard = 1<<64 - 1

// Weight is what the request counts in a worker's Inbox: 1, and 1 more for each 4 KiB of content.
func (r *Request) Weight() int64 { return 1 + int64(len(r.Content)>>12) }

// Everybody is the target of a send to the whole room. It can be nobody's name.
const Everybody = "*"

// Sheddable tells whether the request may be refused for want of room. A leave or a kick may not: it sets things free. Slow mode, and a lock, are
// what a flooded room needs. Nothing has a number to keep.
func (r *Request) Sheddable() bool {
	return !r.Op.Leaves() && r.Op != OpKick && r.Op != OpSlow && r.Op != OpSet && r.Op != OpNothing
}

// Leaves tells whether requests of this kind only set free what a session has. They must be executed, however long that takes.
func (o Op) Leaves() bool { return o == OpLeave || o == OpRelease }

// The bodies of answers (protocol.md §1): every refusal of enter has "error", which stock pages test.
var (
	Done         = []byte(`{}`)
	Refused      = []byte(`{"code":500}`)
	Absent       = []byte(`{"code":404}`) // to OpPush, OpPushExcept, OpSay and OpKick: nobody is there to get it; to OpDelete: there is nothing to delete
	EnterRefused = []byte(`{"code":500,"error":true}`)
	Busy         = []byte(`{"code":503}`) // to OpDelete: the room has too much to write; nothing is deleted, and another request later may succeed
)

// RefusedBody is the body that refuses a request of this kind.
func (o Op) RefusedBody() []byte {
	if o == OpEnter {
		return EnterRefused
	}
	return Refused
}
