//go:build linux

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"golang.org/x/sys/unix"
)

// listenNotify is a service manager's socket; name is a path, or abstract with @ in front.
func listenNotify(t testing.TB, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// told is the next message, or "" when none comes in time.
func told(t testing.TB, conn *net.UnixConn, wait time.Duration) string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return string(b[:n])
}

// expectTold expects that the next message begins so.
func expectTold(t testing.TB, conn *net.UnixConn, want string) {
	t.Helper()
	if got := told(t, conn, deadline); !strings.HasPrefix(got, want) || got == "" {
		t.Fatalf("the manager was told %q, want %q", got, want)
	}
}

// When READY=1 comes clients are served, not a moment later; a hang-up is answered and changes nothing; the end is told.
func TestNotify(t *testing.T) {
	for name, socket := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": fmt.Sprintf("@pomelod-test-%d", os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := listenNotify(t, socket)
			p := spawn(t, pomelodCommand([]string{"NOTIFY_SOCKET=" + socket}, "-listen", "127.0.0.1:0", "-gate", "", "-admin", ""))
			expectTold(t, conn, "READY=1\nSTATUS=connections 0, ")
			if err := chats(p.addr("connector").String(), "a"); err != nil {
				t.Error(err)
			}
			_ = p.cmd.Process.Signal(syscall.SIGHUP)
			expectTold(t, conn, "RELOADING=1\nMONOTONIC_USEC=")
			expectTold(t, conn, "READY=1")
			p.waitLog("nothing is reloaded")
			if err := chats(p.addr("connector").String(), "b"); err != nil {
				t.Error(err)
			}
			p.stop()
			expectTold(t, conn, "STOPPING=1\nSTATUS=ending; clients are sent away over 5s\nEXTEND_TIMEOUT_USEC=8000000")
			if more := told(t, conn, time.Millisecond); more != "" {
				t.Errorf("told %q after the end", more)
			}
		})
	}
}

// A server that cannot start is never ready.
func TestNotifyNotWithoutPort(t *testing.T) {
	taken, addr := listening(t, "127.0.0.1:0")
	defer taken.Close()
	socket := filepath.Join(t.TempDir(), "notify")
	conn := listenNotify(t, socket)
	p := spawn(t, pomelodCommand([]string{"NOTIFY_SOCKET=" + socket}, "-listen", addr.String(), "-gate", "", "-admin", ""))
	var exit *exec.ExitError
	if err := p.wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("ended with %v", err)
	}
	if got := told(t, conn, time.Millisecond); got != "" {
		t.Errorf("told %q", got)
	}
}

// newManaged is a server, not yet running, whose manager listens on the socket returned.
func newManaged(t *testing.T, a *app.App, watchdog time.Duration) (*server, *net.UnixConn) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	conn := listenNotify(t, socket)
	cfg, err := parseFlags([]string{"-listen", "127.0.0.1:0", "-gate", "", "-admin", "", "-loops", "2"}, nil, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	p, err := cfg.plan(a)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := newServer(cfg, p, a)
	if err != nil {
		t.Fatal(err)
	}
	srv.manager, err = newManager([]string{"NOTIFY_SOCKET=" + socket, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds())}, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.manager.Close)
	return srv, conn
}

// A server whose loops do not turn yet is not ready, although it listens.
func TestNotifyNotBeforeLoopsTurn(t *testing.T) {
	srv, conn := newManaged(t, nil, time.Hour)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		_, err := srv.serve(ctx, make(chan error))
		served <- err
	}()
	srv.manager.tell("STATUS=first")
	expectTold(t, conn, "STATUS=first")
	if srv.ready.Load() {
		t.Error("ready before the loops turn")
	}
	var running sync.WaitGroup
	running.Go(func() { _ = srv.drivers[0].Run(srv.node.Loops()[0]) })
	srv.manager.tell("STATUS=one loop")
	expectTold(t, conn, "STATUS=one loop")
	running.Go(func() { _ = srv.drivers[1].Run(srv.node.Loops()[1]) })
	expectTold(t, conn, "READY=1")
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	for _, d := range srv.drivers {
		d.Stop()
	}
	running.Wait()
	srv.close()
}

