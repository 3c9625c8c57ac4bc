package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
)

// ErrAbsent means that a room has no member of that name, or that there is no such room.
var ErrAbsent = errors.New("nobody of that name is in the room")

// asks are the questions of programs and operators that wait for an answer. Safe from any goroutine.
type asks struct {
	mu      sync.Mutex
	last    uint32                   // number
	waiting map[uint32]chan<- []byte // by number
}

// begin gives a question its number, which is never 0.
func (a *asks) begin() (number uint32, answer <-chan []byte) {
	c := make(chan []byte, 1)
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.last++; a.last == 0 || a.waiting[a.last] != nil; a.last++ {
	}
	if a.waiting == nil {
		a.waiting = make(map[uint32]chan<- []byte)
	}
	a.waiting[a.last] = c
	return a.last, c
}

func (a *asks) end(number uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, number)
}

// answer hands over an answer, unless nobody waits any more.
func (a *asks) answer(it *channel.Item) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.waiting[it.Req]; c != nil {
		delete(a.waiting, it.Req)
		c <- append(it.Body[:len(it.Body):len(it.Body)], it.End()...)
	}
}

// asker is the address of one who is no session: the loop that takes the answer.
func (n *Node) asker(l *loop) channel.Addr {
	return channel.Addr{Node: n.id, Ref: channel.Ref(l.index) << 56}
}

// isAsker tells whether an address is that of one who is no session.
func isAsker(a channel.Addr) bool { return a.Ref<<8 == 0 }

// Ask has the owner of r.Room execute r and returns its answer, JSON that must not be changed. It fails with ErrBusy when the owner has too
// much to do, and when there is no answer before ctx ends; without a deadline it waits for -request-timeout. Then it is not known whether r
// was executed. Safe from any goroutine but a loop's, which it would hold up.
func (n *Node) Ask(ctx context.Context, r channel.Request) ([]byte, error) {
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(n.limits.RequestSeconds)*time.Second)
		defer cancel()
	}
	number, answer := n.asks.begin()
	defer n.asks.end(number)
	r.Req = number
	if err := n.request(r); err != nil {
		return nil, err
	}
	select {
	case b := <-answer:
		return b, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("room %s: no answer: %w", r.Room, ctx.Err())
	}
}

// ask is Ask for what is done or not.
func (a *App) ask(ctx context.Context, r channel.Request) error {
	node := a.node.Load()
	if node == nil {
		return ErrNotRunning
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
	node := a.node.Load()
	if node == nil {
		return nil, ErrNotRunning
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
