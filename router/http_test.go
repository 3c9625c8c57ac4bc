package router

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/pomelod/pomelod/codec"
)

// filed is a configuration with two files, one of them compressed as well.
func filed(c *Config) {
	c.Files = []File{
		{Path: "/chat", ContentType: "text/html", ETag: `W/"v1"`, Body: []byte("<p>chat</p>"), Gzip: []byte("\x1f\x8bzipped"),
			Headers: []codec.HTTPHeader{{Name: "Content-Security-Policy", Value: "default-src 'self'"}}},
		{Path: "/chat/icon.png", ContentType: "image/png", ETag: `W/"v2"`, Body: []byte("PNG")},
	}
}

const entryAnswer = `{"code":200,"host":"chat.example","port":3050}`

// wantIdle fails unless the connection is open and everything it was told has been read.
func (w *web) wantIdle() {
	w.r.t.Helper()
	if rest := w.sock.Wrote[w.read:]; w.sock.Closed || w.sock.ShutDown || len(rest) > 0 {
		w.r.t.Fatalf("closed %v, shut down %v, unread %q", w.sock.Closed, w.sock.ShutDown, rest)
	}
}

// wantEnd fails unless the connection is ended and everything it was told has been read.
func (w *web) wantEnd() {
	w.r.t.Helper()
	w.r.net.Settle()
	if rest := w.sock.Wrote[w.read:]; !w.sock.Closed && !w.sock.ShutDown || len(rest) > 0 {
		w.r.t.Fatalf("closed %v, shut down %v, unread %q", w.sock.Closed, w.sock.ShutDown, rest)
	}
}

// A connection carries one request after the other, also several of one segment, and answers them in order.
func TestHTTPPipelining(t *testing.T) {
	requests := []struct{ bytes, answer string }{
		{get("/gate/queryEntry?uid=alice"), "200 " + entryAnswer},
		{strings.Replace(get("/chat"), "GET", "HEAD", 1), "200 "},
		{get("/chat"), "200 <p>chat</p>"},
		{"\r\n" + post("/gate/queryEntry", `{"uid":"alice"}`), "200 " + entryAnswer},
		{"\r\n\r\n" + get("/chat/icon.png"), "200 PNG"},
		{strings.Replace(get("/gate/queryEntry"), "GET", "OPTIONS", 1), "204 "},
		{get("/socket.io/"), "200 Welcome to socket.io."},
		{get("/socket.io/?EIO=3&transport=polling&sid=unknown"), `400 {"code":1,"message":"Session ID unknown"}`},
		{get("/chat", "Connection: close"), "200 <p>chat</p>"},
	}
	for _, all := range []bool{false, true} {
		r := newRig(t, shape{loops: 1}, filed)
		w := r.web(atConnector)
		if all {
			for _, q := range requests {
				w.send(q.bytes)
			}
			w.send(get("/chat")) // behind a close nothing is read
		}
		for _, q := range requests {
			if !all {
				w.send(q.bytes)
			}
			r.net.Settle()
			p := w.response(strings.HasPrefix(q.bytes, "HEAD"))
			if p == nil || fmt.Sprintf("%d %s", p.status, p.body) != q.answer {
				t.Fatalf("%q answered %v", q.bytes, p)
			}
		}
		w.wantEnd()
		r.endAll()
		r.balanced()
	}
}

// Requests behind a GET that is held wait, and are answered in order when that one is.
func TestPipeliningBehindAHeldGET(t *testing.T) {
	forFlavours(t, pollers(), func(t *testing.T, r *rig, kind flavour) {
		c, other := r.sioLogin(kind), r.login(atConnector, true)
		c.enter("c", "r")
		c.run()
		if !c.polling {
			t.Fatal("no GET is held")
		}
		w := c.get
		w.send(get("/gate/queryEntry?uid=x") + get(c.target("polling")) + get("/gate/queryEntry?uid="))
		r.net.Settle()
		w.wantIdle()
		other.enter("other", "r")
		r.net.Settle()
		if got := c.take(); fmt.Sprint(got) != `[push 0 onAdd {"route":"onAdd","user":"other"}]` {
			t.Fatalf("got %q", got)
		}
		if p := w.response(false); p == nil || p.body != entryAnswer {
			t.Fatalf("behind it %v", p)
		}
		w.wantIdle() // the second GET is held
		other.sock.End()
		r.net.Settle()
		c.polling = true
		if got := c.take(); fmt.Sprint(got) != `[push 0 onLeave {"route":"onLeave","user":"other"}]` {
			t.Fatalf("got %q", got)
		}
		if p := w.response(false); p == nil || p.body != refused {
			t.Fatalf("behind that %v", p)
		}
		w.wantIdle()
	})
}

