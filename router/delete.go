package router

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// deleteAgain is how long a deletion waits where the room has too much to write already.
const deleteAgain = 20 * time.Millisecond

// Deleted is what became of a Deletion.
type Deleted struct {
	Messages int
	// Unwritten says that the disk does not take the deletion at present: it holds, but if pomelod ends before it is written the messages are there again.
	Unwritten bool
}

// DeleteMessages deletes messages that a room keeps, wherever the room is: ErrNoMessage if there are none. Each is one more push to the room, and there may be
// thousands. So while the room has too much to write the rest waits, as long as ctx allows, without a deadline as long as Ask would; then it fails with app.ErrBusy. Where it
// fails some may be deleted.
func (n *Node) DeleteMessages(ctx context.Context, d Deletion) (done Deleted, err error) {
	r := channel.Request{Op: channel.OpDelete, Room: d.Room, User: d.User, Ext: new(channel.Extended), Urgent: true}
	switch {
	case d.Seq != "":
		r.Ext.Since, r.Ext.HasSince = codec.ParseSeq(d.Seq)
		if !r.Ext.HasSince {
			return done, ErrNoPlace
		}
	case d.Mid != "":
		if r.Ext.Mid = midOf(d.Mid); r.Ext.Mid == 0 {
			return done, ErrNoPlace
		}
		r.Content = codec.AppendString(nil, d.Mid)
	}
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, n.patience(partitionOf(&r)))
		defer cancel()
	}
	for more := true; more; {
		var part deletedPart
		switch part, err = n.deleteSome(ctx, r); {
		case errors.Is(err, app.ErrBusy):
			select {
			case <-time.After(deleteAgain):
				continue
			case <-ctx.Done():
				return done, partly(done.Messages, err)
			}
		case errors.Is(err, ErrNoMessage) && done.Messages > 0: // the rest has gone meanwhile
			return done, nil
		case err != nil:
			return done, partly(done.Messages, err)
		}
		done.Messages += part.Deleted
		done.Unwritten = done.Unwritten || part.Unwritten
		more = part.More
	}
	return done, nil
}

// deletedPart is what an owner answers to channel.OpDelete.
type deletedPart struct {
	Code, Deleted   int
	More, Unwritten bool
}

// deleteSome deletes as many as one decision may.
func (n *Node) deleteSome(ctx context.Context, r channel.Request) (part deletedPart, err error) {
	b, err := n.Ask(ctx, r)
	switch {
	case err != nil:
		return part, err
	case string(b) == string(channel.Absent):
		return part, ErrNoMessage
	case string(b) == string(channel.Busy):
		return part, fmt.Errorf("room %s: %w", r.Room, app.ErrBusy)
	}
	if err = codec.Unmarshal(b, &part); err == nil && part.Code != 0 { // it has panicked
		err = fmt.Errorf("answered %s", b)
	}
	if err != nil {
		return part, fmt.Errorf("delete messages of room %s: %w", r.Room, err)
	}
	return part, nil
}

// partly is the error of a deletion of which only a part is known to be done.
func partly(deleted int, err error) error {
	if deleted == 0 {
		return err
	}
	return fmt.Errorf("%d messages are deleted, the others may not be: %w", deleted, err)
}
