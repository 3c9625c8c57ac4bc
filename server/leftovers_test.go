//go:build linux

package server

import (
	"testing"
	"time"
)

// What a rush has left is given back when it is over, once, and not for a little.
func TestLeftovers(t *testing.T) {
	const mib = 1 << 20
	given := 0
	l := leftovers{giveBack: func() { given++ }}
	now, made := time.Unix(1e9, 0), int64(0)
	for i, tc := range []struct {
		taken, lives, more int64 // MiB; more was made since the last reading
		pass               time.Duration
		gives              int
	}{
		{60, 30, 50, memoryEvery, 0}, // clients come
		{75, 33, 2, memoryEvery, 0},
		{75, 33, 0, memoryEvery, 1},
		{35, 33, 0, memoryEvery, 0},
		{75, 33, 40, memoryEvery, 0}, // the next rush, soon
		{75, 33, 0, giveBackEvery - 3*memoryEvery, 0},
		{75, 33, 0, memoryEvery, 1},
		{73, 33, 0, memoryEvery, 0},
		{73, 33, 0, giveBackEvery, 0}, // it did not help, and would not now
		{48, 33, 0, giveBackEvery, 0}, // it is too little
		{63, 33, 0, giveBackEvery, 0},
		{64, 33, 0, giveBackEvery, 1}, // 16 more than could not be given back
		{1300, 1000, 0, memoryEvery, 0},
		{1700, 1000, 0, giveBackEvery, 1},
	} {
		now, made, given = now.Add(tc.pass), made+tc.more*mib, 0
		if l.step(now, goUsage{taken: tc.taken * mib, lives: tc.lives * mib, made: made}); given != tc.gives {
			t.Errorf("reading %d: given back %d times, want %d", i, given, tc.gives)
		}
	}
}
