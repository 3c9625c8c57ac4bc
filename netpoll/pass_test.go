package netpoll_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/netpoll/looptest"
)

// full is a group of n members.
func full(n int) (*scripted, *looptest.Net, *netpoll.Group, []*looptest.Socket) {
	h, net, l := newScripted(wide, 1<<40)
	g := new(netpoll.Group)
	socks := make([]*looptest.Socket, n)
	for i := range socks {
		var c *netpoll.Conn
		c, socks[i] = h.connect(net)
		l.Join(c, g)
	}
	return h, net, g, socks
}

// pushing pushes in a turn of its own.
func (h *scripted) pushing(n *looptest.Net, g *netpoll.Group, frame string) {
	h.onTurn = func() { h.loop.Push(g, []byte(frame)) }
	h.loop.Ring()
	n.Turn()
}

// What is pushed while a pass is under way goes to those who are still to be visited in the same write, and to the others
// when the pass comes round: nobody waits for a pass to end.
func TestPassGoesRound(t *testing.T) {
	h, n, g, socks := full(600)
	h.pushing(n, g, "a;") // visits 256
	h.pushing(n, g, "b;") // 256 more
	if at := socks[511]; string(at.Wrote) != "a;b;" || at.Writes != 1 {
		t.Errorf("visited behind the second push: %q in %d writes, want both at once", at.Wrote, at.Writes)
	}
	if at := socks[0]; string(at.Wrote) != "a;" {
		t.Errorf("visited before the second push: %q", at.Wrote)
	}
	n.Settle()
	writes := 0
	for i, s := range socks {
		if string(s.Wrote) != "a;b;" {
			t.Errorf("member %d got %q", i, s.Wrote)
		}
		writes += s.Writes
	}
	if writes != 600+256 {
		t.Errorf("%d writes: one for each member, and one more for the 256 who were too early for the second push, are 856", writes)
	}
	if s := h.loop.Stats(); s.Backlog != 0 || g.Backlog() != 0 {
		t.Errorf("in the end %d bytes are kept", s.Backlog)
	}
}

// A room in which somebody always speaks keeps what came within one or two rounds, not more.
func TestPassForgetsWhatAllHave(t *testing.T) {
	h, n, g, socks := full(600) // a round is two or three turns
	var want bytes.Buffer
	for i := range 1000 {
		frame := fmt.Sprintf("%0100d;", i)
		want.WriteString(frame)
		h.pushing(n, g, frame)
		if kept := g.Backlog(); kept > 8*len(frame) || kept != h.loop.Stats().Backlog {
			t.Fatalf("%d bytes are kept after push %d", kept, i)
		}
	}
	n.Settle()
	for i, s := range socks {
		if !bytes.Equal(s.Wrote, want.Bytes()) {
			t.Fatalf("member %d got %d bytes, want %d", i, len(s.Wrote), want.Len())
		}
	}
}

// Members that come and go while a pass is under way get what was pushed while they were there, and cost the others nothing.
func TestPassWhileMembersChange(t *testing.T) {
	h, n, g, socks := full(600)
	h.pushing(n, g, "a;")
	h.onTurn = func() { // visited and unvisited ones leave; what they had to get is staged for them
		for _, i := range []int{0, 100, 300, 599} {
			h.loop.Leave(h.opened[i])
		}
	}
	h.loop.Ring()
	n.Turn()
	late, ls := h.connect(n)
	h.onTurn = func() {
		h.loop.Join(late, g)
		h.loop.Push(g, []byte("b;"))
	}
	h.loop.Ring()
	n.Settle()
	for i, s := range socks {
		want := "a;b;"
		switch i {
		case 0, 100, 300, 599:
			want = "a;"
		}
		if string(s.Wrote) != want {
			t.Errorf("member %d got %q, want %q", i, s.Wrote, want)
		}
	}
	if string(ls.Wrote) != "b;" {
		t.Errorf("who came last got %q", ls.Wrote)
	}
}

