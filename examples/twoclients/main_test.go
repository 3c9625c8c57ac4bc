//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/server/servertest"
)

// The README promises this conversation. Against the configuration of Pomelo's chat sample it is the same.
func TestChatShowsWhatBothAreTold(t *testing.T) {
	const want = `alice enters; in the room are [alice]
bob   enters; in the room are [alice bob]
alice is told {"route":"onAdd","user":"bob"}
alice is told {"msg":"Good morning, everybody!","from":"alice","target":"*"}
bob   is told {"msg":"Good morning, everybody!","from":"alice","target":"*"}
alice is told {"msg":"Only you can read this. 你好","from":"bob","target":"alice"}
alice is told {"route":"onLeave","user":"bob"}
`
	dir := t.TempDir()
	for name, text := range map[string]string{
		"dictionary.json":   `["onChat","onAdd","onLeave"]`,
		"serverProtos.json": `{"onChat":{"required string msg":1,"required string from":2,"required string target":3}}`,
		"clientProtos.json": `{"chat.chatHandler.send":{"required string rid":1,"required string content":2,"required string from":3,"required string target":4},
			"connector.entryHandler.enter":{"required string username":1,"required string rid":2}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, flags := range map[string][]string{"plain": nil, "sample": {"-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0", "-config", dir}} {
		var out strings.Builder
		gate := servertest.Start(t, nil, flags...)["gate"]
		if err := Chat(gate, &out); err != nil {
			t.Fatalf("%s: %v\nso far:\n%s", name, err, &out)
		}
		if out.String() != want {
			t.Errorf("%s: got:\n%s\nwant:\n%s", name, &out, want)
		}
	}
}
