//go:build linux

package main

import (
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// client is who uses a conn. Its methods are called in a turn; slices are valid until they return.
type client interface {
	ready(c *conn) // requests may be sent
	answered(c *conn, id uint32, body []byte)
	pushed(c *conn, route, body []byte)
}

// conn is one connection. Owned by its driver.
type conn struct {
	d      *driver
	fd     int
	epoll  int
	number int // decides where it comes from
	to     endpoint
	secure *secure // nil: without TLS
	wire   wire
	client client
	in     []byte        // read, but not a whole unit yet
	unsent []byte        // bounded by maxUnsent
	id     uint32        // of the last request
	every  time.Duration // heartbeats; 0: none
	state  connState
	frozen bool
}

type connState uint8

const (
	connecting connState = iota
	opened               // connected; what comes before requests is under way
	working
	ended
)

// keptInput is how large a buffer a conn keeps when it is empty.
const keptInput = 1 << 10

// maxUnsent bounds what a conn has to write: a server that does not read is a fault, not a reason to grow.
const maxUnsent = 4 << 20

// fail ends a conn that should have lived, unless its wire or its client knows better.
func (c *conn) fail(err error) {
	if c.state == ended {
		return
	}
	d := c.d
	expected := d.closed
	for _, user := range []any{c.wire, c.client} {
		if e, ok := user.(ending); ok && !expected {
			expected = e.ended(c)
		}
	}
	if !expected {
		d.faults.Closed++
		d.faults.reason("connection ended: %v", err)
	}
	c.end()
}

func (c *conn) end() {
	c.state = ended
	c.d.conns[c.fd] = nil
	unix.Close(c.fd)
	c.d.open--
}

// event takes what epoll says of it.
func (c *conn) event(events uint32) {
	if events&unix.EPOLLOUT != 0 {
		c.writable()
	}
	if events&^unix.EPOLLOUT != 0 && c.state != ended {
		c.readable()
	}
}

func (c *conn) writable() {
	if c.state == connecting {
		if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			c.fail(fmt.Errorf("connect: %w", syscall.Errno(code)))
			return
		}
		c.state = opened
		c.watch(unix.EPOLLIN)
		if c.secure != nil {
			if err := c.secure.handshake(); err != nil {
				c.fail(err)
				return
			}
		}
		c.wire.hello(c, c.to.String())
		return
	}
	rest := c.unsent
	c.unsent = nil
	c.write(rest)
	if len(c.unsent) == 0 && c.state != ended {
		c.watch(unix.EPOLLIN)
	}
}

func (c *conn) watch(events uint32) {
	if c.frozen {
		events &^= unix.EPOLLIN
	}
	unix.EpollCtl(c.epoll, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.fd)})
}

// freeze stops reading, as a client does whose machine sleeps; thaw goes on.
func (c *conn) freeze() { c.frozen = true; c.watch(unix.EPOLLIN) }
func (c *conn) thaw()   { c.frozen = false; c.watch(unix.EPOLLIN) }

// hurry has the conn's events taken before those of all that do not hurry.
func (c *conn) hurry() {
	unix.EpollCtl(c.epoll, unix.EPOLL_CTL_DEL, c.fd, nil)
	c.epoll = c.d.urgent
	unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd)})
	c.d.hurried = true
}

func (c *conn) readable() {
	d := c.d
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&d.buf[0])), uintptr(len(d.buf)), unix.MSG_DONTWAIT, 0, 0)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return
	case errno != 0:
		c.fail(errno)
		return
	case n == 0:
		c.fail(errors.New("end of stream"))
		return
	}
	d.reads++
	d.now = clock()
	b := d.buf[:n]
	if c.secure != nil {
		var err error
		if b, err = c.secure.open(b); err != nil {
			c.fail(err)
			return
		}
	}
	if len(c.in) > 0 {
		c.in = append(c.in, b...)
		b = c.in
	}
	taken, err := c.wire.read(b, c)
	if err != nil {
		c.fail(err)
		return
	}
	rest := b[taken:]
	if cap(c.in) > keptInput && len(rest) == 0 {
		c.in = nil
		return
	}
	c.in = append(c.in[:0], rest...) // may overlap: rest lies at or behind the start of c.in, or elsewhere
}

// request sends a request and returns its id. Ids are numbers from 1.
func (c *conn) request(route string, body []byte) uint32 {
	c.id++
	if c.state != ended {
		c.wire.request(c, c.id, route, body)
	}
	return c.id
}

// What follows is the conn as the sink of its wire.

func (c *conn) buffer() []byte { return c.d.out[:0] }

// send writes b, now or when the socket takes it. b may be reused at once.
func (c *conn) send(b []byte) {
	if c.secure != nil && c.state != ended {
		c.secure.seal(b)
		return
	}
	c.write(b)
}

// write is send for what the socket is to take as it is.
func (c *conn) write(b []byte) {
	if c.state == ended {
		return
	}
	if len(c.unsent) == 0 && len(b) > 0 {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno != 0 && errno != unix.EAGAIN {
			c.fail(errno)
			return
		}
		if errno != 0 {
			n = 0
		}
		if b = b[n:]; len(b) == 0 {
			return
		}
		c.watch(unix.EPOLLIN | unix.EPOLLOUT)
	}
	if len(c.unsent)+len(b) > maxUnsent {
		c.fail(fmt.Errorf("the server left %d bytes unread", len(c.unsent)+len(b)))
		return
	}
	c.unsent = append(c.unsent, b...)
}

// second connects once more. When that fails it returns c, which has ended then.
func (c *conn) second(w wire) sink {
	other, err := c.d.connect(c.number, c.to, w, c.client)
	if err != nil {
		c.fail(err)
		return c
	}
	return other
}

func (c *conn) ready(every time.Duration) {
	if c.state != opened {
		c.d.faults.Strange++
		c.d.faults.reason("opened twice")
		return
	}
	c.every, c.state = every, working
	c.client.ready(c)
}

// beat is for after the interval: hybrid clients that answer a heartbeat at once make a storm of packets.
func (c *conn) beat() {
	if c.every > 0 {
		c.d.beats.add(c)
	}
}

func (c *conn) answered(id uint32, body []byte) { c.client.answered(c, id, body) }
func (c *conn) pushed(route, body []byte)       { c.client.pushed(c, route, body) }
