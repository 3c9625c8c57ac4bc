//go:build linux

package abuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// oddName is a name as a client writes it, and what everybody else has to see; "" if it must be refused.
type oddName struct{ raw, seen string }

func oddNames() []oddName {
	var names []oddName
	for _, refused := range []string{`"a\nb"`, `""`, `"\u0000"`, `"a\u0000b"`, `"\r\n"`, `"a\tb"`, `"\u001b[31m"`,
		`"\u007f"`, `"\u0085"`, `"*"`, `"a*b"`, `"\u002a"`,
		`"a\n{\"level\":\"ERROR\",\"msg\":\"injected\"}"`, `"x\"} 1\npomelod_injected 1"`, `true`, `null`, `{}`, `[]`, `{"a":"b"}`, `["a"]`,
		quoted(strings.Repeat("a", 65)), quoted(strings.Repeat("é", 33)), quoted(strings.Repeat("\U0001f600", 6)), // as JSON has it: twelve bytes each
		`"` + strings.Repeat(`\"`, 33) + `"`,
		quoted(strings.Repeat("a", 100_000)), strings.Repeat("1", 65)} {
		names = append(names, oddName{refused, ""})
	}
	for _, taken := range []string{strings.Repeat("a", 64), strings.Repeat("é", 32), strings.Repeat("\U0001f600", 5), strings.Repeat(`"`, 32),
		"__proto__", "constructor", "toString", "hasOwnProperty", "prototype", "undefined", "null", "NaN",
		`"`, `\`, `'`, "`", `\n`, `\u0000`, `","error":true,"x":"`,
		`{"injected":1}`, "</script><script>injected()//", "${jndi:injected}", "%s%n%x", "a,b", "a b", " ",
		"../../etc/passwd", "/", ".", "\u202egnp.exe", "\u200b", "\u200b\u200d\ufeff", "\u2028\u2029",
		"\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301\u0302\u0303\u0304", "\ufffd", "\uffff",
		"\U0010ffff", "İıſK", `injected="1"} 1`} {
		names = append(names, oddName{quoted(taken), taken})
	}
	return append(names, oddName{`"\u0041\u00e9\ud83d\ude00"`, "Aé\U0001f600"}, oddName{`"\ud800"`, "\ufffd"},
		oddName{`"\udc00\ud800"`, "\ufffd\ufffd"}, oddName{"\"\xff\"", "\ufffd"}, oddName{"\"\xed\xa0\xbd\xed\xb8\x80\"", "\U0001f600"},
		oddName{"42", "42"}, oddName{"-1.5e3", "-1.5e3"})
}

// Names that mean something to JSON, to JavaScript, to a log, to a terminal or to a file system are refused, or are names.
func TestOddNames(t *testing.T) {
	scenario{
		name:  "names",
		flags: []string{"-names", "original", "-session-rate", "1000:1000", "-send-rate", "1000:1000", "-enter-rate", "1000:1000", "-log-level", "debug"},
		attack: func(a *arena) error {
			var wg sync.WaitGroup
			errs := make([]error, len(wires))
			for i, wire := range wires {
				wg.Go(func() {
					if err := a.oddNames(i, wire); err != nil {
						errs[i] = fmt.Errorf("%s: %w", wire, err)
					}
				})
			}
			wg.Wait()
			return errors.Join(append(errs, a.unhurt(), a.metricsPlain())...)
		},
		landed: func(d delta) error { return d.atLeast("pomelod_requests_total", 20) },
		held: func(d delta) error {
			return errors.Join(d.atLeast("pomelod_names_refused_total", 100), d.atLeast("pomelod_enters_total", 500))
		},
		without: weakness{
			edits: []edit{{"router/chat.go", "r == '*' || unicode.IsControl(r)", "r == '*' && unicode.IsControl(r)"}},
			fails: `"a\nb" as a user was not refused`,
		},
		also: []weakness{{
			edits: []edit{{"router/chat.go", "return encoded <= max", "return encoded > 0"}},
			fails: "\U0001f600\" as a user was not refused", // six of them are 24 bytes as UTF-8, and 72 as JSON has them
		}},
	}.run(t)
}

