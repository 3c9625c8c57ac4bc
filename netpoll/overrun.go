package netpoll

import "time"

// watchedDelay is a delay above which the doorbell is kept going, so that its end is noticed.
const watchedDelay = 10 * time.Millisecond

// Overrun tells whether events have to wait for longer than limit until the loop comes to them. The doorbell stands in the
// queue of events like a socket, so what it waits they wait. One long wait is a stall (of the machine, say) that is over
// when it is noticed; it takes two in a row. Runs on the loop.
func (l *Loop) Overrun(limit time.Duration) bool {
	return l.delay[0] > int64(limit) && l.delay[1] > int64(limit)
}
