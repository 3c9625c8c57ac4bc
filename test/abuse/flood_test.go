//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// A client that notifies as fast as it can is refused, and then disconnected.
func TestNotifyFlood(t *testing.T) {
	const notifies = 50_000
	scenario{
		name: "notify flood",
		attack: func(a *arena) error {
			p, err := a.chatter(0, "flooder", "flooded")
			if err != nil {
				a.t.Fatal(err)
			}
			p.late = soon
			b := message(0, routeSend, `{"content":"x","target":"*"}`)
			for range a.n(notifies) {
				if err := p.raw(b); err != nil {
					return nil // disconnected, as it should be
				}
			}
			_, err = p.gone()
			return err
		},
		landed:  func(d delta) error { return d.atLeast("pomelod_requests_total", 1000) },
		held:    func(d delta) error { return d.atLeast(`pomelod_closed_total{reason="flood"}`, 1) },
		without: weakness{flags: []string{"-session-rate", "0", "-send-rate", "0", "-enter-rate", "0", "-flood", "0"}, fails: "still connected"},
	}.run(t)
}

// flood is one thing said again and again, without a look at the answers.
type flood struct {
	name string
	open func(a *arena, i int) (*peer, error) // a client that may begin
	says func(p *peer) []byte                 // once
	by   string                               // the limit that refuses it
}

func repeated(b []byte) func(*peer) []byte { return func(p *peer) []byte { return p.framed(b) } }

func same(b []byte) func(*peer) []byte { return func(*peer) []byte { return b } }

// tiny is a message in WebSocket frames of a byte each.
func tiny(packages []byte) func(*peer) []byte {
	var b []byte
	for i, c := range packages {
		first := byte(0) // a continuation
		if i == 0 {
			first = byte(codec.WSBinary)
		}
		if i == len(packages)-1 {
			first |= 0x80
		}
		b = append(b, wsFrame(first, []byte{c})...)
	}
	return same(b)
}

// floods are made by clients in rooms of their own.
func floods(gate string) []flood {
	tcp := func(a *arena, i int) (*peer, error) {
		return a.chatter(0, fmt.Sprint("flooder", i), fmt.Sprint("flooded", i))
	}
	ws := func(a *arena, i int) (*peer, error) {
		return a.chatterWS(0, fmt.Sprint("flooder", i), fmt.Sprint("flooded", i))
	}
	fragmented := func(a *arena, i int) (*peer, error) {
		p, err := ws(a, i)
		if err == nil {
			err = p.raw(wsFrame(byte(codec.WSBinary), []byte{4}))
		}
		return p, err
	}
	asker := func(a *arena, _ int) (*peer, error) {
		p, err := dial(attackers+"1", gate)
		if err != nil {
			return nil, err
		}
		a.keep(p)
		return p, p.login()
	}
	say := message(0, routeSend, `{"content":"x","target":"*"}`)
	return []flood{
		{"requests", tcp, repeated(message(1, routeSend, `{"content":"x","target":"*"}`)), `limited_total{reason="session_rate"}`},
		{"unknown routes", ws, repeated(message(1, "chat.chatHandler.unknown", `{}`)), `limited_total{reason="session_rate"}`},
		{"heartbeats", tcp, repeated(heartbeat), `limited_total{reason="package_rate"}`},
		{"enters", tcp, repeated(message(1, routeEnter, `{"username":"flooder","rid":"elsewhere"}`)), `limited_total{reason="session_rate"}`},
		{"tiny frames", ws, tiny(say), `limited_total{reason="package_rate"}`},
		{"pings", ws, same(wsFrame(0x89, nil)), `limited_total{reason="package_rate"}`},
		{"pongs", ws, same(wsFrame(0x8a, nil)), `limited_total{reason="package_rate"}`},
		{"empty fragments", fragmented, same(wsFrame(0, nil)), `limited_total{reason="package_rate"}`},
		{"gate", asker, repeated(message(1, "gate.gateHandler.queryEntry", `{"uid":"x"}`)), `limited_total{reason="session_rate"}`},
	}
}

