package router

import (
	"strings"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
)

// call is one request or notify on its way to a handler. Its slices alias the read buffer.
type call struct {
	id      uint32 // 0: a notify
	idBytes uint8  // as the request had it (codec.AppendResponseHead)
	route   *route
	body    []byte // as sent
	ack     []byte // what its packet is acknowledged by before, nil for nothing
	text    bool   // it came as text: JSON, never protobuf
	packed  bool   // its body may be compressed (inflate)
	hashed  bool   // part is known
	part    uint16 // of the room that is to be entered
	sifted  string // the room for which the filter has looked at it; empty: it has not
}

// partition is the partition of the room that is to be entered, whose name is hashed once.
func (c *call) partition(room string) uint16 {
	if !c.hashed {
		c.part, c.hashed = channel.Partition(room), true
	}
	return c.part
}

// route is what a listener does with one route.
type route struct {
	name     string
	handle   handler
	request  *codec.ProtoMessage // how a body that is not JSON is encoded; nil: JSON only
	response *codec.ProtoMessage // how the answer is; nil: JSON
}

// carriers are what carries out calls on a loop. It is all that a handler knows of the loop. Owned by the loop.
type carriers struct {
	chat     chat
	handlers handlers
}

// handler carries out a call inline. It answers at once, or posts a request whose answer will be the call's (calls).
type handler struct {
	do func(on *carriers, s *session, c *call)
	// pipelines says that the call may follow others of this session that are still at the room's worker: it goes there
	// too, so effects and answers keep their order. All others wait until everything before is answered.
	pipelines bool
	// follows says that the session is best carried out where its room is (follow).
	follows bool
	fansOut bool // its messages go to many: they count for Limits.SendRate too
	enters  bool // they count for Limits.EnterRate, and its refusals are those of enter
	reads   bool // they count for Limits.EnterRate too, as does what they are answered
	moves   bool // they change in which rooms a session is, and wait for what a program changes there
}

const (
	routeQueryEntry = hosting.RouteQueryEntry
	routeEnter      = hosting.RouteEnter
	routeSend       = hosting.RouteSend
	// In no dictionary, whose codes Pomelo's clients have; an App may have them for itself.
	routeHistory = "chat.chatHandler.history"
	routeMembers = "chat.chatHandler.members"
)

// builtin are the chat application's handlers.
var builtin = map[string]handler{
	routeQueryEntry: {do: func(on *carriers, s *session, c *call) { on.chat.queryEntry(s, c) }},
	routeEnter:      {do: func(on *carriers, s *session, c *call) { on.chat.enter(s, c) }, follows: true, enters: true, moves: true},
	routeSend:       {do: func(on *carriers, s *session, c *call) { on.chat.send(s, c) }, pipelines: true, fansOut: true},
	routeHistory:    {do: func(on *carriers, s *session, c *call) { on.chat.history(s, c) }, pipelines: true, reads: true},
	routeMembers:    {do: func(on *carriers, s *session, c *call) { on.chat.members(s, c) }, pipelines: true, reads: true},
}

func serverType(route string) ServerType {
	t, _, _ := strings.Cut(route, ".")
	return ServerType(t)
}

// unknown is every route that nobody handles.
var unknown = &route{handle: handler{do: func(on *carriers, s *session, c *call) { on.chat.unknown(s, c) }}}

// ignore counts a message that is none.
func (l *loop) ignore(s *session, b []byte) bool {
	l.counters.malformed++
	l.charge(s, len(b))
	return true
}

// dispatch carries out a call. It returns false, having done nothing, when the session must wait for a worker first, which pauses it, or
// moves to another loop; the call is then made again.
func (l *loop) dispatch(s *session, c *call) bool {
	if l.mustWait(s, c.route) {
		l.np.Pause(s.conn)
		return false
	}
	if c.packed && !l.inflate(s, c) {
		return true
	}
	if l.follow(s, c) {
		return false
	}
	if c.ack != nil {
		l.protocol(s).acknowledge(s, c.ack)
	}
	l.counters.requests++
	if !l.admit(s, c) {
		return true
	}
	if c.text && !codec.ValidJSON(c.body) { // §4.1, Rule
		l.counters.malformed++
		l.answer(s, c, channel.Refused)
		return true
	}
	if l.variant(s).CESU && l.node.cesu8 == CESU8Auto {
		l.learnText(s, c)
	}
	c.route.handle.do(&l.carriers, s, c)
	return true
}

// mustWait is the gate that keeps answers in request order and effects in the order sent, without a reorder buffer.
func (l *loop) mustWait(s *session, r *route) bool {
	n := s.inflight()
	if n == 0 {
		return r.handle.moves && s.changing() != nil
	}
	if n >= l.limits.Inflight {
		l.counters.inflightWaits++
		return true
	}
	return s.x.entering != "" || s.x.handling || !r.handle.pipelines || s.room == nil
}

// isProto tells whether the body is protobuf.
func (c *call) isProto() bool {
	return c.route.request != nil && !c.text && !codec.LooksLikeJSON(c.body)
}

// json is a call's body as JSON text of valid UTF-8. A protobuf body that cannot be read is none; its request is refused
// (protocol.md §3.3). Whatever else is no JSON object counts as {} (§2.5): ScanObject finds nothing in it.
func (c *call) json() (b []byte, ok bool) {
	b = c.body
	if c.isProto() {
		decoded, err := c.route.request.AppendDecode(nil, b)
		if err != nil {
			return nil, false
		}
		b = decoded
	}
	return codec.NormalizeUTF8(b), true
}

// object is json, ready to be scanned.
func (c *call) object() (o codec.Object, ok bool) {
	b, ok := c.json()
	return codec.ScanObject(b), ok
}
