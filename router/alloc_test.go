package router

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/names"
	"github.com/pomelod/pomelod/netpoll"
)

// sparing is a hand-turned driver that allocates nothing: one socket reads the same bytes as often as they are wanted, and what
// is written is counted and forgotten.
type sparing struct {
	netpoll.Driver
	in     []byte // what the next read gives
	fd     int    // to this socket; 0: not yet
	writes int
	bytes  int
}

func (d *sparing) Read(fd int, b []byte) (int, syscall.Errno) {
	if d.fd == 0 || fd != d.fd {
		return d.Driver.Read(fd, b)
	}
	n := copy(b, d.in)
	d.in = nil
	if n == 0 {
		return 0, syscall.EAGAIN
	}
	return n, 0
}

func (d *sparing) Write(fd int, b []byte) (int, syscall.Errno) {
	if d.fd == 0 {
		return d.Driver.Write(fd, b)
	}
	d.writes++
	d.bytes += len(b)
	return len(b), 0
}

// crowd is a node of one loop with a room of n members, one of whom can be made to repeat itself at no cost.
type crowd struct {
	r       *rig
	driver  *sparing
	members []*client
}

func newCrowd(t testing.TB, n int, ws bool) *crowd {
	return newCrowds(t, n, ws, func(int) string { return "r" }, nil)
}

// newCrowds is newCrowd with the room of each member.
func newCrowds(t testing.TB, n int, ws bool, room func(i int) string, change func(*Config)) *crowd {
	c := &crowd{}
	c.r = newRig(t, shape{loops: 1}, func(cfg *Config) {
		if change != nil {
			change(cfg)
		}
		inner := cfg.NewDriver
		cfg.NewDriver = func(i int) (netpoll.Driver, error) {
			d, err := inner(i)
			c.driver = &sparing{Driver: d}
			return c.driver, err
		}
	})
	const batch = 200 // so that the members' bytes, which nobody reads, do not pile up
	for len(c.members) < n {
		for range min(batch, n-len(c.members)) {
			m := c.r.connect(atConnector, ws)
			m.send(codec.PackageHandshake, []byte(testHandshake))
			m.send(codec.PackageHandshakeAck, nil)
			m.request(routeEnter, enterBody(fmt.Sprint("m", len(c.members)), room(len(c.members))))
			c.members = append(c.members, m)
		}
		c.r.net.Settle()
		for _, m := range c.members {
			m.sock.Wrote = m.sock.Wrote[:0]
		}
	}
	if s := c.r.node.loops[0].worker.Stats(); s.Members != n {
		t.Fatalf("%d members, want %d", s.Members, n)
	}
	c.driver.fd = c.members[0].sock.FD
	return c
}

// repeat lets the first member send the same bytes and the loop do all that follows.
func (c *crowd) repeat(b []byte) {
	c.driver.in = b
	c.r.node.loops[0].np.Ready(c.driver.fd, true, false)
	for c.r.net.TurnLoop(0) {
	}
}