// logged collects what is logged, by every server of this process, until the test ends.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func captureLog(t *testing.T) *logged {
	l, before := new(logged), slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(l, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return l
}

// While every loop turns the manager hears so. Once a handler holds one up it hears nothing more, and the log says once what
// the loop is doing; when the loop goes on, so does the watchdog.
func TestWatchdog(t *testing.T) {
	log := captureLog(t)
	a := app.New()
	entered, release := make(chan struct{}), make(chan struct{})
	a.HandleInline("test.testHandler.block", func(*app.Call) (any, error) {
		close(entered)
		<-release
		return nil, nil
	})
	const watchdog = time.Second
	srv, conn := newManaged(t, a, watchdog)
	s := startServer(t, srv)
	expectTold(t, conn, "READY=1")
	c := login(t, s.addr("connector"))
	c.enter("a", "r")
	for range 2 {
		expectTold(t, conn, "STATUS=connections 1, polling sessions 0, rooms 1, members 1\nWATCHDOG=1")
	}

	c.write(c.message(99, "test.testHandler.block", `{}`))
	<-entered
	waitFor(t, func() bool { return log.count("stacks=") == 1 })
	for { // what was told before the loop got stuck
		got := told(t, conn, deadline)
		if strings.HasPrefix(got, "STATUS=stuck: ") {
			if strings.Contains(got, "WATCHDOG=") { // a sign of life, and the manager would wait on
				t.Errorf("told %q", got)
			}
			break
		} else if !strings.Contains(got, "WATCHDOG=1") {
			t.Fatalf("told %q", got)
		}
	}
	if got := told(t, conn, watchdog); got != "" { // absence takes time to see: the manager would have ended us by then
		t.Errorf("told %q with a stuck loop", got)
	}
	if n := log.count("an event loop is stuck"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if log.count("TestWatchdog.func1") == 0 {
		t.Error("the stacks do not show the handler that blocks")
	}

	close(release)
	expectTold(t, conn, "STATUS=connections 1, polling sessions 0, rooms 1, members 1\nWATCHDOG=1")
	waitFor(t, func() bool { return log.count("all event loops turn again") == 1 })
	c.conn.Close()
}

// Loops come first in a log of stacks, so that a thousand goroutines of an App do not hide them, and it is bounded.
func TestWatchdogStacks(t *testing.T) {
	s := start(t)
	waitFor(t, s.ready.Load)
	stop := make(chan struct{})
	defer close(stop)
	for range 500 {
		go func() { <-stop }()
	}
	text := stacks()
	if len(text) > loggedStackBytes+100 || !strings.HasSuffix(text, "more") {
		t.Errorf("%d bytes, ends %q", len(text), text[len(text)-20:])
	}
	first, _, _ := strings.Cut(text, "\n\n")
	if !strings.Contains(first, "netpoll.(*Epoll).Run") {
		t.Errorf("first is\n%s", first)
	}
}

// What a manager says about itself is checked; without one there is nothing to do.
func TestNotifyVariables(t *testing.T) {
	for _, tc := range []struct {
		env      string
		watchdog time.Duration
		want     string // part of the error
	}{
		{"", 0, ""},
		{"WATCHDOG_USEC=1000000", 0, ""},
		{"NOTIFY_SOCKET=/run/x", 0, ""},
		{"NOTIFY_SOCKET=@x WATCHDOG_USEC=3000000", 3 * time.Second, ""},
		{"NOTIFY_SOCKET=@x WATCHDOG_USEC=3000000 WATCHDOG_PID=7", 3 * time.Second, ""},
		{"NOTIFY_SOCKET=@x WATCHDOG_USEC=3000000 WATCHDOG_PID=8", 0, ""},
		{"NOTIFY_SOCKET=vsock:2:1", 0, "NOTIFY_SOCKET"},
		{"NOTIFY_SOCKET=@x WATCHDOG_USEC=soon", 0, "WatchdogSec"},
		{"NOTIFY_SOCKET=@x WATCHDOG_USEC=0", 0, "WatchdogSec"},
	} {
		m, err := newManager(strings.Fields(tc.env), 7)
		if tc.want != "" {
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v, want something about %s", tc.env, err, tc.want)
			}
			continue
		}
		if err != nil || (m != nil) != strings.Contains(tc.env, "NOTIFY") || m != nil && m.watchdog != tc.watchdog {
			t.Errorf("%s: %+v, %v", tc.env, m, err)
		}
		if want := tc.watchdog / 2; tc.watchdog > 0 && m.every() != want {
			t.Errorf("%s: asks every %v, want %v", tc.env, m.every(), want)
		}
	}
}

