package netpoll_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/netpoll"
)

// basket is a peer that fetches: what it took, and how much it takes at a time.
type basket struct {
	got    []byte
	offers int
	takes  int // bytes of each offer; negative: all
}

func (k *basket) write(_ *netpoll.Conn, b []byte) int {
	k.offers++
	n := k.takes
	if n < 0 || n > len(b) {
		n = len(b)
	}
	k.got = append(k.got, b[:n]...)
	return n
}

// While the peer is away everything waits, in order; when it comes it gets all of it, and while it stays, what is new.
func TestPullWaitsForItsPeer(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	var g netpoll.Group
	c, k := h.pull(), &basket{}
	h.onWrite = k.write
	if !c.IsPull() || l.Pulls() != 1 || l.Open() != 0 || l.Find(c.ID(l)) != c || c.Tag() != 7 || c.Peer().String() != "192.0.2.1:80" {
		t.Fatalf("pull %v, pulls %d, sockets %d, tag %d, peer %v", c.IsPull(), l.Pulls(), l.Open(), c.Tag(), c.Peer())
	}
	w.do(h, func() { l.Join(c, &g); l.Write(c, []byte("a;")) })
	w.do(h, func() { l.Push(&g, []byte("b;")) })
	w.do(h, func() { l.Write(c, []byte("c;")) })
	if len(k.got) != 0 || c.Queued() != 6 {
		t.Fatalf("the peer is away, but got %q; %d bytes wait", k.got, c.Queued())
	}
	w.do(h, func() { l.Push(&g, []byte("d;")); l.Write(c, []byte("e;")); k.takes = -1; l.Fetch(c) })
	if string(k.got) != "a;b;c;d;e;" || c.Queued() != 0 {
		t.Fatalf("got %q, %d bytes wait", k.got, c.Queued())
	}
	w.do(h, func() { l.Push(&g, []byte("f;")) })
	if string(k.got) != "a;b;c;d;e;f;" {
		t.Fatalf("the peer is there, but got %q", k.got)
	}
	offers := k.offers
	w.do(h, func() { l.Fetch(c) })
	if k.offers != offers {
		t.Fatal("a peer was offered nothing")
	}
}

// A handler that takes whole pushes is offered whole pushes, however they were gathered on the way.
func TestPullIsOfferedWholePushes(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	var g netpoll.Group
	c := h.pull()
	l.Join(c, &g)
	var want, got []byte
	for i := range 60 {
		w.do(h, func() {
			f := fmt.Appendf(bytes.Repeat([]byte{'.'}, i*i*10), "<%d>", i) // up to 36 KB: chunks and gathered writes are 64 KiB
			l.Push(&g, f)
			want = append(want, f...)
			if i%3 == 0 {
				l.Write(c, []byte("own>"))
				want = append(want, "own>"...)
			}
		})
	}
	h.onWrite = func(_ *netpoll.Conn, b []byte) int {
		if b[len(b)-1] != '>' {
			t.Fatalf("an offer of %d bytes ends within a push", len(b))
		}
		n := bytes.IndexByte(b, '>') + 1
		got = append(got, b[:n]...)
		return n
	}
	for range 100 {
		w.do(h, func() { l.Fetch(c) })
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, want %d", len(got), len(want))
	}
}

// A peer that stays away is ended when too much waits for it, and not for staying away: that is the handler's to judge.
func TestPullIsEndedAtItsBound(t *testing.T) {
	w, h, l := one(t, netpoll.Limits{Outbound: 1000, Stuck: 5}, 1<<40)
	var g netpoll.Group
	c := h.pull()
	id := c.ID(l)
	l.Join(c, &g)
	w.do(h, func() { l.Write(c, make([]byte, 5000)) }) // an empty queue takes one of any size
	w.net.Seconds(100)
	if !c.Alive() {
		t.Fatalf("ended while it was away: %d", h.closed[id])
	}
	k := &basket{takes: -1}
	h.onWrite = k.write
	w.do(h, func() { l.Fetch(c) })
	k.takes = 0
	for range 11 { // the first does not count
		w.do(h, func() { l.Push(&g, make([]byte, 100)) })
	}
	if !c.Alive() || c.Queued() != 1100 {
		t.Fatalf("ended at its bound, not beyond: %d", h.closed[id])
	}
	w.do(h, func() { l.Push(&g, []byte{1}) })
	w.net.Settle()
	if why, gone := h.closed[id]; !gone || why != netpoll.ReasonSlow || l.Find(id) != nil || l.Pulls() != 0 || g.Len() != 0 {
		t.Fatalf("gone %v, reason %d, pulls %d, members %d", gone, why, l.Pulls(), g.Len())
	}
	if s := l.Stats(); s.Unsent != 0 || s.Closed[netpoll.ReasonSlow] != 1 || s.Opened != 1 {
		t.Fatalf("%+v", s)
	}
}

