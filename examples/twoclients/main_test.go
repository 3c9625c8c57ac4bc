//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/pomelod/pomelod/server/servertest"
)

// The README promises this conversation.
func TestChatShowsWhatBothAreTold(t *testing.T) {
	var out strings.Builder
	gate := servertest.Start(t, nil)["gate"]
	if err := Chat(gate, &out); err != nil {
		t.Fatalf("%v\nso far:\n%s", err, &out)
	}
	const want = `alice enters; in the room are [alice]
bob   enters; in the room are [alice bob]
alice is told {"route":"onAdd","user":"bob"}
alice is told {"msg":"Good morning, everybody!","from":"alice","target":"*"}
bob   is told {"msg":"Good morning, everybody!","from":"alice","target":"*"}
alice is told {"msg":"Only you can read this. 你好","from":"bob","target":"alice"}
alice is told {"route":"onLeave","user":"bob"}
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &out, want)
	}
}
