package netpoll

import (
	"crypto/tls"
	"io"
	"math"
	"syscall"
)

// Bounds of what a peer may send that says nothing: records without contents, and those that only change keys. No client needs one a minute; each costs ten
// microseconds, and crypto/tls keeps a message in pieces.
const (
	idleRecords = 8   // a second
	idleBytes   = 512 // between two records with contents
)

// Bounds of what is sealed and the socket has not taken: behind a record with contents, which is in the conn's queue as well, and where there are only answers
// to changes of keys, of which a client asks for none in years.
const (
	sealedBytes = 64 << 10
	ownBytes    = 1 << 10
)

// secure is what stands between a conn and its socket when the peer speaks TLS. First a handshake (shake) has it, then it is open: crypto/tls,
// which knows no loops, reads and writes by wire, and is never made to wait. Owned by the loop, but for what runs in a step of the handshake.
//
// Nothing is sealed before the socket has taken what was sealed before. So one record at most is sealed and not sent; what is unsent beside it
// is plain, in the conn's queue, and shared with other slow members as ever. That record's bytes are still in the queue: promised says
// how many of the next that are written are sealed already.
type secure struct {
	wire  wire
	conn  *tls.Conn  // nil before the handshake begins
	shake *handshake // nil when it is over
	raw   []byte     // received, and not decrypted: a piece of a record, or what a turn had no time for
	open  bool       // the handshake was done
	over  bool       // TLS has failed: nothing more is understood or said
	ended bool       // the peer has said that it is the end of its stream
	busy  bool       // a step of the handshake is on its way
	began bool       // the first one has been taken

	promised int
	counted  int // of wire.out, in ledger.unsent
	held     int // bytes that the handshake has
	idle     int // records that said nothing, in the second idleAt
	idleAt   uint32
	useless  int // bytes of those, since the last one that said something
}

// secures are those of a loop's conns, by slot. It is nil memory until the first. Owned by the loop.
type secures struct {
	driver Driver
	ledger *ledger

	bySlot  []*secure
	n       int          // conns that have one
	shaking []*handshake // in the order in which they began, those included that are over
	at      int          // shaking[:at] are late
	plain   []byte       // what one event has decrypted
	record  []byte       // by which crypto/tls reads one record
}

// of is c's, which has one.
func (x *secures) of(c *Conn) *secure { return x.bySlot[c.slot] }

// add gives c one.
func (x *secures) add(c *Conn, s *secure) {
	for int(c.slot) >= len(x.bySlot) {
		x.bySlot = append(x.bySlot, make([]*secure, slabConns)...)
	}
	if x.plain == nil {
		x.plain = make([]byte, 0, readBytes+recordContents)
		x.record = make([]byte, 0, recordHead+recordLongest+bytesMinRead)
	}
	s.wire.fd = int(c.fd)
	if s.open {
		s.wire.to = x.driver
	}
	x.bySlot[c.slot], c.secured = s, true
	x.n++
	x.count(s)
}

// leastRaw is a buffer that may be kept for a few bytes.
const leastRaw = 512

// bytesMinRead is bytes.MinRead, for which crypto/tls asks beside a record.
const bytesMinRead = 512

// take takes c's away, for another conn; nil if it has none.
func (x *secures) take(c *Conn) *secure {
	if !c.secured {
		return nil
	}
	s := x.of(c)
	x.ledger.unsent -= s.counted
	s.counted = 0
	x.bySlot[c.slot], c.secured = nil, false
	x.n--
	return s
}

// count counts what is sealed and unsent.
func (x *secures) count(s *secure) {
	x.ledger.unsent += len(s.wire.out) - s.counted
	s.counted = len(s.wire.out)
}

// drop throws away what of a conn that was killed is sealed and unsent.
func (x *secures) drop(c *Conn) {
	if s := x.of(c); !s.busy {
		s.wire.out, s.over = nil, true
		x.count(s)
	}
}

