package fleet

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pomelod/pomelod/cluster"
	"github.com/pomelod/pomelod/cluster/bustest"
	"github.com/pomelod/pomelod/cluster/natsbus"
)

// port is a bus and what it has told.
type port struct {
	*natsbus.Bus
	*board
	got     []string
	none    []string
	changes []error
}

// connect puts a node on the bus without waiting for the connection.
func connect(t *testing.T, c natsbus.Config, h natsbus.Handlers) *port {
	t.Helper()
	p := &port{board: newBoard(t)}
	if c.Cluster == "" {
		c.Cluster = "test"
	}
	bus, err := natsbus.New(c)
	if err != nil {
		t.Fatal(err)
	}
	p.Bus = bus
	if h.Receive == nil {
		h.Receive = func(b []byte) { p.do(func() { p.got = append(p.got, string(b)) }) }
	}
	if h.NoResponder == nil {
		h.NoResponder = func(name string) { p.do(func() { p.none = append(p.none, name) }) }
	}
	h.Changed = func(err error) { p.do(func() { p.changes = append(p.changes, err) }) }
	bus.Start(h)
	t.Cleanup(bus.Close)
	return p
}

// join is connect to s and waits.
func join(t *testing.T, s *natsServer, name string) *port {
	t.Helper()
	p := connect(t, natsbus.Config{Servers: s.url(), Node: name}, natsbus.Handlers{})
	p.waitFor(nil)
	return p
}

// waitFor waits until the last word of the bus is of a kind of error, nil: that it carries.
func (p *port) waitFor(kind error) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			p.t.Logf("it told %q", p.changes)
		}
	}()
	p.wait(fmt.Sprint("the bus to tell ", kind), func() bool {
		return len(p.changes) > 0 && errors.Is(p.changes[len(p.changes)-1], kind)
	})
}

func (p *port) waitGot(packets ...string) {
	p.t.Helper()
	p.wait(fmt.Sprintf("packets %.100q", packets), func() bool { return slices.Equal(p.got, packets) })
	p.do(func() { p.got = nil })
}

// contractNet is bustest's Net over one server.
type contractNet struct {
	*board
	server *natsServer
}

func (n contractNet) Join(name string, receive func([]byte), noResponder func(string)) (cluster.Bus, func()) {
	n.t.Helper()
	p := connect(n.t, natsbus.Config{Servers: n.server.url(), Node: name}, natsbus.Handlers{
		Receive:     func(b []byte) { n.do(func() { receive(b) }) },
		NoResponder: func(who string) { n.do(func() { noResponder(who) }) },
	})
	p.waitFor(nil)
	return p.Bus, p.Close
}

func (n contractNet) Wait(what string, done func() bool) { n.t.Helper(); n.wait(what, done) }

func TestBus(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Net { return contractNet{newBoard(t), startNATS(t, nil)} }, 256<<10+1000, 1<<20+1)
}

// A fleet under another name is on another bus.
func TestClustersAreApart(t *testing.T) {
	s := startNATS(t, nil)
	a := join(t, s, "a")
	other := connect(t, natsbus.Config{Servers: s.url(), Cluster: "other", Node: "a"}, natsbus.Handlers{})
	other.waitFor(nil)
	b := join(t, s, "b")
	b.Announce([]byte("to all of test"))
	b.Send("a", []byte("to a of test"))
	a.waitGot("to all of test", "to a of test")
	other.Send("b", []byte("nobody"))
	other.wait("no responder", func() bool { return slices.Equal(other.none, []string{"b"}) })
	if len(other.got) > 0 {
		t.Errorf("another cluster got %q", other.got)
	}
}

