package netpoll

import (
	"math"
	"sync/atomic"
)

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

// Limits bound what conns may hold. See design.md §5.
type Limits struct {
	Outbound    int    // unsent bytes of one conn, behind the write with which it fell behind; beyond: ReasonSlow
	Stuck       uint32 // seconds in which a conn with unsent bytes must take one; beyond: ReasonStuck
	OutboundAll int64  // bytes kept in both directions by all loops that share a Budget; beyond: ReasonMemory for the largest
	Unfinished  uint32 // seconds in which a peer must finish what it has begun; beyond: Handler.Late. 0: no limit
}

// Loop owns conns and groups. All methods run on the loop unless they say otherwise.
type Loop struct {
	slots
	clock
	doorbell
	wheel
	ends
	sockets
	inboxes
	waiting
	outboxes
	passes
	ledger ledger
	memory sharing
	call   calls
	offers offers

	// Static after construction.
	limits Limits
	budget *Budget

	// Safe from any goroutine.
	accepted *Mailbox[incoming]
	open     atomic.Int64 // sockets, those posted by the acceptor included
	pulls    atomic.Int64 // conns without a socket

	stats Stats
}

// NewLoop makes a loop. Its driver must be turned by one goroutine, which then owns the loop. nanos is a monotonic
// clock; nil means the real one.
func NewLoop(index uint8, h Handler, d Driver, limits Limits, budget *Budget, nanos func() int64) *Loop {
	l := &Loop{slots: slots{index: index}, clock: newClock(nanos), limits: limits, budget: budget}
	l.doorbell = doorbell{driver: d, clock: &l.clock}
	l.ledger = ledger{budget: budget, bell: &l.doorbell}
	budget.loops = append(budget.loops, &l.ledger)
	l.wheel = wheel{conns: &l.slots, clock: &l.clock, at: l.now}
	l.call = calls{handler: h, ends: &l.ends}
	l.sockets = sockets{driver: d, conns: &l.slots, clock: &l.clock, ends: &l.ends, ledger: &l.ledger, buf: make([]byte, readBytes)}
	l.inboxes = inboxes{clock: &l.clock, ledger: &l.ledger, limit: limits.Unfinished}
	l.waiting = waiting{clock: &l.clock, sockets: &l.sockets, shares: shares{bell: &l.doorbell, clock: &l.clock}}
	l.memory = sharing{ledger: &l.ledger}
	l.offers = offers{call: &l.call, clock: &l.clock}
	l.outboxes = outboxes{
		driver: d, clock: &l.clock, ends: &l.ends, sockets: &l.sockets, waiting: &l.waiting, offers: &l.offers, memory: &l.memory, limits: &l.limits,
	}
	l.passes = passes{clock: &l.clock, ends: &l.ends, outboxes: &l.outboxes, memory: &l.memory, slice: sliceConns}
	l.accepted = NewMailbox[incoming](l.Ring)
	return l
}

// Open is the number of sockets the loop has or is about to have. Safe from any goroutine.
func (l *Loop) Open() int { return int(l.open.Load()) }

// Ready tells the loop that fd may be read or written. It is a hint: fd may have been closed, or be another socket by now.
func (l *Loop) Ready(fd int, readable, writable bool) {
	c := l.sockets.owner(fd)
	if c == nil {
		return
	}
	if writable && c.out != nil && c.out.bytes > 0 {
		l.outboxes.drain(c)
	}
	if readable {
		l.read(c)
	}
	if o := c.out; o != nil && o.dirty && !l.passes.mayMerge(c) {
		l.outboxes.flushOwn(c)
	}
	l.lingered(c)
	l.writeAtOnce()
	l.endEvent()
}

// Failed is called by the driver when fd's connection has failed, unless it told so as readiness. Runs on the loop.
func (l *Loop) Failed(fd int) {
	if c := l.sockets.owner(fd); c != nil {
		l.fail(c)
		l.endEvent()
	}
}

// Turn does everything that waits; the driver calls it after Ring.
func (l *Loop) Turn() {
	l.doorbell.answer()
	l.accepted.Drain(math.MaxInt, l.adopt) // all: who looks at every conn a turn later must find those that were on their way
	l.call.handler.Turn()
	l.callDue()
	l.callLate()
	l.goOn()
	now := int64(0)
	if len(l.passes.active) > 0 {
		now = l.nanos()
	}
	l.writeStaged(now)
	l.passes.early = 0
	if l.ledger.shedding.Load() {
		l.shed()
	}
	l.endEvent()
}

// writeAtOnce writes what an event has left for the turn, if no turn is due anyway and waiting would merge nothing.
func (l *Loop) writeAtOnce() {
	if len(l.passes.active) == 0 || l.doorbell.rung.Load() {
		return
	}
	if now := l.nanos(); l.passes.mayBegin(now) {
		l.writeStaged(now)
		l.passes.early += l.passes.last - now
	}
}

// writeStaged writes what is staged and what the active groups have, as much of it as a turn may from now on.
func (l *Loop) writeStaged(now int64) {
	l.outboxes.flushDirty()
	l.offers.later = true
	l.passes.run(now)
	l.offers.later = false
	for c := l.offers.next(); c != nil; c = l.offers.next() {
		l.Fetch(c)
	}
	l.call.handler.Passed()
}

