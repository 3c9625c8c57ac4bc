package netpoll

import "math"

// Ready tells the loop that fd may be read or written. It is a hint: fd may have been closed, or be another socket by now.
func (l *Loop) Ready(fd int, readable, writable bool) {
	c := l.sockets.owner(fd)
	if c == nil {
		return
	}
	l.clock.event = 0
	if writable && c.out != nil && c.out.bytes > 0 {
		l.outboxes.drain(c)
	} else if writable && c.secured {
		l.writeSealed(c)
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

// Failed is called by the driver when fd's connection has failed, unless it has reported that as readiness. Runs on the loop.
func (l *Loop) Failed(fd int) {
	if c := l.sockets.owner(fd); c != nil {
		l.clock.event = 0
		l.fail(c)
		l.endEvent()
	}
}

// Turn does everything that waits; the driver calls it after Ring.
func (l *Loop) Turn() {
	l.clock.event = 0
	l.doorbell.answer()
	l.accepted.Drain(math.MaxInt, l.adopt) // all: a look at every conn a turn later must find those that were on their way
	if l.budget.Handshakes != nil {
		l.turnShaking()
	}
	l.call.handler.Turn()
	l.callDue()
	l.callLate()
	l.goOn()
	now := int64(0)
	if len(l.passes.active) > 0 {
		now = l.nanos()
	}
	l.writeStaged(now)
	l.passes.burst = 0
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
	if now := l.EventNanos(); l.passes.mayBegin(now) {
		l.writeStaged(now)
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

// WriteOut writes what is staged in the middle of an event, for a handler that stages more than should wait for its end. Nothing of the handler is called in it: peers that fetch are offered
// theirs later. Runs on the loop.
func (l *Loop) WriteOut() {
	was := l.offers.later
	l.offers.later = true
	l.outboxes.flushDirty()
	l.offers.later = was
	l.Ring()
}

// Tick tells the loop that a second may have passed.
func (l *Loop) Tick() {
	l.clock.event = 0
	l.clock.tick()
	l.callDue() // first: what the handler says to late peers is better than an end without a word
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
	if len(l.outboxes.dirty) > 0 || len(l.passes.active) > 0 || l.waiting.any() || l.inboxes.unlooked > 0 || l.wheel.behind() || l.doorbell.slow() || l.behindShaking() {
		l.ringOwn()
	}
}

// callDue calls the handler for conns whose deadline has passed, a share of them in each turn.
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

// callLate calls the handler for peers that have begun something and not finished it in time. Each tick has all of them looked at, a share in
// each turn.
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
