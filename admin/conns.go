package admin

import (
	"net"
	"sync"
	"sync/atomic"
)

// maxConns is how many connections the admin server has at a time: some probes, a few that scrape, an operator's browser. More are
// closed at once, as each has a goroutine and buffers that no limit of clients counts.
const maxConns = 64

// fewConns is a listener that has at most maxConns connections.
type fewConns struct {
	net.Listener
	open atomic.Int64
}

func (l *fewConns) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= maxConns {
			return &fewConn{Conn: c, done: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		_ = c.Close()
	}
}

// fewConn gives its place back when it is closed.
type fewConn struct {
	net.Conn
	done func()
}

func (c *fewConn) Close() error {
	defer c.done()
	return c.Conn.Close()
}
