package netpoll

import (
	"container/list"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// HandshakeLimits bound TLS handshakes. docs/ARCHITECTURE.md, "What is bounded", has them beside all others.
type HandshakeLimits struct {
	// All is how many handshakes may have begun and wait for their peers; beyond it the oldest is ended.
	All int
	// Client is the same for the conns of one client (Pass), but that a handshake has a second first: until the oldest has had it, that client's others wait.
	Client int
	// Rate is how many begin a second at most; others wait, clients in turn.
	Rate int
	// Seconds is the time for a handshake, from the first byte of the peer's.
	Seconds uint32
}

// HandshakeStats counts since the start, and Running is a gauge.
type HandshakeStats struct {
	Done, Failed, Late, Evicted uint64
	Resumed                     uint64 // of Done, those that went on from an earlier session
	Running                     int    // begun, and not over
}

// Handshakes carries out the TLS handshakes of all loops. A loop only brings bytes to a handshake and takes bytes from it: the sums, half a
// millisecond and more for each, are made on goroutines of its own (Run).
//
// crypto/tls cannot leave a handshake and come back to it. So each is a coroutine (iter.Pull), which stops where it needs another record: it has a
// stack while it waits, and neither a thread nor a lock. Its loop hands it over with whole records, and gets it back when it stops. First
// records wait in line, clients in turn, so that many of one client keep only that one waiting; further ones go first, as they
// lead to an end.
//
// Safe from any goroutine.
type Handshakes struct {
	// Static after construction.
	config *tls.Config
	limits HandshakeLimits
	nanos  func() int64

	mu      sync.Mutex
	goOn    list.List        // guarded by mu; of *handshake: have got another record
	turn    list.List        // guarded by mu; of *shaker: have handshakes that wait to begin
	clients map[Pass]*shaker // guarded by mu; those whose conns have something in common
	begun   list.List        // guarded by mu; of *handshake, the oldest first
	next    int64            // guarded by mu; when the next may begin, had there been no pause
	closed  bool             // guarded by mu

	wake chan struct{}
	end  chan struct{}

	done, failed, late, evicted, resumed atomic.Uint64
}

// handshakeBurst is how many handshakes may begin at once after a pause.
const handshakeBurst = 32

// handshakeAge is how old a handshake is at least, in nanoseconds, when it is ended for another one of its client: longer than a round trip. Without this age many
// clients that come back at once from behind one address would end each other's handshakes, and none would ever be done.
const handshakeAge = int64(time.Second)

// handshakeBytes is what a handshake counts for in the budget while it waits for its peer: measured by TestHandshakeBytes.
const handshakeBytes = 32 << 10

// NewHandshakes makes Handshakes, for Budget.Handshakes. config is that of all conns; its GetConfigForClient may choose another for each.
// nanos is a monotonic clock; nil means the real one.
func NewHandshakes(config *tls.Config, limits HandshakeLimits, nanos func() int64) *Handshakes {
	if nanos == nil {
		begin := time.Now()
		nanos = func() int64 { return int64(time.Since(begin)) }
	}
	return &Handshakes{
		config: config, limits: limits, nanos: nanos, clients: make(map[Pass]*shaker), wake: make(chan struct{}, 1), end: make(chan struct{}),
	}
}

// shaker is a client as Handshakes knows it.
type shaker struct {
	pass    Pass
	waiting list.List     // of *handshake: yet to begin
	begun   list.List     // of *handshake, the oldest first
	turn    *list.Element // in Handshakes.turn, while some wait
}

// stage of a handshake says which goroutine has it.
type shakeStage uint8

const (
	shakeHello   shakeStage = iota // its loop: it has not begun
	shakeQueued                    // Handshakes, in waiting or goOn
	shakeRunning                   // a goroutine of Run
	shakeParked                    // its loop: it waits for its peer
	shakeOver                      // nobody
)

// handshake is one of a conn. What is not marked belongs to the loop, and to Run while it runs.
type handshake struct {
	loop   *Loop
	conn   *Conn
	secure *secure
	begun  uint32 // tick
	step   func() (struct{}, bool)
	stop   func()
	done   bool
	err    error

	panicked bool // and has yet to be counted

	// Guarded by Handshakes.mu.
	stage         shakeStage
	shaker        *shaker
	queued        *list.Element // in waiting or goOn
	inAll, inMine *list.Element // in the two lists begun
	at            int64         // when it began, by Handshakes.nanos
	evict         bool          // others took its place
	gone          bool          // its conn ended while a step was running
}

// submit has h go on with the records that are in its wire. Its loop hears of the end of this step (Loop.shaken). Call it on the loop.
func (p *Handshakes) submit(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if first := h.stage == shakeHello; first {
		h.shaker = p.shaker(h.conn.pass)
		h.queued = h.shaker.waiting.PushBack(h)
		if h.shaker.turn == nil {
			h.shaker.turn = p.turn.PushBack(h.shaker)
		}
	} else {
		h.queued = p.goOn.PushBack(h)
	}
	h.stage = shakeQueued
	p.signal()
}

// shaker is the client with this pass.
func (p *Handshakes) shaker(pass Pass) *shaker {
	if !pass.shared() {
		return &shaker{pass: pass}
	}
	k := p.clients[pass]
	if k == nil {
		k = &shaker{pass: pass}
		p.clients[pass] = k
	}
	return k
}

func (p *Handshakes) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take is the next handshake that is to take a step; nil: none, until wait has passed, if that is not 0, or something is submitted.
func (p *Handshakes) take() (h *handshake, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, 0
	}
	if e := p.goOn.Front(); e != nil {
		h = p.goOn.Remove(e).(*handshake)
	} else if p.turn.Len() > 0 {
		now, every := p.nanos(), int64(time.Second)/int64(p.limits.Rate)
		if early := p.next - handshakeBurst*every - now; early > 0 {
			return nil, time.Duration(early)
		}
		k, wait := p.nextShaker(now)
		if k == nil {
			return nil, wait
		}
		p.next = max(p.next, now) + every
		h = k.waiting.Remove(k.waiting.Front()).(*handshake)
		if p.turn.MoveToBack(k.turn); k.waiting.Len() == 0 {
			p.turn.Remove(k.turn)
			k.turn = nil
		}
		p.begin(h, now)
	} else {
		return nil, 0
	}
	h.queued, h.stage = nil, shakeRunning
	if p.goOn.Len()+p.turn.Len() > 0 { // for another goroutine
		p.signal()
	}
	return h, 0
}

