// Package looptest turns a netpoll.Loop by hand, over sockets that take as many bytes as a test wants. Nothing happens
// but what the test calls, so every interleaving can be had again.
package looptest

import (
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pomelod/pomelod/netpoll"
)

// Net is a driver for any number of loops, and the peers of their sockets.
type Net struct {
	nanos atomic.Int64 // what Now tells; mail of other goroutines reads it
	Pause int64        // nanoseconds that pass before each event

	WriteNanos int64 // that a write takes
	sockets    []*Socket
	loops      []*driver

	// Beside has loops that are turned with these, and sockets that are ready with these, and its loops' clock is this net's: of another process,
	// say. nil: there are none.
	Beside *Net
	// Outside is what goes on beyond all loops. It lets so many ns pass and tells whether anything happened; with 0 it does what is next, if
	// there is something that needs no more than its way. nil: nothing.
	Outside func(ns int64) bool
}

// Socket is the far end of a connection.
type Socket struct {
	FD       int
	Room     int           // bytes our end can still write; negative: without limit
	Whole    int           // writes that are taken whole before that, however long; with the last of them the socket is full, Room is 0
	Err      syscall.Errno // what the next calls fail with
	WriteErr syscall.Errno // what the next writes fail with
	WatchErr error         // what watching it fails with, as when memory runs out
	Wrote    []byte        // all our end has written
	Writes   int           // calls that wrote something
	Largest  int           // bytes of the longest of them
	Closed   bool          // our end closed it
	ShutDown bool          // our end sent the end of the stream
	Layer    Layer         // what the test speaks through; nil: nothing

	in      []byte
	eof     bool
	watched netpoll.Interest
	driver  *driver
}

// Layer stands between a test and its end of a connection, as TLS does: what the test sends is sealed, and Wrote is what was opened of what our end wrote.
type Layer interface {
	Seal(plain []byte) (sealed []byte)
	// Open returns what can be opened by now.
	Open(sealed []byte) (plain []byte)
}

type driver struct {
	net  *Net
	loop *netpoll.Loop
	rung atomic.Bool // mail comes from any goroutine
}

// New makes an empty net.
func New() *Net { return &Net{} }

// Successor is a net for loops that take the place of n's. It has n's sockets, which are not watched until those loops are given them
// (netpoll.Loop.Import). n must not be turned any more.
func (n *Net) Successor() *Net {
	for _, s := range n.sockets {
		s.watched = netpoll.None
	}
	next := &Net{Pause: n.Pause, WriteNanos: n.WriteNanos, sockets: n.sockets, Beside: n.Beside, Outside: n.Outside}
	next.Pass(time.Duration(n.Now()))
	return next
}

// Loop makes a loop with the next index. limits and budget as for netpoll.NewLoop.
func (n *Net) Loop(h netpoll.Handler, limits netpoll.Limits, budget *netpoll.Budget) *netpoll.Loop {
	d := n.Driver()
	l := netpoll.NewLoop(uint8(len(n.loops)-1), h, d, limits, budget, n.Now)
	n.Attach(l)
	return l
}

// Driver makes the driver of a loop with the next index, which is to be given to Attach.
func (n *Net) Driver() netpoll.Driver {
	d := &driver{net: n}
	n.loops = append(n.loops, d)
	return d
}

// Attach tells the net the loop that was made with the driver of its index.
func (n *Net) Attach(l *netpoll.Loop) { n.loops[l.Index()].loop = l }

// Pass lets time go by. Safe from any goroutine.
func (n *Net) Pass(d time.Duration) { n.nanos.Add(int64(d)) }

// Now is the loops' clock in ns. Safe from any goroutine.
func (n *Net) Now() int64 { return n.nanos.Load() }

// Connect opens a connection to l; the loop has adopted it when it next turns.
func (n *Net) Connect(l *netpoll.Loop, tag uint8) *Socket {
	return n.ConnectAs(l, netpoll.ConnState{Tag: tag, Peer: netip.AddrPortFrom(netip.IPv6Loopback(), 0)})
}