// run floods from one connection or many of one address, which come back as often as they are disconnected.
func (f flood) run(a *arena, connections int) error {
	const lasts = 150 * time.Millisecond
	before := a.metrics()
	end := time.Now().Add(lasts)
	err := together(connections, func(i int) error {
		for {
			p, err := f.open(a, i)
			if err == nil {
				p.late = soon
				err = p.flood(f.says(p))
				p.Close()
			}
			if err != nil || time.Now().After(end) {
				return err
			}
		}
	})
	d := delta{before, a.metrics()}
	if err == nil {
		err = errors.Join(d.atLeast(`pomelod_closed_total{reason="flood"}`, float64(connections)),
			d.atLeast("pomelod_"+f.by, 500*float64(connections)))
	}
	if err != nil {
		return fmt.Errorf("%s from %d: %w", f.name, connections, err)
	}
	return nil
}

// flood says something until it is disconnected, which has to be long before it could have said it so often.
func (p *peer) flood(b []byte) error {
	const times, at = 50_000, 50
	var burst []byte
	for range at {
		burst = append(burst, b...)
	}
	for range times / at {
		if err := p.raw(burst); timedOut(err) {
			return fmt.Errorf("still connected, and not read for %v", p.timeout())
		} else if err != nil {
			return nil
		}
	}
	_, err := p.gone()
	return err
}

// Whatever it is that clients send too much of, by TCP, WebSocket or to the gate, they are refused and then disconnected; and so
// again, as they come back at once.
func TestFloods(t *testing.T) {
	gate := "127.0.0.1:" + lowPort(t)
	const many = 50
	scenario{
		name:  "floods",
		flags: []string{"-gate", gate},
		attack: func(a *arena) error {
			for _, f := range floods(gate) {
				for _, connections := range []int{1, max(2, a.n(many))} {
					if err := f.run(a, connections); err != nil {
						return err
					}
				}
			}
			return nil
		},
		landed:  func(d delta) error { return d.atLeast("pomelod_requests_total", 1000) },
		without: weakness{flags: []string{"-session-rate", "0", "-send-rate", "0", "-enter-rate", "0", "-flood", "0"}, fails: "requests from 1: still connected"},
	}.run(t)
}

// A POST may carry thousands of packets: they count one by one.
func TestPayloadFlood(t *testing.T) {
	const times, connections = 1500, 50
	scenario{
		name: "payload flood",
		busy: "the server answers a million refused packets a second beside attackers who never wait; p99 4 to 15 ms on two processors",
		attack: func(a *arena) error {
			payloads := make(map[string]string)
			for _, wire := range pollingWires {
				s, say := newGuest("", "", wire).sio(), saying{2, routeSend, `{"content":"x","target":"*"}`}
				payloads[wire] = s.payload(slices.Repeat([]string{s.packet(say.text())}, times)...)
			}
			end := time.Now().Add(time.Second)
			return together(max(len(pollingWires), a.n(connections)), func(i int) (err error) {
				for err == nil && time.Now().Before(end) {
					wire := pollingWires[i%len(pollingWires)]
					err = payloadFlood(a, i, wire, payloads[wire])
				}
				return err
			})
		},
		landed: func(d delta) error { return d.atLeast("pomelod_requests_total", 1000) },
		held: func(d delta) error {
			return errors.Join(d.atLeast(`pomelod_closed_total{reason="flood"}`, 3), d.atLeast(`pomelod_limited_total{reason="session_rate"}`, 1500))
		},
		without: weakness{flags: []string{"-session-rate", "0", "-send-rate", "0", "-enter-rate", "0", "-flood", "0"}, fails: "still in its room"},
	}.run(t)
}

// payloadFlood POSTs by one connection and fetches by another, as browsers do.
func payloadFlood(a *arena, i int, wire, payload string) error {
	const rounds = 2
	g, err := a.guest(0, wire)
	if err == nil {
		err = g.join(fmt.Sprint("flooder", i), fmt.Sprint("flooded", i))
	}
	if err != nil {
		return err
	}
	s := g.sio()
	request, poster := s.posting(payload), s.post
	poster.late, s.get.late = soon, soon
	go func() { _ = poster.raw([]byte(strings.Repeat(request, rounds))) }()
	for {
		err := s.poll(soon)
		if timedOut(err) || errors.Is(err, errQuiet) {
			return fmt.Errorf("still in its room: %w", err)
		}
		body := strings.Join(s.packets, "")
		s.packets = nil
		if err != nil || strings.Contains(body, "too many messages") || strings.Contains(body, "7:::1+0") {
			return nil
		}
	}
}