// However much there is, a visit brings no more than a healthy socket takes in one write.
func TestVisitIsBounded(t *testing.T) {
	h, n, g, socks := full(3)
	var want bytes.Buffer
	h.onTurn = func() {
		for i := range 300 {
			frame := fmt.Sprintf("%01000d;", i)
			want.WriteString(frame)
			h.loop.Push(g, []byte(frame))
		}
	}
	h.loop.Ring()
	n.Settle()
	for i, s := range socks {
		if !bytes.Equal(s.Wrote, want.Bytes()) {
			t.Errorf("member %d got %d bytes, want %d", i, len(s.Wrote), want.Len())
		}
		if s.Writes < 5 || s.Writes > 6 || s.Largest > 64<<10 {
			t.Errorf("member %d got %d bytes in %d writes, the largest of %d", i, len(s.Wrote), s.Writes, s.Largest)
		}
	}
	if kept := h.loop.Stats().Backlog; kept != 0 {
		t.Errorf("%d bytes are kept", kept)
	}
}

// A push to a group that was quiet is written when the event that brought it ends: no bell is rung, and no turn is needed. A member
// that speaks gets the push and its answer in one write.
func TestQuietGroupNeedsNoTurn(t *testing.T) {
	h, n, g, socks := full(20)
	h.onData = func(c *netpoll.Conn, b []byte) int {
		h.loop.Push(g, []byte("push;"))
		h.loop.Write(c, []byte("answer;"))
		return len(b)
	}
	n.Pause = 250_000
	socks[3].Send([]byte("x"))
	socks[3].Ready()
	for i, s := range socks {
		want := "push;"
		if i == 3 {
			want += "answer;"
		}
		if string(s.Wrote) != want || s.Writes != 1 {
			t.Errorf("member %d: %q in %d writes", i, s.Wrote, s.Writes)
		}
	}
	if n.Turn() {
		t.Error("the doorbell was rung")
	}
}

// What comes right behind another push waits for the turn, in which all of it is merged.
func TestBusyGroupMerges(t *testing.T) {
	h, n, g, socks := full(20)
	h.onData = func(c *netpoll.Conn, b []byte) int {
		h.loop.Push(g, append([]byte("push "), b...))
		return len(b)
	}
	n.Pause = 250_000
	socks[0].Send([]byte("0;"))
	socks[0].Ready()
	n.Pause = 10_000
	for i, s := range socks[1:4] {
		s.Send(fmt.Appendf(nil, "%d;", i+1))
		s.Ready()
	}
	if s := socks[9]; string(s.Wrote) != "push 0;" {
		t.Errorf("before the turn: %q", s.Wrote)
	}
	n.Settle()
	if s := socks[9]; string(s.Wrote) != "push 0;push 1;push 2;push 3;" || s.Writes != 2 {
		t.Errorf("in the end: %q in %d writes, want two", s.Wrote, s.Writes)
	}
}

// In a burst the first rooms are written to at once, for half a millisecond in all; the others wait until everything has been read.
func TestBurstIsReadFirst(t *testing.T) {
	h, n, l := newScripted(wide, 1<<40)
	groups, socks := make([]netpoll.Group, 10), make([]*looptest.Socket, 10)
	for i := range socks {
		var c *netpoll.Conn
		c, socks[i] = h.connect(n)
		l.Join(c, &groups[i])
	}
	h.onData = func(c *netpoll.Conn, b []byte) int {
		l.Push(c.Group(), b)
		return len(b)
	}
	n.Pass(1e6)
	n.WriteNanos = 150_000
	for _, s := range socks {
		s.Send([]byte("x"))
		s.Ready()
	}
	written := 0
	for _, s := range socks {
		written += s.Writes
	}
	if written != 4 {
		t.Errorf("%d of 10 rooms were written to before the turn, want 4: 0.6 ms", written)
	}
	n.Settle()
	for i, s := range socks {
		if string(s.Wrote) != "x" {
			t.Errorf("room %d: %q", i, s.Wrote)
		}
	}
}
