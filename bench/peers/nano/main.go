// Command nano is a chat on github.com/lonng/nano, which speaks Pomelo's hybrid wire by WebSocket: rooms are its groups. Its
// components are named so that requests for Pomelo's sample chat reach them.
package main

import (
	"net"
	"strings"
	"time"

	"github.com/lonng/nano"
	"github.com/lonng/nano/component"
	"github.com/lonng/nano/serialize/json"
	"github.com/lonng/nano/session"

	"github.com/pomelod/pomelod/bench/peers/internal/peer"
)

// place is where a session is. Handlers run one at a time, so that nothing of this needs a lock.
type place struct {
	name string
	room *room
}

type room struct {
	group *nano.Group
	names []string
}

const placeKey = "place"

// Entry is connector.entryHandler.
type Entry struct {
	component.Base
	rooms map[string]*room
}

type (
	enterRequest struct {
		Username string `json:"username"`
		RID      string `json:"rid"`
	}
	enterAnswer struct {
		Users []string `json:"users"`
	}
)

// Enter adds a session to a room. Nobody is told: nano keeps 16 pushes for a session and drops what is more, and with that many
// its writer can lock itself up. A thousand who come one after the other are such a burst, before anything is measured.
func (e *Entry) Enter(s *session.Session, m *enterRequest) error {
	r := e.rooms[m.RID]
	if r == nil {
		r = &room{group: nano.NewGroup(m.RID)}
		e.rooms[m.RID] = r
	}
	s.Set(placeKey, place{m.Username, r})
	r.group.Add(s)
	r.names = append(r.names, m.Username)
	return s.Response(enterAnswer{r.names})
}

// AfterInit has those leave who have gone.
func (e *Entry) AfterInit() {
	session.Lifetime.OnClosed(func(s *session.Session) {
		if p, ok := s.Value(placeKey).(place); ok {
			p.room.group.Leave(s)
		}
	})
}

// Talk is chat.chatHandler.
type Talk struct{ component.Base }

type (
	sendRequest struct {
		Content string `json:"content"`
		Target  string `json:"target"`
	}
	onChat struct {
		Msg    string `json:"msg"`
		From   string `json:"from"`
		Target string `json:"target"`
	}
)

// Send pushes a message to the whole room.
func (*Talk) Send(s *session.Session, m *sendRequest) error {
	p, ok := s.Value(placeKey).(place)
	if !ok {
		return s.Response(map[string]int{"code": 500})
	}
	p.room.group.Broadcast("onChat", onChat{m.Content, p.name, m.Target})
	return s.Response(struct{}{})
}

func main() {
	ln := peer.Listen(peer.Address())
	addr := ln.Addr()
	ln.Close() // nano listens itself and does not tell where; nobody else gets this port so soon
	go announce(addr)

	components := &component.Components{}
	lower := component.WithNameFunc(strings.ToLower)
	components.Register(&Entry{rooms: map[string]*room{}}, component.WithName("connector.entryHandler"), lower)
	components.Register(&Talk{}, component.WithName("chat.chatHandler"), lower)
	nano.Listen(addr.String(),
		nano.WithIsWebsocket(true),
		nano.WithSerializer(json.NewSerializer()),
		nano.WithComponents(components),
	)
}

// announce waits until somebody listens.
func announce(addr net.Addr) {
	for {
		c, err := net.Dial("tcp", addr.String())
		if err == nil {
			c.Close()
			peer.Ready(addr, false)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
