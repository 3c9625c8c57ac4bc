package app

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
)

// Errors of App's pushes.
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
	// ErrAbsent means that a room has no member of that name, or that there is no such room.
	ErrAbsent = errors.New("nobody of that name is in the room")
	// ErrNotSent means that this server does not hear the fleet that it belongs to, or that too much waits for the room's owner. Nothing has
	// happened.
	ErrNotSent = errors.New("the room's owner was not reached; nothing has happened")
	// ErrUnknown means that nobody has answered in time: what was asked may have happened.
	ErrUnknown = errors.New("the room's owner has not answered; what was asked may have happened")
)

// Push sends a push to the member of room called user, in order with all that the room is sent. It does not report whether there is such
// a member; PushContext does.
func (a *App) Push(room, user, route string, body any) error {
	return a.push(room, user, route, body)
}

// PushRoom sends a push to every member of room. It does not report whether the room was empty or too busy to take it; PushRoomContext does.
func (a *App) PushRoom(room, route string, body any) error {
	return a.push(room, channel.Everybody, route, body)
}

func (a *App) push(room, target, route string, body any) error {
	node, content, err := a.encodePush(route, body)
	if err != nil {
		return err
	}
	return node.Request(channel.Request{Op: channel.OpPush, Room: room, Target: target, Route: route, Content: content})
}

// Broadcast sends a push to every session that has finished its handshake, in a room or not. A client may get it before or after a push
// to its room that was sent at the same time.
func (a *App) Broadcast(route string, body any) error {
	node, content, err := a.encodePush(route, body)
	if err != nil {
		return err
	}
	return node.Broadcast(&codec.Push{Route: route, Body: content, Shared: new(codec.SharedFrames)})
}

// Kick ends the session of user in room and tells the client the reason. It does not report whether the user was there; KickContext does.
func (a *App) Kick(room, user, reason string) error {
	node, err := a.running()
	if err != nil {
		return err
	}
	return node.Request(kickRequest(room, user, reason))
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

// ask has a room execute what is done or not, and waits.
func (a *App) ask(ctx context.Context, r channel.Request) error {
	node, err := a.running()
	if err != nil {
		return err
	}
	b, err := node.Ask(ctx, r)
	switch {
	case err != nil:
		return err
	case string(b) == string(channel.Absent):
		return ErrAbsent
	case string(b) != string(channel.Done):
		return ErrBusy
	}
	return nil
}

// Members returns the names of the members of room in the order in which they entered, none if there is no such room.
//
// Like all functions with a ctx it waits for the answer until ctx ends, or at most for -request-timeout. So do not call these functions on
// an event loop: in OnOpen, OnClose or a handler of HandleInline.
func (a *App) Members(ctx context.Context, room string) ([]string, error) {
	node, err := a.running()
	if err != nil {
		return nil, err
	}
	b, err := node.Ask(ctx, channel.Request{Op: channel.OpMembers, Room: room})
	if err != nil {
		return nil, err
	}
	var list struct {
		Users []string `json:"users"`
	}
	if err := codec.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("members of room %s: %w", room, err)
	}
	return list.Users, nil
}

// KickContext does what Kick does and waits for the outcome: ErrAbsent if the user was not in the room.
func (a *App) KickContext(ctx context.Context, room, user, reason string) error {
	return a.ask(ctx, kickRequest(room, user, reason))
}

// PushContext does what Push does and waits for the outcome: ErrAbsent if the user was not in the room, ErrBusy if the room is too busy.
func (a *App) PushContext(ctx context.Context, room, user, route string, body any) error {
	_, content, err := a.encodePush(route, body)
	if err != nil {
		return err
	}
	return a.ask(ctx, channel.Request{Op: channel.OpPush, Room: room, Target: user, Route: route, Content: content})
}

// PushRoomContext does what PushRoom does and waits for the outcome: ErrAbsent if the room is empty, ErrBusy if it is too busy.
func (a *App) PushRoomContext(ctx context.Context, room, route string, body any) error {
	return a.PushContext(ctx, room, channel.Everybody, route, body)
}

func kickRequest(room, user, reason string) channel.Request {
	return channel.Request{Op: channel.OpKick, Room: room, Target: user, Content: codec.AppendString(nil, reason)}
}

// SetSlowMode makes each member of room wait for at least d between two messages, and newcomers before their first one. A message that
// comes too soon is answered {"code":500,"reason":"slow_mode","wait":SECONDS}. d is at most a day, in whole milliseconds; 0 turns slow
// mode off, a negative d returns to -slow-mode. The setting stays with the room's name until the process ends, even while the room is empty.
func (a *App) SetSlowMode(room string, d time.Duration) error {
	node, err := a.running()
	if err != nil {
		return err
	}
	if d > channel.MaxSlow {
		return fmt.Errorf("slow mode of %v: must be at most %v", d, channel.MaxSlow)
	}
	ms := int64(-1)
	if d >= 0 {
		ms = int64((d + time.Millisecond - 1) / time.Millisecond)
	}
	return node.Request(channel.Request{Op: channel.OpSlow, Room: room, Content: strconv.AppendInt(nil, ms, 10)})
}
