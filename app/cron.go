package app

import (
	"context"
	"fmt"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/internal/hosting"
)

// wall is what the machine's clock shows, and not how much time has passed; tests have another.
var wall = func() time.Time { return time.Now().Round(0) }

// looks is how long a timer of Cron waits at the most before it looks at the clock again: it may have been set, or the machine may have slept.
const looks = time.Minute

// putRight is by how much a clock is put back that was wrong before. One that is put back by less shows again what it has shown, as one that runs fast and is corrected.
const putRight = 3 * time.Hour

// Cron has fn called at the times of a schedule, as a line of a crontab has them: minute, hour, day of the month, month, day of the week. "30 4 * * *" is every day at half
// past four, "*/15 9-17 * * mon-fri" each quarter of an hour on weekdays, "0 0 1,15 * *" the first and the fifteenth. Months and days of the week have numbers or
// English names of three letters, Sunday is 0 and 7; where both days are told either is enough. The clock is that of the machine's time zone, or of the one that is named in front:
// "CRON_TZ=Europe/Berlin 30 4 * * *". It fails with ErrSchedule if spec is none, else as AfterFunc does.
//
// fn runs as those of Every do, on a goroutine of its own, one at a time: if it takes longer than until the next time, that is left out. What was missed because the machine slept, or its
// clock was put on, is made up for by one call within a minute; what was missed while no server ran is not. When the clock is put back by three hours at most, nothing is called twice; by more it was wrong before, and
// what it shows now holds, as if fn had not been called yet. When clocks go over to summer time, a time that they never show is the moment at which they are put on; when they go back, a time that they show twice is the first
// one. But a schedule of all hours goes by the time that passes: "*/15 * * * *" is each quarter of an hour, whatever clocks show.
//
// In a fleet each process has its own; Leads has one of them do it.
func (a *App) Cron(spec string, fn func(ctx context.Context)) (*Timer, error) {
	s, err := parseSchedule(spec)
	if err != nil {
		return nil, err
	}
	latest := wall() // that the clock has shown since it was put right
	due := s.next(latest)
	return a.begin(waits(due, latest), func() (fires bool, again time.Duration) {
		now := wall()
		switch {
		case now.After(latest):
			latest = now
		case latest.Sub(now) > putRight:
			latest, due = now, s.next(now) // else fn would not be called until the clock is there again
		}
		if fires = !now.Before(due); fires {
			if due = s.next(now); due.IsZero() { // a February 29 that is a Sunday comes once in 28 years
				return fires, 0
			}
		}
		return fires, waits(due, now)
	}, fn)
}

// waits is for how long a timer of Cron waits now for what is due.
func waits(due, now time.Time) time.Duration { return min(max(due.Sub(now), time.Millisecond), looks) }

// Leads tells whether this process is the one of its fleet that does what name stands for: the first one that asks is, and stays it until it ends; then it is the next one that asks. So
// what all processes have in the same way, one does:
//
//	a.Cron("0 4 * * *", func(ctx context.Context) {
//		if leads, err := a.Leads(ctx, "prizes"); leads && err == nil {
//			…
//		}
//	})
//
// A process that has died leads for some seconds yet. One that is cut off from its fleet has an error, not a yes; one that asked and then stood still for seconds may yet be told, once, that it leads, although another does since: give ctx a
// deadline, and what must not be done twice an id. If the owner of the name's partition and its follower are lost at once, the next one
// that asks leads. A process alone always leads. It waits as methods of Room.Wait do, so it must not be called on an event loop.
func (a *App) Leads(ctx context.Context, name string) (bool, error) {
	node, err := a.running()
	if err != nil {
		return false, err
	}
	if !node.InFleet() {
		return true, nil
	}
	b, err := node.Ask(ctx, channel.Request{Op: channel.OpBind, User: hosting.LeaderUser(name), Content: []byte("1")})
	switch {
	case err != nil:
		return false, fmt.Errorf("who leads in %s: %w", name, err)
	case string(b) == string(channel.Refused):
		return false, ErrBusy
	}
	return string(b) == string(channel.Done), nil
}