// A manager that makes its socket anew is found again; one that is gone, or does not read, holds nothing up.
func TestNotifyManagerComesAndGoes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	m, err := newManager([]string{"NOTIFY_SOCKET=" + socket}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.tell("STATUS=nobody")
	for range 2 {
		conn := listenNotify(t, socket)
		m.tell("STATUS=a", "X=b")
		expectTold(t, conn, "STATUS=a\nX=b")
		conn.Close()
		_ = os.Remove(socket)
	}
	listenNotify(t, socket)
	began := time.Now()
	for range 1000 { // many more than such a socket keeps
		m.tell("STATUS=full")
		if time.Since(began) > notifyTimeout {
			break
		}
	}
	if took := time.Since(began); took > 3*notifyTimeout {
		t.Errorf("held up for %v", took)
	}
}

// A server without a free descriptor can still say that it lives.
func TestNotifyWithoutDescriptors(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	m, err := newManager([]string{"NOTIFY_SOCKET=" + socket}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	conn := listenNotify(t, socket)
	m.tell("READY=1")
	expectTold(t, conn, "READY=1")
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	m.tell("WATCHDOG=1")
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	expectTold(t, conn, "WATCHDOG=1")
}

// Who closes the terminal in which pomelod runs ends it, in order; a SIGHUP while the terminal is there does not.
func TestNotifyHangupOfTerminal(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "notify")
	conn := listenNotify(t, socket)
	cmd := pomelodCommand([]string{"NOTIFY_SOCKET=" + socket}, "-listen", "127.0.0.1:0", "-gate", "", "-admin", "")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	expectTold(t, conn, "READY=1")
	_ = cmd.Process.Signal(syscall.SIGHUP)
	expectTold(t, conn, "RELOADING=1")
	expectTold(t, conn, "READY=1")
	master.Close()
	expectTold(t, conn, "STOPPING=1")
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(deadline):
		_ = cmd.Process.Kill()
		<-ended
		t.Error("does not end")
	}
}

// A log that cannot be written, because its reader has gone or its disk is full, ends nothing.
func TestNotifyLogCannotBeWritten(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, stderr := range map[string]*os.File{"reader gone": w, "disk full": full} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer stderr.Close()
			connector, addr := listening(t, "127.0.0.1:0")
			socket := filepath.Join(t.TempDir(), "notify")
			conn := listenNotify(t, socket)
			cmd := activated([]*os.File{connector}, []string{"NOTIFY_SOCKET=" + socket}, "-listen", addr.String(), "-gate", "", "-admin", "")
			cmd.Stderr = stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				if err := cmd.Wait(); err != nil {
					t.Error("ended with", err)
				}
			}()
			expectTold(t, conn, "READY=1")
			_ = cmd.Process.Signal(syscall.SIGHUP) // it logs
			expectTold(t, conn, "RELOADING=1")
			expectTold(t, conn, "READY=1")
			if err := chats(addr.String(), "a"); err != nil {
				t.Error(err)
			}
		})
	}
}
