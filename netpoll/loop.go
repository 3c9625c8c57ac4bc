package netpoll

// Loop owns conns, the groups they are in, their input and output, and their deadlines. Each of these is a type of its own, with
// its fields, its methods and what always holds, in a file of its own; Loop is what an event, a turn and a tick make of them (turn.go), how bytes come to the handler
// (deliver.go), how conns end (life.go), and how they go to another loop (transfer.go) or process (handover.go).
//
// A type knows only those above it in the list, and calls nothing back but the handler, by calls. All methods run on the loop unless they say otherwise.
type Loop struct {
	slots            // where conns live: Find, Each
	clock            // what time it is: Now, Nanos
	doorbell         // whether a turn was asked for, and for how long it has waited: Ring, Overrun
	wheel            // what is due when: SetDue
	ends             // conns that have been ended in this event: Kill
	counts           // how many there are: Open, Pulls
	ledger   ledger  // how many bytes are buffered, for the Budget
	call     calls   // the handler, and what a panic there costs
	sockets          // descriptors: which conn has each, what epoll watches it for
	secures  secures // TLS: what stands between conns and their sockets
	inboxes          // what peers have sent, and is kept: Keep, TakeInput
	waiting          // conns that are not read, or not yet: Pause, Hold, Throttle
	memory   sharing // what several queues refer to
	offers   offers  // writes to conns without a socket
	outboxes         // what conns have yet to be sent: Stage, Write, Lend
	passes           // what groups have yet to be sent: Join, Push

	limits   Limits
	budget   *Budget
	accepted *Mailbox[incoming]   // sockets on their way to this loop
	shaken   *Mailbox[*handshake] // TLS handshakes that have taken a step
}

// NewLoop makes a loop. Its driver must be turned by one goroutine, which then owns the loop. nanos is a monotonic
// clock; nil means the real one.
func NewLoop(index uint8, h Handler, d Driver, limits Limits, budget *Budget, nanos func() int64) *Loop {
	l := &Loop{slots: slots{index: index}, clock: newClock(nanos), limits: limits, budget: budget}
	_, asks := d.(asker)
	l.doorbell = doorbell{driver: d, clock: &l.clock, asks: asks}
	l.ledger = ledger{budget: budget, bell: &l.doorbell}
	budget.loops = append(budget.loops, &l.ledger)
	l.wheel = wheel{conns: &l.slots, clock: &l.clock, at: l.now}
	l.call = calls{handler: h, ends: &l.ends}
	l.sockets = sockets{driver: d, conns: &l.slots, clock: &l.clock, ends: &l.ends, ledger: &l.ledger, buf: make([]byte, readBytes)}
	l.secures = secures{driver: d, ledger: &l.ledger}
	l.inboxes = inboxes{clock: &l.clock, ledger: &l.ledger, limit: limits.Unfinished}
	l.waiting = waiting{clock: &l.clock, sockets: &l.sockets, shares: shares{bell: &l.doorbell, clock: &l.clock}}
	l.memory = sharing{ledger: &l.ledger}
	l.offers = offers{call: &l.call, clock: &l.clock}
	l.outboxes = outboxes{
		driver: d, clock: &l.clock, ends: &l.ends, sockets: &l.sockets, secures: &l.secures, waiting: &l.waiting, offers: &l.offers, memory: &l.memory, limits: &l.limits,
	}
	l.passes = passes{clock: &l.clock, ends: &l.ends, outboxes: &l.outboxes, memory: &l.memory, slice: sliceConns}
	l.counts.budget = budget
	l.accepted = NewMailbox[incoming](l.Ring)
	l.shaken = NewMailbox[*handshake](l.Ring)
	return l
}

// SetLimits has other limits hold for all conns from now on. Limits.Buffered is the budget's (Budget.SetLimit). Runs on the event loop.
func (l *Loop) SetLimits(limits Limits) { l.limits, l.inboxes.limit = limits, limits.Unfinished }
