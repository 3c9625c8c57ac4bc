// Command centrifuge is a chat on github.com/centrifugal/centrifuge: rooms are channels, which clients subscribe to and
// publish in by its own protocol, and the node broadcasts.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"

	"github.com/centrifugal/centrifuge"

	"github.com/pomelod/pomelod/bench/peers/internal/peer"
)

func main() {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(identify)
	node.OnConnect(admit)
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	ln := peer.Listen(peer.Address())
	http.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}))
	go func() { log.Fatal(http.Serve(ln, nil)) }()
	peer.Ready(ln.Addr(), false)
	peer.Wait()
}

// identify takes clients at their word.
func identify(_ context.Context, e centrifuge.ConnectEvent) (reply centrifuge.ConnectReply, err error) {
	var who struct{ Name string }
	if err := json.Unmarshal(e.Data, &who); err != nil || who.Name == "" {
		return reply, centrifuge.ErrorBadRequest
	}
	reply.Credentials = &centrifuge.Credentials{UserID: who.Name}
	return reply, nil
}

// admit lets a client subscribe to any room and publish where it is. Publications tell of their client: a chat says who speaks.
func admit(c *centrifuge.Client) {
	c.OnSubscribe(func(_ centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
		done(centrifuge.SubscribeReply{}, nil)
	})
	c.OnPublish(func(e centrifuge.PublishEvent, done centrifuge.PublishCallback) {
		if !c.IsSubscribed(e.Channel) {
			done(centrifuge.PublishReply{}, centrifuge.ErrorPermissionDenied)
			return
		}
		done(centrifuge.PublishReply{Options: centrifuge.PublishOptions{ClientInfo: e.ClientInfo}}, nil)
	})
}
