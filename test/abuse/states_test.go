//go:build linux

package abuse

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// stateCase is a session that does things out of turn.
type stateCase struct {
	name  string
	sends []string // packages; over WebSocket each is a frame
	hears []string // what the server says, as told has it
	ends  bool     // and whether it closes then
}

// Packages, and what the server says to them.
var (
	shake  = packed(codec.PackageHandshake, `{"sys":{}}`)
	ack    = string(handshakeAck)
	beat   = string(heartbeat)
	kick   = packed(codec.PackageKick, `{"reason":"x"}`)
	shaken = `handshake {"code":200,"sys":{"heartbeat":15}}`
)

// stateCases are those of protocol.md §2.3 that are out of turn. user and room are nobody else's.
func stateCases(user, room string) (cases []stateCase) {
	enter := string(message(1, routeEnter, fmt.Sprintf(`{"username":%q,"rid":%q}`, user, room)))
	again := string(message(2, routeEnter, fmt.Sprintf(`{"username":%q,"rid":%q}`, user, room)))
	say := string(message(3, routeSend, `{"content":"x","target":"*"}`))
	entered := fmt.Sprintf(`1 {"users":[%q]}`, user)
	survives := func(name string, sends []string, hears ...string) {
		cases = append(cases, stateCase{name, append(sends, enter), append(hears, entered), false})
	}
	ends := func(name string, sends []string, hears ...string) {
		cases = append(cases, stateCase{name, sends, hears, true})
	}
	list := func(sends ...string) []string { return sends }

	survives("data before the handshake", list(say, enter, again, shake, ack), shaken, "heartbeat")
	survives("data before the ack", list(shake, say, enter, ack), shaken, "heartbeat")
	survives("handshake twice", list(shake, shake, ack, shake, shake), shaken, "heartbeat")
	survives("ack without a handshake", list(ack, ack, shake, ack), shaken, "heartbeat")
	survives("ack twice", append(list(shake), slices.Repeat(list(ack), 20)...), shaken, "heartbeat")
	survives("heartbeats before the ack", list(beat, beat, shake, beat, beat, ack), shaken, "heartbeat")
	survives("bodies where there should be none", list(shake, packed(codec.PackageHandshakeAck, "{}"), packed(codec.PackageHeartbeat, "{}")),
		shaken, "heartbeat", "heartbeat")
	survives("a request before the enter", list(shake, ack, say), shaken, "heartbeat", `3 {"code":500}`)
	survives("a notify, a push and a response before the enter",
		list(shake, ack, data("\x02\x01x"), data("\x06\x01x{}"), data("\x04\x01{}"), data("\x05\x81\x01")), shaken, "heartbeat")
	for kind := range 4 {
		m := data(string([]byte{byte(8 + 2*kind), 1, 1}) + routeSend)
		survives(fmt.Sprintf("message type %d", 4+kind), list(shake, ack, m), shaken, "heartbeat")
	}
	survives("no message", list(shake, ack, data(""), data("\x00"), data("\x00\xff\xff"), data("\x00\x01"), data("\x00\x01\xffx"),
		data("\x01\x01\x00"), data("\x03")), shaken, "heartbeat")
	survives("codes without a dictionary", list(shake, ack, data("\x01\x01\x00\x01{}"), data("\x03\xff\xff{}")), shaken, "heartbeat")
	survives("what says it is compressed", list(shake, ack, data("\x10\x07\x04a.bc\x1f\x8b")), shaken, "heartbeat", `7 {"code":500}`)
	survives("routes that are none", list(shake, ack, data("\x00\x07\x00{}"), data("\x00\x08\x01.{}"),
		string(message(9, "connector.entryHandler.constructor", "{}"))),
		shaken, "heartbeat", `7 {"code":500}`, `8 {"code":500}`, `9 {"code":500}`)
	cases = append(cases, stateCase{"enter twice", list(shake, ack, enter, again),
		list(shaken, "heartbeat", entered, `2 {"code":500,"error":true}`), false})

	before := []struct {
		name         string
		sends, hears []string
	}{
		{"before the handshake", nil, nil},
		{"before the ack", list(shake), list(shaken)},
		{"later", list(shake, ack, enter), list(shaken, "heartbeat", entered)},
	}
	for _, b := range before {
		ends("a kick "+b.name, slices.Concat(b.sends, list(kick, shake, ack, again)), b.hears...)
		for _, kind := range []string{"\x00", "\x06", "\x07", "\x7f", "\x80", "\xff"} {
			strange := kind + "\x00\x00\x02{}"
			ends(fmt.Sprintf("package type %x %s", kind, b.name), slices.Concat(b.sends, list(strange, shake, ack, again)), b.hears...)
		}
	}
	for _, body := range []string{"", "x", "{}", `{"sys":null}`, "[]", "\x00", strings.Repeat("[", 10_000)} {
		ends("a handshake of "+body, list(packed(codec.PackageHandshake, body), shake, ack, enter), `handshake {"code":500}`)
	}
	return cases
}

