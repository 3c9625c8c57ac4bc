package netpoll_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/internal/seed"
	"github.com/pomelod/pomelod/netpoll"
)

// driven is a witness on a loop that epoll turns.
type driven struct {
	*witness
	mail *netpoll.Mailbox[func()]
}

func (d *driven) Turn() { d.mail.Drain(1000, func(f *func()) { (*f)() }) }

// do has d's loop run f, and returns when it has.
func (d *driven) do(f func()) {
	done := make(chan struct{})
	d.mail.Post(func() { f(); close(done) })
	<-done
}

const patience = 20 * time.Second // for one thing that takes milliseconds

// site is two loops and two listeners, of which each takes so many clients.
type site struct {
	t     *testing.T
	on    [2]*driven
	addr  [2]string
	gate  *counter
	ended chan netpoll.Reason // of every conn that has not moved
}

const maxClients = 20

func newSite(t *testing.T, wire func(s *site, d *driven)) *site {
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil { // Go's own poller opens its descriptors with the first
		_ = ln.Close()
	}
	before := descriptors(t)
	s := &site{t: t, ended: make(chan netpoll.Reason, 1000)}
	budget := netpoll.NewBudget(1 << 40)
	s.gate = newCounter(t)
	budget.Gate = s.gate
	var epolls []*netpoll.Epoll
	var loops []*netpoll.Loop
	for i := range s.on {
		e, err := netpoll.NewEpoll()
		if err != nil {
			t.Fatal(err)
		}
		d := &driven{witness: newWitness(t)}
		d.gate = s.gate
		d.loop = netpoll.NewLoop(uint8(i), d, e, wide, budget, nil)
		d.mail = netpoll.NewMailbox[func()](d.loop.Ring)
		d.onClosed = func(_ *netpoll.Conn, why netpoll.Reason) {
			if why != netpoll.ReasonMoved {
				s.ended <- why
			}
		}
		s.on[i] = d
		epolls, loops = append(epolls, e), append(loops, d.loop)
	}
	for _, d := range s.on {
		wire(s, d)
	}
	acceptor, err := netpoll.NewAcceptor(loops, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.addr {
		ln, err := netpoll.Listen("test", "127.0.0.1:0", uint8(i+1))
		if err != nil {
			t.Fatal(err)
		}
		ln.Max = maxClients
		s.addr[i] = ln.Addr.String()
		if err := acceptor.Add(ln); err != nil {
			t.Fatal(err)
		}
	}
	var running sync.WaitGroup
	for i, e := range epolls {
		running.Go(func() {
			if err := e.Run(loops[i]); err != nil {
				t.Error(err)
			}
		})
	}
	running.Go(func() {
		if err := acceptor.Run(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		for _, d := range s.on {
			d.do(func() { d.loop.Each(func(c *netpoll.Conn) { d.loop.Kill(c, netpoll.ReasonHandler) }) })
			d.do(func() {
				if st := d.loop.Stats(); st.Conns != 0 || st.Pulls != 0 || st.Unsent != 0 || st.Slow != 0 || st.Panics != 0 || len(d.conns) != 0 {
					t.Errorf("loop %d: something is left: %+v, %d conns", d.loop.Index(), st, len(d.conns))
				}
			})
		}
		acceptor.Close()
		for _, e := range epolls {
			e.Stop()
		}
		running.Wait()
		for _, e := range epolls {
			e.CloseAll()
		}
		if n := s.gate.left(); n != 0 {
			t.Errorf("%d passes have not come back", n)
		}
		if after := descriptors(t); after != before {
			t.Errorf("%d descriptors are open, %d were before", after, before)
		}
	})
	return s
}

func descriptors(t *testing.T) int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// dial connects to a listener and asks for a sign of life; without one it was refused.
func (s *site) dial(listener int) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", s.addr[listener], patience)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = c.Write([]byte("?"))
	if _, err = io.ReadFull(c, make([]byte, 1)); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// awaitEnds waits until n conns have ended and nothing of them is left.
func (s *site) awaitEnds(n int) {
	s.t.Helper()
	for range n {
		select {
		case <-s.ended:
		case <-time.After(patience):
			s.t.Fatal("a conn did not end")
		}
	}
	for _, d := range s.on {
		d.do(func() {})
	}
}

// checkCounts finds out by what is accepted that no socket is counted any more: neither too few may enter, nor too many.
func (s *site) checkCounts() {
	s.t.Helper()
	var clients []net.Conn
	for listener := range s.addr {
		for i := range maxClients + 1 {
			c, err := s.dial(listener)
			if err == nil {
				clients = append(clients, c)
			}
			if refused := err != nil; refused != (i == maxClients) {
				s.t.Errorf("listener %d: client %d of at most %d was refused: %v (%v)", listener, i+1, maxClients, refused, err)
				break
			}
		}
	}
	for _, c := range clients {
		_ = c.Close()
	}
	s.awaitEnds(len(clients))
}

// Clients that read only when everything they sent has been heard are told exactly the echo of it, on whichever loop each
// byte was heard.
func TestEpollMove(t *testing.T) {
	const n, bytesSent, times = 8, 1500, 800 // each byte is echoed so often that sockets fill up
	rng := seed.Rand(t)
	var heard, moves, unsent, unread atomic.Int64
	all := make(chan struct{})
	s := newSite(t, func(s *site, d *driven) {
		d.onData = func(c *netpoll.Conn, b []byte) int {
			queued := c.Queued()
			for i, x := range b {
				if x != '?' && heard.Add(1) == n*bytesSent {
					close(all)
				}
				switch x {
				case '?':
					d.loop.Write(c, []byte("+"))
				case 'm':
					moves.Add(1)
					if queued > 0 {
						unsent.Add(1)
					}
					if i+1 < len(b) {
						unread.Add(1)
					}
					d.move(s.on[1-d.loop.Index()].witness)
					return i + 1
				default:
					d.loop.Write(c, bytes.Repeat(b[i:i+1], times))
				}
			}
			return len(b)
		}
	})
	var clients sync.WaitGroup
	for i := range n {
		sent := make([]byte, bytesSent)
		for i := range sent {
			sent[i] = byte('a' + rng.IntN(16)) // m among them
		}
		cuts := rng.Perm(50)
		clients.Go(func() {
			if err := s.echo(i%2, sent, cuts, times, all); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	clients.Wait()
	if t.Failed() {
		return
	}
	s.awaitEnds(n)
	if moves.Load() == 0 || unsent.Load() == 0 || unread.Load() == 0 {
		t.Errorf("%d moves, %d with unsent and %d with unread bytes", moves.Load(), unsent.Load(), unread.Load())
	}
	s.checkCounts()
}

// echo sends in pieces of the lengths given and, when all is closed, compares what comes back.
func (s *site) echo(listener int, sent []byte, cuts []int, times int, all <-chan struct{}) error {
	c, err := s.dial(listener)
	if err != nil {
		return err
	}
	defer c.Close()
	for i, rest := 0, sent; len(rest) > 0; i++ {
		n := min(1+cuts[i%len(cuts)], len(rest))
		if _, err := c.Write(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	select {
	case <-all:
	case <-time.After(patience):
		return errors.New("not everything was heard")
	}
	var want []byte
	for _, x := range sent {
		if x != 'm' {
			want = append(want, bytes.Repeat([]byte{x}, times)...)
		}
	}
	buf := make([]byte, 10_000)
	for at := 0; at < len(want); {
		n, err := c.Read(buf)
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", at, len(want), err)
		}
		if n > len(want)-at || !bytes.Equal(buf[:n], want[at:at+n]) {
			return fmt.Errorf("another echo after %d of %d bytes", at, len(want))
		}
		at += n
	}
	return nil
}

// A peer opens a session without a socket by one connection and takes it over with another, that came by another listener
// and perhaps to the wrong loop. It is told what waited, in its new form, and what is pushed from then on.
func TestEpollAttach(t *testing.T) {
	var groups [2]netpoll.Group
	s := newSite(t, func(s *site, d *driven) {
		sessions := map[*netpoll.Conn]netpoll.ID{} // that are or were without a socket
		d.onData = func(c *netpoll.Conn, b []byte) int {
			l := d.loop
			if id, is := sessions[c]; is && id == c.ID(l) {
				l.Write(c, b)
				return len(b)
			}
			switch {
			case b[0] == '?':
				l.Write(c, []byte("+"))
				return 1
			case b[0] == 'p':
				p := l.OpenPull(c.Tag(), c.Peer())
				d.open(p)
				sessions[p] = p.ID(l)
				l.Join(p, &groups[l.Index()])
				l.Write(p, []byte("own;"))
				l.Write(c, fmt.Appendf(nil, "%016x", uint64(p.ID(l))))
				return 1
			case len(b) < 17:
				return 0
			}
			n, err := strconv.ParseUint(string(b[1:17]), 16, 64)
			id := netpoll.ID(n)
			if err != nil {
				t.Error(err)
			}
			if id.Loop() != l.Index() {
				d.move(s.on[id.Loop()].witness)
				return 0
			}
			p := l.Find(id)
			if p == nil || !p.IsPull() {
				l.Kill(c, netpoll.ReasonHandler)
				return 0
			}
			l.Write(c, []byte("101;"))
			l.Write(p, bytes.ToUpper(l.TakeOutput(p)))
			l.Join(p, &groups[l.Index()])
			d.attach(p)
			return 17
		}
	})
	const n = maxClients
	var opened, socks [n]net.Conn
	var names [n][16]byte
	var err error
	for i := range n {
		if opened[i], err = s.dial(0); err != nil {
			t.Fatal(err)
		}
		defer opened[i].Close()
		if _, err = opened[i].Write([]byte("p")); err != nil {
			t.Fatal(err)
		}
		if _, err = io.ReadFull(opened[i], names[i][:]); err != nil {
			t.Fatal(err)
		}
	}
	push := func(text string) {
		for i, d := range s.on {
			d.do(func() { d.loop.Push(&groups[i], []byte(text)) })
		}
	}
	push("waits;")
	for i := range n {
		if socks[i], err = s.dial(1); err != nil {
			t.Fatal(err)
		}
		defer socks[i].Close()
		if _, err = fmt.Fprintf(socks[i], "a%shello;", names[i][:]); err != nil {
			t.Fatal(err)
		}
		expect(t, socks[i], "101;OWN;WAITS;hello;")
	}
	push("pushed;")
	for i := range n {
		expect(t, socks[i], "pushed;")
		if _, err := socks[i].Write([]byte("more;")); err != nil {
			t.Fatal(err)
		}
		expect(t, socks[i], "more;")
	}
	for _, d := range s.on {
		if st := d.stats(); st.Pulls != 0 {
			t.Errorf("%d are counted as without a socket", st.Pulls)
		}
	}
	if _, err := s.dial(1); err == nil {
		t.Errorf("listener 1 accepted more than it may: the attached sockets are not counted as its own")
	}
	for i := range n {
		socks[i].Close()
		opened[i].Close()
	}
	s.awaitEnds(2 * n)
	s.checkCounts()
}

func (d *driven) stats() (st netpoll.Stats) {
	d.do(func() { st = d.loop.Stats() })
	return st
}

func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("told %q, want %q (%v)", got[:n], want, err)
	}
}

// A socket that the gate refuses is closed, and no loop hears of it. The gate is told who it is, and a pass that comes back makes
// room.
func TestGateRefuses(t *testing.T) {
	s := newSite(t, func(_ *site, d *driven) {
		d.onData = func(c *netpoll.Conn, b []byte) int { d.loop.Write(c, b); return len(b) }
	})
	s.gate.mu.Lock()
	s.gate.max = 2
	s.gate.mu.Unlock()
	a, err := s.dial(0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.dial(1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 20 {
		if _, err := s.dial(0); err == nil {
			t.Fatal("a third is served")
		}
	}
	_ = a.Close()
	for end := time.Now().Add(10 * time.Second); s.gate.left() > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the pass of a closed connection does not come back")
		}
	}
	again, err := s.dial(0)
	if err != nil {
		t.Fatal("refused though there is room:", err)
	}
	defer again.Close()
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	if s.gate.refused != 20 {
		t.Errorf("%d refused", s.gate.refused)
	}
	for _, p := range s.gate.peers {
		if p != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
			t.Errorf("the gate was asked about %v", p)
		}
	}
}
