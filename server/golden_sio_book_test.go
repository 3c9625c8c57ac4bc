//go:build linux

package server

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// inquiry is a request of a transcript and its answer.
type inquiry struct {
	request, response *line // response is nil when there was none
	target            target
	form              wireForm
	pull              string // the session whose packets are in the answer, by its id in the transcript
	posts             string // the session to which the packets in the request are sent
	opens             bool   // the answer opens the session
	overlaps          bool   // another request for the session's packets was open
	head              string // of the answer, in words

	conn *sioConn // on which the request was sent last, in this run
}

// book is what is to be known about a transcript before it is replayed.
type book struct {
	inquiries map[int]*inquiry    // by the lines of request and response
	forms     map[int]wireForm    // of WebSocket lines
	probes    map[string]*inquiry // WebSockets, by connection
	packets   map[int]int         // in answers, by line
	more      map[int]bool        // client's "closed" lines after which the server still says something
}

// sidText is where a server tells a session's id.
var sidText = regexp.MustCompile(`"sid\\?":\\?"([\w-]{20})\\?"|^(?:io\.j\[\d+\]\(")?([\w-]{20}):\d+:\d+:`)

func sidIn(text string) string {
	if m := sidText.FindStringSubmatch(text); m != nil {
		return m[1] + m[2]
	}
	return ""
}

func readBook(lines []*line) *book {
	b := &book{inquiries: map[int]*inquiry{}, forms: map[int]wireForm{}, probes: map[string]*inquiry{}, packets: map[int]int{}, more: map[int]bool{}}
	asked := map[string][]*inquiry{} // by connection
	speaks := map[string]wireForm{}  // WebSockets
	left := map[string]int{}         // by connection: the line of the client's end
	for _, l := range lines {
		key := l.key()
		switch l.Kind {
		case "connect":
			delete(asked, key)
			delete(left, key)
		case "closed":
			if l.Dir == "c2s" {
				left[key] = l.N
			}
		case "request", "upgrade-request":
			x := &inquiry{request: l, target: l.target()}
			x.form = x.target.form()
			if x.target.method == "POST" {
				x.posts = x.target.sid()
			}
			if l.Kind == "upgrade-request" {
				speaks[key], b.probes[key] = x.form, x
			} else if x.target.polls() {
				x.pull = x.target.sid()
			}
			asked[key] = append(asked[key], x)
			b.inquiries[l.N] = x
		case "response", "upgrade-response":
			x := asked[key][0]
			asked[key] = asked[key][1:]
			x.response = l
			b.inquiries[l.N] = x
			b.learn(x)
		default:
			b.forms[l.N] = speaks[key]
		}
		if l.Dir == "s2c" {
			b.more[left[key]] = true
		}
	}
	b.overlap(lines)
	return b
}

// learn looks at an answer: is it packets of a session?
func (b *book) learn(x *inquiry) {
	l := x.response
	text := string(l.body())
	sid := sidIn(text)
	fetched := strings.Contains(l.Line, " 200 ") && text != "7:::1+0"
	switch {
	case !fetched:
		x.pull = ""
	case x.target.polls() && x.target.sid() == "":
		x.pull, x.opens = sid, true
	}
}

// overlap marks requests for packets that were sent while another one was open.
func (b *book) overlap(lines []*line) {
	open := map[string][]*inquiry{}
	for _, l := range lines {
		x := b.inquiries[l.N]
		switch {
		case l.Kind == "closed":
			for sid, list := range open {
				open[sid] = without(list, func(x *inquiry) bool { return x.request.key() == l.key() })
			}
		case x == nil || x.target.sid() == "" || !x.target.polls():
		case l == x.request:
			sid := x.target.sid()
			x.overlaps = len(open[sid]) > 0
			open[sid] = append(open[sid], x)
		default:
			open[x.target.sid()] = without(open[x.target.sid()], func(in *inquiry) bool { return in == x })
		}
	}
}

func without[T any](list []T, drop func(T) bool) (kept []T) {
	for _, v := range list {
		if !drop(v) {
			kept = append(kept, v)
		}
	}
	return kept
}

// body is the bytes of an HTTP line's body.
func (l *line) body() []byte {
	if l.Hex == "" {
		return []byte(l.Text)
	}
	b, err := hex.DecodeString(l.Hex)
	if err != nil {
		panic(err)
	}
	return b
}

// says is what a line of the server's says, and to whom: a session that fetches, or a connection. HTTP's heads are apart: an answer
// with packets has one, however many packets it has.
func (b *book) says(l *line) (who string, items []string, err error) {
	switch l.Kind {
	case "closed":
		return l.key(), []string{"end"}, nil
	case "close", "text", "binary":
		b0 := map[string]byte{"text": 0x81, "binary": 0x82, "close": 0x88}[l.Kind]
		return l.key(), frameTexts(b.forms[l.N], b0, l.payload()), nil
	}
	x := b.inquiries[l.N]
	if x == nil || x.response != l {
		return "", nil, fmt.Errorf("do not know how to compare a %q", l.Kind)
	}
	words, packets, err := answerWords(x, recordedForm(x), &response{l.Line, l.Headers, l.body()})
	if err != nil {
		return "", nil, err
	}
	x.head, b.packets[l.N] = words, len(packets)
	if x.pull == "" {
		return l.key(), []string{words}, nil
	}
	return pullKey(x.pull), packets, nil
}

// recordedForm is the form of a recorded answer: Pomelo's own server takes every client for one of Engine.IO 3.
func recordedForm(x *inquiry) wireForm {
	if x.form == formEIO4 && len(x.response.body()) > 0 && x.response.body()[0] == 0 {
		return formEIO3
	}
	if x.form == formEIO3 && strings.HasPrefix(x.response.Text, `0{`) {
		return formEIO4
	}
	return x.form
}

func pullKey(sid string) string { return "session " + sid }

// answerWords puts an answer into words: its head and, when it has packets, those; else head and body.
func answerWords(x *inquiry, form wireForm, res *response) (words string, packets []string, err error) {
	words = sioHead(res.statusLine, res.headers)
	contentType := res.header("content-type")
	body, callback, err := unwrap(res.body)
	if err != nil {
		return "", nil, err
	}
	if callback != "" {
		words += " | " + callback
	}
	if x.pull == "" || !strings.Contains(res.statusLine, " 200 ") {
		if text := bodyWords(contentType, body); text != "" {
			words += " | " + text
		}
		return words, nil, nil
	}
	list, err := splitPayload(form, contentType, body)
	for _, p := range list {
		packets = append(packets, packetTexts(form, p)...)
	}
	return words, packets, err
}
