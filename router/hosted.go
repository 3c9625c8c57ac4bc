package router

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
)

// appClient is a session that functions of the App have seen. It implements hosting.Client.
type appClient struct {
	hosting.Session // static, as the courier and the address
	courier         courier
	addr            channel.Addr
	rates           []limit.Bucket   // of routes that App.Limit names; owned by the loop
	packed          *hosting.Carried // for the next process (Node.Pack); nil: it cannot go along
	bindings        []binding        // that wait; owned by the loop
	telling         atomic.Bool      // the loop will look which user's session it is (Bound)
	logins          atomic.Int32     // somebody waits for what comes of so many
	replaced        channel.RoomID   // to which its user has come back by another session; 0: to none. Owned by the loop
	ended           atomic.Bool      // a client of socket.io may have begun another session since, at the same address
}

// courier takes what a program does to a session on its loop, which implements it. A session that has ended by then misses nothing. Safe from any
// goroutine.
type courier interface {
	// postPush pushes to the session at an address, or returns app.ErrBusy.
	postPush(to channel.Addr, p *codec.Push) error
	// postKick ends the session at an address, which is told why.
	postKick(to channel.Addr, reason string)
	// postChange changes the rooms of the session at an address, or returns app.ErrBusy. Else Change.Done is called.
	postChange(to channel.Addr, c hosting.Change) error
	// postBound has a session counted as one of its user's.
	postBound(k *appClient)
	// postLogin has a session counted as one of a uid's, or returns app.ErrBusy. Else Login.Done is called.
	postLogin(k *appClient, b *hosting.Login) error
}

// Push implements hosting.Client.
func (k *appClient) Push(p *codec.Push) error {
	if k.ended.Load() {
		return nil
	}
	return k.courier.postPush(k.addr, p)
}

// Kick implements hosting.Client.
func (k *appClient) Kick(reason string) {
	if !k.ended.Load() {
		k.courier.postKick(k.addr, reason)
	}
}

// Change implements hosting.Client.
func (k *appClient) Change(c hosting.Change) error {
	if k.ended.Load() {
		return app.ErrClosed
	}
	return k.courier.postChange(k.addr, c)
}

// postPush implements courier.
func (l *loop) postPush(to channel.Addr, p *codec.Push) error {
	if l.busy() {
		return app.ErrBusy
	}
	l.node.posting.RLock() // what rests stays at rest (Rest)
	defer l.node.posting.RUnlock()
	l.postRun(len(p.Body), func() {
		if s := l.byAddr(to); s != nil && s.phase == working {
			l.pushTo(s, p)
		}
	})
	return nil
}

// postKick implements courier.
func (l *loop) postKick(to channel.Addr, reason string) {
	l.node.posting.RLock()
	defer l.node.posting.RUnlock()
	l.postRun(len(reason), func() {
		if s := l.byAddr(to); s != nil {
			l.kick(s, reason)
		}
	})
}

// take charges a call to the bucket that the session has for a route, one of so many, and tells whether there was something in it.
func (k *appClient) take(r *routeRate, of int, now int64) bool {
	if k.rates == nil {
		k.rates = make([]limit.Bucket, of)
	}
	return k.rates[r.index].Take(r.Rate, now)
}

// appClient is what the App knows s by, made when it is first needed: plain chat sessions have none.
func (l *loop) appClient(s *session) *appClient {
	x := s.needRare()
	if x.client == nil {
		k := &appClient{courier: l, addr: l.addr(s.conn)}
		k.Session = l.node.app.NewSession(k, s.conn.Peer(), s.where())
		x.client = k
	}
	return x.client
}

// where is in which rooms s is.
func (s *session) where() (at hosting.Where) {
	for _, name := range s.rooms() {
		at.User, at.Rooms = s.user(), append(at.Rooms, name)
	}
	return at
}

// tellOpened tells the App of a session that has finished its handshake.
func (l *loop) tellOpened(s *session) {
	l.limiter.begin(&s.meter)
	if app := l.node.app; app != nil && app.Watches() {
		app.Opened(l.appClient(s).Session)
	}
}

// tellMoved tells the App in which rooms s is now, under which name, and why it is no longer in others.
func (l *loop) tellMoved(s *session, why app.Why) {
	if k := s.appClient(); k != nil {
		k.Moved(s.where(), string(why))
	}
}

// tellReturned tells the App, if it is so, that s has taken up its place in a room, or has had it since before another session was told of as away. name is empty if it has left it again.
func (l *loop) tellReturned(s *session, it *channel.Item, name string) {
	if k := s.appClient(); k != nil && it.Returns() && name != "" {
		k.Returned(name)
	}
}

