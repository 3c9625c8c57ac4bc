//go:build linux

package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/server"
)

// programExample runs a program on free ports until end is called, and returns the address of a listener.
func programExample(listener string, a *app.App, flags ...string) (addr string, end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	bound, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		flags := append([]string{"-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none"}, flags...)
		ended <- server.Run(ctx, a, flags, func(addrs map[string]net.Addr) { bound <- addrs[listener].String() })
	}()
	select {
	case addr = <-bound:
	case err := <-ended:
		log.Fatal(err)
	}
	return addr, func() { cancel(); <-ended }
}

// enterLobby enters a room.
func enterLobby(c *client.Client, name string) error {
	return c.Request("connector.entryHandler.enter", map[string]string{"username": name, "rid": "lobby"}, nil)
}

func ExampleDial() {
	addr, end := connectorExample() // elsewhere: "chat.example.com:3050"
	defer end()
	c, err := client.Dial(addr, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(enterLobby(c, "ann"))
	// Output: <nil>
}

// Where the server has a dictionary of routes and protobuf definitions, the client uses both, and whoever uses the client sees nothing of it: bodies are JSON as ever.
func ExampleDial_dictionary() {
	dir, err := os.MkdirTemp("", "pomelo")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, text := range map[string]string{
		"dictionary.json":   `["onChat"]`,
		"serverProtos.json": `{"onChat":{"required string msg":1,"required string from":2,"required string target":3}}`,
		"clientProtos.json": `{"chat.chatHandler.send":{"required string content":1,"required string target":2}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			log.Fatal(err)
		}
	}
	addr, end := programExample("connector", nil, "-config", dir)
	defer end()
	c, err := client.Dial(addr, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := enterLobby(c, "ann"); err != nil {
		log.Fatal(err)
	}
	if err := c.Request("chat.chatHandler.send", map[string]string{"content": "hello", "target": "*"}, nil); err != nil {
		log.Fatal(err)
	}
	p, err := c.Next()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s\n", p.Route, p.Body)
	// Output: onChat {"msg":"hello","from":"ann","target":"*"}
}

// A connection may come from anywhere: a proxy, a network namespace, or with options of its own.
func ExampleNew() {
	addr, end := connectorExample()
	defer end()
	dialer := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(conn, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(enterLobby(c, "ann"))
	// Output: <nil>
}

// With a nil config the server's certificate must be one that this machine trusts. That of a server that was started to try TLS out (-tls-self) is not.
func ExampleDialTLS() {
	addr, end := programExample("connector-tls", nil, "-tls-self", "-tls-listen", "127.0.0.1:0", "-tls-gate", "none")
	defer end()
	_, err := client.DialTLS(addr, nil, 10*time.Second)
	var untrusted *tls.CertificateVerificationError
	fmt.Println("trusted:", !errors.As(err, &untrusted))

	c, err := client.DialTLS(addr, &tls.Config{InsecureSkipVerify: true}, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(enterLobby(c, "ann"))
	// Output:
	// trusted: false
	// <nil>
}

// What a program's App.OnHandshake answers is User.
func ExampleClient_User() {
	a := app.New()
	a.OnHandshake(func(h *app.Handshake) (any, error) {
		var given struct{ Token string }
		if err := h.Decode(&given); err != nil || given.Token != "ann's" {
			return nil, &app.Error{Code: 401}
		}
		return map[string]int{"coins": 3}, nil
	})
	addr, end := programExample("connector", a)
	defer end()
	c, err := client.Options{User: map[string]string{"token": "ann's"}}.Dial(addr, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(string(c.User()))
	_, err = client.Dial(addr, 10*time.Second)
	fmt.Println(errors.Is(err, client.ErrRefused))
	// Output:
	// {"coins":3}
	// true
}

// The same options serve for a connection of one's own, and for TLS.
func ExampleOptions_New() {
	addr, end := connectorExample()
	defer end()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.Options{Extended: true}.New(conn, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(c.Extended())
	// Output: true
}

func ExampleOptions_DialTLS() {
	addr, end := programExample("connector-tls", nil, "-tls-self", "-tls-listen", "127.0.0.1:0", "-tls-gate", "none")
	defer end()
	options := client.Options{User: map[string]string{"secret": "only this bot knows it"}}
	c, err := options.DialTLS(addr, &tls.Config{InsecureSkipVerify: true}, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(enterLobby(c, "bot"))
	// Output: <nil>
}

// Extended clients are told where a push stands, and may give that place as since when they enter again. Stay does so by itself.
func ExamplePush_Place() {
	addr, end := connectorExample()
	defer end()
	c, err := client.Options{Extended: true}.Dial(addr, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := enterLobby(c, "ann"); err != nil {
		log.Fatal(err)
	}
	if err := c.Notify("chat.chatHandler.send", map[string]string{"content": "hello", "target": "*"}); err != nil {
		log.Fatal(err)
	}
	p, err := c.Next()
	if err != nil {
		log.Fatal(err)
	}
	at := p.Place()
	fmt.Println(at.Room, at.Seq != "", time.Since(time.UnixMilli(at.Time)) < time.Hour)
	// Output: lobby true true
}

// What was said is read by pages, the newest first.
func ExampleClient_History() {
	addr, end := connectorExample()
	defer end()
	c, err := client.Dial(addr, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := enterLobby(c, "ann"); err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"one", "two", "three"} {
		if err := c.Request("chat.chatHandler.send", map[string]string{"content": text, "target": "*"}, nil); err != nil {
			log.Fatal(err)
		}
	}
	for before, more := "", true; more; {
		page, err := c.History(before, 2)
		if err != nil {
			log.Fatal(err)
		}
		for _, said := range page.Messages {
			fmt.Printf("%s: %s\n", said.From, said.Msg)
		}
		if more = page.More; more {
			before = page.Messages[0].Seq
		}
	}
	// Output:
	// ann: "two"
	// ann: "three"
	// ann: "one"
}

// Whoever was kicked is told why.
func ExampleKickedError() {
	a := app.New()
	addr, end := programExample("connector", a)
	defer end()
	c, err := client.Dial(addr, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := enterLobby(c, "ann"); err != nil {
		log.Fatal(err)
	}
	if err := a.Room("lobby").Kick("ann", "closing time"); err != nil {
		log.Fatal(err)
	}
	_, err = c.Next()
	var kicked *client.KickedError
	if errors.As(err, &kicked) {
		fmt.Println(kicked.Reason)
	}
	// Output: closing time
}

// A bot that stays in its room, whatever becomes of its connections, and misses nothing.
func ExampleStay() {
	addr, end := connectorExample()
	defer end()
	options := client.Options{Extended: true, User: map[string]string{"secret": "only this bot knows it"}}
	bot, err := client.Stay{
		Dial:     func(context.Context) (*client.Client, error) { return options.Dial(addr, 10*time.Second) },
		User:     "bot",
		Room:     "lobby",
		Returned: func(e client.Entered) { fmt.Println("back; told everything:", e.Complete) },
	}.Enter(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer bot.Close()
	fmt.Println("in the room:", bot.Entered().Users)

	ann, err := client.Dial(addr, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer ann.Close()
	if err := enterLobby(ann, "ann"); err != nil {
		log.Fatal(err)
	}
	bot.Client().Close() // as a network may do
	if err := ann.Request("chat.chatHandler.send", map[string]string{"content": "are you there?", "target": "*"}, nil); err != nil {
		log.Fatal(err)
	}
	for {
		p, err := bot.Next()
		if err != nil {
			log.Fatal(err)
		}
		if p.Route == "onChat" {
			break
		}
	}
	fmt.Println(bot.Request("chat.chatHandler.send", map[string]string{"content": "yes", "target": "*"}, nil))
	// Output:
	// in the room: [bot]
	// back; told everything: true
	// <nil>
}
