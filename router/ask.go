package router

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
)

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

// asker is an address that is no session's: that of the loop that takes the answer. nil is any loop.
func (n *Node) asker(l *loop) channel.Addr {
	if l == nil {
		l = n.loops[0]
	}
	return channel.Addr{Node: n.id, Ref: channel.Ref(l.index) << 56}
}

// Ask has the owner of the partition of r.Room, or of r.User where that is empty, execute r, wherever in a fleet that is, and returns its answer, JSON that must not be changed. It fails
// with app.ErrBusy or app.ErrNotSent when r has not been executed; and with app.ErrUnknown when there is no answer before ctx ends, or before a fleet
// gives r up: r may have been executed then. Without a deadline it waits for -request-timeout, and in a fleet for as long as a loop does, so that the
// fleet, which may know more, speaks first. Safe from any goroutine but a loop's, which it would hold up.
func (n *Node) Ask(ctx context.Context, r channel.Request) ([]byte, error) {
	part := partitionOf(&r)
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, n.patience(part))
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
		switch string(b) {
		case string(channel.NotSent):
			return nil, fmt.Errorf("room %s: %w", r.Room, app.ErrNotSent)
		case string(channel.Unknown):
			return nil, fmt.Errorf("room %s: %w", r.Room, app.ErrUnknown)
		}
		return b, nil
	case <-ctx.Done():
		at := "another node, which owns the room"
		if l := n.placement.Load()[part].loop; l != nil {
			at = fmt.Sprintf("event loop %d", l.index)
		}
		return nil, fmt.Errorf("room %s: no answer from %s: %w: %w", r.Room, at, app.ErrUnknown, ctx.Err())
	}
}

// patience is how long an ask without a deadline waits for the owner of a partition.
func (n *Node) patience(part uint16) time.Duration {
	seconds := n.limits.Load().RequestSeconds
	if n.placement.Load()[part].loop == nil {
		seconds += elsewhereSeconds
	}
	return time.Duration(seconds) * time.Second
}
