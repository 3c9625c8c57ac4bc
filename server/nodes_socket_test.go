//go:build linux

package server

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// socketsOf is an environment with XDG_RUNTIME_DIR, and the directory there that sockets are in.
func socketsOf(t *testing.T) (environ []string, dir string) {
	t.Helper()
	runtime, err := os.MkdirTemp("", "run") // the path of a socket has 108 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(runtime) })
	dir = filepath.Join(runtime, "pomelod")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	return []string{"XDG_RUNTIME_DIR=" + runtime}, dir
}

// answerAt has h answer at a socket.
func answerAt(t *testing.T, path string, h http.Handler) {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
}

// leaveAt leaves a socket behind as a process does that is killed.
func leaveAt(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
}

// Nodes of one machine have sockets by their names. list and drain ask any that answers, unless they were told whom; what is about one node asks which.
func TestNodesAreFoundBySockets(t *testing.T) {
	environ, dir := socketsOf(t)
	fleet, _ := newFakeFleet(t)
	leaveAt(t, filepath.Join(dir, "a.sock"))
	answerAt(t, filepath.Join(dir, socketName("chat/1")), fleet)
	if name := filepath.Base(findSocket(environ, "chat/1")); name != "chat%2F1.sock" {
		t.Errorf("a node's socket is %s", name)
	}
	for _, tc := range []struct {
		args, more string
		code       int
		want       string
	}{
		{"list", "", 0, "ok, maker"},
		{"drain b -wait 0", "", 0, "b was asked to end"},
		{"list -admin 127.0.0.1:1", "", 1, "no pomelod answers at 127.0.0.1:1"},
		{"list", "POMELOD_ADMIN=127.0.0.1:1", 1, "no pomelod answers at 127.0.0.1:1"},
	} {
		var out bytes.Buffer
		if code := runCommand(strings.Fields(tc.args), &caller{environ: append(slices.Clone(environ), tc.more), stdout: &out, stderr: &out}); code != tc.code || !strings.Contains(out.String(), tc.want) {
			t.Errorf("%s, %s: exit %d, %s", tc.args, tc.more, code, &out)
		}
	}

	ours := func() (list []string) {
		for _, path := range liveSockets(environ) {
			if filepath.Dir(path) == dir {
				list = append(list, filepath.Base(path))
			}
		}
		return list
	}
	if got := ours(); !slices.Equal(got, []string{"chat%2F1.sock"}) {
		t.Errorf("somebody answers at %v", got)
	}
	if usual := findSocket(environ, ""); filepath.Dir(usual) == dir { // else this machine has a place for services
		if got, err := theSocket(environ); err != nil || filepath.Base(got) != "chat%2F1.sock" {
			t.Errorf("of one: %s, %v", got, err)
		}
		answerAt(t, filepath.Join(dir, "gate-1.sock"), fleet)
		if got, err := theSocket(environ); err == nil || !strings.Contains(err.Error(), "gate-1.sock") {
			t.Errorf("of two: %s, %v", got, err)
		}
		answerAt(t, usual, fleet)
		if got, err := theSocket(environ); err != nil || got != usual {
			t.Errorf("beside a process that is in no fleet: %s, %v", got, err)
		}
	}
}

// A proxy for the web is none for nodes.
func TestNodesAreAskedWithoutAProxy(t *testing.T) {
	_, addr := newFakeFleet(t)
	_, port, _ := net.SplitHostPort(addr)
	cmd := pomelodCommand([]string{"HTTP_PROXY=http://127.0.0.1:1", "http_proxy=http://127.0.0.1:1"}, "list", "-admin", "0.0.0.0:"+port) // 127.0.0.1 never has one
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "ok, maker") {
		t.Errorf("%v: %s", err, out)
	}
}
