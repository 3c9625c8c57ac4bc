package netpoll

// Handler is what a Loop works for. Every method runs on the loop and must not block. A method may stage output
// (Stage, Write, Push), join and leave groups, pause, and end conns; the loop carries all of it out after the method has
// returned.
type Handler interface {
	// Open is called once for each conn that has a socket, and for each that is imported. state is what the handler gave to the conn's
	// Transfer on the loop that it comes from, or what Import was given; nil for a conn that was just accepted. It belongs to the handler.
	Open(c *Conn, state []byte)
	// Data is given the bytes that have not been consumed yet, old ones first. It returns how many of them it consumed, and what becomes
	// of the conn's socket. b may be changed in place; it is valid until Data returns. The rest is kept and given again when more has
	// arrived, or when the conn is resumed. After a Resume, and for a conn from another loop, Data is called even when b is empty.
	Data(c *Conn, b []byte) (used int, next Transfer)
	// Due is called when the deadline of SetDue has passed. The deadline is cleared before.
	Due(c *Conn)
	// Late is called when the peer of c has not finished in Limits.Unfinished what it has begun. It ends the conn, or is called
	// again a second later.
	Late(c *Conn)
	// Write is called for conns without a socket (OpenPull), where others write to theirs, and returns how many bytes it took:
	// whole pushes, or nothing while the peer is not there. b is valid until Write returns.
	Write(c *Conn, b []byte) int
	// Closed is called exactly once for each conn that was opened, when it has left its group and can be named no longer.
	Closed(c *Conn, why Reason)
	// Turn does the handler's own work: mail, workers. It is called when somebody rang.
	Turn()
	// Tick is called about once a second.
	Tick()
	// Passed is called when a turn has written what it may, for telling others how much is left (Loop.Backlog).
	Passed()
}

// Limits bound what conns may hold. docs/ARCHITECTURE.md, "What is bounded", has them beside all others.
type Limits struct {
	// Outbound is how many unsent bytes one conn may have, behind the write with which it fell behind; beyond it ends with ReasonSlow.
	Outbound int
	// Stuck is in how many seconds a conn with unsent bytes must take one; beyond it ends with ReasonStuck.
	Stuck uint32
	// Buffered is how many bytes may be buffered, unsent or received in part, for the conns of all loops that share a Budget; beyond, those with the
	// most end with ReasonMemory.
	Buffered int64
	// Unfinished is in how many seconds a peer must finish what it has begun; beyond, Handler.Late is called. 0 is no limit.
	Unfinished uint32
}
