package app

import (
	"errors"
	"runtime"
	"sync"
	"testing"
)

// A program's first goroutine may be locked to its thread (an init function that calls runtime.LockOSThread, as graphical programs have). It ends what loops
// have begun, and calls the program's functions of start and stop.
func TestAsidesOfALockedGoroutine(t *testing.T) {
	as := new(asides)
	loop := func(f func() error) (err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			err = as.call(f)
		}()
		<-done
		return err
	}
	if err := loop(func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for name, f := range map[string]func() error{
		"panic":  func() error { panic("as the test wants it") },
		"Goexit": func() error { runtime.Goexit(); return nil },
		"error":  func() error { return errors.New("no") },
	} {
		if err := alone(f); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := alone(func() error { return nil }); err != nil {
		t.Error(err)
	}
	as.keep(false)
	if err := loop(func() error { runtime.Goexit(); return nil }); !errors.Is(err, errEnded) {
		t.Error(err)
	}
}

// However many functions run at a time, few coroutines stay.
func TestFewCoroutinesAreKept(t *testing.T) {
	var as asides
	var running, ended sync.WaitGroup
	going := make(chan bool)
	const many = 5 * maxFree
	running.Add(many)
	for range many {
		ended.Go(func() {
			if err := as.call(func() error { running.Done(); <-going; return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	close(going)
	ended.Wait()
	if n := len(as.free); n == 0 || n > maxFree {
		t.Errorf("%d are kept, at most %d should be", n, maxFree)
	}
	as.keep(false)
}
