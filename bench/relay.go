//go:build linux

package main

import (
	"errors"
	"sync"
)

// relay lets the runs of one round share the time of their windows: each measures for a slice, rests while the others
// measure theirs, and goes on. What the machine does meanwhile then meets all of them within seconds, not only within a
// round. Only the run that has the baton does anything; it alone may touch the other fields.
type relay struct {
	baton  []chan struct{} // by run
	out    []bool          // those that have ended
	failed bool
}

var errOther = errors.New("another run of the round failed")

func newRelay(n int) *relay {
	y := &relay{baton: make([]chan struct{}, n), out: make([]bool, n)}
	for i := range y.baton {
		y.baton[i] = make(chan struct{})
	}
	return y
}

// run carries out all, the first one first, and returns when all have ended. Its error is that of the first that failed by
// itself.
func (y *relay) run(do func(i int) error) error {
	errs := make([]error, len(y.baton))
	var all sync.WaitGroup
	for i := range y.baton {
		all.Go(func() {
			<-y.baton[i]
			if !y.failed {
				errs[i] = do(i)
			}
			y.failed = y.failed || errs[i] != nil
			y.out[i] = true
			if j := y.next(i); j != i {
				y.baton[j] <- struct{}{}
			}
		})
	}
	y.baton[0] <- struct{}{}
	all.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, errOther) {
			return err
		}
	}
	return errors.Join(errs...)
}

// rest has run i wait until all others have had their slice.
func (y *relay) rest(i int) error {
	if j := y.next(i); j != i {
		y.baton[j] <- struct{}{}
		<-y.baton[i]
	}
	if y.failed {
		return errOther
	}
	return nil
}

// next is the run behind i that has not ended; i when there is none.
func (y *relay) next(i int) int {
	n := len(y.out)
	for k := 1; k < n; k++ {
		if j := (i + k) % n; !y.out[j] {
			return j
		}
	}
	return i
}