// mallocs is the number of allocations that one of n calls of f costs.
func mallocs(n int, f func()) float64 {
	for range 100 {
		f()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}

// allocatedBy is how many bytes f allocates.
func allocatedBy(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// noise is what the runtime itself may allocate meanwhile, for each call counted.
const noise = 0.02

func skipUnderRace(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
}

// A message to a room costs at most four allocations, however many members it goes to.
func TestSendAllocations(t *testing.T) {
	skipUnderRace(t)
	forWires(t, func(t *testing.T, ws bool) {
		costs := map[int]float64{}
		for _, tc := range []struct{ members, sends int }{{10, 10_000}, {2_000, 1_000}} {
			c := newCrowd(t, tc.members, ws)
			message := c.members[0].message(7, routeSend, sendBody("good morning to all of you", "*"))
			c.driver.writes = 0
			costs[tc.members] = mallocs(tc.sends, func() { c.repeat(message) })
			t.Logf("%d members: %.3f allocations a send", tc.members, costs[tc.members])
			if want := tc.members * (tc.sends + 100); c.driver.writes != want {
				t.Errorf("%d members: %d writes, want %d", tc.members, c.driver.writes, want)
			}
			if costs[tc.members] > 4+noise {
				t.Errorf("%d members: %.3f allocations a send", tc.members, costs[tc.members])
			}
		}
		if d := costs[2_000] - costs[10]; d > 0.05 || d < -0.05 {
			t.Errorf("a send costs %.3f allocations in a room of 10 and %.3f in one of 2,000", costs[10], costs[2_000])
		}
	})
}

// A heartbeat, or a ping, costs nothing.
func TestHeartbeatAllocations(t *testing.T) {
	skipUnderRace(t)
	forWires(t, func(t *testing.T, ws bool) {
		c := newCrowd(t, 1, ws)
		inputs := [][]byte{c.members[0].bytes(codec.PackageHeartbeat, nil)}
		if ws {
			inputs = append(inputs, append(inputs[0][:len(inputs[0]):len(inputs[0])], maskedFrame(byte(codec.WSPing), []byte("ping"))...))
		}
		for _, in := range inputs {
			c.driver.writes = 0
			second := func() { // more than ten a second are not answered at once
				c.r.net.Pass(time.Second)
				c.r.node.loops[0].np.Tick()
				c.repeat(in)
				c.members[0].sock.Wrote = nil
			}
			if n := mallocs(10_000, second); n > noise {
				t.Errorf("%q: %.4f allocations each", in, n)
			}
			if c.driver.writes != 10_100 {
				t.Errorf("%q: %d answers", in, c.driver.writes)
			}
		}
	})
}

func BenchmarkSend(b *testing.B) {
	for _, members := range []int{1, 1000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			c := newCrowd(b, members, true)
			message := c.members[0].message(7, routeSend, sendBody("good morning to all of you", "*"))
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			for b.Loop() {
				c.repeat(message)
			}
		})
	}
}

// BenchmarkRoomsOfOne is a message of each of so many members who are alone in their rooms, and come in one batch of events: with a real clock, and what
// rooms keep, but for the system calls it is what such a server does.
func BenchmarkRoomsOfOne(b *testing.B) {
	for _, rooms := range []int{1, 200} {
		b.Run(fmt.Sprintf("rooms=%d", rooms), func(b *testing.B) {
			c := newCrowds(b, rooms, false, func(i int) string { return fmt.Sprint("r", i) }, func(cfg *Config) {
				cfg.Nanos, cfg.Names = nil, names.Safe(nil)
				cfg.Limits.History = History{Messages: 64, Bytes: 64 << 10, Age: 10 * time.Minute, Memory: 64 << 20}
			})
			message := c.members[0].message(7, routeSend, sendBody("good morning to all of you", "*"))
			send := func(i int) {
				m := c.members[i%rooms]
				c.driver.fd, c.driver.in = m.sock.FD, message
				c.r.node.loops[0].np.Ready(m.sock.FD, true, false)
				if i%rooms == rooms-1 {
					for c.r.net.TurnLoop(0) {
					}
				}
			}
			for i := range 70 * rooms { // until rooms keep all that they may
				send(i)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ { // a batch is as many as there are rooms, and the turn that it asks for
				send(i)
			}
		})
	}
}

func BenchmarkHeartbeat(b *testing.B) {
	c := newCrowd(b, 1, true)
	beat := c.members[0].bytes(codec.PackageHeartbeat, nil)
	b.ReportAllocs()
	for b.Loop() {
		c.repeat(beat)
	}
}

// BenchmarkEnter is a switch from one room of ten to another: an enter and a leave.
func BenchmarkEnter(b *testing.B) {
	c := newCrowd(b, 10, true)
	m := c.members[0]
	there, back := m.message(7, routeEnter, enterBody("wanderer", "s")), m.message(8, routeEnter, enterBody("wanderer", "r"))
	b.ReportAllocs()
	for b.Loop() {
		c.repeat(there)
		c.repeat(back)
	}
}

// Members that come hundreds of times cost no more than their bytes: only the last of each is looked at.
func TestRepeatedMembersAllocations(t *testing.T) {
	skipUnderRace(t)
	c := newCrowd(t, 2, false)
	many := func(member string) string { return strings.Repeat(member+",", 500) }
	for _, tc := range []struct{ route, body string }{
		{routeEnter, "{" + many(`"secret":"0123456789abcdef"`) + many(`"username":"a"`) + many(`"rid":"b"`) + `"username":"","rid":""}`},
		{routeSend, "{" + many(`"target":"somebody"`) + `"content":"x","target":""}`},
	} {
		message := c.members[0].message(7, tc.route, tc.body)
		if cost := mallocs(100, func() { c.repeat(message) }); cost > 10 {
			t.Errorf("%s: %.0f allocations", tc.route, cost)
		}
	}
}
