package app

import (
	"errors"
	"testing"
	"time"

	"github.com/pomelod/pomelod/internal/hosting"
)

// earlyNode has the time of a timer come before the timer's room is found.
type earlyNode struct {
	hosting.Node
	life uint64
	due  func()
}

func (n *earlyNode) After(_ time.Duration, f func()) (stop func() bool) {
	n.due = f
	return func() bool { return false }
}

func (n *earlyNode) OnRoom(_ string, f func(life uint64, err error)) {
	if due := n.due; due != nil {
		n.due = nil
		due()
	}
	f(n.life, nil)
}

// A room's timer that is due at once is called, and where nobody is it is not.
func TestRoomTimerThatIsDueAtOnce(t *testing.T) {
	for life, want := range map[uint64]int{0: 0, 7: 1} {
		a, called := New(), 0
		hosting.Of(a).Attach(&earlyNode{life: life})
		_, err := a.Room("r").Wait(t.Context()).AfterFunc(0, func() { called++ })
		if called != want || (want == 0) != errors.Is(err, ErrAbsent) {
			t.Errorf("life %d: called %d times, %v", life, called, err)
		}
	}
}