// nextShaker is the first in turn of whose handshakes another one may begin now. If there is none, wait is until there is, unless one of theirs is over
// before. It passes over limits.All/limits.Client of them at most: others have not so many.
func (p *Handshakes) nextShaker(now int64) (k *shaker, wait time.Duration) {
	for e := p.turn.Front(); e != nil; e = e.Next() {
		k = e.Value.(*shaker)
		if k.begun.Len() < p.limits.Client {
			return k, 0
		}
		young := time.Duration(k.begun.Front().Value.(*handshake).at + handshakeAge - now)
		if young <= 0 {
			return k, 0
		}
		if wait == 0 || young < wait {
			wait = young
		}
	}
	return nil, wait
}

// begin counts h as begun, and ends the oldest if there are too many then: not before, as its client, if h's is the same, would be forgotten with it.
func (p *Handshakes) begin(h *handshake, now int64) {
	h.at = now
	h.inAll, h.inMine = p.begun.PushBack(h), h.shaker.begun.PushBack(h)
	switch k := h.shaker; {
	case k.begun.Len() > p.limits.Client:
		p.evictOldest(&k.begun)
	case p.begun.Len() > p.limits.All:
		p.evictOldest(&p.begun)
	}
}

// evictOldest has the loop of the oldest handshake of a list end it.
func (p *Handshakes) evictOldest(of *list.List) {
	h := of.Front().Value.(*handshake)
	p.forget(h)
	if h.evict = true; h.stage == shakeQueued {
		h.stage = shakeParked
	}
	p.evicted.Add(1)
	h.loop.shaken.Post(h)
}