// Answers that a client asks for are made no faster than it takes them: it gets all of them, and they never fill the memory.
func TestPipelinedGets(t *testing.T) {
	const connections, perClient = 24, 128 << 10 // bytes: 64 KiB may wait before the next request, whose answer comes on top
	gets := []struct {
		url   string
		times int
	}{{"/", 600}, {"/pomelo.js", 300}, {pathPolling + "3", 100}}
	scenario{
		name:  "pipelined GETs",
		busy:  "24 clients fetch as much as loopback carries: both processors do nothing but copy in the kernel, p99 3 to 8 ms",
		flags: []string{"-sio-heartbeat", "1s", "-sio-timeout", "1s", "-addr-requests", "0"}, // by length the files are many requests each
		attack: func(a *arena) error {
			n := max(len(gets), a.n(connections))
			most, err := a.most("pomelod_unsent_bytes", func() error {
				return together(n, func(i int) error {
					get := gets[i%len(gets)]
					return pipeline(a, get.url, get.times)
				})
			})
			a.t.Logf("at most %.1f MB unsent", most/1e6)
			if err == nil && most > float64(n*perClient) {
				err = fmt.Errorf("%.0f bytes were kept for %d clients", most, n)
			}
			return err
		},
		landed: func(d delta) error { return d.atLeast("pomelod_http_requests_total", 1000) },
		held:   func(d delta) error { return d.atLeast("pomelod_throttled_total", 10) },
		without: weakness{
			edits: []edit{{"router/proto_http.go", "s.x.errand.task != taskNone || p.l.np.Throttle(s.conn)", "s.x.errand.task != taskNone"}},
			fails: "bytes were kept",
		},
	}.run(t)
}

// pipeline asks many times and then reads the answers.
func pipeline(a *arena, url string, times int) error {
	p, err := a.dial(0)
	if err != nil {
		return err
	}
	var wrote sync.WaitGroup
	wrote.Add(1)
	go func() {
		defer wrote.Done()
		_ = p.raw([]byte(strings.Repeat(httpText("GET", url, ""), times)))
	}()
	defer wrote.Wait()
	defer p.Close()
	end := time.Now().Add(300 * time.Millisecond) // reads nothing for so long
	for time.Now().Before(end) {
		time.Sleep(10 * time.Millisecond)
	}
	for i := range times {
		if _, err := p.ok(); err != nil {
			return fmt.Errorf("%d of GET %s were answered, not %d: %w", i, url, times, err)
		}
	}
	return nil
}

var ports atomic.Int64

// lowPort is a port nobody has, on any address, nor gets by connecting or asking again: for flags, which several servers have one after
// the other.
func lowPort(t testing.TB) string {
	t.Helper()
	for tries := 0; tries < 5000; tries++ {
		port := 20_000 + (os.Getpid()+int(ports.Add(1)))%10_000
		if l, err := net.Listen("tcp", fmt.Sprint("0.0.0.0:", port)); err == nil {
			l.Close()
			return strconv.Itoa(port)
		}
	}
	t.Fatal("no free port")
	return ""
}

// together does something for each of n at once, and returns the first error. The rest end with their connections.
func together(n int, do func(i int) error) error {
	failed := make(chan error, n)
	for i := range n {
		go func() { failed <- do(i) }()
	}
	for range n {
		if err := <-failed; err != nil {
			return err
		}
	}
	return nil
}

// most is the highest value that a metric has while something is done.
func (a *arena) most(name string, do func() error) (most float64, err error) {
	done := make(chan error, 1)
	go func() { done <- do() }()
	for {
		select {
		case err = <-done:
			return most, err
		case <-time.After(20 * time.Millisecond):
			most = max(most, a.metrics()[name])
		}
	}
}
