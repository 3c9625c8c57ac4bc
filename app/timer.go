package app

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// maxTimers is how many an App may have that have not fired; one takes some 300 bytes. Tests have less.
var maxTimers = 100_000

// leastEvery keeps a timer from taking a processor for itself.
const leastEvery = 10 * time.Millisecond

// ErrTimers means that an App has 100,000 timers that wait, or that Every was given less than 10 ms.
var ErrTimers = errors.New("no more timers can be had")

// Timer calls a function later (App.AfterFunc, App.Every, App.Cron, Room.AfterFunc). Safe from any goroutine.
type Timer struct {
	of *timers

	// Guarded by of.mu.
	unset func() bool // has the node forget it; nil while it is being set
	over  bool        // it has fired, or was stopped, or the server has ended
	busy  bool        // fn runs
}

// timers are those of an App that have not fired. They end with its server.
type timers struct {
	mu      sync.Mutex
	set     map[*Timer]struct{} // guarded by mu, as the rest
	ended   bool
	running sync.WaitGroup     // functions of App.AfterFunc and App.Every
	ctx     context.Context    // theirs; nil: none was needed yet
	cancel  context.CancelFunc // ends it
}

// Stop ends the timer. It reports false if that has ended before: it has fired, was stopped, or its server has ended. The function may still be running then.
func (t *Timer) Stop() bool {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	if t.over {
		return false
	}
	t.of.drop(t)
	return true
}

// drop ends a timer. Guarded by mu.
func (ts *timers) drop(t *Timer) {
	t.over = true
	delete(ts.set, t)
	if t.unset != nil {
		t.unset()
	}
}

// AfterFunc has fn called once, in d, unless the timer is stopped or the server ends before. It is called on a goroutine of its own, and may block; ctx ends when the
// server does, which waits for fn as for OnStop functions. For a time within a room see Room.AfterFunc. It fails with ErrNotRunning before the server
// begins (in OnStart it may be called), and with ErrTimers where 100,000 wait already. Nobody else knows of a timer, so none goes along in an upgrade.
func (a *App) AfterFunc(d time.Duration, fn func(ctx context.Context)) (*Timer, error) {
	return a.begin(d, once, fn)
}

// Every is AfterFunc again and again: d after it is called, and then every d. If fn takes longer than d, the calls that it misses are left out, so it runs once at
// a time. d is at least 10 ms.
func (a *App) Every(d time.Duration, fn func(ctx context.Context)) (*Timer, error) {
	if d < leastEvery {
		return nil, fmt.Errorf("every %v: %w: the least is %v", d, ErrTimers, leastEvery)
	}
	return a.begin(d, func() (bool, time.Duration) { return true, d }, fn)
}

// pace says, when the time of a timer has come, whether it fires, and in how long its time comes again; 0: not again. Guarded by timers.mu.
type pace func() (fires bool, again time.Duration)

// once is the pace of a timer that fires and ends.
func once() (fires bool, again time.Duration) { return true, 0 }

// begin sets a timer whose function runs on a goroutine of its own.
func (a *App) begin(d time.Duration, of pace, fn func(context.Context)) (*Timer, error) {
	return a.timer(d, of, func(t *Timer) {
		ctx, ok := a.timers.start(t)
		if !ok {
			return
		}
		go func() {
			defer a.timers.done(t)
			tellFailed("timer", recovered(func() error { fn(ctx); return nil }))
		}()
	})
}

