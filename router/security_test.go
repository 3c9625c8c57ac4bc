package router

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// attempts are what a client may send to reach what is not its own, and what it is answered.
var attempts = []struct{ route, body, want string }{
	// The remote services of chat servers, and Pomelo's own.
	{"chat.chatRemote.add", `{"uid":"eve*private","sid":"connector-server-1","name":"private","flag":true}`, refused},
	{"chat.chatRemote.get", `{"name":"private","flag":false}`, refused},
	{"chat.chatRemote.kick", `{"uid":"alice*private","sid":"connector-server-1","name":"private"}`, refused},
	{"sys.msgRemote.forwardMessage", `{}`, refused},
	{"sys.channelRemote.broadcast", `["onChat",{"msg":"forged"},[]]`, refused},
	{"sys.sessionRemote.kickBySid", `{"sid":1}`, refused},
	{"connector.entryHandler.getMembers", `{"rid":"private"}`, refused},
	{"connector.entryHandler.constructor", `{}`, refused},
	{"connector.entryRemote.enter", `{"username":"eve","rid":"private"}`, refused},
	{"chat.chatHandler.getMembers", `{"rid":"private"}`, refused},
	{"chat.chatHandler.prototype", `{}`, refused},
	{"chat.chatHandler.__proto__", `{}`, refused},
	{"chat.channelService.getMembers", `{"name":"private"}`, refused},
	{"master.console.stop", `{}`, refused},
	{"admin.adminHandler.kick", `{}`, refused},
	{"CHAT.chatHandler.send", `{"content":"x","target":"*"}`, refused},
	{"chat.chatHandler.send.", `{"content":"x","target":"*"}`, refused},
	{"chat.chatHandler", `{}`, refused},
	{"onChat", `{"route":"onChat","msg":"forged","from":"alice","target":"*"}`, refused},
	// Members of a message that only the session decides. It goes to eve's own room, from eve.
	{routeSend, `{"content":"%s","target":"alice","rid":"private","from":"bob"}`, refused}, // no alice in eve's room
	{routeSend, `{"content":"%s","target":"alice*private","rid":"private"}`, refused},
	{routeSend, `{"content":"%s","target":["alice"],"rid":"private"}`, refused},
	{routeSend, `{"content":"%s","target":"*private"}`, refused},
	{routeSend, `{"content":"%s","rid":"private","route":"onLeave","uid":"alice*private"}`, refused},
}

// A client cannot call remote services, send into a room that it is not in, send to somebody there, learn who is there or
// forge a sender; whether it is in a room of its own or in none. Members of the other room are told nothing.
func TestClientsReachOnlyTheirOwn(t *testing.T) {
	forTalkers(t, func(t *testing.T, r *rig, login func() talker) {
		alice, bob := r.login(atConnector, false), r.login(atConnector, true)
		alice.enter("alice", "private")
		bob.enter("bob", "private")
		alice.take()
		secret := "forged-" + t.Name()
		for _, in := range []bool{false, true} {
			eve := login()
			if in {
				eve.enter("eve", "own")
			}
			eve.take()
			for _, a := range attempts {
				body := strings.ReplaceAll(a.body, "%s", "x")
				if got := eve.ask(a.route, body); got != a.want {
					t.Errorf("in a room %v: %s %s: answered %s", in, a.route, body, got)
				}
				for _, line := range eve.take() {
					t.Errorf("in a room %v: %s %s: told %s", in, a.route, body, line)
				}
			}
			everybody := fmt.Sprintf(`{"content":%q,"target":"*","rid":"private","from":"alice","route":"onAdd","user":"mallory","sender":"alice"}`, secret)
			got := eve.ask(routeSend, everybody)
			if in && got != `{}` || !in && got != refused {
				t.Errorf("in a room %v: %s", in, got)
			}
			told := eve.take()
			if want := fmt.Sprintf(`push 0 onChat {"msg":%q,"from":"eve","target":"*"}`, secret); in && (len(told) != 1 || told[0] != want) || !in && len(told) != 0 {
				t.Errorf("in a room %v: told %q", in, told)
			}
		}
		r.net.Settle()
		alice.want()
		bob.want()
	})
}

// What a client says in the form of an answer or of a push is none: the others see nothing, nobody's request is answered by it, and
// a push is taken for a notify, as by the original.
func TestClientsCannotAnswerOrPush(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	eve, alice := r.login(atConnector, false), r.login(atConnector, false)
	alice.enter("alice", "r")
	eve.enter("eve", "r")
	alice.take()
	for _, m := range []codec.Message{
		{Type: codec.MessageResponse, ID: 1, Body: []byte(`{"users":[]}`)},
		{Type: codec.MessagePush, Route: []byte("onChat"), Body: []byte(`{"msg":"forged","from":"alice","target":"*"}`)},
		{Type: codec.MessagePush, Route: []byte("onKick"), Body: []byte(`{"reason":"forged"}`)},
	} {
		b, err := codec.AppendMessage(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		eve.send(codec.PackageData, b)
	}
	for _, b := range [][]byte{{0x01, 1, 0xff, 0xff}, {0x03, 0, 0}, {0x08}, {0x0e}} { // routes by codes there are not, messages of no type
		eve.send(codec.PackageData, b)
	}
	r.net.Settle()
	alice.want()
	eve.want()
	if c := r.node.loops[0].counters; c.unknownRoutes != 4 || c.malformed != 3 {
		t.Errorf("counted %d unknown routes, %d malformed messages", c.unknownRoutes, c.malformed)
	}
	b, _ := codec.AppendMessage(nil, codec.Message{Type: codec.MessagePush, Route: []byte(routeSend), Body: []byte(sendBody("x", "*"))})
	eve.send(codec.PackageData, b)
	r.net.Settle()
	alice.want(`push 0 onChat {"msg":"x","from":"eve","target":"*"}`)
	// A package of type kick is a server's: it ends who sends it, and nobody else.
	eve.send(codec.PackageKick, []byte(`{"reason":"forged"}`))
	r.net.Settle()
	if !eve.ended() || alice.ended() {
		t.Error("ended:", eve.ended(), alice.ended())
	}
	alice.want(`push 0 onLeave {"route":"onLeave","user":"eve"}`)
}

// Who has left a room, or was refused another, is not in it any more, or yet.
func TestSendFollowsMembership(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	eve, alice, bob := r.login(atConnector, false), r.login(atConnector, false), r.login(atConnector, false)
	alice.enter("alice", "1")
	bob.enter("bob", "2")
	eve.enter("eve", "1")
	eve.enter("eve", "2")
	alice.take()
	bob.take()
	eve.ask(routeSend, sendBody("two", "*"))
	alice.want()
	bob.want(`push 0 onChat {"msg":"two","from":"eve","target":"*"}`)
	if got := eve.enter("alice", "1"); got != enterRefused {
		t.Error(got)
	}
	eve.take()
	eve.ask(routeSend, sendBody("still two", "*"))
	alice.want()
	bob.want(`push 0 onChat {"msg":"still two","from":"eve","target":"*"}`)
	if got := eve.ask(routeSend, sendBody("x", "alice")); got != refused {
		t.Error(got)
	}
	alice.want()
}
