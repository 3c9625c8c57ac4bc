package main

import (
	"slices"
	"strings"
	"testing"
)

// feed lets a wire read, and returns the requests that it makes: method and body.
func feed(t *testing.T, w wire, h *heard, b string) string {
	t.Helper()
	if n, err := w.read([]byte(b), h); n != len(b) || err != nil {
		t.Fatal(n, err)
	}
	return requests(h.taken())
}

func requests(said string) string {
	var list []string
	for said != "" {
		method, _, _ := strings.Cut(said, " ")
		head, body, _ := strings.Cut(said, "\r\n\r\n")
		said = ""
		if i := strings.Index(body, "GET "); i >= 0 {
			body, said = body[:i], body[i:]
		}
		if !strings.Contains(head, " /socket.io/?EIO=4&transport=polling") {
			method += " elsewhere"
		}
		list = append(list, strings.TrimSpace(method+" "+body))
	}
	return strings.Join(list, ", ")
}

// A GET is always open, what is to be said meanwhile goes by a second connection, and never are there two POSTs at a time.
func TestPollingTakesTurns(t *testing.T) {
	w, h := &polling{dialect: &engine{version: 4}}, &heard{}
	w.hello(h, "h:1")
	steps := []string{requests(h.taken())}
	step := func(s string) { steps = append(steps, s) }
	step(feed(t, w, h, ok(opened4)))
	step(feed(t, w, h, ok("ok")))
	step(feed(t, w, h, ok(`40{"sid":"x"}`)))
	if !slices.Equal(h.events, []string{"ready 25s"}) {
		t.Fatal(h.events)
	}
	w.say(h, []byte("one")) // while the GET is held
	if len(h.others) != 1 || h.taken() != "" {
		t.Fatal("no second connection")
	}
	second := h.others[0]
	w.say(h, []byte("two")) // before that stands
	second.wire.hello(second, "h:1")
	step(requests(second.taken()))
	w.say(h, []byte("three")) // before it is accepted
	step(feed(t, w, h, ok("2")))
	step(feed(t, second.wire, second, ok("ok")))
	step(feed(t, second.wire, second, ok("ok")))
	step(feed(t, w, h, ok("2")))
	step(feed(t, w, h, ok("ok")))
	want := []string{"GET", "POST 40", "GET", "GET", "POST one\x1etwo", "GET", "POST three\x1e3", "", "POST 3", "GET"}
	if !slices.Equal(steps, want) {
		t.Errorf("%q, want %q", steps, want)
	}
	if !second.wire.(*poster).ended(second) || w.poster != nil {
		t.Error("a second connection with nothing to do may not end")
	}
	w.say(h, []byte("four"))
	if len(h.others) != 2 || h.others[1].wire.(*poster).ended(h.others[1]) {
		t.Error("a second connection that has to post may end")
	}
}
