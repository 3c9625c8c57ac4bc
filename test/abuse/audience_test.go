//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// audience reads whatever its listeners are sent, and forgets it. Thousands of listeners cost the attackers' process one goroutine, a system
// call each for all that came in a fortieth of a second, and no copy: they are elsewhere in the world, and what they do there may not keep
// a processor from the server. A goroutine each takes more time than the server does. Safe from any goroutine.
type audience struct {
	epoll int
	ended chan struct{} // closed by run

	mu     sync.Mutex
	all    []int
	beaten time.Time // when all have sent a heartbeat last: to come takes a large crowd longer than anybody may be silent
	closed bool
}

// listener is one of an audience. It reads by itself, and may write.
type listener int

const (
	listenEvery = 25 * time.Millisecond
	beatEvery   = 20 * time.Second
	much        = 32 << 10 // bytes: who has got so many has more to come, and is not kept waiting
	// truncate is how much is thrown away at once. With MSG_TRUNC the kernel copies nothing (tcp(7)), but wants a buffer that long.
	truncate = 1 << 20
)

func newAudience() (*audience, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	h := &audience{epoll: epoll, ended: make(chan struct{})}
	go h.run()
	return h, nil
}

// add takes a connection over; p is closed, and the peer at the other end does not notice.
func (h *audience) add(p *peer) (listener, error) {
	raw, err := p.tcp().SyscallConn()
	if err != nil {
		return 0, err
	}
	fd := -1
	if e := raw.Control(func(of uintptr) { fd, err = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) }); e != nil || err != nil {
		return 0, errors.Join(e, err)
	}
	p.Close() // Go's own poller looks at it no more
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		_ = unix.Close(fd)
		return 0, os.ErrClosed
	}
	h.all = append(h.all, fd)
	err = unix.EpollCtl(h.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	return listener(fd), os.NewSyscallError("epoll_ctl", err)
}

// run reads until the audience is closed.
func (h *audience) run() {
	defer close(h.ended)
	tick := time.NewTicker(listenEvery)
	defer tick.Stop()
	events, void := make([]unix.EpollEvent, 4096), make([]byte, truncate)
	for {
		more, open := h.read(events, void)
		if !open {
			return
		}
		if !more {
			<-tick.C
		}
	}
}

// read takes what has come for each listener. It tells whether there is much for any, and whether the audience is not closed yet.
func (h *audience) read(events []unix.EpollEvent, void []byte) (more, open bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false, false
	}
	if now := time.Now(); now.Sub(h.beaten) > beatEvery {
		h.beaten = now
		for _, fd := range h.all {
			_, _ = unix.Write(fd, heartbeat) // who has been closed notices below
		}
	}
	n, _ := unix.EpollWait(h.epoll, events, 0)
	for _, e := range events[:max(n, 0)] {
		n, _, err := unix.Recvfrom(int(e.Fd), void, unix.MSG_TRUNC|unix.MSG_DONTWAIT)
		more = more || n >= much
		if n == 0 && err == nil || err != nil && !errors.Is(err, syscall.EAGAIN) { // its end; the descriptor goes with the audience
			_ = unix.EpollCtl(h.epoll, unix.EPOLL_CTL_DEL, int(e.Fd), nil)
		}
	}
	return more, true
}

// Close closes the connections.
func (h *audience) Close() error {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		for _, fd := range h.all {
			_ = unix.Close(fd)
		}
		_ = unix.Close(h.epoll)
	}
	h.mu.Unlock()
	<-h.ended
	return nil
}

// raw sends bytes as they are. It is an error if the socket does not take all at once. Not after the audience was closed.
func (l listener) raw(b []byte) error {
	n, err := unix.Write(int(l), b)
	if err == nil && n < len(b) {
		err = syscall.EAGAIN
	}
	return os.NewSyscallError("write", err)
}

// listen has the arena's audience read what p is sent from now on; p is closed.
func (a *arena) listen(p *peer) (listener, error) {
	a.mu.Lock()
	if a.audience == nil {
		h, err := newAudience()
		if err != nil {
			a.mu.Unlock()
			return 0, err
		}
		a.audience = h
	}
	h := a.audience
	a.mu.Unlock()
	return h.add(p)
}

// fill brings n members into a room, each of whom reads what there is. name is the beginning of their names. They come a few at a time: all at
// once they would have to read faster than a process at the lowest priority can, and one by one they would cost everybody who is in a
// write each.
func (a *arena) fill(n int, name, room string) error {
	const few = 25
	before := a.metrics()["pomelod_members"]
	for from := 0; from < n; from += few {
		var enters []func() error
		for i := from; i < min(from+few, n); i++ {
			p, err := a.dial(i % 250)
			if err == nil {
				err = p.login()
			}
			if err != nil {
				return err
			}
			l, err := a.listen(p)
			if err != nil {
				return err
			}
			enters = append(enters, func() error {
				return l.raw(message(1, routeEnter, fmt.Sprintf(`{"username":"%s%d","rid":%q}`, name, i, room)))
			})
		}
		if err := a.enterAll(enters, atLeast(before+float64(min(from+few, n))), "pomelod_members"); err != nil {
			return err
		}
	}
	return nil
}

// enterAll has some enter, who do not look at the answers, until a metric says that all have: again and again, while the server is too busy to take
// them. Who is in stays in.
func (a *arena) enterAll(enters []func() error, lacks func(sum float64) float64, metric string) error {
	const tries = 10
	err := errors.New("nobody has entered")
	for try := 0; try < tries && err != nil; try++ {
		for _, enter := range enters {
			if e := enter(); e != nil && try == 0 {
				return e
			}
		}
		err = a.awaitFor(patience/tries, lacks, metric)
	}
	return err
}
