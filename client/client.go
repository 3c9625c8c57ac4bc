// Package client is a small client of the hybrid protocol over raw TCP, for bots, tests and tools. Bodies are JSON for its
// users; on the wire it uses the dictionary and the protobuf definitions of the server, if that has any. A Client is one
// connection. A Stay keeps its user in a room over lost connections.
package client

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// Client is one connection to a gate or a connector. Safe from any goroutine.
type Client struct {
	// Static after Dial.
	conn      net.Conn
	heartbeat time.Duration
	offer     offer
	user      json.RawMessage // that the server has answered
	extended  bool            // it tells the places of pushes
	pushes    chan Push
	closed    chan struct{} // closed when nothing more will come

	mu      sync.Mutex // guards what follows, and writing
	lastID  uint32
	waiting map[uint32]question
	err     error
}

// question is a request that has not been answered.
type question struct {
	route  string
	answer chan []byte // takes one, as JSON
}

// Push is a message that the server sent unasked.
type Push struct {
	Route string
	Body  []byte // JSON
}

// Place is where a push stands in the stream of its room.
type Place struct {
	Room string `json:"rid"`
	Seq  string `json:"seq"`  // to be compared as a whole, and within the room only; empty for what was said to one member alone
	Time int64  `json:"time"` // Unix milliseconds
}

// Place tells where the push stands, as extended clients are told (Options.Extended); else it is empty.
func (p Push) Place() (at Place) {
	_ = json.Unmarshal(p.Body, &at)
	return at
}

// maxPushes is how many pushes may wait for Next; with one more the client ends (ErrBacklog).
const maxPushes = 1024

// Errors of a Client.
var (
	// ErrRefused is wrapped by the error of a request that was answered with a code other than 200.
	ErrRefused = errors.New("refused")
	// ErrBacklog means that 1024 pushes waited for Next and another one came.
	ErrBacklog = errors.New("pushes are not taken: call Next")
	// ErrClosed means that Close was called.
	ErrClosed = errors.New("client is closed")
)

// KickedError is the error of a client that the server has sent away.
type KickedError struct {
	Reason string // docs/PROTOCOL.md has the server's own; programs and operators have theirs
}

func (e *KickedError) Error() string { return "kicked: " + e.Reason }

// Dial connects to addr ("host:port") and shakes hands. timeout bounds each of the two.
func Dial(addr string, timeout time.Duration) (*Client, error) {
	return Options{}.Dial(addr, timeout)
}

// DialTLS is Dial to a port with TLS. config may be nil: then the server's certificate must be for the host of addr, and of an issuer that
// this machine trusts.
func DialTLS(addr string, config *tls.Config, timeout time.Duration) (*Client, error) {
	return Options{}.DialTLS(addr, config, timeout)
}

// New shakes hands by a connection that is there already, in at most timeout, and owns it from then on. On an error it is closed.
func New(conn net.Conn, timeout time.Duration) (*Client, error) { return Options{}.New(conn, timeout) }

// Options are what a client says in its handshake. The zero Options say nothing.
type Options struct {
	// User is told to the server as the handshake's user, as JSON; nil is none. A token for the server's -auth is its member token, and what
	// proves that two sessions are one client's is its member secret.
	User any
	// Extended asks the server to tell with each push of a room where it stands there (Push.Place), so that a client that was cut off can return without a gap (Stay).
	// Bodies are JSON then, whatever protobuf definitions the server has.
	Extended bool
}

// Dial is Dial of this package with these options. A handshake that the server refuses is an error that wraps ErrRefused and shows its answer.
func (o Options) Dial(addr string, timeout time.Duration) (*Client, error) {
	conn, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return nil, err
	}
	return o.New(conn, timeout)
}

// DialTLS is DialTLS of this package with these options.
func (o Options) DialTLS(addr string, config *tls.Config, timeout time.Duration) (*Client, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: timeout}, "tcp", addr, config)
	if err != nil {
		return nil, err
	}
	return o.New(conn, timeout)
}

// New is New of this package with these options.
func (o Options) New(conn net.Conn, timeout time.Duration) (*Client, error) {
	c := &Client{conn: conn, pushes: make(chan Push, maxPushes), closed: make(chan struct{}), waiting: make(map[uint32]question)}
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if err := c.handshake(&o); err != nil {
		conn.Close()
		return nil, fmt.Errorf("handshake with %s: %w", conn.RemoteAddr(), err)
	}
	_ = conn.SetDeadline(time.Time{})
	go c.readLoop()
	return c, nil
}

// Extended tells whether the server tells the places of pushes, as Options.Extended asks it to.
func (c *Client) Extended() bool { return c.extended }

// User is what the server has answered to the handshake as user, as JSON; nil: nothing.
func (c *Client) User() json.RawMessage { return c.user }

