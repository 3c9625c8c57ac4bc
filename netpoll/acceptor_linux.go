package netpoll

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptBatch is how many connections one readiness event of a listener accepts at most.
const acceptBatch = 64

// Out of descriptors or memory, accepting pauses for this long, doubling up to the second figure.
const minAcceptPause, maxAcceptPause = 5 * time.Millisecond, time.Second

// acceptWarnEvery is the least time between two log lines about pauses.
const acceptWarnEvery = 10 * time.Second

// Acceptor accepts connections on one goroutine (Run) and posts them, in batches, to the loop that has the fewest. When descriptors or
// memory run out it stops watching its listeners for a while (minAcceptPause), after it has closed one waiting client's connection by
// means of a spare descriptor.
type Acceptor struct {
	// Static after construction.
	poller *poller
	loops  []*Loop
	max    int
	stop   int
	accept func(fd, flags int) (int, unix.Sockaddr, error) // accept4(2), or a test's

	// Owned by the goroutine of Run.
	batches [][]incoming
	pause   time.Duration
	warned  time.Time

	mu        sync.Mutex
	listeners []*Listener // guarded by mu
	spare     int         // guarded by mu; a descriptor to give up when there is no other
	closed    bool        // guarded by mu
	running   bool        // guarded by mu
	watching  bool        // guarded by mu; listeners are in the poller
	halted    bool        // guarded by mu; between Pause and Resume

	full                                       atomic.Bool // SetRefuse
	accepted, refused, starved, paused, turned atomic.Uint64
}

// AcceptorStats counts since the start.
type AcceptorStats struct {
	Accepted uint64
	Refused  uint64 // closed at once: too many connections. The gate counts what it refuses
	Starved  uint64 // closed at once: no descriptor left
	Pauses   uint64 // times accepting stopped for lack of descriptors or memory
	Turned   uint64 // closed at once: because of SetRefuse
}

// NewAcceptor makes an acceptor for these loops. While they have max connections, those that are on their way included, further ones are
// closed at once.
func NewAcceptor(loops []*Loop, max int) (*Acceptor, error) {
	a := &Acceptor{loops: loops, max: max, spare: -1, accept: unix.Accept4, batches: make([][]incoming, len(loops)), watching: true}
	var err error
	if a.poller, err = openPoller(); err != nil {
		return nil, fmt.Errorf("open acceptor: %w", err)
	}
	if a.stop, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		_ = a.poller.close()
		return nil, fmt.Errorf("open acceptor: %w", err)
	}
	if err = a.poller.watch(a.stop, None, Readable); err != nil {
		a.closeOwn()
		return nil, fmt.Errorf("open acceptor: %w", err)
	}
	a.openSpare()
	return a, nil
}

// Add starts accepting on ln, which belongs to the acceptor from now on. Safe from any goroutine.
func (a *Acceptor) Add(ln *Listener) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listeners = append(a.listeners, ln)
	if !a.watching {
		return nil
	}
	return a.poller.watch(ln.fd, None, Readable)
}

// resume has listeners watched again. Safe from any goroutine.
func (a *Acceptor) resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.watching || a.halted {
		return
	}
	a.watching = true
	for _, ln := range a.listeners {
		if err := a.poller.watch(ln.fd, None, Readable); err != nil {
			slog.Error("cannot accept on this address any more; restart pomelod", "server", ln.Name, "addr", ln.Addr, "err", err)
		}
	}
}

// Pause accepts nobody until Resume; clients wait in the kernel's queues. When it returns, all that was accepted before has been given to the
// loops. Safe from any goroutine.
func (a *Acceptor) Pause() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.halted = true
	a.unwatch()
}

// Resume ends Pause. Safe from any goroutine.
func (a *Acceptor) Resume() {
	a.mu.Lock()
	a.halted = false
	a.mu.Unlock()
	a.resume()
}

func (a *Acceptor) unwatch() {
	if a.closed || !a.watching {
		return
	}
	a.watching = false
	for _, ln := range a.listeners {
		_ = a.poller.watch(ln.fd, Readable, None)
	}
}

// Stats tells what was accepted. Safe from any goroutine.
func (a *Acceptor) Stats() AcceptorStats {
	return AcceptorStats{Accepted: a.accepted.Load(), Refused: a.refused.Load(), Starved: a.starved.Load(), Pauses: a.paused.Load(), Turned: a.turned.Load()}
}

// SetRefuse says whether new connections are closed at once, as while memory is short. Safe from any goroutine.
func (a *Acceptor) SetRefuse(on bool) { a.full.Store(on) }

// Run accepts until Close, on the calling goroutine. An error means that the kernel's poller has failed.
func (a *Acceptor) Run() error {
	a.mu.Lock()
	a.running = !a.closed
	a.mu.Unlock()
	if !a.running { // Close was faster, and has closed the poller too
		return nil
	}
	err := a.poll()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closeListeners()
	a.closeOwn()
	return err
}

// poll accepts until it is told to stop.
func (a *Acceptor) poll() error {
	for {
		events, err := a.poller.wait(-1)
		if err != nil {
			return err
		}
		for i := range events {
			fd := int(events[i].Fd)
			if fd == a.stop {
				return nil
			}
			a.ready(fd)
		}
	}
}