// forget takes h out of all lists.
func (p *Handshakes) forget(h *handshake) {
	k := h.shaker
	if h.inAll != nil {
		p.begun.Remove(h.inAll)
		k.begun.Remove(h.inMine)
		if h.inAll, h.inMine = nil, nil; k.turn != nil {
			p.signal() // another one of k may begin
		}
	}
	if h.queued != nil {
		k.waiting.Remove(h.queued) // of the two it is in one
		p.goOn.Remove(h.queued)
		if h.queued = nil; k.waiting.Len() == 0 && k.turn != nil {
			p.turn.Remove(k.turn)
			k.turn = nil
		}
	}
	if k != nil && k.waiting.Len()+k.begun.Len() == 0 && p.clients[k.pass] == k { // else it was forgotten before
		delete(p.clients, k.pass)
	}
}

// Run carries out steps of handshakes until Close. It may run on several goroutines, as many as may make sums at a time.
func (p *Handshakes) Run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		h, wait := p.take()
		if h != nil {
			p.run(h)
			continue
		}
		if wait == 0 {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-p.end:
			return
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// Step carries out one step, if there is one to be taken now. Tests use it in place of Run.
func (p *Handshakes) Step() bool {
	h, _ := p.take()
	if h != nil {
		p.run(h)
	}
	return h != nil
}

// run has h take a step and gives it back to its loop.
func (p *Handshakes) run(h *handshake) {
	h.advance(p.config)
	p.mu.Lock()
	gone := h.gone
	h.stage = shakeParked
	p.mu.Unlock()
	if gone {
		h.abandon()
	}
	h.loop.shaken.Post(h)
}

// advance runs the coroutine until it needs another record or has ended.
func (h *handshake) advance(config *tls.Config) {
	if h.step == nil {
		s := h.secure
		s.conn = tls.Server(&s.wire, config)
		h.step, h.stop = iter.Pull(func(yield func(struct{}) bool) {
			s.wire.yield = yield
			defer h.finish()
			if h.err = s.conn.Handshake(); h.err == nil && begunMessage(s.conn) {
				h.err = errBehindFinished
			}
		})
	}
	h.step()
}

// errBehindFinished means that a piece of a message stood behind the peer's last one. In TLS 1.2 crypto/tls keeps it, for as long as the conn lives.
var errBehindFinished = errors.New("a TLS handshake did not end with its last message")

// finish is the end of the coroutine. A panic is seen here, where the stack still tells of it; it costs this conn only.
func (h *handshake) finish() {
	if r := recover(); r != nil {
		slog.Error("panic in a TLS handshake; the connection is closed", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		h.err, h.panicked = fmt.Errorf("panic: %v", r), true
	}
	h.secure.wire.yield = nil
	h.done = true
}

// leave says that h is over, or that its conn is. Call it on the loop.
func (p *Handshakes) leave(h *handshake) {
	p.mu.Lock()
	p.forget(h)
	running := h.stage == shakeRunning
	if h.gone = running; !running {
		h.stage = shakeOver
	}
	p.mu.Unlock()
	if !running { // else run sees to the rest
		h.abandon() // not while others wait: no list has it any more
	}
}

// state tells which goroutine has h, and whether another handshake took its place.
func (p *Handshakes) state(h *handshake) (stage shakeStage, evicted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return h.stage, h.evict
}

// abandon ends the coroutine, if there is one, and frees what a handshake has that came to nothing: its loop remembers it until its time is over. What is
// sealed is left, as an alert may have yet to be sent. h must rest.
func (h *handshake) abandon() {
	s := h.secure
	if h.stop != nil && !h.done {
		s.wire.to = nil // whatever it may still say
		h.stop()
	}
	if h.step, h.stop = nil, nil; !h.done || h.err != nil {
		s.wire.in, s.conn = nil, nil
	}
}

// Close ends Run, and no handshake goes on.
func (p *Handshakes) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		close(p.end)
	}
}

// Abandon frees what handshakes have that never came to an end. Call it last, when neither loops nor Run are at work.
func (p *Handshakes) Abandon() {
	p.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.begun.Front(); e != nil; e = e.Next() {
		e.Value.(*handshake).abandon()
	}
	p.begun.Init()
}

// Stats tells the figures.
func (p *Handshakes) Stats() HandshakeStats {
	p.mu.Lock()
	running := p.begun.Len()
	p.mu.Unlock()
	return HandshakeStats{
		Done: p.done.Load(), Failed: p.failed.Load(), Late: p.late.Load(), Evicted: p.evicted.Load(), Resumed: p.resumed.Load(), Running: running,
	}
}
