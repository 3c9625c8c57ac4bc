package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/pomelod/pomelod/codec"
)

// Call is one request or notify of a client. The handler owns it and may keep it.
type Call struct {
	// Session is who called.
	Session *Session
	// Route is what was called.
	Route string
	// Body is the JSON that came with it, {} when it was no JSON. A handler may keep it. Change it by SetBody only.
	Body []byte
	// Notify says that no answer will be sent.
	Notify bool

	ctx context.Context
}

// Context returns a context that ends when the call's time is over (App.Timeout) or its session ends.
func (c *Call) Context() context.Context { return c.ctx }

// Decode decodes the body into v as encoding/json does. A handler may return the error: the client gets code 500.
func (c *Call) Decode(v any) error { return codec.Unmarshal(c.Body, v) }

// Members returns the body's members, of which a filter may change some and give all back to SetBody. It fails when the body is no JSON object.
func (c *Call) Members() (map[string]any, error) {
	var members map[string]any
	if err := c.Decode(&members); err != nil {
		return nil, err
	}
	if members == nil {
		return nil, errors.New("the body is no JSON object")
	}
	return members, nil
}

// SetBody replaces the body by v, as JSON. Filters behind this one, and the handler, see the new one; a filter of chat.chatHandler.send changes
// what members of the room are told. It fails when v cannot be JSON; the body is as it was then.
func (c *Call) SetBody(v any) error {
	b, err := encodeJSON(v)
	if err != nil {
		return fmt.Errorf("body of %s: %w", c.Route, err)
	}
	c.Body = b
	return nil
}
