//go:build linux

package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/router"
)

// roomRules say what holds in which rooms: what the file of -rooms-file says, else the flags. Safe from any goroutine.
type roomRules struct {
	path  string // empty: there is no file
	now   atomic.Pointer[[]roomRule]
	flags atomic.Pointer[roomFlags]
	told  func() // tells the node that the rules have changed
}

// roomFlags are what flags say of rooms. Immutable.
type roomFlags struct {
	router.Policy          // who may read depends on open
	open          []string // -history-open
}

// roomRule is one entry of the file. What it does not say is as the flags have it.
type roomRule struct {
	Match   string      `json:"match"` // a room's name, or the beginning of names and a *
	Hold    *fileTime   `json:"hold"`
	Slow    *fileTime   `json:"slow"`
	Members *int        `json:"members"`
	List    *int        `json:"list"`
	Grace   *fileTime   `json:"grace"`
	Enter   fileEnter   `json:"enter"`
	History *fileReader `json:"history"`
	Locked  bool        `json:"locked"`
}

// Bounds of the file.
const (
	maxRoomRules = 1000
	maxRoomsFile = 1 << 20
	maxHold      = time.Second
)

// read reads the file again. Nothing changes before use is called.
func (r *roomRules) read() (use func(), err error) {
	file, err := os.Open(r.path)
	if err != nil {
		return nil, fmt.Errorf("the rooms of -rooms-file: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxRoomsFile+1))
	if err != nil {
		return nil, fmt.Errorf("the rooms of -rooms-file: %w", err)
	}
	rules, err := parseRooms(b)
	if err != nil {
		return nil, fmt.Errorf("the rooms in %s: %w", r.path, err)
	}
	return func() {
		r.now.Store(&rules)
		if r.told != nil {
			r.told()
		}
	}, nil
}

func parseRooms(b []byte) ([]roomRule, error) {
	if len(b) > maxRoomsFile {
		return nil, fmt.Errorf("more than %d bytes", maxRoomsFile)
	}
	var file struct {
		Rooms []roomRule `json:"rooms"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf(`%w; it is {"rooms":[{"match":"world*","hold":"20ms"}]} with match, hold, slow, members, list, grace, history, enter and locked`, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something stands behind the object")
	}
	if len(file.Rooms) > maxRoomRules {
		return nil, fmt.Errorf("%d entries; at most %d are read", len(file.Rooms), maxRoomRules)
	}
	for i := range file.Rooms {
		if err := file.Rooms[i].check(file.Rooms[:i]); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	return file.Rooms, nil
}

// check refuses what can hold in no room. before are the entries that come first.
func (r *roomRule) check(before []roomRule) error {
	switch {
	case r.Match == "":
		return errors.New(`match is missing: give a room's name, or the beginning of names and a *; "*" is every room`)
	case strings.Contains(strings.TrimSuffix(r.Match, "*"), "*"):
		return fmt.Errorf("match %q: a * may stand at the end only", r.Match)
	case r.Hold != nil && (time.Duration(*r.Hold) < 0 || time.Duration(*r.Hold) > maxHold || time.Duration(*r.Hold)%time.Millisecond != 0):
		return fmt.Errorf("hold %v: must be whole milliseconds, at most %v, or 0 for none", time.Duration(*r.Hold), maxHold)
	case r.Slow != nil && (time.Duration(*r.Slow) < 0 || time.Duration(*r.Slow) > channel.MaxSlow || time.Duration(*r.Slow)%time.Millisecond != 0):
		return fmt.Errorf("slow %v: must be whole milliseconds, at most %v, or 0 for none", time.Duration(*r.Slow), channel.MaxSlow)
	case r.Members != nil && *r.Members < 0:
		return fmt.Errorf("members %d: must not be negative; 0 is no limit", *r.Members)
	case r.List != nil && *r.List < 0:
		return fmt.Errorf("list %d: must not be negative; 0 tells everybody who comes and goes, whatever the room's size", *r.List)
	case r.Grace != nil && *r.Grace != 0:
		return fmt.Errorf("grace %v: must be 0, or left out: who is cut off leaves such a room at once, or keeps its place for -grace", time.Duration(*r.Grace))
	}
	for i := range before {
		if covers(before[i].Match, r.Match) {
			return fmt.Errorf("match %q can never hold: entry %d, %q, comes first; put the narrower one before it", r.Match, i+1, before[i].Match)
		}
	}
	return nil
}

// matches tells whether a room's name is one that match means.
func matches(match, room string) bool {
	prefix, open := strings.CutSuffix(match, "*")
	return match == room || open && strings.HasPrefix(room, prefix)
}

// covers tells whether every room of match b is one of match a.
func covers(a, b string) bool {
	prefix, open := strings.CutSuffix(a, "*")
	return a == b || open && strings.HasPrefix(strings.TrimSuffix(b, "*"), prefix)
}

// policy is what holds in a room.
func (r *roomRules) policy(room string) router.Policy {
	flags := r.flags.Load()
	p := flags.Policy
	for _, name := range flags.open {
		if matches(name, room) {
			p.Readers = channel.ReadersEveryone
		}
	}
	rules := r.now.Load()
	if rules == nil {
		return p
	}
	for i := range *rules {
		rule := &(*rules)[i]
		if !matches(rule.Match, room) {
			continue
		}
		p.Locked, p.Program, p.NoGrace = rule.Locked, bool(rule.Enter), rule.Grace != nil
		if rule.Hold != nil {
			p.Hold = time.Duration(*rule.Hold)
		}
		if rule.Slow != nil {
			p.Slow = time.Duration(*rule.Slow)
		}
		if rule.Members != nil {
			p.Members = *rule.Members
		}
		if rule.List != nil {
			p.List = *rule.List
		}
		if rule.History != nil {
			p.Readers = channel.Readers(*rule.History)
		}
		break
	}
	return p
}

// settle takes the flags as they are, and reads the file for the first time.
func (c *settings) settleRooms() error {
	c.rooms.flags.Store(&roomFlags{
		Policy: router.Policy{Members: c.limits.Rooms.Members, List: c.limits.Rooms.List, Slow: c.limits.Rooms.Slow, Readers: channel.ReadersPresent},
		open:   c.historyOpen,
	})
	if c.rooms.path == "" {
		return nil
	}
	use, err := c.rooms.read()
	if err == nil {
		use()
	}
	return err
}

// fileTime is a time in a file, like "20ms".
type fileTime time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *fileTime) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf(`%q is no time; write it like "20ms" or "3s"`, text)
	}
	*t = fileTime(d)
	return nil
}

// fileEnter says in a file who may enter: whoever asks, or, if it is true, whom the program has in.
type fileEnter bool

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *fileEnter) UnmarshalText(text []byte) error {
	switch string(text) {
	case "anyone":
		*e = false
	case "program":
		*e = true
	default:
		return fmt.Errorf("enter %q: must be anyone, or program (whom a program of yours has in)", text)
	}
	return nil
}

// fileReader says in a file who may read what a room keeps.
type fileReader channel.Readers

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *fileReader) UnmarshalText(text []byte) error {
	switch string(text) {
	case "everyone":
		*r = fileReader(channel.ReadersEveryone)
	case "present":
		*r = fileReader(channel.ReadersPresent)
	case "none":
		*r = fileReader(channel.ReadersNobody)
	default:
		return fmt.Errorf("history %q: must be everyone, present (who was there) or none", text)
	}
	return nil
}
