package netpoll

import "time"

// Stats are a loop's figures: counters since the start, then gauges.
type Stats struct {
	Opened          uint64
	Closed          [256]uint64 // by Reason
	BytesRead       uint64
	BytesWritten    uint64
	Writes          uint64 // write calls
	WritesNoBuffers uint64 // of these, those for which the kernel had no memory
	Rounds          uint64 // rounds of passes: what was pushed to a group was written to all its members
	Outdated        uint64 // volatile frames that were not sent, as a later one of their kind came first
	Withheld        uint64 // those that a conn was not sent, as it had unsent bytes
	Panics          uint64
	Throttled       uint64 // times a conn was not read until it took what it had asked for
	Yielded         uint64 // times a conn had asked for so much that others came first
	PutOff          uint64 // times the conns of one client together had
	Ticks           uint64 // looks for late peers, one a second

	Conns   int // open sockets
	Pulls   int // conns without a socket
	Backlog int // bytes in the logs of groups
	Unsent  int // bytes kept for peers that do not take them
	Slow    int // conns with unsent bytes
	Unread  int // sockets that are not read
	Secured int // of the open sockets, those whose peers speak TLS

	Delay time.Duration // for which the last doorbell waited, and so did events
	Waits Waits
}

// Stats tells the loop's figures. Runs on the loop.
func (l *Loop) Stats() Stats {
	return Stats{
		Opened: l.counts.opened, Closed: l.counts.closed, Panics: l.call.panics,
		BytesRead:    l.sockets.read,
		BytesWritten: l.outboxes.written, Writes: l.outboxes.writes, WritesNoBuffers: l.outboxes.noBuffers,
		Rounds: l.passes.rounds, Outdated: l.passes.outdated, Withheld: l.passes.withheld, Ticks: l.clock.ticks,
		Throttled: l.waiting.throttles, Yielded: l.waiting.yields, PutOff: l.waiting.putOffs,

		Conns: l.Open(), Pulls: l.Pulls(),
		Backlog: l.passes.backlog, Unsent: l.ledger.unsent, Slow: len(l.outboxes.queued), Unread: l.ledger.unread, Secured: l.secures.n,
		Delay: time.Duration(l.doorbell.waited[1]), Waits: l.doorbell.waits,
	}
}
