// Command nbio is a chat on github.com/lesismal/nbio, with its WebSocket and its pollers: WriteMessage to every member, which
// does not block there.
package main

import (
	"log"
	"net"
	"net/http"

	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"

	"github.com/pomelod/pomelod/bench/peers/internal/chat"
	"github.com/pomelod/pomelod/bench/peers/internal/peer"
)

// conn is a websocket.Conn as the chat wants it.
type conn struct{ *websocket.Conn }

func (c conn) Say(text []byte) { c.WriteMessage(websocket.TextMessage, text) }

func broadcast(members map[conn]struct{}, text []byte) {
	for m := range members {
		m.WriteMessage(websocket.TextMessage, text)
	}
}

func newUpgrader() *websocket.Upgrader {
	c := chat.Chat[conn]{Broadcast: broadcast}
	u := websocket.NewUpgrader()
	u.OnOpen(func(ws *websocket.Conn) { ws.SetSession(new(chat.Member[conn])) })
	u.OnMessage(func(ws *websocket.Conn, _ websocket.MessageType, text []byte) { c.Take(conn{ws}, member(ws), text) })
	u.OnClose(func(ws *websocket.Conn, _ error) { c.Leave(conn{ws}, member(ws)) })
	return u
}

func member(ws *websocket.Conn) *chat.Member[conn] {
	return ws.Session().(*chat.Member[conn])
}

func main() {
	upgrader := newUpgrader()
	ln := peer.Listen(peer.Address())
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network: "tcp",
		Addrs:   []string{ln.Addr().String()},
		Listen:  func(string, string) (net.Listener, error) { return ln, nil },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { upgrader.Upgrade(w, r, nil) }),
	})
	if err := engine.Start(); err != nil {
		log.Fatal(err)
	}
	peer.Ready(ln.Addr(), false)
	peer.Wait()
}
