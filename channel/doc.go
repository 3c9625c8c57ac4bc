// Package channel owns the rooms. A room (Pomelo's "channel", named by a client's rid) belongs to one of 1024 partitions, chosen by
// the hash of its name, and a partition has one owner. So joining, leaving, sending and the uniqueness of a name need no lock and have
// no race.
//
// # The machine
//
// A partition is a machine: its rooms and their members, the slow modes set for its rooms, its own time, and the channels to the nodes
// that have asked it something. Its owner executes one input after the other (a Request, a Tick, the death of a node), each in four steps:
//
//	admit   may this be taken now? Looks at the state and at the outlets (full? too many rooms?)
//	decide  state, request, input → records, items.   Pure: no clock, no flag, no map order, no atomic
//	apply   changes the state by the records.         The only code that changes it
//	post    hands the items to the outlets, then flushes each
//
// A panic in admit or decide leaves the state as it was. A Record is a plain value that says what was decided: "b is a member of r", and
// not "b asked to enter". In one process records are applied and forgotten; in a fleet the partition's follower gets them
// too (Keeper). Applied to an empty machine they make the same state, whatever flags, clock or version that machine has. An export is a sequence of records as well.
//
// A Worker is the partitions that run on one loop. They share memory, and nothing else: Export, Import and Release move one of them to
// another worker, in this process or in another one.
//
// # What a room keeps
//
// A room may keep the last messages that were said in it (History), so that a client that was cut off can return without a gap. What is kept and what is
// forgotten are records like all else. Each push has a number in its room's stream (codec.Seq); the answer to an enter tells the latest number,
// and the messages that the client asked for follow that answer, before anything that is said later. A room with messages outlives its last member.
// Which sessions may read them is decided when the room is made (Readers).
//
// # The two ways
//
//	loop ─ Inlet ─► partition ─ Outlet ─► loop
//
// Requests come in by an Inlet, items go out by Outlets; an outlet is one loop of one node. Both are plain data with an encoding and name
// sessions by address (Addr), so it does not matter whether the two ends are one loop, two loops, or two processes.
//
// Between a partition and a node there is a channel with two counters that are part of the state: in, the number of the last request of
// that node that was executed, and out, the number of the last item for it. Numbers have no gaps, and what is refused is numbered too.
// So either side can tell what is missing and what has come twice.
//
// The items of one partition to one loop are one FIFO, and that stream is the only ordering rule there is.
package channel
