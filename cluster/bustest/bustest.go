// Package bustest is what every cluster.Bus must do, as tests that all of them pass.
package bustest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/pomelod/pomelod/cluster"
)

// Net is a bus with everybody on it.
type Net interface {
	// Join puts somebody on the bus under a name, ready to send and to be sent to. There may be several of one name.
	Join(name string, receive func(packet []byte), noResponder func(name string)) (bus cluster.Bus, leave func())
	// Wait lets time pass until done is true, and fails the test when that takes too long. done does not run at the same time as receive and noResponder do.
	Wait(what string, done func() bool)
}

// member is somebody on the bus, and what has come to it.
type member struct {
	cluster.Bus
	net   Net
	name  string
	got   []string
	none  []string
	leave func()
}

// world makes members of one net.
type world struct {
	t   *testing.T
	net Net
}

func (w *world) join(name string) *member {
	m := &member{net: w.net, name: name}
	m.Bus, m.leave = w.net.Join(name, func(b []byte) { m.got = append(m.got, string(b)) }, func(n string) { m.none = append(m.none, n) })
	return m
}

// expect waits until m has got just these packets since the last time, in this order. That no more come is shown by the next call: it would find them.
func (w *world) expect(m *member, packets ...string) {
	w.t.Helper()
	w.net.Wait(fmt.Sprintf("%d packets for %s", len(packets), m.name), func() bool { return len(m.got) >= len(packets) })
	w.net.Wait("", func() bool {
		if !slices.Equal(m.got, packets) {
			w.t.Errorf("%s got %.200q, not %.200q", m.name, m.got, packets)
		}
		m.got = nil
		return true
	})
}

// nobody waits until m has been told that just these names have nobody.
func (w *world) nobody(m *member, names ...string) {
	w.t.Helper()
	w.net.Wait(fmt.Sprintf("%s to be told of nobody", m.name), func() bool { return len(m.none) >= len(names) })
	w.net.Wait("", func() bool {
		if !slices.Equal(m.none, names) {
			w.t.Errorf("%s was told that nobody has %q, not %q", m.name, m.none, names)
		}
		m.none = nil
		return true
	})
}

// Run tests what a Bus promises on nets that open makes, each with nobody on it. longest is a packet that the net takes, tooLong one that it does not.
func Run(t *testing.T, open func(t *testing.T) Net, longest, tooLong int) {
	test := func(name string, f func(w *world)) {
		t.Run(name, func(t *testing.T) { f(&world{t, open(t)}) })
	}
	test("who gets what", func(w *world) {
		a, b, c := w.join("a"), w.join("b"), w.join("c")
		a.Send("b", []byte("for b"))
		a.Announce([]byte("for all"))
		b.Announce([]byte("for all others"))
		w.expect(b, "for b", "for all")
		w.expect(a, "for all others")
		w.net.Wait("both for c", func() bool { return len(c.got) >= 2 })
		a.Send("b", []byte("last"))
		w.expect(b, "last")
		w.nobody(a)
	})
	test("a packet is not kept", func(w *world) {
		a, b := w.join("a"), w.join("b")
		packet := []byte("first")
		a.Send("b", packet)
		copy(packet, "other")
		a.Announce(packet)
		copy(packet, "third")
		w.expect(b, "first", "other")
	})
	test("one sender's packets keep their order", func(w *world) {
		a, b := w.join("a"), w.join("b")
		var want []string
		for i := range 1000 {
			p := fmt.Sprintf("%d %s", i, bytes.Repeat([]byte("x"), i%300))
			want = append(want, p)
			if i%3 == 0 {
				a.Announce([]byte(p))
			} else {
				a.Send("b", []byte(p))
			}
		}
		w.expect(b, want...)
	})
	test("nobody has the name", func(w *world) {
		a, b := w.join("a"), w.join("b")
		for _, name := range []string{"chat-server-1", "with space", "a.b", "*", ">", "b.>", "%41", "房间", "line\nbreak", "A"} {
			a.Send(name, []byte("hello"))
			w.nobody(a, name)
		}
		a.Send("a", []byte("to myself"))
		w.nobody(a, "a")
		a.Send("b", []byte("you are there"))
		w.expect(b, "you are there")
		w.nobody(a)
	})
	test("odd names", func(w *world) {
		a := w.join("a")
		for _, name := range []string{"with space", "a.b", "*", ">", "房间", "%2A"} {
			m := w.join(name)
			a.Send(name, []byte("to "+name))
			w.expect(m, "to "+name)
			m.Send("a", []byte("from "+name))
			w.expect(a, "from "+name)
		}
	})
	test("two of one name", func(w *world) {
		a, b, b2 := w.join("a"), w.join("b"), w.join("b")
		a.Send("b", []byte("one"))
		w.expect(b, "one")
		w.expect(b2, "one")
		b.Send("b", []byte("two"))
		w.expect(b2, "two")
		b.Announce([]byte("three"))
		w.expect(b2, "three")
		w.expect(a, "three")
		w.expect(b)
		w.nobody(b)
	})
	test("who has left", func(w *world) {
		a, b, c := w.join("a"), w.join("b"), w.join("c")
		a.Send("b", []byte("here"))
		w.expect(b, "here")
		b.leave()
		w.net.Wait("b to be gone", func() bool {
			a.Send("b", []byte("gone"))
			return len(a.none) > 0
		})
		a.Send("c", []byte("all that was for b is under way"))
		w.expect(c, "all that was for b is under way")
		w.expect(b)
		b2 := w.join("b")
		a.Send("b", []byte("again"))
		w.expect(b2, "again")
		w.expect(b)
	})
	test("long packets", func(w *world) {
		a, b := w.join("a"), w.join("b")
		long := bytes.Repeat([]byte("0123456789abcdef"), longest/16+1)[:longest]
		a.Send("b", long)
		a.Send("b", make([]byte, tooLong))
		a.Announce(make([]byte, tooLong))
		a.Send("b", []byte("behind"))
		w.expect(b, string(long), "behind")
	})
}
