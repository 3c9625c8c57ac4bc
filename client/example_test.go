//go:build linux

package client_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"strconv"
	"time"

	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/server"
)

// exampleServer runs a pomelod on free ports until end is called, and returns its gate's address.
func exampleServer() (gate string, end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	bound, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, nil, []string{"-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0", "-admin", "none"},
			func(addrs map[string]net.Addr) { bound <- addrs["gate"].String() })
	}()
	select {
	case gate = <-bound:
	case err := <-ended:
		log.Fatal(err)
	}
	return gate, func() { cancel(); <-ended }
}

// Ask the gate for a connector, enter a room there, say something and hear it.
func Example() {
	gate, end := exampleServer() // elsewhere: "chat.example.com:3014"
	defer end()

	g, err := client.Dial(gate, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	var connector struct {
		Host string
		Port int
	}
	err = g.Request("gate.gateHandler.queryEntry", map[string]string{"uid": "alice"}, &connector)
	g.Close()
	if err != nil {
		log.Fatal(err)
	}

	c, err := client.Dial(net.JoinHostPort(connector.Host, strconv.Itoa(connector.Port)), 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	var room struct{ Users []string }
	if err := c.Request("connector.entryHandler.enter", map[string]string{"username": "alice", "rid": "lobby"}, &room); err != nil {
		log.Fatal(err)
	}
	fmt.Println("in the room:", room.Users)
	if err := c.Request("chat.chatHandler.send", map[string]string{"content": "hello", "target": "*"}, nil); err != nil {
		log.Fatal(err)
	}
	push, err := c.Next()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s\n", push.Route, push.Body)
	// Output:
	// in the room: [alice]
	// onChat {"msg":"hello","from":"alice","target":"*"}
}

// A refusal is an error that wraps ErrRefused and shows the server's answer.
func ExampleClient_Request() {
	gate, end := exampleServer()
	defer end()
	c, err := client.Dial(gate, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(c.Request("gate.gateHandler.queryEntry", map[string]string{}, nil))
	// Output: gate.gateHandler.queryEntry: refused: {"code":500}
}

// connectorExample runs a pomelod on a free port until end is called, and returns its connector's address.
func connectorExample() (addr string, end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	bound, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, nil, []string{"-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none"},
			func(addrs map[string]net.Addr) { bound <- addrs["connector"].String() })
	}()
	select {
	case addr = <-bound:
	case err := <-ended:
		log.Fatal(err)
	}
	return addr, func() { cancel(); <-ended }
}

// A bot gives a secret in its handshake, so that a later connection of its can take its place in a room.
func ExampleOptions() {
	addr, end := connectorExample()
	defer end()
	for range 2 {
		c, err := client.Options{User: map[string]string{"secret": "only this bot knows it"}}.Dial(addr, 10*time.Second)
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		fmt.Println(c.Request("connector.entryHandler.enter", map[string]string{"username": "bot", "rid": "lobby"}, nil))
	}
	// Output:
	// <nil>
	// <nil>
}

// A notify has no answer; who is in the room is told by pages.
func ExampleClient_Members() {
	addr, end := connectorExample()
	defer end()
	c, err := client.Dial(addr, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Request("connector.entryHandler.enter", map[string]string{"username": "ann", "rid": "lobby"}, nil); err != nil {
		log.Fatal(err)
	}
	_ = c.Notify("chat.chatHandler.send", map[string]string{"content": "hello", "target": "*"})
	page, err := c.Members("", 100)
	fmt.Println(page.Users, page.Count, err)
	push, err := c.Next()
	fmt.Println(push.Route, err)
	// Output:
	// [ann] 1 <nil>
	// onChat <nil>
}