// Much that is pipelined behind a held GET is not read, and comes after it all the same.
func TestPipeliningBehindAHeldGETIsBounded(t *testing.T) {
	r := newRig(t, shape{loops: 1}, nil)
	c, other := r.sioLogin(flavours[8]), r.login(atConnector, true)
	c.enter("c", "r")
	c.run()
	const n = 5000
	for range n {
		c.get.send(get("/gate/queryEntry?uid=x"))
	}
	for range 10 {
		r.net.Events()
	}
	r.net.Settle()
	if n := r.node.loops[0].np.Stats().BytesRead; n > 100_000 {
		t.Errorf("%d bytes were read", n)
	}
	other.enter("other", "r")
	r.net.Settle()
	c.pump()
	for i := range n {
		if p := c.get.response(false); p == nil || p.body != entryAnswer {
			t.Fatalf("answer %d: %v", i, p)
		}
	}
}

// Wherever the network cuts a client's bytes (polls, POSTs with a length and in chunks, an upgrade with frames right behind
// it), it is told the same.
func TestHTTPSplitAnywhere(t *testing.T) {
	step := 1
	if raceEnabled {
		step = 17 // see fewer
	}
	for _, loops := range []int{1, 3} {
		var want []string
		for at := -1; ; at += step {
			r := newRig(t, shape{loops: loops}, filed)
			r.next = 1 // not where the room is
			c := r.sio(flavours[8])
			c.begin()
			c.packets = nil
			chunked := func(body string) string {
				k := len(body) / 2
				return fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x;x=1\r\n%s\r\n0%X\r\n%s\r\n0\r\nTrailer: x\r\n\r\n",
					strings.TrimSuffix(strings.Replace(get(c.target("polling")), "GET", "POST", 1), "\r\n"), k, body[:k], len(body)-k, body[k:])
			}
			b := post(c.target("polling"), "40\x1e"+c.message(2, routeEnter, enterBody("é王", "r"))) +
				chunked(c.message(3, routeSend, sendBody("chunked "+smile, "*"))+"\x1e2") +
				"\r\n" + get(c.target("polling")) + get("/chat") +
				upgradeTo(c.target("websocket")) + textFrame("2probe") + textFrame("5") +
				textFrame(c.message(4, routeSend, sendBody("framed", "*"))) + textFrame(c.message(5, "no.such.route", "{}"))
			if at > len(b) {
				break
			}
			w := r.web(atConnector)
			w.send(b[:max(at, 0)])
			r.net.Settle()
			w.send(b[max(at, 0):])
			r.net.Settle()
			var told []string
			for _, status := range []int{200, 200, 200, 200, 101} {
				p := w.response(false)
				if p == nil || p.status != status {
					t.Fatalf("cut at %d: %v instead of %d", at, p, status)
				}
				if p.header["Cache-Control"] == "no-store" {
					told = append(told, strings.Split(p.body, "\x1e")...)
				} else {
					told = append(told, p.body)
				}
			}
			for _, p := range append(told, w.frames()...) {
				if strings.HasPrefix(p, "40{") {
					p = "40" // with a name that is never the same
				}
				c.packet(p)
			}
			slices.Sort(c.packets) // whether the pong waits for an answer from another loop is nobody's business
			got := append(c.take(), c.packets...)
			if at < 0 {
				want = got
			}
			if !slices.Equal(got, want) {
				t.Fatalf("cut at %d:\ngot  %q\nwant %q", at, got, want)
			}
		}
		if len(want) != 6+7 { // four answers, two pushes; two POSTs, "40", a file, the 101, "3" and "3probe"
			t.Errorf("told %q", want)
		}
	}
}

