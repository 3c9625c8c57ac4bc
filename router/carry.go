package router

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/internal/hosting"
	"github.com/pomelod/pomelod/netpoll"
)

// errPack means that a function of the program is at work for longer than clients may wait.
var errPack = errors.New("the program's Carry takes too long to pack its sessions, or asks something of rooms, which rest: it must not block")

// Carries tells whether sessions that the App knows can go to the next process. Safe from any goroutine.
func (n *Node) Carries() bool { return n.app != nil && n.app.Carries() }

// Pack has the App tell what the next process must know of each session that it knows, for so long at most. Those of which it tells nothing, and those that it
// comes to know later, stay (ExportLoop). Called when nobody turns the loops.
func (n *Node) Pack(within time.Duration) error {
	if !n.Carries() {
		return nil
	}
	var known []*appClient
	for _, l := range n.loops {
		l.np.Each(func(c *netpoll.Conn) {
			if k := l.session(c).appClient(); k != nil {
				known = append(known, k)
			}
		})
	}
	done := make(chan []*hosting.Carried, 1)
	var late atomic.Bool // sessions are served again, so the program is asked about no more of them: its functions may be changing what it would tell
	go func() {          // a function that blocks must not keep everybody waiting; it ends when it does
		packed := make([]*hosting.Carried, len(known))
		for i, k := range known {
			if late.Load() {
				return
			}
			if c, ok := n.app.Pack(k.Session); ok {
				packed[i] = &c
			}
		}
		done <- packed
	}()
	select {
	case packed := <-done:
		for i, k := range known {
			k.packed = packed[i]
		}
		return nil
	case <-time.After(within):
		late.Store(true)
		return errPack
	}
}

// Unpack forgets what Pack was told, as the sessions go on here. Called when nobody turns the loops.
func (n *Node) Unpack() {
	if !n.Carries() {
		return
	}
	for _, l := range n.loops {
		l.np.Each(func(c *netpoll.Conn) {
			if k := l.session(c).appClient(); k != nil {
				k.packed = nil
			}
		})
	}
}

// unpack tells the App what the process before knew of s. If the App can do nothing with that, s is sent away as soon as the loop turns.
func (l *loop) unpack(s *session, packed hosting.Carried) {
	k := l.appClient(s)
	if l.node.app.Unpack(k.Session, packed) {
		return
	}
	l.postRun(0, func() {
		if s := l.byAddr(k.addr); s != nil {
			l.sendAway(s)
		}
	})
}

// meet tells the App of s, which the App of the process before did not know, if there was one, as of a session that comes now, and enters the room that it is in.
func (l *loop) meet(s *session) {
	program, room := l.node.app, s.room
	if program == nil || !program.Watches() || s.phase != working {
		return
	}
	s.room = nil
	k := l.appClient(s)
	s.room = room
	program.Opened(k.Session)
	if room != nil {
		l.tellMoved(s, app.Switched)
	}
}
