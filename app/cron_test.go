package app_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	_ "time/tzdata" // machines may have no time zones

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/app/apptest"
)

// The times of schedules, with those days on which clocks are put on or back.
func TestSchedules(t *testing.T) {
	for _, tc := range []struct{ spec, after, want string }{
		{"CRON_TZ=UTC 30 4 * * *", "2026-11-29T04:29:59Z", "2026-11-29T04:30:00Z 2026-11-30T04:30:00Z"},
		{"CRON_TZ=UTC 30 4 * * *", "2026-11-29T04:30:00Z", "2026-11-30T04:30:00Z"},
		{"CRON_TZ=UTC */20 9-10 * * *", "2026-11-29T09:30:00Z", "2026-11-29T09:40:00Z 2026-11-29T10:00:00Z 2026-11-29T10:20:00Z 2026-11-29T10:40:00Z 2026-11-30T09:00:00Z"},
		{"CRON_TZ=UTC 0 0 1,15 jan-mar *", "2026-03-01T12:00:00Z", "2026-03-15T00:00:00Z 2027-01-01T00:00:00Z"},
		{"CRON_TZ=UTC 0 12 * * mon-FRI/2", "2026-11-29T00:00:00Z", "2026-11-30T12:00:00Z 2026-12-02T12:00:00Z 2026-12-04T12:00:00Z 2026-12-07T12:00:00Z"},
		{"CRON_TZ=UTC 0 12 * * 7", "2026-11-29T13:00:00Z", "2026-12-06T12:00:00Z"},
		{"CRON_TZ=UTC 0 12 * * sun", "2026-11-29T13:00:00Z", "2026-12-06T12:00:00Z"},
		{"CRON_TZ=UTC 0 12 13 * fri", "2026-11-01T00:00:00Z", "2026-11-06T12:00:00Z 2026-11-13T12:00:00Z 2026-11-20T12:00:00Z 2026-11-27T12:00:00Z 2026-12-04T12:00:00Z 2026-12-11T12:00:00Z 2026-12-13T12:00:00Z"},
		{"CRON_TZ=UTC 0 12 */10 * fri", "2026-11-01T13:00:00Z", "2026-12-11T12:00:00Z"}, // * with a step is *, so both days must be right
		{"CRON_TZ=UTC 0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"},
		{"CRON_TZ=Asia/Kathmandu 0 0 * * *", "2026-11-29T00:00:00Z", "2026-11-29T18:15:00Z"},

		// Berlin: 2:00 to 3:00 is left out on March 29, and shown twice on October 25.
		{"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-03-28T00:00:00Z", "2026-03-28T01:30:00Z 2026-03-29T01:00:00Z 2026-03-30T00:30:00Z"},
		{"CRON_TZ=Europe/Berlin 0,30 2 * * *", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z 2026-03-30T00:00:00Z"},
		{"CRON_TZ=Europe/Berlin 30 3 * * *", "2026-03-29T00:00:00Z", "2026-03-29T01:30:00Z"},
		{"CRON_TZ=Europe/Berlin 30 * * * *", "2026-03-29T00:00:00Z", "2026-03-29T00:30:00Z 2026-03-29T01:30:00Z"},
		{"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z 2026-10-26T01:30:00Z"},
		{"CRON_TZ=Europe/Berlin 30 * * * *", "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z 2026-10-25T01:30:00Z 2026-10-25T02:30:00Z"},
		// Chatham: 2:45 to 3:45 is left out on September 27, and shown twice on April 5.
		{"CRON_TZ=Pacific/Chatham 0 3 * * *", "2026-09-25T15:00:00Z", "2026-09-26T14:00:00Z 2026-09-27T13:15:00Z"},
		{"CRON_TZ=Pacific/Chatham 50 3 * * *", "2026-09-26T00:00:00Z", "2026-09-26T14:05:00Z"},
		{"CRON_TZ=Pacific/Chatham 30 3 * * *", "2026-04-04T00:00:00Z", "2026-04-04T13:45:00Z 2026-04-05T14:45:00Z"},
		// Lord Howe goes half an hour, Beirut at midnight.
		{"CRON_TZ=Australia/Lord_Howe 15 2 * * *", "2026-10-02T20:00:00Z", "2026-10-03T15:30:00Z 2026-10-04T15:15:00Z"},
		{"CRON_TZ=Asia/Beirut 30 0 * * *", "2026-03-27T22:00:00Z", "2026-03-27T22:30:00Z 2026-03-28T22:00:00Z 2026-03-29T21:30:00Z"},
	} {
		at, err := time.Parse(time.RFC3339, tc.after)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for range strings.Fields(tc.want) {
			if at, err = app.NextOf(tc.spec, at); err != nil {
				t.Fatal(err)
			}
			got = append(got, at.UTC().Format(time.RFC3339))
		}
		if fmt.Sprint(got) != "["+tc.want+"]" {
			t.Errorf("%s after %s: %s\nwant %s", tc.spec, tc.after, got, tc.want)
		}
	}
}

// What is no schedule is refused, with the part that is not right.
func TestNoSchedules(t *testing.T) {
	a := app.New()
	apptest.Start(t, a)
	for spec, says := range map[string]string{
		"": "0 fields", "* * * *": "4 fields", "* * * * * *": "6 fields", "60 * * * *": "minute", "* 24 * * *": "hour", "* * 0 * *": "day of the month", "* * * 13 *": "month",
		"* * * * 8": "day of the week", "* * * * sunday": "day of the week", "5-1 * * * *": "ends before", "1/5 * * * *": "step", "*/0 * * * *": "step", "*/x * * * *": "step",
		"1,,2 * * * *": "minute", "-1 * * * *": "minute", "0 0 30 2 *": "no such day", "CRON_TZ=Mars/Olympus * * * * *": "Mars", "+5 * * * *": "minute", "@daily": "1 fields",
	} {
		if _, err := a.Cron(spec, func(context.Context) {}); !errors.Is(err, app.ErrSchedule) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

// A function is called at its times, by the clock: what was slept through is made up for once, what the clock repeats is not repeated, and what comes while the function runs is left out.
func TestCron(t *testing.T) {
	var clock atomic.Int64
	set := func(text string) {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		clock.Store(at.Unix())
	}
	t.Cleanup(app.SetWall(func() time.Time { return time.Unix(clock.Load(), 0) }))
	set("2026-11-29T11:58:30Z")
	a := app.New()
	if _, err := a.Cron("* * * * *", func(context.Context) {}); !errors.Is(err, app.ErrNotRunning) {
		t.Errorf("before the server: %v", err)
	}
	s := apptest.Start(t, a)
	begun, end := make(chan bool, 100), make(chan bool, 100)
	timer, err := a.Cron("CRON_TZ=UTC 0 * * * *", func(context.Context) { begun <- true; <-end })
	if err != nil {
		t.Fatal(err)
	}
	// pass lets so much time pass for timers, and puts the clock on as much.
	pass := func(seconds int) {
		for range seconds {
			clock.Add(1)
			s.Advance(time.Second)
		}
	}
	ran := func(want bool) {
		t.Helper()
		if want {
			soon(t, begun)
			end <- true
			rests(t, timer)
		}
		if len(begun) > 0 {
			t.Fatal("it was called once too often")
		}
	}
	pass(89)
	ran(false)
	pass(1) // 12:00:00
	ran(true)
	pass(600)
	ran(false)
	set("2026-11-29T17:20:00Z") // the machine has slept through five of them
	pass(60)
	ran(true)
	set("2026-11-29T16:59:00Z") // it is put back
	pass(120)
	ran(false)
	set("2026-11-29T17:59:30Z")
	pass(60)
	soon(t, begun) // 18:00; and it goes on beyond the next one
	set("2026-11-29T18:59:30Z")
	pass(90)
	end <- true
	rests(t, timer)
	ran(false)
	set("2026-11-29T19:59:59Z")
	pass(60)
	ran(true)
	if !timer.Stop() {
		t.Error("it had ended")
	}
	set("2026-11-30T19:59:59Z")
	pass(120)
	ran(false)
}

// A clock that was far ahead, and is put right, silences nothing: what it shows then holds. What it has shown within three hours is not repeated.
func TestCronOfAClockThatWasAhead(t *testing.T) {
	for _, tc := range []struct {
		ahead, back time.Duration // it is put ahead, and then back in steps of an hour if back is 0
		calls       int           // in the five hours after that
	}{
		{24 * time.Hour, 24 * time.Hour, 5},
		{10 * 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour, 5},
		{24 * time.Hour, 25 * time.Hour, 5}, // further back than it was
		{3 * time.Hour, 3 * time.Hour, 2},
		{4 * time.Hour, 0, 5},
	} {
		t.Run(tc.ahead.String(), func(t *testing.T) {
			var clock atomic.Int64
			t.Cleanup(app.SetWall(func() time.Time { return time.Unix(clock.Load(), 0) }))
			clock.Store(time.Date(2026, 11, 29, 12, 30, 0, 0, time.UTC).Unix())
			put := func(d time.Duration) { clock.Add(int64(d / time.Second)) }
			a := app.New()
			s := apptest.Start(t, a)
			begun := make(chan bool, 100)
			timer, err := a.Cron("CRON_TZ=UTC 0 * * * *", func(context.Context) { begun <- true })
			if err != nil {
				t.Fatal(err)
			}
			// pass lets so many minutes pass, and tells how often the function was called.
			pass := func(minutes int) (calls int) {
				for range minutes {
					put(time.Minute)
					s.Advance(time.Minute)
					rests(t, timer)
				}
				for calls = len(begun); len(begun) > 0; {
					<-begun
				}
				return calls
			}
			if n := pass(5); n != 0 {
				t.Fatalf("called %d times before its time", n)
			}
			put(tc.ahead)
			if n := pass(2); n != 1 {
				t.Errorf("called %d times for what was left out, want 1", n)
			}
			if put(-tc.back); tc.back == 0 {
				for range int(tc.ahead.Hours()) {
					put(-time.Hour)
					pass(1)
				}
			}
			if n := pass(5 * 60); n != tc.calls {
				t.Errorf("called %d times in the five hours since it is right, want %d", n, tc.calls)
			}
		})
	}
}

// rests waits until the function that a timer has called has ended.
func rests(t *testing.T, timer *app.Timer) {
	t.Helper()
	for late := time.Now().Add(30 * time.Second); app.Busy(timer); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("its function does not end")
		}
	}
}

// A schedule whose next time is farther away than anybody looks ends, and is not called all the time.
func TestCronEnds(t *testing.T) {
	var clock atomic.Int64
	t.Cleanup(app.SetWall(func() time.Time { return time.Unix(clock.Load(), 0) }))
	clock.Store(time.Date(2032, 2, 28, 23, 59, 30, 0, time.UTC).Unix())
	a := app.New()
	s := apptest.Start(t, a)
	begun := make(chan bool, 100)
	timer, err := a.Cron("CRON_TZ=UTC 0 0 29 2 */7", func(context.Context) { begun <- true })
	if err != nil {
		t.Fatal(err)
	}
	for range 120 {
		clock.Add(1)
		s.Advance(time.Second)
	}
	soon(t, begun)
	rests(t, timer)
	if timer.Stop() || len(begun) > 0 {
		t.Errorf("it goes on; called %d times more", len(begun))
	}
}

// A process alone leads.
func TestLeadsAlone(t *testing.T) {
	a := app.New()
	if _, err := a.Leads(t.Context(), "prizes"); !errors.Is(err, app.ErrNotRunning) {
		t.Errorf("before the server: %v", err)
	}
	apptest.Start(t, a)
	if leads, err := a.Leads(t.Context(), "prizes"); !leads || err != nil {
		t.Errorf("%v, %v", leads, err)
	}
}
