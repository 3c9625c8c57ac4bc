package netpoll_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// When the kernel has no memory for a write, nothing is lost and nobody disconnected: what was to be sent waits, the loop does
// not spin although the socket says that it has room, and with the next tick it is tried again.
func TestWriteWithoutMemory(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOBUFS, syscall.ENOMEM} {
		for _, backlog := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v,backlog=%v", errno, backlog), func(t *testing.T) {
				w, h, l := one(t, netpoll.Limits{Outbound: 1 << 20, Stuck: 20, Buffered: 1 << 20}, 1<<20)
				var g netpoll.Group
				c, s := w.connect(h)
				other, rich := w.connect(h)
				if backlog {
					s.Room = 3
				}
				want := ""
				say := func(text string) {
					want += text
					w.do(h, func() { l.Push(&g, []byte(text)) })
					w.net.Settle() // panics when the loop spins
				}
				w.do(h, func() { l.Join(c, &g); l.Join(other, &g) })
				if backlog {
					say("first")
					s.Room = -1
				}
				s.WriteErr = errno
				say("pushed ")
				want += "staged "
				w.do(h, func() { l.Write(c, []byte("staged ")); l.Write(other, []byte("staged ")) })
				w.net.Settle()
				w.net.Seconds(3)
				if tries := l.Stats().WritesNoBuffers; tries < 3 || tries > 6 {
					t.Errorf("%d tries in three seconds", tries)
				}
				if !c.Alive() || c.Queued() == 0 || string(rich.Wrote) != want {
					t.Fatalf("alive %v, %d queued; the other got %q", c.Alive(), c.Queued(), rich.Wrote)
				}
				s.WriteErr = 0
				say("later")
				w.net.Seconds(1)
				if string(s.Wrote) != want || c.Queued() != 0 {
					t.Errorf("got %q, want %q", s.Wrote, want)
				}
				s.Room = 2 // from now on it is a slow socket like any other
				say("and on")
				s.Room = -1
				w.net.Settle()
				if string(s.Wrote) != want {
					t.Errorf("got %q, want %q", s.Wrote, want)
				}
			})
		}
	}
}

// A kernel that has no memory for too long counts as a peer that takes nothing; a conn that closes meanwhile says its goodbye
// when it can.
func TestWriteWithoutMemoryEnds(t *testing.T) {
	w, h, l := one(t, netpoll.Limits{Outbound: 1 << 20, Stuck: 5, Buffered: 1 << 20}, 1<<20)
	stays, s := w.connect(h)
	closes, s2 := w.connect(h)
	id := stays.ID(l)
	for _, x := range []*looptest.Socket{s, s2} {
		x.WriteErr = syscall.ENOBUFS
	}
	w.do(h, func() {
		l.Write(stays, []byte("x"))
		l.Write(closes, []byte("bye"))
		l.Close(closes, netpoll.ReasonHandler)
	})
	w.net.Settle()
	s2.WriteErr = 0
	w.net.Seconds(1)
	if string(s2.Wrote) != "bye" || !s2.ShutDown {
		t.Errorf("goodbye %q, shut down %v", s2.Wrote, s2.ShutDown)
	}
	w.net.Seconds(5)
	if why, ended := h.closed[id]; !ended || why != netpoll.ReasonStuck || !s.Closed {
		t.Errorf("ended %v for %d", ended, why)
	}
}

// Without memory to watch a new socket that one is closed, and nobody else notices.
func TestWatchWithoutMemory(t *testing.T) {
	w, h, _ := one(t, netpoll.Limits{Outbound: 1 << 20, Stuck: 5, Buffered: 1 << 20}, 1<<20)
	c, s := w.connect(h)
	poor := w.net.Connect(h.loop, 1)
	poor.WatchErr = syscall.ENOMEM
	w.net.Settle()
	if !poor.Closed || !c.Alive() || s.Closed {
		t.Errorf("closed %v; the other: alive %v, closed %v", poor.Closed, c.Alive(), s.Closed)
	}
}