// oddNames enters with each name, as a user's and as a room's.
func (a *arena) oddNames(i int, wire string) error {
	c, err := a.guest(i, wire)
	if err != nil {
		return err
	}
	var others [2]*guest // one listens in the room, one goes along
	for j, wire := range []string{"tcp", "ws"} {
		if others[j], err = a.guest(50*(j+1)+i, wire); err != nil {
			return err
		}
	}
	listener, companion := others[0], others[1]
	room := fmt.Sprint("names", i)
	if err := listener.join("listener", room); err != nil {
		return err
	}
	for _, n := range oddNames() {
		if strings.Contains(wire, " ") && !utf8.ValidString(n.raw) {
			continue // what carries it is UTF-8
		}
		if err := n.user(c, listener, room); err != nil {
			return fmt.Errorf("%.100s as a user %w", n.raw, err)
		}
		if err := n.room(c, companion, i); err != nil {
			return fmt.Errorf("%.100s as a room %w", n.raw, err)
		}
	}
	return nil
}

var errNotRefused = errors.New("was not refused")

// user has c enter with the name, talk and go. The listener has to see one of that name do so.
func (n oddName) user(c, listener *guest, room string) error {
	users, err := c.admitted(n.raw, quoted(room))
	c.pushes = nil // of the room it was in
	if n.seen == "" {
		if err == nil {
			err = errNotRefused
		}
		if err == errRefused {
			err = nil
		}
		return err
	}
	if err != nil {
		return err
	}
	if len(users) != 2 || !slices.Contains(users, n.seen) || !slices.Contains(users, "listener") {
		return fmt.Errorf("is one of %q", users)
	}
	if err := listener.expect("onAdd", n.seen); err != nil {
		return err
	}
	if answer, err := c.ask(routeSend, `{"content":"x","target":"*"}`); answer != "{}" {
		return fmt.Errorf("said something: %s, %w", answer, err)
	}
	if err := listener.expect("onChat", n.seen); err != nil {
		return err
	}
	if answer, err := listener.ask(routeSend, `{"content":"x","target":`+quoted(n.seen)+`}`); answer != "{}" {
		return fmt.Errorf("was told something: %s, %w", answer, err)
	}
	if err := c.expect("onChat", "listener"); err != nil {
		return err
	}
	if _, err := c.admitted(`"x"`, quoted(room+"elsewhere")); err != nil {
		return fmt.Errorf("went: %w", err)
	}
	return listener.expect("onLeave", n.seen)
}

// room has c enter a room of that name, and then companion.
func (n oddName) room(c, companion *guest, i int) error {
	first, second := fmt.Sprint("first", i), fmt.Sprint("second", i)
	_, err := c.admitted(quoted(first), n.raw)
	if n.seen == "" {
		if err == nil {
			err = errNotRefused
		}
		if err == errRefused {
			err = nil
		}
		return err
	}
	if err != nil {
		return err
	}
	users, err := companion.admitted(quoted(second), quoted(n.seen))
	if err == nil && (!slices.Contains(users, first) || !slices.Contains(users, second)) {
		err = fmt.Errorf("has %q", users)
	}
	companion.pushes = nil
	return err
}

var errRefused = errors.New("was refused")

// admitted enters by names in JSON, and returns who is there; errRefused if the server did not want that.
func (c *guest) admitted(user, room string) ([]string, error) {
	users, err := c.enterAs(user, room, "")
	if err == nil && users == nil {
		err = errRefused
	}
	return users, err
}

// expect waits for a push about a user. Others that are not about one, or about another, are an error unless it is of the client's own.
func (c *guest) expect(route, user string) error {
	for {
		e, err := c.push()
		if err != nil {
			return fmt.Errorf("is waited for in %s: %w", route, err)
		}
		var p struct{ User, From string }
		if err := json.Unmarshal([]byte(e.body), &p); err != nil {
			return fmt.Errorf("is told %q", e.body)
		}
		who := p.User + p.From
		if e.route == route && who == user {
			return nil
		}
		if e.route != "onChat" {
			return fmt.Errorf("is told of %s of %q instead of %s", e.route, who, route)
		}
	}
}

// plainMetric is a line of /metrics in which no stranger has a say.
var plainMetric = regexp.MustCompile(`^(#.*|[a-z_0-9]+(\{([a-z_]+="[-A-Za-z0-9_./+: ]*",?)+\})? [-+.e0-9NaInf]+)$`)

// metricsPlain is an error if any line of the metrics is odd.
func (a *arena) metricsPlain() error {
	resp, err := httpClient.Get("http://" + a.admin + "/metrics")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	for _, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		if !plainMetric.MatchString(line) || strings.Contains(line, "injected") {
			return fmt.Errorf("a line of the metrics: %q", line)
		}
	}
	return err
}
