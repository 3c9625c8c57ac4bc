package fleet

import (
	"net"
	"sync"
	"testing"
	"time"
)

// proxy is a TCP connection's way to a server, which a test can stop: then nothing is read from either side.
type proxy struct {
	*board
	listener net.Listener
	to       string // empty: dials are taken and never answered
	dials    int
	held     bool
	delay    time.Duration // of each 16 KiB
	conns    []net.Conn
}

func newProxy(t *testing.T, to string) *proxy { return newProxyAt(t, "127.0.0.1:0", to) }

func newProxyAt(t *testing.T, at, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{board: newBoard(t), listener: l, to: to}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			p.do(func() { p.dials++; p.conns = append(p.conns, in) })
			if to == "" {
				continue
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			p.do(func() { p.conns = append(p.conns, out) })
			running.Go(func() { p.copy(in, out) })
			running.Go(func() { p.copy(out, in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.do(func() {
			p.held = false
			for _, c := range p.conns {
				c.Close()
			}
		})
		running.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		time.Sleep(p.pause())
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// pause returns when nothing is held, and tells how long what was read has to wait then.
func (p *proxy) pause() time.Duration {
	for {
		p.mu.Lock()
		held, delay, changed := p.held, p.delay, p.changed
		p.mu.Unlock()
		if !held {
			return delay
		}
		<-changed
	}
}

func (p *proxy) hold()    { p.do(func() { p.held = true }) }
func (p *proxy) release() { p.do(func() { p.held = false }) }

// slow has each 16 KiB wait in either direction; 0: no more.
func (p *proxy) slow(d time.Duration) { p.do(func() { p.delay = d }) }
