package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/pomelod/pomelod/client"
)

// user is somebody in a room, and what they have heard there.
type user struct {
	*client.Client
	name, room string

	mu    sync.Mutex
	heard []string // "name number"
	left  []string // who was said to have left
}

// meet asks the gate for a connector and enters a room there, over WebSocket or raw TCP.
func meet(t *testing.T, gate, room, name string, webSocket bool) *user {
	t.Helper()
	var at struct {
		Code, Port int
		Host       string
	}
	g := dial(t, gate, false)
	defer g.Close()
	eventually(t, "the gate to name a connector", func() bool {
		return g.Request("gate.gateHandler.queryEntry", map[string]string{"uid": name}, &at) == nil
	})
	u := &user{Client: dial(t, net.JoinHostPort(at.Host, fmt.Sprint(at.Port)), webSocket), name: name, room: room}
	t.Cleanup(func() { u.Close() })
	eventually(t, name+" to enter", func() bool { // refused while the room has no owner
		err := u.Request("connector.entryHandler.enter", map[string]string{"username": name, "rid": room}, nil)
		if err != nil && !errors.Is(err, client.ErrRefused) {
			t.Fatalf("%s cannot enter: %v", name, err)
		}
		return err == nil
	})
	go func() {
		for {
			push, err := u.Next()
			if err != nil {
				return
			}
			var said struct{ Msg, User string }
			if json.Unmarshal(push.Body, &said) != nil {
				continue
			}
			u.mu.Lock()
			switch push.Route {
			case "onChat":
				u.heard = append(u.heard, said.Msg)
			case "onLeave":
				u.left = append(u.left, said.User)
			}
			u.mu.Unlock()
		}
	}()
	return u
}

func (u *user) say(text string) error {
	return u.Request("chat.chatHandler.send", map[string]string{"rid": u.room, "from": u.name, "content": text, "target": "*"}, nil)
}

func (u *user) has() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.heard)
}

