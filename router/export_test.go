package router

import (
	"bytes"
	"errors"
	"regexp"
	"testing"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// thaw freezes every session that can be exported, forgets it, and makes it anew of the bytes. It returns how many there were.
func (r *rig) thaw() (n int) {
	for _, l := range r.node.loops {
		l.np.Each(func(c *netpoll.Conn) {
			s := l.session(c)
			if s.exportable() != nil {
				return
			}
			n++
			state := l.exportSession(s)
			l.countTransport(s, 0)
			delete(l.keys, c.Slot())
			l.freeExtra(s)
			*s = session{conn: c, profile: s.profile}
			l.np.SetDue(c, 0)
			if err := l.importSession(s, bytes.Clone(state)); err != nil {
				r.t.Fatalf("%v: %x", err, state)
			}
			if again := l.exportSession(s); !bytes.Equal(again, state) {
				r.t.Fatalf("exported  %x\nand again %x", state, again)
			}
		})
	}
	return n
}

// anySID is what differs from one node to the next.
var anySID = regexp.MustCompile(`"sid":"[^"]*"`)

// A session that is frozen and thawed after every byte that its client sends says what one says that is left alone.
func TestThawedAfterEveryByte(t *testing.T) {
	upgrade := func(target string) []byte {
		return []byte("GET " + target + " HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	}
	text := func(packets ...string) (b []byte) {
		for _, p := range packets {
			b = append(b, maskedFrame(byte(codec.WSText), []byte(p))...)
		}
		return b
	}
	fragment := func(head byte, payload string) []byte {
		f := maskedFrame(2, []byte(payload))
		f[0] = head
		return f
	}
	packages := func(frame func([]byte) []byte) []byte {
		p := func(kind codec.PackageType, body []byte) []byte { return frame(codec.AppendPackage(nil, kind, body)) }
		b := p(codec.PackageHandshake, []byte(`{"sys":{},"user":{"secret":"0123456789abcdef"}}`))
		b = append(b, p(codec.PackageHandshakeAck, nil)...)
		b = append(b, p(codec.PackageHeartbeat, nil)...)
		for id, route := range []string{"connector.no.such", routeSend, "chat.no.such"} {
			b = append(b, p(codec.PackageData, plainMessage(uint32(id+1), route, `{"content":"x"}`))...)
		}
		b = append(b, frame(append(codec.AppendPackage(nil, codec.PackageHeartbeat, nil),
			codec.AppendPackage(nil, codec.PackageData, plainMessage(4, "chat.no.such", "{}"))...))...)
		return append(b, p(codec.PackageData, plainMessage(5, routeEnter, enterBody("a", "r")))...)
	}
	whole := func(b []byte) []byte { return b }
	frames := func(b []byte) []byte { return maskedFrame(byte(codec.WSBinary), b) }
	pieces := func(b []byte) []byte { // a message of three fragments, with a ping between them
		f := fragment(0x02, string(b[:1]))
		f = append(f, maskedFrame(byte(codec.WSPing), []byte("are you there"))...)
		f = append(f, fragment(0x00, string(b[1:2]))...)
		return append(f, fragment(0x80, string(b[2:]))...)
	}
	message := func(id string) string {
		return `42["message","\u0000\u0000\u0000\u000` + id + `\fchat.no.such{}"]`
	}
	for name, sent := range map[string][]byte{
		"tcp":                 packages(whole),
		"websocket":           append(upgrade("/"), packages(frames)...),
		"websocket, in parts": append(upgrade("/"), packages(pieces)...),
		"eio3": append(upgrade("/socket.io/?EIO=3&transport=websocket"), text("2", "2probe", message("1"), "40", message("2"),
			"x")...),
		"eio4": append(upgrade("/socket.io/?EIO=4&transport=websocket"), text("40", "3", message("1"), "41", "40", message("2"), "1")...),
	} {
		t.Run(name, func(t *testing.T) {
			var wrote [2][]byte
			thaws := 0
			for i := range wrote {
				r := newRig(t, shape{loops: 1}, nil)
				c := r.connect(atConnector, false)
				for _, x := range sent {
					c.sock.Send([]byte{x})
					r.net.Settle()
					if i == 1 {
						thaws += r.thaw()
						r.net.Settle()
					}
				}
				r.net.Seconds(1)
				wrote[i] = anySID.ReplaceAll(c.sock.Wrote, []byte(`"sid":""`))
			}
			if thaws < 20 {
				t.Errorf("%d thaws of %d bytes", thaws, len(sent))
			}
			if !bytes.Equal(wrote[0], wrote[1]) {
				t.Errorf("left alone %q\nthawed     %q", wrote[0], wrote[1])
			}
		})
	}
}

// A session that cannot be exported says why.
func TestWhyASessionStays(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	l := r.node.loops[0]
	why := func() (e staysError) {
		l.np.Each(func(c *netpoll.Conn) { errors.As(l.session(c).exportable(), &e) })
		return e
	}
	c := r.connect(atConnector, false)
	if got := why(); got != staysOpening || got.Error() == "" {
		t.Errorf("a new conn: %v", got)
	}
	c.send(codec.PackageHandshake, []byte(`{"sys":{}}`))
	c.send(codec.PackageHandshakeAck, nil)
	r.net.Settle()
	c.pump()
	if got := why(); got != 0 {
		t.Errorf("one that works: %v", got)
	}
	c.enter("a", "r")
	if got := why(); got != staysInRoom {
		t.Errorf("one in a room: %v", got)
	}
}

// FuzzImportSession reads any bytes as a session's state: they are refused, or make a session that exports the same as often as it is
// asked, and serves its client.
func FuzzImportSession(f *testing.F) {
	seeds := newRig(f, shape{loops: 1}, nil)
	for _, ws := range []bool{false, true} {
		c := seeds.withSecret(ws, "0123456789abcdef")
		c.sock.Send(maskedFrame(0x02, []byte("begun")))
		seeds.net.Settle()
	}
	l := seeds.node.loops[0]
	l.np.Each(func(c *netpoll.Conn) {
		if s := l.session(c); s.exportable() == nil {
			f.Add(l.exportSession(s), []byte("\x04\x00\x00\x00"))
		}
	})
	f.Fuzz(func(t *testing.T, state, sent []byte) {
		if len(state)+len(sent) > 4096 {
			return
		}
		r := newRig(t, shape{loops: 1}, nil)
		c := r.connect(atConnector, false)
		l := r.node.loops[0]
		l.np.Each(func(conn *netpoll.Conn) {
			s := l.session(conn)
			if l.importSession(s, bytes.Clone(state)) != nil {
				return
			}
			once := l.exportSession(s)
			*s = session{conn: conn, profile: s.profile, transport: s.transport}
			if err := l.importSession(s, bytes.Clone(once)); err != nil {
				t.Fatalf("exported %x, of %x: %v", once, state, err)
			}
			if again := l.exportSession(s); !bytes.Equal(again, once) {
				t.Fatalf("exported  %x\nand again %x", once, again)
			}
		})
		c.sock.Send(sent)
		r.net.Settle()
		r.net.Seconds(2)
		if s := l.np.Stats(); s.Panics+l.counters.panics != 0 {
			t.Fatal("a panic was contained; it should not have been")
		}
	})
}