// timer sets a timer that calls fire, on any goroutine. fire must not block.
func (a *App) timer(d time.Duration, of pace, fire func(*Timer)) (*Timer, error) {
	node, err := a.running()
	if err != nil {
		return nil, err
	}
	ts, t := &a.timers, &Timer{of: &a.timers}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	switch {
	case ts.ended:
		return nil, ErrNotRunning
	case len(ts.set) >= maxTimers:
		return nil, fmt.Errorf("%w: %d wait already", ErrTimers, maxTimers)
	case ts.set == nil:
		ts.set = make(map[*Timer]struct{})
	}
	ts.set[t] = struct{}{}
	var due func()
	due = func() {
		ts.mu.Lock()
		fires, again := false, time.Duration(0)
		if !t.over {
			if fires, again = of(); again > 0 {
				t.unset = node.After(again, due)
			} else {
				t.unset = nil
				ts.drop(t)
			}
		}
		ts.mu.Unlock()
		if fires {
			fire(t)
		}
	}
	t.unset = node.After(d, due)
	return t, nil
}

// start notes that the function of a timer runs, and gives it its context. It tells false if it is running yet, or the server has ended.
func (ts *timers) start(t *Timer) (context.Context, bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.ended || t.busy {
		return nil, false
	}
	if ts.ctx == nil {
		ts.ctx, ts.cancel = context.WithCancel(context.Background())
	}
	t.busy = true
	ts.running.Add(1)
	return ts.ctx, true
}

func (ts *timers) done(t *Timer) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t.busy = false
	ts.running.Done()
}

// begin lets timers be set, as the App has a server. It may have had one before, whose timers have ended.
func (ts *timers) begin() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.ended, ts.ctx, ts.cancel = false, nil, nil
}

// end ends all timers, and waits for the functions that run until ctx ends.
func (ts *timers) end(ctx context.Context) {
	ts.mu.Lock()
	ts.ended = true
	for t := range ts.set {
		ts.drop(t)
	}
	if ts.cancel != nil {
		ts.cancel()
	}
	ts.mu.Unlock()
	done := make(chan struct{})
	go func() { ts.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// unknownLife is no room's.
const unknownLife = math.MaxUint64

// AfterFunc has fn called once, in d, in order with what happens in the room, unless the timer is stopped or the room ends before. A room ends when the last
// member has left it; one that keeps messages (-history) only if nobody is there when the time comes. A room of the same name that comes to be later is
// another one. fn runs on an event loop, so it must not block, and may push to the room and set another timer. What it asks of the room comes behind all that was said
// before. In a fleet, too, it runs in this process, and ends with it, wherever the room's owner is: that is asked whether the room is still the same. While the owner does not answer fn waits,
// and after some seconds it is not called any more, which the log says; AfterFunc of Room.Wait fails with the owner's error.
//
// A room with nobody in it has no timers: then fn is not called, and AfterFunc of Room.Wait fails with ErrAbsent. For a time until somebody comes there is App.AfterFunc.
// It fails with ErrNotRunning and ErrTimers as that does.
func (r Room) AfterFunc(d time.Duration, fn func()) (*Timer, error) {
	node, err := r.app.running()
	if err != nil {
		return nil, err
	}
	var life atomic.Uint64 // of the room that the timer is in; 0: nobody was there
	life.Store(unknownLife)
	t, err := r.app.timer(d, once, func(*Timer) {
		node.OnRoom(r.name, func(now uint64, err error) {
			if err != nil {
				tellFailed("timer of a room, whose owner does not answer", err)
				return
			}
			life.CompareAndSwap(unknownLife, now) // the time has come before the room was found
			if now != 0 && now == life.Load() {
				r.app.protect("timer of a room", fn)
			}
		})
	})
	if err != nil {
		return nil, err
	}
	found := make(chan error, 1)
	node.OnRoom(r.name, func(now uint64, err error) {
		if err == nil {
			life.CompareAndSwap(unknownLife, now)
			if life.Load() == 0 {
				err = ErrAbsent
			}
		}
		if err != nil {
			t.Stop()
		}
		found <- err
	})
	if r.ctx == nil {
		return t, nil
	}
	select {
	case err := <-found:
		if err != nil {
			return nil, fmt.Errorf("timer in room %s: %w", r.name, err)
		}
		return t, nil
	case <-r.ctx.Done():
		t.Stop()
		return nil, fmt.Errorf("timer in room %s: %w", r.name, r.ctx.Err())
	}
}
