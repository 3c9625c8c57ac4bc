package netpoll

import (
	"errors"
	"math"

	"github.com/pomelod/pomelod/internal/wirebytes"
)

// A loop can take the place of another one: conns keep their names, so those that hold such a name need not be told. First the new
// loop learns which names have been given (AppendNames, TakeNames), then it is given the conns (Export, Import), and then it is turned.
// Export changes nothing: the old loop can go on as if nothing had been.

// waitsKept are the waits that go along with a conn. waitsResumed stands for all that the next turn would have ended.
const waitsKept = waitsPaused | waitsThrottled | waitsHeld | waitsResumed

// StateVersion names the encodings of conns and of their names: a process that has another one cannot take them over.
const StateVersion = connStateVersion<<8 | namesVersion

// Export calls f for every conn of this loop, with its socket (-1 for none) and its state, for a loop that takes this one's place. It changes
// nothing. The state has no TLS session in it, so f must leave out conns that are Secured; those of them that have ended are left out here. f adds what the handler knows of c
// (ConnState.Handler) if c is alive. The handler has been told the end of the others, and only their last bytes have yet to be sent. Runs on the loop,
// between events.
func (l *Loop) Export(f func(c *Conn, fd int, s *ConnState)) {
	for slot := range uint32(l.slots.len()) {
		if c := l.slots.at(slot); c.exports() {
			s := l.export(c)
			f(c, int(c.fd), &s)
		}
	}
}

// exports tells whether Export tells of c.
func (c *Conn) exports() bool { return c.Alive() || c.life.writable() && !c.secured }

// export is what Export tells of c.
func (l *Loop) export(c *Conn) ConnState {
	s := ConnState{Tag: c.tag, Pass: c.pass, Peer: c.Peer(), Kept: Kept{Name: c.ID(l), Idle: l.now - c.active}}
	if c.life == lifeLingering {
		s.Kept.Lingers = 1 + max(c.due, l.now) - l.now
	}
	waits := c.waits
	if waits&waitsTurn != 0 && c.Queued() <= throttleBytes { // else it goes on when that has been taken
		waits &^= waitsThrottled
		if !waits.blocked() {
			waits |= waitsResumed
		}
	}
	s.Kept.Waits = uint8(waits & waitsKept)
	if c.in != nil && len(c.in.b) > 0 {
		s.Unread = append(s.Unread, c.in.b...)
		s.Kept.Begun = l.now - c.in.begun
	}
	queued := 0
	if o := c.out; o != nil {
		s.Unsent = o.queue.appendTo(s.Unsent)
		queued = len(s.Unsent)
		s.Unsent = o.stage.appendTo(s.Unsent, 0, o.stage.len())
		if queued > 0 {
			s.Kept.Exempt, s.Kept.Stuck = uint32(o.first), l.now-o.moved
		}
	}
	if g := c.group; g != nil && c.cut < g.end {
		s.Unsent = g.log.appendTo(s.Unsent, c.cut, g.end)
	}
	if queued == 0 { // it would have been one write
		if g := c.group; g != nil && g.waits() {
			for i := range g.latest.frames {
				s.Unsent = append(s.Unsent, g.latest.frames[i].b...)
			}
		}
		s.Kept.Exempt = uint32(len(s.Unsent))
	}
	return s
}

// Arriving tells whether a socket is on its way to the loop that it has yet to adopt. Export does not know of it. Runs on the loop.
func (l *Loop) Arriving() bool { return !l.accepted.Empty() }

// Sever ends the conns that another process has by now, of those that Export tells of, without a word to their peers: sever has to part each from its
// connection before anything else is done to it, and is given its socket and what that is watched for (Epoll.Sever). The handler is told
// ReasonMoved. Runs on the loop, between events.
func (l *Loop) Sever(moved func(*Conn) bool, sever func(fd int, watched Interest)) {
	for slot := range uint32(l.slots.len()) {
		c := l.slots.at(slot)
		if !c.exports() || !moved(c) {
			continue
		}
		if !c.IsPull() {
			l.sockets.sever(c, sever)
		}
		l.Kill(c, ReasonMoved)
	}
	l.endEvent()
}

