package netpoll_test

import (
	"testing"
	"time"
)

// A loop whose doorbell waits twice in a row is overrun, until one is answered in time. One stall is none of its fault.
func TestOverrun(t *testing.T) {
	_, n, l := newScripted(wide, 1<<40)
	wait := func(d time.Duration) {
		l.Ring()
		n.Pass(d)
		n.Turn()
	}
	const limit = time.Second
	for i, step := range []struct {
		wait time.Duration
		want bool
	}{
		{0, false}, {5 * time.Second, false}, {time.Millisecond, false},
		{1500 * time.Millisecond, false}, {1500 * time.Millisecond, true}, {2 * time.Second, true}, {time.Second, false}, {2 * time.Second, false},
	} {
		wait(step.wait)
		if got := l.Overrun(limit); got != step.want {
			t.Errorf("step %d, after a wait of %v: overrun %v", i, step.wait, got)
		}
	}
	for n.Turn() { // a late loop keeps its doorbell going, and so notices by itself when it is late no more
	}
	if d := l.Stats().Delay; d != 0 || l.Overrun(limit) {
		t.Errorf("left alone it still waits %v", d)
	}
}
