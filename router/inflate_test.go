package router

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/codec"
)

// packedBody is body compressed by gzip or, as libpitaya does it, by zlib.
func packedBody(t *testing.T, kind, body string) string {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&out)
	if kind == "zlib" {
		w = zlib.NewWriter(&out)
	}
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// compressed is a request whose flag says that its body is compressed; a notify when id is 0.
func (c *client) compressed(id uint32, route, body string) []byte {
	m := codec.Message{Type: codec.MessageNotify, Gzip: true, Route: []byte(route), Body: []byte(body)}
	if id != 0 {
		m.Type, m.ID = codec.MessageRequest, id
	}
	b, err := codec.AppendMessage(nil, m)
	if err != nil {
		c.r.t.Fatal(err)
	}
	return c.bytes(codec.PackageData, b)
}

// askPacked sends a compressed request and returns its answer.
func (c *client) askPacked(kind, route, body string) string {
	c.r.t.Helper()
	c.id++
	c.sock.Send(c.compressed(c.id, route, packedBody(c.r.t.(*testing.T), kind, body)))
	c.r.net.Settle()
	c.pump()
	for i, e := range c.events {
		if e.kind == "answer" && e.id == c.id {
			c.events = append(c.events[:i], c.events[i+1:]...)
			return e.text
		}
	}
	c.r.t.Fatalf("no answer: %v", c.events)
	return ""
}

// Requests and notifies with compressed bodies are as good as others; answers and pushes are not compressed (protocol.md §2.5).
func TestCompressedBodies(t *testing.T) {
	forShapes(t, func(t *testing.T, r *rig) {
		for _, kind := range []string{"gzip", "zlib"} {
			c, other := r.login(atConnector, kind == "gzip"), r.login(atConnector, false)
			c.r.t, other.r.t = t, t
			other.enter("other", kind)
			if got := c.askPacked(kind, routeEnter, enterBody("a", kind)); got != `{"users":["other","a"]}` {
				t.Fatal(got)
			}
			long := strings.Repeat("all of it arrives. ", 200)
			if got := c.askPacked(kind, routeSend, sendBody(long, "*")); got != `{}` {
				t.Error(got)
			}
			c.sock.Send(c.compressed(0, routeSend, packedBody(t, kind, sendBody("notified", "*"))))
			c.sock.Send(c.compressed(0, routeSend, sendBody("not compressed after all", "*"))) // the original does not look at the bit
			r.net.Settle()
			push := func(text string) string { return `push 0 onChat {"msg":"` + text + `","from":"a","target":"*"}` }
			other.want(`push 0 onAdd {"route":"onAdd","user":"a"}`, push(long), push("notified"), push("not compressed after all"))
		}
	})
}

// What cannot be inflated, or inflates to too much, is refused as its route refuses, counts as malformed, and hurts nobody.
func TestCompressedBombs(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	c := r.login(atConnector, false)
	zeros := strings.Repeat("\x00", 8<<10)
	if got := c.askPacked("zlib", routeEnter, zeros); got != enterRefused {
		t.Error(got)
	}
	c.enter("a", "r")
	for i, body := range []string{
		packedBody(t, "gzip", zeros), packedBody(t, "gzip", `{"content":"x","target":"*"}`)[:20],
		packedBody(t, "zlib", `{"content":"`+strings.Repeat("x", 100<<20)+`"}`), "\x1f\x8b\x08", "\x78\x9c\x00",
	} {
		c.sock.Send(c.compressed(100, routeSend, body))
		c.sock.Send(c.compressed(0, routeSend, body))
		r.net.Settle()
		c.want("answer 100 " + refused)
		if n := r.node.loops[0].counters.malformed; n != uint64(1+2*(i+1)) {
			t.Errorf("%d: %d counted", i, n)
		}
	}
	if b := cap(r.node.loops[0].inflated); b > maxScratch {
		t.Errorf("%d bytes are kept", b)
	}
}

// Inflating is charged to the session's rate, by what was sent and what came out; short bodies cost what others do.
func TestCompressedBodiesAreCharged(t *testing.T) {
	long := ""
	for i := range 8000 {
		long += fmt.Sprintln(i)
	}
	for _, body := range []string{`{"a":1}`, long} {
		each := 1 + len(packedBody(t, "zlib", body))/packedUnit + len(body)/inflatedUnit
		want := (200 + each - 1) / each // the last one is carried out as long as anything is left
		r := newRig(t, shape{loops: 1}, publicLimits)
		c := r.login(atConnector, false)
		carried := 0
		for range 300 {
			got := c.askPacked("zlib", "no.such.route", body)
			if got == refused {
				carried++
			} else if got != `{"code":500,"reason":"session_rate"}` {
				t.Fatal(got)
			}
		}
		if carried < want || carried > want+1 {
			t.Errorf("%d messages of %d bytes that count as %d each, want %d", carried, len(body), each, want)
		}
	}
}

// Whatever one member says, what the others are told can be read by encoding/json, and is what JavaScript would have made of it.
func TestWhatStrictParsersRefuse(t *testing.T) {
	a := app.New()
	forShapes(t, func(t *testing.T, r *rig) {
		c, other := r.login(atConnector, true), r.login(atConnector, false)
		c.enter("a", "r")
		other.enter("b", "r")
		for in, want := range map[string]string{
			`1e400`: `null`, `[1,-1e999]`: `[1,null]`, `{"x":1,"y":2,"x":{"z":1,"z":3}}`: `{"x":{"z":3},"y":2}`, `"\ud800"`: `"\ud800"`,
			"\"\xed\xa0\x80\"": `"` + strings.Repeat("\ufffd", 3) + `"`, `{"a":[1,2.5,"x"]}`: `{"a":[1,2.5,"x"]}`,
		} {
			other.take()
			if got := c.ask(routeSend, `{"content":"first","content":`+in+`,"target":"*"}`); got != `{}` {
				t.Errorf("%s: %s", in, got)
			}
			told := other.take()
			if len(told) != 1 || told[0] != `push 0 onChat {"msg":`+want+`,"from":"a","target":"*"}` {
				t.Errorf("%s: told %q, want %s", in, told, want)
				continue
			}
			var v any
			if err := json.Unmarshal([]byte(strings.TrimPrefix(told[0], "push 0 onChat ")), &v); err != nil {
				t.Errorf("%s: %v", told[0], err)
			}
		}
		for _, deep := range []int{129, 5000, 100_000} {
			if got := c.ask(routeSend, `{"target":"*","content":`+strings.Repeat("[", deep)+strings.Repeat("]", deep)+`}`); got != refused {
				t.Errorf("%d levels: %s", deep, got)
			}
		}
	})
	r := newRig(t, shape{loops: 1}, func(cfg *Config) {
		cfg.App = a
		cfg.Profiles[atConnector].User = func(user []byte) ([]byte, error) { return user, nil }
	})
	c, told := r.loginAs(atConnector, false, `{"sys":{"type":"x"},"user":{"a":1,"a":1e400}}`)
	if !strings.HasSuffix(told, `"user":{"a":null}}`) {
		t.Error(told)
	}
	c.enter("a", "r")
	if err := a.Room("r").PushUser("a", "news", json.RawMessage(`{"n":1e400,"n2":1,"n2":2}`)); err != nil {
		t.Fatal(err)
	}
	r.net.Settle()
	c.want(`push 0 news {"n":null,"n2":2}`)
}