// tellAway tells the App that the owner of a room is about to be asked to keep the place of s, which ends for a reason; near is where it was. The owner may have no more places for that address, which
// only it knows (channel.Request.Cut). Whoever returns does so behind the leave: so the App hears of that later, wherever it is. Another session may have the place already, which this loop has not heard
// of yet: so the leave has the key of s, by which the owner finds that one, and comes behind what the App has just pushed to the room.
func (l *loop) tellAway(s *session, r *room, name string, near uint64, why netpoll.Reason) (told bool) {
	k := s.appClient()
	switch {
	case k == nil, k.replaced == r.id: // its place is the new session's
	case near == 0 && s.keyAs(s.user()) == 0: // nothing tells it from others
	case why == reasonShutdown && !l.node.inFleet: // rooms end, too
	case l.rooms.policy != nil && l.rooms.policy(name).NoGrace:
	default:
		k.Away(name)
		return true
	}
	return false
}

// tellClosed tells the App of a session's end.
func (l *loop) tellClosed(s *session, why netpoll.Reason) {
	if k := s.appClient(); k != nil && why != netpoll.ReasonMoved { // else it goes on in the next process
		k.End(string(l.whyLeft(s, why)))
		l.node.app.Closed(k.Session)
	}
}

// whyLeft is why a session that ends leaves its room.
func (l *loop) whyLeft(s *session, why netpoll.Reason) app.Why {
	switch {
	case why == reasonShutdown:
		return app.Shutdown
	case l.isCut(s, why):
		return app.Cut
	case why == reasonGoodbye, why == netpoll.ReasonPeer:
		return app.Goodbye
	case why == reasonKick:
		return app.Kicked
	}
	return app.Refused
}

// pushTo stages a push for one session.
func (l *loop) pushTo(s *session, p *codec.Push) {
	l.np.Commit(s.conn, p.AppendFrame(l.np.Stage(s.conn), l.variant(s)))
}

// broadcast stages a push for the sessions from slot on, so many in a turn that neither the turn nor what is staged grows
// with their number.
func (l *loop) broadcast(p *codec.Push, slot int) {
	end, more := slot+broadcastSlice, false
	defer func() {
		if !more { // done, or given up in a panic: otherwise no session would ever move again
			l.node.broadcasts.Add(-1)
		}
	}()
	more = l.np.EachIn(slot, end, func(c *netpoll.Conn) {
		if s := l.session(c); s.phase == working {
			l.pushTo(s, p)
		}
	})
	if more {
		l.postRun(len(p.Body), func() { l.broadcast(p, end) })
	}
}

const broadcastSlice = 256

// partitionOf is the partition that a program's or an operator's request is for.
func partitionOf(r *channel.Request) uint16 {
	switch {
	case r.Op == channel.OpRooms:
		return r.Part
	case r.Room == "":
		return channel.Partition(r.User)
	}
	return channel.Partition(r.Room)
}

// request posts a request that no session asked for. Safe from any goroutine.
func (n *Node) request(req channel.Request) error {
	if req.Part = partitionOf(&req); req.Op != channel.OpRooms {
		req.Fold = n.names.Fold(req.Target)
	}
	if (req.Op == channel.OpSet || req.Op == channel.OpData) && !validName(req.Room, n.limits.Load().NameBytes) { // a room stays for it, and its name counts for no more than that
		return app.ErrName
	}
	n.posting.RLock() // waits only while a partition begins to move, and while the node rests
	defer n.posting.RUnlock()
	at := n.placement.Load()[req.Part]
	if req.Sheddable() && at.inlet.Full() {
		return app.ErrBusy
	}
	req.From = n.asker(at.loop)
	at.inlet.Post(req)
	return nil
}

// After implements hosting.Node.
func (h host) After(d time.Duration, f func()) (stop func() bool) { return h.after(d, f) }

// StartApp calls the App's OnStart functions, and returns the error of the first that fails. Call it once, before the loops turn.
func (n *Node) StartApp() error {
	if n.app == nil {
		return nil
	}
	return n.app.Start()
}

// StopApp calls the App's OnStop functions, which have until ctx ends; those that take longer are left behind, which is the error. Call it
// when the loops have ended.
func (n *Node) StopApp(ctx context.Context) error {
	if n.app == nil {
		return nil
	}
	return n.app.Stop(ctx)
}

// host is a node as its App sees it. It implements hosting.Node.
type host struct{ *Node }

// Fits implements hosting.Node.
func (h host) Fits(bytes int) bool { return h.limits.Load().fits(bytes) }

// Request implements hosting.Node.
func (h host) Request(r channel.Request) error { return h.request(r) }
