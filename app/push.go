package app

import (
	"errors"
	"fmt"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
)

// Errors of what a program asks of the server.
var (
	// ErrBusy means that too many requests wait for the room, or the room or its loops have too much to send. Nothing was pushed.
	ErrBusy = errors.New("the room's worker is busy; try again later")
	// ErrNotRunning means that the App's server has not started yet, or has ended.
	ErrNotRunning = errors.New("the server is not running")
	// ErrTooLong means that a push is longer than half of -outbound.
	ErrTooLong = errors.New("push is too long: raise -outbound or send less")
	// ErrRoute means that a push has no route, or one longer than 255 bytes.
	ErrRoute = errors.New("a push needs a route of 1 to 255 bytes")
	// ErrObject means that a push's body is no JSON object.
	ErrObject = errors.New("a push's body must be a JSON object without a member named body")
	// ErrAbsent means that a room has no member of that name, or nobody at all.
	ErrAbsent = errors.New("nobody of that name is in the room")
	// ErrRuled means that an operator has said otherwise (pomelod policy).
	ErrRuled = errors.New("an operator has said otherwise for this room")
	// ErrNotSent means that this server does not hear the fleet that it belongs to, or that too much waits for the room's owner. Nothing has
	// happened.
	ErrNotSent = errors.New("the room's owner was not reached; nothing has happened")
	// ErrUnknown means that nobody has answered in time: what was asked may have happened.
	ErrUnknown = errors.New("the room's owner has not answered; what was asked may have happened")
)

// Broadcast sends a push to every session that has finished its handshake, in a room or not, on all nodes of a fleet whose programs run; it does not wait for those, and one that has
// joined within the last second may miss it. A client may get it before or after a push
// to its room that was sent at the same time.
func (a *App) Broadcast(route string, body any) error {
	node, content, err := a.encodePush(route, body)
	if err != nil {
		return err
	}
	return node.Broadcast(&codec.Push{Route: route, Body: content, Shared: new(codec.SharedFrames)})
}

// encodePush checks what a push must be and encodes its body. It returns the node that runs.
func (a *App) encodePush(route string, body any) (hosting.Node, []byte, error) {
	node, err := a.running()
	if err != nil {
		return nil, nil, err
	}
	if route == "" || len(route) > codec.MaxRouteBytes {
		return nil, nil, ErrRoute
	}
	b, err := encodeJSON(body)
	if err != nil {
		return nil, nil, fmt.Errorf("encode push %s: %w", route, err)
	}
	if !node.Fits(len(b)) {
		return nil, nil, ErrTooLong
	}
	b, ok := hosting.PushBody(b)
	if !ok {
		return nil, nil, ErrObject
	}
	return node, b, nil
}

// encodeJSON is v as canonical JSON.
func encodeJSON(v any) ([]byte, error) {
	if v == nil {
		return channel.Done, nil
	}
	b, err := codec.Marshal(v)
	if err != nil {
		return nil, err
	}
	b = codec.NormalizeUTF8(b)
	if codec.IsCanonical(b) {
		return b, nil
	}
	return codec.AppendCanonical(make([]byte, 0, len(b)+len(b)/2), b), nil
}

// running is the node that hosts the App. It fails with ErrNotRunning.
func (a *App) running() (hosting.Node, error) {
	if n := a.node.Load(); n != nil {
		return *n, nil
	}
	return nil, ErrNotRunning
}
