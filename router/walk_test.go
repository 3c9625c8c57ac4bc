package router

import (
	"os"
	"testing"
)

// TestWalk lets one thing happen more than nothing, for scripts/walk.sh, which counts the functions that it passes.
func TestWalk(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	other := r.login(atConnector, true)
	other.enter("other", "r")
	member, comer := r.login(atConnector, false), r.login(atConnector, false)
	member.enter("member", "r")
	poller := r.sioLogin(flavours[len(flavours)-1])
	poller.enter("poller", "p")
	friend := r.login(atConnector, true)
	friend.enter("friend", "p")
	for range 2 { // the first answers the GET that is held, the second waits for the next
		friend.sock.Send(friend.message(9, routeSend, sendBody("anybody there?", "*")))
		r.net.Settle()
	}
	switch os.Getenv("POMELOD_WALK") {
	case "enter":
		comer.sock.Send(comer.message(7, routeEnter, enterBody("comer", "r")))
	case "send":
		member.sock.Send(member.message(7, routeSend, sendBody("good morning", "*")))
	case "get":
		poller.poll()
	case "close":
		member.sock.End()
	}
	r.net.Settle()
}
