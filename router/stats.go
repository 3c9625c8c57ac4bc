package router

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
)

// The reasons for which sessions end beside netpoll's own.
const (
	reasonHandshakeTimeout = netpoll.ReasonHandler + iota
	reasonSilent
	reasonHandshake
	reasonProtocol
	reasonTooLong
	reasonHTTP
	reasonKick
	reasonShutdown
	reasonGoodbye    // a WebSocket client closes, and has yet to read our answer to that
	reasonAddress    // its address has connections enough
	reasonFlood      // it goes on although it is refused
	reasonEarly      // too much before the end of the handshake
	reasonIdle       // no message since the handshake
	reasonUnfinished // it began a message and did not finish it in time
	reasonLogin      // its login has expired, or was not good where it had to be
	reasons
)

// reasonNames are the values of the label "reason" of pomelod_closed_total.
var reasonNames = map[netpoll.Reason]string{
	netpoll.ReasonPeer:     "peer",
	netpoll.ReasonReset:    "reset",
	netpoll.ReasonSlow:     "slow",
	netpoll.ReasonStuck:    "stuck",
	netpoll.ReasonMemory:   "memory",
	reasonUnfinished:       "unfinished",
	netpoll.ReasonPanic:    "panic",
	netpoll.ReasonTLS:      "tls",
	reasonHandshakeTimeout: "handshake_timeout",
	reasonSilent:           "silent",
	reasonHandshake:        "handshake_refused",
	reasonProtocol:         "protocol",
	reasonTooLong:          "too_long",
	reasonHTTP:             "http",
	reasonKick:             "kick",
	reasonShutdown:         "shutdown",
	reasonGoodbye:          "peer",
	reasonAddress:          "address",
	reasonFlood:            "flood",
	reasonEarly:            "early",
	reasonIdle:             "no_message",
	reasonLogin:            "login",
}

// ReasonNames are the reasons, as metrics tell them, for which sessions are closed, requests refused by limits, and clients turned away at once. Sorted.
func ReasonNames() (closed, limited, refused []string) {
	sorted := func(names iter.Seq[string]) []string { return slices.Compact(slices.Sorted(names)) }
	limited = sorted(slices.Values(append(limitNames[:], channel.ReasonNames[:]...)))
	return sorted(maps.Values(reasonNames)), slices.DeleteFunc(limited, func(name string) bool { return name == "" }), sorted(slices.Values(refusalNames[:]))
}

// RouteNames are the routes of the chat application, sorted.
func RouteNames() []string { return slices.Sorted(maps.Keys(builtin)) }

// counters are a loop's own.
type counters struct {
	requests, unknownRoutes, malformed          uint64
	handshakesRefused, namesRefused, httpErrors uint64
	busy, timeouts, gaps, panics, inflightWaits uint64
	handlersRefused, handlerTimeouts            uint64
	httpRequests, upgrades, moves, pullsRefused uint64
	logins                                      [loginResults]uint64
	filtered                                    [filterResults]uint64
}

// Snapshot is a node's figures at one time; counters count since the start.
type Snapshot struct {
	Loops         []LoopSnapshot
	Workers       []WorkerSnapshot
	HandlerPanics uint64 // of the App's handlers
	Handlers      []HandlersSnapshot
	Refused       map[string]uint64 // connections and requests turned away at once, by reason; the acceptor counts others
	Addresses     limit.Figures
	Limited       map[string]uint64       // what limits refused, by reason
	Logins        map[string]uint64       // by result; nil where nobody logs in
	LoginsWaiting int                     // to be judged
	Filtered      map[string]uint64       // messages, by result; nil where there is no filter
	FilterWaiting int                     // messages that have yet to be looked at
	Handshakes    *netpoll.HandshakeStats // of TLS; nil where no listener speaks it
	Unsent        int64                   // bytes kept for peers that do not take them, what they share counted once
	Inbound       int64                   // bytes of messages that have arrived in part, and of what waits to be handled
	Misrouted     uint64                  // requests and items from or for a partition or loop that is not here; they were dropped
}

// HandlersSnapshot is the part of a Snapshot that is about the goroutines of one kind: handler, or filter of a chat route.
type HandlersSnapshot struct {
	Kind    string
	Running int
	GivenUp int // of those, as the call's time was over or its client had gone
}

// WorkerSnapshot is the part of a Snapshot that is about the rooms that one loop owns.
type WorkerSnapshot = channel.Stats

// LoopSnapshot is one loop's part of a Snapshot.
type LoopSnapshot struct {
	Net                                         netpoll.Stats
	Closed                                      map[string]uint64 // by reason
	Requests, UnknownRoutes, Malformed          uint64
	HandshakesRefused, NamesRefused, HTTPErrors uint64
	Busy, Timeouts, Gaps, InflightWaits         uint64
	HandlersRefused, HandlerTimeouts            uint64
	HTTPRequests, Upgrades, Moves, PullsRefused uint64
	Overrun                                     uint64
	Sessions                                    map[string]int64 // by transport
	limited                                     [limitReasons]uint64
	logins                                      [loginResults]uint64
	filtered                                    [filterResults]uint64
}

// ErrStuck is the error of what asks all loops when one of them does not answer before the context ends.
var ErrStuck = errors.New("an event loop does not answer; see /debug/pprof/goroutine for what it is doing")

