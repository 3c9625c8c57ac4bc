package router

import (
	"bytes"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// Data implements netpoll.Handler: it finds out what the client speaks and feeds it the bytes.
func (l *loop) Data(c *netpoll.Conn, b []byte) (used int, next netpoll.Transfer) {
	s := l.session(c)
	used = l.data(s, b)
	kept, since := s.ws.Kept(), uint32(0)
	if x := s.x; x != nil {
		kept, since = kept+cap(x.stash), x.begun
		next = l.transfer(s)
	}
	l.np.Keep(c, kept, since)
	return used, next
}

func (l *loop) data(s *session, b []byte) int {
	c := s.conn
	if c.IsPull() {
		return l.packetStream(s, b)
	}
	if s.state == stateProxy {
		n := l.introduce(s, b)
		if s.state == stateProxy {
			return 0
		}
		return n + l.data(s, b[n:])
	}
	used := 0
	if s.state == stateSniff {
		transport, known := codec.SniffTransport(b)
		switch {
		case !known:
			return 0
		case transport == codec.TransportHTTP:
			s.state = stateHTTP
		case l.claimRaw(s):
			l.speak(s, codec.FramingTCP)
		}
	}
	if s.state == stateHTTP {
		used = l.httpRequests(s, b)
	}
	switch {
	case s.state == stateEnded:
		return len(b)
	case s.state == stateHTTP || s.state == stateMoved:
		return used
	case s.variant.Framing.WebSocket():
		return used + l.frames(s, b[used:])
	}
	return used + l.packages(s, b[used:])
}

// speak settles the transport; text and protobuf may change the variant at the handshake.
func (l *loop) speak(s *session, framing codec.Framing) {
	s.variant = s.profile.variants[variantKey{framing: framing}]
	s.state = stateInited
	l.changeTransport(s)
}

// packages reads a raw TCP stream: packages back to back.
func (l *loop) packages(s *session, b []byte) (used int) {
	for used < len(b) {
		p, n, err := codec.ParsePackage(b[used:], l.longest(s))
		if err != nil {
			l.refusePackage(s, err)
			return len(b)
		}
		if n == 0 || !l.take(s, p) {
			return used
		}
		used += n
		if s.state == stateEnded {
			return len(b)
		}
		if l.np.Throttle(s.conn) {
			return used
		}
	}
	return used
}

func (l *loop) refusePackage(s *session, err error) {
	if err == codec.ErrPackageTooLong {
		l.endWith(s, l.tooLong(s), codec.WSCloseTooBig, "package exceeds the limit")
	} else {
		l.end(s, reasonProtocol)
	}
}

// frames reads WebSocket frames. Data frames, text ones included (protocol.md §2.2), carry whole packages.
func (l *loop) frames(s *session, b []byte) (used int) {
	if x := s.x; x != nil && len(x.stash) > 0 { // what a pause left of the last frame comes first
		stash := x.stash
		n := 0
		if s.wire == wireHybrid {
			n = l.payload(s, stash, false)
		} else {
			n = l.packetStream(s, stash)
		}
		if s.state == stateEnded {
			return len(b)
		}
		if x.stash = stash[:copy(stash, stash[n:])]; len(x.stash) > 0 { // moved, lest a few bytes keep all of it
			return 0
		}
		x.stash = nil
		l.tidy(s)
		if s.conn.Throttled() {
			return 0
		}
	}
	for used < len(b) {
		ev, n, err := s.ws.Next(b[used:], l.longest(s)+codec.PackageHeadBytes)
		if err != nil {
			e, why := err.(*codec.WSError), netpoll.Reason(reasonProtocol)
			if e.Code == codec.WSCloseTooBig {
				why = l.tooLong(s)
			}
			l.endWith(s, why, e.Code, e.Reason)
			return len(b)
		}
		if n == 0 {
			return used
		}
		used += n
		switch ev.Kind {
		case codec.WSText, codec.WSBinary:
			if s.x != nil && s.x.begun != 0 {
				s.x.begun = 0
				l.tidy(s)
			}
			k := l.payload(s, ev.Payload, ev.Kind == codec.WSBinary)
			switch {
			case s.state == stateEnded || k == len(ev.Payload):
			case s.wire == wireHybrid:
				l.extra(s).stash = bytes.Clone(ev.Payload[k:])
			default:
				l.extra(s).stash = codec.AppendPacket(nil, ev.Payload)
			}
		case codec.WSPong: // nobody has asked for it
			l.charge(s, len(ev.Payload))
		case codec.WSPing:
			l.pingFrame(s, ev.Payload)
		case codec.WSClose:
			l.goodbye(s, &ev)
		case codec.WSNone: // a fragment; the last one is the message
			if s.ws.Began() {
				l.extra(s).begun = l.np.Now()
			}
			if n < smallFrame || !s.meter.begun {
				l.charge(s, n)
			}
		}
		if s.state == stateEnded {
			return len(b)
		}
		if s.state == stateMoved {
			return used
		}
		if s.conn.Paused() || s.conn.Throttled() || l.np.Throttle(s.conn) {
			return used
		}
	}
	return used
}

// smallFrame is the size below which fragments are counted as packages are, so that they are no way to keep a loop busy for nothing.
// Who sends a long message in pieces makes them longer, and pays for the message alone.
const smallFrame = 256

// goodbye answers a client's close frame with its own code and reason, and one without a code with 1000, as the original does.
func (l *loop) goodbye(s *session, ev *codec.WSEvent) {
	code := ev.Code
	if code == codec.WSCloseNoStatus && s.wire != wireEIO4 {
		code = codec.WSCloseNormal
	}
	l.endWith(s, reasonGoodbye, code, string(ev.Payload))
}

// payload takes the packages, or the packet, of one frame. It returns how many bytes it took: all, unless the session has
// to wait or has ended.
func (l *loop) payload(s *session, b []byte, binary bool) (used int) {
	if s.wire != wireHybrid {
		if l.takePacket(s, b, binary) {
			used = len(b)
		}
		return used
	}
	if len(b) == 0 {
		l.end(s, reasonProtocol)
	}
	for used < len(b) {
		p, n, err := codec.ParsePackage(b[used:], l.longest(s))
		switch {
		case err != nil:
			l.refusePackage(s, err)
			return used
		case n == 0: // trailing bytes that are no package
			l.end(s, reasonProtocol)
			return used
		case !l.take(s, p):
			return used
		}
		used += n
		if s.state == stateEnded || l.np.Throttle(s.conn) {
			return used
		}
	}
	return used
}
