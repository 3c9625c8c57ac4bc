//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// driver owns every conn of the process and is its only user of sockets: one thread, epoll, no goroutines. Nothing of it
// is safe from another goroutine. While a run is measured its owner calls turn(0) without end: it spins, because a
// client that sleeps has to be woken by the server's send, and that would be charged to the server.
type driver struct {
	epoll  int
	conns  []*conn // by descriptor
	open   int
	events []unix.EpollEvent
	buf    []byte // what was just read
	out    []byte // what is being written
	faults *faults
	closed bool // conns end because we end them

	// Heartbeats that are due, oldest first. Every server of a run tells the same interval, so that is their order.
	beats []dueBeat

	reads int64
	now   int64 // when the last read returned

	interrupt <-chan os.Signal
}

var errInterrupted = errors.New("interrupted")

type dueBeat struct {
	at int64
	c  *conn
}

// client is who uses a conn. Its methods are called in a turn; slices are valid until they return.
type client interface {
	ready(c *conn) // handshake done: requests may be sent
	answered(c *conn, id uint32, body []byte)
	pushed(c *conn, route, body []byte)
}

// conn is one connection. Owned by its driver.
type conn struct {
	d      *driver
	fd     int
	wire   wire
	client client
	host   string
	in     []byte        // read, but not a whole unit yet
	unsent []byte        // bounded by maxUnsent
	id     uint32        // of the last request
	every  time.Duration // heartbeats; 0: none
	state  connState
}

type connState uint8

const (
	connecting connState = iota
	opening              // connected; hello and handshake are under way
	working
	ended
)

// keptInput is how large a buffer a conn keeps when it is empty.
const keptInput = 1 << 10

// maxUnsent bounds what a conn has to write: a server that does not read is a fault, not a reason to grow.
const maxUnsent = 4 << 20

// bootTime and startTime make clock: the machine's monotonic clock, the same in every process, read without a system call.
var (
	startTime = time.Now()
	bootTime  = func() int64 {
		var t unix.Timespec
		unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
		return t.Nano()
	}()
)

// clock is nanoseconds since the machine started.
func clock() int64 { return bootTime + int64(time.Since(startTime)) }

// turnEvents bounds a turn. Messages are sent between turns, so a long one would send them late and in a bunch.
const turnEvents = 64

func newDriver(f *faults, interrupt <-chan os.Signal) (*driver, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &driver{epoll: fd, events: make([]unix.EpollEvent, turnEvents), buf: make([]byte, 256<<10), faults: f, interrupt: interrupt}, nil
}

// close ends every conn with a reset: nothing waits in TIME_WAIT, and the next run finds its ports.
func (d *driver) close() {
	d.closed = true
	for _, c := range d.conns {
		if c != nil {
			unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			d.end(c)
		}
	}
	unix.Close(d.epoll)
}

// sources is how many addresses connections come from: one address has some 28,000 ports towards a server.
const sources = 16

// connect begins connection number i. Its client hears of it when it is ready; if that fails, faults say so.
func (d *driver) connect(i int, to netip.AddrPort, w wire, cl client) error {
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket %d: %w", i, err)
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
		return fmt.Errorf("connect to %v: %w", to, err)
	}
	for fd >= len(d.conns) {
		d.conns = append(d.conns, nil)
	}
	d.conns[fd] = &conn{d: d, fd: fd, wire: w, client: cl, host: to.String()}
	d.open++
	return nil
}

// turn takes what is there, waiting for it for at most wait, and sends the heartbeats that are due. It returns how many
// conns had something.
func (d *driver) turn(wait time.Duration) (int, error) {
	n, err := d.poll(wait)
	if err != nil {
		return 0, err
	}
	for _, e := range d.events[:n] {
		c := d.conns[e.Fd]
		if c == nil {
			continue
		}
		if e.Events&unix.EPOLLOUT != 0 {
			c.writable()
		}
		if e.Events&^unix.EPOLLOUT != 0 && c.state != ended {
			c.readable()
		}
	}
	d.sendBeats()
	select {
	case <-d.interrupt:
		return n, errInterrupted
	default:
		return n, nil
	}
}

func (d *driver) poll(wait time.Duration) (int, error) {
	if wait > 0 {
		n, err := unix.EpollWait(d.epoll, d.events, int(wait/time.Millisecond))
		if err == unix.EINTR {
			return 0, nil
		}
		return n, err
	}
	// Raw: the Go scheduler need not know of a call that cannot block.
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(d.epoll), uintptr(unsafe.Pointer(&d.events[0])), uintptr(len(d.events)), 0, 0, 0)
	if errno != 0 && errno != unix.EINTR {
		return 0, errno
	}
	if errno != 0 {
		n = 0
	}
	return int(n), nil
}

