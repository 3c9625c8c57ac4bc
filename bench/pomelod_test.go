//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

var built string // a directory that TestMain removes

var buildPomelod = sync.OnceValues(func() (path string, err error) {
	if built, err = os.MkdirTemp("", "bench-test-"); err != nil {
		return "", err
	}
	path = built + "/pomelod"
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", path, "../cmd/pomelod")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// pomelodOf is the path of the binary under test, built once. It skips the test with -short.
func pomelodOf(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and starts pomelod")
	}
	path, err := buildPomelod()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// realServer starts pomelod and returns the address of its connector.
func realServer(t *testing.T) (addr string) {
	t.Helper()
	path := pomelodOf(t)
	v, _ := parseVariant(path + " -loops 2")
	s, err := start(v, strings.Fields("-listen 127.0.0.1:0 -gate 127.0.0.1:0 -admin="), nil, cpuSet(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	return s.connectors[0].String()
}

// A room of pomelod's, over each of its wires, has nothing to complain of.
func TestBroadcastOfPomelod(t *testing.T) {
	for _, wire := range []string{"tcp", "ws", "sio09", "eio3", "eio4", "sio09-polling", "eio3-polling", "eio4-polling"} {
		t.Run(wire, func(t *testing.T) {
			addr := realServer(t)
			gently(t)
			if r := trial(t, "broadcast", wire, addr, broadcastArgs...); r.Void {
				t.Errorf("%+v", r.Faults)
			}
		})
	}
}
