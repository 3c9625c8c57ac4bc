package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pomelod/pomelod/codec"
)

// offer is what the handshake of a server tells of routes and messages: numbers for routes, and definitions of messages in
// pomelo-protobuf. Static after construction. The zero offer is a server's that has neither.
type offer struct {
	codes  map[string]uint16
	routes map[uint16]string
	protos *codec.Protos
}

// offered is the part of a handshake's sys that offer is made of (protocol.md §2.4).
type offered struct {
	UseDict, UseProto bool
	Dict              map[string]uint16
	RouteToCode       map[string]uint16 // what dict was called in 2013
	Protos            *struct{ Server, Client json.RawMessage }
}

func newOffer(in *offered) (o offer, err error) {
	if in.Dict == nil {
		in.Dict = in.RouteToCode
	}
	if in.UseDict && in.Dict == nil || in.UseProto && in.Protos == nil {
		return o, fmt.Errorf("the server offers a dictionary or protobuf and does not send it")
	}
	o.codes, o.routes = in.Dict, make(map[uint16]string, len(in.Dict))
	for route, code := range in.Dict {
		o.routes[code] = route
	}
	if in.Protos == nil {
		return o, nil
	}
	server, err := protoFile(in.Protos.Server)
	if err != nil {
		return o, fmt.Errorf("the server's protobuf definitions: %w", err)
	}
	client, err := protoFile(in.Protos.Client)
	if err != nil {
		return o, fmt.Errorf("the clients' protobuf definitions: %w", err)
	}
	o.protos, err = codec.ParseProtos(server, client)
	return o, err
}

// encode makes m, whose body is JSON, what the server wants: a number for its route, and protobuf where a definition says so.
func (o *offer) encode(m *codec.Message) error {
	route := string(m.Route)
	if def := o.protos.Client(route); def != nil && !bytes.Equal(m.Body, []byte("{}")) { // nothing at all has no form in protobuf
		body, err := def.AppendEncode(nil, m.Body, codec.ProtoOptions{})
		if err != nil {
			return err
		}
		m.Body = body
	}
	if code, ok := o.codes[route]; ok {
		m.Code, m.Compressed, m.Route = code, true, nil
	}
	return nil
}

// route is the route of a message that was received.
func (o *offer) route(m *codec.Message) (string, error) {
	if !m.Compressed {
		return string(m.Route), nil
	}
	route, ok := o.routes[m.Code]
	if !ok {
		return "", fmt.Errorf("the server used route number %d, which its dictionary does not have", m.Code)
	}
	return route, nil
}

// decode is the body of a push or an answer on route, as JSON.
func (o *offer) decode(route string, body []byte) ([]byte, error) {
	def := o.protos.Server(route)
	if def == nil || codec.LooksLikeJSON(body) {
		return body, nil
	}
	return def.AppendDecode(nil, body)
}

// protoFile makes of definitions as a handshake has them, {"msg":{"option":"required","type":"string","tag":1},"__messages":{}},
// the text of the file that they come from, {"required string msg":1}.
func protoFile(definitions json.RawMessage) ([]byte, error) {
	if len(definitions) == 0 {
		return nil, nil
	}
	var messages map[string]json.RawMessage
	if err := json.Unmarshal(definitions, &messages); err != nil {
		return nil, err
	}
	file := make(map[string]any, len(messages))
	for key, raw := range messages {
		text, err := protoMessage(raw, 0)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", key, err)
		}
		file[key] = text
	}
	return json.Marshal(file)
}

// maxNested bounds messages within messages; codec.ParseProtos takes fewer.
const maxNested = 64

func protoMessage(raw json.RawMessage, depth int) (map[string]any, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	message := make(map[string]any, len(fields))
	for name, raw := range fields {
		switch name {
		case "__tags":
		case "__messages":
			var nested map[string]json.RawMessage
			if err := json.Unmarshal(raw, &nested); err != nil || depth == maxNested {
				return nil, fmt.Errorf("bad nested messages: %w", err)
			}
			for name, raw := range nested {
				text, err := protoMessage(raw, depth+1)
				if err != nil {
					return nil, fmt.Errorf("%q: %w", name, err)
				}
				message["message "+name] = text
			}
		default:
			var field struct {
				Option, Type string
				Tag          uint32
			}
			if err := json.Unmarshal(raw, &field); err != nil {
				return nil, fmt.Errorf("field %q: %w", name, err)
			}
			message[strings.Join([]string{field.Option, field.Type, name}, " ")] = field.Tag
		}
	}
	return message, nil
}
