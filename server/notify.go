//go:build linux

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/router"
)

// manager is the service manager that started this process, as far as it wants to hear from it (sd_notify(3)). Nil when
// nobody does. Safe from any goroutine.
//
// The protocol is spoken by hand, in the 40 lines of newManager and tell. SdNotify of coreos/go-systemd makes a socket for each
// message, so a server that has run out of descriptors could not say that it lives, and would be ended by the watchdog
// (TestNotifyWithoutDescriptors); and it waits without end for a manager that does not read (TestNotifyManagerComesAndGoes).
type manager struct {
	socket   string
	watchdog time.Duration // 0: it does not want to hear that we are alive

	up atomic.Bool // between ready and stopping

	mu   sync.Mutex
	conn net.Conn // guarded by mu; kept, so that a process without free descriptors can still say that it lives
}

// notifyTimeout is for a manager that does not read: better unheard than held up.
const notifyTimeout = time.Second

// newManager reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
func newManager(environ []string, pid int) (*manager, error) {
	env := variables(environ, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
	if env["NOTIFY_SOCKET"] == "" {
		return nil, nil
	}
	m := &manager{socket: env["NOTIFY_SOCKET"]}
	if m.socket[0] != '/' && m.socket[0] != '@' { // systemd can also name a vsock, for whole virtual machines
		return nil, fmt.Errorf("NOTIFY_SOCKET=%q: must be a path or, with @ in front, an abstract name; unset it if no service manager listens", m.socket)
	}
	if usec := env["WATCHDOG_USEC"]; usec != "" && (env["WATCHDOG_PID"] == "" || env["WATCHDOG_PID"] == strconv.Itoa(pid)) {
		n, err := strconv.ParseInt(usec, 10, 64)
		if err != nil || n < 1 || n > int64(24*time.Hour/time.Microsecond) {
			return nil, fmt.Errorf("WATCHDOG_USEC=%q: must be microseconds, at most a day; set WatchdogSec= in the unit", usec)
		}
		m.watchdog = time.Duration(n) * time.Microsecond
	}
	return m, nil
}

// tell sends lines like READY=1, in one message. That nobody hears it is logged and changes nothing: the manager ends us
// if it has to.
func (m *manager) tell(lines ...string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var err error
	for range 2 { // the second time for a manager that has made its socket anew
		if m.conn == nil {
			if m.conn, err = net.Dial("unixgram", m.socket); err != nil {
				m.conn = nil
				break
			}
		}
		_ = m.conn.SetWriteDeadline(time.Now().Add(notifyTimeout))
		if _, err = m.conn.Write([]byte(strings.Join(lines, "\n"))); err == nil {
			return
		}
		m.close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	slog.Warn("the service manager does not hear", "message", lines[0], "err", err)
}

// ready tells that clients are served from now on.
func (m *manager) ready(status string) {
	if m == nil {
		return
	}
	m.up.Store(true)
	m.tell("READY=1", status)
}

// stopping tells that the end has begun, and how long it may take: longer than the manager would wait, perhaps.
func (m *manager) stopping(why string, takes time.Duration) {
	if m == nil {
		return
	}
	m.up.Store(false)
	m.tell("STOPPING=1", "STATUS="+why, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", takes.Microseconds()))
}

// reloaded tells of a reload that is over before it began; systemd 253's Type=notify-reload waits for both messages.
func (m *manager) reloaded() {
	if m == nil || !m.up.Load() { // READY would be too early, or too late
		return
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	m.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
	m.tell("READY=1")
}

// Close ends the conversation.
func (m *manager) Close() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.close()
}

func (m *manager) close() {
	if m.conn != nil {
		_ = m.conn.Close()
		m.conn = nil
	}
}

// watchEvery is how often the event loops are asked whether they turn when no manager says how often.
const watchEvery = 20 * time.Second

// every is the time between two questions to the event loops.
func (m *manager) every() time.Duration {
	if m == nil || m.watchdog == 0 {
		return watchEvery
	}
	return m.watchdog / 2
}

// stacksEvery is the least time between two logs of all stacks.
const stacksEvery = 10 * time.Minute

// watch asks every event loop, and with it the workers there, whether it turns, and tells the manager so, until ctx ends.
// While one does not answer the manager hears nothing and will end this process in time.
func (s *server) watch(ctx context.Context) {
	every := s.manager.every()
	tick := time.NewTicker(every)
	defer tick.Stop()
	stuck := false
	var logged time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// Twice: after a stall of the whole machine our time may be up before the loops had any.
		snapshot, err := s.ping(ctx, every/2)
		if err != nil {
			snapshot, err = s.ping(ctx, every/4)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !stuck:
			stuck = true
			slog.Error("an event loop is stuck; its clients wait", "err", err, "hint", "a handler that blocks? the stacks follow")
			s.manager.tell("STATUS=stuck: " + err.Error())
			if logged.IsZero() || time.Since(logged) > stacksEvery {
				logged = time.Now()
				slog.Error("stacks", "stacks", stacks())
			}
		case err == nil:
			if stuck {
				stuck = false
				slog.Warn("all event loops turn again")
			}
			lines := []string{status(snapshot)}
			if s.manager.watches() {
				lines = append(lines, "WATCHDOG=1")
			}
			s.manager.tell(lines...)
		}
	}
}

func (m *manager) watches() bool { return m != nil && m.watchdog > 0 }

func (s *server) ping(ctx context.Context, timeout time.Duration) (*router.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return s.node.Snapshot(ctx)
}

// status is what systemctl status shows.
func status(n *router.Snapshot) string {
	conns, pulls, rooms, members := 0, 0, 0, 0
	for i := range n.Loops {
		conns += n.Loops[i].Net.Conns
		pulls += n.Loops[i].Net.Pulls
	}
	for i := range n.Workers {
		rooms += n.Workers[i].Rooms
		members += n.Workers[i].Members
	}
	return fmt.Sprintf("STATUS=connections %d, polling sessions %d, rooms %d, members %d", conns, pulls, rooms, members)
}

// Bounds of a log of stacks: what is looked through, and what is logged; journald cuts lines at 48 KiB.
const stackBytes, loggedStackBytes = 1 << 20, 32 << 10

// stacks are those of all goroutines, event loops first, as much as is good for a log.
func stacks() string {
	buf := make([]byte, stackBytes)
	buf = buf[:runtime.Stack(buf, true)]
	var loops, others []string
	for _, g := range strings.Split(string(buf), "\n\n") {
		if strings.Contains(g, "netpoll.(*Epoll).Run") {
			loops = append(loops, g)
		} else {
			others = append(others, g)
		}
	}
	text := strings.Join(append(loops, others...), "\n\n")
	if len(text) > loggedStackBytes {
		text = text[:loggedStackBytes] + "\n... and more"
	}
	return text
}

// handleHangups takes SIGHUP, which systemctl reload sends, until stop is called: pomelod goes on. The end of the terminal that
// it was started in sends one too, and then hungUp is called; else reload reads again what can be.
func (m *manager) handleHangups(hungUp func(), reload func() error) (stop func()) {
	if signal.Ignored(syscall.SIGHUP) { // nohup
		return func() {}
	}
	hangups, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	terminal := inTerminal()
	go func() {
		for {
			select {
			case <-done:
				return
			case <-hangups:
			}
			if terminal && !inTerminal() {
				hungUp()
				return
			}
			switch err := reload(); {
			case err == errNoReload:
				slog.Info("SIGHUP: " + err.Error())
			case err == nil:
				slog.Info("SIGHUP: certificates were read again; for flags and other files restart pomelod")
			}
			m.reloaded()
		}
	}()
	return func() { signal.Stop(hangups); close(done) }
}

// inTerminal tells whether this process belongs to a terminal, wherever its output goes. The kernel takes a terminal that is
// gone away from its processes before it sends SIGHUP.
func inTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err != unix.ENXIO && err != unix.ENOENT
}
