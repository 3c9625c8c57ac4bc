// Package filter is what the server and who looks at messages say to each other: a client says something, and the filter has it pass, changes or refuses it. Package
// hook asks a service of the operator's; a program filters by app.App.Before.
package filter

import (
	"context"
	"net/netip"
)

// Func looks at a message. An error says that it could not. Called on goroutines of their own, several at a time; ctx ends when the time for it is over.
type Func func(ctx context.Context, said Said) (Verdict, error)

// Said is what a client says to a room, or to one of its members.
type Said struct {
	Room    string
	Name    string // who says it
	UID     string // of its login; empty where it has none
	Target  string // the member to whom alone; empty: everybody
	Content []byte // JSON, as the client gave it
	Address netip.Addr
}

// Verdict is what becomes of it. The zero Verdict has it pass.
type Verdict struct {
	Refused bool
	Content []byte // JSON, in the place of what was said; nil: that
}