// write seals b, as much as the socket takes of it and what is left of one record.
func (x *secures) write(c *Conn, b []byte) (n int, errno syscall.Errno) {
	s := x.of(c)
	if !s.open || s.over { // nobody could read it
		return len(b), 0
	}
	defer x.count(s)
	if sent := s.wire.flush(); len(s.wire.out) > 0 && s.promised > 0 { // a slow peer that takes some is not stuck
		n = min(sent, s.promised-1, len(b))
		s.promised -= n
	}
	for errno == 0 && len(s.wire.out) == 0 {
		k := min(s.promised, len(b)-n)
		s.promised -= k
		if n += k; n == len(b) {
			break
		}
		k = min(len(b)-n, recordContents)
		if _, err := s.conn.Write(b[n : n+k]); err != nil {
			return n, syscall.EPIPE
		}
		s.promised = k
		errno = s.wire.failure()
	}
	if errno == 0 {
		errno = s.wire.failure()
	}
	if n > 0 && (errno == syscall.ENOBUFS || errno == syscall.ENOMEM) { // it comes again
		errno = 0
	}
	return n, errno
}

// notify tells the peer that nothing more comes, once. It tells whether the socket has taken that, and whatever TLS had to say before.
func (x *secures) notify(c *Conn) (sent bool) {
	s := x.of(c)
	switch {
	case s.busy: // a step of the handshake has its wire
		return true
	case s.open && !s.over:
		_ = s.conn.CloseWrite() // behind what waits
		s.over = true
	}
	s.wire.to = x.driver
	s.wire.flush()
	if !s.open {
		s.wire.to = nil
	}
	x.count(s)
	return s.wire.failure() != 0 || len(s.wire.out) == 0
}

// Secured tells whether the peer speaks TLS, or has begun to.
func (c *Conn) Secured() bool { return c.secured }

// ServerName is the name by which the peer of a conn that is Secured has asked for a certificate; empty if it has not. Runs on the loop.
func (l *Loop) ServerName(c *Conn) string {
	if !c.secured || !l.secures.of(c).open {
		return ""
	}
	return l.secures.of(c).conn.ConnectionState().ServerName
}

// Secure says that what the peer sends from now on is TLS, beginning with what Data has not consumed. Data is next called with what has been
// decrypted; what is written before is lost. The budget must have Handshakes. Runs on the loop, within Handler.Data of c.
func (l *Loop) Secure(c *Conn) {
	if c.secured || !c.Alive() || c.IsPull() {
		return
	}
	s := &secure{}
	s.shake = &handshake{loop: l, conn: c, secure: s, begun: l.now}
	l.secures.add(c, s)
	l.secures.shaking = append(l.secures.shaking, s.shake)
}

// receiveSealed takes what has come for a conn that is secured.
func (l *Loop) receiveSealed(c *Conn, b []byte) {
	switch s := l.secures.of(c); {
	case s.over || s.ended:
	case s.open:
		l.unseal(c, s, b)
	default:
		s.raw = append(s.raw, b...)
		l.goOnShaking(c, s)
	}
}

// goOnShaking has a handshake that rests take the records that have come whole.
func (l *Loop) goOnShaking(c *Conn, s *secure) {
	if n := recordsEnd(s.raw); n > 0 && !s.busy {
		s.wire.in = append(s.wire.in, s.raw[:n]...)
		s.raw = append([]byte(nil), s.raw[n:]...)
		l.weigh(c, s, false)
		s.busy = true
		l.budget.Handshakes.submit(s.shake)
		return
	}
	l.weigh(c, s, false)
}

// waitsFull tells whether a conn whose handshake has a step to take is read no more. As long as it waits in line for the first one it is read until something
// has come behind its hello: a peer that has ended wants no handshake, and would keep a descriptor for minutes in a long line.
func (s *secure) waitsFull() bool { return s.busy && (s.began || len(s.raw) > 0) }

