//go:build linux

package handover

import (
	"fmt"
	"testing"

	"github.com/pomelod/pomelod/internal/golden"
)

// What Protocol stands for: the kinds of messages and their bodies.
func TestGoldenStates(t *testing.T) {
	g := golden.New("handover.Protocol", Protocol)
	g.Text("kinds", fmt.Sprint(Hello, Ready, Refuse, Loop, Conns, End, Taken, Commit, Released, Serving))
	g.Text("first and last kind", fmt.Sprint(uint8(Hello), uint8(Serving)))
	hello := Greeting{Protocol: Protocol, Format: "format", Version: "version", Node: []byte("node"), Listeners: []Listener{{"name", "addr", "told"}}, Admin: "admin", Upgrades: 2}
	g.Text("hello", string(hello.Append(nil)))
	g.Bytes("ready", AppendTags(nil, []int{1, -1}))
	g.Bytes("loop", (&LoopHead{Frozen: 1000, Conns: 3, Stays: map[string]int{"why": 4}, Shared: []byte("shared")}).Append(nil))
	m := Message{Kind: Conns}
	AppendConn(&m, Conn{FD: 5, State: []byte("state")})
	AppendConn(&m, Conn{FD: -1, State: []byte("polls")})
	g.Bytes("conns", m.Body)
	g.Check(t)
}
