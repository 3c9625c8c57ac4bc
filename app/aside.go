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
//
// A coroutine may be used by goroutines alone that are not locked to their thread, as the one was not that has made it; else the runtime ends the process. Loops are not
// locked, and others, of which the first of a program may be, use alone.

// maxFree is how many coroutines are kept: more than loops need.
const maxFree = 64

// asides are coroutines that are not in use. For event loops alone, any of them.
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
	kept := !as.ended && len(as.free) < maxFree
	if kept {
		as.free = append(as.free, c)
	}
	as.mu.Unlock()
	if !kept {
		c.stop()
	}
	return err
}

// alone is call for what does not run on a loop. Safe from any goroutine.
func alone(f func() error) error {
	err := errEnded
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = recovered(f)
	}()
	<-done
	return err
}

// keep says whether coroutines are kept for later. Safe from any goroutine.
func (as *asides) keep(yes bool) {
	as.mu.Lock()
	free := as.free
	if as.ended = !yes; yes {
		free = nil
	} else {
		as.free = nil
	}
	as.mu.Unlock()
	go func() {
		for _, c := range free {
			c.stop()
		}
	}()
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

// protect calls a function of an event on a loop. Whatever becomes of it costs nothing else.
func (a *App) protect(event string, f func()) {
	tellFailed(event, a.asides.call(func() error { f(); return nil }))
}

// protectAlone is protect for what does not run on a loop.
func protectAlone(event string, f func()) {
	tellFailed(event, alone(func() error { f(); return nil }))
}

func tellFailed(event string, err error) {
	if err != nil {
		slog.Error("a function of the program has failed", "event", event, "err", err)
	}
}
