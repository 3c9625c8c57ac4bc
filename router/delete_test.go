package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
)

// What somebody has said a thousand times is deleted no faster than the room's loops take it, in several decisions; who gives up on the way is told how far it came.
func TestDeletionWaitsForFullLoops(t *testing.T) {
	const many = 230
	for _, givesUp := range []bool{false, true} {
		t.Run(fmt.Sprint("gives up=", givesUp), func(t *testing.T) {
			r := newRig(t, shape{loops: 2}, func(c *Config) {
				c.Limits.LoopBytes = 10_000
				c.Limits.History = History{Messages: 1000, Bytes: 1 << 20, Age: time.Hour, Memory: 1 << 24}
			})
			room := foreignRoom(r, 0)
			r.next = 0
			far := r.login(atConnector, false)
			far.enter("far", room)
			for range many {
				far.ask(routeSend, sendBody("x", "*"))
				far.take()
			}
			owner := r.node.loops[1]
			if n := owner.worker.Stats().Kept; n != many {
				t.Fatalf("%d messages are kept", n)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			type result struct {
				done Deleted
				err  error
			}
			results := make(chan result, 1)
			go func() {
				done, err := r.node.DeleteMessages(ctx, Deletion{Room: room, User: "far"})
				results <- result{done, err}
			}()
			for end := time.Now().Add(time.Minute); owner.worker.Stats().Busy < 2; time.Sleep(time.Millisecond) { // and loop 0 does not turn
				if r.net.TurnLoop(1); time.Now().After(end) {
					t.Fatalf("nothing waits: %+v", owner.worker.Stats())
				}
			}
			if n := owner.worker.Stats().Kept; n != many-100 {
				t.Errorf("%d messages are kept while the loop is full", n)
			}
			if givesUp {
				cancel()
				for end := time.Now().Add(time.Minute); len(results) == 0; time.Sleep(time.Millisecond) {
					if r.net.TurnLoop(1); time.Now().After(end) {
						t.Fatal("it does not give up")
					}
				}
				if got := <-results; got.done.Messages != 100 || !errors.Is(got.err, app.ErrBusy) && !errors.Is(got.err, app.ErrUnknown) || !strings.Contains(got.err.Error(), "100 messages are deleted") {
					t.Errorf("%+v", got)
				}
				return
			}
			r.until(func() bool { return len(results) == 1 })
			if got := <-results; got.done != (Deleted{Messages: many}) || got.err != nil || owner.worker.Stats().Kept != 0 {
				t.Errorf("%+v; %d are kept", got, owner.worker.Stats().Kept)
			}
		})
	}
}
