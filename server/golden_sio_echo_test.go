//go:build linux

package server

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/pomelod/pomelod/app"
)

// The reference transcripts are of servers that echo whatever string they get: "echo:" + it; "first" and "second" for "two";
// and "bye" disconnects. Pomelo's strings are requests, so pomelod cannot be such a server. Instead it runs an App that says
// the same, and each string in the transcript becomes a request of it, its echo the answer, "first" a push. What carries the
// strings, which is what these transcripts are about, stays as it was recorded.

const routeEcho = "connector.echoHandler.say"

// echoApp says what the reference servers say.
func echoApp() *app.App {
	a := app.New()
	a.Handle(routeEcho, func(c *app.Call) (any, error) {
		var said struct{ Text string }
		if err := c.Decode(&said); err != nil {
			return nil, err
		}
		switch said.Text {
		case "two":
			if err := c.Session.Push("onEcho", map[string]string{"text": "first"}); err != nil {
				return nil, err
			}
			return map[string]string{"text": "second"}, nil
		case "bye":
			c.Session.Kick("booted")
			return nil, nil
		}
		return map[string]string{"text": "echo:" + said.Text}, nil
	})
	return a
}

// echoes rewrites a transcript of an echo server.
type echoes struct {
	asked map[string][]string // by user: what awaits its echo
	ids   map[string]int      // by user: how many requests were answered or skipped
}

func (e *echoes) rewrite(lines []*line, b *book) error {
	for _, l := range lines {
		each := e.answer
		if l.Dir == "c2s" {
			each = e.request
		}
		switch x := b.inquiries[l.N]; {
		case l.Kind == "text":
			l.Text = each(l.Who, b.forms[l.N], l.Text)
		case x == nil || x.pull == "" && x.posts == "":
		case l == x.request && l.Text != "" && x.posts != "":
			l.Text = rebuild(x.form, l.Text, func(p string) string { return each(l.Who, x.form, p) })
		case l == x.response && x.pull != "":
			l.Text = rebuild(x.form, l.Text, func(p string) string { return each(l.Who, x.form, p) })
		}
	}
	return nil
}

// rebuild replaces the packets in a body. What is no payload stays.
func rebuild(form wireForm, body string, each func(string) string) string {
	wrap := func(s string) string { return s }
	if inside, callback, err := unwrap([]byte(body)); err == nil && callback != "" {
		body, wrap = string(inside), func(s string) string { return callback + "(" + literal(s) + ");" }
	} else if rest, ok := strings.CutPrefix(body, "d="); ok {
		text, err := url.QueryUnescape(rest)
		if err != nil || json.Unmarshal([]byte(text), &body) != nil {
			return "d=" + rest
		}
		wrap = func(s string) string { return "d=" + url.QueryEscape(literal(s)) }
	}
	packets, err := splitPayload(form, "text/plain", []byte(body))
	if err != nil {
		return wrap(body)
	}
	for i, p := range packets {
		packets[i] = each(p)
	}
	return wrap(joinPayload(form, packets))
}

var (
	said09  = regexp.MustCompile(`(?s)^(3:\d*:[^:]*:)(.*)$`)
	event09 = regexp.MustCompile(`^(5:::\{"name":"message","args":\[)(".*")(\]\})$`)
	saidEIO = regexp.MustCompile(`^(42\["message",)(".*")(\])$`)
)

// request makes a request of what a client says.
func (e *echoes) request(who string, form wireForm, packet string) string {
	if m := said09.FindStringSubmatch(packet); m != nil && form == formSIO09 {
		return m[1] + e.ask(who, m[2])
	}
	m := saidEIO.FindStringSubmatch(packet)
	if form == formSIO09 {
		m = event09.FindStringSubmatch(packet)
	}
	var text string
	if m == nil || json.Unmarshal([]byte(m[2]), &text) != nil {
		return packet
	}
	return m[1] + literal(e.ask(who, text)) + m[3]
}

// ask is a message in the string format of §4.1.
func (e *echoes) ask(who, text string) string {
	e.asked[who] = append(e.asked[who], text)
	id := e.ids[who] + len(e.asked[who])
	return string([]rune{0, 0, rune(id >> 8), rune(id & 0xff), rune(len(routeEcho))}) + routeEcho + `{"text":` + literal(text) + `}`
}

// answer makes an answer or a push of what the server says.
func (e *echoes) answer(who string, form wireForm, packet string) string {
	text, ok := strings.CutPrefix(packet, "3:::")
	if m := saidEIO.FindStringSubmatch(packet); m != nil && form != formSIO09 {
		ok = json.Unmarshal([]byte(m[2]), &text) == nil
	} else if form != formSIO09 {
		return packet
	}
	if !ok {
		return packet
	}
	said, push := text, ""
	switch text {
	case "first":
		push = `{"route":"onEcho","text":"first"}`
	case "second":
		said = "two"
	default:
		if said, ok = strings.CutPrefix(text, "echo:"); !ok {
			return packet
		}
	}
	body := push
	if push == "" {
		id := e.answered(who, said)
		if id == 0 {
			return packet // nobody said that as a string
		}
		body = fmt.Sprintf(`{"id":%d,"body":{"text":%s}}`, id, literal(text))
	} else if form != formSIO09 {
		body = `{"route":"onEcho","body":` + push + `}`
	}
	if form == formSIO09 {
		return "3:::[" + body + "]"
	}
	return `42["message",` + literal(body) + `]`
}

// answered is the id of the oldest request that said this. Those before it were never answered.
func (e *echoes) answered(who, said string) int {
	for i, text := range e.asked[who] {
		if text == said {
			e.asked[who] = e.asked[who][i+1:]
			e.ids[who] += i + 1
			return e.ids[who]
		}
	}
	return 0
}
