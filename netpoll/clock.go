package netpoll

import "time"

// maxTickNanos is the longest time between two ticks that is not a stall of ours.
const maxTickNanos = 3e9

// clock is a loop's time: nanoseconds, which cost a look at the machine's clock, and seconds, which cost nothing. Seconds are counted by
// ticks, from 1, so that a tick of 0 can mean never. Owned by the loop, but for nanos, which is safe from any goroutine. Whatever the driver calls begins
// an event.
type clock struct {
	nanos func() int64 // since some time in the past; never goes back
	start int64        // nanos when the first second began, and later by what stalls have taken
	now   uint32
	ticks uint64 // since the start
	event int64  // nanos as it was read first in this event, turn or tick; 0: it was not
}

func newClock(nanos func() int64) clock {
	if nanos == nil {
		begin := time.Now()
		nanos = func() int64 { return int64(time.Since(begin)) }
	}
	return clock{nanos: nanos, start: nanos(), now: 1}
}

// Now is the loop's time in seconds, for SetDue. Runs on the loop.
func (k *clock) Now() uint32 { return k.now }

// Nanos is the loop's time in nanoseconds. It costs tens of nanoseconds, Now next to nothing. Safe from any goroutine.
func (k *clock) Nanos() int64 { return k.nanos() }

// EventNanos is Nanos as it was when somebody first asked for it in this event, turn or tick: what happens in one of them happens at one time, and the
// machine's clock is looked at once. Runs on the loop.
func (k *clock) EventNanos() int64 {
	if k.event == 0 {
		k.event = k.nanos()
	}
	return k.event
}

// tick counts the seconds that have passed since the last one.
func (k *clock) tick() {
	k.ticks++
	elapsed := k.nanos() - k.start - int64(k.now-1)*int64(time.Second)
	if elapsed > maxTickNanos { // we were stopped or starved, and that is not the peers' fault: one second is counted for all of it
		k.start += elapsed - int64(time.Second)
		elapsed = int64(time.Second)
	}
	k.now += uint32(elapsed / int64(time.Second))
}

// goOn makes it second now.
func (k *clock) goOn(now uint32) {
	k.now = now
	k.start = k.nanos() - int64(now-1)*int64(time.Second)
}
