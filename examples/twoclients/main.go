// Command twoclients has two users meet in a room of a pomelod: it asks the gate for a connector, enters, chats and leaves, and
// prints what each of the two is told.
//
//	go run ./examples/twoclients -gate 127.0.0.1:3014
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/pomelod/pomelod/client"
)

func main() {
	gate := flag.String("gate", "127.0.0.1:3014", "`address` of the gate")
	flag.Parse()
	if err := Chat(*gate, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "twoclients: %v (is pomelod running? make run starts it)\n", err)
		os.Exit(1)
	}
}

const (
	room    = "twoclients"
	timeout = 10 * time.Second
)

// Chat plays the conversation and writes it to out.
func Chat(gate string, out io.Writer) error {
	alice, err := join(gate, "alice", out)
	if err != nil {
		return err
	}
	defer alice.Close()
	bob, err := join(gate, "bob", out)
	if err != nil {
		return err
	}
	defer bob.Close()

	for _, step := range []func() error{
		alice.told,
		func() error { return alice.say("*", "Good morning, everybody!") },
		alice.told, bob.told,
		func() error { return bob.say("alice", "Only you can read this. 你好") },
		alice.told,
		bob.Close,
		alice.told,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// user is somebody in the room.
type user struct {
	*client.Client
	name string
	out  io.Writer
}

// join asks the gate where to go, and enters the room there.
func join(gate, name string, out io.Writer) (*user, error) {
	g, err := client.Dial(gate, timeout)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	var connector struct {
		Host string
		Port int
	}
	if err := g.Request("gate.gateHandler.queryEntry", map[string]string{"uid": name}, &connector); err != nil {
		return nil, err
	}
	c, err := client.Dial(net.JoinHostPort(connector.Host, strconv.Itoa(connector.Port)), timeout)
	if err != nil {
		return nil, err
	}
	var members struct{ Users []string }
	if err := c.Request("connector.entryHandler.enter", map[string]string{"username": name, "rid": room}, &members); err != nil {
		c.Close()
		return nil, err
	}
	fmt.Fprintf(out, "%-5s enters; in the room are %v\n", name, members.Users)
	return &user{c, name, out}, nil
}

// say sends content to the whole room ("*") or to one of its members. The server knows room and sender itself, but the sample's
// protobuf definitions demand both, as its page sends them.
func (u *user) say(target, content string) error {
	return u.Request("chat.chatHandler.send", map[string]string{"rid": room, "from": u.name, "content": content, "target": target}, nil)
}

// told waits for the next push and prints it.
func (u *user) told() error {
	p, err := u.Next()
	if err == nil {
		fmt.Fprintf(u.out, "%-5s is told %s\n", u.name, p.Body)
	}
	return err
}
