package app

import (
	"context"

	"github.com/pomelod/pomelod/codec"
)

// Call is one request or notify on its way to a handler. It belongs to the handler.
type Call struct {
	// Session is who called.
	Session *Session
	// Route is what was called.
	Route string
	// Body is the JSON that came with it, {} when it was no JSON. A handler may keep it.
	Body []byte
	// Notify says that no answer will be sent.
	Notify bool

	ctx context.Context
}

// Context ends when the call's time is over or its session ends.
func (c *Call) Context() context.Context { return c.ctx }

// Bind decodes the body into v, which is as for encoding/json. The error answers 500 when it is returned.
func (c *Call) Bind(v any) error { return codec.Unmarshal(c.Body, v) }
