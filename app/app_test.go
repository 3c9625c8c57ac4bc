package app

import (
	"net/netip"
	"testing"

	"github.com/pomelod/pomelod/internal/hosting"
)

// What is registered wrongly is told when it is, or before the server runs.
func TestRegistrationMistakes(t *testing.T) {
	nop := func(*Call) (any, error) { return nil, nil }
	for _, routes := range [][]string{{"two.parts"}, {"a..b"}, {"a.b.c.d"}, {"a.b.c", "a.b.c"}, {hosting.RouteSend}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was registered", routes)
				}
			}()
			a := New()
			for _, route := range routes {
				a.Handle(route, nop)
			}
		}()
	}
	a := New()
	a.Before("a.b.c", func(*Call) error { return nil })
	if err := hosting.Of(a).Check(); err == nil {
		t.Error("a filter for a route that nobody handles")
	}
}

// A panic of a handler counts as an error, for After functions too.
func TestAfterSeesAPanic(t *testing.T) {
	a := New()
	a.Handle("a.b.c", func(*Call) (any, error) { panic("planted") })
	var seen []error
	a.After(func(_ *Call, result any, err error) { seen = append(seen, err) })
	h := hosting.Of(a)
	s := h.NewSession(nil, netip.AddrPort{}, hosting.Where{})
	answer, _ := h.Routes()[0].Run(&hosting.Call{Context: t.Context(), Session: s, Body: []byte("{}")})
	if string(answer) != string(hosting.Refusal("a.b.c")) || len(seen) != 1 || seen[0] == nil || h.Panics() != 1 {
		t.Errorf("answer %s, After saw %v, %d panics", answer, seen, h.Panics())
	}
}
