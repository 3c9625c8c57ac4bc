package client

const routeMembers = "chat.chatHandler.members"

// Members is a page of who is in a room.
type Members struct {
	Users []string `json:"users"` // in the order in which they entered
	Count int      `json:"count"` // how many are in the room
	Next  string   `json:"next"`  // where the next page begins; empty behind the last one
}

// Members asks who is in the room that the client has entered, for at most limit names (0 for the server's choice, 200; it gives no more than 500) behind
// after, the Next of the page before; empty for the first. Who stays in the room while all pages are read is told exactly once. A page costs the client
// what an enter costs (-enter-rate). An answer that refuses is an error that wraps ErrRefused.
func (c *Client) Members(after string, limit int) (page Members, err error) {
	ask := struct {
		After string `json:"after,omitempty"`
		Limit int    `json:"limit,omitempty"`
	}{after, limit}
	err = c.Request(routeMembers, ask, &page)
	return page, err
}
