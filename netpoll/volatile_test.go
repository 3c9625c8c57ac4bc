package netpoll_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pomelod/pomelod/netpoll"
)

// volatile has the loop push a volatile frame, in an event of its own.
func (h *scripted) volatile(g *netpoll.Group, kind, frame string) func() {
	return func() { h.loop.PushVolatile(g, kind, []byte(frame)) }
}

// Of what is pushed before a round begins each member gets the latest of each kind, with what else the round has; in a quiet group that is at once.
func TestVolatileLatestOnly(t *testing.T) {
	h, n, g, socks := paced(10)
	push := func(fs ...func()) {
		h.onTurn = func() {
			for _, f := range fs {
				f()
			}
		}
		h.loop.Ring()
		n.Settle()
	}
	push(h.volatile(g, "at", "at1;"), h.volatile(g, "at", "at2;"))
	checkAll(t, socks, "at2;", 1)
	push(h.volatile(g, "at", "at3;"), func() { h.loop.Push(g, []byte("a;")) })
	push(h.volatile(g, "sees", "sees1;"), h.volatile(g, "at", "at4;"))
	checkAll(t, socks, "at2;", 1)
	n.Wait(5 * time.Millisecond)
	checkAll(t, socks, "at2;a;sees1;at4;", 2)
	n.Wait(5 * time.Millisecond)
	push(h.volatile(g, "at", "at5;"))
	checkAll(t, socks, "at2;a;sees1;at4;at5;", 3)
	push(h.volatile(g, "at", "at6;")) // nothing else is said
	if _, any := h.loop.Resting(); !any {
		t.Error("nobody would ever tell it")
	}
	n.Wait(5 * time.Millisecond)
	checkAll(t, socks, "at2;a;sees1;at4;at5;at6;", 4)
	if s := h.loop.Stats(); s.Outdated != 2 || s.Withheld != 0 || s.Backlog != 0 || g.Backlog() != 0 {
		t.Errorf("%+v", s)
	}
}

// Only so many kinds wait.
func TestVolatileKindsAreBounded(t *testing.T) {
	h, n, g, socks := paced(2)
	h.onTurn = func() {
		for i := range 20 {
			h.volatile(g, fmt.Sprint(i), fmt.Sprint(i, ";"))()
		}
	}
	h.loop.Ring()
	n.Settle()
	checkAll(t, socks, "4;5;6;7;8;9;10;11;12;13;14;15;16;17;18;19;", 1)
}

// Who has unsent bytes gets none, and all that is pushed beside; how far it has come is told exactly. Others miss nothing for that.
func TestVolatileSparesTheSlow(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	var g netpoll.Group
	slow, sock := h.connect(n)
	fast, other := h.connect(n)
	l.Join(slow, &g)
	l.Join(fast, &g)
	do := func(fs ...func()) {
		for _, f := range fs {
			h.onTurn = f
			l.Ring()
			n.Settle()
		}
	}
	push := func(text string) func() { return func() { l.Push(&g, []byte(text)) } }
	sock.Room = 0
	do(push("aaaa;"), h.volatile(&g, "v", "v1;"), push("bbbb;"), h.volatile(&g, "v", "v2;"), h.volatile(&g, "w", "w3;"), push("cccc;"))
	if got := string(other.Wrote); got != "aaaa;v1;bbbb;v2;w3;cccc;" {
		t.Errorf("the other one got %q", got)
	}
	if s := l.Stats(); s.Withheld != 3 || s.Outdated != 0 {
		t.Errorf("%+v", s)
	}
	for taken := range 16 {
		want := taken // of the stream; what it is left out of counts when it has had what is before that
		if taken >= 5 {
			want += len("v1;")
		}
		if taken >= 10 {
			want += len("v2;w3;")
		}
		if got := slow.WrittenIfBroken(); int(got) != want {
			t.Errorf("after %d bytes it has had %d of the stream, want %d", taken, got, want)
		}
		sock.Room = 1
		sock.Ready()
		n.Settle()
	}
	if got := string(sock.Wrote); got != "aaaa;bbbb;cccc;" {
		t.Errorf("the slow one got %q", got)
	}
	sock.Room = -1
	do(h.volatile(&g, "v", "v4;"))
	if got := string(sock.Wrote); got != "aaaa;bbbb;cccc;v4;" {
		t.Errorf("when it is quick again it got %q", got)
	}
}

// What a member was left out of is kept for as long as something waits that was pushed before it: who never takes all, but always some, costs no more for that.
func TestVolatileForgetsWhatTheSlowMissed(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	var g netpoll.Group
	slow, sock := h.connect(n)
	fast, _ := h.connect(n)
	l.Join(slow, &g)
	l.Join(fast, &g)
	do := func(f func()) {
		h.onTurn = f
		l.Ring()
		n.Settle()
	}
	push := func() { l.Push(&g, []byte("aaaa;")) }
	sock.Room = 0
	const waiting = 3
	for range waiting {
		do(push)
		do(h.volatile(&g, "v", "v;"))
	}
	for i := range 2000 {
		do(push)
		do(h.volatile(&g, "v", "v;"))
		sock.Room = 5
		sock.Ready()
		n.Settle()
		if got, most := slow.Skips(), 4*(waiting+2); got > most {
			t.Fatalf("after %d pushes %d stretches are kept, at most %d are needed", i, got, most)
		}
		if got, want := int(slow.WrittenIfBroken()), (i+1)*7; got != want && got != want-2 {
			t.Fatalf("after %d pushes it has had %d of the stream, want %d", i, got, want)
		}
	}
	if s := l.Stats(); s.Withheld != 2000+waiting {
		t.Errorf("%d were withheld", s.Withheld)
	}
}

// A member with unsent bytes is left out wherever it is found: among the members of a small group, or among the few of a large one who have any.
func TestVolatileSparesTheSlowOfSmallGroups(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	var small, large netpoll.Group
	do := func(f func()) {
		h.onTurn = f
		l.Ring()
		n.Settle()
	}
	slow, sock := h.connect(n)
	l.Join(slow, &small)
	sock.Room = 0
	for range 5 {
		c, s := h.connect(n)
		l.Join(c, &large)
		s.Room = 0
	}
	do(func() { l.Push(&large, []byte("b;")); l.Push(&small, []byte("a;")) })
	do(h.volatile(&small, "v", "v;"))
	sock.Room = -1
	sock.Ready()
	n.Settle()
	if got := string(sock.Wrote); got != "a;" || l.Stats().Withheld != 1 {
		t.Errorf("it got %q, %+v", got, l.Stats())
	}
}
