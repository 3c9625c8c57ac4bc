package netpoll_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
)

// FuzzSecure has a client of crypto/tls and a loop do what the input says: write, push, be slow, cut what is sent, pause, go to another loop,
// let time pass. Both must get what a connection without TLS would have brought them, whatever they do, or hear of the end.
func FuzzSecure(f *testing.F) {
	f.Add([]byte{0, 0, 200, 1, 90, 6})
	f.Add([]byte{1, 2, 3, 0, 255, 0, 255, 1, 255, 1, 255, 2, 0, 6, 7})
	f.Add([]byte{2, 3, 1, 0, 9, 4, 1, 255, 5, 0, 77, 2, 9, 6, 8, 1, 1, 6})
	f.Add([]byte{0, 8, 0, 255, 8, 2, 40, 1, 255, 1, 255, 1, 255, 8, 6, 2, 255, 6, 0, 3, 9})
	names := []string{"TLS 1.3", "TLS 1.2", "CBC"}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 || len(in) > 200 {
			return
		}
		w := newSealed(t, 2, netpoll.HandshakeLimits{}, 1<<30)
		client, far, c := w.dial(w.on[0], versions[names[int(in[0])%len(names)]].Clone())
		at := w.on[0]
		move := false
		var heard []byte // by the loops
		for i, h := range w.on {
			other := w.on[1-i]
			h.onOpen = func(opened *netpoll.Conn) { c, at = opened, h }
			h.onData = func(conn *netpoll.Conn, b []byte) int {
				if !conn.Secured() {
					h.loop.Secure(conn)
					return 0
				}
				n := len(b)
				if n > 10 && len(heard)%3 == 0 { // some is left for later
					n -= 7
				}
				heard = append(heard, b[:n]...)
				if move {
					move = false
					h.move(other)
				}
				return n
			}
		}
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		w.pump()
		var said, pushed, got []byte
		more := func() (arg int) {
			if len(in) > 0 {
				arg, in = int(in[0]), in[1:]
			}
			return arg
		}
		for in = in[1:]; len(in) > 0; {
			switch more() % 10 {
			case 0, 9:
				b := bytes.Repeat([]byte{byte(len(said))}, 1+more()*137)
				if _, err := client.Write(b); err != nil {
					t.Fatal(err)
				}
				said = append(said, b...)
			case 1:
				b := bytes.Repeat([]byte{byte(len(pushed))}, 1+more()*201)
				w.do(at, func() { at.loop.Write(c, b) })
				pushed = append(pushed, b...)
			case 2:
				far.s.Room = more() * 31
			case 3:
				far.piece = more()
			case 4:
				w.net.Events()
			case 5:
				w.do(at, func() {
					if c.Alive() {
						at.loop.Pause(c)
					}
				})
			case 6:
				w.do(at, func() { at.loop.Resume(c) })
			case 7:
				w.net.Seconds(1 + more()%3)
			case 8:
				move = true
			}
			if !c.Alive() { // it was too slow, or paused for too long
				return
			}
		}
		w.do(at, func() { at.loop.Resume(c) })
		far.s.Room = -1
		w.pump()
		w.do(at, func() { at.loop.Close(c, netpoll.ReasonHandler) })
		for {
			b := make([]byte, 4096)
			n, err := client.Read(b)
			if got = append(got, b[:n]...); err == io.EOF {
				break
			} else if err != nil && !errors.Is(err, errNothing) {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(said, heard) || len(said)-len(heard) > 7 {
			t.Errorf("the loops heard %d of %d bytes, or others", len(heard), len(said))
		}
		if !bytes.Equal(got, pushed) {
			t.Errorf("the client got %d of %d bytes, or others", len(got), len(pushed))
		}
		if client.ConnectionState().Version == tls.VersionTLS10 {
			t.Error("TLS 1.0")
		}
	})
}