func (d *driver) sendBeats() {
	if len(d.beats) == 0 {
		return
	}
	now := clock()
	for len(d.beats) > 0 && d.beats[0].at <= now {
		c := d.beats[0].c
		d.beats = d.beats[1:]
		if c.state == working {
			c.send(c.wire.heartbeat(d.out[:0]))
		}
	}
}

// fail ends a conn that should have lived.
func (d *driver) fail(c *conn, err error) {
	if c.state == ended {
		return
	}
	if !d.closed {
		d.faults.Closed++
		d.faults.reason("connection ended: %v", err)
	}
	d.end(c)
}

func (d *driver) end(c *conn) {
	c.state = ended
	d.conns[c.fd] = nil
	unix.Close(c.fd)
	d.open--
}

func (c *conn) writable() {
	if c.state == connecting {
		if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			c.d.fail(c, fmt.Errorf("connect: %w", syscall.Errno(code)))
			return
		}
		c.state = opening
		c.interest(unix.EPOLLIN)
		if hello := c.wire.hello(c.d.out[:0], c.host); len(hello) > 0 {
			c.send(hello)
		} else {
			c.opened()
		}
		return
	}
	rest := c.unsent
	c.unsent = nil
	c.send(rest)
	if len(c.unsent) == 0 && c.state != ended {
		c.interest(unix.EPOLLIN)
	}
}

func (c *conn) interest(events uint32) {
	unix.EpollCtl(c.d.epoll, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.fd)})
}

func (c *conn) readable() {
	d := c.d
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&d.buf[0])), uintptr(len(d.buf)), unix.MSG_DONTWAIT, 0, 0)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return
	case errno != 0:
		d.fail(c, errno)
		return
	case n == 0:
		d.fail(c, errors.New("end of stream"))
		return
	}
	d.reads++
	d.now = clock()
	b := d.buf[:n]
	if len(c.in) > 0 {
		c.in = append(c.in, b...)
		b = c.in
	}
	taken, err := c.wire.read(b, c)
	if err != nil {
		d.fail(c, err)
		return
	}
	rest := b[taken:]
	if cap(c.in) > keptInput && len(rest) == 0 {
		c.in = nil
		return
	}
	c.in = append(c.in[:0], rest...) // may overlap: rest lies at or behind the start of c.in, or elsewhere
}

// send writes b, now or when the socket takes it. b may be reused at once.
func (c *conn) send(b []byte) {
	if c.state == ended {
		return
	}
	c.d.out = b[:0] // keep what it has grown to
	if len(c.unsent) == 0 && len(b) > 0 {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno != 0 && errno != unix.EAGAIN {
			c.d.fail(c, errno)
			return
		}
		if errno != 0 {
			n = 0
		}
		if b = b[n:]; len(b) == 0 {
			return
		}
		c.interest(unix.EPOLLIN | unix.EPOLLOUT)
	}
	if len(c.unsent)+len(b) > maxUnsent {
		c.d.fail(c, fmt.Errorf("the server left %d bytes unread", len(c.unsent)+len(b)))
		return
	}
	c.unsent = append(c.unsent, b...)
}

// request sends a request and returns its id. Ids are numbers from 1.
func (c *conn) request(route string, body []byte) uint32 {
	c.id++
	c.send(c.wire.request(c.d.out[:0], c.id, route, body))
	return c.id
}

// What follows is the conn as the sink of its wire.

func (c *conn) opened() { c.send(c.wire.handshake(c.d.out[:0])) }

func (c *conn) handshaken(body []byte) error {
	h, err := parseHandshake(body)
	if err != nil {
		return err
	}
	c.every = time.Duration(h.Sys.Heartbeat * float64(time.Second))
	c.send(c.wire.ack(c.d.out[:0]))
	c.state = working
	c.client.ready(c)
	return nil
}

// beat is answered after the interval: clients that answer at once make a storm of packets.
func (c *conn) beat() {
	if c.every > 0 {
		c.d.beats = append(c.d.beats, dueBeat{c.d.now + int64(c.every), c})
	}
}

func (c *conn) answered(id uint32, body []byte) { c.client.answered(c, id, body) }
func (c *conn) pushed(route, body []byte)       { c.client.pushed(c, route, body) }

func (c *conn) pinged(payload []byte) {
	if w, ok := c.wire.(*hybridWS); ok {
		c.send(w.pong(c.d.out[:0], payload))
	}
}
