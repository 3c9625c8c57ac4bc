package netpoll_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/netpoll"
)

// sink is a driver whose sockets take everything and always have the same bytes to read.
type sink struct {
	in   []byte
	rung bool
}

func (d *sink) Read(_ int, b []byte) (int, syscall.Errno)           { return copy(b, d.in), 0 }
func (d *sink) Write(_ int, b []byte) (int, syscall.Errno)          { return len(b), 0 }
func (d *sink) Watch(int, netpoll.Interest, netpoll.Interest) error { return nil }
func (d *sink) CloseWrite(int)                                      {}
func (d *sink) Close(int, netpoll.Interest)                         {}
func (d *sink) LocalAddr(int) netip.AddrPort                        { return netip.AddrPort{} }
func (d *sink) Ring()                                               { d.rung = true }
func (d *sink) Quiet()                                              { d.rung = false }

// benchLoop is a loop with n sockets, whose clock goes on by step at each look.
func benchLoop(b *testing.B, n int, step int64) (*sink, *witness, *netpoll.Loop) {
	d, h := &sink{in: []byte("hello, world")}, newWitness(b)
	now := int64(0)
	h.loop = netpoll.NewLoop(0, h, d, wide, netpoll.NewBudget(1<<40), func() int64 { now += step; return now })
	for i := range n {
		h.loop.Adopt(3+i, netpoll.ConnState{Peer: netip.AddrPortFrom(netip.IPv6Loopback(), uint16(i)), Pass: 1})
	}
	h.loop.Turn()
	return d, h, h.loop
}

// BenchmarkEcho is one event: a read and the write of its answer.
func BenchmarkEcho(b *testing.B) {
	_, h, l := benchLoop(b, 1, 100)
	h.onData = func(c *netpoll.Conn, p []byte) int {
		l.Write(c, p)
		return len(p)
	}
	b.ReportAllocs()
	for b.Loop() {
		l.Ready(3, true, false)
	}
}

// BenchmarkPush is what a push costs each member of its group: at=event is written when the event ends that brought it, at=turn in a turn.
func BenchmarkPush(b *testing.B) {
	for _, at := range []string{"event", "turn"} {
		for _, members := range []int{1, 20, 200} {
			b.Run(fmt.Sprintf("at=%s/members=%d", at, members), func(b *testing.B) {
				d, h, l := benchLoop(b, members, 100)
				if at == "event" {
					d, h, l = benchLoop(b, members, 300_000)
				}
				var g netpoll.Group
				l.Each(func(c *netpoll.Conn) { l.Join(c, &g) })
				h.onData = func(c *netpoll.Conn, p []byte) int {
					l.Push(&g, p)
					return len(p)
				}
				b.ReportAllocs()
				for b.Loop() {
					l.Ready(3, true, false)
					for d.rung {
						l.Turn()
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members), "ns/member")
			})
		}
	}
}

// timed is a sink whose writes take time.
type timed struct {
	sink
	now, each int64
	writes    int
}

func (d *timed) Write(_ int, b []byte) (int, syscall.Errno) {
	d.now += d.each
	d.writes++
	return len(b), 0
}

// BenchmarkHold counts the writes that a message costs each member of a room of 250, with hold and without, where 400 messages a second come at random times and a write takes 5 µs. Its time is none of the machine's, so it counts
// the same everywhere: what hold can save at best is the quotient of two lines.
func BenchmarkHold(b *testing.B) {
	const members, rate, each = 250, 400, 5000
	for _, hold := range []time.Duration{0, 5 * time.Millisecond, 10 * time.Millisecond} {
		b.Run(fmt.Sprint("hold=", hold), func(b *testing.B) {
			d, h := &timed{sink: sink{in: []byte("hello, world")}, each: each}, newWitness(b)
			l := netpoll.NewLoop(0, h, d, wide, netpoll.NewBudget(1<<40), func() int64 { return d.now })
			h.loop = l
			for i := range members {
				l.Adopt(3+i, netpoll.ConnState{Peer: netip.AddrPortFrom(netip.IPv6Loopback(), uint16(i)), Pass: 1})
			}
			l.Turn()
			var g netpoll.Group
			l.Each(func(c *netpoll.Conn) { l.Join(c, &g) })
			l.Pace(&g, hold)
			h.onData = func(_ *netpoll.Conn, p []byte) int {
				l.Push(&g, p)
				return len(p)
			}
			rng, next := rand.New(rand.NewPCG(1, 2)), d.now
			d.writes = 0
			for b.Loop() {
				next += int64(rng.ExpFloat64() * float64(time.Second) / rate)
				for d.now < next { // what there is to do before the message comes
					if rest, any := l.Resting(); d.rung {
						l.Turn()
					} else if wake := d.now + rest; any && wake < next {
						d.now = wake
						l.Wake()
					} else {
						d.now = next
					}
				}
				l.Ready(3, true, false)
			}
			b.ReportMetric(float64(d.writes)/float64(b.N*members), "writes/message")
		})
	}
}

// BenchmarkAnswers is a turn in which each of a thousand conns has an answer staged.
func BenchmarkAnswers(b *testing.B) {
	_, h, l := benchLoop(b, 1000, 100)
	b.ReportAllocs()
	for b.Loop() {
		h.onTurn = func() { l.Each(func(c *netpoll.Conn) { l.Commit(c, append(l.Stage(c), "hello"...)) }) }
		l.Ring()
		l.Turn()
	}
}

// BenchmarkDeadline is what every heartbeat does: it moves a deadline.
func BenchmarkDeadline(b *testing.B) {
	_, h, l := benchLoop(b, 1, 100)
	b.ReportAllocs()
	for b.Loop() {
		l.SetDue(h.last, l.Now()+60)
	}
}
