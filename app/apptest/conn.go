package apptest

import (
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/pomelod/pomelod/netpoll/looptest"
)

// conn is a client's end of a connection in memory. All that is read and written is guarded by the server's mu.
type conn struct {
	s        *Server
	sock     *looptest.Socket
	closed   bool
	deadline time.Time // of reading
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case len(c.sock.Wrote) > 0:
			n := copy(b, c.sock.Wrote)
			c.sock.Wrote = c.sock.Wrote[n:]
			return n, nil
		case c.sock.ShutDown || c.sock.Closed || c.s.ended:
			return 0, io.EOF
		case !c.deadline.IsZero() && !time.Now().Before(c.deadline):
			return 0, os.ErrDeadlineExceeded
		}
		c.s.turned.Wait()
	}
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.closed || c.sock.Closed {
		return 0, net.ErrClosed
	}
	c.sock.Send(b)
	c.s.ring()
	return len(b), nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.closed = true
	c.sock.End()
	c.s.ring()
	c.s.turned.Broadcast()
	return nil
}

// cut ends the connection as a lost network does.
func (c *conn) cut() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.sock.Err = syscall.ECONNRESET
	c.s.ring()
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.deadline = t; !t.IsZero() {
		time.AfterFunc(time.Until(t), c.s.turned.Broadcast)
	}
	return nil
}

// SetWriteDeadline implements net.Conn: writes never wait.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return addr }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return addr }

var addr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv6Loopback(), 3050))
