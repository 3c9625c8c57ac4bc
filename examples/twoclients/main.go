// Command twoclients has two users meet in a room of a pomelod: it asks the gate for a connector, enters, chats and leaves, and
// prints what each of the two is told. It speaks Pomelo's raw TCP form on package codec and shows how little a client needs.
//
//	go run ./examples/twoclients -gate 127.0.0.1:3014
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/pomelod/pomelod/codec"
)

func main() {
	gate := flag.String("gate", "127.0.0.1:3014", "`address` of the gate")
	flag.Parse()
	if err := Chat(*gate, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "twoclients: %v\n", err)
		os.Exit(1)
	}
}

const (
	room     = "twoclients"
	patience = 10 * time.Second // of one connection for all it waits for; below two heartbeat intervals, so that we need not send any
)

// Chat plays the conversation and writes it to out.
func Chat(gateAddr string, out io.Writer) error {
	alice, err := login(gateAddr, "alice", out)
	if err != nil {
		return err
	}
	defer alice.conn.Close()
	bob, err := login(gateAddr, "bob", out)
	if err != nil {
		return err
	}
	defer bob.conn.Close()

	for _, step := range []func() error{
		func() error { return alice.await("onAdd") },
		func() error { return alice.say("*", "Good morning, everybody!") },
		func() error { return bob.await("onChat") },
		func() error { return bob.say("alice", "Only you can read this. 你好") },
		bob.conn.Close,
		func() error { return alice.await("onLeave") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// client is one connection to a gate or a connector.
type client struct {
	name   string
	out    io.Writer
	conn   net.Conn
	unread []byte
	lastID uint32
}

// login asks the gate where to go, and enters the room there.
func login(gateAddr, name string, out io.Writer) (*client, error) {
	gate, err := dial(gateAddr, name, io.Discard)
	if err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	defer gate.conn.Close()
	var connector struct {
		Host string
		Port int
	}
	if err := gate.request("gate.gateHandler.queryEntry", map[string]string{"uid": name}, &connector); err != nil {
		return nil, err
	}

	c, err := dial(net.JoinHostPort(connector.Host, strconv.Itoa(connector.Port)), name, out)
	if err != nil {
		return nil, fmt.Errorf("connector: %w", err)
	}
	var members struct{ Users []string }
	if err := c.request("connector.entryHandler.enter", map[string]string{"username": name, "rid": room}, &members); err != nil {
		c.conn.Close()
		return nil, err
	}
	c.print("enters; in the room are", members.Users)
	return c, nil
}

// dial connects and shakes hands.
func dial(addr, name string, out io.Writer) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, fmt.Errorf("%w (is pomelod running? make run starts it)", err)
	}
	c := &client{name: name, out: out, conn: conn}
	if err := c.handshake(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return c, nil
}

func (c *client) handshake() error {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if err := c.write(codec.PackageHandshake, []byte(`{"sys":{"type":"twoclients","version":"1"}}`)); err != nil {
		return err
	}
	p, err := c.read()
	if err != nil {
		return err
	}
	var settings struct {
		Code int
		Sys  struct{ UseDict, UseProto bool }
	}
	if err := json.Unmarshal(p.Body, &settings); err != nil {
		return err
	}
	switch {
	case settings.Code != 200:
		return fmt.Errorf("the server answers %s", p.Body)
	case settings.Sys.UseDict || settings.Sys.UseProto:
		return errors.New("this example speaks JSON with plain routes only; start pomelod without -config")
	}
	return c.write(codec.PackageHandshakeAck, nil)
}

// request asks and reads the answer into reply. Pushes that come first are printed.
func (c *client) request(route string, body map[string]string, reply any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	c.lastID++
	m, err := codec.AppendMessage(nil, codec.Message{Type: codec.MessageRequest, ID: c.lastID, Route: []byte(route), Body: text})
	if err != nil {
		return err
	}
	if err := c.write(codec.PackageData, m); err != nil {
		return fmt.Errorf("%s: %w", route, err)
	}
	answer, err := c.next(func(m codec.Message) bool { return m.Type == codec.MessageResponse && m.ID == c.lastID })
	if err != nil {
		return fmt.Errorf("%s: %w", route, err)
	}
	var refusal struct{ Code int }
	if err := json.Unmarshal(answer.Body, &refusal); err == nil && refusal.Code == 500 {
		return fmt.Errorf("%s with %s: refused", route, text)
	}
	return json.Unmarshal(answer.Body, reply)
}

// say sends content to the whole room ("*") or to one of its members.
func (c *client) say(target, content string) error {
	return c.request("chat.chatHandler.send", map[string]string{"content": content, "target": target}, new(struct{}))
}

// await prints pushes up to and including one of this route.
func (c *client) await(route string) error {
	_, err := c.next(func(m codec.Message) bool { return m.Type == codec.MessagePush && string(m.Route) == route })
	if err != nil {
		return fmt.Errorf("%s waits for %s: %w", c.name, route, err)
	}
	return nil
}

// next reads messages until one is wanted, and prints the pushes among them.
func (c *client) next(wanted func(codec.Message) bool) (codec.Message, error) {
	for {
		p, err := c.read()
		if err != nil {
			return codec.Message{}, err
		}
		if p.Type != codec.PackageData {
			continue // a heartbeat
		}
		m, err := codec.ParseMessage(p.Body)
		if err != nil {
			return codec.Message{}, err
		}
		if m.Type == codec.MessagePush {
			c.print("is told", string(m.Body))
		}
		if wanted(m) {
			return m, nil
		}
	}
}

// read returns the next package, which is valid until the next read.
func (c *client) read() (codec.Package, error) {
	for {
		p, n, err := codec.ParsePackage(c.unread, codec.MaxPackageBody)
		if n > 0 || err != nil {
			c.unread = c.unread[n:]
			return p, err
		}
		var b [4096]byte
		if n, err = c.conn.Read(b[:]); err != nil {
			return codec.Package{}, err
		}
		c.unread = append(c.unread, b[:n]...)
	}
}

func (c *client) write(t codec.PackageType, body []byte) error {
	_, err := c.conn.Write(codec.AppendPackage(nil, t, body))
	return err
}

func (c *client) print(what string, detail any) {
	fmt.Fprintf(c.out, "%-5s %s %v\n", c.name, what, detail)
}
