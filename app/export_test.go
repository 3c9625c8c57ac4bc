package app

import (
	"context"
	"net/netip"
	"time"

	"github.com/pomelod/pomelod/internal/hosting"
)

// SetRoomsPage has Rooms ask for so many at a time, until undo is called.
func SetRoomsPage(n int) (undo func()) {
	was := roomsPage
	roomsPage = n
	return func() { roomsPage = was }
}

// SetMaxTimers has an App have so many timers, until undo is called.
func SetMaxTimers(n int) (undo func()) {
	was := maxTimers
	maxTimers = n
	return func() { maxTimers = was }
}

// Busy tells whether a timer's function runs.
func Busy(t *Timer) bool {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	return t.busy
}

// RunInline is a call of an inline handler as a loop makes it.
func RunInline(a *App, route string) func() {
	h := hosting.Of(a)
	c := &hosting.Call{Context: context.Background(), Session: h.NewSession(nil, netip.AddrPort{}, hosting.Where{}), Body: []byte("{}")}
	for _, r := range h.Routes() {
		if r.Name == route {
			return func() { r.Run(c) }
		}
	}
	return nil
}

// NextOf is the first time of a schedule behind t.
func NextOf(spec string, t time.Time) (time.Time, error) {
	s, err := parseSchedule(spec)
	if err != nil {
		return time.Time{}, err
	}
	return s.next(t), nil
}

// SetWall has Cron go by another clock, until undo is called.
func SetWall(now func() time.Time) (undo func()) {
	was := wall
	wall = now
	return func() { wall = was }
}
