//go:build linux

package server

import (
	"context"
	"time"
)

// ticks yields once in each d, until ctx ends: for range ticks(ctx, time.Second).
func ticks(ctx context.Context, d time.Duration) func(yield func() bool) {
	return func(yield func() bool) {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if !yield() {
				return
			}
		}
	}
}
