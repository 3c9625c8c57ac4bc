package router

import (
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/netpoll"
)

// framed is a protocol whose bytes WebSocket frames carry.
type framed interface {
	// message takes the payload of one message and returns what is left of it, in memory of its own, when the session has to wait.
	message(s *session, payload []byte, binary bool) (left []byte)
	// again takes of what message has left as much as it can, and returns how much that is.
	again(s *session, left []byte) int
}

// frames reads WebSocket frames for p.
func (l *loop) frames(s *session, b []byte, p framed) (used int) {
	if s.x != nil && len(s.x.stash) > 0 && !l.unstash(s, p) {
		if s.phase == ended {
			return len(b)
		}
		return 0
	}
	for used < len(b) {
		var r codec.WSReader
		if s.x != nil {
			r = s.x.ws
		}
		ev, n, err := r.Next(b[used:], l.limiter.longest(&s.meter)+codec.PackageHeadBytes)
		if err != nil {
			why := netpoll.Reason(reasonProtocol)
			if err.Code == codec.WSCloseTooBig {
				why = l.limiter.tooLong(&s.meter)
			}
			l.endWith(s, why, err.Code, err.Reason)
			return len(b)
		}
		if n == 0 {
			return used
		}
		used += n
		switch ev.Kind {
		case codec.WSText, codec.WSBinary:
			if s.x != nil && s.x.begun != 0 {
				s.x.begun, s.x.ws = 0, r
				l.tidy(s)
			}
			if left := p.message(s, ev.Payload, ev.Kind == codec.WSBinary); left != nil {
				l.extra(s).stash = left
			}
		case codec.WSPong: // nobody has asked for it
			l.charge(s, len(ev.Payload))
		case codec.WSPing:
			l.pingFrame(s, ev.Payload)
		case codec.WSClose: // answered with its own code and reason
			code := ev.Code
			if code == codec.WSCloseNoStatus {
				code = 0
			}
			l.endWith(s, reasonGoodbye, code, string(ev.Payload))
		case codec.WSNone: // a fragment; the last one is the message
			if r.Began() {
				x := l.extra(s)
				x.begun, x.ws = l.np.Now(), r
			}
			if n < smallFrame || !s.meter.begun {
				l.charge(s, n)
			}
		}
		if s.phase == ended {
			return len(b)
		}
		if s.leaving() || s.conn.Paused() || s.conn.Throttled() || l.np.Throttle(s.conn) {
			return used
		}
	}
	return used
}

// unstash has p take what a pause left of the last frame. It tells whether the next frame may be read.
func (l *loop) unstash(s *session, p framed) bool {
	x := s.x
	stash := x.stash
	n := p.again(s, stash)
	if s.phase == ended {
		return false
	}
	if x.stash = stash[:copy(stash, stash[n:])]; len(x.stash) > 0 { // moved, lest a few bytes keep all of it
		return false
	}
	x.stash = nil
	l.tidy(s)
	return !s.conn.Throttled()
}

// smallFrame is the size below which fragments are counted as packages are, so that they are no way to keep a loop busy for nothing.
// A client that sends a long message in pieces makes them longer, and pays for the message alone.
const smallFrame = 256

// closeFrame stages a close frame for s, if it is on a WebSocket. plain is the code to say when code is 0.
func (l *loop) closeFrame(s *session, code, plain uint16, reason string) {
	if !l.variant(s).Framing.WebSocket() {
		return
	}
	if code == 0 {
		code = plain
	}
	l.np.Commit(s.conn, codec.AppendWSClose(l.np.Stage(s.conn), code, reason))
}