// What a group's absent peers and frozen sockets lack is in memory once, until the last of them has it or ends.
func TestPullsShareWhatTheyLack(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	var g netpoll.Group
	var pulls []*netpoll.Conn
	for range 5 {
		c := h.pull()
		l.Join(c, &g)
		pulls = append(pulls, c)
	}
	frozen, s := w.connect(h)
	l.Join(frozen, &g)
	s.Room = 10
	w.do(h, func() { l.Push(&g, make([]byte, 3000)) })
	w.net.Settle()
	if st := l.Stats(); st.Unsent != 3000 || st.Slow != 6 || w.budget.Buffered() != 3000+6*netpoll.SegmentBytes {
		t.Fatalf("unsent %d, slow %d, budget %d", st.Unsent, st.Slow, w.budget.Buffered())
	}
	w.do(h, func() { l.Write(pulls[0], make([]byte, 50)) })
	h.onWrite = (&basket{takes: -1}).write
	for i, c := range pulls {
		if st := l.Stats(); i > 0 && st.Unsent != 3000 {
			t.Fatalf("%d of 5 have fetched: unsent %d", i, st.Unsent)
		}
		w.do(h, func() { l.Fetch(c) })
	}
	w.do(h, func() { l.Kill(frozen, netpoll.ReasonHandler) })
	if st := l.Stats(); st.Unsent != 0 {
		t.Fatalf("nobody lacks anything: unsent %d", st.Unsent)
	}
}

// Beyond the budget the peer that is away and has the most of its own goes first, as a socket would.
func TestBudgetEndsPulls(t *testing.T) {
	w := newWorld(t, 2, wide, 10_000)
	a, b := w.on[0], w.on[1]
	small, large, other := a.pull(), a.pull(), b.pull()
	id := large.ID(a.loop)
	w.do(a, func() { a.loop.Write(small, make([]byte, 3000)); a.loop.Write(large, make([]byte, 5000)) })
	w.do(b, func() { b.loop.Write(other, make([]byte, 3000)) })
	w.net.Settle()
	if a.closed[id] != netpoll.ReasonMemory || !small.Alive() || !other.Alive() || w.budget.Buffered() != 6000+2*netpoll.SegmentBytes {
		t.Fatalf("large: %d; small alive %v, other alive %v, total %d", a.closed[id], small.Alive(), other.Alive(), w.budget.Buffered())
	}
}

// What waits for a conn that is closed is offered once more, and then it is gone: nobody can come for it.
func TestClosePullOffersTheRest(t *testing.T) {
	const queued, staged, pushed = 1, 2, 4
	for what := range 8 {
		for _, takes := range []int{-1, 0, 2} {
			t.Run(fmt.Sprintf("waiting=%03b/takes=%d", what, takes), func(t *testing.T) {
				w, h, l := one(t, wide, 1<<40)
				var g netpoll.Group
				c := h.pull()
				l.Join(c, &g)
				want := ""
				if what&queued != 0 {
					w.do(h, func() { l.Write(c, []byte("q;")) })
					want += "q;"
				}
				if what&pushed != 0 {
					want += "p;"
				}
				if what&staged != 0 {
					want += "s;"
				}
				id, slot := c.ID(l), c.Slot()
				k := &basket{takes: takes}
				h.onWrite = k.write
				w.do(h, func() {
					if what&pushed != 0 {
						l.Push(&g, []byte("p;"))
					}
					if what&staged != 0 {
						l.Write(c, []byte("s;"))
					}
					l.Close(c, netpoll.ReasonHandler)
					l.Write(c, []byte("too late"))
				})
				w.net.Settle()
				if takes >= 0 {
					want = want[:min(len(want), max(len(k.got), takes))]
				}
				if string(k.got) != want {
					t.Errorf("got %q, want %q", k.got, want)
				}
				if k.offers > 2 { // what is staged may have had its turn just before
					t.Errorf("%d offers", k.offers)
				}
				if why, gone := h.closed[id]; !gone || why != netpoll.ReasonHandler || l.Find(id) != nil || l.Pulls() != 0 || g.Len() != 0 {
					t.Errorf("gone %v, reason %d, pulls %d, members %d", gone, why, l.Pulls(), g.Len())
				}
				next := h.pull()
				if next.Slot() != slot || next.ID(l) == id || l.Find(id) != nil || l.Find(next.ID(l)) != next {
					t.Errorf("slot %d, then %d; ID %x, then %x", slot, next.Slot(), id, next.ID(l))
				}
				if next.Queued() != 0 || next.Unread() != 0 {
					t.Errorf("the next conn in the slot begins with %d bytes out and %d in", next.Queued(), next.Unread())
				}
			})
		}
	}
}

