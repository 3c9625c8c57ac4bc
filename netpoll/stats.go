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
	Panics          uint64
	Throttled       uint64 // times a conn was not read until it took what it had asked for
	Yielded         uint64 // times a conn had asked for so much that others came first
	PutOff          uint64 // times the conns of one client together had

	Conns   int // open sockets
	Pulls   int // conns without a socket
	Backlog int // bytes in the logs of groups
	Unsent  int // bytes kept for peers that do not take them
	Slow    int // conns with unsent bytes
	Unread  int // sockets that are not read

	Delay time.Duration // for which the last doorbell waited, and so did events
}

// Stats tells the loop's figures. Runs on the loop.
func (l *Loop) Stats() Stats {
	s := l.stats
	s.BytesRead, s.Panics = l.sockets.read, l.call.panics
	s.BytesWritten, s.Writes, s.WritesNoBuffers = l.outboxes.written, l.outboxes.writes, l.outboxes.noBuffers
	s.Rounds = l.passes.rounds
	s.Throttled, s.Yielded, s.PutOff = l.waiting.throttles, l.waiting.yields, l.waiting.putOffs
	s.Pulls = l.Pulls()
	s.Conns, s.Backlog, s.Unsent, s.Slow = l.Open(), l.passes.backlog, l.ledger.unsent, len(l.outboxes.queued)
	s.Unread = l.ledger.unread
	s.Delay = time.Duration(l.waited[1])
	return s
}
