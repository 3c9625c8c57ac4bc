package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/filter"
)

// Filter looks at what clients say before it is said; the zero Filter lets everything pass. What programs and operators say is not looked at.
type Filter struct {
	Judge filter.Func
	// Resting tells, without waiting, that Judge would fail at once; nil: it never does. Safe from any goroutine.
	Resting func() bool
	// Timeout is the time for a message, half of which it may wait for its turn.
	Timeout time.Duration
	// AtOnce is how many messages are looked at at a time, each on a goroutine; others wait, addresses in turn.
	AtOnce int
	// Pass lets what could not be looked at be said, instead of refusing it.
	Pass bool
}

// maxFilterBytes is how much messages that wait to be looked at may take, each with its content and filterCost.
const (
	maxFilterBytes = 32 << 20
	filterCost     = 1024
)

// sieve is a Filter at work. What a session says waits in the session, whose next message waits behind it, so what one says keeps its order, and nobody waits for what
// somebody else says. Safe from any goroutine.
type sieve struct {
	Filter
	turns
	told atomic.Int64 // when it was last logged that messages cannot be looked at
}

// newSieve is a Filter at work; nil if there is none.
func newSieve(f Filter) *sieve {
	if f.Judge == nil {
		return nil
	}
	v := &sieve{Filter: f, turns: turns{atOnce: max(f.AtOnce, 1), most: maxFilterBytes}}
	v.told.Store(-filterTroubleEvery)
	return v
}

// filterResult is what became of a message that was to be looked at.
type filterResult uint8

const (
	filterPassed filterResult = iota
	filterChanged
	filterRefused
	filterFailed // it could not be looked at
	filterBusy   // it was not: too much waits
	filterResults
)

// filterResultNames are the values of the label "result" of pomelod_filtered_total.
var filterResultNames = [filterResults]string{
	filterPassed: "passed", filterChanged: "changed", filterRefused: "refused", filterFailed: "failed", filterBusy: "busy",
}

// sift implements calls: it has a message looked at, which is then said, changed or not, or refused. While the filter rests nothing leaves the loop for it.
func (l *loop) sift(s *session, c *call, said filter.Said) {
	v := l.node.sieve
	if v.Resting != nil && v.Resting() {
		l.counters.filtered[filterFailed]++
		if v.Pass {
			c.sifted = said.Room
			l.carriers.chat.send(s, c)
		} else {
			l.refuseSifted(s, c)
		}
		return
	}
	body, _ := c.json() // it was read before
	again := call{id: c.id, idBytes: c.idBytes, route: c.route, body: append([]byte(nil), body...), sifted: said.Room}
	said.Address = s.conn.Peer().Addr()
	if who := s.identity(); who != nil {
		said.UID = who.UID
	}
	at, until := l.addr(s.conn), time.Now().Add(v.Timeout)
	req := l.await(s, c, 0, limitFilter.answer(false), v.seconds())
	s.x.handling, s.x.sifting = true, &again
	added := v.add(said.Address, len(body)+len(said.Content)+filterCost, func() {
		verdict, err := v.judge(until, said)
		l.postRun(len(verdict.Content), func() { l.sifted(at, req, &again, verdict, err) })
	})
	if !added {
		l.counters.filtered[filterBusy]++
		l.limiter.refused[limitFilter]++
		l.finish(s, limitFilter.answer(false), "")
	}
}

// siftAgain has the filter of this process look at what a session says that came while the one before looked at that (importSession), unless it was given up or the
// session has ended. Nothing has been said yet; the filter may be asked twice. Where there is none any more it is said.
func (l *loop) siftAgain(at channel.Addr, req uint32) {
	if s := l.suspended(at, req); s != nil && s.x.sifting != nil {
		l.proceed(s, s.x.sifting, func(on *carriers, s *session, c *call) { on.chat.send(s, c) })
	}
}

// errFilterHangs is the error of what the filter has neither answered nor given up when its time was over.
var errFilterHangs = errors.New("the filter does not answer, and does not end when its time is over")

// seconds is after how many ticks a message is given up, whatever the filter does.
func (v *sieve) seconds() uint32 { return uint32(2*v.Timeout/time.Second) + 2 }

// judge has the filter look at a message, if there is time for it still. A panic of its is an error.
func (v *sieve) judge(until time.Time, said filter.Said) (verdict filter.Verdict, err error) {
	if time.Until(until) < v.Timeout/2 { // the filter would be taken for one that does not answer, which it may be given no time for
		return verdict, fmt.Errorf("messages wait for too long: %w", context.DeadlineExceeded)
	}
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			slog.Error("panic while a message was looked at", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			verdict, err = filter.Verdict{}, fmt.Errorf("panic: %v", p)
		}
	}()
	return v.Judge(ctx, said)
}

// sifted takes what was said of a message, unless it was given up or its session has ended.
func (l *loop) sifted(at channel.Addr, req uint32, c *call, verdict filter.Verdict, err error) {
	s, v := l.suspended(at, req), l.node.sieve
	if s == nil {
		return
	}
	result := filterPassed
	switch {
	case err != nil:
		v.trouble(l.np.Nanos(), err)
		result = filterFailed
	case verdict.Refused:
		result = filterRefused
	case verdict.Content != nil:
		c.body = replaced(c.body, verdict.Content)
		result = filterChanged
	}
	l.counters.filtered[result]++
	if result == filterRefused || result == filterFailed && !v.Pass {
		l.limiter.refused[limitFilter]++
		l.finish(s, limitFilter.answer(false), "")
		return
	}
	l.proceed(s, c, func(on *carriers, s *session, c *call) { on.chat.send(s, c) })
}

// refuseSifted refuses a message that is not looked at.
func (l *loop) refuseSifted(s *session, c *call) {
	l.limiter.refused[limitFilter]++
	l.answer(s, c, limitFilter.answer(false))
}

// replaced is the body of a send with another content: what else send looks at is as it was.
func replaced(body, content []byte) []byte {
	b := append(append(make([]byte, 0, len(content)+len(body)), `{"content":`...), content...)
	object := codec.ScanObject(body)
	for key, value, more := object.Next(); more; key, value, more = object.Next() {
		switch name := string(key); name {
		case "target", "mid", "rid":
			b = append(append(append(append(b, `,"`...), name...), `":`...), value...)
		}
	}
	return append(b, '}')
}

// filterTroubleEvery is the least time between two log lines about messages that could not be looked at, in nanoseconds.
const filterTroubleEvery = int64(10 * time.Second)

// trouble tells the log that a message could not be looked at. now is of any clock that all callers have.
func (v *sieve) trouble(now int64, err error) {
	if last := v.told.Load(); now-last < filterTroubleEvery || !v.told.CompareAndSwap(last, now) {
		return
	}
	become := "refused"
	if v.Pass {
		become = "said all the same"
	}
	slog.Error("messages cannot be looked at by the filter, and are "+become, "err", err, "hint", "pomelod_filtered_total counts them; this line comes at most once in ten seconds")
}
