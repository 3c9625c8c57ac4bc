package netpoll

import (
	"testing"
	"time"
)

// Each wait is counted where the bounds say, and all are added up.
func TestWaits(t *testing.T) {
	for _, tc := range []struct {
		wait time.Duration
		at   int
	}{
		{-1, 0}, {0, 0}, {1, 0}, {WaitBound(0), 0}, {WaitBound(0) + 1, 1}, {WaitBound(1), 1}, {WaitBound(1) + 1, 2}, {WaitBound(14), 14}, {WaitBound(14) + 1, 15}, {time.Hour, 15},
	} {
		var w Waits
		w.add(int64(tc.wait))
		if w.Count[tc.at] != 1 || w.Sum != tc.wait {
			t.Errorf("%v: %v, sum %v; want it at %d", tc.wait, w.Count, w.Sum, tc.at)
		}
	}
}
