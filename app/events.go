package app

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pomelod/pomelod/internal/hosting"
)

// Place is a room, and the name that a session has there.
type Place struct{ Room, User string }

// Why says why a session has left a room.
type Why string

// The values of Why.
const (
	// Left: it has left the room and goes on, by Session.Leave or its client's wish.
	Left Why = "left"
	// Switched: it has entered another room.
	Switched Why = "switch"
	// Closed: the room was closed (an operator's close, or a fault in it), and the session goes on in its first one.
	Closed Why = "closed"
	// Goodbye: the client has closed its connection in order.
	Goodbye Why = "goodbye"
	// Cut: the connection broke, or the client took nothing, or said nothing, for too long. It may come back soon.
	Cut Why = "cut"
	// Kicked: by a program (Kick), an operator, or a newer session of the same user, which may have come back before the cut of this one was noticed.
	Kicked Why = "kick"
	// Refused: the session was ended because its client broke the protocol or a limit.
	Refused Why = "refused"
	// Shutdown: the server ends.
	Shutdown Why = "shutdown"
)

// OnOpen adds a function that is called when a session has finished its handshake, before any call of that session. It runs on the event
// loop and must not block.
// In an upgrade it is called, and OnEnter after it, for sessions that come along and that no function of the program before has seen. That upgrade may yet fail.
func (a *App) OnOpen(fn func(*Session)) { a.onOpen = append(a.onOpen, fn) }

// OnClose adds a function that is called once when a session that was opened has ended. It runs on the event loop and must
// not block. A handler of the session may still be running; its context is done. The session's User and Room are the last ones that it had.
func (a *App) OnClose(fn func(*Session)) { a.onClose = append(a.onClose, fn) }

// OnEnter adds a function that is called when a session has entered a room, of which Room and User of the session tell: its first one, or its only one. Of those
// that it joins beside OnJoin tells. It runs on the event loop and must not block.
func (a *App) OnEnter(fn func(*Session)) { a.onEnter = append(a.onEnter, fn) }

// OnJoin adds a function that is called when a session has come into a further room beside those that it is in (Session.Join). It runs on the event loop
// and must not block.
func (a *App) OnJoin(fn func(s *Session, joined Place)) { a.onJoin = append(a.onJoin, fn) }

// OnLeave adds a function that is called when a session has left a room, and says why. Each OnEnter and OnJoin is followed by one OnLeave, before OnClose
// if the session ends by that. It runs on the event loop and must not block.
func (a *App) OnLeave(fn func(s *Session, left Place, why Why)) { a.onLeave = append(a.onLeave, fn) }

// OnRename adds a function that is called when a session has taken another name in its room. was is the one that it had. It runs on the event loop
// and must not block.
func (a *App) OnRename(fn func(s *Session, was Place)) { a.onRename = append(a.onRename, fn) }

// OnAway adds a function that is called when a session was cut off and its place in a room is kept for it (-grace): the others there have been told nothing, and who returns
// in time has it again. s is the session that ends: OnLeave and OnClose come next, and no further event of it. It runs on the event loop and must not block. What it pushes to
// the room comes before anything that follows a return.
//
// Behind it comes OnReturn of the session that has the place then, or else the place's end, of which no function is called: the others are told onLeave when the time is over, by a kick, a ban, when another one takes a name
// that nothing protects, and at once by a room of which more than a tenth, and more than 100, are away at one address. If another session had the place already when this connection was seen
// to break, OnReturn of it comes once more, behind this; if that one is away itself, its return is both's; and if it has left by then, that is the place's end, and OnLeave has told of it. Room.Members tells who is away.
//
// A place is kept for who has shown a secret or a login, and for others if their address tells them apart; not without -grace, nor where the room's policy says so, nor by
// a server that ends alone.
func (a *App) OnAway(fn func(s *Session, at Place)) { a.onAway = append(a.onAway, fn) }

