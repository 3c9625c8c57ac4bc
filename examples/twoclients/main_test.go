//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The README promises this conversation; it is held with a pomelod built from this checkout.
func TestChatShowsWhatBothAreTold(t *testing.T) {
	var out strings.Builder
	if err := Chat(startServer(t), &out); err != nil {
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

// startServer builds and starts pomelod on free ports, and returns the address of its gate.
func startServer(t *testing.T) (gate string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "pomelod")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "github.com/pomelod/pomelod/cmd/pomelod").CombinedOutput(); err != nil {
		t.Fatalf("build pomelod: %v\n%s", err, out)
	}
	server := exec.Command(binary, "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0", "-admin", "")
	log, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, server) })

	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var entry struct{ Msg, Server, Addr string }
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			t.Fatalf("pomelod said %q", lines.Text())
		}
		if entry.Msg == "listening" && entry.Server == "gate" {
			gate = entry.Addr
		}
		if entry.Msg == "ready" {
			go func() {
				for lines.Scan() { // pomelod must not wait for us to read its log
				}
			}()
			return gate
		}
	}
	t.Fatal("pomelod ended before it was ready")
	return ""
}

// stop holds the server to an orderly end.
func stop(t *testing.T, server *exec.Cmd) {
	_ = server.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(15*time.Second, func() { _ = server.Process.Kill() })
	defer late.Stop()
	if err := server.Wait(); err != nil {
		t.Errorf("pomelod after SIGTERM: %v", err)
	}
}
