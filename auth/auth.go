// Package auth is what the server and a judge of logins say to each other: a client shows a token, and the judge says who that is.
// Packages token and hook have judges; a program may be one itself (app.App.Authenticate).
package auth

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"
)

// Func judges a login. An error that is ErrRefused says that the token is not good; any other that it could not be judged, which refuses it too
// and is counted and logged. The client is told neither. Called on goroutines of their own, several at a time; ctx ends when nobody waits any
// more.
type Func func(ctx context.Context, l Login) (Identity, error)

// ErrRefused is the error of a login that is not good. Wrap it to say why: that stays on the server.
var ErrRefused = errors.New("login refused")

// Login is what a client shows.
type Login struct {
	Token   string // what it has been given where it logged in; at most MaxToken bytes, and never empty
	Name    string // what it wants to be called; empty if it did not say, as in a handshake
	Room    string // where it wants to enter; empty in a handshake
	Address netip.Addr
}

// MaxToken is how many bytes a token may have.
const MaxToken = 8 << 10

// Identity is who somebody is. It sticks to the session.
type Identity struct {
	Name  string    // what it is called in every room, whatever it asks for
	Rooms []string  // patterns of names of rooms that it may enter, in which a * stands for anything; nil: all
	UID   string    // whom two sessions have in common; empty: Name
	Until time.Time // when the login expires; zero: never
}

// User is whom two sessions have in common: by UID, or, where there is none, by Name. One's name is never another's UID, so the two are told apart. Its
// first word says which it is, and no client is told.
func (id *Identity) User() string {
	if id.UID != "" {
		return "uid\x00" + id.UID
	}
	return "name\x00" + id.Name
}

// Bounds of an identity.
const (
	MaxName    = 255 // bytes
	MaxRooms   = 64  // patterns
	MaxPattern = 255 // bytes of each
	MaxUID     = 255 // bytes
)

// Check refuses an identity that no judge may give, and says what is wrong with it.
func (id *Identity) Check() error {
	switch {
	case id.Name == "":
		return errors.New("it has no name")
	case len(id.Name) > MaxName:
		return errors.New("its name is longer than 255 bytes")
	case len(id.UID) > MaxUID:
		return errors.New("its uid is longer than 255 bytes")
	case len(id.Rooms) > MaxRooms:
		return errors.New("it has more than 64 patterns of rooms")
	}
	for _, pattern := range id.Rooms {
		if len(pattern) > MaxPattern {
			return errors.New("it has a pattern of rooms longer than 255 bytes")
		}
	}
	return nil
}

// May tells whether it may enter a room.
func (id *Identity) May(room string) bool {
	if id.Rooms == nil {
		return true
	}
	for _, pattern := range id.Rooms {
		if matches(pattern, room) {
			return true
		}
	}
	return false
}

// matches tells whether pattern stands for name. The parts between stars must come in order, the first at the beginning and the last at the end.
func matches(pattern, name string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return name == pattern
	}
	name, ok := strings.CutPrefix(name, head)
	if !ok {
		return false
	}
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(name, part)
		}
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name, rest = name[at+len(part):], more
	}
}
