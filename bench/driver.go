//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// driver owns every conn of the process and is its only user of sockets: one thread, epoll, no goroutines. Nothing of it
// is safe from another goroutine. While a run is measured its owner calls turn(0) without end: it spins, because a
// client that sleeps has to be woken by the server's send, and that would be charged to the server.
type driver struct {
	epoll   int
	urgent  int     // another epoll, for those that hurry; it is looked at first
	hurried bool    // there are some
	conns   []*conn // by descriptor
	open    int
	events  []unix.EpollEvent
	buf     []byte // what was just read
	plain   []byte // what of it was decrypted
	out     []byte // what is being written
	faults  *faults
	closed  bool // conns end because we end them
	beats   beats

	reads int64
	now   int64 // when the last read returned

	interrupt <-chan os.Signal
}

var errInterrupted = errors.New("interrupted")

var startTime = time.Now()

// clock is nanoseconds since the start, read without a system call.
func clock() int64 { return int64(time.Since(startTime)) }

// turnEvents bounds a turn. Messages are sent between turns, so a long one would send them late and in a bunch.
const turnEvents = 64

func newDriver(f *faults, interrupt <-chan os.Signal) (*driver, error) {
	d := &driver{events: make([]unix.EpollEvent, turnEvents), buf: make([]byte, 256<<10), out: make([]byte, 0, 512<<10), faults: f, interrupt: interrupt}
	for _, fd := range []*int{&d.epoll, &d.urgent} {
		var err error
		if *fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return nil, fmt.Errorf("epoll: %w", err)
		}
	}
	return d, nil
}

// close ends every conn with a reset: nothing waits in TIME_WAIT, and the next run finds its ports.
func (d *driver) close() {
	d.closed = true
	for _, c := range d.conns {
		if c != nil {
			unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			c.end()
		}
	}
	unix.Close(d.epoll)
	unix.Close(d.urgent)
}

// sources is how many addresses connections come from: one address has some 28,000 ports towards a server.
const sources = 16

// connect begins connection number i. Its client hears of it when it is ready; if that fails, faults say so.
func (d *driver) connect(i int, to endpoint, w wire, cl client) (*conn, error) {
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket %d: %w", i, err)
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if family == unix.AF_INET {
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
		if to.Addr().IsLoopback() {
			unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 1, byte(1 + i%sources)}})
		}
	}
	if err == nil {
		if err = unix.Connect(fd, sa); errors.Is(err, unix.EINPROGRESS) {
			err = nil
		}
	}
	if err == nil {
		err = unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT, Fd: int32(fd)})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to %v: %w", to, err)
	}
	for fd >= len(d.conns) {
		d.conns = append(d.conns, nil)
	}
	c := &conn{d: d, fd: fd, epoll: d.epoll, number: i, to: to, wire: w, client: cl}
	if to.tls {
		c.secure = newSecure(c)
	}
	d.conns[fd] = c
	d.open++
	return c, nil
}

// turn takes what is there, waiting for it for at most wait, and sends the heartbeats that are due. It returns how many
// conns had something.
func (d *driver) turn(wait time.Duration) (int, error) {
	first := 0
	if d.hurried {
		n, err := d.poll(d.urgent, 0)
		if first = n; err != nil {
			return 0, err
		}
		if first > 0 {
			wait = 0
		}
	}
	n, err := d.poll(d.epoll, wait)
	if err != nil {
		return 0, err
	}
	n += first
	if len(d.beats) > 0 {
		d.beats.send(clock())
	}
	select {
	case <-d.interrupt:
		return n, errInterrupted
	default:
		return n, nil
	}
}

// poll takes the events of one epoll.
func (d *driver) poll(epoll int, wait time.Duration) (n int, err error) {
	if wait > 0 {
		n, err = unix.EpollWait(epoll, d.events, int(wait/time.Millisecond))
	} else { // raw: the Go scheduler need not know of a call that cannot block
		r, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&d.events[0])), uintptr(len(d.events)), 0, 0, 0)
		if n = int(r); errno != 0 {
			n, err = 0, errno
		}
	}
	if err == unix.EINTR {
		return 0, nil
	}
	for i := 0; i < n; i++ {
		if c := d.conns[d.events[i].Fd]; c != nil {
			c.event(d.events[i].Events)
		}
	}
	return max(n, 0), err
}

// beats are the heartbeats that are due, by interval: a queue for each, oldest first.
type beats []beatQueue

type beatQueue struct {
	every time.Duration
	due   []dueBeat
}

type dueBeat struct {
	at int64
	c  *conn
}

func (b *beats) add(c *conn) {
	i := slices.IndexFunc(*b, func(q beatQueue) bool { return q.every == c.every })
	if i < 0 {
		i = len(*b)
		*b = append(*b, beatQueue{every: c.every})
	}
	q := &(*b)[i]
	q.due = append(q.due, dueBeat{c.d.now + int64(c.every), c})
}

// send sends those that are due.
func (b beats) send(now int64) {
	for i := range b {
		for q := &b[i]; len(q.due) > 0 && q.due[0].at <= now; q.due = q.due[1:] {
			if c := q.due[0].c; c.state == working {
				c.wire.heartbeat(c)
			}
		}
	}
}
