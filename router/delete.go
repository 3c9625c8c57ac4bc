package router

import (
	"context"
	"errors"
	"fmt"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
)

// Deletion names messages of a room that are to be deleted: the one at Seq, the one with the id Mid that its sender has given it, or all that User has said.
type Deletion struct {
	Room           string
	Seq, Mid, User string
}

// Errors of a Deletion: its Seq or Mid is none that a message can have, or no message that the room keeps is meant.
var (
	ErrNoPlace   = errors.New("no message can have this seq or mid")
	ErrNoMessage = errors.New("the room keeps no such message")
)

// DeleteMessages deletes messages that a room keeps, wherever the room is, and tells how many: ErrNoMessage if there are none. Where it fails some may be deleted.
func (n *Node) DeleteMessages(ctx context.Context, d Deletion) (deleted int, err error) {
	r := channel.Request{Op: channel.OpDelete, Room: d.Room, User: d.User, Ext: new(channel.Extended), Urgent: true}
	switch {
	case d.Seq != "":
		r.Ext.Since, r.Ext.HasSince = codec.ParseSeq(d.Seq)
		if !r.Ext.HasSince {
			return 0, ErrNoPlace
		}
	case d.Mid != "":
		if r.Ext.Mid = midOf(d.Mid); r.Ext.Mid == 0 {
			return 0, ErrNoPlace
		}
		r.Content = codec.AppendString(nil, d.Mid)
	}
	for more := true; more; {
		b, err := n.Ask(ctx, r)
		switch {
		case err != nil:
			return deleted, err
		case string(b) == string(channel.Absent) && deleted == 0:
			return 0, ErrNoMessage
		case string(b) == string(channel.Absent): // the rest has gone meanwhile
			return deleted, nil
		case string(b) == string(channel.Refused), string(b) == string(channel.HistoryRefused):
			return deleted, app.ErrBusy
		}
		var answer struct {
			Deleted int
			More    bool
		}
		if err := codec.Unmarshal(b, &answer); err != nil {
			return deleted, fmt.Errorf("delete messages of room %s: %w", d.Room, err)
		}
		deleted += answer.Deleted
		more = answer.More
	}
	return deleted, nil
}
