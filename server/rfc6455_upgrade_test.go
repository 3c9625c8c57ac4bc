//go:build linux

package server

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// upgradeCase is a request and what comes of it: opened, or refused and closed.
type upgradeCase struct {
	name, send string
	want       string // the answer; "": it opens, as most do; "nothing"
}

func upgradeCases() (cases []upgradeCase) {
	opens := func(name string, edits ...string) { cases = append(cases, upgradeCase{name, request(edits...), ""}) }
	refuses := func(status int, reason, name, send string) {
		cases = append(cases, upgradeCase{name, send, refusal(status, reason)})
	}
	const (
		badLine, badName, badValue   = "malformed request line", "malformed header name", "control character in a header value"
		folded, bareLF, repeated     = "folded header line", "line feed without carriage return", "header must not be repeated"
		badHost, noHost              = "malformed Host", "missing Host"
		badLength, ambiguous, coding = "malformed Content-Length", "ambiguous body length", "unknown transfer coding"
		notListed, body              = "Connection does not list upgrade", "a WebSocket upgrade has no body"
		version, key                 = "only WebSocket version 13 is spoken here", "malformed Sec-WebSocket-Key"
		nothing, onlyGET, mustGET    = "nothing here; a Pomelo client connects by WebSocket, socket.io or TCP", "only GET", "a WebSocket upgrade must be a GET"
		httpVersion, needs11         = "only HTTP/1.0 and HTTP/1.1 are spoken here", "a WebSocket upgrade needs HTTP/1.1"
		target, tooLong              = "malformed request target", "request head too long"
	)

	// What must be accepted.
	opens("proper")
	opens("any path and query", "=GET /any/path?x=1&y=%20 HTTP/1.1")
	opens("absolute target", "=GET http://other.example/x HTTP/1.1")
	opens("any origin", "+Origin: https://elsewhere.example")
	opens("empty Host", "Host:")
	cases = append(cases, upgradeCase{"an empty line before it", "\r\n" + request(), ""})
	opens("Host with a port", "Host: [::1]:3050")
	for _, v := range []string{"WebSocket", "WEBSOCKET", "h2c, websocket", "websocket , h2c", ",websocket,", "\t websocket \t"} {
		opens("Upgrade: "+v, "Upgrade: "+v)
	}
	opens("Upgrade without a space", "Upgrade:websocket")
	opens("two Upgrade lines", "Upgrade: h2c", "+Upgrade: websocket")
	for _, v := range []string{"upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade,keep-alive", "close , upgrade ,"} {
		opens("Connection: "+v, "Connection: "+v)
	}
	opens("two Connection lines", "Connection: keep-alive", "+Connection: Upgrade")
	opens("names in capitals", "-Upgrade", "+UPGRADE: websocket", "-Sec-WebSocket-Version", "+SEC-WEBSOCKET-VERSION: 13", "-Connection", "+connection: upgrade")
	opens("spaces around the version", "Sec-WebSocket-Version:   13  ")
	opens("no body, said so", "+Content-Length: 0")
	opens("UTF-8 in a header", "+X-Name: 王五")
	for _, v := range []string{
		"permessage-deflate", "permessage-deflate; client_max_window_bits", "permessage-deflate; server_max_window_bits=10; server_no_context_takeover, permessage-deflate",
		"x-webkit-deflate-frame", "permessage-deflate; no_such=1", "", ";;,=",
	} {
		opens("Sec-WebSocket-Extensions: "+v, "+Sec-WebSocket-Extensions: "+v)
	}
	opens("two extension lines", "+Sec-WebSocket-Extensions: permessage-deflate", "+Sec-WebSocket-Extensions: permessage-bzip2")
	chosen := func(name, subprotocol string, edits ...string) {
		answer := strings.TrimSuffix(rfcOpened, "\r\n") + "Sec-WebSocket-Protocol: " + subprotocol + "\r\n\r\n"
		cases = append(cases, upgradeCase{name, request(edits...), answer})
	}
	chosen("subprotocols", "chat", "+Sec-WebSocket-Protocol: chat, superchat")
	chosen("two subprotocol lines", "chat", "+Sec-WebSocket-Protocol: chat", "+Sec-WebSocket-Protocol: superchat")
	chosen("subprotocol of 64 bytes", strings.Repeat("x", 64), "+Sec-WebSocket-Protocol: "+strings.Repeat("x", 64))
	opens("subprotocol of 65 bytes", "+Sec-WebSocket-Protocol: "+strings.Repeat("x", 65))
	opens("subprotocol that is no token", "+Sec-WebSocket-Protocol: a b, chat")
	opens("no subprotocol", "+Sec-WebSocket-Protocol:")
	opens("head of 16384 bytes", "+X: "+strings.Repeat("x", 16384-len(request("+X: "))))

	// Methods and versions of HTTP.
	for _, m := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"} {
		refuses(405, mustGET, m+" upgrade", request("="+m+" / HTTP/1.1"))
		refuses(405, onlyGET, m, m+" / HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	refuses(405, "not a proxy", "CONNECT", request("=CONNECT chat.example:443 HTTP/1.1"))
	for _, s := range []string{"get / HTTP/1.1\r\n\r\n", "GETS / HTTP/1.1\r\n\r\n", "BREW /pot HTTP/1.1\r\n\r\n", "\r\n\r\n" + request(), " " + request(), "\x16\x03\x01\x02\x00"} {
		cases = append(cases, upgradeCase{fmt.Sprintf("no HTTP: %.8q", s), s, "nothing"})
	}
	refuses(400, needs11, "HTTP/1.0", request("=GET / HTTP/1.0"))
	refuses(404, nothing, "HTTP/1.0 without upgrade", "GET / HTTP/1.0\r\n\r\n")
	refuses(505, httpVersion, "HTTP/2.0", request("=GET / HTTP/2.0"))
	refuses(505, httpVersion, "HTTP/1.2", request("=GET / HTTP/1.2"))
	refuses(505, httpVersion, "HTTP/0.9 by name", request("=GET / HTTP/0.9"))
	refuses(505, httpVersion, "HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	refuses(400, badLine, "HTTP/0.9", "GET /\r\n\r\n")
	for _, l := range []string{"GET / http/1.1", "GET / HTTP/11", "GET / HTTP/1.1 ", "GET  / HTTP/1.1", "GET /a b HTTP/1.1", "GET / HTTP/1.x", "GET / ", "GET /\x00 HTTP/1.1", "GET /\t HTTP/1.1", "GET HTTP/1.1"} {
		refuses(400, badLine, fmt.Sprintf("request line %q", l), request("="+l))
	}
	for _, l := range []string{"GET x HTTP/1.1", "GET /#x HTTP/1.1", "GET * HTTP/1.1", "GET http:///x HTTP/1.1", "GET http://u@h/ HTTP/1.1"} {
		refuses(400, target, fmt.Sprintf("request line %q", l), request("="+l))
	}

	// Host.
	refuses(400, noHost, "no Host", request("-Host"))
	refuses(400, repeated, "two Hosts", request("+Host: other.example"))
	refuses(400, repeated, "the same Host twice", request("+Host: chat.example"))
	for _, v := range []string{"a b", "a/b", "u@h", "a,b/", "h\"", "é"} {
		refuses(400, badHost, fmt.Sprintf("Host: %q", v), request("Host: "+v))
	}

	// Upgrade and Connection.
	refuses(404, nothing, "no Upgrade", request("-Upgrade"))
	for _, v := range []string{"", "h2c", "websocket2", "web socket", "websocket/13", "\"websocket\""} {
		refuses(404, nothing, "Upgrade: "+v, request("Upgrade: "+v))
	}
	refuses(404, nothing, "neither Upgrade nor Connection", "GET /page HTTP/1.1\r\nHost: h\r\n\r\n")
	refuses(400, notListed, "no Connection", request("-Connection"))
	for _, v := range []string{"", "keep-alive", "close", "upgraded", "up grade"} {
		refuses(400, notListed, "Connection: "+v, request("Connection: "+v))
	}

	// Version and key.
	refuses(426, version, "no version", request("-Sec-WebSocket-Version"))
	for _, v := range []string{"", "0", "7", "8", "12", "14", "013", "13.0", "13, 8", "13;", "-13", "thirteen"} {
		refuses(426, version, "version "+v, request("Sec-WebSocket-Version: "+v))
	}
	refuses(400, repeated, "two versions", request("+Sec-WebSocket-Version: 13"))
	refuses(400, key, "no key", request("-Sec-WebSocket-Key"))
	for _, v := range []string{
		"", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25j", "dGhlIHNhbXBsZSBub25jZXh4",
		"dGhlIHNhbXBsZSBub25jZXg=", "dGhlIHNhbXBsZSBub25-_Q==", "dGhlIHNhbXBs ZSBub25jZQ==", "====", "!!!!!!!!!!!!!!!!!!!!!!!!", "=dGhlIHNhbXBsZSBub25jZQ=", strings.Repeat("A", 64),
	} {
		refuses(400, key, "key "+v, request("Sec-WebSocket-Key: "+v))
	}
	refuses(400, repeated, "two keys", request("+"+rfcKey))

	// What two parties could read in two ways.
	for _, v := range []string{"1", "5", "922337203685477580"} {
		refuses(400, body, "Content-Length: "+v, request("+Content-Length: "+v)+"hello")
	}
	refuses(400, body, "chunked", request("+Transfer-Encoding: chunked")+"0\r\n\r\n")
	refuses(400, ambiguous, "length and chunked", request("+Content-Length: 5", "+Transfer-Encoding: chunked")+"0\r\n\r\n")
	refuses(400, ambiguous, "chunked and length", request("+Transfer-Encoding: chunked", "+Content-Length: 0")+"0\r\n\r\n")
	refuses(400, ambiguous, "chunked twice", request("+Transfer-Encoding: chunked", "+Transfer-Encoding: chunked"))
	refuses(400, ambiguous, "two lengths", request("+Content-Length: 0", "+Content-Length: 5"))
	for _, v := range []string{"", "+0", "-1", "0x0", "0, 0", "0 0", "1e1", "9223372036854775808", "99999999999999999999"} {
		refuses(400, badLength, "Content-Length: "+v, request("+Content-Length: "+v))
	}
	for _, v := range []string{"gzip", "chunked, gzip", "gzip, chunked", "identity", "xchunked", "\"chunked\"", ""} {
		refuses(501, coding, "Transfer-Encoding: "+v, request("+Transfer-Encoding: "+v))
	}
	refuses(400, folded, "folded line", request("+X: a", "+ b"))
	refuses(400, folded, "line folded by a tab", request("+X: a", "+\tb"))
	refuses(400, folded, "first line folded", request("=GET / HTTP/1.1\r\n X: a"))
	refuses(400, bareLF, "line feeds only", strings.ReplaceAll(request(), "\r\n", "\n"))
	refuses(400, bareLF, "one line feed alone", request("+X: a\nY: b"))
	refuses(400, bareLF, "line feed alone at the end", strings.TrimSuffix(request(), "\r\n")+"\n")
	refuses(400, badValue, "carriage return alone", request("+X: a\rY: b"))
	refuses(400, badValue, "two carriage returns", request("+X: a\r"))
	refuses(400, badValue, "NUL in a value", request("+X: a\x00b"))
	refuses(400, badValue, "DEL in a value", request("+X: a\x7f"))
	refuses(400, badValue, "escape in a value", request("+X: \x1b[2J"))
	refuses(400, badName, "NUL in a name", request("+X\x00: a"))
	refuses(400, badName, "space before the colon", request("+Content-Length : 5"))
	refuses(400, badName, "tab before the colon", request("+Transfer-Encoding\t: chunked"))
	refuses(400, badName, "space in a name", request("+X Y: a"))
	refuses(400, badName, "no name", request("+: a"))
	refuses(400, badName, "no colon", request("+nonsense"))
	refuses(400, badName, "letter beyond ASCII in a name", request("+\u212aey: a"))
	refuses(400, repeated, "two Origins", request("+Origin: http://a", "+Origin: http://b"))

	// Heads without end.
	refuses(431, tooLong, "head of 16385 bytes", request("+X: "+strings.Repeat("x", 16385-len(request("+X: ")))))
	refuses(431, tooLong, "target without end", "GET /"+strings.Repeat("x", 16380))
	refuses(431, tooLong, "header without end", "GET / HTTP/1.1\r\nX: "+strings.Repeat("x", 16384))
	refuses(431, tooLong, "headers without end", "GET / HTTP/1.1\r\n"+strings.Repeat("X: x\r\n", 4000))
	return cases
}

// Upgrade requests of every kind, with the first frames behind them in the same segment, whole and a byte at a time.
func TestRFC6455Upgrade(t *testing.T) {
	t.Parallel()
	s := start(t, "-heartbeat", "0", "-page=false")
	cases := upgradeCases()
	for _, c := range cases {
		for _, step := range []int{0, 1} {
			if step == 1 && len(c.send) > 2000 {
				step = 977
			}
			var err error
			switch frames := join(text(0x89, "first"), text(0x82, hello)); {
			case c.want == "":
				err = exchange(s.addr("connector"), step, c.send, rfcOpened, frames, fromServer(0x8a, "first")+welcome, false)
			case strings.HasPrefix(c.want, "HTTP/1.1 101"):
				err = exchange(s.addr("connector"), step, c.send, c.want, frames, fromServer(0x8a, "first")+welcome, false)
			case c.want == "nothing":
				err = exchange(s.addr("connector"), step, c.send, "", nil, "", true)
			default:
				err = exchange(s.addr("connector"), step, c.send, c.want, frames, "", true)
			}
			if err != nil {
				t.Errorf("%s, writes of %d bytes: %v", c.name, step, err)
			}
		}
	}
	t.Logf("%d cases", len(cases))
}

// A reserved bit is a fault although its extension was offered: no offer is ever accepted.
func TestRFC6455DeflateStaysOff(t *testing.T) {
	t.Parallel()
	s := start(t, "-heartbeat", "0")
	head := request("+Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
	if err := exchange(s.addr("connector"), 0, head, rfcOpened, text(0xc2, "\xaa\x00\x00"), closing(1002, "reserved bits set"), true); err != nil {
		t.Error(err)
	}
}

// A client that never stops its head is told so, and then gets the end although it goes on.
func TestRFC6455EndlessHead(t *testing.T) {
	t.Parallel()
	s := start(t)
	conn, err := net.DialTCP("tcp", nil, s.addr("connector"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var stop atomic.Bool
	wrote := make(chan error, 1)
	go func() {
		_ = conn.SetWriteDeadline(time.Now().Add(deadline))
		_, err := conn.Write([]byte("GET / HTTP/1.1\r\n"))
		for err == nil && !stop.Load() {
			_, err = conn.Write([]byte("X: endless\r\n"))
		}
		wrote <- err
	}()
	if err := errors.Join(expect(conn, refusal(431, "request head too long")), expectEnd(conn)); err != nil {
		t.Error(err)
	}
	stop.Store(true)
	if err := <-wrote; err != nil {
		t.Errorf("the client was cut off: %v", err)
	}
}

// A head that stops is given up after -head-timeout.
func TestRFC6455HeadTimeout(t *testing.T) {
	t.Parallel()
	s := start(t, "-head-timeout", "1s")
	heads := []string{"GET ", "GET /\r\n", "GET / HTTP/1.1\r\nHost: h\r\n", strings.TrimSuffix(request(), "\n")}
	ended := make(chan error)
	began := time.Now()
	for _, head := range heads {
		go func() {
			err := exchange(s.addr("connector"), 0, head, refusal(408, "the request took too long"), nil, "", true)
			if err != nil {
				err = fmt.Errorf("%q: %w", head, err)
			}
			ended <- err
		}()
	}
	for range heads {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took > deadline {
		t.Errorf("that took %v", took)
	}
}
