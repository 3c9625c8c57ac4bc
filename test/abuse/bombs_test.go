//go:build linux

package abuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/pomelod/pomelod/codec"
)

// bomb is a JSON value that costs a careless reader far more than it cost the sender.
type bomb struct {
	name, value string
	refused     bool // whoever sends it as the content of a message is told so
	rewritten   bool // it is written anew for others, which is refused from maxRewritten on
}

// maxRewritten is the router's, in bytes.
const maxRewritten = 32 << 10

// bombs are of 250 KB, or of a share of that.
func bombs(share float64) []bomb {
	n := func(n int) int { return int(float64(n) * share) }
	times := func(s string, count int) string { return strings.Repeat(s, n(count)) }
	keys := func(count int) string {
		var b strings.Builder
		for i := range n(count) {
			fmt.Fprintf(&b, `"%x":0,`, i)
		}
		return "{" + b.String() + `"":0}`
	}
	if raceEnabled {
		share *= 0.1
	}
	return []bomb{
		{"100,000 arrays in one another", times("[", 100_000) + times("]", 100_000), true, false},
		{"250 KB of brackets", times("[", 250_000), true, false},
		{"250 KB of braces", times("{", 250_000), true, false},
		{"objects in one another", times(`{"a":`, 40_000) + "1" + times("}", 40_000), true, false},
		{"objects that never end", times(`{"a":`, 50_000), true, false},
		{"objects and arrays in one another", times(`[{"":`, 35_000) + "[]" + times("}]", 35_000), true, false},
		{"129 arrays in one another", strings.Repeat("[", 129) + strings.Repeat("]", 129), true, false},
		{"100 arrays in one another", strings.Repeat("[", 100) + strings.Repeat("]", 100), false, false},
		{"a huge exponent", "1e999999", false, false},
		{"a tiny exponent", "-1E-999999999999999999999", false, false},
		{name: "100 KB of digits", value: "1" + times("0", 100_000), rewritten: true},
		{name: "100 KB of digits behind a point", value: "0." + times("1", 100_000), rewritten: true},
		{"a number that begins with zeros", times("0", 100_000) + "1", true, false},
		{"25,000 keys", keys(25_000), false, false},
		{name: "the same key 30,000 times", value: "{" + times(`"a":{},`, 30_000) + `"a":0}`, rewritten: true},
		{name: "keys of escapes", value: "{" + times(`"\u0061":1,`, 20_000) + `"":0}`, rewritten: true},
		{"100,000 commas", "[" + times(",", 100_000) + "]", true, false},
		{"100,000 elements", "[" + times("0,", 100_000) + "0]", false, false},
		{"halves of surrogates", `"` + times(`\ud800`, 15_000) + times(`\udc00\ud83d`, 10_000) + `"`, false, false},
		{"escapes of astral characters", `"` + times(`\ud83d\ude00`, 15_000) + `"`, false, false},
		{"astral characters", `"` + times("\U0001f600", 15_000) + `"`, false, false},
		{"escapes of NUL", `"` + times(`\u0000`, 30_000) + `"`, false, false},
		{"bytes that are no UTF-8", `"` + times("\xff\xc0\x80\xed\xa0\x80", 10_000) + `"`, false, false},
		{"the beginnings of characters", `"` + times("\xf0\x9f\x98", 20_000) + `"`, false, false},
		{"a NUL as it is", "\"a\x00b\"", true, false},
		{"line feeds as they are", "\"" + times("\n", 100_000) + "\"", true, false},
		{"escapes that are none", `"` + times(`\x`, 100_000) + `"`, true, false},
		{"half an escape", `"\u12"`, true, false},
		{"white space", times(" \t\r\n", 60_000) + "1", false, false},
		{"a string without an end", `"` + times("a", 250_000), true, false},
		{"backslashes", `"` + times(`\\`, 100_000) + `"`, false, false},
	}
}

// bombPlace is where a message has JSON.
type bombPlace struct {
	name, route, body string // BOMB and ROOM stand for what they say
	taken             bool   // if there is nothing wrong with it
}

const asContent = "as content"

var bombPlaces = []bombPlace{
	{asContent, routeSend, `{"content":BOMB,"target":"*"}`, true},
	{"as more than needed", routeSend, `{"x":BOMB,"content":"x","target":"*"}`, true},
	{"as all there is", routeSend, `BOMB`, false},
	{"as target", routeSend, `{"content":"x","target":BOMB}`, false},
	{"as secret", routeEnter, `{"username":"bomber","rid":"ROOM","secret":BOMB}`, false}, // is there already
	{"for no route", "chat.chatHandler.nothing", `BOMB`, false},
}