// frameCases are frames that are not whole packages.
var frameCases = []struct{ name, payload string }{
	{"an empty frame", ""}, {"half a head", "\x03\x00"}, {"half a package", "\x04\x00\x00\x05ab"}, {"trailing bytes", ack + "\x03"},
}

// Packages that do not belong where they come are ignored, refused or the end of their connection, as the protocol says.
func TestWrongState(t *testing.T) {
	const connections, senders = 2000, 8
	scenario{
		name: "wrong state",
		attack: func(a *arena) error {
			var wg sync.WaitGroup
			errs := make([]error, senders)
			for i := range senders {
				wg.Go(func() {
					for n := i; n < a.n(connections) && errs[i] == nil; n += senders {
						errs[i] = a.wrongState(n)
					}
				})
			}
			wg.Wait()
			return errors.Join(append(errs, a.unhurt())...)
		},
		landed: func(d delta) error {
			return errors.Join(d.atLeast("pomelod_malformed_total", 1), d.atLeast("pomelod_accepted_total", 5))
		},
		held: func(d delta) error {
			return errors.Join(d.atLeast(`pomelod_closed_total{reason="protocol"}`, 50),
				d.atLeast(`pomelod_closed_total{reason="handshake_refused"}`, 10))
		},
		without: weakness{
			edits: []edit{{"router/proto_hybrid.go", "if s.phase == opening && s.step == hybridInited {", "if s.phase != ended {"}},
			fails: "tcp: handshake twice: the server said",
		},
	}.run(t)
}

// wrongState makes the n-th connection.
func (a *arena) wrongState(n int) error {
	ws := n%2 == 1
	cases := stateCases(fmt.Sprint("stranger", n), fmt.Sprint("strange", n))
	if ws {
		for _, c := range frameCases {
			cases = append(cases, stateCase{c.name, []string{shake, ack, c.payload, beat}, []string{shaken, "heartbeat"}, true})
		}
	}
	c := cases[n/2%len(cases)]
	p, err := dial(fmt.Sprint(attackers, n%200+1), a.addr)
	if err != nil {
		return err
	}
	defer p.Close()
	p.late = soon
	wire := "tcp"
	if ws {
		wire = "ws"
		if err := p.upgrade(); err != nil {
			return err
		}
	}
	var all []byte
	for _, s := range c.sends {
		all = append(all, p.framed([]byte(s))...)
	}
	if err := p.raw(all); err != nil {
		return err
	}
	var heard []string
	for c.ends || len(heard) < len(c.hears) {
		var got codec.Package
		if got, err = p.pkg(); err != nil {
			break
		}
		heard = append(heard, told(got))
	}
	ended := err != nil && !strings.Contains(err.Error(), "timeout")
	if !slices.Equal(heard, c.hears) || ended != c.ends {
		return fmt.Errorf("%s: %s: the server said %q (%v), not %q", wire, c.name, heard, err, c.hears)
	}
	return nil
}

// told is a package of the server's in words.
func told(p codec.Package) string {
	switch p.Type {
	case codec.PackageHandshake:
		return "handshake " + string(p.Body)
	case codec.PackageHeartbeat:
		return "heartbeat"
	case codec.PackageData:
		if m, err := codec.ParseMessage(p.Body); err == nil {
			return fmt.Sprintf("%d%s %s", m.ID, m.Route, m.Body)
		}
	}
	return fmt.Sprintf("type %d %q", p.Type, p.Body)
}
