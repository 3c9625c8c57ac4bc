package router

import (
	"fmt"
	"math"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/netpoll"
)

// Rate is a token bucket: PerSecond messages in the long run, to a thousandth, and Burst of them at once. The zero Rate is no
// limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// What a Rate may be. With the fastest a bucket's arithmetic holds for 59 hours of silence (bucket).
const (
	minPerSecond, maxPerSecond = 0.001, 10_000
	maxBurst                   = 1_000_000
	maxFillSeconds             = 24 * 3600
)

// check refuses a rate that cannot be kept; name is what the operator knows it by.
func (r Rate) check(name string) error {
	fits := r.PerSecond >= minPerSecond && r.PerSecond <= maxPerSecond && r.Burst >= 1 && r.Burst <= maxBurst
	if r == (Rate{}) || fits && float64(r.Burst)/r.PerSecond <= maxFillSeconds {
		return nil
	}
	return fmt.Errorf("%s %g:%d: must be %g to %d messages a second and 1 to %d at once, at most what a day allows; or 0 for no limit",
		name, r.PerSecond, r.Burst, minPerSecond, maxPerSecond, maxBurst)
}

// allowed is how many messages the rate has let through since the clock began, modulo 2^32.
func (r Rate) allowed(nanos int64) uint32 {
	milli := int64(math.Round(r.PerSecond * 1000))
	return uint32((nanos/1e9*milli + nanos%1e9*milli/1e9) / 1000) // each part exact, and far from the end of 64 bits
}

// bucket is a token bucket in four bytes (GCRA, but counted in messages instead of time, so that no rate is rounded).
//
// Let allowed be what the rate has let through since the clock began. A bucket is the count that allowed must reach for it to be
// full again; how far it is ahead of allowed is how many messages it lacks. Taking one adds one:
//
//	lacks = max(bucket - allowed, 0)       refused if lacks >= burst, else
//	bucket = allowed + lacks + 1
//
// Both wrap around at 2^32, and their difference is read as a signed number: one that is ahead is so by at most burst, so a
// negative difference means that the bucket is full. That is right as long as allowed gains less than 2^31 on a
// bucket, which takes the fastest rate 59 hours. Every package of a session brings its buckets up to date, and so does its
// deadline, which is a day away at most (limiter.refresh).
type bucket uint32

// take takes a message out, if there is one.
func (b *bucket) take(allowed uint32, burst int) bool {
	lacks := max(int32(uint32(*b)-allowed), 0)
	if int(lacks) >= burst {
		return false
	}
	*b = bucket(allowed + uint32(lacks) + 1)
	return true
}

// lacks is how many messages it lacks to be full.
func (b bucket) lacks(allowed uint32) int { return int(max(int32(uint32(b)-allowed), 0)) }

// settle forgets how long a full bucket has been full.
func (b *bucket) settle(allowed uint32) {
	if int32(uint32(*b)-allowed) < 0 {
		*b = bucket(allowed)
	}
}

// meter is what a session has used of its limits. It begins when the session first works; before that all counts bytes
// and refused packages.
type meter struct {
	all     bucket // of Limits.SessionRate
	sends   bucket // of Limits.SendRate; until the first message the tick by which it must come
	enters  bucket // of Limits.EnterRate
	refused uint16 // packages refused, less those admitted since
	begun   bool
	spoke   bool // a message has come
}

// limiter judges by Limits what sessions do, with a loop's reading of its clock, as the session rates count it. That is renewed when a
// second has passed, and before anything is refused. An old reading can only admit more, by at most what the rate is for one second; so
// nobody who keeps to a rate is ever refused, and an admitted message costs no look at the clock. Owned by the loop.
type limiter struct {
	np                 *netpoll.Loop
	limits             *Limits
	tick               uint32
	all, sends, enters uint32               // what the rates have let through until tick
	refused            [limitReasons]uint64 // for the figures
}

// read reads the clock.
func (lim *limiter) read() {
	nanos := lim.np.Nanos()
	lim.tick = lim.np.Now()
	lim.all = lim.limits.SessionRate.allowed(nanos)
	lim.sends = lim.limits.SendRate.allowed(nanos)
	lim.enters = lim.limits.EnterRate.allowed(nanos)
}

// refresh reads the clock if a second has passed, and brings the buckets of m up to date, so that they can wrap around.
func (lim *limiter) refresh(m *meter) {
	if lim.tick != lim.np.Now() {
		lim.read()
	}
	m.all.settle(lim.all)
	m.enters.settle(lim.enters)
	if m.spoke {
		m.sends.settle(lim.sends)
	}
}

// admit charges a message for h, and returns limitNone or what refuses it.
func (lim *limiter) admit(m *meter, h *handler) limitReason {
	if !m.spoke {
		if lim.tick != lim.np.Now() {
			lim.read()
		}
		m.spoke, m.sends = true, bucket(lim.sends)
	}
	lim.refresh(m)
	switch {
	case lim.over(&m.all, &lim.limits.SessionRate, &lim.all):
		return limitSession
	case h.fansOut && lim.over(&m.sends, &lim.limits.SendRate, &lim.sends):
		return limitSend
	case h.enters && lim.over(&m.enters, &lim.limits.EnterRate, &lim.enters):
		return limitEnter
	}
	m.forgive()
	return limitNone
}

// over charges a bucket. It tells whether that had nothing left; then the clock has been read.
func (lim *limiter) over(b *bucket, r *Rate, allowed *uint32) bool {
	if r.Burst == 0 || b.take(*allowed, r.Burst) {
		return false
	}
	lim.read()
	return !b.take(*allowed, r.Burst)
}