// OnReturn adds a function that is called when a session has a place that was kept (OnAway), or takes it over from another session of its user's, which ends: the others in the room are not told that it comes. It is called right after
// OnEnter or OnJoin, and it may be once more where OnAway is called for the session that had the place before while the new one comes, so it is always the last to be called: what it does is to be the same if it is done twice. s is the new session. It runs on the event loop and must not block. In a fleet it runs where
// the new session is, and also for who was cut off by the end of a node, of which OnAway has not told;
// and anywhere for a session that was cut off before it was told that it had entered: OnEnter was not called for that, so neither was OnAway.
func (a *App) OnReturn(fn func(s *Session, at Place)) { a.onReturn = append(a.onReturn, fn) }

// OnStart adds a function that is called before the server takes its first client, in the order in which they were added. If it fails the server
// does not start, and says why. Nothing can be asked of rooms yet. In an upgrade (pomelod upgrade) the old process still serves meanwhile, and goes on
// if the function fails.
func (a *App) OnStart(fn func() error) { a.onStart = append(a.onStart, fn) }

// OnStop adds a function that is called at the end, when all sessions have ended and OnClose was called for each that has not gone along in an upgrade (Carry), last added first. When
// ctx ends, after 5 s, the process ends without waiting for it. It is called only if all OnStart functions have succeeded.
func (a *App) OnStop(fn func(ctx context.Context)) { a.onStop = append(a.onStop, fn) }

// Watches implements hosting.App.
func (h *hosted) Watches() bool {
	return len(h.onOpen)+len(h.onClose)+len(h.onEnter)+len(h.onJoin)+len(h.onLeave)+len(h.onRename)+len(h.onAway)+len(h.onReturn) > 0
}

// Start implements hosting.App.
func (h *hosted) Start() (err error) {
	for _, f := range h.onStart {
		if err = alone(f); err != nil {
			return fmt.Errorf("the program's OnStart: %w", err)
		}
	}
	return nil
}

// Stop implements hosting.App.
func (h *hosted) Stop(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.timers.end(ctx)
		for i := len(h.onStop) - 1; i >= 0; i-- {
			protectAlone("OnStop", func() { h.onStop[i](ctx) })
		}
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("the program's OnStop takes too long; it was not waited for")
	}
}

// Opened implements hosting.App.
func (h *hosted) Opened(s hosting.Session) {
	of := session(s)
	of.open()
	h.app().tell("OnOpen", h.onOpen, of)
}

// Closed implements hosting.App.
func (h *hosted) Closed(s hosting.Session) {
	of := session(s)
	if of.opened() {
		h.app().tell("OnClose", h.onClose, of)
	}
	h.bound.unbind(of)
}

// Moved implements hosting.Session.
func (s *hostedSession) Moved(to hosting.Where, why string) {
	s.mu.Lock()
	was := s.at
	s.at = to
	s.mu.Unlock()
	of, a := (*Session)(s), s.app
	for _, room := range was.Rooms {
		if !slices.Contains(to.Rooms, room) {
			a.tellLeft(of, Place{room, was.User}, Why(why))
		}
	}
	for i, room := range to.Rooms {
		switch stayed := slices.Contains(was.Rooms, room); {
		case stayed && was.User != to.User:
			a.tellPlace("OnRename", a.onRename, of, Place{room, was.User})
		case stayed:
		case i == 0:
			a.tell("OnEnter", a.onEnter, of)
		default:
			a.tellPlace("OnJoin", a.onJoin, of, Place{room, to.User})
		}
	}
}

// Away implements hosting.Session.
func (s *hostedSession) Away(room string) {
	of := (*Session)(s)
	s.app.tellPlace("OnAway", s.app.onAway, of, Place{room, of.User()})
}

// Returned implements hosting.Session.
func (s *hostedSession) Returned(room string) {
	of := (*Session)(s)
	s.app.tellPlace("OnReturn", s.app.onReturn, of, Place{room, of.User()})
}

// tellPlace calls functions of an event in a room.
func (a *App) tellPlace(event string, list []func(*Session, Place), s *Session, at Place) {
	for _, f := range list {
		a.protect(event, func() { f(s, at) })
	}
}

// tellLeft tells that s has left a room.
func (a *App) tellLeft(s *Session, left Place, why Why) {
	for _, f := range a.onLeave {
		a.protect("OnLeave", func() { f(s, left, why) })
	}
}

// tell calls functions of an event.
func (a *App) tell(event string, list []func(*Session), s *Session) {
	for _, f := range list {
		a.protect(event, func() { f(s) })
	}
}