// Close closes all listeners: clients are refused from now on. Run returns, or need not be called. Safe from any goroutine.
func (a *Acceptor) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.closeListeners()
	if a.running {
		_, _ = unix.Write(a.stop, []byte{1, 0, 0, 0, 0, 0, 0, 1})
	} else {
		a.closeOwn()
	}
}

func (a *Acceptor) closeListeners() {
	a.unwatch()
	a.closed = true
	for _, ln := range a.listeners {
		ln.Close()
	}
	a.listeners = nil
}

func (a *Acceptor) closeOwn() {
	_ = a.poller.close()
	_ = unix.Close(a.stop)
	if a.spare >= 0 {
		_ = unix.Close(a.spare)
		a.spare = -1
	}
}

func (a *Acceptor) ready(fd int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ln := a.listener(fd)
	if ln == nil || !a.watching {
		return
	}
	for range acceptBatch {
		conn, sa, err := a.accept(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			a.pause = 0
			a.hand(ln, conn, sa)
			continue
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			a.exhausted(ln, err)
		case unix.EINTR, unix.ECONNABORTED:
			continue
		case unix.EAGAIN:
		default: // perhaps a passing error of one client's network, perhaps one that stays: in no case a reason to spin
			a.rest("cannot accept a connection; pausing", err, "accept(2) explains the error; if it stays, restart pomelod")
		}
		break // the poller tells when to come back
	}
	for i, batch := range a.batches {
		for _, c := range batch {
			a.loops[i].Adopt(int(c.fd), c.ConnState)
		}
		a.accepted.Add(uint64(len(batch))) // last: the sockets can be found by then
		a.batches[i] = batch[:0]
	}
}

func (a *Acceptor) listener(fd int) *Listener {
	for _, ln := range a.listeners {
		if ln.fd == fd {
			return ln
		}
	}
	return nil
}

// hand gives a new socket to the loop with the fewest.
func (a *Acceptor) hand(ln *Listener, fd int, sa unix.Sockaddr) {
	best, fewest, total, batched := 0, math.MaxInt, 0, 0
	for i, l := range a.loops {
		n := l.Open() + len(a.batches[i])
		if total, batched = total+n, batched+len(a.batches[i]); n < fewest {
			best, fewest = i, n
		}
	}
	if a.full.Load() {
		a.turned.Add(1) // first: the count is right by the time the peer sees its end
		refuse(fd)
		return
	}
	open := a.loops[0].budget.open[ln.tag].Load() + int64(batched) // a batch is of one listener
	if total >= a.max || ln.Max > 0 && open >= int64(ln.Max) {
		a.refused.Add(1)
		refuse(fd)
		return
	}
	c := incoming{fd: int32(fd), ConnState: ConnState{Tag: ln.tag, Peer: addrPort(sa)}}
	if gate := a.loops[0].budget.Gate; gate != nil {
		var ok bool
		if c.Pass, ok = gate.Admit(c.Peer.Addr()); !ok {
			refuse(fd)
			return
		}
	}
	a.batches[best] = append(a.batches[best], c)
}

// addrPort is an address as accept(2) tells it. IPv4 is not mapped into IPv6.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// refuse closes a new socket. What its peer has sent already is read first: closing with bytes unread resets the connection,
// and many a client takes that for a network that failed, and tries again at once.
func refuse(fd int) {
	var b [4 << 10]byte
	_, _ = unix.Read(fd, b[:]) // it does not block
	_ = unix.Close(fd)
}

// exhausted refuses one client, so that it need not wait for nothing, and pauses all accepting for a while.
func (a *Acceptor) exhausted(ln *Listener, err error) {
	if a.spare >= 0 {
		_ = unix.Close(a.spare)
		a.spare = -1
		if fd, _, e := a.accept(ln.fd, unix.SOCK_CLOEXEC); e == nil {
			_ = unix.Close(fd)
			a.starved.Add(1)
		}
	}
	a.openSpare()
	a.rest("cannot accept more connections; pausing", err, "raise LimitNOFILE (ulimit -n) or lower -max-conns")
}

// rest pauses all accepting for a while, longer each time until somebody is accepted.
func (a *Acceptor) rest(message string, err error, hint string) {
	a.unwatch()
	if time.Since(a.warned) > acceptWarnEvery {
		a.warned = time.Now()
		slog.Warn(message, "err", err, "hint", hint)
	}
	a.pause = min(max(2*a.pause, minAcceptPause), maxAcceptPause)
	a.paused.Add(1)
	time.AfterFunc(a.pause, a.resume)
}

func (a *Acceptor) openSpare() {
	if a.spare < 0 {
		a.spare, _ = unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
}

// controlListener sets what accepted sockets shall inherit.
func controlListener(_, _ string, raw syscall.RawConn) error {
	var err error
	e := raw.Control(func(fd uintptr) { err = setOptions(int(fd)) })
	return errors.Join(e, err)
}

// dupListener takes the listening socket out of Go's own poller.
func dupListener(tl *net.TCPListener) (int, error) {
	raw, err := tl.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	e := raw.Control(func(p uintptr) { fd, err = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(e, err)
}
