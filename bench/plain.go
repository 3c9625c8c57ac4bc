package main

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// roomless are answers of servers without Pomelo's routes, said as members expect them of Pomelo: entering gives users, a
// message that is accepted nothing.
type roomless struct {
	enter uint32 // the request that enters
}

// answered tells s of an answer. refusal is what the server said if it refused, else empty.
func (r *roomless) answered(s sink, id uint32, refusal []byte) {
	switch {
	case len(refusal) > 0:
		s.answered(id, refusal)
	case id == r.enter:
		s.answered(id, []byte(`{"users":[]}`))
	default:
		s.answered(id, []byte("{}"))
	}
}

// entering takes the body of a request to enter apart.
func entering(body []byte) (name, room string) {
	var x struct{ Username, RID string }
	json.Unmarshal(body, &x) // ours
	return x.Username, x.RID
}

// contentOf is what a message says. The load generator makes no content that JSON would escape.
func contentOf(body []byte) []byte {
	body = bytes.TrimPrefix(body, []byte(`{"content":"`))
	return bytes.TrimSuffix(body, []byte(`","target":"*"}`))
}

// leadingID takes a number from the front of b; 0 if there is none, or one that no request had.
func leadingID(b []byte) (id uint32, rest []byte) {
	for len(b) > 0 && b[0] >= '0' && b[0] <= '9' && id < 1<<27 {
		id = id*10 + uint32(b[0]-'0')
		b = b[1:]
	}
	return id, b
}

// plainClient speaks the least that a chat can, JSON in text frames, one object in each:
//
//	{"id":1,"enter":"room","name":"m00001"}    {"id":1}     or {"id":1,"error":"why"}
//	{"id":2,"msg":"hello"}                     {"id":2}     likewise
//	                                           {"msg":"hello","from":"m00001"}     to everybody in the room
type plainClient struct {
	websocket
	roomless
}

func newPlain() *plainClient { return &plainClient{websocket: websocket{opcode: wsText}} }

func (p *plainClient) hello(s sink, host string) { s.send(appendUpgrade(s.buffer(), host, "/")) }
func (p *plainClient) heartbeat(sink)            {} // it has none

func (p *plainClient) request(s sink, id uint32, route string, body []byte) {
	b := p.begin(s.buffer())
	switch route {
	case routeEnter:
		p.enter = id
		name, room := entering(body)
		b = fmt.Appendf(b, `{"id":%d,"enter":%q,"name":%q}`, id, room, name)
	case routeSend:
		b = fmt.Appendf(b, `{"id":%d,"msg":"`, id)
		b = append(append(b, contentOf(body)...), `"}`...)
	default:
		b = fmt.Appendf(b, `{"id":%d}`, id) // refused
	}
	s.send(p.seal(b, wsText))
}

func (p *plainClient) read(b []byte, s sink) (int, error) {
	return p.websocket.read(b, s, func(s sink) { s.ready(0) }, p.take)
}

var plainRoute = []byte("msg")

func (p *plainClient) take(text []byte, s sink) error {
	if bytes.HasPrefix(text, []byte(`{"msg":"`)) && bytes.HasSuffix(text, []byte(`"}`)) {
		s.pushed(plainRoute, text)
		return nil
	}
	if after, ok := bytes.CutPrefix(text, []byte(`{"id":`)); ok {
		if id, rest := leadingID(after); id != 0 && string(rest) == "}" {
			p.answered(s, id, nil)
			return nil
		}
	}
	var x struct {
		ID    uint32
		Error string
		Msg   *string
	}
	switch err := json.Unmarshal(text, &x); {
	case err != nil:
		return fmt.Errorf("%w: %.100q", err, text)
	case x.ID != 0 && x.Error != "":
		p.answered(s, x.ID, text)
	case x.ID != 0:
		p.answered(s, x.ID, nil)
	case x.Msg != nil:
		s.pushed(plainRoute, text)
	default:
		return fmt.Errorf("neither answer nor message: %.100q", text)
	}
	return nil
}
