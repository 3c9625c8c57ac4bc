package router

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// What the log tells with -log-level debug: developers, why a request is answered with a refusal; operators, who comes and goes. Never what was said. Without it a
// look at the level is all that it costs, and only where there is something to tell. The log keeps most of many such lines back (logsink).

// debugging tells whether somebody wants to know.
func debugging() bool { return slog.Default().Enabled(context.Background(), slog.LevelDebug) }

// Beginnings of answers: of all that have a code, and of those that are no refusals.
var (
	codeHead = []byte(`{"code":`)
	doneHead = []byte(`{"code":200`)
)

// explain tells why a request is answered as it is, if that is a refusal. c is the call as far as it is there still, else nil.
func (l *loop) explain(s *session, r *route, c *call, answer []byte) {
	if !bytes.HasPrefix(answer, codeHead) || bytes.HasPrefix(answer, doneHead) || r == unknown || !debugging() {
		return
	}
	code, reason := "", ""
	members := codec.ScanObject(answer)
	for key, value, ok := members.Next(); ok; key, value, ok = members.Next() {
		switch string(key) {
		case "code":
			code = string(value)
		case "reason":
			reason = string(bytes.Trim(value, `"`))
		}
	}
	slog.Debug("a request was refused", append(l.about(s), "route", r.name, "code", code, "why", cmp.Or(reason, l.guess(s, r, c, code)))...)
}

// guess is why a request may have been refused of which clients are told no reason.
func (l *loop) guess(s *session, r *route, c *call, code string) string {
	if c != nil {
		if body, ok := c.object(); !ok || !members(body) {
			return "the body is no JSON object"
		}
	}
	if chats := r.name == routeSend || r.name == routeHistory || r.name == routeMembers; chats && s.room == nil {
		return "the session is in no room"
	}
	switch {
	case code == "401":
		return "no login that is good for it was shown"
	case r.name == routeEnter:
		return "the name or the room is missing, too long, not allowed, or taken, or the session is there already"
	}
	return "what it names is not there, is not allowed, or is taken"
}

// members reads an object to its end, and tells whether it is one.
func members(o codec.Object) bool {
	for _, _, ok := o.Next(); ok; _, _, ok = o.Next() {
	}
	return o.Err() == nil
}

// about names the session that a line of the log is about.
func (l *loop) about(s *session) []any {
	list := []any{"addr", s.conn.Peer().String()}
	if s.room != nil {
		list = append(list, "name", s.user(), "room", s.roomName())
	}
	return list
}

// tellCame tells that a session has entered its room.
func (l *loop) tellCame(s *session) {
	if debugging() {
		slog.Debug("a session has entered a room", l.about(s)...)
	}
}

// tellWent tells that a session leaves its room, and why it ends.
func (l *loop) tellWent(s *session, why netpoll.Reason) {
	if debugging() {
		slog.Debug("a session has left a room", append(l.about(s), "why", cmp.Or(reasonNames[why], "end"))...)
	}
}

// orUnknown is r, the route of a name, or what is done with routes that a listener does not have.
func orUnknown[name string | []byte](r *route, n name) *route {
	if r != nil {
		return r
	}
	if debugging() {
		slog.Debug("nobody handles a route here", "route", string(n))
	}
	return unknown
}