// A restart of the server is a gap and nothing else: what was sent meanwhile is dropped and counted, and never comes late.
func TestRestartOfTheServer(t *testing.T) {
	s := startNATS(t, nil)
	a, b := join(t, s, "a"), join(t, s, "b")
	for round := range 3 {
		s.stop()
		a.waitFor(natsbus.ErrAbsent)
		b.waitFor(natsbus.ErrAbsent)
		away := a.Stats().Away
		for range 1000 {
			a.Send("b", []byte("stale"))
			a.Announce([]byte("stale too"))
		}
		if n := a.Stats().Away - away; n != 2000 {
			t.Errorf("of 2000 packets sent while the server was away %d are counted", n)
		}
		s.start()
		a.waitFor(nil)
		b.waitFor(nil)
		fresh := fmt.Sprint("fresh ", round)
		a.Send("b", []byte(fresh))
		b.waitGot(fresh)
	}
	if n := a.Stats().Connections; n != 4 {
		t.Errorf("%d connections after three restarts", n)
	}
}

// A bus starts without a server, says so, and finds it later.
func TestServerThatComesLater(t *testing.T) {
	s := startNATS(t, nil)
	s.stop()
	a := connect(t, natsbus.Config{Servers: s.url(), Node: "a"}, natsbus.Handlers{})
	a.wait("refused", func() bool {
		return slices.ContainsFunc(a.changes, func(err error) bool {
			return errors.Is(err, natsbus.ErrAbsent) && strings.Contains(err.Error(), "connection refused") && strings.Contains(err.Error(), s.address())
		})
	})
	s.start()
	a.waitFor(nil)
	if a.Err() != nil {
		t.Errorf("connected, and Err is %v", a.Err())
	}
}

// One server of several is enough, and another one takes over.
func TestSeveralServers(t *testing.T) {
	s, s2 := startNATS(t, nil), startNATS(t, nil)
	s2.stop()
	a := connect(t, natsbus.Config{Servers: s.url() + "," + s2.url(), Node: "a"}, natsbus.Handlers{})
	a.waitFor(nil)
	s2.start()
	s.stop()
	a.wait("the other server", func() bool { return a.Stats().Connections == 2 && a.Err() == nil })
}

// A client that was kicked comes back, and gets what is sent from then on.
func TestKicked(t *testing.T) {
	s := startNATS(t, nil)
	a, b := join(t, s, "a"), join(t, s, "b")
	for i := range 3 {
		s.kick("b")
		b.wait("another connection", func() bool { return b.Stats().Connections == uint64(i+2) && b.Err() == nil })
		p := fmt.Sprint("after ", i)
		a.wait("a packet to arrive", func() bool { a.Send("b", []byte(p)); return b.Stats().Received > uint64(i) })
		b.waitGot2(p)
	}
	if a.Stats().Connections != 1 {
		t.Error("somebody else lost the connection too")
	}
}

// waitGot2 waits until there are packets and all of them are p.
func (p *port) waitGot2(packet string) {
	p.t.Helper()
	p.wait("packets "+packet, func() bool { return slices.Contains(p.got, packet) })
	p.do(func() { p.got = nil })
}

// Who does not take what comes loses packets, counted, and neither the connection nor memory without a bound; then it goes on.
func TestSlowReceiver(t *testing.T) {
	s := startNATS(t, nil)
	a := join(t, s, "a")
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	var b *port
	got := 0
	b = connect(t, natsbus.Config{Servers: s.url(), Node: "b"}, natsbus.Handlers{Receive: func([]byte) {
		select {
		case held <- struct{}{}:
		default:
		}
		<-hold
		got++
	}})
	b.waitFor(nil)
	packet := make([]byte, 256<<10)
	a.Send("b", packet)
	<-held
	const more = 400 // 100 MiB; 64 have room
	for i := range more {
		a.wait("NATS to take it", func() bool { return a.Stats().Sent >= uint64(i) })
		a.Send("b", packet)
		b.wait("the packet to arrive", func() bool { return b.Stats().Received >= uint64(i+1) })
	}
	b.wait("all to arrive", func() bool { return b.Stats().Received == more+1 })
	st := b.Stats()
	if kept := more - int(st.Slow); kept < 200 || kept > 260 {
		t.Errorf("of %d packets of 256 KiB %d were kept for a receiver that takes none", more, kept)
	}
	if st.Connections != 1 || b.Err() != nil {
		t.Errorf("the connection went too: %+v, %v", st, b.Err())
	}
	close(hold)
	a.Send("b", []byte("on"))
	b.wait("the rest", func() bool { return b.Stats().Received == more+2 })
	b.Close()
	if got < 200 {
		t.Errorf("%d packets were handed over", got)
	}
}

