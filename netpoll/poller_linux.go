package netpoll

import (
	"os"

	"golang.org/x/sys/unix"
)

// poller is an epoll instance. Level triggered, as a loop reads a socket once and leaves the rest for later.
type poller struct {
	fd     int
	events []unix.EpollEvent // of the last wait
}

// polledEvents is how many events one wait returns at most.
const polledEvents = 1024

func openPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &poller{fd: fd, events: make([]unix.EpollEvent, polledEvents)}, nil
}

func (p *poller) close() error { return os.NewSyscallError("close", unix.Close(p.fd)) }

// wait returns what is ready, as soon as something is. The events are valid until the next call.
func (p *poller) wait() ([]unix.EpollEvent, error) {
	for {
		n, err := unix.EpollWait(p.fd, p.events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("epoll_wait", err)
		}
		return p.events[:n], nil
	}
}

// watch changes what fd is watched for. Safe from any goroutine.
func (p *poller) watch(fd int, old, new Interest) error {
	op, ev := unix.EPOLL_CTL_MOD, unix.EpollEvent{Fd: int32(fd)}
	switch {
	case old == new:
		return nil
	case old == None:
		op = unix.EPOLL_CTL_ADD
	case new == None:
		op = unix.EPOLL_CTL_DEL
	}
	if new&Readable != 0 {
		ev.Events |= unix.EPOLLIN | unix.EPOLLPRI
	}
	if new&Writable != 0 {
		ev.Events |= unix.EPOLLOUT
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, op, fd, &ev))
}

// hasFailed tells whether fd's connection has failed.
func hasFailed(fd int32) bool {
	about := [1]unix.PollFd{{Fd: fd}}
	n, err := unix.Poll(about[:], 0)
	return n == 1 && err == nil && about[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}

// Events that say that a socket may be read, or written. Errors say both: who tries is told. They come alone when a socket is watched for
// neither.
const (
	eventsFailed = unix.EPOLLERR | unix.EPOLLHUP
	eventsRead   = unix.EPOLLIN | unix.EPOLLPRI | eventsFailed
	eventsWrite  = unix.EPOLLOUT | eventsFailed
)
