//go:build linux

package abuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// Valid sessions of every wire, damaged in every way, and bytes of no protocol at all: each costs its own connection at the most.
func TestGarbage(t *testing.T) {
	const connections, senders = 12_500, 8 // four streams each, on average
	scenario{
		name: "garbage",
		// Sessions of clients that poll outlive the connections that they were opened by; not for long, here.
		flags: []string{"-sio-heartbeat", "1s", "-sio-timeout", "1s", "-sio-timeout4", "1s", "-handshake-timeout", "5s",
			"-log-level", "debug"},
		attack: func(a *arena) error {
			var next atomic.Int64
			var stop atomic.Bool
			var wg sync.WaitGroup
			errs := make([]error, senders)
			for i := range senders {
				wg.Go(func() {
					for !stop.Load() {
						seed := next.Add(1)
						if seed > int64(a.n(connections)) {
							return
						}
						if err := a.garbage(i, uint64(seed)); err != nil {
							errs[i] = fmt.Errorf("connection %d: %w", seed, err)
							return
						}
					}
				})
			}
			done := make(chan struct{})
			go func() { wg.Wait(); close(done) }()
			for {
				select {
				case <-done:
					return errors.Join(append(errs, a.unhurt())...)
				case <-time.After(500 * time.Millisecond): // a server that panics need not be shown all of them
					if err := a.unhurt(); err != nil {
						stop.Store(true)
						<-done
						return err
					}
				}
			}
		},
		landed: func(d delta) error { return reached(d, 0.001) }, // without its defence the server is not shown all
		held:   func(d delta) error { return reached(d, 1) },
		without: weakness{
			// A message that ends inside its route is taken: the slice is out of bounds, and what costs one connection elsewhere is
			// still a panic.
			edits: []edit{{"codec/message.go", "if len(b) == 0 || len(b) < 1+int(b[0]) {", "if len(b) == 0 {"}},
			fails: "pomelod_panics_total is",
		},
	}.run(t)
}

// reached is an error unless garbage has got at least so far into the server, or a share of that.
func reached(d delta, share float64) error {
	if raceEnabled {
		share /= 20
	}
	var all []error
	for name, n := range map[string]float64{"pomelod_malformed_total": 2000, `pomelod_closed_total{reason="protocol"}`: 500,
		`pomelod_closed_total{reason="early"}`: 20, "pomelod_http_errors_total": 300, "pomelod_requests_total": 20_000,
		"pomelod_unknown_routes_total": 2000, "pomelod_handshakes_refused_total": 50, "pomelod_names_refused_total": 500} {
		all = append(all, d.atLeast(name, math.Floor(n*share)))
	}
	return errors.Join(all...)
}

// garbage makes one connection, all of which its seed tells, and has the server see its end. One in five carries 16 streams
// whose messages are damaged within what carries them, which the connection survives; the others one.
func (a *arena) garbage(i int, seed uint64) error {
	rnd := rand.New(rand.NewPCG(seed, 1))
	p, err := dial(fmt.Sprint(attackers, i+1), a.addr)
	if err != nil {
		return err
	}
	defer p.Close()
	p.late = soon
	name, b, err := damaged(p, rnd, seed)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if p.raw(b) != nil || p.half() != nil {
		return nil // it has been thrown out already
	}
	said, err := p.gone()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return a.endStrays(i, said)
}

var (
	stray09  = regexp.MustCompile(`\r\n\r\n([A-Za-z0-9_-]{20}):1:1:websocket`)
	strayEIO = regexp.MustCompile(`0\{"sid":"([A-Za-z0-9_-]{20})","upgrades":\["websocket"\][^}]*maxPayload`)
)

