package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pomelod/pomelod/internal/hosting"
)

// Errors of Session.Enter, Join and Leave, beside ErrBusy, ErrNotSent and ErrUnknown.
var (
	// ErrClosed means that the session has ended.
	ErrClosed = errors.New("the session has ended")
	// ErrGate means that the session is one of a gate, at which clients only ask for a connector. OnOpen tells of those, too.
	ErrGate = errors.New("the session is one of a gate, and cannot be in a room")
	// ErrNowhere means that a session that is in no room cannot join a further one: it has no name yet. Have it enter one (Session.Enter).
	ErrNowhere = errors.New("the session is in no room, and so has no name: have it enter one first")
	// ErrTooMany means that a session is in as many rooms as it may be: 256.
	ErrTooMany = errors.New("the session is in as many rooms as it may be")
	// ErrRename means that a session in several rooms cannot change its name in one of them.
	ErrRename = errors.New("the session has other rooms, in which it must have the same name: have it leave them first")
)

// RefusedError means that a room did not take a session in.
type RefusedError struct {
	// Reason is "taken" if another member has the name, "name" if nobody may have that name or the room's, else what clients are told as the reason of a refused enter (docs/PROTOCOL.md), such as
	// "room_members", "room_locked" or "ban".
	Reason string
}

func (e *RefusedError) Error() string { return "the room does not take the session in: " + e.Reason }

// Rooms are the rooms that the session is in: first the one that Room tells, then the others in the order in which it came into them.
func (s *Session) Rooms() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.at.Rooms)
}

// Enter has the session enter a room as if its client had asked to: it leaves all rooms that it is in once the new one has taken it in, and not otherwise. An empty
// to.User is the name that it has; another name for the room in which it is renames it. The others in the room are told as ever. The client is
// not told: push to it what it needs to know.
//
// Enter returns when that is done, or with the error that it is not: a *RefusedError, or one of ErrClosed, ErrGate, ErrRename, ErrBusy, ErrNotSent. With ErrUnknown nobody
// knows, and the session has left the room again as soon as it is known. When ctx ends, or two minutes if it has no deadline, the change goes on, and the error wraps ErrUnknown. Changes of a session are
// made in the order in which they are asked for; 16 may wait, and more fail with ErrBusy. Enter waits, so it must not be called on an event
// loop, that is in OnOpen and the like or a handler of HandleInline: EnterThen can. A handler of Handle may call it for its own session; a
// filter of the enter route, too.
func (s *Session) Enter(ctx context.Context, to Place) error {
	return s.wait(ctx, hosting.Change{Kind: hosting.ChangeEnter, Room: to.Room, User: to.User})
}

// EnterThen is Enter for whoever cannot wait. done, which may be nil, is called once with what Enter would return, on the event loop, and must not block; never, if
// EnterThen itself returns an error, or the server ends before.
func (s *Session) EnterThen(to Place, done func(error)) error {
	return s.change(hosting.Change{Kind: hosting.ChangeEnter, Room: to.Room, User: to.User, Done: done})
}

// Join has the session, which must be in a room, come into a further one and stay in the others. It has its name there, too. It is told what is said and
// pushed in all its rooms. Who comes and goes it is told of its first room only, the one that Room tells, unless its client is extended, which is told of all and of which
// each is. What its client says goes to the first room, unless that names another one of its rooms (rid). An enter of its client leaves them all.
//
// It returns as Enter does, with ErrNowhere if the session is in no room, and without an error if it is in that one.
func (s *Session) Join(ctx context.Context, room string) error {
	return s.wait(ctx, hosting.Change{Kind: hosting.ChangeJoin, Room: room})
}

// JoinThen is Join for whoever cannot wait (EnterThen).
func (s *Session) JoinThen(room string, done func(error)) error {
	return s.change(hosting.Change{Kind: hosting.ChangeJoin, Room: room, Done: done})
}

// Leave has the session leave a room. Of those that it stays in the oldest is the first one, if it has left that. It returns as Enter does, and with ErrAbsent if the
// session is not in that room. What was pushed to the room just before it may miss; Session.Push is in order with its changes.
func (s *Session) Leave(ctx context.Context, room string) error {
	return s.wait(ctx, hosting.Change{Kind: hosting.ChangeLeave, Room: room})
}

// LeaveThen is Leave for whoever cannot wait (EnterThen).
func (s *Session) LeaveThen(room string, done func(error)) error {
	return s.change(hosting.Change{Kind: hosting.ChangeLeave, Room: room, Done: done})
}

// patience is how long who has no deadline waits for a change: longer than as many as may wait before it take, where -request-timeout is not long.
const patience = 2 * time.Minute

// wait has the session's rooms changed and waits for that.
func (s *Session) wait(ctx context.Context, c hosting.Change) error {
	done := make(chan error, 1)
	c.Done = func(err error) { done <- err }
	if err := s.client.Change(c); err != nil {
		return err
	}
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("room %s: %w: %w", c.Room, ErrUnknown, ctx.Err())
	}
}

// change has the session's rooms changed. A panic of Done costs nothing else.
func (s *Session) change(c hosting.Change) error {
	then := c.Done
	c.Done = func(err error) {
		if then != nil {
			s.app.protect("what follows a change of rooms", func() { then(err) })
		}
	}
	return s.client.Change(c)
}
