//go:build linux

package server

import (
	"context"
	"runtime/debug"
	"time"
)

// What a rush of clients has left is given back when less than quietBytes is allocated in a second, if it is leastLeft or more, but no more often than once
// in giveBackEvery.
const (
	leastLeft, quietBytes = 16 << 20, 1 << 20
	giveBackEvery         = time.Minute
)

// leftovers gives the kernel what a rush of clients has left, such as ten thousand TLS handshakes, when it is over. Go collects when there is as much garbage as
// there is that lives; where nobody makes any more it keeps the garbage for minutes, and the room for it for good.
type leftovers struct {
	giveBack func() // has Go collect, and give the kernel what is free

	made  int64 // at the last reading
	gave  time.Time
	after bool  // the next reading tells what giving back has left
	stuck int64 // what it could not give back, at most: holes between what lives
}

// step takes one reading a second and acts on it. While much is allocated, what is given back would be asked for again at once.
func (l *leftovers) step(now time.Time, goes goUsage) {
	quiet := goes.made-l.made < quietBytes
	l.made = goes.made
	left := goes.taken - goes.lives
	if l.after {
		l.after, l.stuck = false, left
	}
	l.stuck = min(l.stuck, left)
	if quiet && left-l.stuck >= max(leastLeft, goes.lives/3) && now.Sub(l.gave) >= giveBackEvery {
		l.gave, l.after = now, true
		l.giveBack()
	}
}

// watchLeftovers steps until ctx ends.
func watchLeftovers(ctx context.Context) {
	l := leftovers{giveBack: debug.FreeOSMemory}
	l.step(time.Now(), goMemory())
	for range ticks(ctx, memoryEvery) {
		l.step(time.Now(), goMemory())
	}
}