// What a client asks of HTTP itself is done, or refused and the connection closed. Nothing behind a refused request is carried out.
func TestHTTPRequests(t *testing.T) {
	const host = "Host: h\r\n"
	entry := "/gate/queryEntry"
	chunked := "POST " + entry + " HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n"
	for _, tc := range []struct {
		name, bytes string
		status      int
		open        bool
	}{
		{"HTTP/1.0", "GET " + entry + "?uid=a HTTP/1.0\r\n\r\n", 200, false},
		{"HTTP/1.0 that stays", "GET " + entry + "?uid=a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, true},
		{"an absolute target", "GET http://h" + entry + "?uid=a HTTP/1.1\r\n" + host + "\r\n", 200, true},
		{"a page that is not there", get("/nothing"), 404, false},
		{"a script that is not there", get("/socket.io/socket.io.js"), 404, false},
		{"an upgrade at a place that has none", upgradeTo("/socket.io/1/xhr-polling/x"), 404, false},
		{"a method for no page", post("/nothing", ""), 405, false},
		{"a method for no gate", strings.Replace(get(entry), "GET", "PUT", 1), 405, false},
		{"a method for no file", post("/chat", ""), 405, false},
		{"a method for no poll", strings.Replace(get("/socket.io/1/xhr-polling/x"), "GET", "DELETE", 1), 405, false},
		{"another protocol of 0.9", get("/socket.io/2/"), 500, true},
		{"a body that is too long", strings.Replace(post(entry, "x"), "Length: 1", "Length: 262145", 1), 413, false},
		{"a chunk that is too long", chunked + "40001\r\n", 413, false},
		{"chunks that are too long together", chunked + "20000\r\n" + strings.Repeat("x", 0x20000) + "\r\n20001\r\n", 413, false},
		{"tiny chunks", chunked + strings.Repeat("1;"+strings.Repeat("x", 200)+"\r\nx\r\n", 7), 413, false},
		{"a head that is too long", "GET " + entry + "?" + strings.Repeat("x", 17000) + " HTTP/1.1\r\n" + host + "\r\n", 431, false},
		{"length and chunks", strings.Replace(chunked, host, host+"Content-Length: 5\r\n", 1) + "0\r\n\r\n", 400, false},
		{"chunks of HTTP/1.0", strings.Replace(chunked, "1.1", "1.0", 1) + "0\r\n\r\n", 400, false},
		{"chunked twice", strings.Replace(chunked, host, host+"Transfer-Encoding: chunked\r\n", 1) + "0\r\n\r\n", 400, false},
		{"chunked, twice in a line", strings.Replace(chunked, ": chunked", ": chunked, chunked", 1) + "0\r\n\r\n", 501, false},
		{"chunked and compressed", strings.Replace(chunked, ": chunked", ": gzip, chunked", 1) + "0\r\n\r\n", 501, false},
		{"chunked, with a tab", strings.Replace(chunked, ": chunked", ": \vchunked", 1) + "0\r\n\r\n", 400, false},
		{"two lengths", strings.Replace(post(entry, "ab"), "Length: 2", "Length: 3\r\nContent-Length: 2", 1), 400, false},
		{"a list of lengths", strings.Replace(post(entry, "ab"), "Length: 2", "Length: 2, 2", 1), 400, false},
		{"a signed length", strings.Replace(post(entry, "ab"), "Length: 2", "Length: +2", 1), 400, false},
		{"a negative length", strings.Replace(post(entry, "ab"), "Length: 2", "Length: -2", 1), 400, false},
		{"a hexadecimal length", strings.Replace(post(entry, "ab"), "Length: 2", "Length: 0x2", 1), 400, false},
		{"a length of 2^64", strings.Replace(post(entry, "ab"), "Length: 2", "Length: 18446744073709551618", 1), 400, false},
		{"a space before the colon", strings.Replace(post(entry, "ab"), "Length: 2", "Length : 2", 1), 400, false},
		{"a folded line", strings.Replace(post(entry, "ab"), "Length: 2", "Length: 2\r\n 1", 1), 400, false},
		{"a line feed for an end", strings.Replace(post(entry, "ab"), "Length: 2\r\n", "Length: 2\n", 1), 400, false},
		{"a carriage return inside", strings.Replace(post(entry, "ab"), "Length: 2", "Length: 2\rX: y", 1), 400, false},
		{"a zero inside", strings.Replace(post(entry, "ab"), "Length: 2", "Length: 2\x00", 1), 400, false},
		{"two hosts", strings.Replace(get(entry), "Host", "Host: x\r\nHost", 1), 400, false},
		{"no host", "GET " + entry + " HTTP/1.1\r\n\r\n", 400, false},
		{"a chunk's size with a sign", chunked + "+1\r\nx\r\n0\r\n\r\n", 400, false},
		{"a chunk's size with 0x", chunked + "0x1\r\nx\r\n0\r\n\r\n", 400, false},
		{"a chunk's size with a space", chunked + "1 \r\nx\r\n0\r\n\r\n", 400, false},
		{"a chunk's size of 2^64", chunked + "10000000000000001\r\nx\r\n0\r\n\r\n", 413, false},
		{"a chunk that does not end", chunked + "1\r\nxx\r\n0\r\n\r\n", 400, false},
		{"a chunk's line that ends in a line feed", chunked + "1\nx\r\n0\r\n\r\n", 400, false},
		{"a trailer with a space", chunked + "0\r\nA : b\r\n\r\n", 400, false},
		{"HTTP/2", get("/", "x: y")[:5] + " HTTP/2.0\r\n\r\n", 505, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, shape{loops: 1}, filed)
			w := r.web(atConnector)
			w.send(tc.bytes + get("/gate/queryEntry?uid=behind"))
			r.net.Settle()
			p := w.response(false)
			if p == nil || p.status != tc.status || (p.header["Connection"] == "close") == tc.open {
				t.Fatalf("answered %v", p)
			}
			if tc.open {
				if p := w.response(false); p == nil || p.body != entryAnswer {
					t.Errorf("behind it %v", p)
				}
				w.wantIdle()
			} else {
				w.wantEnd()
			}
			r.endAll()
			r.balanced()
		})
	}
}

