package client

import "encoding/json"

const routeHistory = "chat.chatHandler.history"

// History is a page of what was said in a room.
type History struct {
	Messages []Message `json:"messages"` // oldest first
	More     bool      `json:"more"`     // there are older ones
}

// Message is what was said to all in a room.
type Message struct {
	Msg    json.RawMessage `json:"msg"` // a text, unless its client has said something else
	From   string          `json:"from"`
	Target string          `json:"target"`
	Seq    string          `json:"seq"` // its place
	Time   int64           `json:"time"`
}

// History asks what was said, and is kept, in the room that the client has entered: at most limit messages (0 for the server's choice, 50; it gives no more than 200) before the
// place before; empty for the newest. A page costs the client what an enter costs (-enter-rate). An answer that refuses is an error that wraps ErrRefused.
func (c *Client) History(before string, limit int) (page History, err error) {
	ask := struct {
		Before string `json:"before,omitempty"`
		Limit  int    `json:"limit,omitempty"`
	}{before, limit}
	err = c.Request(routeHistory, ask, &page)
	return page, err
}
