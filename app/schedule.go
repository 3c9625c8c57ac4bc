package app

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// schedule are the times of a crontab's line.
type schedule struct {
	fields   [fields]uint64 // a bit for each value
	anyDay   bool           // fieldDay is *
	anyWeek  bool           // fieldWeekday is *
	zone     *time.Location
	allHours bool // what happens in each hour goes by the time that passes, not by what clocks show
}

const (
	fieldMinute = iota
	fieldHour
	fieldDay
	fieldMonth
	fieldWeekday
	fields
)

// fieldKinds are what may stand in the fields.
var fieldKinds = [fields]struct {
	name        string
	least, most int
	names       []string // of the values from least on
}{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of the month", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of the week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// zonePrefix names a time zone in front of a spec.
const zonePrefix = "CRON_TZ="

// ErrSchedule means that a spec of App.Cron is none.
var ErrSchedule = errors.New("no schedule")

// parseSchedule reads a spec of App.Cron.
func parseSchedule(spec string) (*schedule, error) {
	s := &schedule{zone: time.Local}
	list := strings.Fields(spec)
	if len(list) > 0 && strings.HasPrefix(list[0], zonePrefix) {
		zone, err := time.LoadLocation(strings.TrimPrefix(list[0], zonePrefix))
		if err != nil {
			return nil, fmt.Errorf("%q: %w: %w (where a machine has no time zones, import time/tzdata)", spec, ErrSchedule, err)
		}
		s.zone, list = zone, list[1:]
	}
	if len(list) != fields {
		return nil, fmt.Errorf("%q: %w: %d fields; five are needed: minute, hour, day of the month, month, day of the week", spec, ErrSchedule, len(list))
	}
	for i, text := range list {
		for part := range strings.SplitSeq(text, ",") {
			set, err := parsePart(i, part)
			if err != nil {
				return nil, fmt.Errorf("%q: %w: %s %q: %w", spec, ErrSchedule, fieldKinds[i].name, part, err)
			}
			s.fields[i] |= set
		}
	}
	const sunday = 1<<0 | 1<<7
	if s.fields[fieldWeekday]&sunday != 0 {
		s.fields[fieldWeekday] |= sunday
	}
	s.anyDay, s.anyWeek = strings.HasPrefix(list[fieldDay], "*"), strings.HasPrefix(list[fieldWeekday], "*")
	s.allHours = bits.OnesCount64(s.fields[fieldHour]) == 24
	if s.next(wall()).IsZero() {
		return nil, fmt.Errorf("%q: %w: there is no such day", spec, ErrSchedule)
	}
	return s, nil
}

// parsePart reads one of the parts of a field between commas: *, 5, 1-5, and each with a step, */2, 1-5/2.
func parsePart(field int, part string) (set uint64, err error) {
	kind := &fieldKinds[field]
	span, every, stepped := strings.Cut(part, "/")
	from, to := kind.least, kind.most
	first, last, ranged := strings.Cut(span, "-")
	switch {
	case span == "*":
	case ranged:
		if from, err = parseValue(field, first); err == nil {
			to, err = parseValue(field, last)
		}
	default:
		from, err = parseValue(field, first)
		if to = from; stepped {
			err = errors.Join(err, errors.New("a step needs a range, or *"))
		}
	}
	step := 1
	if stepped && err == nil {
		if step, err = strconv.Atoi(every); err != nil || step < 1 {
			err = errors.New("a step is a number above 0")
		}
	}
	if err == nil && from > to {
		err = errors.New("the range ends before it begins")
	}
	if err != nil {
		return 0, err
	}
	for n := from; n <= to; n += step {
		set |= 1 << n
	}
	return set, nil
}

func parseValue(field int, text string) (int, error) {
	kind := &fieldKinds[field]
	for i, name := range kind.names {
		if strings.EqualFold(name, text) {
			return kind.least + i, nil
		}
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || int(n) < kind.least || int(n) > kind.most {
		return 0, fmt.Errorf("it must be from %d to %d", kind.least, kind.most)
	}
	return int(n), nil
}

func (s *schedule) has(field, n int) bool { return s.fields[field]&(1<<n) != 0 }

// onDay tells whether something happens on the day of t. As with any cron, where both days are told, either is enough.
func (s *schedule) onDay(t time.Time) bool {
	day, week := s.has(fieldDay, t.Day()), s.has(fieldWeekday, int(t.Weekday()))
	if !s.anyDay && !s.anyWeek {
		return s.has(fieldMonth, int(t.Month())) && (day || week)
	}
	return s.has(fieldMonth, int(t.Month())) && day && week
}

// at tells whether clocks show one of the times in the minute of t.
func (s *schedule) at(t time.Time) bool {
	return s.has(fieldMinute, t.Minute()) && s.has(fieldHour, t.Hour()) && s.onDay(t)
}

// sought is how far next looks: February 29 may be eight years away.
const sought = 9 * 366 * 24 * time.Hour

// next is the first of the times behind t; zero if there is none.
func (s *schedule) next(t time.Time) time.Time {
	end := t.Add(sought)
	t = t.In(s.zone)
	t = t.Add(time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))
	for step := time.Duration(0); t.Before(end); t = t.Add(step) {
		if s.leaptOver(t) {
			return t
		}
		if step = time.Minute; !s.has(fieldHour, t.Hour()) || !s.onDay(t) {
			step *= time.Duration(60 - t.Minute())
			if _, end := t.ZoneBounds(); !end.IsZero() { // not beyond the moment at which clocks are put on, which may lie within an hour
				step = min(step, (end.Sub(t) + time.Minute - 1).Truncate(time.Minute))
			}
		} else if s.at(t) && !s.again(t) {
			return t
		}
	}
	return time.Time{}
}

// shift is by how much clocks were put on when those of t's offset were put so, and when that was.
func shift(t time.Time) (by time.Duration, at time.Time) {
	at, _ = t.ZoneBounds()
	if at.IsZero() {
		return 0, at
	}
	_, is := t.Zone()
	_, was := at.Add(-1).Zone()
	return time.Duration(is-was) * time.Second, at
}

// leaptOver tells whether clocks are put on in the minute t, and one of the times is among those that they never show.
func (s *schedule) leaptOver(t time.Time) bool {
	by, at := shift(t)
	if s.allHours || by <= 0 || t.Sub(at) >= time.Minute || by > 24*time.Hour {
		return false
	}
	_, offset := t.Zone()
	shown := t.UTC().Add(time.Duration(offset) * time.Second)
	for u := shown.Add(-by); u.Before(shown); u = u.Add(time.Minute) {
		if s.at(u) {
			return true
		}
	}
	return false
}

// again tells whether clocks were put back, and show in the minute t what they have shown already.
func (s *schedule) again(t time.Time) bool {
	by, at := shift(t)
	return !s.allHours && by < 0 && t.Before(at.Add(-by))
}
