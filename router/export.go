package router

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/limit"
)

// A session that goes to another loop goes as bytes. So nothing of it can stay behind by accident, and going to another process will
// take nothing but another way for the bytes. Numbers are varints, strings are prefixed by their length. Times are told as what is left
// of them: no clock goes along. A later version may add fields at the end.

// sessionVersion is the first byte of an exported session.
const sessionVersion = 1

// errSession is the error of importSession: its input was not written by exportSession, or by that of a newer version.
var errSession = errors.New("malformed session state")

// The flags of an exported session.
const (
	exportedCESU = 1 << iota
	exportedOrigin
	exportedSpoke
	exportedBeat
	exportedPong
)

// staysError says why a session cannot be exported now.
type staysError uint8

const (
	staysEnded    staysError = iota + 1 // it has ended, or its socket is another's already
	staysOpening                        // its handshake is not finished, or it is no session but an HTTP connection
	staysPolling                        // it has no socket
	staysInRoom                         // its room knows it by its address
	staysInFlight                       // a worker or an App's handler is to answer it
	staysKnown                          // an App holds its Session, which names its loop
)

var staysReasons = [...]string{
	staysEnded: "it has ended", staysOpening: "its handshake is not finished", staysPolling: "it polls", staysInRoom: "it is in a room",
	staysInFlight: "an answer to it is due", staysKnown: "the App knows it",
}

// Error implements error.
func (e staysError) Error() string { return "the session cannot be exported: " + staysReasons[e] }

// exportable is nil for a session that can be exported, or a staysError.
func (s *session) exportable() error {
	switch {
	case s.phase == ended || s.leaving() || !s.conn.Alive():
		return staysEnded
	case s.phase != working:
		return staysOpening
	case s.conn.IsPull():
		return staysPolling
	case s.room != nil:
		return staysInRoom
	case s.inflight() > 0:
		return staysInFlight
	case s.handle != nil:
		return staysKnown
	}
	return nil
}

// exportSession encodes what s, which is exportable or was until its move began, is beside its conn (netpoll.ConnState) and its listener,
// which the conn's tag tells.
func (l *loop) exportSession(s *session) []byte {
	flags := uint64(0)
	for i, set := range [...]bool{s.variant.CESU, s.x != nil && s.x.origin, s.meter.spoke, s.owes&owesBeat != 0, s.owes&owesPong != 0} {
		if set {
			flags |= 1 << i
		}
	}
	l.limiter.read()
	now := l.limiter.now
	b := make([]byte, 0, 128)
	b = append(b, sessionVersion, byte(s.proto), s.step, byte(s.variant.Framing), byte(s.transport))
	for _, n := range [...]uint64{
		flags, uint64(s.hops), uint64(s.beats & beatsCount), uint64(secondsTo(s.alive, l.np.Now())), l.keys[s.conn.Slot()],
		uint64(s.meter.refused), uint64(secondsTo(s.meter.first, l.np.Now())),
		uint64(s.meter.all.Debt(now)), uint64(s.meter.sends.Debt(now)), uint64(s.meter.enters.Debt(now)),
	} {
		b = binary.AppendUvarint(b, n)
	}
	b = s.ws.AppendState(b)
	x := s.x
	if x == nil {
		x = new(extra)
	}
	began := uint64(0)
	if x.begun != 0 {
		began = 1 + uint64(l.np.Now()-x.begun)
	}
	b = binary.AppendUvarint(b, began)
	for _, block := range [...][]byte{x.stash, []byte(x.host), x.ping} {
		b = append(binary.AppendUvarint(b, uint64(len(block))), block...)
	}
	return b
}

// importSession makes s, which is new, the session that exportSession has encoded on another loop.
func (l *loop) importSession(s *session, b []byte) error {
	d := stateReader{b: b}
	version, proto, step, framing, by := d.byte(), protocolID(d.byte()), d.byte(), codec.Framing(d.byte()), transport(d.byte())
	flags, hops, beaten, alive, key := d.upTo(math.MaxUint8), d.upTo(math.MaxUint8), d.upTo(beatsPerSecond), d.upTo(math.MaxUint32), d.upTo(math.MaxUint64)
	refused, first := d.upTo(maxFlood), d.upTo(math.MaxUint32)
	all, sends, enters := d.upTo(uint64(limit.MaxFill)), d.upTo(uint64(limit.MaxFill)), d.upTo(uint64(limit.MaxFill))
	var ws codec.WSReader
	if rest, err := ws.ParseState(d.b); err != nil {
		d.bad = true
	} else {
		d.b = rest
	}
	began, stash, host, ping := d.upTo(math.MaxUint32), d.block(), d.block(), d.block()
	v := s.profile.variants[variantKey{framing: framing, cesu: flags&exportedCESU != 0}]
	if d.bad || version != sessionVersion || int(by) >= len(l.transports) || v == nil || !l.node.carries(proto, framing) {
		return errSession
	}
	now := l.np.Now()
	s.proto, s.step, s.variant, s.phase, s.ws = proto, step, v, working, ws
	s.hops = uint8(hops)
	s.beats = beats(now<<4) | beats(beaten)
	l.countTransport(s, by)
	if key != 0 {
		l.keys[s.conn.Slot()] = key
	}
	l.limiter.read()
	bucket := func(debt uint64) limit.Bucket { return limit.Bucket(l.limiter.now + int64(debt)) }
	s.meter = meter{
		all: bucket(all), sends: bucket(sends), enters: bucket(enters), first: now + uint32(first),
		refused: uint16(refused), begun: true, spoke: flags&exportedSpoke != 0,
	}
	s.owes = debts(flags/exportedBeat) & (owesBeat | owesPong)
	if len(stash) > 0 || began > 0 || len(host) > 0 || flags&exportedOrigin != 0 || s.owes&owesPong != 0 {
		x := l.extra(s)
		x.host, x.origin = string(host), flags&exportedOrigin != 0
		x.ping = append(x.ping[:0], ping...)
		if len(stash) > 0 {
			x.stash = stash
		}
		if began > 0 {
			x.begun = max(now-min(now, uint32(began-1)), 1)
		}
	}
	s.alive = now + uint32(alive)
	l.schedule(s)
	return nil
}

// secondsTo is how many seconds there are until tick.
func secondsTo(tick, now uint32) uint32 { return max(tick, now) - now }

// stateReader takes an exported session apart; after the first fault everything is zero.
type stateReader struct {
	b   []byte
	bad bool
}

func (d *stateReader) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
	}
	if d.bad {
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *stateReader) upTo(most uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if d.bad = d.bad || n <= 0 || v > most; d.bad {
		return 0
	}
	d.b = d.b[n:]
	return v
}

// block is a string of bytes, which lies in the input.
func (d *stateReader) block() []byte {
	n := d.upTo(uint64(len(d.b)))
	if d.bad = d.bad || n > uint64(len(d.b)); d.bad {
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}
