package router

import (
	"sync/atomic"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/limit"
	"github.com/pomelod/pomelod/netpoll"
)

// meter is what a session has used of its limits.
type meter struct {
	all     limit.Bucket // of Limits.SessionRate
	sends   limit.Bucket // of Limits.SendRate
	enters  limit.Bucket // of Limits.EnterRate
	opening uint32       // until it works: bytes of its packages. Then the tick by which its first message must have come
	refused uint16       // packages refused, less those admitted since; before the session worked all its packages
	begun   bool         // it has worked
	spoke   bool         // a message has come
}

// limiter judges by Limits what sessions do, with a reading of the loop's clock that is renewed when a second has passed, and before
// anything is refused. An old reading can only admit more, by at most what the rate is for one second; so nobody who keeps to a rate is
// ever refused, and an admitted message costs no look at the clock. Owned by the loop.
type limiter struct {
	np      *netpoll.Loop
	limits  *Limits
	tick    uint32               // when the clock was read
	now     int64                // what it said, in nanoseconds
	short   *atomic.Bool         // the process has little memory left (Node.SetShort)
	refused [limitReasons]uint64 // for the figures
	late    uint64               // messages refused because the loop is too far behind
}

// read reads the clock.
func (lim *limiter) read() { lim.tick, lim.now = lim.np.Now(), lim.np.Nanos() }

// admit charges a message for h, and returns limitNone or what refuses it.
func (lim *limiter) admit(m *meter, h *handler) limitReason {
	m.spoke = true
	switch {
	case !lim.take(&m.all, &lim.limits.SessionRate):
		return limitSession
	case h.fansOut && !lim.take(&m.sends, &lim.limits.SendRate):
		return limitSend
	case (h.enters || h.reads) && !lim.take(&m.enters, &lim.limits.EnterRate):
		return limitEnter
	}
	m.forgive()
	return limitNone
}

// take takes a token if there is one.
func (lim *limiter) take(b *limit.Bucket, r *limit.Rate) bool {
	if r.None() {
		return true
	}
	if lim.tick != lim.np.Now() {
		lim.read()
	}
	if b.Take(*r, lim.now) {
		return true
	}
	lim.read()
	return b.Take(*r, lim.now)
}

// refuse counts a refusal. It tells whether the session goes on although it is refused: Limits.Flood more of its packages were refused
// than admitted. So a session that sends less than twice what it may is never ended.
func (lim *limiter) refuse(m *meter, why limitReason) (flood bool) {
	lim.refused[why]++
	m.count()
	return lim.limits.Flood > 0 && int(m.refused) >= lim.limits.Flood
}

// chargeEarly charges a package of n bytes before the end of the handshake. It returns false when that is too much.
func (lim *limiter) chargeEarly(m *meter, n int) bool {
	m.opening += uint32(n)
	m.count()
	l := lim.limits
	return (l.EarlyBytes == 0 || int(m.opening) <= l.EarlyBytes) && (l.EarlyPackages == 0 || int(m.refused) <= l.EarlyPackages)
}

// count counts a package that is not admitted.
func (m *meter) count() {
	if m.refused < maxFlood {
		m.refused++
	}
}

const maxFlood = 1<<16 - 1

// longest is how long a package may be.
func (lim *limiter) longest(m *meter) int {
	if m.begun || lim.limits.EarlyBytes == 0 {
		return lim.limits.PackageBytes
	}
	return min(lim.limits.PackageBytes, lim.limits.EarlyBytes)
}

// tooLong is what a session that was sent more at once than longest ends for.
func (lim *limiter) tooLong(m *meter) netpoll.Reason {
	if lim.longest(m) < lim.limits.PackageBytes {
		return reasonEarly
	}
	return reasonTooLong
}

// begin gives a session that works from now on its rates. One that is opened again, as socket.io may do, has what it had.
func (lim *limiter) begin(m *meter) {
	if !m.begun {
		*m = meter{begun: true, opening: lim.np.Now() + lim.limits.FirstSeconds}
	}
}

// overrun tells whether the loop is too far behind to take on what goes to many, and counts that.
func (lim *limiter) overrun() bool {
	d := lim.limits.Delay
	if d == 0 || !lim.np.Overrun(d) {
		return false
	}
	lim.late++
	return true
}

// memoryShort tells whether there is too little memory for another enter or polling session, and counts the refusal.
func (lim *limiter) memoryShort() bool {
	if !lim.short.Load() {
		return false
	}
	lim.refused[limitMemory]++
	return true
}

// spent tells whether a session may say nothing more now.
func (lim *limiter) spent(m *meter) bool {
	lim.read()
	return !m.all.Has(lim.limits.SessionRate, lim.now)
}

// spend takes n messages out of what a session may say, or as many as there are but one: the message itself takes that.
func (lim *limiter) spend(m *meter, n int) { m.all.TakeUpTo(lim.limits.SessionRate, n, lim.now) }

