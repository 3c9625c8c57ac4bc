package admin

import (
	"time"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/router"
)

// Stats is the answer of /v1/stats: what goes on in a process, for who looks at it by eye. For graphs there are metrics.
type Stats struct {
	Scope        string            `json:"scope"`
	Version      string            `json:"version"`
	Time         int64             `json:"time"` // Unix ms
	Connections  int               `json:"connections"`
	Sessions     map[string]int64  `json:"sessions"` // by transport
	Rooms        int               `json:"rooms"`    // with members, that this node owns
	Members      int               `json:"members"`
	Away         int               `json:"away"`                    // members that were cut off, and whose place is kept
	Memory       int64             `json:"memory,omitempty"`        // bytes; missing where nobody watches it
	MemoryBudget int64             `json:"memory_budget,omitempty"` // bytes
	Totals       map[string]uint64 `json:"totals"`                  // since the process began; of two answers they are a rate
	// Waits tells for how long events waited until a loop came to them, since the process began: how many for how long at most. Of two answers it is a
	// distribution.
	Waits []Wait      `json:"waits"`
	Loops []LoopStats `json:"loops"`
}

// Wait is a row of Stats.Waits.
type Wait struct {
	UpToUS int64  `json:"up_to_us"` // microseconds; 0: no bound
	Count  uint64 `json:"count"`    // those that waited no longer than that, and longer than the row before says
}

// LoopStats is an event loop in Stats.
type LoopStats struct {
	Connections int     `json:"connections"`
	DelayMS     float64 `json:"delay_ms"` // for how long events last waited until the loop came to them
	Backlog     int     `json:"backlog"`  // bytes of pushes not yet passed on
	Slow        int     `json:"slow"`     // connections with unsent bytes
	Requests    uint64  `json:"requests"` // total
}

// Totals of Stats, and what they count.
const (
	TotalRequests = "requests"      // of clients
	TotalSends    = "sends"         // messages accepted
	TotalEnters   = "enters"        // granted
	TotalLeaves   = "leaves"        // of members
	TotalWrites   = "writes"        // calls to client sockets
	TotalRead     = "read_bytes"    // from clients
	TotalWritten  = "written_bytes" // to clients
	TotalLimited  = "limited"       // what limits refused
	TotalRefused  = "refused"       // who was turned away at once
)

// Process is what a server tells of its process.
type Process struct {
	Version string
	Memory  Memory
}

func getStats(a API, q *request) (any, error) {
	s, err := a.Snapshot(q)
	if err != nil {
		return nil, err
	}
	return statsOf(s, a.Process(), time.Now()), nil
}

// statsOf adds up what the loops have told.
func statsOf(s *router.Snapshot, p Process, now time.Time) Stats {
	st := Stats{Scope: ScopeNode, Version: p.Version, Time: now.UnixMilli(), Memory: p.Memory.Used, MemoryBudget: p.Memory.Budget,
		Sessions: make(map[string]int64), Loops: make([]LoopStats, len(s.Loops)), Totals: make(map[string]uint64)}
	t := st.Totals
	st.Waits = make([]Wait, len(netpoll.Waits{}.Count))
	for i := range len(st.Waits) - 1 {
		st.Waits[i].UpToUS = netpoll.WaitBound(i).Microseconds()
	}
	for i := range s.Loops {
		l := &s.Loops[i]
		st.Connections += l.Net.Conns
		for i, n := range l.Net.Waits.Count {
			st.Waits[i].Count += n
		}
		for transport, n := range l.Sessions {
			st.Sessions[transport] += n
		}
		st.Loops[i] = LoopStats{Connections: l.Net.Conns, DelayMS: float64(l.Net.Delay.Microseconds()) / 1000, Backlog: l.Net.Backlog, Slow: l.Net.Slow, Requests: l.Requests}
		t[TotalRequests] += l.Requests
		t[TotalWrites] += l.Net.Writes
		t[TotalRead] += l.Net.BytesRead
		t[TotalWritten] += l.Net.BytesWritten
	}
	for i := range s.Workers {
		w := &s.Workers[i]
		st.Rooms += w.Rooms
		st.Members += w.Members
		st.Away += w.Away
		t[TotalSends] += w.Sends
		t[TotalEnters] += w.Enters
		t[TotalLeaves] += w.Leaves
	}
	for _, n := range s.Limited {
		t[TotalLimited] += n
	}
	for _, n := range s.Refused {
		t[TotalRefused] += n
	}
	return st
}
