package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
)

// What a program sets of a room, and reads of it. Settings and data are the room's, wherever its owner is: they hold while anybody is in the room, and for an hour after the last
// member has left. A room that nobody is in yet is made by them, and is there for an hour after they were set last. There are 10,000 such rooms at most in a process: for one
// more the methods of Room.Wait fail with ErrRooms. Neither a room that is closed nor a restart leaves anything of them; an upgrade does.

// Errors of what is set of rooms.
var (
	// ErrRooms means that there are as many rooms as there may be: of those that nobody is in and a program has set something of, or of all (-rooms).
	ErrRooms = errors.New("there are as many rooms as there may be")
	// ErrName means that nobody can enter a room of that name, as it is empty, longer than -max-name, or has a * or control characters: so nothing is set of it.
	ErrName = errors.New("nobody can enter a room of that name")
	// ErrData means that data is not JSON of 1 KiB at most.
	ErrData = fmt.Errorf("a room's data must be JSON of %d bytes at most", channel.MaxData)

	errConflict = errors.New("the data was changed by somebody else")
)

// Lock has the room take in no client that is not a member: an enter is refused with the reason room_locked. Who was cut off returns (-grace), and so does who proves by a secret or a login to be a
// member. Session.Enter and Join are not held up. A program's lock is apart from an operator's, which keeps out whom a program sends, too.
func (r Room) Lock() error { return r.set("locked", "true") }

// Unlock undoes Lock.
func (r Room) Unlock() error { return r.set("locked", "false") }

// SetCapacity gives the room so many seats: who enters beyond them is refused with the reason room_members, sent by a program (Session.Enter and Join) or not. Who is away keeps the seat. 0
// is any number. Where an operator has set a lower limit that holds. Nobody has to leave a room that has more members by now.
func (r Room) SetCapacity(n int) error {
	if n < 0 || n > channel.MaxCapacity {
		return fmt.Errorf("capacity %d: must be 0 to %d", n, channel.MaxCapacity)
	}
	return r.set("capacity", strconv.Itoa(n))
}

// SetPassword has clients give a password to enter the room: the member password of connector.entryHandler.enter, a string. Others are refused with the reason password, but for those that
// Lock lets in. "" is none; it has 128 bytes at most. The server keeps a hash of it. A client may try as often as -enter-rate lets it, so choose one that cannot be guessed.
func (r Room) SetPassword(password string) error {
	pass := hosting.PassOf(r.name, password)
	if pass == 0 && password != "" {
		return fmt.Errorf("a password of %d bytes: must be at most %d", len(password), hosting.MaxPassword)
	}
	return r.set("pass", strconv.FormatUint(pass, 10))
}

func (r Room) set(what, value string) error {
	return r.ask(channel.Request{Op: channel.OpSet, Content: []byte(`{"` + what + `":` + value + `}`)})
}

// SetData keeps a small JSON of the program's with the room, say its mode and what it waits for: 1 KiB at most. App.Rooms lists it. What was kept before goes; nil, or what is
// null as JSON, is none. No client is told.
func (r Room) SetData(v any) error {
	data, err := encodeData(v)
	if err != nil {
		return fmt.Errorf("data of room %s: %w", r.name, err)
	}
	return r.setData(data, nil)
}

// setData makes data the room's, and fails with errConflict if was, unless that is nil, is not what it had.
func (r Room) setData(data, was []byte) error {
	content := append([]byte(`{"data":`), data...)
	if was != nil {
		content = append(append(content, `,"was":`...), was...)
	}
	return r.ask(channel.Request{Op: channel.OpData, Content: append(content, '}')})
}

func encodeData(v any) ([]byte, error) {
	data := none
	if v != nil {
		var err error
		if data, err = encodeJSON(v); err != nil {
			return nil, err
		}
	}
	if len(data) > channel.MaxData {
		return nil, ErrData
	}
	return data, nil
}

var none = []byte("null")

// Data decodes what SetData has kept with the room into v. It fails with ErrAbsent if there is none. It waits as methods of Wait do.
func (r Room) Data(ctx context.Context, v any) error {
	info, err := r.Info(ctx)
	switch {
	case err != nil:
		return err
	case info.Data == nil:
		return fmt.Errorf("data of room %s: %w", r.name, ErrAbsent)
	}
	return codec.Unmarshal(info.Data, v)
}

// UpdateData changes the data of a room as one step: change is given what the data is, or the zero T if there is none, and what it makes of that is kept. If somebody else has changed the
// data meanwhile change is called again with what that has left, so it should do nothing else. Its error is UpdateData's, and the data stays. It waits as methods of Room.Wait do, with ctx for
// all of it; with ErrUnknown the data may have been changed.
func UpdateData[T any](ctx context.Context, r Room, change func(data *T) error) error {
	for {
		info, err := r.Info(ctx)
		if err != nil && !errors.Is(err, ErrAbsent) {
			return err
		}
		var data T
		was := none
		if info.Data != nil {
			was = info.Data
			if err := codec.Unmarshal(was, &data); err != nil {
				return fmt.Errorf("data of room %s: %w", r.name, err)
			}
		}
		if err := change(&data); err != nil {
			return err
		}
		is, err := encodeData(data)
		if err != nil {
			return fmt.Errorf("data of room %s: %w", r.name, err)
		}
		if err := r.Wait(ctx).setData(is, was); err != errConflict {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("data of room %s: %w", r.name, err)
		}
	}
}