// ConnectAs is Connect for a peer of one's choice, with its pass. The descriptor and the port are chosen here.
func (n *Net) ConnectAs(l *netpoll.Loop, c netpoll.ConnState) *Socket {
	s := &Socket{FD: len(n.sockets) + 3, Room: -1, driver: n.loops[l.Index()]}
	n.sockets = append(n.sockets, s)
	c.Peer = netip.AddrPortFrom(c.Peer.Addr(), uint16(s.FD))
	l.Adopt(s.FD, c)
	return s
}

// Send makes bytes readable at our end, without turning its loop.
func (s *Socket) Send(b []byte) {
	if s.Layer != nil {
		b = s.Layer.Seal(b)
	}
	s.in = append(s.in, b...)
}

// End makes the end of the stream readable at our end.
func (s *Socket) End() { s.eof = true }

// Ready reports the socket's readiness to its loop, as epoll would: one event.
func (s *Socket) Ready() {
	r := s.watched&netpoll.Readable != 0 && (len(s.in) > 0 || s.eof || s.Err != 0)
	w := s.watched&netpoll.Writable != 0 && (s.space() || s.Err != 0)
	switch {
	case r || w:
		s.driver.net.Pass(time.Duration(s.driver.net.Pause))
		s.driver.loop.Ready(s.FD, r, w)
	case s.watched == netpoll.Failed && s.Err != 0:
		s.driver.loop.Failed(s.FD)
	}
}

// space tells whether a write would take something.
func (s *Socket) space() bool { return s.Room != 0 || s.Whole > 0 }

// Stale reports to every loop that the socket may be read and written, whoever has it, if anybody, and whatever is there: events come late,
// and name descriptors only.
func (s *Socket) Stale() {
	for _, d := range s.driver.net.loops {
		d.loop.Ready(s.FD, true, true)
	}
}

// Events reports the readiness of every socket once, in the order they were opened: one batch of events.
func (n *Net) Events() {
	n.OwnEvents()
	if n.Beside != nil {
		n.Beside.Events()
	}
}

// OwnEvents is Events without those beside.
func (n *Net) OwnEvents() {
	for _, s := range n.sockets {
		if !s.Closed {
			s.Ready()
		}
	}
}

// Turn turns every loop whose doorbell was rung, once. It tells whether there was one.
func (n *Net) Turn() bool {
	any := false
	for _, d := range n.loops {
		if d.rung.Load() {
			any = true
			d.loop.Turn()
		}
	}
	any = n.Beside != nil && n.Beside.Turn() || any
	return n.Outside != nil && n.Outside(0) || any
}

// TurnLoop turns loop i if its doorbell was rung. It tells whether it was.
func (n *Net) TurnLoop(i int) bool {
	d := n.loops[i]
	if d.rung.Load() {
		d.loop.Turn()
		return true
	}
	return false
}

// Settle alternates events and turns until nothing happens any more. It panics when that takes too long.
func (n *Net) Settle() {
	for i := 0; ; i++ {
		n.Events()
		if !n.Turn() && !n.busy() {
			return
		}
		if i > 100_000 {
			panic("looptest: the loops do not come to rest")
		}
	}
}

// Unclosed is the number of sockets whose end here is open: what a test that has ended everything leaks.
func (n *Net) Unclosed() int {
	open := 0
	for _, s := range n.sockets {
		if !s.Closed {
			open++
		}
	}
	return open
}

// EndAll lets every peer take what there is for it, and end.
func (n *Net) EndAll() {
	for _, s := range n.sockets {
		s.Room, s.Whole, s.eof = -1, 0, true
	}
	if n.Beside != nil {
		n.Beside.EndAll()
	}
}

