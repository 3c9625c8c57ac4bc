package router

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// enters asks to enter and waits for the answer, which takes real time where a login is judged.
func (c *sioClient) enters(body string) (answer string) {
	c.r.t.Helper()
	id := c.request(routeEnter, body)
	c.r.until(func() bool {
		c.run()
		for _, e := range c.events {
			if e.kind == "answer" && e.id == id {
				answer = e.text
			}
		}
		return answer != ""
	})
	return answer
}

// A client that polls, and has no GET open when its login expires, is told so by its next one.
func TestLoginExpiresByPolling(t *testing.T) {
	for _, kind := range pollers() {
		r, b := loginRig(t, shape{loops: 1}, nil)
		b.until = time.UnixMilli(r.net.Now()/1e6 + 2500)
		c := r.sioLogin(kind)
		if got := c.enters(withToken("", "r", "ann")); got != `{"users":["ann"]}` {
			t.Fatal(got)
		}
		c.run()
		r.dropGET(c)
		c.take()
		for range 5 {
			r.net.Seconds(1)
		}
		if n := r.closedFor(reasonLogin); n != 0 {
			t.Errorf("%s: %d closed, and nobody has been told", kind.name, n)
		}
		c.poll()
		r.net.Settle()
		c.pump()
		if got := fmt.Sprint(c.take()); got != `[kick 0 "login expired"]` || c.session() != nil || r.closedFor(reasonLogin) != 1 {
			t.Errorf("%s: told %s", kind.name, got)
		}
	}
}

// Every wire of socket.io has tokens in enter, that of today in the connect, and all of them in the URL where that is allowed.
func TestLoginBySocketIO(t *testing.T) {
	for _, kind := range flavours {
		t.Run(kind.name, func(t *testing.T) {
			r, _ := loginRig(t, shape{loops: 1}, nil)
			c := r.sioLogin(kind)
			for body, want := range map[string]string{enterBody("alice", "r"): loginText, withToken("alice", "r", "bad"): loginText} {
				if got := c.enters(body); got != want {
					t.Errorf("%s: %s", body, got)
				}
			}
			if got := c.enters(withToken("alice", "r", "alice")); got != `{"users":["alice"]}` {
				t.Error(got)
			}
			if kind.version == 4 {
				for token, want := range map[string]string{"bad": `44{"message":"login refused"}`, "bob": "40{"} {
					c := r.sio(kind)
					c.begin()
					c.packets = nil
					c.send(`40{"token":"`+token+`"}`, c.message(9, routeEnter, `{"rid":"q"}`))
					r.until(func() bool { c.run(); return len(c.packets) > 0 })
					if !strings.HasPrefix(c.packets[0], want) {
						t.Errorf("%s: %q", token, c.packets)
					}
					if token == "bob" {
						r.until(func() bool { c.run(); return len(c.events) > 0 })
						if got := c.events[0].text; got != `{"users":["bob"]}` {
							t.Error(got)
						}
					}
				}
			}
			for _, allowed := range []bool{false, true} {
				r, _ = loginRig(t, shape{loops: 3, follow: true, roundTrip: true}, func(cfg *Config) { cfg.Logins.Query = allowed })
				c := r.sio(kind)
				c.change = func(request string) string {
					line, rest, _ := strings.Cut(request, " HTTP/1.1")
					mark := "?"
					if strings.Contains(line, "?") {
						mark = "&"
					}
					return line + mark + "token=carol HTTP/1.1" + rest
				}
				c.open()
				c.change = nil
				want := map[bool]string{false: loginText, true: `{"users":["carol"]}`}[allowed]
				if got := c.enters(`{"rid":"r"}`); got != want {
					t.Errorf("in the URL, allowed %v: %s", allowed, got)
				}
			}
		})
	}
}
