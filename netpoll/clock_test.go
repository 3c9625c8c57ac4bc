package netpoll

import (
	"testing"
	"time"
)

// Seconds are counted whole; what is left of one counts for the next; a long time between two ticks counts as one second.
func TestClock(t *testing.T) {
	at := int64(7e9) // clocks need not begin at 0
	k := newClock(func() int64 { return at })
	for i, step := range []struct {
		after time.Duration
		now   uint32
	}{
		{0, 1},
		{999 * time.Millisecond, 1},
		{time.Millisecond, 2},
		{2500 * time.Millisecond, 4},
		{500 * time.Millisecond, 5},
		{3 * time.Second, 8},
		{3*time.Second + 1, 9}, // a stall
		{time.Second, 10},
		{24 * time.Hour, 11},
		{999 * time.Millisecond, 11},
		{time.Millisecond, 12},
	} {
		at += int64(step.after)
		if k.tick(); k.Now() != step.now {
			t.Errorf("step %d: it is second %d, want %d", i, k.Now(), step.now)
		}
	}
	if k.Nanos() != at {
		t.Errorf("%d ns, want %d", k.Nanos(), at)
	}
}
