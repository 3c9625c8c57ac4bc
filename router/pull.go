package router

import (
	"slices"

	"github.com/pomelod/pomelod/netpoll"
)

// pull is what a session has beside others if its client polls: which connections wait for it, and for what. It knows their names only; what is said
// to them is for polls, and how for the session's protocol.
type pull struct {
	get    netpoll.ID   // connection whose GET is held; 0: none
	posts  []netpoll.ID // connections whose POSTs wait, in the order they came
	probe  netpoll.ID   // WebSocket that may take over; 0: none
	probed bool         // its probe was answered: the client waits for the end of its GET
	text   bool         // Engine.IO 3: payloads are text
	ended  bool         // the session has ended, and only waits for a GET to fetch the reason
	why    netpoll.Reason
}

// due is what a GET for which there is nothing else is to be answered with.
type due uint8

const (
	dueNothing  due = iota // it is held
	dueIdle                // a packet that says nothing
	dueFarewell            // the packet that ends the session
)

// due tells what is due to a GET that is held.
func (p *pull) due() due {
	switch {
	case p.ended:
		return dueFarewell
	case p.probed: // the client waits for this before it changes over (protocol.md §6.4)
		return dueIdle
	}
	return dueNothing
}

// release takes away the GET that is held, to be answered.
func (p *pull) release() (get netpoll.ID) {
	get, p.get = p.get, 0
	return get
}

// take tells whether a POST may be read now: not while unread says that earlier ones have yet to be taken, nor before others that wait. One
// that may not waits from now on. When the session has ended nothing waits.
func (p *pull) take(post netpoll.ID, unread bool) bool {
	at := slices.Index(p.posts, post)
	if !p.ended && (unread || len(p.posts) > 0 && at != 0) {
		if at < 0 {
			p.posts = append(p.posts, post)
		}
		return false
	}
	if at >= 0 {
		p.posts = slices.Delete(p.posts, at, at+1)
	}
	return true
}

// next is the POST that may be read when what was sent before has been taken; 0 for none.
func (p *pull) next() netpoll.ID {
	if len(p.posts) == 0 {
		return 0
	}
	return p.posts[0]
}

// try makes probe the WebSocket that may take over. There is one at a time.
func (p *pull) try(probe netpoll.ID) bool {
	if p.probe != 0 {
		return false
	}
	p.probe = probe
	return true
}

// end ends the session. It returns false when that was done before.
func (p *pull) end(why netpoll.Reason) bool {
	if p.ended {
		return false
	}
	p.ended, p.why = true, why
	return true
}

// waits tells whether the session, which ends, stays until a GET has fetched what there is. ending tells that there is no more time for that.
func (p *pull) waits(ending bool) bool {
	switch p.why {
	case reasonKick, reasonFlood, reasonLogin:
		return p.ended
	case reasonShutdown:
		return p.ended && !ending
	}
	return false
}

// gone forgets a connection that is gone, and tells what it did.
func (p *pull) gone(conn netpoll.ID) task {
	switch i := slices.Index(p.posts, conn); {
	case p.get == conn:
		p.get = 0
		return taskPoll
	case p.probe == conn:
		p.probe, p.probed = 0, false
		return taskProbe
	case i >= 0:
		p.posts = slices.Delete(p.posts, i, i+1)
		return taskPost
	}
	return taskNone
}
