package router

import (
	"context"
	"fmt"
	"sync"
	"time"

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

// asker is the address of one who is no session: the loop that takes the answer. nil is any.
func (n *Node) asker(l *loop) channel.Addr {
	if l == nil {
		l = n.loops[0]
	}
	return channel.Addr{Node: n.id, Ref: channel.Ref(l.index) << 56}
}

// Ask has the owner of r.Room execute r and returns its answer, JSON that must not be changed. It fails with app.ErrBusy when the owner has too
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
		at := "another node, which owns the room"
		if l := n.placement.Load()[channel.Partition(r.Room)].loop; l != nil {
			at = fmt.Sprintf("event loop %d", l.index)
		}
		return nil, fmt.Errorf("room %s: no answer from %s: %w", r.Room, at, ctx.Err())
	}
}
