package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/router"
)

// What holds in a room: what -rooms-file says of many, and an operator of one. An operator's policy is a rule (RulePolicy), and is kept and spread as rules are.

// Policy says what holds in a room. What is nil it does not say.
type Policy struct {
	Hold    *Period  `json:"hold,omitempty"` // least time between two writes of what all members are told
	Slow    *Period  `json:"slow,omitempty"` // least time between two messages of one member
	Members *int     `json:"members,omitempty"`
	List    *int     `json:"list,omitempty"`  // of more members nobody is told who comes and goes
	Grace   *Period  `json:"grace,omitempty"` // 0: who is cut off leaves at once
	Enter   *Entry   `json:"enter,omitempty"`
	History *Reading `json:"history,omitempty"` // who may read what the room keeps
	Locked  *bool    `json:"locked,omitempty"`  // it takes in nobody new
}

// maxHold is the longest Hold.
const maxHold = time.Second

// Over is a policy with what p says in place of what it has.
func (p *Policy) Over(of router.Policy) router.Policy {
	if p.Hold != nil {
		of.Hold = time.Duration(*p.Hold)
	}
	if p.Slow != nil {
		of.Slow = time.Duration(*p.Slow)
	}
	if p.Members != nil {
		of.Members = *p.Members
	}
	if p.List != nil {
		of.List = *p.List
	}
	if p.Grace != nil {
		of.NoGrace = true
	}
	if p.Enter != nil {
		of.Program = bool(*p.Enter)
	}
	if p.History != nil {
		of.Readers = channel.Readers(*p.History)
	}
	if p.Locked != nil {
		of.Locked = *p.Locked
	}
	return of
}

// PolicyOf is all that holds in a room. grace is that of rooms that have one.
func PolicyOf(r router.Policy, grace time.Duration) Policy {
	if r.NoGrace {
		grace = 0
	}
	hold, slow, kept := Period(r.Hold), Period(r.Slow), Period(grace)
	enter, history := Entry(r.Program), Reading(r.Readers)
	return Policy{Hold: &hold, Slow: &slow, Members: &r.Members, List: &r.List, Grace: &kept, Enter: &enter, History: &history, Locked: &r.Locked}
}

// Check refuses what can hold in no room.
func (p *Policy) Check() error {
	switch {
	case p.Hold != nil && !p.Hold.within(maxHold):
		return fmt.Errorf("hold %v: must be whole milliseconds, at most %v, or 0 for none", time.Duration(*p.Hold), maxHold)
	case p.Slow != nil && !p.Slow.within(channel.MaxSlow):
		return fmt.Errorf("slow %v: must be whole milliseconds, at most %v, or 0 for none", time.Duration(*p.Slow), channel.MaxSlow)
	case p.Members != nil && *p.Members < 0:
		return fmt.Errorf("members %d: must not be negative; 0 is no limit", *p.Members)
	case p.List != nil && *p.List < 0:
		return fmt.Errorf("list %d: must not be negative; 0 tells everybody who comes and goes, whatever the room's size", *p.List)
	case p.Grace != nil && *p.Grace != 0:
		return fmt.Errorf("grace %v: must be 0, or left out: who is cut off leaves such a room at once, or keeps its place for -grace", time.Duration(*p.Grace))
	}
	return nil
}

// Period is a time in JSON, like "20ms".
type Period time.Duration

// within tells whether it is whole milliseconds, and most at most.
func (t Period) within(most time.Duration) bool {
	return t >= 0 && time.Duration(t) <= most && time.Duration(t)%time.Millisecond == 0
}

// MarshalText implements encoding.TextMarshaler.
func (t Period) MarshalText() ([]byte, error) { return []byte(time.Duration(t).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Period) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf(`%q is no time; write it like "20ms" or "3s"`, text)
	}
	*t = Period(d)
	return nil
}

// Entry says who may enter a room: whoever asks, or, if it is true, whom the program has in.
type Entry bool

// MarshalText implements encoding.TextMarshaler.
func (e Entry) MarshalText() ([]byte, error) {
	if e {
		return []byte("program"), nil
	}
	return []byte("anyone"), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *Entry) UnmarshalText(text []byte) error {
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

// Reading says who may read what a room keeps.
type Reading channel.Readers

// readings are the words for them.
var readings = map[Reading]string{Reading(channel.ReadersEveryone): "everyone", Reading(channel.ReadersPresent): "present", Reading(channel.ReadersNobody): "none"}

// MarshalText implements encoding.TextMarshaler.
func (r Reading) MarshalText() ([]byte, error) { return []byte(readings[r]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Reading) UnmarshalText(text []byte) error {
	for reading, word := range readings {
		if word == string(text) {
			*r = reading
			return nil
		}
	}
	return fmt.Errorf("history %q: must be everyone, present (who was there) or none", text)
}

// RoomPolicy is the answer of /v1/policy.
type RoomPolicy struct {
	Scope  string `json:"scope"`
	Room   string `json:"room"`
	Policy Policy `json:"policy"` // the operator's, which holds at all nodes
	Holds  Policy `json:"holds"`  // all that holds at the node that was asked, with what its -rooms-file and flags say
	By     string `json:"by,omitempty"`
	Kept   bool   `json:"kept"` // it survives a restart of this process
}

func getPolicy(a API, q *request) (any, error) {
	room, err := policyRoom(q)
	if err != nil {
		return nil, err
	}
	return a.RoomPolicy(room), nil
}

// putPolicy has an operator's policy hold in place of the one before; an empty one is none.
func putPolicy(a API, q *request) (any, error) {
	room, err := policyRoom(q)
	if err != nil {
		return nil, err
	}
	var p Policy
	if err := q.decode(&p); err != nil {
		return nil, err
	}
	text, _ := json.Marshal(p)
	q.what = []any{"room", room, "policy", string(text)}
	if err := p.Check(); err != nil {
		return nil, Refuse(err)
	}
	r := Rule{Kind: RulePolicy, Room: room, By: cutBy(q.who), At: time.Now().UTC().Truncate(time.Millisecond)}
	lift := p == Policy{}
	if !lift {
		r.Policy = &p
	}
	_, err = a.SetRule(r, lift)
	if err != nil && !(lift && errors.Is(err, app.ErrAbsent)) {
		return nil, err
	}
	return a.RoomPolicy(room), nil
}

// policyRoom is the room that a request about a policy names.
func policyRoom(q *request) (string, error) {
	room, err := q.needed("room")
	if err == nil && len(room) > maxReason {
		err = bad("room: may have %d bytes", maxReason)
	}
	return room, err
}
