package app_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/app/apptest"
)

// soon waits for what a goroutine does.
func soon[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(30 * time.Second):
		t.Fatal("it has not happened in 30 s")
	}
	return v
}

// set fails the test unless a timer could be set.
func set(t *testing.T) func(*app.Timer, error) *app.Timer {
	return func(timer *app.Timer, err error) *app.Timer {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return timer
	}
}

// Timers of the program fire when their time has come, once or again and again, and not when they were stopped.
func TestTimers(t *testing.T) {
	a := app.New()
	if _, err := a.AfterFunc(0, func(context.Context) {}); !errors.Is(err, app.ErrNotRunning) {
		t.Errorf("before the server: %v", err)
	}
	s := apptest.Start(t, a)
	fired := make(chan string, 100)
	tell := func(what string) func(context.Context) {
		return func(context.Context) { fired <- what }
	}
	if _, err := a.Every(time.Millisecond, tell("never")); !errors.Is(err, app.ErrTimers) {
		t.Errorf("every millisecond: %v", err)
	}
	once := set(t)(a.AfterFunc(1500*time.Millisecond, tell("once")))
	stopped := set(t)(a.AfterFunc(time.Second, tell("stopped")))
	if !stopped.Stop() || stopped.Stop() {
		t.Error("a timer is stopped once")
	}
	s.Advance(time.Second)
	if len(fired) > 0 {
		t.Fatalf("%s fired too soon", <-fired)
	}
	s.Advance(time.Second)
	if got := soon(t, fired); got != "once" || once.Stop() {
		t.Errorf("%s fired, and can be stopped", got)
	}
	again := set(t)(a.Every(time.Second, tell("again")))
	for range 3 {
		s.Advance(time.Second)
		soon(t, fired)
		for app.Busy(again) { // it may not have returned yet, and the next call would be left out
			time.Sleep(time.Millisecond)
		}
	}
	again.Stop()
	s.Advance(5 * time.Second)
	now := make(chan string, 1) // behind all that was due
	set(t)(a.AfterFunc(-time.Hour, func(context.Context) { now <- "now" }))
	s.Advance(time.Second)
	if soon(t, now); len(fired) > 0 {
		t.Errorf("%s fired after it was stopped", <-fired)
	}
}

