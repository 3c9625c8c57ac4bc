// Command go plays hybrid clients of the type js-websocket for the interop tests, on gobwas/ws and without anything of
// pomelod's. It reads commands and writes events as lines of JSON, as lib/foreign.js says.
//
// There are two: "go" is a bot, which sends no Origin and reads protobuf strings as UTF-8, as NetEase's own clients outside a
// browser do; "go page" sends an Origin and reads them as pages do, CESU-8. Both read only the first package of a WebSocket frame, as
// a family of Java clients does, and take JSON by encoding/json alone.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

type command struct {
	Do       string          `json:"do"`
	Client   int             `json:"client"`
	Kind     string          `json:"kind"`
	Host     string          `json:"host"`
	Port     int             `json:"port"`
	ID       int             `json:"id"`
	Route    string          `json:"route"`
	Body     json.RawMessage `json:"body"`
	Messages []command       `json:"messages"`
}

type event struct {
	Event  string `json:"event"`
	Client int    `json:"client"`
	ID     int    `json:"id,omitempty"`
	Route  string `json:"route,omitempty"`
	Body   any    `json:"body,omitempty"`
	Reason string `json:"reason,omitempty"`
}

var events struct {
	sync.Mutex
	*json.Encoder
}

func tell(e event) {
	events.Lock()
	defer events.Unlock()
	if err := events.Encode(e); err != nil {
		log.Fatal(err)
	}
}

func main() {
	log.SetFlags(0)
	events.Encoder = json.NewEncoder(os.Stdout)
	clients := map[int]*client{}
	lines := json.NewDecoder(bufio.NewReaderSize(os.Stdin, 1<<16))
	for {
		var c command
		if err := lines.Decode(&c); err != nil {
			return // whoever asked is gone
		}
		if c.Do == "connect" {
			clients[c.Client] = newClient(c)
			go clients[c.Client].run(c)
			continue
		}
		clients[c.Client].do(c)
	}
}

const (
	handshake byte = iota + 1
	ack
	heartbeat
	data
	kick
)

type field struct {
	Type string `json:"type"`
}

type settings struct {
	Code int `json:"code"`
	Sys  struct {
		Heartbeat   int               `json:"heartbeat"`
		RouteToCode map[string]uint16 `json:"routeToCode"`
		CodeToRoute map[uint16]string `json:"codeToRoute"`
		Protos      struct {
			Server map[string]map[string]json.RawMessage `json:"server"`
		} `json:"protos"`
	} `json:"sys"`
}

type call struct {
	id    int // of the caller
	route string
}

// client is one hybrid client. What mu guards is shared by the reader, the writer of commands and the timer.
type client struct {
	number int
	isPage bool
	conn   net.Conn
	settings

	mu       sync.Mutex
	lastID   int
	waiting  map[int]call
	isFrozen bool
	timer    *time.Timer
}

func newClient(c command) *client {
	return &client{number: c.Client, isPage: c.Kind == "go page", waiting: map[int]call{}}
}

// run connects and reads until the end.
func (c *client) run(with command) {
	err := c.connect(with)
	if err != nil {
		tell(event{Event: "failed", Client: c.number, Reason: err.Error()})
	} else {
		tell(event{Event: "connected", Client: c.number})
		err = c.read()
	}
	if c.conn != nil {
		c.conn.Close()
	}
	c.freeze()
	tell(event{Event: "closed", Client: c.number, Reason: err.Error()})
}

func (c *client) connect(with command) error {
	dialer := ws.Dialer{}
	if c.isPage {
		dialer.Header = ws.HandshakeHeaderHTTP(http.Header{"Origin": {"http://page.example"}})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, early, _, err := dialer.Dial(ctx, fmt.Sprintf("ws://%s:%d/", with.Host, with.Port))
	if err != nil {
		return err
	}
	if early != nil {
		return errors.New("the server spoke first")
	}
	c.conn = conn
	c.send(pack(handshake, []byte(`{"sys":{"type":"js-websocket","version":"0.0.1"},"user":{}}`)))
	kind, body, err := c.next()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, &c.settings); err != nil || kind != handshake || c.Code != 200 {
		return fmt.Errorf("handshake: package %d, %s", kind, body)
	}
	c.send(pack(ack, nil))
	return nil
}

// next is the first package of the next frame. A second one in it would go by unseen.
func (c *client) next() (kind byte, body []byte, err error) {
	frame, err := wsutil.ReadServerBinary(c.conn)
	if err != nil {
		return 0, nil, err
	}
	length := int(frame[1])<<16 | int(binary.BigEndian.Uint16(frame[2:]))
	return frame[0], frame[4 : 4+length], nil
}

func (c *client) read() error {
	for {
		kind, body, err := c.next()
		if err != nil {
			return err
		}
		switch kind {
		case heartbeat:
			tell(event{Event: "heartbeat", Client: c.number})
			c.beatLater()
		case data:
			c.message(body)
		case kick:
			tell(event{Event: "push", Client: c.number, Route: "onKick", Body: parse(body)})
		default:
			log.Fatalf("a package of type %d", kind)
		}
	}
}

func (c *client) beatLater() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isFrozen || c.Sys.Heartbeat == 0 {
		return
	}
	c.timer = time.AfterFunc(time.Duration(c.Sys.Heartbeat)*time.Second, func() { c.send(pack(heartbeat, nil)) })
}

func (c *client) freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isFrozen = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

