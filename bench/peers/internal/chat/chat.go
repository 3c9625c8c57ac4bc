// Package chat is a chat in the plain protocol of the load generator (bench/README.md, "The plain protocol"), without the
// WebSocket that carries it: that is what peers differ in.
package chat

import (
	"encoding/json"
	"sync"
)

// Conn is one client of a peer.
type Conn interface {
	comparable
	// Say sends a text frame. Safe from any goroutine.
	Say(text []byte)
}

// Chat is all rooms. Safe from any goroutine.
type Chat[C Conn] struct {
	// Broadcast sends text to all of members as the peer's library wants it done. members may be read while it runs only.
	Broadcast func(members map[C]struct{}, text []byte)

	mu    sync.Mutex
	rooms map[string]*room[C]
}

type room[C Conn] struct {
	mu      sync.RWMutex // written when somebody enters or leaves
	members map[C]struct{}
}

// Member is a client's place in a room. The zero value is in none. Used by one message of its client at a time.
type Member[C Conn] struct {
	name string
	room *room[C]
}

type request struct {
	ID    uint32  `json:"id"`
	Enter string  `json:"enter"`
	Name  string  `json:"name"`
	Msg   *string `json:"msg"`
}

type answer struct {
	ID    uint32 `json:"id"`
	Error string `json:"error,omitempty"`
}

type push struct {
	Msg  string `json:"msg"`
	From string `json:"from"`
}

// Take takes a message of a client.
func (c *Chat[C]) Take(conn C, m *Member[C], text []byte) {
	var r request
	var why string
	switch err := json.Unmarshal(text, &r); {
	case err != nil:
		why = err.Error()
	case r.Enter != "" && m.room == nil:
		m.name, m.room = r.Name, c.enter(conn, r.Enter)
	case r.Msg != nil && m.room != nil:
		m.room.mu.RLock()
		c.Broadcast(m.room.members, encode(push{*r.Msg, m.name}))
		m.room.mu.RUnlock()
	default:
		why = "neither enter nor msg, or not now"
	}
	conn.Say(encode(answer{r.ID, why}))
}

func (c *Chat[C]) enter(conn C, name string) *room[C] {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[name]
	if r == nil {
		if c.rooms == nil {
			c.rooms = map[string]*room[C]{}
		}
		r = &room[C]{members: map[C]struct{}{}}
		c.rooms[name] = r
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members[conn] = struct{}{}
	return r
}

// Leave is for a client that has gone.
func (c *Chat[C]) Leave(conn C, m *Member[C]) {
	if m.room == nil {
		return
	}
	m.room.mu.Lock()
	defer m.room.mu.Unlock()
	delete(m.room.members, conn)
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}