// The end of the server ends timers, and waits for the functions that run, whose context ends.
func TestTimersEndWithTheServer(t *testing.T) {
	a := app.New()
	begun, ended := make(chan bool), atomic.Bool{}
	a.OnStop(func(context.Context) {
		if !ended.Load() {
			t.Error("OnStop while a timer's function runs")
		}
	})
	t.Run("server", func(t *testing.T) {
		s := apptest.Start(t, a)
		set(t)(a.AfterFunc(time.Second, func(ctx context.Context) {
			close(begun)
			<-ctx.Done()
			ended.Store(true)
		}))
		set(t)(a.AfterFunc(time.Hour, func(context.Context) { t.Error("it fired after the end") }))
		s.Advance(time.Second)
		soon(t, begun)
	})
	if _, err := a.AfterFunc(0, func(context.Context) {}); !errors.Is(err, app.ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
}

// An App whose server has ended may have another one, with timers.
func TestTimersOfTheNextServer(t *testing.T) {
	a := app.New()
	for i := range 2 {
		t.Run(fmt.Sprint("server ", i), func(t *testing.T) {
			s, fired := apptest.Start(t, a), make(chan error, 1)
			set(t)(a.AfterFunc(time.Second, func(ctx context.Context) { fired <- ctx.Err() }))
			s.Advance(time.Second)
			if err := soon(t, fired); err != nil {
				t.Error(err)
			}
		})
	}
}

// There are so many timers and no more, and each that is stopped makes place for one.
func TestTimersAreBounded(t *testing.T) {
	t.Cleanup(app.SetMaxTimers(100))
	a := app.New()
	apptest.Start(t, a)
	nop := func(context.Context) {}
	var last *app.Timer
	for n := 0; ; n++ {
		timer, err := a.AfterFunc(time.Hour, nop)
		if err != nil {
			if !errors.Is(err, app.ErrTimers) || n != 100 {
				t.Errorf("after %d: %v", n, err)
			}
			break
		}
		last = timer
	}
	last.Stop()
	set(t)(a.AfterFunc(time.Hour, nop))
}

// A room's timer is in order with what happens in it, and ends with it.
func TestRoomTimers(t *testing.T) {
	a := app.New()
	s := apptest.Start(t, a)
	room := a.Room("r")
	if _, err := room.Wait(t.Context()).AfterFunc(time.Second, func() {}); !errors.Is(err, app.ErrAbsent) {
		t.Errorf("in a room that is not there: %v", err)
	}
	set(t)(room.AfterFunc(time.Second, func() { t.Error("a timer of a room that was not there") }))
	ann := s.Connect()
	ann.Enter("ann", "r")
	set(t)(room.Wait(t.Context()).AfterFunc(time.Second, func() { _ = room.Push("onTime", nil) }))
	s.Advance(time.Second)
	ann.Wait("onTime", nil)

	set(t)(room.Wait(t.Context()).AfterFunc(time.Minute, func() { t.Error("a timer of a room that has ended") }))
	stopped := set(t)(room.Wait(t.Context()).AfterFunc(time.Second, func() { t.Error("a timer that was stopped") }))
	stopped.Stop()
	s.Advance(time.Second)
	if err := ann.TryEnter("ann", "elsewhere"); err != nil {
		t.Fatal(err)
	}
	if n, err := room.Count(t.Context()); n != 0 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	s.Advance(time.Hour)
	if err := ann.TryEnter("ann", "r"); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := room.Wait(gone).AfterFunc(time.Second, func() { t.Error("nobody waited for it") }); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, app.ErrAbsent) {
		t.Error(err)
	}
}

// What functions on an event loop do to themselves, they do to nobody else: a panic, and the end of their goroutine.
func TestFunctionsEndNoLoop(t *testing.T) {
	a := app.New()
	ends := map[string]func(){
		"panic":  func() { panic("planted") },
		"goexit": runtime.Goexit,
	}
	for name, end := range ends {
		a.HandleInline("a.b."+name, func(*app.Call) (any, error) { end(); return nil, nil })
		a.OnOpen(func(*app.Session) { end() })
		a.OnEnter(func(*app.Session) { end() })
		a.OnRename(func(*app.Session, app.Place) { end() })
		a.OnLeave(func(*app.Session, app.Place, app.Why) { end() })
		a.OnClose(func(*app.Session) { end() })
		a.OnStop(func(context.Context) { end() })
	}
	a.HandleInline("a.b.fine", func(*app.Call) (any, error) { return map[string]int{"n": 1}, nil })
	s := apptest.Start(t, a)
	for i := range 3 {
		c := s.Connect()
		c.Enter(fmt.Sprint("c", i), "r")
		c.Enter(fmt.Sprint("d", i), "r")
		for name := range ends {
			if err := c.Request("a.b."+name, nil, nil); err == nil {
				t.Errorf("%s was answered as if nothing had been", name)
			}
			set(t)(a.Room("r").Wait(t.Context()).AfterFunc(time.Second, ends[name]))
		}
		s.Advance(time.Second)
		var answer struct{ N int }
		if err := c.Request("a.b.fine", nil, &answer); err != nil || answer.N != 1 {
			t.Fatalf("%+v, %v", answer, err)
		}
		c.Close()
	}
}

// What it costs that an inline handler cannot end its loop.
func BenchmarkInline(b *testing.B) {
	a := app.New()
	a.HandleInline("a.b.c", func(*app.Call) (any, error) { return nil, nil })
	run := app.RunInline(a, "a.b.c")
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
}