// Snapshot asks every loop for its figures. It fails with ErrStuck when a loop does not turn before ctx ends. Safe from
// any goroutine but a loop's.
func (n *Node) Snapshot(ctx context.Context) (*Snapshot, error) {
	s := &Snapshot{
		Loops: make([]LoopSnapshot, len(n.loops)), Workers: make([]WorkerSnapshot, len(n.loops)), Unsent: n.budget.Buffered() - n.budget.Inbound(), Inbound: n.budget.Inbound(),
		Refused: n.access.refusedBy(), Addresses: n.access.figures(), Misrouted: n.misrouted.Load(),
	}
	err := n.onLoops(ctx, func(l *loop) {
		s.Loops[l.index] = l.snapshot()
		s.Workers[l.index] = l.worker.Stats()
	})
	if err != nil {
		return nil, err
	}
	s.Limited = s.sumLimited()
	if n.logins != nil {
		s.Logins, s.LoginsWaiting = s.sumLogins(), n.logins.length()
	}
	if n.sieve != nil {
		s.Filtered, s.FilterWaiting = s.sumFiltered(), n.sieve.length()
	}
	if h := n.budget.Handshakes; h != nil {
		stats := h.Stats()
		s.Handshakes = &stats
	}
	if n.app != nil {
		s.HandlerPanics = n.app.Panics()
		for kind, name := range kindNames {
			waiting, running := n.seats[kind].figures()
			s.Handlers = append(s.Handlers, HandlersSnapshot{Kind: name, Running: running, GivenUp: running - waiting})
		}
	}
	return s, nil
}

// onLoops runs f on every loop and waits for all.
func (n *Node) onLoops(ctx context.Context, f func(*loop)) error {
	return inTurns(ctx, n.loops, func(l *loop, _ int) bool { f(l); return false })
}

// inTurns runs f on each of some loops, again in later turns as long as it returns true, and waits for all. step counts the turns from 0. When ctx ends
// first the loops finish all the same.
func inTurns(ctx context.Context, loops []*loop, f func(l *loop, step int) (more bool)) error {
	done := make(chan int, len(loops))
	silent := make(map[int]bool, len(loops))
	for _, l := range loops {
		silent[l.index] = true
		step := 0
		var turn func()
		turn = func() {
			more := f(l, step)
			if step++; more {
				l.mail.Post(mail{run: turn})
				return
			}
			done <- l.index
		}
		l.mail.Post(mail{run: turn})
	}
	for len(silent) > 0 {
		select {
		case i := <-done:
			delete(silent, i)
		case <-ctx.Done():
			return fmt.Errorf("%w (loop %v of %d)", ErrStuck, slices.Sorted(maps.Keys(silent)), len(loops))
		}
	}
	return nil
}

func (l *loop) snapshot() LoopSnapshot {
	c := &l.counters
	s := LoopSnapshot{
		Net: l.np.Stats(), Closed: make(map[string]uint64),
		Requests: c.requests, UnknownRoutes: c.unknownRoutes, Malformed: c.malformed,
		Overrun: l.limiter.late, HandshakesRefused: c.handshakesRefused, NamesRefused: c.namesRefused, HTTPErrors: c.httpErrors, logins: c.logins, filtered: c.filtered,
		Busy: c.busy, Timeouts: c.timeouts, Gaps: c.gaps, InflightWaits: c.inflightWaits,
		HandlersRefused: c.handlersRefused, HandlerTimeouts: c.handlerTimeouts,
		HTTPRequests: c.httpRequests, Upgrades: c.upgrades, Moves: c.moves, PullsRefused: c.pullsRefused,
		Sessions: make(map[string]int64), limited: l.limiter.refused,
	}
	for t, name := range transportNames(l.node.protocols) {
		if t > 0 {
			s.Sessions[name] = l.transports[t]
		}
	}
	s.Net.Panics += c.panics
	for reason, name := range reasonNames {
		s.Closed[name] += s.Net.Closed[reason]
	}
	return s
}

// sumLogins is what has become of all logins.
func (s *Snapshot) sumLogins() map[string]uint64 {
	sum := make(map[string]uint64, len(loginResultNames))
	for i := range s.Loops {
		for result, n := range s.Loops[i].logins {
			sum[loginResultNames[result]] += n
		}
	}
	return sum
}

// sumFiltered is what has become of all messages that were to be looked at.
func (s *Snapshot) sumFiltered() map[string]uint64 {
	sum := make(map[string]uint64, len(filterResultNames))
	for i := range s.Loops {
		for result, n := range s.Loops[i].filtered {
			sum[filterResultNames[result]] += n
		}
	}
	return sum
}

// sumLimited is what all loops and workers have refused, by reason.
func (s *Snapshot) sumLimited() map[string]uint64 {
	sum := make(map[string]uint64, len(limitNames)+len(channel.ReasonNames))
	for i := range s.Loops {
		for reason, n := range s.Loops[i].limited {
			sum[limitNames[reason]] += n
		}
	}
	for i := range s.Workers {
		for reason, n := range s.Workers[i].Limited {
			sum[channel.ReasonNames[reason]] += n
		}
	}
	return sum
}
