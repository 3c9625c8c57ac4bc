package netpoll

import (
	"testing"
	"time"
)

// turner rings for its loop's next turn in each turn, until it has had so many.
type turner struct {
	reader
	loop  *Loop
	turns chan int
	left  int
}

func (h *turner) Turn() {
	h.reader.Turn()
	h.turns <- h.left
	if h.left--; h.left > 0 {
		h.loop.ringOwn()
	}
}

// A loop that rings for itself turns without anything having been written to its driver's doorbell; others' rings, before and after, are heard as ever.
func TestOwnRingsCostNoCall(t *testing.T) {
	d, err := NewEpoll()
	if err != nil {
		t.Fatal(err)
	}
	h := &turner{turns: make(chan int, 100), left: 3}
	l := NewLoop(0, h, d, Limits{}, NewBudget(1), nil)
	h.loop, h.box = l, NewMailbox[int](l.Ring)
	l.ringOwn()
	h.box.Post(1) // rung already
	if isReady(d) {
		t.Fatal("the doorbell was written to")
	}
	ended := make(chan error)
	run := func() { ended <- d.Run(l) }
	go run()
	wait := func(what string) {
		t.Helper()
		select {
		case <-h.turns:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: no turn", what)
		}
	}
	for range 3 {
		wait("its own rings")
	}
	for range 10 { // the loop sleeps, or is about to
		h.box.Post(2)
		wait("somebody else's ring")
	}
	d.Stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if h.read != 11 {
		t.Errorf("%d of 11 messages were read", h.read)
	}
	h.left = 2
	l.ringOwn() // between two runs: it is not forgotten
	go run()
	wait("rung while it rested")
	wait("again")
	d.Stop()
	<-ended
	d.CloseAll()
}

// isReady tells whether something is in the doorbell of d.
func isReady(d *Epoll) bool {
	events, err := d.poller.wait(0)
	return err != nil || len(events) > 0
}
