package app

import (
	"context"
	"net/netip"
	"sync"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
)

// Session is a connected client, from handshake to close. Safe from any goroutine.
type Session struct {
	// Static after construction.
	app    *App
	client hosting.Client
	remote netip.AddrPort

	mu     sync.Mutex
	at     hosting.Where      // guarded by mu, as the rest
	data   map[any]any        // by the string of Set, or the key of a Data
	giveUp context.CancelFunc // of the latest call; calling it late is harmless
	begun  bool               // it has finished its handshake
	closed bool
	done   chan struct{} // of Done; nil: nobody has asked

	uid   string // guarded by app.bound.mu
	binds uint32 // how many times Bind was called; guarded by app.bound.mu
}

// RemoteAddr is the client's address when the session began, as a trusted proxy tells it if there is one. The port is 0 when the proxy
// tells none. The address of a client that polls may have changed since.
func (s *Session) RemoteAddr() netip.AddrPort { return s.remote }

// User is the session's name in its rooms, empty when it is in none.
func (s *Session) User() string { return s.Place().User }

// Room is the room the session is in, the first one of several (Join), empty when it is in none.
func (s *Session) Room() string { return s.Place().Room }

// Place is Room and User at one time; both are empty when the session is in no room.
func (s *Session) Place() Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.at.Rooms) == 0 {
		return Place{}
	}
	return Place{s.at.Rooms[0], s.at.User}
}

// Set stores a value under key until the session ends. A Data (NewData) has a type, and goes along in an upgrade.
func (s *Session) Set(key string, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data == nil {
		s.data = make(map[any]any)
	}
	s.data[key] = value
}

// Get returns the value that Set stored under key, or nil.
func (s *Session) Get(key string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data[key]
}

// Closed reports whether the session has ended.
func (s *Session) Closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Done is closed when the session has ended and has left its rooms: another one that enters from then on finds its name free, unless the session was cut off and
// its place is kept (-grace).
func (s *Session) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done == nil {
		s.done = make(chan struct{})
		if s.closed {
			close(s.done)
		}
	}
	return s.done
}

// open notes that the session has finished its handshake.
func (s *Session) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = true
}

// opened tells whether it has.
func (s *Session) opened() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// Push sends a push to this session only. One that has ended gets nothing. A push of a running handler comes before
// the handler's answer.
func (s *Session) Push(route string, body any) error {
	_, content, err := s.app.encodePush(route, body)
	if err != nil {
		return err
	}
	return s.client.Push(&codec.Push{Route: route, Body: content})
}

// Kick ends the session and tells the client the reason.
func (s *Session) Kick(reason string) { s.client.Kick(reason) }
