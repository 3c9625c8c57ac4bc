//go:build linux

package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
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

	up     atomic.Bool // between ready and stopping
	silent atomic.Bool // another process speaks instead

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
	if m == nil || m.silent.Load() {
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

// replaced tells that another process is this one's heir; from then on that one speaks.
func (m *manager) replaced(pid int) {
	if m == nil {
		return
	}
	m.tell(fmt.Sprintf("MAINPID=%d", pid))
	m.silent.Store(true)
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
