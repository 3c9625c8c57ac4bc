package router

import "github.com/pomelod/pomelod/codec"

// debts are the answers that a session is owed. A client that asks whether we are there must be told, or it takes us for dead; one
// that asks again as soon as it is told would keep a loop busy. So it is told beatsPerSecond times a second, and what it asks
// beyond that is answered once, when the next second begins: late, but never lost (protocol.md §2.7).
type debts uint8

const (
	owesBeat debts = 1 << iota // a heartbeat, or Engine.IO 3's pong
	owesPong                   // WebSocket's pong to extra.ping
)

// beatsPerSecond is how many heartbeats and pings of a session are answered at once in a second.
const beatsPerSecond = 10

// beats counts what was answered in a second: the count in the low four bits, the tick modulo 16 in the others. One that comes 16
// seconds later finds an old count, and is at worst answered a second late.
type beats uint8

const beatsCount beats = 0x0f

// one counts an answer in the second tick. It returns false when there were beatsPerSecond.
func (b *beats) one(tick uint32) bool {
	if second := beats(tick << 4); *b&0xf0 != second {
		*b = second
	}
	if *b&0x0f >= beatsPerSecond {
		return false
	}
	*b++
	return true
}

// in is how many were counted in the second tick.
func (b beats) in(tick uint32) beats {
	if b&^beatsCount != beats(tick<<4) {
		return 0
	}
	return b & beatsCount
}

// answersNow tells whether a package or frame of n bytes that asks whether we are there is to be answered now. If not, the answer is
// owed. A second one that is owed already is charged, like whatever has no answer: a client that goes on like that is a flood,
// and the session may have ended.
func (l *loop) answersNow(s *session, what debts, n int) bool {
	if !s.meter.begun {
		return l.chargeEarly(s, n)
	}
	if !l.checkSpoken(s) {
		return false
	}
	switch {
	case s.beats.one(l.np.Now()):
		return true
	case s.owes&what == 0:
		s.owes |= what
		l.schedule(s)
	default:
		l.charge(s, n)
	}
	return false
}

// payOwed gives s the answers that it is owed.
func (l *loop) payOwed(s *session) {
	owes := s.owes
	if owes == 0 {
		return
	}
	s.owes = 0
	s.beats.one(l.np.Now())
	if owes&owesBeat != 0 {
		l.protocol(s).beat(s)
	}
	if owes&owesPong != 0 {
		l.pong(s, s.x.ping)
		s.x.ping = s.x.ping[:0]
		l.tidy(s)
	}
}

// pingFrame answers a WebSocket's ping. Of several that are owed only the last is answered (RFC 6455 §5.5.3).
func (l *loop) pingFrame(s *session, payload []byte) {
	if l.answersNow(s, owesPong, len(payload)) {
		l.pong(s, payload)
	} else if s.owes&owesPong != 0 {
		x := l.extra(s)
		x.ping = append(x.ping[:0], payload...)
	}
}

func (l *loop) pong(s *session, payload []byte) {
	l.np.Commit(s.conn, codec.AppendWSFrame(l.np.Stage(s.conn), codec.WSPong, payload))
}
