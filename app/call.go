package app

import (
	"context"

	"github.com/pomelod/pomelod/codec"
)

// Call is one request or notify of a client. The handler owns it and may keep it.
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

// Context returns a context that ends when the call's time is over (App.Timeout) or its session ends.
func (c *Call) Context() context.Context { return c.ctx }

// Bind decodes the body into v as encoding/json does. A handler may return the error: the client gets code 500.
func (c *Call) Bind(v any) error { return codec.Unmarshal(c.Body, v) }
