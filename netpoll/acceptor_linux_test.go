package netpoll

import (
	"io"
	"net"
	"net/netip"
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
			l.accepted.Drain(1000, func(c *incoming) { _ = unix.Close(int(c.fd)) })
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

// New sockets go to the loop with the fewest, those on their way included.
func TestNewSocketsGoToTheLoopWithTheFewest(t *testing.T) {
	var loops []*Loop
	for i, n := range []int64{5, 2, 4} {
		l := NewLoop(uint8(i), nil, quietDriver{}, Limits{}, NewBudget(1<<20), nil)
		l.open.Store(n)
		loops = append(loops, l)
	}
	a, err := NewAcceptor(loops, 21)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for range 10 {
		a.hand(new(Listener), -1, &unix.SockaddrInet4{})
	}
	for i, l := range loops {
		if n := l.Open() + len(a.batches[i]); n != 7 {
			t.Errorf("loop %d has %d", i, n)
		}
	}
}

// accepting is an acceptor for one loop, of ten conns at most, with one listener.
func accepting(t *testing.T, tag uint8) (*Acceptor, *Loop, *Listener) {
	t.Helper()
	ln, err := Listen("x", "127.0.0.1:0", tag)
	if err != nil {
		t.Fatal(err)
	}
	l := NewLoop(0, nil, quietDriver{}, Limits{}, NewBudget(1<<20), nil)
	a, err := NewAcceptor([]*Loop{l}, 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	if err := a.Add(ln); err != nil {
		t.Fatal(err)
	}
	return a, l, ln
}

// While accepting is paused clients wait in the kernel's queue; then they are accepted, and counted.
func TestPausedAcceptor(t *testing.T) {
	a, l, ln := accepting(t, 7)
	a.Pause()
	conn, err := net.Dial("tcp", ln.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if a.ready(ln.fd); a.Stats().Accepted != 0 || l.Open() != 0 {
		t.Errorf("%d accepted, %d on the loop", a.Stats().Accepted, l.Open())
	}
	a.Resume()
	if a.ready(ln.fd); a.Stats().Accepted != 1 || l.Open() != 1 || l.budget.open[7].Load() != 1 {
		t.Errorf("%d accepted, %d on the loop, %d by tag", a.Stats().Accepted, l.Open(), l.budget.open[7].Load())
	}
	l.accepted.Drain(1000, func(c *incoming) { _ = unix.Close(int(c.fd)) })
}

// Whoever is refused, for whatever reason, sees the end of the stream: its socket is closed, and not reset for what it has sent already.
func TestRefusedSocketIsClosedAndNotReset(t *testing.T) {
	for name, refuse := range map[string]func(*Acceptor, *Loop, *Listener){
		"told to":           func(a *Acceptor, _ *Loop, _ *Listener) { a.SetRefuse(true) },
		"too many":          func(_ *Acceptor, l *Loop, _ *Listener) { l.open.Store(10) },
		"too many of these": func(_ *Acceptor, l *Loop, ln *Listener) { ln.Max = 3; l.budget.open[ln.tag].Store(3) },
		"gate":              func(_ *Acceptor, l *Loop, _ *Listener) { l.budget.Gate = shut{} },
	} {
		t.Run(name, func(t *testing.T) {
			a, l, ln := accepting(t, 0)
			refuse(a, l, ln)
			conn, err := net.Dial("tcp", ln.Addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			a.ready(ln.fd)
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, err := conn.Read(make([]byte, 1)); err != io.EOF || a.Stats().Accepted != 0 {
				t.Errorf("%v; %+v", err, a.Stats())
			}
		})
	}
}

// shut is a gate that lets nobody in.
type shut struct{}

func (shut) Admit(netip.Addr) (Pass, bool) { return 0, false }
func (shut) Leave(Pass)                    {}
