//go:build linux

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// What the end takes beyond -drain. The first two together less than two seconds, unless a loop is stuck and the admin is busy as well.
const (
	drainGrace   = 750 * time.Millisecond // for the last clients to close their end
	loopsEndTime = 500 * time.Millisecond // for the event loops to return; a stuck one does not
	appStopTime  = 5 * time.Second        // for a program's OnStop functions, if it has any
)

// errLoopStuck is returned by run when the process ends around an event loop that never came back.
var errLoopStuck = errors.New("an event loop is stuck and did not end; its clients were cut off without a goodbye. The stacks in the log tell what it does")

// sameSignal is how soon behind the first a signal is the same one: supervisors and terminals signal a child and its group.
const sameSignal = 100 * time.Millisecond

// onSignals returns a context that the first SIGINT or SIGTERM ends. The second one ends the process at once, with 1: whoever
// sends it does not want to wait for clients. As process 1 of a container the default action would be to go on.
func onSignals(flush func()) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals, done := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		var first time.Time
		for {
			select {
			case <-done:
				return
			case got := <-signals:
				switch {
				case first.IsZero():
					first = time.Now()
					cancel()
				case time.Since(first) >= sameSignal:
					slog.Warn("a second signal: ending at once; clients are cut off", "signal", got.String())
					flush()
					os.Exit(1)
				}
			}
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(); close(done) }
}

// end takes the server away from its clients, in order: it is not ready any more, then accepts nobody, then clients are sent
// away over -drain. A load balancer has the time wait to notice the first before the second.
func (s *server) end(wait time.Duration) {
	s.ready.Store(false)
	s.fleet.leave()
	takes := wait + s.cfg.drain + 3*time.Second
	if s.fleet != nil {
		takes += handOverTime
	}
	if s.app != nil {
		takes += appStopTime
	}
	s.manager.stopping("ending; clients are sent away over "+s.cfg.drain.String(), takes)
	time.Sleep(wait)
	s.acceptor.Close()
	s.sendAway()
	s.fleet.handOver()
}

// sendAway sends all clients away over -drain. Nobody is accepted any more.
func (s *server) sendAway() {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.drain+drainGrace)
	defer cancel()
	if err := s.node.Drain(ctx, s.cfg.drain); err != nil {
		slog.Warn("not all clients left in order", "err", err)
	}
}

// endLoops stops the event loops. One that is stuck is left behind with what it uses: the process is about to end.
func (s *server) endLoops(running *sync.WaitGroup) error {
	s.pause.finish()
	for _, d := range s.drivers {
		d.Stop()
	}
	if s.hands != nil {
		s.hands.Close()
	}
	returned := make(chan struct{})
	go func() { running.Wait(); close(returned) }()
	select {
	case <-returned:
		if s.hands != nil {
			s.hands.Abandon()
		}
		return nil
	case <-time.After(s.loopsEnd):
		slog.Error("stacks", "stacks", stacks())
		s.drivers = nil // their descriptors are in use
		return errLoopStuck
	}
}

// checkDrain refuses times that nobody means.
func (c *settings) checkDrain() error {
	for name, d := range map[string]time.Duration{"drain": c.drain, "drain-delay": c.drainDelay} {
		if d < 0 || d > time.Hour {
			return fmt.Errorf("-%s %v: must be 0 to an hour", name, d)
		}
	}
	return nil
}