// Import makes the conn that Export has told of, under its name: fd is its socket, -1 if it had none. The handler is told by Open, also of a
// conn without a socket; it sets the conn's deadline and its group. Nothing is read or written before the next event. An error means that
// the name is not one of this loop's, or taken; then nothing was done, and fd is still the caller's. Runs on the loop.
func (l *Loop) Import(fd int, s *ConnState) error {
	k := &s.Kept
	c := l.slots.claim(k.Name)
	if c == nil {
		return ErrConnState
	}
	c.life, c.tag, c.pass, c.active = lifeOpen, s.Tag, s.Pass, l.now-k.Idle
	c.SetPeer(s.Peer)
	if fd == noSocket {
		c.fd = noSocket
		l.pulls.Add(1)
	} else {
		l.sockets.add(c, int32(fd))
		l.counts.add(c.tag)
	}
	if k.Lingers > 0 {
		c.life = lifeLingering
		l.SetDue(c, l.now+k.Lingers-1)
	} else {
		l.call.open(c, s.Handler)
	}
	if c.life.writable() {
		l.keep(c, s)
	}
	return nil
}

// keep gives an imported conn what it has kept.
func (l *Loop) keep(c *Conn, s *ConnState) {
	k := &s.Kept
	if len(s.Unread) > 0 {
		l.inboxes.fill(c, append(l.inboxes.of(c).b[:0], s.Unread...))
		c.in.begun = l.now - k.Begun
	}
	if len(s.Unsent) > 0 {
		l.outboxes.enqueue(c, segment{b: append([]byte(nil), s.Unsent...)})
		c.out.first, c.out.moved = int(min(k.Exempt, uint32(len(s.Unsent)))), l.now-k.Stuck
		if c.IsPull() { // its peer may be there already, and no socket will say so
			l.offers.noted.add(c)
			l.Ring()
		}
	}
	c.waits = waits(k.Waits) & waitsKept
	if c.Throttled() && c.out == nil { // nothing would end that
		c.waits = c.waits&^waitsThrottled | waitsResumed
	}
	if c.waits&waitsResumed != 0 {
		l.waiting.resumed.add(c)
		l.Ring()
	}
	if c.waits&(waitsPaused|waitsThrottled) == 0 {
		l.watch(c, c.watched|Readable)
	}
}

// namesVersion is the first byte of the names.
const namesVersion = 1

// errNames is the error of TakeNames.
var errNames = errors.New("malformed names of connections")

// AppendNames appends which names this loop has given, and its clock. Runs on the loop.
func (l *Loop) AppendNames(dst []byte) []byte {
	gens := l.slots.generations()
	dst = wirebytes.AppendUints(append(dst, namesVersion), uint64(l.now), uint64(len(gens)))
	for _, gen := range gens {
		dst = wirebytes.AppendUints(dst, uint64(gen))
	}
	return dst
}

// TakeNames has a loop that has had no conn begin where another has come to, and gives none of its names again. Runs on the loop.
func (l *Loop) TakeNames(b []byte) error {
	r := wirebytes.NewReader(b)
	version, now, n := r.Byte(), r.UpTo(math.MaxUint32), r.UpTo(1<<24)
	if version != namesVersion || now == 0 || n%slabConns != 0 || n > uint64(len(r.Rest())) || l.slots.len() > 0 {
		return errNames
	}
	gens := make([]uint32, n)
	for i := range gens {
		gens[i] = uint32(max(r.UpTo(math.MaxUint32), 1))
	}
	if !r.End() {
		return errNames
	}
	l.slots.follow(gens)
	l.clock.goOn(uint32(now))
	l.wheel.at = l.now
	return nil
}