// A conn that goes on after a pause, and for which there is no memory to be watched then, ends: its handler is not given any bytes more.
func TestResumeWithoutMemory(t *testing.T) {
	for name, how := range map[string]struct {
		stop, goOn func(*netpoll.Loop, *netpoll.Conn)
	}{
		"paused": {(*netpoll.Loop).Pause, (*netpoll.Loop).Resume},
		"held":   {(*netpoll.Loop).Hold, (*netpoll.Loop).Release},
	} {
		t.Run(name, func(t *testing.T) {
			w, h, l := one(t, wide, 1<<40)
			c, s := w.connect(h)
			id := c.ID(l)
			w.do(h, func() { how.stop(l, c) })
			s.Send(make([]byte, 100<<10))
			w.net.Settle() // it is not watched for reading any more
			s.WatchErr = syscall.ENOMEM
			w.do(h, func() { how.goOn(l, c) }) // the witness notices what is wrong
			w.net.Settle()
			if why, ended := h.closed[id]; !ended || why != netpoll.ReasonReset || !s.Closed {
				t.Errorf("ended %v for %d", ended, why)
			}
		})
	}
}

// KillAll leaves nothing open, whatever state a conn is in.
func TestKillAll(t *testing.T) {
	w, h, l := one(t, netpoll.Limits{Outbound: 1 << 20, Stuck: 5, Buffered: 1 << 20}, 1<<20)
	_, plain := w.connect(h)
	lingering, s := w.connect(h)
	backlog, slow := w.connect(h)
	slow.Room = 0
	w.do(h, func() {
		h.pull()
		l.Write(backlog, []byte("never taken"))
		l.Close(lingering, netpoll.ReasonHandler)
	})
	w.net.Settle()
	w.do(h, func() { l.KillAll(netpoll.ReasonHandler) })
	w.net.Settle()
	if !plain.Closed || !s.Closed || !slow.Closed || len(h.conns) != 0 || l.Pulls() != 0 || l.Open() != 0 {
		t.Errorf("closed %v %v %v, %d conns left", plain.Closed, s.Closed, slow.Closed, len(h.conns))
	}
	w.do(h, func() { l.KillAll(netpoll.ReasonHandler) })
}

// An outbox of a conn for which the kernel had no memory is pooled as good as new: who gets it next is a slow socket like any other.
func TestWriteWithoutMemoryIsForgotten(t *testing.T) {
	w, h, l := one(t, wide, 1<<20)
	poor, p := w.connect(h)
	p.WriteErr = syscall.ENOBUFS
	w.do(h, func() { l.Write(poor, []byte("x")) })
	w.net.Settle()
	w.do(h, func() { l.Kill(poor, netpoll.ReasonHandler) })
	w.net.Settle()
	next, s := w.connect(h)
	s.Room = 2
	w.do(h, func() { l.Write(next, []byte("whole")) })
	s.Room = -1
	w.net.Settle() // no tick
	if string(s.Wrote) != "whole" {
		t.Errorf("got %q", s.Wrote)
	}
}

// A socket that is full exactly at the end of a write, with more of its backlog to come, loses nothing; nor does one that is said to be
// ready when it is not.
func TestFullAtTheEndOfAWrite(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c, s := w.connect(h)
	s.Room = 0
	want := ""
	for i := range 6 {
		text := strings.Repeat(string(rune('a'+i)), 40_000)
		want += text
		w.do(h, func() { l.Write(c, []byte(text)) })
	}
	for range 4 {
		s.Whole = 1
		s.Ready()
		s.Stale()
	}
	if len(s.Wrote) != 4*40_000 || c.Queued() != 2*40_000 {
		t.Errorf("%d bytes were written and %d are queued", len(s.Wrote), c.Queued())
	}
	s.Room = -1
	w.net.Settle()
	if string(s.Wrote) != want {
		t.Errorf("%d of %d bytes came", len(s.Wrote), len(want))
	}
}
