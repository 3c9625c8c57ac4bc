package netpoll_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/netpoll"
)

// Of what a peer goes on sending after the end of its conn little is read where it was sending too much.
func TestLingerBriefly(t *testing.T) {
	for _, tc := range []struct {
		end   func(l *netpoll.Loop, c *netpoll.Conn)
		least int // that is read
		most  int
	}{
		{func(l *netpoll.Loop, c *netpoll.Conn) { l.Close(c, netpoll.ReasonHandler) }, 500 << 10, 600 << 10},
		{func(l *netpoll.Loop, c *netpoll.Conn) { l.CloseBriefly(c, netpoll.ReasonHandler) }, 60 << 10, 100 << 10},
	} {
		w, h, l := one(t, wide, 1<<40)
		_, s := w.connect(h)
		h.onData = func(c *netpoll.Conn, b []byte) int { tc.end(l, c); return len(b) }
		sent := 0
		for ; !s.Closed; sent += 4 << 10 {
			s.Send(make([]byte, 4<<10))
			w.net.Settle()
			if sent > tc.most {
				t.Fatalf("%d bytes were read", sent)
			}
		}
		if sent < tc.least {
			t.Errorf("only %d bytes were read", sent)
		}
	}
}

// unread are ways in which a conn comes not to be read. A peer may have sent as much as it can by then.
var unread = map[string]func(l *netpoll.Loop, c *netpoll.Conn){
	"paused": func(l *netpoll.Loop, c *netpoll.Conn) { l.Pause(c) },
	"held":   func(l *netpoll.Loop, c *netpoll.Conn) { l.Hold(c) },
}

// A conn that is not read ends when its peer has reset it, at once: it has a place that others could have.
func TestResetIsNoticedWhereNobodyReads(t *testing.T) {
	for name, stop := range unread {
		t.Run(name, func(t *testing.T) {
			w, h, l := one(t, wide, 1<<40)
			c, s := w.connect(h)
			id := c.ID(l)
			h.onData = func(c *netpoll.Conn, b []byte) int { stop(l, c); return 0 }
			s.Send(make([]byte, 64<<10))
			w.net.Settle()
			s.Err = syscall.ECONNRESET
			s.Ready()
			if why, gone := h.closed[id]; !gone || why != netpoll.ReasonReset || !s.Closed {
				t.Fatalf("gone %v, reason %d, closed %v", gone, why, s.Closed)
			}
			l.Failed(s.FD) // late
		})
		t.Run(name+" with epoll", func(t *testing.T) {
			s := newSite(t, func(_ *site, d *driven) {
				d.onData = func(c *netpoll.Conn, b []byte) int { stop(d.loop, c); return 0 }
			})
			conn, err := net.Dial("tcp", s.addr[0])
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)) // for as much as is taken
			for b := make([]byte, 16<<10); err == nil; {
				_, err = conn.Write(b)
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			select {
			case why := <-s.ended:
				if why != netpoll.ReasonReset {
					t.Errorf("ended for reason %d", why)
				}
			case <-time.After(patience):
				t.Error("it was not noticed")
			}
		})
	}
}
