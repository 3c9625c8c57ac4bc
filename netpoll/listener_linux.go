package netpoll

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Listener is a listening TCP socket for an Acceptor.
type Listener struct {
	// Name is for logs and metrics.
	Name string
	// Addr is the address it is bound to.
	Addr *net.TCPAddr
	// Max is the number of connections it may have at a time; more are closed at once. 0: no limit of its own. Set it
	// before Acceptor.Add.
	Max int

	tag uint8
	fd  int
}

// Socket options of a listener; Linux hands them down to what it accepts, so they cost nothing per connection.
const (
	// sendBuffer lets a healthy conn take a chunk (chunkBytes) in one write.
	sendBuffer = 128 << 10
	// userTimeoutMillis ends a connection whose peer acknowledges nothing for this long (RFC 5482).
	userTimeoutMillis = 30_000
	// Keep-alive finds peers that vanished silently where a protocol has no heartbeat of its own.
	keepAliveIdleSeconds, keepAliveEverySeconds, keepAliveCount = 60, 15, 4
)

// setOptions sets them on a socket that will listen, or does. Connections that a listening socket had queued before keep what they have.
func setOptions(fd int) error {
	for _, o := range []struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeoutMillis},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveIdleSeconds},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveEverySeconds},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// FD is the listener's descriptor, to be passed to another process. It stays the listener's.
func (ln *Listener) FD() int { return ln.fd }

// Close closes a listener that no acceptor has. Whoever else has a descriptor of the socket can go on accepting: it is never
// shut down.
func (ln *Listener) Close() { _ = unix.Close(ln.fd) }

// Network is the network on which net.Listen does with addr ("host:port") what it says: 0.0.0.0 is every address of IPv4 and no
// other, for which Go would listen on IPv6 as well. An empty host, and ::, are every address of both.
func Network(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
			return "tcp4"
		}
	}
	return "tcp"
}

// Listen binds addr ("host:port"; an empty host means every address, IPv4 and IPv6; 0.0.0.0 every one of IPv4). Conns it accepts
// carry tag.
func Listen(name, addr string, tag uint8) (*Listener, error) {
	lc := net.ListenConfig{Control: controlListener}
	lc.SetMultipathTCP(false) // the options of controlListener are TCP's
	nl, err := lc.Listen(context.Background(), Network(addr), addr)
	if err != nil {
		return nil, fmt.Errorf("listen for %s on %q: %w", name, addr, err)
	}
	defer nl.Close()
	tl := nl.(*net.TCPListener)
	fd, err := dupListener(tl)
	if err != nil {
		return nil, fmt.Errorf("listen for %s on %q: %w", name, addr, err)
	}
	return &Listener{Name: name, Addr: tl.Addr().(*net.TCPAddr), tag: tag, fd: fd}, nil
}

// ErrNotListening means that a descriptor is no listening TCP socket.
var ErrNotListening = errors.New("not a listening TCP socket")

// ListenerAddr is the address of the listening TCP socket fd. It fails with ErrNotListening when fd is something else.
func ListenerAddr(fd int) (*net.TCPAddr, error) {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	switch {
	case err == unix.EBADF:
		return nil, fmt.Errorf("%w: there is no such descriptor", ErrNotListening)
	case err == unix.ENOTSOCK:
		return nil, fmt.Errorf("%w: it is no socket", ErrNotListening)
	case err != nil:
		return nil, os.NewSyscallError("getsockopt", err)
	case protocol == unix.IPPROTO_MPTCP: // it lacks some of our options
		return nil, fmt.Errorf("%w: it is one of Multipath TCP (Go's default; net.ListenConfig has SetMultipathTCP)", ErrNotListening)
	case protocol != unix.IPPROTO_TCP:
		return nil, fmt.Errorf("%w: its protocol is another", ErrNotListening)
	}
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	} else if listens == 0 {
		return nil, fmt.Errorf("%w: it does not listen", ErrNotListening)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}, nil
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}, nil
	}
	return nil, fmt.Errorf("%w: its addresses are neither IPv4 nor IPv6", ErrNotListening)
}

// Inherit makes a Listener of fd, a TCP socket that another process has bound and listens on; fd belongs to the Listener from
// now on, also when Inherit fails. Conns it accepts carry tag.
func Inherit(name string, fd int, tag uint8) (*Listener, error) {
	ln := &Listener{Name: name, tag: tag, fd: fd}
	var err error
	if ln.Addr, err = ListenerAddr(fd); err == nil {
		err = setOptions(fd)
	}
	if err == nil { // a parent may have left it blocking, and accept would hold up every listener then
		err = os.NewSyscallError("fcntl", unix.SetNonblock(fd, true))
	}
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("take over descriptor %d for %s: %w", fd, name, err)
	}
	unix.CloseOnExec(fd)
	return ln, nil
}
