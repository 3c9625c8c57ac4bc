package router

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
)

// Extended clients have said that they understand more than Pomelo's clients do (docs/PROTOCOL.md): in the handshake, or over socket.io in an
// enter. It is a matter of their variant, so that nobody else gets a byte of it.

// MaxHistory is the most messages that a room may keep.
const MaxHistory = 10_000

// defaultPage is how many messages a page of history has if its reader does not say.
const defaultPage = 50

// extendedEnter is what the members of an enter ask for beside names; nil if its client is not extended.
func (ch *chat) extendedEnter(s *session, m *enterAsk) *channel.Extended {
	if !ch.calls.extended(s, string(m.seq) == "true") {
		return nil
	}
	x := &channel.Extended{Most: count(m.history, 0)}
	if m.since != nil {
		x.Since, x.HasSince = seqOf(m.since), true
	}
	return x
}

// extended implements calls. The bodies of socket.io clients are JSON in any case, so they may become extended at any time.
func (l *loop) extended(s *session, asks bool) bool {
	v := l.variant(s)
	if v.Extended || !asks || !v.Framing.SocketIO() {
		return v.Extended
	}
	id := l.profile(s).extendedVariant(v.Framing)
	if id != 0 {
		l.rooms.changeVariant(s, id)
	}
	return id != 0
}

// extendedSend is what a send asks for beside being sent; nil if its client is not extended.
func (ch *chat) extendedSend(s *session, mid []byte) *channel.Extended {
	if !ch.calls.extended(s, false) {
		return nil
	}
	x := new(channel.Extended)
	if id, ok := codec.StringValue(mid); ok {
		x.Mid = midOf(id)
	}
	return x
}

// midOf is a message's id as rooms know it; 0: it is none. A client that finds two ids with one hash keeps only its own messages from being sent.
func midOf(id string) uint64 {
	if len(id) < minMid || len(id) > maxMid {
		return 0
	}
	return hashMid(id)
}

// Bytes of a message's id.
const minMid, maxMid = 16, 64

// defaultMembers is how many names a page of members has if its reader does not say.
const defaultMembers = 200

// history tells a member what was said in its room.
func (ch *chat) history(s *session, c *call) { ch.page(s, c, channel.OpHistory, "before", defaultPage) }

// members answers a member that asks for the members of its room.
func (ch *chat) members(s *session, c *call) {
	ch.page(s, c, channel.OpMembers, "after", defaultMembers)
}

// page tells a member a part of what its room has. The body's member of the name place says where the part begins, and limit how long it is; most if there is none.
func (ch *chat) page(s *session, c *call, op channel.Op, place string, most uint32) {
	if s.room == nil || ch.limiter.overrun() {
		ch.calls.answer(s, c, channel.Refused)
		return
	}
	body, ok := c.object()
	var room, begin, limit []byte
	for key, value, more := body.Next(); more; key, value, more = body.Next() {
		switch string(key) {
		case "rid":
			room = value
		case place:
			begin = value
		case "limit":
			limit = value
		}
	}
	at, name := s.meant(room)
	if !ok || body.Err() != nil || room != nil && nameValue(room) != name {
		ch.calls.answer(s, c, channel.Refused)
		return
	}
	x := &channel.Extended{Most: count(limit, most)}
	if begin != nil {
		x.Since, x.HasSince = seqOf(begin), true
	}
	ch.calls.submit(s, c, channel.Request{Op: op, Part: at.id.Partition(), Room: name, User: s.user(), Ext: x})
}

// seqOf is a raw JSON value as a place in a room's stream. What is none is in no room's.
func seqOf(raw []byte) codec.Seq {
	text, _ := codec.StringValue(raw)
	q, ok := codec.ParseSeq(text)
	if !ok {
		return codec.Seq{}
	}
	return q
}

// count is a raw JSON value as a number of messages or names.
func count(raw []byte, otherwise uint32) uint32 {
	if raw == nil {
		return otherwise
	}
	n, err := strconv.ParseUint(string(raw), 10, 32)
	if err != nil {
		return otherwise
	}
	return uint32(n)
}

// keeping is what the rooms of a loop's worker keep.
func (l *loop) keeping(cfg *Config) channel.History {
	h, wall := cfg.Limits.History, cfg.Wall
	switch {
	case wall != nil:
	case cfg.Nanos != nil:
		wall = func() int64 { return l.np.EventNanos() / int64(time.Millisecond) }
	default:
		wall = steadyWall(l.np.EventNanos)
	}
	memory := h.Memory
	var readers func(room string) channel.Readers
	if cfg.Policy != nil {
		readers = func(room string) channel.Readers { return cfg.Policy(room).Readers }
	}
	if memory > 0 {
		memory = max(1, memory/int64(cfg.Loops))
	}
	return channel.History{
		Messages: h.Messages, Bytes: h.Bytes, Age: h.Age, Memory: memory, Readers: readers, Salt: cfg.salt, Wall: wall,
		Vacancy: channel.Vacancy, Vacant: max(1, channel.MaxVacant/cfg.Loops),
	}
}

// steadyWall is a wall clock that nobody sets: the one of the machine as it is now, and what has passed since by nanos, in Unix milliseconds. With one that is
// set back nothing would come of age, and with one that is set on everything at once.
func steadyWall(nanos func() int64) func() int64 {
	begin := time.Now().UnixNano() - nanos()
	return func() int64 { return (begin + nanos()) / int64(time.Millisecond) }
}

// newSalt is a number that no other process has.
func newSalt() (uint64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("random numbers: %w", err)
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}
