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
	// ErrBusy means that too much waits for the room's worker already. Nothing was pushed.
	ErrBusy = errors.New("the room's worker is busy; try again later")
	// ErrNotRunning means that the App's server does not run: not yet, or no more.
	ErrNotRunning = errors.New("the server is not running")
	// ErrTooLong means that a push is longer than half of what a connection may have unsent.
	ErrTooLong = errors.New("push is too long: raise -outbound or send less")
	// ErrRoute means that a push has no route, or one longer than 255 bytes.
	ErrRoute = errors.New("a push needs a route of 1 to 255 bytes")
	// ErrObject means that a push's body is no JSON object.
	ErrObject = errors.New("a push's body must be a JSON object without a member named body")
	// ErrAbsent means that a room has no member of that name, or that there is no such room.
	ErrAbsent = errors.New("nobody of that name is in the room")
)

// Push sends a push to user in room. It is in order with what the room is told. Whether the user is there is not told (PushContext).
func (a *App) Push(room, user, route string, body any) error {
	return a.push(room, user, route, body)
}

// PushRoom sends a push to every member of room. A room that is empty or has too much to take already gets none, which is
// not told (PushRoomContext).
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

// Broadcast sends a push to every session that has finished its handshake, in a room or not. Between it and what rooms are
// told there is no order.
func (a *App) Broadcast(route string, body any) error {
	node, content, err := a.encodePush(route, body)
	if err != nil {
		return err
	}
	return node.Broadcast(&codec.Push{Route: route, Body: content, Shared: new(codec.SharedFrames)})
}

// Kick ends user's session in room with a reason that it is told. Whether the user was there is not told (KickContext).
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
	object := codec.ScanObject(b)
	for key, _, ok := object.Next(); ok; key, _, ok = object.Next() {
		if string(key) == "body" {
			return nil, nil, ErrObject
		}
	}
	if object.Err() != nil {
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

// Members are the names of those who are in room, in the order in which they entered; none if there is no such room. Like all functions
// with a ctx it waits for the answer, at most until ctx ends or for -request-timeout, so it must not be called where an event loop would
// wait: in OnOpen, OnClose and HandleInline.
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

// KickContext is Kick that waits and tells: ErrAbsent if the user was not in the room.
func (a *App) KickContext(ctx context.Context, room, user, reason string) error {
	return a.ask(ctx, kickRequest(room, user, reason))
}

// PushContext is Push that waits and tells: ErrAbsent if the user was not in the room, ErrBusy if there is too much for it to take already.
func (a *App) PushContext(ctx context.Context, room, user, route string, body any) error {
	_, content, err := a.encodePush(route, body)
	if err != nil {
		return err
	}
	return a.ask(ctx, channel.Request{Op: channel.OpPush, Room: room, Target: user, Route: route, Content: content})
}

// PushRoomContext is PushRoom that waits and tells: ErrAbsent if the room is empty, ErrBusy if it has too much to take already.
func (a *App) PushRoomContext(ctx context.Context, room, route string, body any) error {
	return a.PushContext(ctx, room, channel.Everybody, route, body)
}

func kickRequest(room, user, reason string) channel.Request {
	return channel.Request{Op: channel.OpKick, Room: room, Target: user, Content: codec.AppendString(nil, reason)}
}

// SetSlowMode has every member of room wait for at least d between two messages, and newcomers before their first; a
// message that comes too soon is answered {"code":500,"reason":"slow_mode","wait":SECONDS}. 0 turns it off, and a negative d gives the room
// what -slow-mode says. It holds for the name, whether anybody is in the room or not, until the process ends. At most a day, in
// milliseconds.
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