// JSON that is deep, long or broken costs no more time than its length, is answered, and reaches nobody as it must not.
func TestJSONBombs(t *testing.T) {
	scenario{
		name:  "bombs",
		flags: []string{"-session-rate", "1000:1000", "-send-rate", "1000:1000", "-enter-rate", "1000:1000"}, // they are another scenario's
		attack: func(a *arena) error {
			// Two at a time: this is about what a message costs, not about how many bytes the machine can take.
			var wg sync.WaitGroup
			turns := make(chan struct{}, 2)
			errs := make([]error, len(wires)+1)
			for i := range errs {
				wg.Go(func() {
					turns <- struct{}{}
					defer func() { <-turns }()
					if i == len(wires) {
						errs[i] = a.bombHandshakes()
					} else if err := a.bombard(i, wires[i]); err != nil {
						errs[i] = fmt.Errorf("%s: %w", wires[i], err)
					}
				})
			}
			wg.Wait()
			return errors.Join(append(errs, a.unhurt())...)
		},
		landed: func(d delta) error {
			return errors.Join(d.atLeast("pomelod_requests_total", 10), d.atLeast("pomelod_read_bytes_total", 1e5))
		},
		held: func(d delta) error {
			return errors.Join(d.atLeast("pomelod_sends_refused_total", 50), d.atLeast("pomelod_names_refused_total", 20),
				d.atLeast("pomelod_handshakes_refused_total", 3), d.atLeast("pomelod_sends_total", 50))
		},
		without: weakness{
			edits: []edit{{"codec/json_scan.go", "const maxJSONDepth = 128", "const maxJSONDepth = 1 << 40"}},
			fails: "100,000 arrays in one another, as content: answered {}",
		},
	}.run(t)
}

// bombard sends bombs in all places that take JSON, with a listener in the same room who has to understand what comes of it.
func (a *arena) bombard(i int, wire string) error {
	c, err := a.guest(i, wire)
	if err != nil {
		return err
	}
	room := fmt.Sprint("bombed", i)
	if err := c.join("bomber", room); err != nil {
		return err
	}
	l, err := a.guest(100+i, []string{"tcp", "ws"}[i%2])
	if err != nil {
		return err
	}
	if err := l.join("listener", room); err != nil {
		return err
	}
	s := c.sio()
	textual := s != nil
	c.babble = textual
	share := 1.0
	if textual {
		share = 0.25 // JSON in a string takes more bytes, twice as escapes
	}
	for _, b := range bombs(share) {
		if textual && s.ws && !utf8.ValidString(b.value) {
			continue // that is a matter of WebSocket, and has been judged before JSON is
		}
		for _, place := range bombPlaces {
			answer, err := c.ask(place.route, strings.NewReplacer("BOMB", b.value, "ROOM", room).Replace(place.body))
			if err != nil {
				return fmt.Errorf("%s, %s: %w", b.name, place.name, err)
			}
			taken := place.taken && !b.refused && !(b.rewritten && place.name == asContent && len(b.value) > maxRewritten)
			if taken != (answer == "{}") || !taken && !strings.HasPrefix(answer, `{"code":500`) {
				return fmt.Errorf("%s, %s: answered %.200s", b.name, place.name, answer)
			}
			for _, e := range c.pushes {
				if err := wellFormed(e.body); err != nil {
					return fmt.Errorf("%s, %s: the bomber got %w", b.name, place.name, err)
				}
			}
			c.pushes = nil
			if !taken {
				continue
			}
			e, err := l.push()
			if err == nil && e.route != "onChat" {
				err = errors.New(e.route)
			}
			if err == nil {
				err = wellFormed(e.body)
			}
			if err != nil {
				return fmt.Errorf("%s, %s: the listener got %w", b.name, place.name, err)
			}
		}
		if textual && utf8.ValidString(b.value) { // where a packet has JSON of its own
			packet := `42["message",` + b.value + `]`
			if s.version == "0.9" {
				packet = `5:::{"name":"message","args":[` + b.value + `]}`
			}
			if err := s.send(packet); err != nil {
				return fmt.Errorf("%s, in a packet: %w", b.name, err)
			}
		}
	}
	return nil
}

// bombHandshakes sends bombs where a handshake has JSON, which may be of 16 KiB, and to the gate by HTTP.
func (a *arena) bombHandshakes() error {
	for i, b := range bombs(0.06) {
		for _, body := range []string{`{"sys":{},"user":%s}`, `{"sys":{"version":%s}}`, `{"sys":%s,"sys":{}}`} {
			p, err := a.dial(i)
			if err != nil {
				return err
			}
			if err := p.raw(codec.AppendPackage(nil, codec.PackageHandshake, fmt.Appendf(nil, body, b.value))); err != nil {
				return err
			}
			got, err := p.pkg()
			p.Close()
			want := `{"code":200,`
			if b.refused {
				want = `{"code":500}`
			}
			if err != nil || !strings.HasPrefix(string(got.Body), want) {
				return fmt.Errorf("%s, in a handshake: %.100q, %w", b.name, got.Body, err)
			}
		}
	}
	p, err := a.dial(0)
	if err != nil {
		return err
	}
	for _, b := range bombs(1) {
		status, answer, err := p.request(httpText("POST", "/gate/queryEntry", `{"uid":`+b.value+`}`))
		if err == nil {
			err = wellFormed(answer)
		}
		if err != nil || status != 200 {
			return fmt.Errorf("%s, to the gate: %d, %w", b.name, status, err)
		}
	}
	return nil
}

// wellFormed is an error unless a client can read what it is told.
func wellFormed(text string) error {
	if !json.Valid([]byte(text)) || !utf8.ValidString(text) {
		return fmt.Errorf("no JSON of UTF-8: %.200q", text)
	}
	return nil
}