// refuse counts a refusal. It tells whether the session goes on although it is refused: Limits.Flood more of its packages were refused
// than admitted. So who sends less than twice what it may is never ended.
func (lim *limiter) refuse(m *meter, why limitReason) (flood bool) {
	lim.refused[why]++
	if m.refused < maxFlood {
		m.refused++
	}
	return lim.limits.Flood > 0 && int(m.refused) >= lim.limits.Flood
}

const maxFlood = 1<<16 - 1

// early charges a package of n bytes before the end of the handshake. It returns false when that is too much.
func (lim *limiter) early(m *meter, n int) bool {
	m.all += bucket(n)
	m.refused++
	if most := lim.limits.EarlyBytes; most > 0 && int(m.all) > most {
		return false
	}
	if most := lim.limits.EarlyPackages; most > 0 && int(m.refused) > most {
		return false
	}
	if m.refused == maxFlood { // without a limit it counts no further
		m.refused--
	}
	return true
}

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

// begin fills the buckets of a session that works from now on. One that is opened again, as socket.io may do, has what it had.
func (lim *limiter) begin(m *meter) {
	if m.begun {
		return
	}
	lim.read()
	*m = meter{all: bucket(lim.all), enters: bucket(lim.enters), begun: true}
	m.sends = bucket(lim.np.Now() + lim.limits.FirstSeconds)
}

// spent tells whether a session may say nothing more now.
func (lim *limiter) spent(m *meter) bool {
	r := &lim.limits.SessionRate
	if r.Burst == 0 {
		return false
	}
	lim.read()
	return m.all.lacks(lim.all) >= r.Burst
}

// spend takes n messages out of what a session may say, or as many as there are.
func (lim *limiter) spend(m *meter, n int) {
	if r := &lim.limits.SessionRate; r.Burst > 0 {
		lacks := m.all.lacks(lim.all)
		m.all = bucket(lim.all + uint32(max(lacks, min(lacks+n, r.Burst-1)))) // the message itself takes one
	}
}

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
	limitReasons
	limitNone = limitReasons
)

// limitNames are the values of the label "reason" of pomelod_limited_total, and of the member "reason" of an answer.
var limitNames = [limitReasons]string{
	limitSession: "session_rate", limitSend: "send_rate", limitEnter: "enter_rate", limitRoute: "route_rate", limitPackages: "package_rate", limitMemory: "memory",
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
	l.refused(s, why)
}

// refused counts what a limit has refused, and ends a session that goes on all the same.
func (l *loop) refused(s *session, why limitReason) {
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
		return l.early(s, n)
	}
	if lim.tick != l.np.Now() {
		lim.read()
	}
	if lim.over(&m.all, &lim.limits.SessionRate, &lim.all) {
		l.refused(s, limitPackages)
		return false
	}
	m.forgive()
	return l.speaks(s)
}

// early charges a package of n bytes to a session that has yet to finish its handshake.
func (l *loop) early(s *session, n int) bool {
	if l.limiter.early(&s.meter, n) {
		return true
	}
	l.end(s, reasonEarly)
	return false
}

// speaks brings a session's buckets up to date. It ends a session that has said nothing since its handshake for too long, and returns false
// then. Where there is an App such a session may be what it wants: it listens only.
func (l *loop) speaks(s *session) bool {
	m := &s.meter
	if !m.begun {
		return true
	}
	l.limiter.refresh(m)
	if m.spoke || l.node.limits.FirstSeconds == 0 || l.node.app != nil || s.phase != working || l.np.Now() < uint32(m.sends) {
		return true
	}
	l.end(s, reasonIdle)
	return false
}

// routeRate is what App.Limit says of a route.
type routeRate struct {
	Rate
	index int // into known.rates
}

// overRoute charges a call to the bucket that its session has for the route.
func (l *loop) overRoute(s *session, r *routeRate) bool {
	if r == nil {
		return false
	}
	h, nanos := l.handle(s), l.np.Nanos()
	if h.rates == nil {
		h.rates = make([]routeBucket, l.node.app.rates)
		for i := range h.rates {
			h.rates[i].at = nanos - routeForget - 1
		}
	}
	b := &h.rates[r.index]
	allowed := r.allowed(nanos)
	if nanos-b.at > routeForget {
		b.bucket = bucket(allowed)
	}
	b.at = nanos
	return !b.bucket.take(allowed, r.Burst)
}

// routeBucket is a bucket that need not be brought up to date: it knows when it was last.
type routeBucket struct {
	bucket bucket
	at     int64
}

// routeForget is as long as any bucket may take to fill, and less than one takes to wrap around.
const routeForget = int64(maxFillSeconds * 1e9)

// Usage is what a node takes of memory outside of Go's, and what it could give back. Safe from any goroutine.
func (n *Node) Usage() Usage {
	u := Usage{Unsent: n.budget.Total(), Slow: n.budget.Slow(), Unread: n.budget.Unread()}
	for _, l := range n.loops {
		u.Conns += l.np.Open()
	}
	return u
}

// Usage is what Node.Usage tells.
type Usage struct {
	Conns  int   // sockets
	Slow   int   // conns with unsent bytes
	Unread int   // sockets that are not read
	Unsent int64 // bytes kept for them, and for those who have sent messages in part
}

// SetShort tells the node that memory is short: enters and new polling sessions are refused. Safe from any goroutine.
func (n *Node) SetShort(short bool) { n.short.Store(short) }

// SetUnsent bounds what is kept for all conns, unsent and half received, from now on, at most Limits.Conn.OutboundAll; beyond it
// those for whom it is most are closed. Safe from any goroutine.
func (n *Node) SetUnsent(bytes int64) {
	n.budget.SetLimit(min(bytes, n.limits.Conn.OutboundAll))
}
