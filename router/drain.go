package router

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// How clients are sent away when the process ends. All of them will come back at once, here or elsewhere, so they are sent
// evenly over a time. Each loop sends its own, a few every drainStep.
const (
	drainStep = 20 * time.Millisecond
	// fewPerSecond is how many leave in a second at least, of all loops together: a handful of clients is no crowd, and
	// nobody should wait seconds for a server that has ten.
	fewPerSecond = 50
	// abandonTime is how long loops have at the very end to close what is left. A stuck one never does.
	abandonTime = 100 * time.Millisecond
)

// pace is how far one loop has come with sending its clients away.
type pace struct {
	posted atomic.Bool // a step is in the loop's mail: a stuck loop must not gather them

	// Owned by the loop.
	begun       bool
	total, sent int
	slot        int // the next to look at
}

// Shutdown is Drain at once.
func (n *Node) Shutdown(ctx context.Context) error { return n.Drain(ctx, 0) }

// Drain sends every session away, evenly over a time, and returns when all sockets are closed or ctx ends; what is left then
// is closed without a goodbye, which is the error. Those who have not been sent away yet are served as ever, but no session
// moves or begins to poll (but by the first request of a connection), and members are not told who leaves: soon all will have.
//
// A session is first sent what there is for it. WebSocket clients get a close with code 1001, socket.io clients the end
// of their transport, not of their session, so that they come back by themselves. Accepting must have stopped. Safe from any
// goroutine but a loop's.
func (n *Node) Drain(ctx context.Context, over time.Duration) error {
	n.closing.Store(true)
	if n.app != nil {
		defer n.app.Attach(nil)
	}
	n.pace(ctx, over)
	n.ending.Store(true)
	for _, l := range n.loops { // sessions that came, or were passed over, meanwhile
		l.mail.Post(mail{run: func() { l.np.Each(func(c *netpoll.Conn) { l.sendAway(l.session(c)) }) }})
	}
	for n.open() > 0 {
		if !wait(ctx, 5*time.Millisecond) {
			return n.abandon()
		}
	}
	return nil
}

// pace has the loops send their sessions away until the time is over, nobody is left, or ctx ends.
func (n *Node) pace(ctx context.Context, over time.Duration) {
	paces := make([]pace, len(n.loops))
	began := time.Now()
	for passed := time.Duration(0); passed < over && n.open()+n.pulls() > 0; passed = time.Since(began) {
		for i, l := range n.loops {
			if p := &paces[i]; p.posted.CompareAndSwap(false, true) {
				l.mail.Post(mail{run: func() {
					p.posted.Store(false)
					l.drainSome(p, passed, over)
				}})
			}
		}
		if !wait(ctx, drainStep/2+rand.N(drainStep)) { // uneven, so that clients of several servers do not fall into step
			return
		}
	}
}

// open is the number of sockets.
func (n *Node) open() int {
	open := 0
	for _, l := range n.loops {
		open += l.np.Open()
	}
	return open
}

// abandon closes the sockets whose peers did not close theirs in time.
func (n *Node) abandon() error {
	err := fmt.Errorf("%d connections were cut off: their clients did not close them in time", n.open())
	ctx, cancel := context.WithTimeout(context.Background(), abandonTime)
	defer cancel()
	if e := n.onLoops(ctx, func(l *loop) { l.np.KillAll(reasonShutdown) }); e != nil {
		err = fmt.Errorf("%w; %w", err, e)
	}
	return err
}

// wait tells false when ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// drainSome sends away as many sessions as should have gone by now.
func (l *loop) drainSome(p *pace, passed, over time.Duration) {
	if !p.begun {
		p.begun = true
		l.np.Each(func(c *netpoll.Conn) {
			if !l.isPollingConn(l.session(c)) {
				p.total++
			}
		})
	}
	due := int(float64(p.total) * passed.Seconds() / over.Seconds())
	few := 1 + int(fewPerSecond*passed.Seconds())/len(l.node.loops)
	quota := max(due, few) - p.sent
	for ends := 0; quota > 0 && ends < 2; { // slots are gone through once: twice when the first are those of newcomers
		more := l.np.EachIn(p.slot, p.slot+1, func(c *netpoll.Conn) {
			if s := l.session(c); !l.isPollingConn(s) {
				p.sent++
				quota--
				l.sendAway(s)
			}
		})
		if p.slot++; !more {
			p.slot = 0
			ends++
		}
	}
}

// isPollingConn reports whether a polling client may still fetch its last messages through s. Such conns are closed last: nobody knows which
// connection a client will use for its next GET.
func (l *loop) isPollingConn(s *session) bool {
	return s.http() != nil && l.node.pulls() > 0 || s.phase == ended && s.conn.IsPull()
}

// sendAway ends a session because the server ends. A panic costs that session; the others have yet to go.
func (l *loop) sendAway(s *session) {
	c := s.conn
	defer func() {
		if p := recover(); p != nil {
			l.counters.panics++
			slog.Error("panic while sending a client away; it is disconnected", "panic", fmt.Sprint(p), "peer", c.Peer(), "stack", string(debug.Stack()))
			l.np.Kill(c, netpoll.ReasonPanic)
		}
	}()
	if s.x != nil && s.x.errand.task == taskPoll { // the goodbye to the session is this connection's last answer
		if in := l.byID(s.x.errand.session); in != nil && in.x != nil && in.x.pull != nil {
			l.polls.end(in, reasonShutdown)
		}
	}
	switch {
	case !s.conn.Alive():
	case s.phase == ended && s.conn.IsPull(): // it waits for its GET, and there is no more time for that
		l.np.Close(s.conn, reasonShutdown)
	default:
		l.endWith(s, reasonShutdown, codec.WSCloseGoingAway, "server is shutting down")
	}
}

// http is what a connection that speaks HTTP keeps for that, or nil.
func (s *session) http() *httpConn {
	if s.phase == ended || s.x == nil {
		return nil
	}
	return s.x.http
}
