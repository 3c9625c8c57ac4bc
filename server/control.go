//go:build linux

package server

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/admin"
)

// An upgrade is asked for by SIGUSR2, by the admin API (POST /v1/upgrade), as `pomelod upgrade` does, which waits for the result, or by `pomelod upgrade -pid` of a process
// that may have no admin socket: by a socket with an abstract name, without a path in the file system; only the process's own user and root are heard there.

// controlName is the name of the socket of a process.
func controlName(pid int) string { return fmt.Sprintf("@pomelod-upgrade-%d", pid) }

// controlTime is how long a request may take to come, and its answer to be taken.
const controlTime = 5 * time.Second

// maxAnswer is more than an upgrade has to say.
const maxAnswer = 64 << 10

// control takes requests for upgrades.
type control struct {
	requests chan upgradeRequest
	signals  chan os.Signal
	ln       *net.UnixListener // nil if there is none: signals are heard all the same
	ended    chan struct{}     // closed when nobody is being answered any more; nil without ln
}

// newControl has SIGUSR2 ask for an upgrade from now on.
func newControl() *control {
	c := &control{requests: make(chan upgradeRequest), signals: make(chan os.Signal, 1)}
	signal.Notify(c.signals, syscall.SIGUSR2)
	return c
}

// listen takes requests by the socket as well.
func (c *control) listen() {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: controlName(os.Getpid()), Net: "unix"})
	if err != nil {
		slog.Warn("pomelod upgrade -pid cannot reach this process; the admin socket and SIGUSR2 can", "err", err)
		return
	}
	c.ln, c.ended = ln, make(chan struct{})
	go func() {
		defer close(c.ended)
		c.serve(ln)
	}()
}

// serve answers one after the other, until the socket is closed.
func (c *control) serve(ln *net.UnixListener) {
	for {
		conn, err := ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptors, perhaps
			time.Sleep(time.Second)
			continue
		}
		c.answer(conn)
	}
}

// answer takes one request.
func (c *control) answer(conn *net.UnixConn) {
	defer conn.Close()
	if cred := peerOf(conn); cred == nil || !trusted(cred) {
		fmt.Fprintln(conn, "failed only the user that pomelod runs as, and root, may ask for an upgrade")
		return
	}
	_ = conn.SetDeadline(time.Now().Add(controlTime))
	line, err := bufio.NewReader(io.LimitReader(conn, 64)).ReadString('\n')
	if err != nil || line != "upgrade\n" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), upgradeTime)
	defer cancel()
	text, err := c.upgrade(ctx)
	_ = conn.SetDeadline(time.Now().Add(controlTime))
	kept := new(keptError)
	switch {
	case err == nil:
		fmt.Fprintf(conn, "ok %s\n", text)
	case errors.As(err, &kept):
		fmt.Fprintf(conn, "failed %v\n", kept.err) // who asks says the rest
	case errors.As(err, new(*replacedError)):
		fmt.Fprintf(conn, "replaced %v\n", err)
	default:
		fmt.Fprintf(conn, "failed %v\n", err)
	}
}

// errNoUpgrade means that nobody may ask for an upgrade here.
var errNoUpgrade = errors.New("this process runs within another program, and cannot be replaced by an upgrade")

// upgrade asks for an upgrade, whatever way that was asked for, and waits for what comes of it.
func (c *control) upgrade(ctx context.Context) (text string, err error) {
	if c == nil {
		return "", admin.Refuse(errNoUpgrade)
	}
	done := make(chan upgradeResult, 1)
	select {
	case c.requests <- upgradeRequest{done}:
	case <-time.After(controlTime):
		return "", errors.New("the server has no time for it: it has yet to be ready, or ends")
	}
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return "", fmt.Errorf("it is not known yet what has become of the upgrade (%w); the log tells it", ctx.Err())
	}
}

// peerOf is which process the other end of a connection is, by the kernel; nil if that does not say.
func peerOf(conn *net.UnixConn) (cred *unix.Ucred) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	_ = raw.Control(func(fd uintptr) { cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred
}

// trusted tells whether it is one of root, or of our user.
func trusted(cred *unix.Ucred) bool { return cred.Uid == 0 || int(cred.Uid) == os.Geteuid() }

// answersFor tells whether it may speak for process pid: the first process that asks may take any abstract name. A process in another container has another id there,
// or none here (0); then only its user counts.
func answersFor(cred *unix.Ucred, pid int) bool {
	return cred != nil && (int(cred.Pid) == pid || trusted(cred))
}

// close stops taking requests. A process that has asked has a second to hear what became of it.
func (c *control) close() {
	if c == nil {
		return
	}
	signal.Stop(c.signals)
	if c.ln != nil {
		_ = c.ln.Close()
		select {
		case <-c.ended:
		case <-time.After(time.Second):
		}
	}
}

// asked is where requests come from; none come where nobody may ask.
func (c *control) asked() (<-chan upgradeRequest, <-chan os.Signal) {
	if c == nil {
		return nil, nil
	}
	return c.requests, c.signals
}

// upgradeTime is more than an upgrade takes before it fails.
const upgradeTime = 2 * time.Minute

// upgradeCommand is `pomelod upgrade`.
var upgradeCommand = command{
	name: "upgrade", help: "replace the running pomelod by the binary on disk; its clients stay connected",
	about: `
The binary that is now where the running one was started from takes its place. It is asked for by the admin socket, or of the process that -pid names, where that has none.
It waits until clients are served by the new process (exit code 0), or the running one has gone on as if nothing had been (1). If the new one has taken all clients and fails then, it says so (1).
`,
	declare: func(f *flag.FlagSet, c *caller) func([]string) error {
		o, pid := asking(f, c), f.Int("pid", 0, "the process's `id`, instead of the path of its admin socket")
		return func([]string) error {
			switch {
			case *pid < 0:
				return settingsError{fmt.Errorf("-pid %d: must be the id of a process", *pid)}
			case *pid > 0:
				text, err := askUpgrade(*pid)
				if err == nil {
					fmt.Fprintln(c.stdout, text)
				}
				return err
			}
			o.within = upgradeTime
			var done admin.Upgraded
			raw, err := o.call("POST", "/v1/upgrade", nil, struct{}{}, &done)
			if err != nil {
				return err
			}
			o.show(raw, func(w io.Writer) { fmt.Fprintln(w, escaped(done.Result)) })
			return nil
		}
	},
}

// printable is text without what a terminal would obey.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// askUpgrade asks a process for an upgrade, and waits for the result.
func askUpgrade(pid int) (text string, err error) {
	conn, err := net.DialTimeout("unix", controlName(pid), controlTime)
	if err != nil {
		return "", fmt.Errorf("process %d is no pomelod that can be upgraded, or serves in another container: %w", pid, err)
	}
	defer conn.Close()
	if cred := peerOf(conn.(*net.UnixConn)); !answersFor(cred, pid) {
		return "", fmt.Errorf("another user's process answers for process %d; that one may be in another container, then ask there, or by SIGUSR2 (kill -USR2)", pid)
	}
	_ = conn.SetDeadline(time.Now().Add(upgradeTime))
	if _, err := io.WriteString(conn, "upgrade\n"); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxAnswer)).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("process %d has not said what became of it (%w); its log does", pid, err)
	}
	result, text, _ := strings.Cut(printable(strings.TrimSuffix(line, "\n")), " ")
	switch result {
	case "ok":
		return text, nil
	case "replaced":
		return "", errors.New(text)
	}
	return "", fmt.Errorf("process %d was not upgraded and goes on: %s", pid, text)
}