// A client that wants to know first whether its body is welcome is told so once, and not when the body comes along.
func TestExpectContinue(t *testing.T) {
	forLoops(t, nil, func(t *testing.T, r *rig) {
		c := r.sioLogin(flavours[8])
		for _, piece := range []int{1 << 20, 7, 1} {
			w := r.web(atConnector)
			b := post(c.target("polling"), "2", "Expect: 100-continue")
			head, body := b[:len(b)-1], b[len(b)-1:]
			for len(head) > 0 {
				n := min(piece, len(head))
				w.send(head[:n])
				head = head[n:]
				r.net.Settle()
			}
			const yes = "HTTP/1.1 100 Continue\r\n\r\n"
			if got := string(w.sock.Wrote); got != yes {
				t.Fatalf("got %q", got)
			}
			w.read += len(yes)
			if p := w.ask(body); p.body != "ok" {
				t.Fatalf("answered %v", p)
			}
			if p := w.ask(b); p.body != "ok" { // all at once
				t.Fatalf("answered %v", p)
			}
			w.wantIdle()
		}
		w := r.web(atConnector)
		if p := w.ask(strings.Replace(post("/x", "", "Expect: 100-continue"), "Length: 0", "Length: 999999", 1)); p.status != 413 {
			t.Errorf("a body that is not welcome: %v", p)
		}
		w.wantEnd()
	})
}

// A head has 5 seconds from its first byte, a request 20, and a connection may be idle for 60 between requests.
func TestHTTPDeadlines(t *testing.T) {
	r := newRig(t, shape{loops: 1}, filed)
	post := post("/gate/queryEntry", `{"uid":"alice"}`)
	head := strings.Index(post, "\r\n\r\n") + 4
	for _, tc := range []struct {
		name    string
		before  bool // another request came before
		bytes   string
		seconds int
		status  int
	}{
		{"silence", false, "", 20, 0},
		{"three letters", false, "GET", 20, 0},
		{"half a head", false, post[:head-2], 5, 408},
		{"half a body", false, post[:head+3], 20, 408},
		{"idle", true, "", 60, 0},
		{"idle but for a line", true, "\r\n", 60, 0},
		{"half a line", true, "\r\n\r", 20, 408},
		{"half a second head", true, post[:20], 5, 408},
		{"half a second body", true, post[:head+3], 20, 408},
	} {
		w := r.web(atConnector)
		if tc.before {
			w.ask(get("/chat"))
		}
		w.send(tc.bytes)
		r.net.Settle()
		r.net.Seconds(tc.seconds - 1)
		w.wantIdle()
		if len(tc.bytes) > 4 {
			w.send(post[len(tc.bytes) : len(tc.bytes)+1]) // another byte gives no more time
		}
		r.net.Seconds(2)
		if p := w.response(false); (p == nil) != (tc.status == 0) || p != nil && p.status != tc.status {
			t.Errorf("%s: answered %v", tc.name, p)
		}
		w.wantEnd()
	}
}

