package router

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/limit"
)

// A file counts by its length, where it is sent: a client gets as many as its address may ask for answers of a kilobyte.
func TestFilesAreChargedByLength(t *testing.T) {
	for name, head := range map[string]string{"of a client": "", "of a proxy's client": "X-Forwarded-For: 192.0.2.7"} {
		r := accessRig(t, 1, Access{PerAddress: limit.PerAddress{Requests: limit.Rate{PerSecond: 1, Burst: 30}}})
		r.node.files = map[string]*File{"/long": {Path: "/long", ContentType: "text/plain", ETag: `"x"`, Body: make([]byte, 10<<10)}}
		if head == "" {
			r.peer, r.uncounted = personAddr, false
		}
		ask := func(request string) int { return r.web(atConnector).ask(request).status }
		for range 5 { // 5 tokens
			if got := ask(strings.Replace(get("/long", head), "GET", "HEAD", 1)); got != 200 {
				t.Fatalf("%s: a HEAD was answered %d", name, got)
			}
		}
		for i, want := range []int{200, 200, 200, 429} { // 11 each, of 25
			if got := ask(get("/long", head)); got != want {
				t.Errorf("%s: file %d was answered %d, not %d", name, i, got, want)
			}
		}
	}
}

// A file is sent as it is or compressed, with its own headers, and not again to whom has it.
func TestFiles(t *testing.T) {
	for _, tc := range []struct {
		name, request string
		status        int
		body          string
		gzip          bool
	}{
		{"plain", get("/chat"), 200, "<p>chat</p>", false},
		{"with a query", get("/chat?x=1"), 200, "<p>chat</p>", false},
		{"compressed", get("/chat", "Accept-Encoding: deflate, gzip;q=0.5"), 200, "\x1f\x8bzipped", true},
		{"compression refused", get("/chat", "Accept-Encoding: gzip;q=0.00, br"), 200, "<p>chat</p>", false},
		{"another compression", get("/chat", "Accept-Encoding: xgzip, br"), 200, "<p>chat</p>", false},
		{"nothing to compress", get("/chat/icon.png", "Accept-Encoding: gzip"), 200, "PNG", false},
		{"known", get("/chat", `If-None-Match: W/"v1"`), 304, "", false},
		{"known, among others", get("/chat", `If-None-Match: "v0", W/"v1" , "v2"`, "Accept-Encoding: gzip"), 304, "", true},
		{"another version", get("/chat", `If-None-Match: W/"v10"`), 200, "<p>chat</p>", false},
		{"head", strings.Replace(get("/chat"), "GET", "HEAD", 1), 200, "", false},
		{"head, compressed", strings.Replace(get("/chat", "Accept-Encoding: gzip"), "GET", "HEAD", 1), 200, "", true},
		{"head, known", strings.Replace(get("/chat", `If-None-Match: W/"v1"`), "GET", "HEAD", 1), 304, "", false},
	} {
		r := newRig(t, shape{loops: 1}, filed)
		for _, tag := range []uint8{atConnector, atGate} {
			w := r.web(tag)
			p := w.ask(tc.request)
			icon := strings.Contains(tc.request, "icon")
			want := map[string]string{"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", "ETag": `W/"v1"`, "Connection": "keep-alive",
				"Content-Security-Policy": "default-src 'self'", "Vary": "Accept-Encoding", "Content-Type": "text/html", "Content-Length": "11"}
			if icon {
				want["ETag"], want["Content-Type"], want["Content-Length"] = `W/"v2"`, "image/png", "3"
				delete(want, "Content-Security-Policy")
				delete(want, "Vary")
			}
			if tc.gzip {
				want["Content-Encoding"], want["Content-Length"] = "gzip", "8"
			}
			if tc.status == 304 {
				delete(want, "Content-Type")
				delete(want, "Content-Length")
			}
			if p.status != tc.status || p.body != tc.body || fmt.Sprint(p.header) != fmt.Sprint(want) {
				t.Errorf("%s: %v\nwant %v", tc.name, p, want)
			}
			w.wantIdle()
		}
		r.endAll()
		r.balanced()
	}
}

// Where a connector has no host of its own, a gate tells each client the one by which it was reached itself, or by which address
// when the client does not say; over every transport.
func TestGateTellsTheHostItWasReachedBy(t *testing.T) {
	for _, host := range []string{"Host: pomelo.example:3050\r\n", "Host: [2001:db8::1]:3050\r\n", "Host: \r\n", ""} {
		want := map[string]string{"Host: pomelo.example:3050\r\n": "pomelo.example", "Host: [2001:db8::1]:3050\r\n": "[2001:db8::1]"}[host]
		if want == "" {
			want = "::1" // our end, as looptest has it
		}
		want = `{"code":200,"host":"` + want + `","port":2}`
		as := func(request string) string {
			request = strings.Replace(request, "Host: pomelo.example:3050\r\n", host, 1)
			if host == "" {
				request = strings.Replace(request, "HTTP/1.1\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n", 1)
			}
			return request
		}
		r := newRig(t, shape{loops: 2}, func(c *Config) { c.Connectors = []Endpoint{{Port: 2}} })
		w := r.web(atGate)
		for _, request := range []string{get("/gate/queryEntry?uid=x"), post("/gate/queryEntry", `{"uid":"x"}`)} {
			if p := w.ask(as(request)); p.body != want {
				t.Errorf("%q: %v", host, p)
			}
		}
		for _, kind := range flavours {
			if kind.ws && host == "" {
				continue // an upgrade needs HTTP/1.1
			}
			c := r.sio(kind)
			c.tag = atGate
			c.change = as
			c.open()
			if got := c.ask(routeQueryEntry, `{"uid":"x"}`); got != want {
				t.Errorf("%q by %s: %s", host, kind.name, got)
			}
		}
	}
}