// A server that cuts a slow connection costs what was on its way, and is found again.
func TestTheServerCutsASlowConsumer(t *testing.T) {
	s := startNATS(t, func(o *server.Options) { o.MaxPending = 2 << 20 })
	a := join(t, s, "a")
	gate := newProxy(t, s.address())
	b := connect(t, natsbus.Config{Servers: "nats://" + gate.address(), Node: "b"}, natsbus.Handlers{})
	b.waitFor(nil)
	gate.hold()
	packet := make([]byte, 256<<10)
	a.wait("the server to cut b", func() bool { a.Send("b", packet); return s.NumSlowConsumers() > 0 })
	gate.release()
	b.wait("another connection", func() bool { return b.Stats().Connections >= 2 && b.Err() == nil })
	a.wait("a packet to arrive", func() bool {
		a.Send("b", []byte("after it"))
		b.mu.Lock()
		defer b.mu.Unlock()
		return slices.Contains(b.got, "after it")
	})
}

// A server that takes nothing stops no sender: what is sent beyond a bound is dropped and counted, and announcements find room. It is given up although
// a write does not end, in which nats.go asks no more.
func TestAServerThatTakesNothing(t *testing.T) {
	s := startNATS(t, nil)
	gate := newProxy(t, s.address())
	b := join(t, s, "b")
	a := connect(t, natsbus.Config{Servers: "nats://" + gate.address(), Node: "a"}, natsbus.Handlers{})
	a.waitFor(nil)
	gate.hold()
	packet := make([]byte, 256<<10)
	for a.Stats().Full == 0 {
		if a.Send("b", packet); a.Err() != nil { // this machine was too slow for it
			gate.release()
			a.waitFor(nil)
			gate.hold()
		}
	}
	full := a.Stats().Full
	a.Announce([]byte("heartbeat"))
	if a.Stats().Full != full {
		t.Error("there is no room for a heartbeat where packets have filled the queue")
	}
	a.waitFor(natsbus.ErrLost)
	gate.release()
	b.wait("a heartbeat", func() bool { // another one, if the server was away for so long that the connection was given up
		a.Announce([]byte("heartbeat"))
		return slices.Contains(b.got, "heartbeat")
	})
}

// What was sent before Close arrives; afterwards nothing runs any more.
func TestClose(t *testing.T) {
	s := startNATS(t, nil)
	b := join(t, s, "b")
	before := runtime.NumGoroutine()
	for range 20 {
		a := join(t, s, "a")
		for range 100 {
			a.Send("b", []byte("farewell"))
		}
		a.Close()
		a.Close() // twice is fine
		if !errors.Is(a.Err(), natsbus.ErrClosed) {
			t.Errorf("closed, and Err is %v", a.Err())
		}
		a.Send("b", []byte("late"))
	}
	b.wait("what was sent before the end", func() bool { return len(b.got) == 20*100 })
	if slices.Contains(b.got, "late") {
		t.Error("a closed bus sends")
	}
	b.wait("goroutines to end", func() bool { return runtime.NumGoroutine() <= before+5 })
}

// Close does not wait for a server that answers nothing.
func TestCloseWithoutAServer(t *testing.T) {
	gate := newProxy(t, "")
	a := connect(t, natsbus.Config{Servers: "nats://" + gate.address(), Node: "a"}, natsbus.Handlers{})
	gate.wait("a dial", func() bool { return gate.dials > 0 })
	a.Close()
}
