package channel

import (
	"bytes"

	"github.com/pomelod/pomelod/codec"
)

// What pushes say.

// userPush is onAdd or onLeave; their payload names the route in every flavour (protocol.md §9.4).
func userPush(route, user string) *codec.Push {
	b := make([]byte, 0, len(`{"route":"","user":""}`)+len(route)+len(user))
	b = append(b, `{"route":"`...)
	b = append(b, route...)
	b = append(b, `","user":`...)
	b = codec.AppendString(b, user)
	return &codec.Push{Route: route, Body: append(b, '}')}
}

// chatPush is onChat. Its target is called what it is called in the room, however the sender has spelt it.
func chatPush(d *decision) *codec.Push {
	r, target := d.r, d.r.Target
	if d.of.target != 0 {
		target = d.state.member(d.of.target).name
	}
	b := make([]byte, 0, len(`{"msg":,"from":"","target":""}`)+len(r.Content)+len(r.User)+len(target))
	b = append(b, `{"msg":`...)
	b = append(b, r.Content...)
	b = append(b, `,"from":`...)
	b = codec.AppendString(b, r.User)
	b = append(b, `,"target":`...)
	b = codec.AppendString(b, target)
	return &codec.Push{Route: "onChat", Body: append(b, '}')}
}

func serverPush(d *decision) *codec.Push {
	return &codec.Push{Route: d.r.Route, Body: bytes.Clone(d.r.Content)}
}
