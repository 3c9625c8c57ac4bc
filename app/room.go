package app

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
)

// Room is a room by its name, whether anybody is in it or not. What is asked of it is carried out in order with all else that happens in the
// room. Its methods do not wait, and do not report whether there is such a room or member; those of Room.Wait do. Safe from any goroutine.
type Room struct {
	app  *App
	name string
	ctx  context.Context // of Wait; nil: nobody waits
}

// Room returns the room of that name. The server is not asked.
func (a *App) Room(name string) Room { return Room{app: a, name: name} }

// Name is the room's name.
func (r Room) Name() string { return r.name }

// Wait returns the room with methods that wait for the outcome until ctx ends, or at most for -request-timeout. They fail with ErrAbsent when
// the room is empty or does not have the member, with ErrBusy or ErrNotSent when nothing was done, and with ErrUnknown when there was no answer in time: then it
// is not known whether it was done. Such a method must not be called on an event loop, that is in OnOpen and the like or a handler of HandleInline: it would
// wait for itself.
func (r Room) Wait(ctx context.Context) Room {
	r.ctx = ctx
	return r
}

// Push sends a push to every member. As with all pushes of a program body is what encoding/json makes an object of, without a member named body, which Pomelo's clients would
// take for the whole; nil is {}. Another one is not sent: ErrObject.
func (r Room) Push(route string, body any) error {
	return r.push(channel.OpPush, channel.Everybody, route, body)
}

// PushVolatile sends a push that is worth something only until the next one of its route, say where somebody is in a world: as often as the program likes, and members get as much of
// it as they take. Of those of one route that wait for the room's next writing (hold of -rooms-file; else there is one at each turn of an event loop that has others before it) the
// latest is sent. A member with unsent bytes gets none. No room keeps it, nobody who returns is told it, and its place among other pushes is not certain. At most 16 routes of a room wait at a time.
// With ErrBusy members of the room have too much to take, and nobody gets it.
func (r Room) PushVolatile(route string, body any) error {
	_, content, err := r.app.encodePush(route, body)
	if err != nil {
		return err
	}
	return r.ask(channel.Request{Op: channel.OpPush, Target: channel.Everybody, Route: route, Content: content, Silent: true})
}

// PushUser sends a push to the member called user.
func (r Room) PushUser(user, route string, body any) error {
	return r.push(channel.OpPush, user, route, body)
}

// PushExcept sends a push to every member but the one called user, who need not be in the room: say, to all but the one who has done something.
func (r Room) PushExcept(user, route string, body any) error {
	return r.push(channel.OpPushExcept, user, route, body)
}

func (r Room) push(op channel.Op, target, route string, body any) error {
	_, content, err := r.app.encodePush(route, body)
	if err != nil {
		return err
	}
	return r.ask(channel.Request{Op: op, Target: target, Route: route, Content: content})
}

// Say has from say text to the room: members get an onChat like one of a member's, and the room keeps it as it keeps those (-history). from need be
// nobody's name; choose one that no client can take. In a room with a hold (-rooms-file) it is not held, up to ten times a second; pushes are.
func (r Room) Say(from, text string) error {
	node, err := r.app.running()
	if err != nil {
		return err
	}
	content, err := encodeJSON(text)
	if err != nil {
		return err
	}
	if !node.Fits(len(content)) {
		return ErrTooLong
	}
	return r.ask(channel.Request{Op: channel.OpSay, User: from, Target: channel.Everybody, Content: content, Urgent: true})
}

// Kick ends the session of the member called user and tells the client the reason.
func (r Room) Kick(user, reason string) error {
	return r.ask(channel.Request{Op: channel.OpKick, Target: user, Content: codec.AppendString(nil, reason)})
}

// SetSlowMode makes each member wait for at least d between two messages, and newcomers before their first one. A message that
// comes too soon is answered {"code":500,"reason":"slow_mode","wait":SECONDS}. d is at most a day, in whole milliseconds; 0 turns slow
// mode off, a negative d returns to -slow-mode. The setting stays with the room's name until the process ends, even while the room is empty. Where an operator
// has said how slow the room is (pomelod policy -slow) that holds: it ends what was set before, and this does nothing until it is taken back (with Wait it fails with ErrRuled).
func (r Room) SetSlowMode(d time.Duration) error {
	if d > channel.MaxSlow {
		return fmt.Errorf("slow mode of %v: must be at most %v", d, channel.MaxSlow)
	}
	ms := int64(-1)
	if d >= 0 {
		ms = int64((d + time.Millisecond - 1) / time.Millisecond)
	}
	return r.ask(channel.Request{Op: channel.OpSlow, Content: strconv.AppendInt(nil, ms, 10)})
}

// Member is a member of a room.
type Member struct {
	User string `json:"user"`
	Away bool   `json:"away,omitempty"` // it was cut off, and may return (-grace)
}

// String is the name, marked where the member is away.
func (m Member) String() string {
	if m.Away {
		return m.User + " (away)"
	}
	return m.User
}

// Members returns the members in the order in which they entered, none if there is no such room. It waits as methods of Wait do.
func (r Room) Members(ctx context.Context) ([]Member, error) {
	var list struct{ Users, Away []string }
	if err := r.read(ctx, channel.OpMembers, &list); err != nil {
		return nil, fmt.Errorf("members of room %s: %w", r.name, err)
	}
	away := make(map[string]bool, len(list.Away))
	for _, user := range list.Away {
		away[user] = true
	}
	members := make([]Member, len(list.Users))
	for i, user := range list.Users {
		members[i] = Member{user, away[user]}
	}
	return members, nil
}

// Count returns how many members there are, 0 if there is no such room. It waits as methods of Wait do.
func (r Room) Count(ctx context.Context) (int, error) {
	var answer struct{ Count int }
	if err := r.read(ctx, channel.OpCount, &answer); err != nil {
		return 0, fmt.Errorf("count members of room %s: %w", r.name, err)
	}
	return answer.Count, nil
}

// read asks the room for something and decodes the answer.
func (r Room) read(ctx context.Context, op channel.Op, answer any) error {
	node, err := r.app.running()
	if err != nil {
		return err
	}
	b, err := node.Ask(ctx, channel.Request{Op: op, Room: r.name})
	if err != nil {
		return err
	}
	return codec.Unmarshal(b, answer)
}

// ask has the room carry out what is done or not, and waits for that if somebody wants to know.
func (r Room) ask(q channel.Request) error {
	node, err := r.app.running()
	if err != nil {
		return err
	}
	q.Room = r.name
	if r.ctx == nil {
		return node.Request(q)
	}
	b, err := node.Ask(r.ctx, q)
	switch {
	case err != nil:
		return err
	case string(b) == string(channel.Absent):
		return ErrAbsent
	case string(b) == string(channel.Ruled):
		return ErrRuled
	case string(b) == string(channel.RoomsRefused):
		return ErrRooms
	case string(b) == string(channel.Conflict):
		return errConflict
	case string(b) != string(channel.Done):
		return ErrBusy
	}
	return nil
}