// spendRead charges for so many bytes of what was said: one enter for 16 KiB. They are on their way already, so a session that has less than that owes the rest.
func (lim *limiter) spendRead(m *meter, bytes int) {
	if lim.limits.EnterRate.None() {
		return
	}
	if lim.tick != lim.np.Now() { // not for each of hundreds of messages
		lim.read()
	}
	m.enters.ChargePart(lim.limits.EnterRate, bytes, readBytes, lim.now)
}

// readBytes of what was said cost one enter.
const readBytes = 16 << 10

// forgive takes back a refusal for what was admitted.
func (m *meter) forgive() {
	if m.refused > 0 {
		m.refused--
	}
}

// limitReason says which limit refused something.
type limitReason uint8

const (
	limitSession limitReason = iota
	limitSend
	limitEnter
	limitRoute
	limitPackages
	limitMemory
	limitBan
	limitMute
	limitFilter
	limitReasons
	limitNone = limitReasons
)

// limitNames are the values of the label "reason" of pomelod_limited_total, and of the member "reason" of an answer.
var limitNames = [limitReasons]string{
	limitSession: "session_rate", limitSend: "send_rate", limitEnter: "enter_rate", limitRoute: "route_rate", limitPackages: "package_rate", limitMemory: "memory",
	limitBan: "ban", limitMute: "mute", limitFilter: "filter",
}

// limitAnswers are what requests refused by a limit are answered, and enters.
var limitAnswers = func() (a [limitReasons][2][]byte) {
	for i, name := range limitNames {
		a[i] = [2][]byte{channel.RefusedFor(name), channel.EnterRefusedFor(name)}
	}
	return a
}()

func (r limitReason) answer(enter bool) []byte {
	if enter {
		return limitAnswers[r][1]
	}
	return limitAnswers[r][0]
}

// admit charges a message to its session's limits. It returns false when one of them has refused it, which is done then.
func (l *loop) admit(s *session, c *call) bool {
	why := l.limiter.admit(&s.meter, &c.route.handle)
	if why == limitNone {
		return true
	}
	l.refuse(s, c, why)
	return false
}

// refuse answers a request that a limit refuses; a notify is only counted.
func (l *loop) refuse(s *session, c *call, why limitReason) {
	if c.id != 0 {
		l.answer(s, c, why.answer(c.route.handle.enters))
	}
	l.countRefusal(s, why)
}

// countRefusal counts what a limit has refused, and ends a session that goes on all the same.
func (l *loop) countRefusal(s *session, why limitReason) {
	if l.limiter.refuse(&s.meter, why) && s.phase != ended && s.conn.Alive() {
		l.kickFor(s, "too many messages", reasonFlood)
	}
}

// charge charges a package, or a frame of WebSocket's own, of n bytes that is no message: a pong, a connect, what is out of place, a
// heartbeat whose answer is owed already. It returns false when there were too many; the session may have ended then. What a
// client waits for it is given all the same.
func (l *loop) charge(s *session, n int) bool {
	lim, m := &l.limiter, &s.meter
	if !m.begun {
		return l.chargeEarly(s, n)
	}
	if !lim.take(&m.all, &lim.limits.SessionRate) {
		l.countRefusal(s, limitPackages)
		return false
	}
	m.forgive()
	return l.checkSpoken(s)
}

// chargeEarly charges a package of n bytes to a session that has yet to finish its handshake.
func (l *loop) chargeEarly(s *session, n int) bool {
	if l.limiter.chargeEarly(&s.meter, n) {
		return true
	}
	l.end(s, reasonEarly)
	return false
}

// checkSpoken ends a session that has said nothing since its handshake for too long, and returns false then. Where there is an App such a
// session may be what it wants: it listens only.
func (l *loop) checkSpoken(s *session) bool {
	m := &s.meter
	if !m.begun || m.spoke || l.limits.FirstSeconds == 0 || l.node.app != nil || s.phase != working || l.np.Now() < m.opening {
		return true
	}
	l.end(s, reasonIdle)
	return false
}

// Usage is what a node takes of memory outside of Go's, and what it could give back. Safe from any goroutine.
func (n *Node) Usage() Usage {
	u := Usage{Buffered: n.budget.Buffered(), Slow: n.budget.Slow(), Unread: n.budget.Unread()}
	for _, l := range n.loops {
		u.Conns += l.np.Open()
	}
	return u
}

// Usage is what Node.Usage tells.
type Usage struct {
	Conns    int   // sockets
	Slow     int   // conns with unsent bytes
	Unread   int   // sockets that are not read
	Buffered int64 // bytes buffered for all connections, in both directions
}

// SetShort tells the node that memory is short: enters and new polling sessions are refused. Safe from any goroutine.
func (n *Node) SetShort(short bool) { n.short.Store(short) }

// SetBuffered bounds from now on what is buffered for all connections, at most to Limits.Conn.Buffered; beyond it those for whom it is most
// are closed. Safe from any goroutine.
func (n *Node) SetBuffered(bytes int64) {
	n.budget.SetLimit(min(bytes, n.limits.Load().Conn.Buffered))
}