func (n *Net) busy() bool {
	for _, s := range n.sockets {
		if s.Closed {
			continue
		}
		if s.watched&netpoll.Readable != 0 && (len(s.in) > 0 || s.eof) || s.watched&netpoll.Writable != 0 && s.space() {
			return true
		}
	}
	return n.Beside != nil && n.Beside.busy()
}

// Seconds lets time pass on every loop, a second at a time, settling after each.
func (n *Net) Seconds(k int) {
	for range k {
		n.Pass(time.Second)
		for m := n; m != nil; m = m.Beside {
			for _, d := range m.loops {
				d.loop.Tick()
			}
		}
		n.wake()
		if n.Outside != nil {
			n.Outside(int64(time.Second))
		}
		n.Settle()
	}
}

// Wait lets d pass on every loop, so that groups that wait for their next round begin it, and settles.
func (n *Net) Wait(d time.Duration) {
	n.Pass(d)
	n.wake()
	n.Settle()
}

func (n *Net) wake() {
	for m := n; m != nil; m = m.Beside {
		for _, d := range m.loops {
			d.loop.Wake()
		}
	}
}

// Late lets k seconds pass on loop i alone, and nothing else happen: it is what a loop sees of another that is busy.
func (n *Net) Late(i, k int) {
	for range k {
		n.Pass(time.Second)
		n.loops[i].loop.Tick()
	}
}

// socket is the far end of fd, for the loop that owns it. One that is not watched may change hands.
func (d *driver) socket(fd int) *Socket {
	s := d.net.sockets[fd-3]
	switch {
	case s.Closed:
		panic("looptest: use of a closed socket")
	case s.driver != d && s.watched != netpoll.None:
		panic("looptest: two loops use one socket")
	}
	s.driver = d
	return s
}

func (d *driver) Read(fd int, b []byte) (int, syscall.Errno) {
	s := d.socket(fd)
	switch {
	case s.Err != 0:
		return 0, s.Err
	case len(s.in) > 0:
		n := copy(b, s.in)
		s.in = s.in[n:]
		return n, 0
	case s.eof:
		return 0, 0
	}
	return 0, syscall.EAGAIN
}

func (d *driver) Write(fd int, b []byte) (int, syscall.Errno) {
	s := d.socket(fd)
	if err := max(s.Err, s.WriteErr); err != 0 {
		return 0, err
	}
	if !s.space() {
		return 0, syscall.EAGAIN
	}
	if d.net.WriteNanos != 0 {
		d.net.Pass(time.Duration(d.net.WriteNanos))
	}
	n := len(b)
	if s.Whole > 0 {
		if s.Whole--; s.Whole == 0 {
			s.Room = 0
		}
	} else if s.Room > 0 {
		n = min(n, s.Room)
		s.Room -= n
	}
	wrote := b[:n]
	if s.Layer != nil {
		wrote = s.Layer.Open(wrote)
	}
	s.Wrote = append(s.Wrote, wrote...)
	s.Writes++
	s.Largest = max(s.Largest, len(b))
	return n, 0
}

func (d *driver) Watch(fd int, old, new netpoll.Interest) error {
	s := d.socket(fd)
	if s.watched != old {
		panic("looptest: the loop is wrong about what it watches")
	}
	if s.WatchErr != nil {
		return s.WatchErr
	}
	s.watched = new
	return nil
}

func (d *driver) CloseWrite(fd int) { d.socket(fd).ShutDown = true }

func (d *driver) Close(fd int, _ netpoll.Interest) {
	s := d.socket(fd) // panics when it is closed twice
	s.Closed, s.watched = true, netpoll.None
}

func (d *driver) LocalAddr(fd int) netip.AddrPort {
	d.socket(fd) // panics when there is none
	return netip.AddrPortFrom(netip.IPv6Loopback(), 3050)
}

func (d *driver) Ring()  { d.rung.Store(true) }
func (d *driver) Quiet() { d.rung.Store(false) }