func dial(t *testing.T, addr string, webSocket bool) *client.Client {
	t.Helper()
	if webSocket {
		addr = bridge(t, addr)
	}
	c, err := client.Dial(addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bridge is an address that leads to addr by WebSocket: packages there, the same packages here.
func bridge(t *testing.T, addr string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		defer l.Close()
		in, err := l.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		conn, _, _, err := ws.Dial(t.Context(), "ws://"+addr+"/")
		if err != nil {
			return
		}
		defer conn.Close()
		go func() {
			defer in.Close()
			for {
				b, err := wsutil.ReadServerBinary(conn)
				if err != nil {
					return
				}
				if _, err := in.Write(b); err != nil {
					return
				}
			}
		}()
		for head := make([]byte, 4); ; {
			if _, err := io.ReadFull(in, head); err != nil {
				return
			}
			pkg := append(slices.Clone(head), make([]byte, int(head[1])<<16|int(head[2])<<8|int(head[3]))...)
			if _, err := io.ReadFull(in, pkg[4:]); err != nil {
				return
			}
			if err := wsutil.WriteClientBinary(conn, pkg); err != nil {
				return
			}
		}
	}()
	return l.Addr().String()
}

// party is rooms full of users who talk, and what was acknowledged.
type party struct {
	t     *testing.T
	rooms [][]*user
	acked []atomic.Int64 // by room, of all its users
	said  [][]string     // by room; guarded by mu
	mu    sync.Mutex
	stop  atomic.Bool
	busy  sync.WaitGroup

	refused, longest atomic.Int64 // sends, and the longest wait for an answer, in ns
}

// gather fills rooms with users of two wires.
func gather(t *testing.T, gate string, rooms, users int) *party {
	t.Helper()
	p := &party{t: t, rooms: make([][]*user, rooms), acked: make([]atomic.Int64, rooms), said: make([][]string, rooms)}
	for r := range rooms {
		for i := range users {
			p.rooms[r] = append(p.rooms[r], meet(t, gate, fmt.Sprint("room-", r), fmt.Sprintf("user-%d-%d", r, i), i%2 == 1))
		}
	}
	return p
}

// talk has everybody talk until end.
func (p *party) talk() {
	for r, room := range p.rooms {
		for _, u := range room {
			p.busy.Go(func() {
				for i := 0; !p.stop.Load(); i++ {
					text := fmt.Sprintf("%s %06d", u.name, i)
					began := time.Now()
					err := u.say(text)
					if wait := int64(time.Since(began)); wait > p.longest.Load() {
						p.longest.Store(wait) // about: two of them may meet
					}
					switch {
					case err == nil:
						p.acked[r].Add(1)
						p.mu.Lock()
						p.said[r] = append(p.said[r], text)
						p.mu.Unlock()
					case !errors.Is(err, client.ErrRefused):
						p.t.Errorf("%s was disconnected: %v", u.name, err)
						return
					default:
						p.refused.Add(1)
					}
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
	}
}

// more waits until each room has that many more acknowledged sends, and returns how long it took the last.
func (p *party) more(n int64) time.Duration {
	p.t.Helper()
	began := time.Now()
	for r := range p.rooms {
		want := p.acked[r].Load() + n
		eventually(p.t, fmt.Sprintf("sends in room %d to be acknowledged", r), func() bool { return p.acked[r].Load() >= want })
	}
	return time.Since(began)
}

// end ends the talk, and checks that everything acknowledged has reached everybody else in the room, once and in the order of its sender.
func (p *party) end() (acked int) {
	p.t.Helper()
	p.stop.Store(true)
	p.busy.Wait()
	for r, room := range p.rooms {
		acked += len(p.said[r])
		for _, u := range room {
			eventually(p.t, fmt.Sprintf("%s to have heard all of %d sends", u.name, len(p.said[r])), func() bool {
				heard := make(map[string]bool)
				for _, text := range u.has() {
					heard[text] = true
				}
				return !slices.ContainsFunc(p.said[r], func(text string) bool { return !heard[text] })
			})
			last := make(map[string]string)
			for _, text := range u.has() {
				from, _, _ := strings.Cut(text, " ")
				if text <= last[from] {
					p.t.Errorf("%s heard %q after %q", u.name, text, last[from])
				}
				last[from] = text
			}
		}
	}
	return acked
}

// Two nodes that do everything, as most fleets are. One ends in order, with its users elsewhere; then it comes back.
func TestTwoNodesOfAllRoles(t *testing.T) {
	s := startNATS(t, nil)
	node := func(name string) *process {
		return launch(t, name, "-nats", s.url(), "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0", "-gate-policy", "load")
	}
	a, b := node("a"), node("b")
	a.waitReady()
	b.waitReady()
	eventually(t, "both to follow each other", func() bool { return a.metric("pomelod_fleet_unguarded_partitions") == 0 })
	p := gather(t, a.addr("gate"), 4, 4)
	p.talk()
	p.more(20)
	p.end()
	var left []*user
	for _, room := range p.rooms {
		left = append(left, room...)
	}
	for _, u := range left {
		u.Close()
	}
	began := time.Now()
	if code := b.stop(); code != 0 {
		t.Errorf("b ended with %d", code)
	}
	t.Logf("b ended in order within %v, partitions left: %t", time.Since(began), strings.Contains(b.log(), "not all partitions"))
	p = gather(t, a.addr("gate"), 4, 2)
	p.talk()
	t.Logf("answered within %v", p.more(5))
	b = node("b")
	b.waitReady()
	p.more(20)
	p.end()
}

// A process that is given the name of a node in use says so and ends; who has the name goes on.
func TestTwoNodesOfOneName(t *testing.T) {
	s := startNATS(t, nil)
	node := func() *process {
		return launch(t, "a", "-nats", s.url(), "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0")
	}
	first := node()
	first.waitReady()
	second := node()
	second.wait("the second to end", func() bool { return second.gone })
	second.end()
	if code := second.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(second.log(), "give this one a name of its own") {
		t.Errorf("the second ended with %d:\n%s", code, second.log())
	}
	p := gather(t, first.addr("gate"), 1, 3)
	p.talk()
	p.more(20)
	p.end()
}

// Without NATS a node is not ready and says why; when NATS comes it serves, and when NATS goes it refuses and keeps its clients.
func TestNATSComesAndGoes(t *testing.T) {
	s := startNATS(t, nil)
	s.stop()
	a := launch(t, "a", "-nats", s.url(), "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0")
	a.wait("a line about NATS", func() bool { return strings.Contains(strings.Join(a.lines, "\n"), "no NATS server answers") })
	eventually(t, "/readyz to say why", func() bool { // whatever else is not ready yet comes first
		status, text := a.readyz()
		return status == 503 && strings.Contains(text, "no NATS server answers")
	})
	s.start()
	a.waitReady()
	p := gather(t, a.addr("gate"), 2, 2)
	p.talk()
	p.more(10)
	s.stop()
	eventually(t, "a to be not ready", func() bool { status, _ := a.readyz(); return status == 503 })
	s.start()
	a.waitReady()
	p.more(10)
	p.end()
	if a.metric("pomelod_fleet_bus_connections_total") < 2 {
		t.Error("it was not another connection")
	}
}

// NATS falls silent for all nodes at once, without an end of their connections: a machine that lost its power, a network that drops everything. Each
// node notices before it would take the others for dead, so nobody is told of a leave, and no node has to begin anew.
func TestNATSFallsSilent(t *testing.T) {
	s := startNATS(t, nil)
	var nodes []*process
	var ways []*proxy
	for _, name := range []string{"a", "b"} {
		way := newProxy(t, s.address())
		ways = append(ways, way)
		nodes = append(nodes, launch(t, name, "-nats", "nats://"+way.address(), "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0"))
	}
	for _, n := range nodes {
		n.waitReady()
	}
	eventually(t, "both to follow each other", func() bool { return nodes[0].metric("pomelod_fleet_unguarded_partitions") == 0 })
	p := gather(t, nodes[0].addr("gate"), 4, 4)
	p.talk()
	p.more(20)
	began := time.Now()
	for _, w := range ways {
		w.hold()
	}
	for _, n := range nodes {
		eventually(t, n.name+" to be not ready", func() bool { status, _ := n.readyz(); return status == 503 })
	}
	t.Logf("noticed within %v", time.Since(began))
	time.Sleep(time.Until(began.Add(6 * time.Second))) // silence of 3 s is a death
	for _, w := range ways {
		w.release()
	}
	began = time.Now()
	for _, n := range nodes {
		n.waitReady()
	}
	t.Logf("ready again within %v", time.Since(began))
	t.Logf("each room has 20 more sends %v later", p.more(20))
	p.end()
	for _, room := range p.rooms {
		for _, u := range room {
			u.mu.Lock()
			if len(u.left) > 0 {
				t.Errorf("%s was told that %v have left", u.name, u.left)
			}
			u.mu.Unlock()
		}
	}
}