// endStrays ends sessions that damaged requests have opened by accident, and that nobody would go on with: the server gives them
// 30 and 45 seconds for that.
func (a *arena) endStrays(i int, said []byte) error {
	var requests []string
	for _, m := range stray09.FindAllSubmatch(said, -1) {
		requests = append(requests, httpText("GET", "/socket.io/1/xhr-polling/"+string(m[1])+"?disconnect=1", ""))
	}
	for _, m := range strayEIO.FindAllSubmatch(said, -1) {
		requests = append(requests, httpText("POST", "/socket.io/?EIO=4&transport=polling&sid="+string(m[1]), "1"))
	}
	for _, r := range requests {
		p, err := dial(fmt.Sprint(attackers, i+1), a.addr)
		if err != nil {
			return err
		}
		_, _, err = p.request(r)
		p.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// session is what a client sends, in parts, and how the bytes of each are packed.
type session struct {
	head     string
	parts    []string
	pack     func(part string) string
	last     string                      // behind the last part
	messages []string                    // among them in the parts
	wrap     func(message string) string // a message as a part
}

func plain(part string) string { return part }

func packed(kind codec.PackageType, body string) string {
	return string(codec.AppendPackage(nil, kind, []byte(body)))
}

func data(message string) string { return packed(codec.PackageData, message) }

// garbageWires are what sessions are damaged of, as often as they are listed. "" are random bytes.
var garbageWires = []string{"tcp", "tcp", "tcp", "ws", "ws", "ws", "http", "0.9 polling", "0.9 ws",
	"eio3 polling", "eio3 ws", "eio4 polling", "eio4 ws", ""}

// damaged makes what a connection sends; it has a session already where the wire needs one.
func damaged(p *peer, rnd *rand.Rand, seed uint64) (wire string, b []byte, err error) {
	wire = garbageWires[rnd.IntN(len(garbageWires))]
	// Rooms are small: this is not about large ones, which much is written to by legal means.
	s, err := sound(p, wire, fmt.Sprint("garbage", seed), fmt.Sprint("garbage", seed/4))
	if err != nil {
		return wire, nil, err
	}
	if wire == "" {
		b = make([]byte, rnd.IntN(600))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return wire, b, nil
	}
	parts := s.parts[:len(s.parts):len(s.parts)]
	deep := seed%5 == 0 && s.wrap != nil
	if deep {
		for range 16 {
			for _, m := range s.messages {
				parts = append(parts, s.wrap(string(damage([]byte(m), rnd))))
			}
		}
	} else {
		parts = disorder(append([]string(nil), parts...), rnd)
	}
	packed := !deep && rnd.IntN(2) == 0 // within what carries them, which stays sound
	if packed {
		i := rnd.IntN(len(parts))
		parts[i] = string(damage([]byte(parts[i]), rnd))
	}
	b = []byte(s.head)
	for _, part := range parts {
		b = append(b, s.pack(part)...)
	}
	b = append(b, s.last...)
	if !packed && !deep {
		from := 0
		if rnd.IntN(4) > 0 {
			from = len(s.head)
		}
		b = append(b[:from:from], damage(b[from:], rnd)...)
	}
	return wire, b, nil
}

// disorder has some parts come in another order, or twice.
func disorder(parts []string, rnd *rand.Rand) []string {
	for range rnd.IntN(3) {
		i, j := rnd.IntN(len(parts)), rnd.IntN(len(parts))
		if rnd.IntN(2) == 0 {
			parts[i], parts[j] = parts[j], parts[i]
		} else {
			parts = slices.Insert(parts, i, parts[j])
		}
	}
	return parts
}

// tokens are bytes that mean something to some wire.
var tokens = []string{"\x00", "\xff", "\xff\xff\xff\xff", "\x04\x00\x00\x00", "\x05\x00\x00\x02{}", "\x88\x80\x00\x00\x00\x00", "\x01", "\x80",
	"\r\n", "\r\n\r\n", "\n", "{", "}", "[", `"`, `\`, `\ud800`, "\ufffd", "\x1e", ":", "0", "99999999999999999999", "-1",
	"2probe", "5", "41", "0::", "b4AAAA", "\xed\xa0\x80", "GET / HTTP/1.1\r\n\r\n", "Content-Length: 7\r\n", "Transfer-Encoding: chunked\r\n", "Upgrade: websocket\r\n"}

// damage is what becomes of b. It may be changed.
func damage(b []byte, rnd *rand.Rand) []byte {
	for range 1 + rnd.IntN(4) {
		if len(b) == 0 {
			return b
		}
		i := rnd.IntN(len(b))
		n := 1 + rnd.IntN(min(32, len(b)-i))
		switch rnd.IntN(7) {
		case 0, 1:
			for range 1 + rnd.IntN(4) {
				b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
			}
		case 2:
			b = b[:i]
		case 3: // a part is missing
			b = append(b[:i:i], b[i+n:]...)
		case 4: // or comes several times
			more := strings.Repeat(string(b[i:i+n]), 1+rnd.IntN(20))
			b = append(b[:i:i], more+string(b[i:])...)
		case 5:
			b = append(b[:i:i], tokens[rnd.IntN(len(tokens))]+string(b[i:])...)
		case 6:
			b[i] = byte(rnd.Uint32())
		}
	}
	return b
}

// sound is a session as it should be. Of socket.io it begins with an open one, by the connection.
func sound(p *peer, wire, user, room string) (*session, error) {
	enter := fmt.Sprintf(`{"username":%q,"rid":%q}`, user, room)
	const say = `{"content":"a\u00e9\ud83d\ude00b","target":"*"}`
	version, transport, _ := strings.Cut(wire, " ")
	switch version {
	case "tcp", "ws":
		s := &session{pack: plain, wrap: data}
		if version == "ws" {
			s.head, s.pack = upgradeHead, binaryFrame
		}
		for _, m := range [][]byte{message(1, routeEnter, enter), message(2, routeSend, say), message(0, routeSend, say),
			message(200, "gate.gateHandler.queryEntry", `{"uid":"x"}`)} {
			s.messages = append(s.messages, string(m[codec.PackageHeadBytes:]))
		}
		s.parts = []string{
			packed(codec.PackageHandshake, `{"sys":{"type":"js-websocket","version":"0.0.1"},"user":{"a":[1,2]}}`), ack, beat,
		}
		for _, m := range s.messages {
			s.parts = append(s.parts, data(m))
		}
		return s, nil
	case "http":
		return &session{pack: plain, parts: []string{
			httpText("GET", "/gate/queryEntry?uid=a%20b", "", "Origin: http://example.com"),
			httpText("POST", "/gate/queryEntry", `{"uid":"x"}`, "Content-Type: application/json"),
			httpText("POST", "/gate/queryEntry", "4\r\n{\"ui\r\n7;a=b\r\nd\":\"x\"}\r\n0\r\nA: b\r\n\r\n", "Transfer-Encoding: chunked"),
			httpText("GET", "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", ""),
			httpText("OPTIONS", "/socket.io/?EIO=3&transport=polling", ""),
			httpText("GET", "/nowhere", "", "Connection: keep-alive", "Accept-Encoding: gzip, br", `If-None-Match: "x"`,
				"X-Forwarded-For: 1.2.3.4, 5.6.7.8"),
			upgradeHead,
		}}, nil
	case "":
		return nil, nil
	}
	from := &sio{only: p, version: version, ws: transport == "ws"}
	if err := from.open(); err != nil {
		return nil, err
	}
	s := &session{pack: textFrame, wrap: from.packet}
	for _, m := range []saying{{1, routeEnter, enter}, {2, routeSend, say}, {200, routeSend, say}} {
		s.messages = append(s.messages, m.text())
		s.parts = append(s.parts, from.packet(m.text()))
	}
	if version == "0.9" {
		s.parts = append(s.parts, "2::", `5:7+::{"name":"message","args":["x"]}`, "4:::{}", "1::/other", "8::")
	} else {
		s.parts = append(s.parts, "2", "3", "40/other,", `450-["message",{"_placeholder":true,"num":0}]`, `42/other,7["message","x"]`, "6")
	}
	if transport == "polling" {
		s.pack = func(part string) string { return from.posting(from.payload(part)) }
		s.last = from.polling()
	}
	return s, nil
}

// unhurt is an error if anything in the server has panicked, or if a line of its log is not an object of JSON.
func (a *arena) unhurt() error {
	now := a.metrics()
	var all []error
	for _, name := range []string{"pomelod_panics_total", "pomelod_room_panics_total", "pomelod_handler_panics_total"} {
		if n, ok := now[name]; n != 0 || !ok {
			all = append(all, fmt.Errorf("%s is %v", name, n))
		}
	}
	log := a.stderr.String()
	for _, line := range strings.Split(log[:strings.LastIndexByte(log, '\n')+1], "\n") {
		var object map[string]any
		if line != "" && json.Unmarshal([]byte(line), &object) != nil || strings.Contains(line, "panic") {
			all = append(all, fmt.Errorf("a line of the log: %.300q", line))
		}
	}
	if len(all) > 3 {
		all = append(all[:3], fmt.Errorf("and %d more", len(all)-3))
	}
	return errors.Join(all...)
}
