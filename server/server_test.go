//go:build linux

package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/router"
)

// TestMain fails the run when it leaves goroutines or descriptors behind.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	files := openFiles()
	code := m.Run()
	if code == 0 {
		code = checkLeaks(files)
	}
	os.Exit(code)
}

func checkLeaks(files int) int {
	for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		stacks := leftGoroutines()
		if left := openFiles(); len(stacks) == 0 && left <= files {
			return 0
		} else if time.Now().After(end) {
			println("left behind:", left-files, "descriptors;", len(stacks), "goroutines\n"+strings.Join(stacks, "\n\n"))
			return 1
		}
	}
}

// leftGoroutines are the stacks of goroutines that are ours.
func leftGoroutines() (left []string) {
	buf := make([]byte, 1<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "pomelod/pomelod/") && !strings.Contains(g, "TestMain") {
			left = append(left, g)
		}
	}
	return left
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	return len(entries)
}

// snapshot is what the tests ask a node for.
type snapshot = router.Snapshot

// running is a server of this process, on loopback ports of its own.
type running struct {
	*server
	secured bool         // every listener speaks TLS
	stop    func() error // ends it and returns what run returned; again: the same
}

// start runs a server with these flags until the test ends. Addresses that flags do not name are loopback with any port.
func start(t testing.TB, args ...string) *running {
	t.Helper()
	base := []string{"-admin", "127.0.0.1:0", "-admin-socket", "none"}
	if !contains(args, "-config") {
		base = append(base, "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0")
	}
	cfg, err := parseFlags(append(base, args...), nil, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return startSettings(t, cfg, nil)
}

// startSecured is start with TLS on every listener.
func startSecured(t testing.TB, args ...string) *running {
	t.Helper()
	cfg, err := parseFlags(append([]string{"-admin", "127.0.0.1:0", "-admin-socket", "none", "-tls-self", "-tls-gate", "none", "-tls-listen", "127.0.0.1:0"}, args...), nil, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	cfg.tls.listen = ""
	p, err := cfg.plan(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range p.listeners {
		l.profile.TLS = true
	}
	srv, err := newServer(cfg, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := startServer(t, srv)
	r.secured = true
	return r
}

func startSettings(t testing.TB, cfg *settings, app *app.App) *running {
	t.Helper()
	p, err := cfg.plan(app)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := newServer(cfg, p, app)
	if err != nil {
		t.Fatal(err)
	}
	return startServer(t, srv)
}

func startServer(t testing.TB, srv *server) *running {
	t.Helper()
	srv.loopsEnd = deadline
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var result error
	go func() {
		defer close(done)
		result = srv.run(ctx)
	}()
	r := &running{server: srv, stop: func() error {
		cancel()
		<-done
		return result
	}}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("server ended with: %v", err)
		}
	})
	return r
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// addr is the address of the listener with this name: a type when it was given by flags, an id of servers.json.
func (r *running) addr(name string) *net.TCPAddr {
	for _, ln := range r.listeners {
		if ln.Name == name {
			return ln.Addr
		}
	}
	panic("no listener " + name)
}