// A killed conn is offered nothing more, whoever asks.
func TestKillPullOffersNothing(t *testing.T) {
	w, h, l := one(t, wide, 1<<40)
	c := h.pull()
	id := c.ID(l)
	w.do(h, func() { l.Write(c, []byte("queued")) })
	k := &basket{takes: -1}
	h.onWrite = k.write
	w.do(h, func() {
		l.Write(c, []byte("staged"))
		l.Kill(c, netpoll.ReasonHandler)
		l.Fetch(c)
	})
	if h.closed[id] != netpoll.ReasonHandler || k.offers != 0 || l.Pulls() != 0 {
		t.Fatalf("reason %d, offers %d, pulls %d", h.closed[id], k.offers, l.Pulls())
	}
}

// A conn can be ended, also by a panic, while it is offered its output, wherever the offer comes from. Others are served.
func TestPullEndsWithinWrite(t *testing.T) {
	offers := map[string]func(w *world, h *witness, c *netpoll.Conn, g *netpoll.Group){
		"fetch": func(w *world, h *witness, c *netpoll.Conn, _ *netpoll.Group) {
			f := h.onWrite
			h.onWrite = nil
			for range 3 {
				w.do(h, func() { h.loop.Write(c, make([]byte, 70_000)) }) // more than one write
			}
			h.onWrite = f
			w.do(h, func() { h.loop.Fetch(c) })
		},
		"turn": func(w *world, h *witness, c *netpoll.Conn, _ *netpoll.Group) {
			w.do(h, func() { h.loop.Write(c, []byte("staged")) })
		},
		"pass": func(w *world, h *witness, _ *netpoll.Conn, g *netpoll.Group) {
			w.do(h, func() { h.loop.Push(g, []byte("pushed")) })
		},
		"close": func(w *world, h *witness, c *netpoll.Conn, _ *netpoll.Group) {
			w.do(h, func() { h.loop.Write(c, []byte("staged")); h.loop.Close(c, netpoll.ReasonHandler) })
		},
	}
	ends := map[string]struct {
		end func(l *netpoll.Loop, c *netpoll.Conn)
		why netpoll.Reason
	}{
		"kill":  {func(l *netpoll.Loop, c *netpoll.Conn) { l.Kill(c, netpoll.ReasonHandler+1) }, netpoll.ReasonHandler + 1},
		"close": {func(l *netpoll.Loop, c *netpoll.Conn) { l.Close(c, netpoll.ReasonHandler+1) }, netpoll.ReasonHandler + 1},
		"panic": {func(*netpoll.Loop, *netpoll.Conn) { panic("as the test wants it") }, netpoll.ReasonPanic},
	}
	for from, offer := range offers {
		for how, e := range ends {
			for _, takes := range []int{0, -1} {
				t.Run(fmt.Sprintf("%s/%s/takes=%d", from, how, takes), func(t *testing.T) {
					w, h, l := one(t, wide, 1<<40)
					var g netpoll.Group
					c, other := h.pull(), h.pull()
					l.Join(c, &g)
					l.Join(other, &g)
					_, s := w.connect(h)
					l.Join(h.last, &g)
					id := c.ID(l)
					k := &basket{takes: -1}
					ended, after := false, 0
					h.onWrite = func(at *netpoll.Conn, b []byte) int {
						if at != c {
							return k.write(at, b)
						}
						if ended {
							after++
						} else {
							ended = true
							if how == "panic" {
								h.panics++
							}
							e.end(l, c)
						}
						return (&basket{takes: takes}).write(at, b)
					}
					offer(w, h, c, &g)
					w.net.Settle()
					why := e.why
					if from == "close" {
						why = netpoll.ReasonHandler // it had one before
					}
					if got, gone := h.closed[id]; !gone || got != why || l.Pulls() != 1 || g.Len() != 2 {
						t.Errorf("gone %v, reason %d, pulls %d, members %d", gone, got, l.Pulls(), g.Len())
					}
					if how != "close" && after > 0 {
						t.Errorf("%d more offers after its end", after)
					}
					if from == "pass" && (string(k.got) != "pushed" || string(s.Wrote) != "pushed") {
						t.Errorf("the others got %q and %q", k.got, s.Wrote)
					}
				})
			}
		}
	}
}

