package router

import (
	"sync"
	"sync/atomic"

	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
)

// The kinds of functions that run on goroutines. What one kind does leaves the other's seats alone, so handlers that take long do not
// keep anybody from chatting where chat.send has a filter.
const (
	kindHandlers limit.Kind = iota // of the App's own routes, and their filters
	kindFilters                    // of the chat application's routes
)

// kindNames are values of the label "kind".
var kindNames = [limit.Kinds]string{kindHandlers: "handler", kindFilters: "filter"}

// seats are those for calls of one kind. A call has a seat while somebody waits for its answer. When its session ends, or the call is
// given up, the seat is free at once, although its goroutine goes on until it looks at its context: there are at most twice as
// many goroutines as seats. Safe from any goroutine.
type seats struct {
	most int // static after construction

	mu      sync.Mutex
	waiting int // guarded by mu: calls whose answer somebody waits for
	running int // guarded by mu: goroutines
}

func (s *seats) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting >= s.most || s.running >= 2*s.most {
		return false
	}
	s.waiting++
	s.running++
	return true
}

func (s *seats) add(waiting, running int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting += waiting
	s.running += running
}

func (s *seats) figures() (waiting, running int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting, s.running
}

// seat is what a call has while its goroutine runs: one of seats, and one of its address's share. The share counts goroutines, so nobody
// takes the seats of others by hanging up. Safe from any goroutine.
type seat struct {
	of     *seats
	access *access
	kind   limit.Kind
	pass   netpoll.Pass
	left   atomic.Bool
}

// seat finds a seat for a call of s; nil when there is none.
func (h *handlers) seat(s *session, kind limit.Kind) *seat {
	pass := s.conn.Pass()
	if !h.access.begin(pass, s.conn.Peer().Addr(), kind) {
		return nil
	}
	if !h.seats[kind].enter() {
		h.access.done(pass, kind)
		h.counters.handlersRefused++
		return nil
	}
	return &seat{of: &h.seats[kind], access: h.access, kind: kind, pass: pass}
}

// leave gives the seat back: nobody waits for the call any more. Once is enough.
func (s *seat) leave() {
	if !s.left.Swap(true) {
		s.of.add(-1, 0)
	}
}

// end is called once, when the goroutine ends.
func (s *seat) end() {
	s.leave()
	s.of.add(0, -1)
	s.access.done(s.pass, s.kind)
}
