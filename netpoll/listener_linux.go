package netpoll

import (
	"context"
	"fmt"
	"net"

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
	// sendBuffer lets a healthy conn take a whole pass (sealBytes) in one write.
	sendBuffer = 128 << 10
	// userTimeoutMillis ends a connection whose peer acknowledges nothing for this long (RFC 5482).
	userTimeoutMillis = 30_000
	// Keep-alive finds peers that vanished silently where a protocol has no heartbeat of its own.
	keepAliveIdleSeconds, keepAliveEverySeconds, keepAliveCount = 60, 15, 4
)

// Close closes a listener that no acceptor has.
func (ln *Listener) Close() { _ = unix.Close(ln.fd) }

// Listen binds addr ("host:port"; an empty host means every address, IPv4 and IPv6). Conns it accepts carry tag.
func Listen(name, addr string, tag uint8) (*Listener, error) {
	lc := net.ListenConfig{Control: controlListener}
	lc.SetMultipathTCP(false) // the options of controlListener are TCP's
	nl, err := lc.Listen(context.Background(), "tcp", addr)
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
