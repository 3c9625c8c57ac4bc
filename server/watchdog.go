//go:build linux

package server

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"github.com/pomelod/pomelod/router"
)

// watchEvery is how often the event loops are asked whether they turn when no manager says how often.
const watchEvery = 20 * time.Second

// every is the time between two questions to the event loops.
func (m *manager) every() time.Duration {
	if m == nil || m.watchdog == 0 {
		return watchEvery
	}
	return m.watchdog / 2
}

// stacksEvery is the least time between two logs of all stacks.
const stacksEvery = 10 * time.Minute

// watch asks every event loop, and with it the workers there, whether it turns, and tells the manager so, until ctx ends.
// While one does not answer the manager hears nothing and will end this process in time.
func (s *server) watch(ctx context.Context) {
	every := s.manager.every()
	stuck := false
	var logged time.Time
	for range ticks(ctx, every) {
		if s.frozen.Load() { // for an upgrade, which has times of its own
			s.manager.tell("WATCHDOG=1")
			continue
		}
		// Twice: after a stall of the whole machine our time may be up before the loops had any.
		snapshot, err := s.ping(ctx, every/2)
		if err != nil {
			snapshot, err = s.ping(ctx, every/4)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !stuck:
			stuck = true
			slog.Error("an event loop is stuck; its clients wait", "err", err, "hint", "a handler that blocks? the stacks follow")
			s.manager.tell("STATUS=stuck: " + err.Error())
			if logged.IsZero() || time.Since(logged) > stacksEvery {
				logged = time.Now()
				slog.Error("stacks", "stacks", stacks())
			}
		case err == nil:
			if stuck {
				stuck = false
				slog.Warn("all event loops turn again")
			}
			lines := []string{status(snapshot)}
			if s.manager.watches() {
				lines = append(lines, "WATCHDOG=1")
			}
			s.manager.tell(lines...)
		}
	}
}

func (m *manager) watches() bool { return m != nil && m.watchdog > 0 }

func (s *server) ping(ctx context.Context, timeout time.Duration) (*router.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return s.node.Snapshot(ctx)
}

// status is what systemctl status shows.
func status(n *router.Snapshot) string {
	conns, pulls, rooms, members := 0, 0, 0, 0
	for i := range n.Loops {
		conns += n.Loops[i].Net.Conns
		pulls += n.Loops[i].Net.Pulls
	}
	for i := range n.Workers {
		rooms += n.Workers[i].Rooms
		members += n.Workers[i].Members
	}
	return fmt.Sprintf("STATUS=connections %d, polling sessions %d, rooms %d, members %d", conns, pulls, rooms, members)
}

// Bounds of a log of stacks: what is looked through, and what is logged; journald cuts lines at 48 KiB.
const stackBytes, loggedStackBytes = 1 << 20, 32 << 10

// stacks are those of all goroutines, event loops first, as much as is good for a log.
func stacks() string {
	buf := make([]byte, stackBytes)
	buf = buf[:runtime.Stack(buf, true)]
	var loops, others []string
	for _, g := range strings.Split(string(buf), "\n\n") {
		if strings.Contains(g, "netpoll.(*Epoll).Run") {
			loops = append(loops, g)
		} else {
			others = append(others, g)
		}
	}
	text := strings.Join(append(loops, others...), "\n\n")
	if len(text) > loggedStackBytes {
		text = text[:loggedStackBytes] + "\n... and more"
	}
	return text
}
