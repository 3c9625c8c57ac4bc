//go:build linux

package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"sync/atomic"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/router"
)

// roomRules say what holds in which rooms: what operators have said of one, else what the file of -rooms-file says, else the flags. Safe from any goroutine.
type roomRules struct {
	path  string // empty: there is no file
	now   atomic.Pointer[[]roomRule]
	given atomic.Pointer[map[string]*admin.Policy] // by operators, for rooms of these names (moderation)
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
	Match string `json:"match"` // a room's name, or the beginning of names and a *
	admin.Policy
}

// Bounds of the file.
const (
	maxRoomRules = 1000
	maxRoomsFile = 1 << 20
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
	}
	if err := r.Policy.Check(); err != nil {
		return err
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

// policy is what holds in a room: what an operator says, else the file, else the flags.
func (r *roomRules) policy(room string) router.Policy {
	flags := r.flags.Load()
	p := flags.Policy
	for _, name := range flags.open {
		if matches(name, room) {
			p.Readers = channel.ReadersEveryone
		}
	}
	if rules := r.now.Load(); rules != nil {
		for i := range *rules {
			if rule := &(*rules)[i]; matches(rule.Match, room) {
				p = rule.Over(p)
				break
			}
		}
	}
	if given := r.given.Load(); given != nil {
		if own := (*given)[room]; own != nil {
			p = own.Over(p)
			p.Ruled = own.Slow != nil
		}
	}
	return p
}

// give has the policies of operators hold, by room.
func (r *roomRules) give(policies map[string]*admin.Policy) {
	if old := r.given.Load(); old != nil && maps.Equal(*old, policies) || old == nil && len(policies) == 0 {
		return
	}
	r.given.Store(&policies)
	if r.told != nil {
		r.told()
	}
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