// stepped takes back a handshake that has taken a step, or that others took the place of.
func (l *Loop) stepped(h *handshake) {
	p := l.budget.Handshakes
	c, s := h.conn, h.secure
	stage, evicted := p.state(h)
	if (stage == shakeParked || stage == shakeOver) && h.panicked {
		h.panicked = false
		l.call.panics++
	}
	switch {
	case s == nil, s.shake != h, stage != shakeParked: // its conn is gone; or it comes once more
		return
	}
	s.busy, s.began = false, true
	s.wire.to = l.secures.driver
	s.wire.flush()
	s.wire.to = nil
	l.secures.count(s)
	switch {
	case s.wire.failure() != 0:
		l.fail(c)
	case !h.done && evicted:
		l.endShaking(c, s)
	case !h.done:
		l.watch(c, c.watched|Readable)
		l.watchSealed(c, s)
		l.goOnShaking(c, s)
	case h.err != nil:
		p.failed.Add(1)
		l.endShaking(c, s)
	default:
		l.opened(c, s)
	}
}

// opened begins with what follows a handshake.
func (l *Loop) opened(c *Conn, s *secure) {
	p := l.budget.Handshakes
	p.leave(s.shake)
	s.shake.secure = nil // else it lives for as long as the handshake is remembered
	p.done.Add(1)
	if s.conn.ConnectionState().DidResume {
		p.resumed.Add(1)
	}
	s.shake, s.open, s.wire.to = nil, true, l.secures.driver
	takeBack(s.conn)
	forget(s.conn)
	if s.raw = append(s.wire.in, s.raw...); len(s.raw) == 0 { // else it has come behind the last message
		s.raw = nil
	}
	s.wire.in = nil
	l.watch(c, c.watched|Readable)
	l.weigh(c, s, true)
	if len(s.raw) > 0 {
		l.unseal(c, s, nil)
	} else {
		l.watchSealed(c, s)
	}
}

// turnShaking goes on with handshakes.
func (l *Loop) turnShaking() {
	l.shaken.Drain(math.MaxInt, func(h **handshake) { l.stepped(*h) })
	l.endLateShakings()
}

// endShaking ends a conn whose handshake came to nothing. What is said of that has been sent.
func (l *Loop) endShaking(c *Conn, s *secure) {
	s.over = true
	l.Close(c, ReasonTLS)
}

// lateShakings is how many handshakes a turn ends for want of time.
const lateShakings = dueCalls

// endLateShakings ends handshakes whose time is over, a share of them in each turn.
func (l *Loop) endLateShakings() {
	x := &l.secures
	for n := lateShakings; n > 0 && x.at < len(x.shaking); {
		h := x.shaking[x.at]
		if s := h.secure; s != nil && s.shake == h {
			if l.now-h.begun <= l.budget.Handshakes.limits.Seconds {
				break
			}
			l.budget.Handshakes.late.Add(1)
			l.endShaking(h.conn, s)
			n--
		}
		x.shaking[x.at] = nil
		x.at++
	}
	if x.at > len(x.shaking)/2 {
		x.shaking, x.at = append(x.shaking[:0], x.shaking[x.at:]...), 0
	}
}

// behindShaking tells whether there may be more for endLateShakings.
func (l *Loop) behindShaking() bool {
	x := &l.secures
	return x.at < len(x.shaking) && l.now-x.shaking[x.at].begun > l.budget.Handshakes.limits.Seconds
}

// unseal decrypts what has come, as much as one event may, and delivers it.
func (l *Loop) unseal(c *Conn, s *secure, b []byte) {
	more := false
	if plain := l.decrypt(c, s, b, &more); len(plain) > 0 {
		l.deliver(c, plain)
	}
	l.settle(c, s, more)
}

// settle ends an event of a conn that is secured. more tells that records wait for a turn that has time for them.
func (l *Loop) settle(c *Conn, s *secure, more bool) {
	if !c.secured || l.secures.of(c) != s { // it has gone to another conn
		return
	}
	switch {
	case s.over || len(s.wire.out) > sealedBytes || s.promised == 0 && len(s.wire.out) > ownBytes:
		s.over = true
		l.Close(c, ReasonTLS)
	case s.ended:
		l.Close(c, ReasonPeer)
	case !c.Alive():
	case more && !c.waits.blocked(): // else it goes on when it is read again
		l.waiting.yield(c)
	}
	l.watchSealed(c, s)
}

