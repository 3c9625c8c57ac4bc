// Command gws is a chat on github.com/lxzan/gws: each message is framed once, and its Broadcaster queues that for every
// member.
package main

import (
	"log"
	"net/http"

	"github.com/lxzan/gws"

	"github.com/pomelod/pomelod/bench/peers/internal/chat"
	"github.com/pomelod/pomelod/bench/peers/internal/peer"
)

// conn is a gws.Conn as the chat wants it.
type conn struct{ *gws.Conn }

func (c conn) Say(text []byte) { c.WriteMessage(gws.OpcodeText, text) }

const memberKey = "member"

type handler struct {
	gws.BuiltinEventHandler
	chat chat.Chat[conn]
}

func (h *handler) OnOpen(c *gws.Conn) { c.Session().Store(memberKey, new(chat.Member[conn])) }

func (h *handler) OnClose(c *gws.Conn, _ error) { h.chat.Leave(conn{c}, member(c)) }

func (h *handler) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	h.chat.Take(conn{c}, member(c), m.Bytes())
}

func member(c *gws.Conn) *chat.Member[conn] {
	m, _ := c.Session().Load(memberKey)
	return m.(*chat.Member[conn])
}

func broadcast(members map[conn]struct{}, text []byte) {
	b := gws.NewBroadcaster(gws.OpcodeText, text)
	defer b.Close()
	for m := range members {
		b.Broadcast(m.Conn)
	}
}

func main() {
	ln := peer.Listen(peer.Address())
	upgrader := gws.NewUpgrader(&handler{chat: chat.Chat[conn]{Broadcast: broadcast}}, nil)
	go func() {
		log.Fatal(http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := upgrader.Upgrade(w, r)
			if err != nil {
				return
			}
			go c.ReadLoop() // so that the request can be collected
		})))
	}()
	peer.Ready(ln.Addr(), false)
	peer.Wait()
}
