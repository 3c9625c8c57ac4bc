package app

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
)

// Handshake is a client's handshake, before its session is open. Its function owns it and may keep it.
type Handshake struct {
	// Session is who shakes hands. It is in no room, and nothing can be pushed to it yet; what is stored in it (Set, Bind) is there when it opens.
	Session *Session
	// User is what the client gave as user, JSON; nil if it gave nothing.
	User json.RawMessage
	// Type and Version are the client's, as it says: "js-websocket", "0.0.1".
	Type, Version string

	ctx context.Context
}

// Context ends when the handshake's time is over (App.Timeout) or the client has gone.
func (h *Handshake) Context() context.Context { return h.ctx }

// Decode decodes User into v as encoding/json does; where the client gave none v stays as it is.
func (h *Handshake) Decode(v any) error {
	if h.User == nil {
		return nil
	}
	return codec.Unmarshal(h.User, v)
}

// HandshakeFunc looks at a handshake. What it returns is sent to the client as the member user of the answer, as JSON, and nil as no such member. An error
// refuses the handshake, {"code":500} or an *Error's own code and Body, and ends the connection. A panic is logged and counts as an error.
type HandshakeFunc func(h *Handshake) (user any, err error)

// OnHandshake makes fn look at the handshakes of clients, with what they give as user: what Pomelo's connectorConfig.handshake was. It runs on a goroutine of its
// own and may block, for at most App.Timeout, and for -handshake-timeout from when the client connected; it takes one of the seats of handlers (MaxRunning), and where there is
// none the handshake is refused. Where logins are judged too (Authenticate, -auth) the token is judged afterwards. Clients of socket.io have no such handshake:
// their sessions open without it. Nor do those of a gate. OnOpen functions come after it; a session that was refused was never opened. Panics when there is one already.
func (a *App) OnHandshake(fn HandshakeFunc) {
	if a.shake != nil {
		panic("app: OnHandshake was called twice")
	}
	a.shake = fn
}

// Handshake implements hosting.App.
func (h *hosted) Handshake() hosting.ShakeFunc {
	if h.shake == nil {
		return nil
	}
	return h.app().shook
}

// shook calls the function for handshakes, and makes bytes of what it says.
func (a *App) shook(h *hosting.Handshake) (answer []byte, ok bool) {
	refused := &Call{Route: "handshake"}
	defer func() {
		if p := recover(); p != nil {
			a.panicked(refused, p)
			answer, ok = channel.Refused, false
		}
	}()
	user, err := a.shake(&Handshake{Session: session(h.Session), User: h.User, Type: h.Type, Version: h.Version, ctx: h.Context})
	switch {
	case err != nil:
		slog.Debug("a handshake is refused by the program", "err", err)
		return errorBody(refused, err), false
	case user == nil:
		return nil, true
	}
	if answer, err = encodeJSON(user); err != nil || len(answer) > maxAnswer/2 {
		slog.Error("what a handshake is to be answered cannot be JSON, or is longer than a message may be; it is refused", "bytes", len(answer), "err", err)
		return channel.Refused, false
	}
	return answer, true
}