// watchSealed has what crypto/tls itself had to say sent when the socket takes it.
func (l *Loop) watchSealed(c *Conn, s *secure) {
	l.secures.count(s)
	if len(s.wire.out) > 0 {
		l.watch(c, c.watched|Writable)
	}
}

// writeSealed sends what crypto/tls itself had to say, for a conn that has nothing else to send.
func (l *Loop) writeSealed(c *Conn) {
	s := l.secures.of(c)
	if s.busy { // a step has its wire
		l.watch(c, c.watched&^Writable)
		return
	}
	s.wire.to = l.secures.driver
	s.wire.flush()
	if !s.open {
		s.wire.to = nil
	}
	l.secures.count(s)
	switch {
	case s.wire.failure() != 0:
		l.fail(c)
	case len(s.wire.out) == 0:
		l.watch(c, c.watched&^Writable)
	}
}

// decrypt decrypts whole records of what is left and of b, which has just come, into memory that is valid until it is called next. Small ones count as
// things that the peer asks for, so nobody is kept waiting by a thousand records of one byte. more tells whether there are others.
func (l *Loop) decrypt(c *Conn, s *secure, b []byte, more *bool) []byte {
	w := &s.wire
	begun := len(s.raw) == 0
	if !begun {
		s.raw = append(s.raw, b...)
		b = s.raw
	}
	w.in = b
	plain := l.secures.plain[:0]
	l.waiting.shares.serve()
	lend(s.conn, l.secures.record)
	for !s.over && !s.ended && recordEnd(w.in) > 0 {
		if *more = len(plain) >= readBytes || !l.waiting.shares.ask(c.pass); *more {
			break
		}
		before := len(w.in)
		w.taken = 0
		n, err := s.conn.Read(plain[len(plain):cap(plain)])
		plain = plain[:len(plain)+n]
		s.judge(l.now, n, w.taken, before-len(w.in))
		switch err.(type) {
		case nil:
		case nothing:
		default:
			s.ended, s.over = err == io.EOF, err != io.EOF || s.over
		}
	}
	takeBack(s.conn)
	if w.failure() != 0 {
		s.over = true
	}
	rest := w.in
	w.in = nil
	moved := begun || len(rest) < len(b)
	switch {
	case len(rest) == 0 || s.over || s.ended:
		s.raw = nil
	case !begun && cap(s.raw) <= max(2*len(rest), leastRaw):
		s.raw = s.raw[:copy(s.raw, rest)]
	default:
		s.raw = append([]byte(nil), rest...)
	}
	l.weigh(c, s, moved)
	return plain
}

// judge counts records that say nothing, of the last that were read: n bytes of contents, from so many records and bytes. A peer that sends
// many, or long ones, is not understood any longer.
func (s *secure) judge(now uint32, n, records, bytes int) {
	if n > 0 {
		records--
		s.useless = 0
	} else {
		s.useless += bytes
	}
	if records == 0 {
		return
	}
	if s.idleAt != now {
		s.idleAt, s.idle = now, 0
	}
	s.idle += records
	s.over = s.over || s.idle > idleRecords || s.useless > idleBytes
}

// weigh has what is kept for c because of TLS count in the budget. moved tells that the peer has finished a record, or begun the first.
func (l *Loop) weigh(c *Conn, s *secure, moved bool) {
	if s.shake == nil {
		s.held = 0
	} else if moved = false; !s.busy { // else a step has its wire
		s.held = cap(s.wire.in)
		if s.conn != nil {
			s.held += handshakeBytes
		}
	}
	l.inboxes.seal(c, cap(s.raw)+s.held, moved && len(s.raw) > 0)
}

// endSecured ends what there is to TLS when c's end has been told: the socket may yet live for a while.
func (l *Loop) endSecured(c *Conn) {
	s := l.secures.of(c)
	s.raw = nil
	if h := s.shake; h != nil {
		s.shake, s.over = nil, true
		l.budget.Handshakes.leave(h)
	}
}
