package netpoll

import (
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A server that is told to end while it starts closes its acceptor before that has run.
func TestAcceptorClosedBeforeRun(t *testing.T) {
	a, err := NewAcceptor(nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	if err := a.Run(); err != nil {
		t.Fatal(err)
	}
}

// Whatever error accept(2) gives, and as long as it does, the acceptor goes on without spinning, and serves who waits as soon as
// that works.
func TestAcceptorOutOfEverything(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EPERM, unix.EINVAL, unix.ENETDOWN} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			ln, err := Listen("x", "127.0.0.1:0", 0)
			if err != nil {
				t.Fatal(err)
			}
			l := NewLoop(0, nil, quietDriver{}, Limits{}, NewBudget(1<<20), nil)
			a, err := NewAcceptor([]*Loop{l}, 10)
			if err != nil {
				t.Fatal(err)
			}
			var failing atomic.Bool
			var calls atomic.Int64
			failing.Store(true)
			a.accept = func(fd, flags int) (int, unix.Sockaddr, error) {
				calls.Add(1)
				if failing.Load() {
					return -1, nil, errno
				}
				return unix.Accept4(fd, flags)
			}
			if err := a.Add(ln); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- a.Run() }()
			conn, err := net.Dial("tcp", ln.Addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			// The pauses double: after 400 ms of them there were some seven, and two calls at most for each.
			until(t, func() bool { return a.Stats().Pauses >= 3 })
			began, before := time.Now(), calls.Load()
			until(t, func() bool { return time.Since(began) > 400*time.Millisecond })
			if n := calls.Load() - before; n > 20 {
				t.Errorf("%d calls in %v", n, time.Since(began))
			}
			failing.Store(false)
			until(t, func() bool { return a.Stats().Accepted == 1 })
			a.Close()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			l.accepted.Drain(1000, func(c *Accepted) { _ = unix.Close(int(c.FD)) })
		})
	}
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not happen in time")
		}
	}
}

// quietDriver is for a loop that nobody turns.
type quietDriver struct{ Driver }

func (quietDriver) Ring() {}
