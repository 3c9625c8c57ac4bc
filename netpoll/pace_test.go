package netpoll_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// paced is a group of n members whose rounds begin at most once in 5 ms.
func paced(n int) (*scripted, *looptest.Net, *netpoll.Group, []*looptest.Socket) {
	h, net, g, socks := full(n)
	net.Pass(1e9)
	h.loop.Pace(g, 5*time.Millisecond)
	return h, net, g, socks
}

func checkAll(t *testing.T, socks []*looptest.Socket, want string, writes int) {
	t.Helper()
	for i, s := range socks {
		if string(s.Wrote) != want || s.Writes != writes {
			t.Fatalf("member %d got %q in %d writes, want %q in %d", i, s.Wrote, s.Writes, want, writes)
		}
	}
}

// The first push to a quiet room goes at once, and what follows goes together when the time has come, not sooner.
func TestPaceMerges(t *testing.T) {
	h, n, g, socks := paced(10)
	h.pushing(n, g, "a;")
	n.Settle()
	checkAll(t, socks, "a;", 1)
	for i := range 4 {
		h.pushing(n, g, fmt.Sprintf("%d;", i))
		n.Wait(time.Millisecond)
	}
	checkAll(t, socks, "a;", 1)
	if left, any := h.loop.Resting(); !any || left != 1e6 {
		t.Errorf("the group rests for %d ns (%v), want 1 ms", left, any)
	}
	n.Wait(time.Millisecond)
	checkAll(t, socks, "a;0;1;2;3;", 2)
	if _, any := h.loop.Resting(); any || g.Backlog() != 0 {
		t.Errorf("a group without anything to say rests (%v), or keeps %d bytes", any, g.Backlog())
	}
	h.pushing(n, g, "b;") // 0 ms after the last round
	n.Wait(4 * time.Millisecond)
	checkAll(t, socks, "a;0;1;2;3;", 2)
	n.Wait(time.Millisecond)
	checkAll(t, socks, "a;0;1;2;3;b;", 3)
	n.Wait(5 * time.Millisecond)
	h.pushing(n, g, "c;")
	n.Settle()
	checkAll(t, socks, "a;0;1;2;3;b;c;", 4)
}

// A loop that has no other events begins the round of a resting group by itself, and not in a turn without end.
func TestPaceOverARound(t *testing.T) {
	h, n, g, socks := paced(600)
	h.pushing(n, g, "a;") // visits 256
	h.pushing(n, g, "b;")
	n.Settle() // the first 256 have yet to be given b
	for i, s := range socks {
		if want := map[bool]string{true: "a;", false: "a;b;"}[i < 256]; string(s.Wrote) != want {
			t.Fatalf("member %d got %q, want %q", i, s.Wrote, want)
		}
	}
	n.Wait(5 * time.Millisecond)
	for i, s := range socks {
		if string(s.Wrote) != "a;b;" {
			t.Fatalf("member %d got %q", i, s.Wrote)
		}
	}
}

// Who is answered is told at once what its room has for it, before the answer.
func TestPaceDoesNotHoldAnswers(t *testing.T) {
	h, n, g, socks := paced(3)
	h.pushing(n, g, "a;")
	n.Settle()
	h.onData = func(c *netpoll.Conn, b []byte) int {
		h.loop.Push(g, append([]byte("push "), b...))
		h.loop.Write(c, []byte("answer;"))
		return len(b)
	}
	socks[0].Send([]byte("1;"))
	socks[0].Ready()
	if got := string(socks[0].Wrote); got != "a;push 1;answer;" || socks[0].Writes != 2 {
		t.Errorf("who spoke got %q in %d writes", got, socks[0].Writes)
	}
	checkAll(t, socks[1:], "a;", 1)
	n.Wait(5 * time.Millisecond)
	checkAll(t, socks[1:], "a;push 1;", 2)
	if socks[0].Writes != 2 {
		t.Errorf("who spoke was written to %d times, want 2", socks[0].Writes)
	}
}

// A member that leaves, or comes, while its room rests has everything that was pushed while it was there, and nothing else.
func TestPaceWhileMembersChange(t *testing.T) {
	h, n, g, socks := paced(3)
	h.pushing(n, g, "a;")
	h.pushing(n, g, "b;")
	h.onTurn = func() { h.loop.Leave(h.opened[1]) }
	h.loop.Ring()
	n.Turn()
	late, s := h.connect(n)
	h.onTurn = func() { h.loop.Join(late, g) }
	h.loop.Ring()
	n.Turn()
	h.pushing(n, g, "c;")
	n.Wait(5 * time.Millisecond)
	checkAll(t, []*looptest.Socket{socks[0], socks[2]}, "a;b;c;", 2)
	checkAll(t, socks[1:2], "a;b;", 2)
	checkAll(t, []*looptest.Socket{s}, "c;", 1)
	for _, c := range h.opened {
		h.loop.Kill(c, netpoll.ReasonHandler)
	}
	h.pushing(n, g, "d;")
	n.Wait(5 * time.Millisecond)
	if _, any := h.loop.Resting(); any || g.Backlog() != 0 {
		t.Errorf("an empty group rests (%v), or keeps %d bytes", any, g.Backlog())
	}
}

// A paced group that is busy must not have its loop spin, and groups wake in the order of their times.
func TestPacesOfManyGroups(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	n.Pass(1e9)
	groups := make([]netpoll.Group, 50)
	socks := make([]*looptest.Socket, len(groups))
	for i := range groups {
		var c *netpoll.Conn
		c, socks[i] = h.connect(n)
		l.Join(c, &groups[i])
		l.Pace(&groups[i], time.Duration(50-i)*time.Millisecond)
	}
	pushAll := func() {
		h.onTurn = func() {
			for i := range groups {
				l.Push(&groups[i], []byte("x"))
			}
		}
		l.Ring()
		n.Settle()
	}
	pushAll()
	pushAll()
	for ms := 1; ms <= 50; ms++ {
		n.Wait(time.Millisecond)
		for i, s := range socks {
			if want := 1 + map[bool]int{true: 1}[50-i <= ms]; len(s.Wrote) != want {
				t.Fatalf("after %d ms the group with a pace of %d ms has had %d pushes, want %d", ms, 50-i, len(s.Wrote), want)
			}
		}
	}
}

// What hurries does not wait for the pace, and takes along what does; but not again and again.
func TestHurry(t *testing.T) {
	h, n, g, socks := paced(10)
	h.loop.Hurry(g) // nobody has said anything
	h.pushing(n, g, "a;")
	n.Settle()
	hurrying := func(b string) {
		h.pushing(n, g, b)
		h.loop.Hurry(g)
		h.loop.Turn()
		n.Settle()
	}
	n.Wait(100 * time.Millisecond)
	h.pushing(n, g, "b;")
	h.pushing(n, g, "c;")
	n.Settle()
	checkAll(t, socks, "a;b;", 2)
	hurrying("d;")
	checkAll(t, socks, "a;b;c;d;", 3)
	if _, any := h.loop.Resting(); any {
		t.Error("a group rests that has nothing to say")
	}
	hurrying("e;")
	checkAll(t, socks, "a;b;c;d;", 3)
	n.Wait(5 * time.Millisecond)
	checkAll(t, socks, "a;b;c;d;e;", 4)
	n.Wait(100 * time.Millisecond)
	h.pushing(n, g, "f;")
	hurrying("g;")
	if string(socks[0].Wrote) != "a;b;c;d;e;f;g;" {
		t.Errorf("got %q", socks[0].Wrote)
	}
}
