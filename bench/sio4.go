package main

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// acked is socket.io 4 as those use it who have never heard of Pomelo: events, with acknowledgements as answers.
//
//	421["enter","room","name"]    431[]     or 431["why not"]
//	422["send","hello"]           432[]     likewise
//	                              42["chat",{"msg":"hello","from":"m00001"}]     to everybody in the room
type acked struct {
	engine
	roomless
}

func (d *acked) appendRequest(dst []byte, id uint32, route string, body []byte) []byte {
	switch route {
	case routeEnter:
		d.enter = id
		name, room := entering(body)
		return fmt.Appendf(dst, `42%d["enter",%q,%q]`, id, room, name)
	case routeSend:
		dst = fmt.Appendf(dst, `42%d["send","`, id)
		return append(append(dst, contentOf(body)...), `"]`...)
	}
	return d.engine.appendRequest(dst, id, route, body) // to which nobody listens
}

func (d *acked) take(packet []byte, s sink) (reply string, err error) {
	if d.sid != "" && len(packet) > 2 && packet[0] == '4' {
		switch packet[1] {
		case '2':
			return "", d.event(packet[2:], s)
		case '3':
			return "", d.ack(packet[2:], s)
		}
	}
	return d.engine.take(packet, s)
}

var ackedRoute = []byte("chat")

func (d *acked) event(b []byte, s sink) error {
	const usual, end = `["chat",{"msg":"`, `"}]`
	if bytes.HasPrefix(b, []byte(usual)) && bytes.HasSuffix(b, []byte(end)) {
		s.pushed(ackedRoute, b[len(`["chat",`):len(b)-1])
		return nil
	}
	var event []json.RawMessage
	var x struct{ Msg *string }
	switch err := json.Unmarshal(b, &event); {
	case err != nil:
		return fmt.Errorf("%w: 42%.100q", err, b)
	case len(event) != 2 || string(event[0]) != `"chat"` || json.Unmarshal(event[1], &x) != nil || x.Msg == nil:
		return fmt.Errorf("%w: 42%.100q", errPacket, b)
	}
	s.pushed(ackedRoute, event[1])
	return nil
}

func (d *acked) ack(b []byte, s sink) error {
	id, args := leadingID(b)
	switch {
	case id == 0 || !json.Valid(args) || args[0] != '[':
		return fmt.Errorf("%w: 43%.100q", errPacket, b)
	case string(args) == "[]":
		d.answered(s, id, nil)
	default:
		d.answered(s, id, args)
	}
	return nil
}
