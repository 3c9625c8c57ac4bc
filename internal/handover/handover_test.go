//go:build linux

package handover

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 30 * time.Second

// pair is both ends of a channel.
func pair(t *testing.T) (a, b *Channel) {
	t.Helper()
	a, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	if b, err = Open(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// pipes are so many descriptors of one pipe, and the pipe's other end.
func pipes(t *testing.T, n int) (files []int, other *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	t.Cleanup(func() { r.Close() })
	for range n {
		fd, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, fd)
	}
	return files, r
}

// Messages of any length, with any number of descriptors, come as they were sent.
func TestMessages(t *testing.T) {
	a, b := pair(t)
	for _, tc := range []struct{ bytes, files int }{{0, 0}, {1, 1}, {0, 300}, {packetBytes, 253}, {packetBytes + 1, 254}, {3 << 20, 0}, {100, 600}} {
		files, _ := pipes(t, tc.files)
		m := Message{Kind: Conns, Body: bytes.Repeat([]byte{7}, tc.bytes), Files: files}
		sent := make(chan error, 1)
		go func() { sent <- a.Send(m, patience) }()
		got, err := b.Expect(Conns, patience)
		if err != nil || <-sent != nil || !bytes.Equal(got.Body, m.Body) || len(got.Files) != tc.files {
			t.Errorf("%+v: %v, %d bytes, %d files", tc, err, len(got.Body), len(got.Files))
		}
		for _, fd := range got.Files {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Fatalf("descriptor %d: %v, %v", fd, flags, err)
			}
		}
		CloseFiles(got.Files)
		CloseFiles(files)
	}
}

// What does not come, is something else, or is no message, is an error, and no descriptor is left.
func TestChannelErrors(t *testing.T) {
	a, b := pair(t)
	if _, err := b.Expect(Ready, time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = a.Send(Message{Kind: Refuse, Body: []byte("no")}, patience)
	if _, err := b.Expect(Ready, patience); err != Refused("no") {
		t.Error(err)
	}
	files, other := pipes(t, 1)
	_ = a.Send(Message{Kind: Loop, Files: files}, patience)
	CloseFiles(files)
	if _, err := b.Expect(Ready, patience); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "got loop") {
		t.Error(err)
	}
	_ = other.SetReadDeadline(time.Now().Add(patience))
	if n, err := other.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a descriptor is left open")
	}
	for _, packet := range [][]byte{{1}, {0, 1, 0, 0, 0, 0}, {99, 1, 0, 0, 0, 0}, {1, 2, 0, 0, 0, 0}, {1, 1, 1, 0, 0, 0}, bytes.Repeat([]byte{1}, headBytes+packetBytes+1)} {
		if _, err := a.conn.Write(packet); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Receive(patience); !errors.Is(err, ErrMalformed) {
			t.Errorf("%x: %v", packet[:min(len(packet), 8)], err)
		}
	}
	full := Message{Kind: Conns, Body: make([]byte, 8<<20)}
	if err := a.Send(full, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("nobody receives:", err)
	}
	b.Close()
	if err := a.Send(Message{Kind: Commit}, patience); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := a.Receive(patience); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := Open(-1); err == nil {
		t.Error("opened nothing")
	}
	if fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		t.Error(err)
	} else if _, err := Open(fd); err == nil {
		t.Error("opened /dev/null")
	}
}

func TestGreeting(t *testing.T) {
	g := &Greeting{Protocol: Protocol, Format: "f", Version: "v1", Node: []byte{1, 2}, Listeners: []Listener{{"gate", ":1", "x"}}, Admin: "a", Upgrades: 3}
	b := g.Append(nil)
	if got, err := ParseGreeting(b, 2, "f"); err != nil || !reflect.DeepEqual(got, g) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, tc := range []struct {
		b      string
		files  int
		format string
		want   string
	}{
		{"", 0, "f", "malformed message"}, {"{}", 0, "f", ErrProtocol.Error()}, {`{"Protocol":2,"Listeners":7}`, 0, "f", ErrProtocol.Error()},
		{`{"Protocol":1,"Listeners":7}`, 0, "f", "malformed message"}, {string(b), 1, "f", "malformed message"},
		{string(b), 2, "g", "the running server, v1, has another format of what it hands over (f) than this binary (g): restart instead of upgrading"},
	} {
		if _, err := ParseGreeting([]byte(tc.b), tc.files, tc.format); err == nil || err.Error() != tc.want {
			t.Errorf("%s: %v, want %s", tc.b, err, tc.want)
		}
	}
}

// Whatever comes in a message is decoded to what encodes the same, or refused.
func FuzzMessages(f *testing.F) {
	f.Add(AppendTags(nil, []int{0, -1, 5}), 3)
	f.Add((&LoopHead{Frozen: 5, Conns: 2, Stays: map[string]int{"why": 1}, Shared: []byte("shared")}).Append(nil), 0)
	var m Message
	AppendConn(&m, Conn{3, []byte("state")})
	AppendConn(&m, Conn{-1, nil})
	f.Add(m.Body, 1)
	f.Add((&Greeting{Protocol: Protocol, Format: "f", Admin: "a"}).Append(nil), 1)
	f.Add([]byte{1, 1, 0, 0, 0, 0}, 0)
	f.Fuzz(func(t *testing.T, b []byte, files int) {
		files = min(max(files, 0), 300)
		if tags, err := ParseTags(b, files); err == nil {
			if again, err := ParseTags(AppendTags(nil, tags), files); err != nil || !reflect.DeepEqual(again, tags) {
				t.Errorf("%v, %v", again, err)
			}
		}
		if h, err := ParseLoopHead(b); err == nil {
			if again, err := ParseLoopHead(h.Append(nil)); err != nil || !reflect.DeepEqual(again.Stays, h.Stays) || again.Frozen != h.Frozen || again.Conns != h.Conns || !bytes.Equal(again.Shared, h.Shared) {
				t.Errorf("%v, %v", again, err)
			}
		}
		m := Message{Kind: Conns, Body: b, Files: make([]int, files)}
		if conns, err := ParseConns(&m); err == nil {
			again := Message{Kind: Conns}
			for _, c := range conns {
				AppendConn(&again, c)
			}
			if got, err := ParseConns(&again); err != nil || !reflect.DeepEqual(got, conns) || len(again.Files) != files {
				t.Errorf("%v, %v", got, err)
			}
		}
		if g, err := ParseGreeting(b, files, "f"); err == nil {
			if again, err := ParseGreeting(g.Append(nil), files, "f"); err != nil || again.Admin != g.Admin || len(again.Listeners) != len(g.Listeners) {
				t.Errorf("%v, %v", again, err)
			}
		}
		_, _, _, _ = parsePacket(b)
	})
}
