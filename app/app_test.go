package app

import (
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
