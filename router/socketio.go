package router

import (
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
)

// wire is the protocol above the transport.
type wire uint8

const (
	wireHybrid wire = iota
	wireSIO09       // socket.io 0.9
	wireEIO3        // Engine.IO 3: socket.io 1 and 2
	wireEIO4        // Engine.IO 4: socket.io 3 and 4
)

// transport is what a session's bytes travel by, for the figures.
type transport uint8

const (
	transportNone transport = iota
	transportHybridTCP
	transportHybridWS
	transportSIO09WS
	transportSIO09XHR
	transportSIO09JSONP
	transportEIO3WS
	transportEIO3Polling
	transportEIO4WS
	transportEIO4Polling
	transports
)

// transportNames are the values of the label "transport" of pomelod_sessions.
var transportNames = [transports]string{
	transportHybridTCP:   "hybrid-tcp",
	transportHybridWS:    "hybrid-ws",
	transportSIO09WS:     "sio09-websocket",
	transportSIO09XHR:    "sio09-xhr-polling",
	transportSIO09JSONP:  "sio09-jsonp-polling",
	transportEIO3WS:      "eio3-websocket",
	transportEIO3Polling: "eio3-polling",
	transportEIO4WS:      "eio4-websocket",
	transportEIO4Polling: "eio4-polling",
}

// changeTransport counts s under what its bytes travel by now.
func (l *loop) changeTransport(s *session) {
	t := transportNone
	ws := s.variant.Framing.WebSocket()
	switch {
	case s.wire == wireHybrid && ws:
		t = transportHybridWS
	case s.wire == wireHybrid:
		t = transportHybridTCP
	case s.wire == wireSIO09 && ws:
		t = transportSIO09WS
	case s.wire == wireSIO09:
		t = transportSIO09XHR
	case s.wire == wireEIO3 && ws:
		t = transportEIO3WS
	case s.wire == wireEIO3:
		t = transportEIO3Polling
	case ws:
		t = transportEIO4WS
	default:
		t = transportEIO4Polling
	}
	l.countTransport(s, t)
}

func (l *loop) countTransport(s *session, t transport) {
	l.transports[s.transport]--
	l.transports[t]++
	s.transport = t
}

// takePacket processes one packet of a socket.io client. It returns false, having done nothing, when the session must wait
// for a worker first; it is paused then.
func (l *loop) takePacket(s *session, b []byte, binary bool) bool {
	switch {
	case s.state == stateProbe:
		if l.early(s, len(b)) {
			l.probed(s, b)
		}
		return true
	case s.wire == wireSIO09:
		return l.packet09(s, b)
	}
	return l.packetEIO(s, b, binary)
}

// pomeloMessage carries out a message in the string format (protocol.md §4.1). What is none is ignored. It returns false,
// having done nothing, when the session must wait. ack is the packet id that the client wants acknowledged first, or nil.
func (l *loop) pomeloMessage(s *session, text, ack []byte) bool {
	m, ok := codec.ParseSIOMessage(text)
	if !ok {
		l.counters.malformed++
		l.acknowledge(s, ack) // 0.9 repeats nothing, but its callback waits
		l.charge(s, len(text))
		return true
	}
	c := &l.current
	*c = call{id: uint32(m.ID), body: m.Body, route: unknown, text: true}
	if r := s.profile.routes[string(m.Route)]; r != nil {
		c.route = r
	}
	if l.mustWait(s, c.route) {
		l.np.Pause(s.conn)
		return false
	}
	if l.follow(s, c) {
		return false
	}
	l.acknowledge(s, ack)
	l.counters.requests++
	if !l.admit(s, c) {
		return true
	}
	if !codec.ValidJSON(m.Body) { // §4.1, Rule
		l.counters.malformed++
		l.answer(s, c, channel.Refused)
		return true
	}
	c.route.handle.do(l, s, c)
	l.runLocal()
	return true
}

// pings tells whether it is we who ask a client whether it is still there.
func (s *session) pings() bool {
	return s.wire == wireEIO4 || s.wire == wireSIO09 && s.variant.Framing.WebSocket()
}

// renew restarts the time after which a silent client is disconnected (protocol.md §5.3, §5.4, §6.1, §7).
func (l *loop) renew(s *session) {
	limits := &l.node.limits
	now := l.np.Now()
	switch {
	case s.wire == wireHybrid:
		s.alive = now + l.node.silence(s.profile)
	case s.state != stateWorking: // it has its time for the handshake
		return
	case s.pings():
		if s.pinged { // else the next one comes in its time, whatever the client says: some count our pings and nothing else
			s.alive, s.pinged = now+limits.PingSeconds, false
		}
	case s.wire == wireEIO3:
		s.alive = now + limits.PingSeconds + limits.PingTimeoutSeconds
	case s.x != nil && s.x.pull != nil && s.x.pull.get != 0: // 0.9, polling: the GET that is held is life
		s.alive = now + limits.PollSeconds + limits.PingTimeoutSeconds
	default:
		s.alive = now + limits.PingTimeoutSeconds
	}
}

// ping asks the client whether it is there, or ends the session when it did not say so.
func (l *loop) ping(s *session) {
	if s.pinged || !s.pings() || s.state != stateWorking {
		l.end(s, reasonSilent)
		return
	}
	packet, timeout := "2", l.node.limits.PingTimeout4Seconds
	if s.wire == wireSIO09 {
		packet, timeout = "2::", l.node.limits.PingTimeoutSeconds
	}
	l.np.Commit(s.conn, s.variant.AppendPacket(l.np.Stage(s.conn), []byte(packet)))
	s.pinged = true
	s.alive = l.np.Now() + timeout
	l.wake(s)
}

// startPings begins the time of a session's first ping.
func (l *loop) startPings(s *session) {
	s.pinged = true // by the connect, which it has answered
	l.heard(s)
}

// open makes a session working.
func (l *loop) open(s *session) {
	s.state = stateWorking
	l.startPings(s)
	l.opened(s)
}
