// Command coder is a chat on github.com/coder/websocket: a goroutine for each connection, and a write to each member for each message. With -tls it speaks TLS by
// crypto/tls, as net/http does.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"

	"github.com/coder/websocket"

	"github.com/pomelod/pomelod/bench/peers/internal/chat"
	"github.com/pomelod/pomelod/bench/peers/internal/peer"
)

// conn is a websocket.Conn as the chat wants it.
type conn struct{ *websocket.Conn }

func (c conn) Say(text []byte) { _ = c.Write(context.Background(), websocket.MessageText, text) }

func broadcast(members map[conn]struct{}, text []byte) {
	for m := range members {
		m.Say(text)
	}
}

func main() {
	secured := flag.Bool("tls", false, "speak TLS, with a certificate made at the start")
	ln := peer.Listen(peer.Address())
	if *secured {
		ln = peer.Secure(ln)
	}
	room := chat.Chat[conn]{Broadcast: broadcast}
	go func() { log.Fatal(http.Serve(ln, serve(&room))) }()
	peer.Ready(ln.Addr(), *secured)
	peer.Wait()
}

func serve(room *chat.Chat[conn]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // any origin
		if err != nil {
			return
		}
		var m chat.Member[conn]
		c := conn{ws}
		defer room.Leave(c, &m)
		for {
			_, text, err := ws.Read(context.Background())
			if err != nil {
				return
			}
			room.Take(c, &m, text)
		}
	}
}