func (c *Client) handshake(o *Options) error {
	hello := []byte(`{"sys":{"type":"go-tcp","version":"1"`)
	if o.Extended {
		hello = append(hello, `,"extended":1`...)
	}
	hello = append(hello, '}')
	if o.User != nil {
		user, err := json.Marshal(o.User)
		if err != nil {
			return err
		}
		hello = append(append(hello, `,"user":`...), user...)
	}
	if err := c.write(codec.PackageHandshake, append(hello, '}')); err != nil {
		return err
	}
	p, err := c.read()
	if err != nil {
		return err
	}
	var settings struct {
		Code int
		User json.RawMessage
		Sys  struct {
			Heartbeat int
			Extended  int
			offered
		}
	}
	if err := json.Unmarshal(p.Body, &settings); err != nil {
		return err
	}
	if settings.Code != 200 {
		return fmt.Errorf("%w: %s", ErrRefused, p.Body)
	}
	if c.offer, err = newOffer(&settings.Sys.offered); err != nil {
		return err
	}
	c.user, c.extended = settings.User, settings.Sys.Extended == 1
	c.heartbeat = time.Duration(settings.Sys.Heartbeat) * time.Second
	return c.write(codec.PackageHandshakeAck, nil)
}

// Request sends body, as JSON, to a route, waits for the answer and decodes it into reply, which may be nil. An answer with a code other
// than 200 is an error that wraps ErrRefused. Pushes that the server sent before the answer are ready for Next when Request returns.
func (c *Client) Request(route string, body, reply any) error {
	answer := make(chan []byte, 1)
	if err := c.send(codec.MessageRequest, route, body, answer); err != nil {
		return fmt.Errorf("%s: %w", route, err)
	}
	var b []byte
	select {
	case b = <-answer:
	case <-c.closed:
		return fmt.Errorf("%s: %w", route, c.reason())
	}
	var status struct{ Code int }
	if err := json.Unmarshal(b, &status); err == nil && status.Code != 0 && status.Code != 200 {
		return fmt.Errorf("%s: %w: %s", route, ErrRefused, b)
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(b, reply)
}

// Notify sends body, as JSON, to a route. There is no answer.
func (c *Client) Notify(route string, body any) error {
	return c.send(codec.MessageNotify, route, body, nil)
}

// Next waits for the next push. It fails when the connection has ended and all pushes before that were taken.
func (c *Client) Next() (Push, error) {
	select {
	case p := <-c.pushes:
		return p, nil
	default:
	}
	select {
	case p := <-c.pushes:
		return p, nil
	case <-c.closed:
		return Push{}, c.reason()
	}
}

// Close ends the connection. Requests and Next that wait fail with ErrClosed.
func (c *Client) Close() error {
	c.fail(ErrClosed)
	return nil
}

func (c *Client) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// fail ends everything, once.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		c.conn.Close()
		close(c.closed)
	}
}

func (c *Client) send(t codec.MessageType, route string, body any, answer chan []byte) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	m := codec.Message{Type: t, Route: []byte(route), Body: text}
	if answer != nil {
		c.lastID++
		m.ID = c.lastID
	}
	if err := c.offer.encode(&m); err != nil {
		return err
	}
	b, err := codec.AppendMessage(nil, m)
	if err != nil {
		return err
	}
	if err = c.write(codec.PackageData, b); err == nil && answer != nil {
		c.waiting[m.ID] = question{route, answer} // its answer cannot have been read yet: take needs mu
	}
	return err
}

func (c *Client) write(t codec.PackageType, body []byte) error {
	_, err := c.conn.Write(codec.AppendPackage(nil, t, body))
	return err
}

// read reads one package.
func (c *Client) read() (codec.Package, error) {
	var head [codec.PackageHeadBytes]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return codec.Package{}, err
	}
	p := codec.Package{Type: codec.PackageType(head[0]), Body: make([]byte, int(head[1])<<16|int(head[2])<<8|int(head[3]))}
	_, err := io.ReadFull(c.conn, p.Body)
	return p, err
}

func (c *Client) readLoop() {
	for {
		if c.heartbeat > 0 { // the server answers every heartbeat: silence means that it or the network is gone
			_ = c.conn.SetReadDeadline(time.Now().Add(3 * c.heartbeat))
		}
		p, err := c.read()
		if err == nil {
			err = c.take(p)
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

func (c *Client) take(p codec.Package) error {
	switch p.Type {
	case codec.PackageKick:
		var kick struct{ Reason string }
		_ = json.Unmarshal(p.Body, &kick)
		return &KickedError{kick.Reason}
	case codec.PackageHeartbeat:
		time.AfterFunc(c.heartbeat, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.err == nil {
				_ = c.write(codec.PackageHeartbeat, nil) // a failed write is seen by readLoop
			}
		})
	case codec.PackageData:
		m, err := codec.ParseMessage(p.Body)
		if err != nil {
			return err
		}
		if m.Type == codec.MessagePush {
			push, err := c.push(&m)
			if err != nil {
				return err
			}
			select {
			case c.pushes <- push:
				return nil
			default: // waiting would keep answers and heartbeats waiting too
				return ErrBacklog
			}
		}
		c.mu.Lock()
		asked, ok := c.waiting[m.ID]
		delete(c.waiting, m.ID)
		c.mu.Unlock()
		if !ok {
			return nil
		}
		body, err := c.offer.decode(asked.route, m.Body)
		if err != nil {
			return fmt.Errorf("answer to %s: %w", asked.route, err)
		}
		asked.answer <- body
	}
	return nil
}

func (c *Client) push(m *codec.Message) (Push, error) {
	route, err := c.offer.route(m)
	if err != nil {
		return Push{}, err
	}
	body, err := c.offer.decode(route, m.Body)
	if err != nil {
		return Push{}, fmt.Errorf("push %s: %w", route, err)
	}
	return Push{Route: route, Body: body}, nil
}
