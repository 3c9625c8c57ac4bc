//go:build linux

package server

import (
	"fmt"
	"sync"
	"time"

	"github.com/pomelod/pomelod/netpoll"
)

// pause lets all event loops rest for a while, each between two events. Safe from any goroutine.
type pause struct {
	mu      sync.Mutex
	changed *sync.Cond
	wanted  bool // guarded by mu; the loops shall rest
	over    bool // guarded by mu; they shall end
	resting int  // guarded by mu
}

func newPause() *pause {
	p := new(pause)
	p.changed = sync.NewCond(&p.mu)
	return p
}

// turn runs an event loop until the end, or until it fails.
func (s *server) turn(i int, l *netpoll.Loop) error {
	for {
		if err := s.drivers[i].Run(l); err != nil {
			return fmt.Errorf("event loop %d: %w", i, err)
		}
		if !s.pause.rest() {
			return nil
		}
	}
}

// rest waits as long as the loops shall rest, and tells whether the one that calls shall go on.
func (p *pause) rest() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resting++
	p.changed.Broadcast()
	for p.wanted && !p.over {
		p.changed.Wait()
	}
	p.resting--
	return !p.over
}

// begin stops all of drivers, and returns when their loops rest: they are the caller's until end. On an error, because one does not come to rest in
// time, all go on.
func (p *pause) begin(drivers []*netpoll.Epoll, within time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = true
	for _, d := range drivers {
		d.Stop()
	}
	late := false
	timer := time.AfterFunc(within, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		late = true
		p.changed.Broadcast()
	})
	defer timer.Stop()
	for p.resting < len(drivers) && !late {
		p.changed.Wait()
	}
	if p.resting < len(drivers) {
		p.goOn()
		return fmt.Errorf("%d of %d event loops do not come to rest", len(drivers)-p.resting, len(drivers))
	}
	return nil
}

// end has the loops turn again.
func (p *pause) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.goOn()
}

func (p *pause) goOn() {
	p.wanted = false
	p.changed.Broadcast()
}

// finish has every loop end that has been stopped, or is from now on.
func (p *pause) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.changed.Broadcast()
}