// While it is offered output, a handler may do to groups and conns what it may at any other time.
func TestGroupsChangeWithinWrite(t *testing.T) {
	for name, change := range map[string]func(h *witness, c *netpoll.Conn, g, other *netpoll.Group){
		"push": func(h *witness, _ *netpoll.Conn, g, _ *netpoll.Group) {
			h.loop.Push(g, []byte("2;"))
			h.loop.Push(g, make([]byte, 70_000))
		},
		"leave": func(h *witness, c *netpoll.Conn, _, _ *netpoll.Group) { h.loop.Leave(c) },
		"switch": func(h *witness, c *netpoll.Conn, _, other *netpoll.Group) {
			h.loop.Leave(c)
			h.loop.Push(other, []byte("not for it;"))
			h.loop.Join(c, other)
			h.loop.Push(other, []byte("3;"))
		},
		"everybody leaves": func(h *witness, _ *netpoll.Conn, g, other *netpoll.Group) {
			for c := range h.conns {
				if c.Group() == g {
					h.loop.Leave(c)
				}
			}
			h.loop.Push(other, bytes.Repeat([]byte("x"), 3000)) // into the buffer of the log that nobody needs
		},
		"join": func(h *witness, _ *netpoll.Conn, g, _ *netpoll.Group) { h.loop.Join(h.pull(), g) },
		"own":  func(h *witness, c *netpoll.Conn, _, _ *netpoll.Group) { h.loop.Write(c, []byte("4;")) },
	} {
		for _, members := range []int{1, 3} {
			for _, takes := range []int{0, 2, -1} {
				t.Run(fmt.Sprintf("%s/members=%d/takes=%d", name, members, takes), func(t *testing.T) {
					w, h, l := one(t, wide, 1<<40)
					var g, other netpoll.Group
					_, s := w.connect(h)
					l.Join(h.last, &other)
					got := map[*netpoll.Conn]*basket{}
					var first *netpoll.Conn
					for range members {
						c := h.pull()
						l.Join(c, &g)
						got[c] = &basket{takes: takes}
						if first == nil {
							first = c
						}
					}
					done := false
					h.onWrite = func(c *netpoll.Conn, b []byte) int {
						k := got[c]
						if k == nil { // it came by join
							t.Errorf("who joined after a push was offered %q", b)
							return len(b)
						}
						n := k.write(c, b)
						if c == first && !done {
							done = true
							change(h, c, &g, &other)
						}
						return n
					}
					w.do(h, func() { l.Push(&g, []byte("0;1;")) })
					w.net.Settle()
					for c, k := range got {
						k.takes = -1
						w.do(h, func() { l.Fetch(c) })
					}
					w.net.Settle()
					for c, k := range got {
						want := "0;1;"
						switch {
						case name == "push":
							want += "2;" + strings.Repeat("\x00", 70_000)
						case name == "switch" && c == first:
							want += "3;"
						case name == "own" && c == first:
							want += "4;"
						}
						if string(k.got) != want {
							t.Errorf("got %d bytes %.80q, want %d", len(k.got), k.got, len(want))
						}
					}
					if name == "switch" && string(s.Wrote) != "not for it;3;" {
						t.Errorf("the other group got %q", s.Wrote)
					}
					if st := l.Stats(); st.Unsent != 0 || st.Backlog != 0 {
						t.Errorf("unsent %d, backlog %d", st.Unsent, st.Backlog)
					}
				})
			}
		}
	}
}