// A page of another origin may read every answer. It is told so as each generation does; TestCredentials has who may ask with cookies.
func TestCORS(t *testing.T) {
	const origin = "http://page.example"
	r := newRig(t, shape{loops: 1}, filed)
	handshake, hello := get("/socket.io/1/"), "/socket.io/?EIO=3&transport=polling"
	for _, tc := range []struct {
		name, request string
		always        bool // without Origin, everybody may
		jsonp         bool // nobody needs to
	}{
		{"gate", get("/gate/queryEntry?uid=x"), true, false},
		{"handshake of Engine.IO 3", get(hello), true, false},
		{"handshake of Engine.IO 4", get("/socket.io/?EIO=4&transport=polling"), true, false},
		{"handshake of Engine.IO 3 by JSONP", get(hello + "&j=0"), false, true},
		{"error of Engine.IO", get(hello + "&sid=x"), true, false},
		{"handshake of 0.9", handshake, false, false},
		{"unknown session of 0.9", get("/socket.io/1/xhr-polling/x"), false, false},
		{"unknown session of 0.9, POST", post("/socket.io/1/xhr-polling/x", ""), false, false},
		{"unknown session of 0.9 by JSONP", get("/socket.io/1/jsonp-polling/x"), false, true},
		{"preflight of Engine.IO", strings.Replace(get(hello), "GET", "OPTIONS", 1), true, false},
		{"preflight of the gate", strings.Replace(get("/gate/queryEntry"), "GET", "OPTIONS", 1), true, false},
		{"preflight of 0.9", strings.Replace(get("/socket.io/1/xhr-polling/x"), "GET", "OPTIONS", 1), true, false},
	} {
		cors := func(p *response) map[string]string {
			got := map[string]string{}
			for name, value := range p.header {
				if name == "Access-Control-Allow-Origin" || name == "Access-Control-Allow-Credentials" || name == "Vary" {
					got[name] = value
				}
			}
			return got
		}
		w := r.web(atConnector)
		p := w.ask(tc.request)
		want := map[string]string{}
		if tc.always {
			want["Access-Control-Allow-Origin"] = "*"
		}
		if got := cors(p); !maps.Equal(got, want) {
			t.Errorf("%s: without an origin %v", tc.name, got)
		}
		if strings.Contains(tc.name, "preflight") != (p.header["Access-Control-Allow-Methods"] == "GET,POST,OPTIONS" && p.header["Access-Control-Allow-Headers"] == "Content-Type") {
			t.Errorf("%s: %v", tc.name, p)
		}
		p = w.ask(strings.Replace(tc.request, "\r\n", "\r\nOrigin: "+origin+"\r\n", 1))
		if !tc.jsonp {
			want = map[string]string{"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Vary": "Origin"}
			if strings.Contains(tc.name, "gate") || strings.HasSuffix(tc.name, "IO 4") {
				delete(want, "Access-Control-Allow-Credentials")
			}
		}
		if got := cors(p); !maps.Equal(got, want) {
			t.Errorf("%s: with an origin %v", tc.name, got)
		}
		w.wantIdle()
	}
}

// The gate answers by HTTP what it answers to Pomelo clients.
func TestGateByHTTP(t *testing.T) {
	r := newRig(t, shape{loops: 1}, func(c *Config) {
		c.Connectors = []Endpoint{{Host: "one.example", Port: 1}, {Port: 2}, {Host: "three.example", Port: 3}}
	})
	hybrid := r.login(atGate, true)
	w := r.web(atGate)
	for i := range 20 {
		uid := fmt.Sprintf("é王%s %d", smile, i)
		want := strings.Replace(hybrid.ask(routeQueryEntry, `{"uid":`+string(codec.AppendString(nil, uid))+`}`), "gate.example", "pomelo.example", 1)
		escaped := ""
		for _, b := range []byte(uid) {
			escaped += fmt.Sprintf("%%%02x", b)
		}
		for _, request := range []string{
			get("/gate/queryEntry?x=y&uid=" + escaped), post("/gate/queryEntry", `{"uid":"`+uid+`"}`), post("/gate/queryEntry", ` {"a":[],"uid":`+jsString(uid)+"}\n"),
		} {
			p := w.ask(request)
			if p.status != 200 || p.body != want || p.header["Content-Type"] != "application/json" || p.header["Cache-Control"] != "no-store" {
				t.Errorf("%q answered %v, want %s", request, p, want)
			}
		}
	}
	for _, request := range []string{
		get("/gate/queryEntry"), get("/gate/queryEntry?uid="), get("/gate/queryEntry?uid"), post("/gate/queryEntry", ""), post("/gate/queryEntry", "{}"),
		post("/gate/queryEntry", `{"uid":""}`), post("/gate/queryEntry", `{"uid":["x"]}`), post("/gate/queryEntry", `{"uid":"x"`), post("/gate/queryEntry", "\xff"),
	} {
		if p := w.ask(request); p.status != 200 || p.body != refused {
			t.Errorf("%q answered %v", request, p)
		}
	}
	w.wantIdle()
}
