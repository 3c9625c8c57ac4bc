package app

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/pomelod/pomelod/internal/hosting"
)

type dataPlayer struct {
	Score int
	Items []string
}

// carried is s as the next process, which runs next, gets to know it.
func carried(t *testing.T, a, next *App, s hosting.Session) (hosting.Session, bool) {
	t.Helper()
	c, ok := hosting.Of(a).Pack(s)
	if !ok {
		return nil, false
	}
	there := hosting.Of(next).NewSession(nil, netip.AddrPort{}, hosting.Where{})
	return there, hosting.Of(next).Unpack(there, c)
}

func newDataSession(a *App) hosting.Session {
	return hosting.Of(a).NewSession(nil, netip.AddrPort{}, hosting.Where{})
}

// A session has its own value, and it goes along.
func TestDataGoesAlong(t *testing.T) {
	a, next := New(), New()
	player, mode := NewData[dataPlayer](a, "player"), NewData[string](a, "mode")
	NewData[int](next, "other")
	nextPlayer := NewData[dataPlayer](next, "player") // mode is gone
	h, other := newDataSession(a), newDataSession(a)
	s := session(h)
	player.Update(s, func(p *dataPlayer) { p.Score++; p.Items = append(p.Items, "sword") })
	player.Update(s, func(p *dataPlayer) { p.Score++ })
	mode.Set(s, "fast")
	if got := player.Get(session(other)); got.Score != 0 || mode.Get(session(other)) != "" {
		t.Errorf("another session has %+v", got)
	}
	if !hosting.Of(a).Carries() || hosting.Of(New()).Carries() {
		t.Error("an App with data carries sessions, and one with nothing does not")
	}
	there, ok := carried(t, a, next, h)
	if !ok {
		t.Fatal("it does not go along")
	}
	if got := fmt.Sprint(nextPlayer.Get(session(there))); got != "{2 [sword]}" {
		t.Errorf("there it has %s", got)
	}
	s.Set("plain", 1)
	if _, ok := carried(t, a, next, h); ok {
		t.Error("what Set has stored was lost without a word")
	}
}

// With Carry both go along, whether the program before had data or not.
func TestDataBesideCarry(t *testing.T) {
	with := func(data bool) (a *App, player *Data[dataPlayer]) {
		a = New()
		if data {
			player = NewData[dataPlayer](a, "player")
		}
		a.Carry(func(s *Session) ([]byte, error) { return []byte(s.Get("own").(string)), nil },
			func(s *Session, b []byte) error { s.Set("own", string(b)); return nil })
		return a, player
	}
	for _, from := range []bool{false, true} {
		for _, to := range []bool{false, true} {
			for _, own := range []string{"", "x", "\x00pomelod\x01{}"} {
				a, player := with(from)
				next, there := with(to)
				h := newDataSession(a)
				session(h).Set("own", own)
				if from {
					player.Set(session(h), dataPlayer{Score: 7})
				}
				s, ok := carried(t, a, next, h)
				if !ok || session(s).Get("own") != own {
					t.Errorf("data %v to %v, own bytes %q: %v", from, to, own, ok)
				}
				if to && from != (there.Get(session(s)).Score == 7) {
					t.Errorf("data %v to %v: %+v", from, to, there.Get(session(s)))
				}
			}
		}
	}
	a, _ := with(true)
	h := newDataSession(a)
	session(h).Set("own", "x")
	plain := New()
	NewData[int](plain, "n")
	if _, ok := carried(t, a, plain, h); ok {
		t.Error("own bytes that nobody there can read")
	}
}

// What cannot be read, or written, sends its session away, and no other.
func TestDataMistakes(t *testing.T) {
	panics := func(f func()) (p any) {
		defer func() { p = recover() }()
		f()
		return nil
	}
	a := New()
	NewData[int](a, "n")
	for _, name := range []string{"", "n"} {
		if panics(func() { NewData[string](a, name) }) == nil {
			t.Errorf("%q was registered", name)
		}
	}
	bad := NewData[chan int](a, "bad")
	h := newDataSession(a)
	bad.Set(session(h), make(chan int))
	if _, ok := hosting.Of(a).Pack(h); ok {
		t.Error("a channel was packed")
	}
	long := New()
	text := NewData[string](long, "text")
	h = newDataSession(long)
	text.Set(session(h), strings.Repeat("x", maxCarried))
	if _, ok := hosting.Of(long).Pack(h); ok {
		t.Error("more than may go along was packed")
	}
	next := New()
	NewData[int](next, "text")
	text.Set(session(h), "x")
	if _, ok := carried(t, long, next, h); ok {
		t.Error("a text was read as a number")
	}
	for _, b := range []string{"\x00pomelod\x01", "\x00pomelod\x01{", "\x00pomelod\x01[]", "\x00pomelod\x01{\"data\":{\"text\":{}}}"} {
		if hosting.Of(next).Unpack(newDataSession(next), hosting.Carried{State: []byte(b)}) {
			t.Errorf("%q was taken", b)
		}
	}
}

// Many may change one value at a time.
func TestDataIsSafe(t *testing.T) {
	a := New()
	n := NewData[int](a, "n")
	s := session(newDataSession(a))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				n.Update(s, func(v *int) { *v++ })
				_ = n.Get(s)
			}
		})
	}
	wg.Wait()
	if n.Get(s) != 800 {
		t.Errorf("%d", n.Get(s))
	}
}
