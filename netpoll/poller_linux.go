package netpoll

import (
	"os"
	"reflect"

	gnet "github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"
)

// poller is gnet's poller with a wait of our own. gnet's Polling polls once with a timeout of 0, yields to Go's scheduler and then waits; on a
// server that is not saturated the runtime then wakes a thread for each message (yieldNanos). Level triggered, as a loop reads a socket once and
// leaves the rest for later.
type poller struct {
	gnet   *gnet.Poller
	fd     int               // gnet's epoll instance
	events []unix.EpollEvent // of the last wait
}

// polledEvents is how many events one wait returns at most.
const polledEvents = 1024

func openPoller() (*poller, error) {
	g, err := gnet.OpenPoller()
	if err != nil {
		return nil, err
	}
	fd := reflect.ValueOf(g).Elem().FieldByName("fd") // gnet tells it to nobody; go.mod pins the release that has it
	return &poller{gnet: g, fd: int(fd.Int()), events: make([]unix.EpollEvent, polledEvents)}, nil
}

func (p *poller) close() error { return p.gnet.Close() }

// wait returns what is ready, as soon as something is, or nothing when timeout ms have passed; -1: it waits for ever. The events are valid until
// the next call.
func (p *poller) wait(timeout int) ([]unix.EpollEvent, error) {
	for {
		n, err := unix.EpollWait(p.fd, p.events, timeout)
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
	at := gnet.PollAttachment{FD: fd}
	switch both := new & (Readable | Writable); {
	case old == new:
		return nil
	case new == None:
		return p.gnet.Delete(fd)
	case old == None && both == Readable:
		return p.gnet.AddRead(&at, false)
	case old == None && both == Readable|Writable:
		return p.gnet.AddReadWrite(&at, false)
	case both == Readable:
		return p.gnet.ModRead(&at, false)
	case both == Readable|Writable:
		return p.gnet.ModReadWrite(&at, false)
	}
	op, ev := unix.EPOLL_CTL_MOD, unix.EpollEvent{Fd: int32(fd)} // gnet has no call for the rest
	if old == None {
		op = unix.EPOLL_CTL_ADD
	}
	if new&Writable != 0 {
		ev.Events = unix.EPOLLOUT
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, op, fd, &ev))
}

// hasFailed tells whether fd's connection has failed.
func hasFailed(fd int32) bool {
	about := [1]unix.PollFd{{Fd: fd}}
	n, err := unix.Poll(about[:], 0)
	return n == 1 && err == nil && about[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}

// Events that say that a socket may be read, or written. Errors say both: the call that tries is told. They come alone when a socket is watched for
// neither.
const (
	eventsFailed = unix.EPOLLERR | unix.EPOLLHUP
	eventsRead   = unix.EPOLLIN | unix.EPOLLPRI | eventsFailed
	eventsWrite  = unix.EPOLLOUT | eventsFailed
)