// Tick tells the loop that a second may have passed.
func (l *Loop) Tick() {
	l.clock.tick()
	l.callDue() // first: what the handler says to those who are late is better than an end without a word
	l.inboxes.lookAtAll()
	l.callLate()
	l.outboxes.check()
	l.call.handler.Tick()
	l.outboxes.flushDirty()
	l.endEvent()
}

// endEvent ends every event: the dead are reaped, and what is left to do rings for a turn.
func (l *Loop) endEvent() {
	if len(l.ends.marked) > 0 {
		l.reap()
	}
	l.ledger.publish(len(l.outboxes.queued))
	if len(l.outboxes.dirty) > 0 || len(l.passes.active) > 0 || l.waiting.any() || l.inboxes.unlooked > 0 || l.wheel.behind() || l.doorbell.slow() {
		l.Ring()
	}
}

// callDue calls the handler for those whose deadline has passed, a share of them in each turn.
func (l *Loop) callDue() {
	work := turnWork
	for c := l.wheel.next(&work); c != nil; c = l.wheel.next(&work) {
		switch {
		case c.life == lifeLingering:
			l.fail(c) // the peer had its time to close
		case c.Alive():
			l.call.due(c)
		}
	}
}

func (l *Loop) read(c *Conn) {
	switch {
	case c.life == lifeLingering:
		l.readRest(c)
		return
	case c.life != lifeOpen:
		return
	case c.waits&(waitsPaused|waitsThrottled) != 0, c.waits&waitsHeld != 0 && c.Unread() > heldBytes, // level triggering would spin
		c.waits&waitsResumed != 0 && c.in != nil: // what it has sent before comes first
		l.watch(c, c.watched&^Readable)
		return
	case c.in != nil && l.budget.over(): // nobody may keep more while others are ended for it
		l.Ring()
		return
	case l.waiting.shares.spent(c.pass):
		l.waiting.yield(c)
		return
	}
	l.receive(c)
}

// receive reads c once.
func (l *Loop) receive(c *Conn) {
	switch b, ended := l.sockets.receive(c); {
	case ended:
		l.Close(c, ReasonPeer)
	case b != nil:
		l.deliver(c, b)
	}
}

// deliver hands the handler what has arrived and keeps what it leaves.
func (l *Loop) deliver(c *Conn, b []byte) {
	if !c.Alive() { // its socket may have failed before it came to this
		return
	}
	first := c.Unread() == 0
	b = l.inboxes.join(c, b)
	used, next := 0, Transfer{}
	if !c.waits.blocked() {
		l.waiting.shares.serve()
		used, next = l.call.data(c, b)
	}
	rest := b[used:]
	if next.moves() && l.transfer(c, rest, &next) {
		return
	}
	if !c.Alive() {
		l.inboxes.drop(c)
		return
	}
	l.inboxes.retain(c, rest, first || used > 0)
}

// goOn lets those go on who had to wait, for as long as a turn may take for that, so that others are heard in between. Behind them come
// those whose clients had had their share, each for as much as one conn may have.
func (l *Loop) goOn() {
	l.waiting.newTurn()
	if !l.waiting.any() { // mostly, and then nobody looks at the clock
		return
	}
	until := l.nanos() + resumeNanos
	for c := l.waiting.nextResumed(); c != nil; c = l.waiting.nextResumed() {
		l.watch(c, c.watched|Readable)
		l.inboxes.restart(c)
		l.deliver(c, nil)
		if l.nanos() >= until {
			break
		}
	}
	if n := l.waiting.putOff.len(); n > 0 {
		l.goOnPutOff(n)
	}
	l.waiting.endTurn()
}

// goOnPutOff is the second half of goOn, for the first n of those who were put off.
func (l *Loop) goOnPutOff(n int) {
	l.waiting.shares.exempt = true
	until := l.nanos() + lateNanos
	for c := l.waiting.nextPutOff(n); c != nil; c = l.waiting.nextPutOff(n) {
		l.watch(c, c.watched|Readable)
		if c.in == nil && !c.IsPull() {
			l.receive(c)
		} else {
			l.deliver(c, nil)
		}
		if l.nanos() >= until {
			break
		}
	}
	l.waiting.shares.exempt = false
}

// callLate calls the handler for those who have begun something and not finished it in time. Each tick has all looked at who have begun
// something, a share of them in each turn.
func (l *Loop) callLate() {
	looks := lateLooks
	for range lateCalls {
		c := l.inboxes.nextLate(&looks)
		if c == nil {
			return
		}
		l.call.late(c)
	}
}

// adopt makes a conn of a socket that was accepted, or comes from another loop.
func (l *Loop) adopt(in *incoming) {
	c := l.slots.take()
	l.sockets.add(c, in.fd)
	c.tag, c.pass, c.life = in.Tag, in.Pass, lifeOpen
	c.SetPeer(in.Peer)
	if !in.moved {
		l.stats.Opened++
	}
	l.call.open(c, in.Handler)
	l.watch(c, Readable)
	if len(in.Unsent) > 0 {
		l.outboxes.enqueue(c, segment{b: in.Unsent})
	}
	if in.moved {
		l.deliver(c, in.Unread)
	}
}
