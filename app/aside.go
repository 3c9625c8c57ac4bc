package app

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"runtime/debug"
	"sync"
)

// A function of the program's that runs on an event loop may panic, or end its goroutine (runtime.Goexit; t.FailNow of package testing does). A panic can be
// recovered, the end of a goroutine cannot, and here it would be that of the loop. So such a function runs on a coroutine, to which the loop
// switches and back, some 100 ns; one that ends is left to itself.

// asides are coroutines that are not in use: as many as functions have run at a time. Safe from any goroutine.
type asides struct {
	mu    sync.Mutex
	free  []*aside // guarded by mu
	ended bool     // guarded by mu: none is kept any more
}

// aside is a coroutine.
type aside struct {
	run  func() // what it runs next; panics are caught in it
	next func() (finished, more bool)
	stop func()
}

func newAside() *aside {
	c := new(aside)
	c.next, c.stop = iter.Pull(func(yield func(bool) bool) {
		ended := true
		defer func() {
			if ended {
				yield(false) // the goroutine ends, and who waits for it does not
			}
		}()
		for more := true; more; more = yield(true) {
			c.run()
		}
		ended = false
	})
	return c
}

// errEnded means that a function of the program has ended its goroutine.
var errEnded = errors.New("it has ended its goroutine by runtime.Goexit")

// call calls f, whose panic, or end of its goroutine, is an error.
func (as *asides) call(f func() error) (err error) {
	as.mu.Lock()
	var c *aside
	if n := len(as.free); n > 0 {
		c = as.free[n-1]
		as.free = as.free[:n-1]
	}
	as.mu.Unlock()
	if c == nil {
		c = newAside()
	}
	c.run = func() { err = recovered(f) }
	finished, _ := c.next()
	c.run = nil
	if !finished {
		go c.stop() // that ends it, and the goroutine that calls it
		return errEnded
	}
	as.mu.Lock()
	ended := as.ended
	if !ended {
		as.free = append(as.free, c)
	}
	as.mu.Unlock()
	if ended {
		c.stop()
	}
	return err
}

// alone is call for what is called seldom: no coroutine is kept for it.
func alone(f func() error) error { return (&asides{ended: true}).call(f) }

// keep says whether coroutines are kept for later.
func (as *asides) keep(yes bool) {
	as.mu.Lock()
	free := as.free
	if as.ended = !yes; yes {
		free = nil
	} else {
		as.free = nil
	}
	as.mu.Unlock()
	for _, c := range free {
		c.stop()
	}
}

// recovered is f, whose panic is an error.
func recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// protect calls a function of an event. Whatever becomes of it costs nothing else.
func (a *App) protect(event string, f func()) {
	if err := a.asides.call(func() error { f(); return nil }); err != nil {
		slog.Error("a function of the program has failed", "event", event, "err", err)
	}
}
