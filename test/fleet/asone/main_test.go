package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A fleet ends well where somebody has killed a node just before, or where one has not come so far that it catches a signal; a node that ends badly is an error.
func TestEnd(t *testing.T) {
	const listening = `echo '{"msg":"listening","server":"admin","addr":"127.0.0.1:1"}' >&2; `
	for _, tc := range []struct {
		name, script string
		kill         bool
		want         string // of the error; empty: none
	}{
		{"in order", "trap 'exit 0' TERM; " + listening, false, ""},
		{"killed before", "trap 'exit 0' TERM; " + listening, true, ""},
		{"starting", "", false, ""},
		{"with an error", "trap 'exit 3' TERM; " + listening, false, "x: exit status 3"},
		{"without a handler", listening, false, "x: signal: terminated"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), "node")
			began := binary + ".began"
			script := "#!/bin/sh\n" + tc.script + ": >" + began + "; while :; do read line || sleep 0.02; done </dev/null\n"
			if err := os.WriteFile(binary, []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			died := make(chan *node, 1)
			n := &node{id: "x"}
			if err := n.start(binary, "nats://127.0.0.1:1", died); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL) }()
			ready := func() bool {
				_, err := os.Stat(began)
				return err == nil && (n.addr("admin") != "") == strings.Contains(tc.script, "listening")
			}
			for late := time.Now().Add(30 * time.Second); !ready(); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(late) {
					t.Fatal("the node does not start")
				}
			}
			if tc.kill {
				_ = n.cmd.Process.Signal(syscall.SIGKILL) // and nobody has looked at that when all are ended
			}
			err := end([]*node{n})
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || err.Error() != tc.want) {
				t.Errorf("ended with %v, want %q", err, tc.want)
			}
		})
	}
}
