package router

import "github.com/pomelod/pomelod/codec"

// textMessage carries out a message in the string format of socket.io (protocol.md §4.1). What is none is ignored. It returns false,
// having done nothing, when the session must wait. ack is the packet id that the client wants acknowledged first, or nil.
func (l *loop) textMessage(s *session, text, ack []byte) bool {
	m, ok := codec.ParseSIOMessage(text)
	if !ok {
		l.protocol(s).acknowledge(s, ack) // clients repeat nothing, but their callbacks wait
		return l.ignore(s, text)
	}
	c := &l.current
	*c = call{id: uint32(m.ID), body: m.Body, text: true, ack: ack, route: orUnknown(l.profile(s).routes[string(m.Route)], m.Route)}
	return l.dispatch(s, c)
}