// message reads a push or a response.
func (c *client) message(text []byte) {
	flag, rest := text[0], text[1:]
	switch flag >> 1 & 7 {
	case 2:
		id, n := binary.Uvarint(rest)
		c.mu.Lock()
		call, ok := c.waiting[int(id)]
		delete(c.waiting, int(id))
		c.mu.Unlock()
		if !ok {
			log.Fatalf("an answer to %d, which nobody waits for", id)
		}
		tell(event{Event: "answer", Client: c.number, ID: call.id, Body: c.decode(call.route, rest[n:])})
	case 3:
		var route string
		if flag&1 != 0 {
			route, rest = c.Sys.CodeToRoute[binary.BigEndian.Uint16(rest)], rest[2:]
		} else {
			route, rest = string(rest[1:1+rest[0]]), rest[1+rest[0]:]
		}
		tell(event{Event: "push", Client: c.number, Route: route, Body: c.decode(route, rest)})
	default:
		log.Fatalf("a message with flag %#x", flag)
	}
}

func parse(text []byte) any {
	var body any
	if err := json.Unmarshal(text, &body); err != nil {
		log.Fatalf("%v: %s", err, text)
	}
	return body
}

// decode reads a body as its route has it. All that a chat defines are strings.
func (c *client) decode(route string, text []byte) any {
	proto, ok := c.Sys.Protos.Server[route]
	if !ok {
		if c.isPage {
			text = []byte(fromCESU(text))
		}
		return parse(text)
	}
	var names map[uint64]string
	if err := json.Unmarshal(proto["__tags"], &names); err != nil {
		log.Fatal(err)
	}
	body := map[string]string{}
	for len(text) > 0 {
		head, n := binary.Uvarint(text)
		length, m := binary.Uvarint(text[n:])
		name, value := names[head>>3], text[n+m:n+m+int(length)]
		var is field
		if err := json.Unmarshal(proto[name], &is); err != nil || is.Type != "string" {
			log.Fatalf("field %q of %s is no string", name, route)
		}
		if body[name] = string(value); c.isPage {
			body[name] = fromCESU(value)
		}
		if !utf8.ValidString(body[name]) {
			log.Fatalf("%s of %s is not what this client reads: % x", name, route, value)
		}
		text = text[n+m+int(length):]
	}
	return body
}

// fromCESU reads as pages do: each lead byte says one, two or three bytes, and each of these is a UTF-16 code unit.
func fromCESU(text []byte) string {
	var units []uint16
	for at := 0; at < len(text); {
		switch lead := uint16(text[at]); {
		case lead < 0x80:
			units, at = append(units, lead), at+1
		case lead < 0xe0:
			units, at = append(units, lead&0x1f<<6|uint16(text[at+1])&0x3f), at+2
		default:
			units, at = append(units, lead&0xf<<12|uint16(text[at+1])&0x3f<<6|uint16(text[at+2])&0x3f), at+3
		}
	}
	return string(utf16.Decode(units))
}

// do carries out a command.
func (c *client) do(with command) {
	switch with.Do {
	case "request", "notify":
		c.send(c.encode(with))
	case "batch":
		var all []byte
		for _, message := range with.Messages {
			all = append(all, frame(ws.NewBinaryFrame(c.encode(message)))...)
		}
		c.write(all)
	case "leave":
		c.write(frame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))))
	case "vanish":
		c.conn.Close()
	case "cut":
		_ = c.conn.(*net.TCPConn).SetLinger(0)
		c.conn.Close()
	case "freeze":
		c.freeze()
	default:
		log.Fatalf("no such command: %s", with.Do)
	}
}

func (c *client) encode(with command) []byte {
	flag := byte(0)
	if with.Do == "notify" {
		flag = 1 << 1
	}
	code, hasCode := c.Sys.RouteToCode[with.Route]
	if hasCode {
		flag |= 1
	}
	message := []byte{flag}
	if with.Do == "request" {
		c.mu.Lock()
		c.lastID++
		c.waiting[c.lastID] = call{with.ID, with.Route}
		message = binary.AppendUvarint(message, uint64(c.lastID))
		c.mu.Unlock()
	}
	if hasCode {
		message = binary.BigEndian.AppendUint16(message, code)
	} else {
		message = append(append(message, byte(len(with.Route))), with.Route...)
	}
	body := with.Body
	if c.isPage {
		body = toCESU(body)
	}
	return pack(data, append(message, body...))
}

// toCESU writes as pages do, one UTF-16 code unit after the other.
func toCESU(text []byte) []byte {
	var out []byte
	for _, unit := range utf16.Encode([]rune(string(text))) {
		if utf16.IsSurrogate(rune(unit)) {
			out = append(out, byte(0xe0|unit>>12), byte(0x80|unit>>6&0x3f), byte(0x80|unit&0x3f))
		} else {
			out = utf8.AppendRune(out, rune(unit))
		}
	}
	return out
}

func (c *client) send(pkg []byte) {
	c.write(frame(ws.NewBinaryFrame(pkg)))
}

// frame is a frame as it travels, in one piece, so that timer and commands may write at one time.
func frame(f ws.Frame) []byte {
	return ws.MustCompileFrame(ws.MaskFrameInPlace(f))
}

func (c *client) write(bytes []byte) {
	_, _ = c.conn.Write(bytes) // the reader sees an error as well
}

func pack(kind byte, body []byte) []byte {
	n := len(body)
	return append([]byte{kind, byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}
