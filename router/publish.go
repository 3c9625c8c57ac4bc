package router

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
)

// Publication is what an operator pushes to the members of a room, or to User, one of them. With route onChat it is a message to all, which the room keeps as it keeps those of
// members.
type Publication struct {
	Room, User, Route string
	Body              []byte // JSON
	Mid               string // what comes again with it, to the same, is done once; empty: none
}

// Published is what became of a Publication.
type Published struct {
	Seq     string // its place in the room's stream; empty where it went to one member
	Time    int64  // Unix ms
	Loops   int    // of all nodes, to which it went for their members
	Members int
	Again   bool // it was published before; the rest is of that time
}

// Errors of a Publication, of which nothing has happened then.
var (
	ErrMessage   = errors.New(`an onChat to a room is a message, which the room keeps: its body must be {"msg":…,"from":…}, with a from that may be a name, and nothing else but "target":"*"`)
	ErrUnwritten = errors.New("the room's messages cannot be written to the disk at present (-history-sync); nothing was said, try again later")
)

// PublishRoom pushes to the members of a room, or to one of them, in order with what they say, wherever they are: app.ErrAbsent if nobody is there.
func (n *Node) PublishRoom(ctx context.Context, p Publication) (done Published, err error) {
	push, err := n.newPush(p.Route, p.Body)
	if err != nil {
		return done, err
	}
	r := channel.Request{Op: channel.OpPush, Room: p.Room, Target: p.User, Route: p.Route, Content: push.Body, Urgent: true, Ext: &channel.Extended{Mid: publishMid(p.User, p.Mid)}}
	if p.User == "" {
		r.Target = channel.Everybody
		if p.Route == "onChat" {
			r.Op, r.Route = channel.OpSay, ""
			if r.User, r.Content, err = messageOf(push.Body, n.limits.Load().NameBytes); err != nil {
				return done, err
			}
		}
	}
	b, err := n.Ask(ctx, r)
	switch {
	case err != nil:
		return done, err
	case string(b) == string(channel.Absent):
		return done, app.ErrAbsent
	case string(b) == string(channel.HistoryRefused):
		return done, ErrUnwritten
	}
	var answer struct {
		Code int
		Published
	}
	if err = codec.Unmarshal(b, &answer); err == nil && answer.Code != 0 {
		err = app.ErrBusy
	}
	if err != nil {
		return done, fmt.Errorf("publish in room %s: %w", p.Room, err)
	}
	return answer.Published, nil
}

// messageOf is what an onChat's body says, and from whom.
func messageOf(body []byte, mostName int) (from string, msg []byte, err error) {
	from = "system"
	members := codec.ScanObject(body)
	for key, value, more := members.Next(); more; key, value, more = members.Next() {
		ok := false
		switch string(key) {
		case "msg":
			msg, ok = value, true
		case "from":
			from, ok = codec.StringValue(value)
			ok = ok && validName(from, mostName)
		case "target":
			ok = string(value) == `"`+channel.Everybody+`"`
		}
		if !ok {
			return "", nil, ErrMessage
		}
	}
	if members.Err() != nil || msg == nil {
		return "", nil, ErrMessage
	}
	return from, msg, nil
}

// publishMid is the id of what is published to all of a room, or to one member of it, as rooms know it; 0: it has none. That of a message to all is what midOf makes of it, so
// that it can be deleted by it.
func publishMid(user, mid string) uint64 {
	switch {
	case mid == "":
		return 0
	case user == "":
		return hashMid(mid)
	}
	return hashMid(mid + "\x00" + user)
}

// hashMid is an id as rooms know it.
func hashMid(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	return h.Sum64() | 1
}

// PublishSessions pushes to the sessions of this node that a filter chooses, and tells how many they were. None gets it in order with what its room is sent
// at the same time.
func (n *Node) PublishSessions(ctx context.Context, f SessionFilter, route string, body []byte) (int, error) {
	p, err := n.newPush(route, body)
	if err != nil {
		return 0, err
	}
	for _, l := range n.loops {
		if l.busy() {
			return 0, app.ErrBusy
		}
	}
	pushed := make([]int, len(n.loops))
	err = n.eachSession(ctx, f, func(l *loop, s *session) {
		pushed[l.index]++
		l.pushTo(s, p)
	})
	return sum(pushed, err)
}

// newPush checks what a push must be. It fails with app's errors.
func (n *Node) newPush(route string, body []byte) (*codec.Push, error) {
	if route == "" || len(route) > codec.MaxRouteBytes {
		return nil, app.ErrRoute
	}
	b, ok := hosting.PushBody(body)
	switch {
	case !ok:
		return nil, app.ErrObject
	case !n.limits.Load().fits(len(b)):
		return nil, app.ErrTooLong
	}
	return &codec.Push{Route: route, Body: b, Shared: new(codec.SharedFrames)}, nil
}
