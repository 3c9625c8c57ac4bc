package main

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// centrifugeClient speaks centrifuge's bidirectional protocol as JSON: a room is a channel, a message a publication in it. One
// frame holds one or more objects, each on a line of its own.
//
//	{"id":1,"connect":{"data":{"name":"m00001"}}}         {"id":1,"connect":{…}}
//	{"id":2,"subscribe":{"channel":"room"}}               {"id":2,"subscribe":{…}}
//	{"id":3,"publish":{"channel":"room","data":{…}}}      {"id":3,"publish":{}}     or {"id":3,"error":{…}}
//	                                                      {"push":{"channel":"room","pub":{"data":{"msg":"hello"},…}}}
//	{}                                                    {}     a ping, answered at once
//
// Whoever enters connects and then subscribes, so commands have the id of their request and one more.
type centrifugeClient struct {
	websocket
	roomless
	room string
	push []byte // how what is published in the room begins
}

// connectID is that of the connect command.
const connectID = 1

func newCentrifuge() *centrifugeClient {
	return &centrifugeClient{websocket: websocket{opcode: wsText}}
}

func (c *centrifugeClient) hello(s sink, host string) {
	s.send(appendUpgrade(s.buffer(), host, "/connection/websocket"))
}

func (c *centrifugeClient) heartbeat(sink) {} // pings are the server's

func (c *centrifugeClient) request(s sink, id uint32, route string, body []byte) {
	switch route {
	case routeEnter:
		var name string
		c.enter = id
		name, c.room = entering(body)
		c.push = fmt.Appendf(nil, `{"push":{"channel":%q,"pub":{`, c.room)
		c.say(s, fmt.Appendf(c.begin(s.buffer()), `{"id":%d,"connect":{"data":{"name":%q}}}`, connectID, name))
	case routeSend:
		b := fmt.Appendf(c.begin(s.buffer()), `{"id":%d,"publish":{"channel":%q,"data":{"msg":"`, id+1, c.room)
		c.say(s, append(append(b, contentOf(body)...), `"}}}`...))
	default:
		c.say(s, fmt.Appendf(c.begin(s.buffer()), `{"id":%d,"rpc":{"method":%q}}`, id+1, route)) // refused
	}
}

func (c *centrifugeClient) say(s sink, b []byte) { s.send(c.seal(b, wsText)) }

func (c *centrifugeClient) read(b []byte, s sink) (int, error) {
	return c.websocket.read(b, s, func(s sink) { s.ready(0) }, c.lines)
}

func (c *centrifugeClient) lines(text []byte, s sink) error {
	text = bytes.TrimSuffix(text, []byte("\n"))
	for more := true; more; {
		var line []byte
		line, text, more = bytes.Cut(text, []byte("\n"))
		if err := c.take(line, s); err != nil {
			return err
		}
	}
	return nil
}

var centrifugeRoute = []byte("pub")

func (c *centrifugeClient) take(line []byte, s sink) error {
	if len(c.push) > 0 && bytes.HasPrefix(line, c.push) && bytes.HasSuffix(line, []byte("}}}")) {
		s.pushed(centrifugeRoute, line)
		return nil
	}
	if string(line) == "{}" {
		c.say(s, append(c.begin(s.buffer()), "{}"...))
		return nil
	}
	var x struct {
		ID    uint32
		Error json.RawMessage
		Push  *struct {
			Channel string
			Pub     json.RawMessage
		}
	}
	switch err := json.Unmarshal(line, &x); {
	case err != nil:
		return fmt.Errorf("%w: %.100q", err, line)
	case x.ID == connectID && x.Error == nil:
		c.say(s, fmt.Appendf(c.begin(s.buffer()), `{"id":%d,"subscribe":{"channel":%q}}`, c.enter+1, c.room))
	case x.ID == connectID:
		c.answered(s, c.enter, line)
	case x.ID > connectID && x.Error != nil:
		c.answered(s, x.ID-1, line)
	case x.ID > connectID:
		c.answered(s, x.ID-1, nil)
	case x.Push != nil && x.Push.Pub != nil && x.Push.Channel == c.room:
		s.pushed(centrifugeRoute, x.Push.Pub)
	default:
		return fmt.Errorf("neither reply nor publication in the room: %.100q", line)
	}
	return nil
}
