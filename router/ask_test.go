package router

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
)

// asked runs f on a goroutine while the loops turn.
func (r *rig) asked(f func() error) error {
	r.t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	var err error
	r.until(func() bool {
		select {
		case err = <-done:
			return true
		default:
			return false
		}
	})
	return err
}

// Who asks hears whether somebody was there.
func TestAsk(t *testing.T) {
	for _, sh := range shapes {
		a := app.New()
		r := appRig(t, sh, a)
		ctx := t.Context()
		alice, b := r.login(atConnector, true), r.login(atConnector, false)
		alice.enter("a", "r")
		b.enter("b", "r")
		alice.take()
		members := func(room string) (names []app.Member) {
			t.Helper()
			if err := r.asked(func() (err error) { names, err = a.Room(room).Members(ctx); return }); err != nil {
				t.Fatal(err)
			}
			return names
		}
		if got := fmt.Sprint(members("r"), members("empty")); got != "[a b] []" {
			t.Errorf("members %s", got)
		}
		for _, tc := range []struct {
			name string
			f    func() error
			want error
		}{
			{"push to a", func() error { return a.Room("r").Wait(ctx).PushUser("a", "n", nil) }, nil},
			{"push to nobody", func() error { return a.Room("r").Wait(ctx).PushUser("c", "n", nil) }, app.ErrAbsent},
			{"push to a room", func() error { return a.Room("r").Wait(ctx).Push("n", nil) }, nil},
			{"push to an empty room", func() error { return a.Room("empty").Wait(ctx).Push("n", nil) }, app.ErrAbsent},
			{"push without a route", func() error { return a.Room("r").Wait(ctx).Push("", nil) }, app.ErrRoute},
			{"kick nobody", func() error { return a.Room("r").Wait(ctx).Kick("c", "go") }, app.ErrAbsent},
			{"kick b", func() error { return a.Room("r").Wait(ctx).Kick("b", "go") }, nil},
		} {
			if err := r.asked(tc.f); !errors.Is(err, tc.want) || err != nil && tc.want == nil {
				t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
			}
		}
		r.net.Settle()
		alice.want("push 0 n {}", "push 0 n {}", `push 0 onLeave {"route":"onLeave","user":"b"}`)
		if got := members("r"); fmt.Sprint(got) != "[a]" {
			t.Errorf("members %v", got)
		}
	}
}

// A question ends with its deadline, and a late answer finds nobody.
func TestAskEndsInTime(t *testing.T) {
	a := app.New()
	r := appRig(t, shape{loops: 2}, a)
	if _, err := app.New().Room("r").Members(t.Context()); !errors.Is(err, app.ErrNotRunning) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if _, err := a.Room("r").Members(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	r.net.Settle()
	if n := len(r.node.asks.waiting); n != 0 {
		t.Errorf("%d questions are left", n)
	}
}

// Time passes for rooms whether or not anything happens: who has spoken in a slow room is forgotten.
func TestTicksReachRooms(t *testing.T) {
	r := newRig(t, shape{loops: 2}, func(c *Config) { c.Limits.Rooms.Slow = 2 * time.Second })
	r.login(atConnector, true).enter("a", "r")
	l := r.home("r")
	if l.worker.Due() == 0 {
		t.Fatal("no tick is wanted")
	}
	r.net.Seconds(1)
	if l.worker.Due() == 0 {
		t.Error("forgotten too early")
	}
	r.net.Seconds(2)
	if l.worker.Due() != 0 {
		t.Error("a tick is still wanted")
	}
}