// Info tells of the room. It fails with ErrAbsent if nobody is in it and a program has set nothing of it. It waits as methods of Wait do.
func (r Room) Info(ctx context.Context) (RoomInfo, error) {
	var told hosting.RoomTold
	b, err := r.answer(ctx, channel.Request{Op: channel.OpRoom})
	if err == nil {
		err = codec.Unmarshal(b, &told)
	}
	if err != nil {
		return RoomInfo{}, fmt.Errorf("room %s: %w", r.name, err)
	}
	return infoOf(told.Info()), nil
}

// answer is what the room answers to a question.
func (r Room) answer(ctx context.Context, q channel.Request) ([]byte, error) {
	node, err := r.app.running()
	if err != nil {
		return nil, err
	}
	q.Room = r.name
	b, err := node.Ask(ctx, q)
	switch {
	case err != nil:
		return nil, err
	case string(b) == string(channel.Absent):
		return nil, ErrAbsent
	case string(b) == string(channel.Refused):
		return nil, ErrBusy
	}
	return b, nil
}

// Range is a part of what was said in a room. The zero Range is the newest messages, 200 of them.
type Range struct {
	Since  string // a Message.Seq: only what was said after that; empty: all
	Before string // a Message.Seq: only what was said before that; empty: all
	Limit  int    // how many messages at most, the newest of these; 0 is 200, and so is more
}

// Message is something that was said in a room.
type Message struct {
	// Seq is its place, as extended clients are told it: for Range, and for comparing with that of others. It is never that of another message of this room, nor of a later room of its name.
	Seq     string
	Time    time.Time
	From    string
	Content json.RawMessage // a string, mostly
}

// Text is Content as a string; empty if that is none.
func (m Message) Text() string {
	text, _ := codec.StringValue(m.Content)
	return text
}

// History returns messages to all that the room keeps (-history), the oldest first: those of q, of one page. A page has 200 messages and 64 KiB at most; more tells whether there are older ones in q,
// to be had with Before set to the Seq of the first. A program is told all that is kept, also in a room that nobody is in; what was deleted is left out. After a Since of an earlier room of
// the name all is. It fails with ErrAbsent if there is no such room, and waits as methods of Wait do.
func (r Room) History(ctx context.Context, q Range) (messages []Message, more bool, err error) {
	since, before, err := q.places()
	if err != nil {
		return nil, false, fmt.Errorf("history of room %s: %w", r.name, err)
	}
	most := q.Limit
	if most <= 0 || most > pageMessages {
		most = pageMessages
	}
	told, more, err := r.page(ctx, before, q.Before != "", most)
	messages = told.after(since)
	if err == nil && more && q.Since != "" {
		if more = len(messages) == len(told) && len(told) > 0; more { // else it has come to Since
			var older page
			older, _, err = r.page(ctx, messages[0].place(), true, 1)
			if more = len(older.after(since)) > 0; errors.Is(err, ErrAbsent) { // the room has ended meanwhile
				err = nil
			}
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("history of room %s: %w", r.name, err)
	}
	return messages, more, nil
}

// page is messages as they are told at once.
type page []Message

// after are the messages after a place. After one of an earlier room of the name, or none, all are.
func (p page) after(since codec.Seq) (list []Message) {
	for i := range p {
		if at := p[i].place(); at.Incarnation != since.Incarnation || at.Number > since.Number {
			list = append(list, p[i])
		}
	}
	return list
}

// place is Seq.
func (m *Message) place() codec.Seq {
	at, _ := codec.ParseSeq(m.Seq)
	return at
}

// page asks for the newest messages, so many at most, before a place if there is one; more tells whether there are older ones.
func (r Room) page(ctx context.Context, before codec.Seq, has bool, most int) (messages page, more bool, err error) {
	b, err := r.answer(ctx, channel.Request{Op: channel.OpHistory, Ext: &channel.Extended{Most: uint32(most), Since: before, HasSince: has}})
	var told struct {
		Messages []struct {
			Seq  string
			Time int64
			From string
			Msg  json.RawMessage
		}
		More bool
	}
	if err == nil {
		err = codec.Unmarshal(b, &told)
	}
	for _, m := range told.Messages {
		messages = append(messages, Message{Seq: m.Seq, Time: time.UnixMilli(m.Time), From: m.From, Content: m.Msg})
	}
	return messages, told.More, err
}

// pageMessages is how many messages a page has at most.
const pageMessages = 200

// places are Since and Before.
func (q Range) places() (since, before codec.Seq, err error) {
	since, sinceOK := codec.ParseSeq(q.Since)
	before, beforeOK := codec.ParseSeq(q.Before)
	switch {
	case q.Since != "" && !sinceOK:
		return since, before, fmt.Errorf("%q is no Message.Seq", q.Since)
	case q.Before != "" && !beforeOK:
		return since, before, fmt.Errorf("%q is no Message.Seq", q.Before)
	}
	return since, before, nil
}
