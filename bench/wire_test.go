package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// heard is a sink that writes down what it is told, and keeps what is sent.
type heard struct {
	events []string
	said   []byte
	others []*heard // second connections
	wire   wire     // of a second connection
}

func (h *heard) add(format string, args ...any) {
	h.events = append(h.events, fmt.Sprintf(format, args...))
}

func (h *heard) buffer() []byte { return nil }
func (h *heard) send(b []byte)  { h.said = append(h.said, b...) }

func (h *heard) second(w wire) sink {
	other := &heard{wire: w}
	h.others = append(h.others, other)
	return other
}

func (h *heard) ready(every time.Duration)    { h.add("ready %v", every) }
func (h *heard) beat()                        { h.add("heartbeat") }
func (h *heard) answered(id uint32, b []byte) { h.add("answer %d %s", id, b) }

// pushed writes down what stands between < and >: bodies look different on each wire, as marks do not.
func (h *heard) pushed(route, body []byte) {
	_, text, _ := bytes.Cut(body, []byte("<"))
	text, _, _ = bytes.Cut(text, []byte(">"))
	h.add("push %s %s", route, text)
}

// taken hears of what was said since the last time.
func (h *heard) taken() string {
	s := string(h.said)
	h.said = nil
	return s
}

// listen reads chunks as a conn does.
func listen(t *testing.T, w wire, chunks ...[]byte) []string {
	t.Helper()
	var h heard
	var in []byte
	for _, c := range chunks {
		in = append(in, c...)
		n, err := w.read(slices.Clone(in), &h)
		if err != nil {
			t.Fatal(err)
		}
		in = in[n:]
	}
	if len(in) > 0 {
		t.Fatalf("%d bytes were left over", len(in))
	}
	return h.events
}

const (
	upgraded = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nsec-websocket-accept: fafA5+w/EqTXlTUuUDmvD+5LWJo=\r\n\r\n"
	opened3  = `0{"sid":"abc","upgrades":[],"pingInterval":25000,"pingTimeout":60000}`
	opened4  = `0{"sid":"abc","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000}`
)

// Packets in the flavours that servers use.
const (
	flat     = `3:::[{"route":"onChat","msg":"<one>"}]`
	merged   = `3:::[{"route":"onChat","msg":"<two>","target":"*"},{"id":1,"body":{}},{"route":"onAdd","user":"<ä>"}]`
	unusual  = `3:::[{"user":"<x>","route":"onLeave"},{"body":{"code":500},"id":300}]`
	single   = `3:::{"route":"onChat","msg":"<three>"}`
	wrapped  = `42["message","{\"route\":\"onChat\",\"body\":{\"route\":\"onChat\",\"msg\":\"<one>\"}}"]`
	reply    = `42["message","{\"id\":1,\"body\":{}}"]`
	quoted   = `42["message","{\"id\":300,\"body\":{\"users\":[\"ä\"]}}"]`
	unusual3 = `42["message","{\"user\":\"<ü>\",\"route\":\"onAdd\"}"]`
	array    = `42["message","[{\"route\":\"onChat\",\"msg\":\"<two>\"},{\"id\":301,\"body\":{}}]"]`
)

var (
	heard09 = []string{"push onChat one", "push onChat two", "answer 1 {}", "push onAdd ä", "push onLeave x", `answer 300 {"code":500}`, "push onChat three"}
	heard34 = []string{"push onChat one", "answer 1 {}", `answer 300 {"users":["ä"]}`, "push onAdd ü", "push onChat two", "answer 301 {}"}
)

func texts(packets ...string) string {
	var b []byte
	for _, p := range packets {
		b = append(b, serverFrame(wsText, []byte(p))...)
	}
	return string(b)
}

func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: %d\r\nConnection: keep-alive\r\n\r\n%s", len(body), body)
}

func payload09(packets ...string) (b string) {
	for _, p := range packets {
		b += fmt.Sprintf("\ufffd%d\ufffd%s", len([]rune(p)), p)
	}
	return b
}

func payload3(packets ...string) (b string) {
	for _, p := range packets {
		b += fmt.Sprintf("%d:%s", len([]rune(p)), p)
	}
	return b
}

// newWire is a wire that has said hello, and asked to enter a room where it does not know what to make of answers before.
func newWire(name string) wire {
	w := wires[name]()
	w.hello(&heard{}, "h:1")
	switch name {
	case "plain", "sio4", "centrifuge":
		w.request(&heard{}, 1, routeEnter, []byte(`{"username":"m","rid":"r"}`))
	}
	return w
}

// What a server may say on each wire, and what of it must be heard, however it is cut.
func TestReadChoppedAtEveryByte(t *testing.T) {
	long := strings.Repeat("x", 200)
	shake := `{"code":200,"sys":{"heartbeat":3,"dict":{"onChat":7}}}`
	handshake := append(appendPackageHead(nil, packageHandshake, len(shake)), shake...)
	beat := appendPackageHead(nil, packageHeartbeat, 0)
	coded := append(appendPackageHead(nil, packageData, 7), messagePush<<1|1, 0, 7, '<', 'h', 'i', '>')
	packages := [][]byte{handshake, beat, push("onChat", "<one>"), answer(1, "{}"), push("onChat", "<two>"), push("onAdd", "<"+long+">"), coded, answer(300, `{"code":500}`)}
	hybrid := []string{"ready 3s", "heartbeat", "push onChat one", "answer 1 {}", "push onChat two", "push onAdd " + long, "push onChat hi", `answer 300 {"code":500}`}
	frames := [][]byte{[]byte(upgraded), serverFrame(wsBinary, packages[0]), serverFrame(wsBinary, packages[1:4]...), serverFrame(wsPing, []byte("now")), serverFrame(wsPong), serverFrame(wsBinary, packages[4:7]...), serverFrame(wsBinary, packages[7])}

	for name, c := range map[string]struct {
		stream string
		want   []string
	}{
		"tcp": {string(bytes.Join(packages, nil)), hybrid},
		"ws":  {string(bytes.Join(frames, nil)), hybrid},
		"sio09": {ok("abc:60:60:websocket,xhr-polling") + upgraded + texts("1::", "2::", flat, merged, "8::", unusual, single),
			slices.Concat([]string{"ready 1m0s"}, heard09)},
		"eio3": {upgraded + texts(opened3, "40", "3", wrapped, reply, quoted, "6", unusual3, array),
			slices.Concat([]string{"ready 25s", "heartbeat", "heartbeat"}, heard34)},
		"eio4": {upgraded + texts(opened4, `40{"sid":"x"}`, "2", wrapped, reply, quoted, unusual3, array),
			slices.Concat([]string{"ready 25s"}, heard34)},
		"sio09-polling": {ok("abc:60:60:websocket,xhr-polling") + ok("1::") + ok(flat) + ok("8::") + ok(payload09(merged, "8::", unusual)) + ok(single),
			slices.Concat([]string{"ready 1m0s"}, heard09)},
		"eio3-polling": {ok(payload3(opened3, "40")) + ok(payload3("3")) + ok(payload3(wrapped, reply, quoted, "6", unusual3)) + ok(payload3(array)),
			slices.Concat([]string{"ready 25s", "heartbeat", "heartbeat"}, heard34)},
		"eio4-polling": {ok(opened4) + ok("ok") + ok(`40{"sid":"x"}`) + ok("2") + ok("ok") + ok(wrapped+"\x1e"+reply+"\x1e"+quoted) + ok("6") + ok(unusual3+"\x1e"+array),
			slices.Concat([]string{"ready 25s"}, heard34)},
		"plain":      {upgraded + texts(plainTexts...), heardPlain},
		"sio4":       {upgraded + texts(ackedPackets...), heardAcked},
		"centrifuge": {upgraded + texts(centrifugeTexts...), heardCentrifuge},
	} {
		check := func(how string, chunks ...[]byte) {
			t.Helper()
			if got := listen(t, newWire(name), chunks...); !slices.Equal(got, c.want) {
				t.Fatalf("%s, %s: heard %q\nwant %q", name, how, got, c.want)
			}
		}
		stream := []byte(c.stream)
		check("whole", stream)
		for i := range stream {
			check(fmt.Sprintf("cut at %d", i), stream[:i], stream[i:])
		}
		check("byte by byte", slices.Collect(slices.Chunk(stream, 1))...)
	}
	if len(wires) != 11 {
		t.Error("a wire is not tested")
	}
}

// A server that says anything like this makes the run void: an error ends the conn, and that is a fault.
func TestReadRefuses(t *testing.T) {
	half := push("onChat", "abc")
	tcp := func(b []byte) string { return string(b) }
	ws := func(b []byte) string { return upgraded + string(b) }
	old := ok("abc:60:60:websocket") + upgraded + texts("1::")
	old2 := ok("abc:60:60:websocket") + ok("1::")
	three := upgraded + texts(opened3, "40")
	four := upgraded + texts(opened4, `40{"sid":"x"}`)
	acks := upgraded + texts(ackedPackets[:2]...)
	four2 := ok(opened4) + ok("ok") + ok(`40{"sid":"x"}`)
	for name, stream := range map[string]string{
		"tcp: package of no type":                 tcp([]byte{0, 0, 0, 0}),
		"tcp: HTTP":                               "HTTP/1.1 400",
		"tcp: kick":                               tcp(append(appendPackageHead(nil, packageKick, 2), "{}"...)),
		"tcp: message without a flag":             tcp(appendPackageHead(nil, packageData, 0)),
		"tcp: route beyond the message":           tcp(append(appendPackageHead(nil, packageData, 3), messagePush<<1, 9, 'a')),
		"tcp: code without a dictionary":          tcp(append(appendPackageHead(nil, packageData, 3), messagePush<<1|1, 0, 7)),
		"ws: no upgrade":                          "HTTP/1.1 404 Not Found\r\n\r\n",
		"ws: wrong accept":                        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n",
		"ws: package across frames":               ws(serverFrame(wsBinary, half[:7])),
		"ws: empty frame":                         ws(serverFrame(wsBinary)),
		"ws: text":                                ws(serverFrame(wsText, half)),
		"ws: fragment":                            ws([]byte{wsBinary, 0}),
		"ws: masked":                              ws([]byte{0x82, 0x80, 0, 0, 0, 0}),
		"ws: close":                               ws(serverFrame(wsClose, []byte{3, 0xE8})),
		"ws: endless frame":                       ws([]byte{0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0}),
		"sio09: no session":                       ok("no"),
		"sio09: refused":                          "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
		"sio09: not known":                        ok("abc:60:60:websocket") + upgraded + texts("7:::1+0"),
		"sio09: disconnect":                       old + texts("0::"),
		"sio09: kick":                             old + texts(`3:::[{"route":"onKick","reason":"x"}]`),
		"sio09: half an array":                    old + texts(`3:::[{"route":"onChat","msg":"a"},{"ro]`),
		"sio09: no JSON":                          old + texts(`3:::hello`),
		"sio09: neither answer nor push":          old + texts(`3:::[{"msg":"a"}]`),
		"sio09: binary":                           old + string(serverFrame(wsBinary, []byte("2::"))),
		"sio09-polling: not kept":                 ok("abc:60:60:x") + "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n1::",
		"sio09-polling: length beyond the body":   old2 + ok("\ufffd9\ufffd8::"),
		"sio09-polling: length before the end":    old2 + ok("\ufffd2\ufffd8::"),
		"sio09-polling: no length":                old2 + ok("\ufffd8::"),
		"sio09-polling: not known":                old2 + ok("7:::1+0"),
		"eio3: message before it is open":         upgraded + texts(wrapped[:2]),
		"eio3: opened without a session":          upgraded + texts("0{}"),
		"eio3: opened twice":                      three + texts(opened3),
		"eio3: ping":                              three + texts("2"),
		"eio3: close":                             three + texts("1"),
		"eio3: disconnect":                        three + texts("41"),
		"eio3: kick":                              three + texts(`42["message","{\"route\":\"onKick\",\"reason\":\"x\"}"]`),
		"eio3: unknown":                           three + texts("9"),
		"eio3: empty":                             three + texts(""),
		"eio3: event without an end":              three + texts(wrapped[:len(wrapped)-1]),
		"eio3: text without an end":               three + texts(`42["message","{\"route\":\"onChat\",\"body\":{\"msg\":\"a\""]`),
		"eio3: text that is no JSON":              three + texts(`42["message","hello"]`),
		"eio3: other event":                       three + texts(`42["news","{}"]`),
		"eio3: error":                             three + texts(`44"no"`),
		"eio3-polling: length before the end":     ok(payload3(opened3, "40")) + ok("2:3"),
		"eio3-polling: packet of half the length": ok(payload3(opened3, "40")) + ok("50:"+wrapped),
		"eio3-polling: session not known":         ok(payload3(opened3, "40")) + "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}",
		"eio3-polling: opens nothing":             ok(payload3("40")),
		"eio4: pong":                              four + texts("3"),
		"eio4-polling: nothing in it":             four2 + ok(""),
		"eio4-polling: end of the packet lost":    four2 + ok(wrapped[:40]+"\x1e"+reply),
		"eio4-polling: length lost":               four2 + "HTTP/1.1 200 OK\r\n\r\n",
		"eio4-polling: POST not accepted":         ok(opened4) + ok("no"),
		"plain: no JSON":                          upgraded + texts(`{"msg":"a`),
		"plain: neither answer nor message":       upgraded + texts(`{"from":"m"}`),
		"plain: binary":                           ws(serverFrame(wsBinary, []byte(`{"id":1}`))),
		"plain: close":                            ws(serverFrame(wsClose, []byte{3, 0xE8})),
		"sio4: event before it is open":           upgraded + texts(ackedPackets[2]),
		"sio4: other event":                       acks + texts(`42["news",{"msg":"a"}]`),
		"sio4: event without a message":           acks + texts(`42["chat",{"from":"a"}]`),
		"sio4: event without an end":              acks + texts(`42["chat",{"msg":"a"`),
		"sio4: acknowledges nothing":              acks + texts(`43[]`),
		"sio4: half an acknowledgement":           acks + texts(`431[`),
		"sio4: acknowledgement of no arguments":   acks + texts(`431`),
		"sio4: disconnect":                        acks + texts("41"),
		"centrifuge: no JSON":                     upgraded + texts(`{"push":{"channel":"r","pub":{"data":`),
		"centrifuge: other room":                  upgraded + texts(`{"push":{"channel":"s","pub":{"data":{"msg":"a"}}}}`),
		"centrifuge: who joins":                   upgraded + texts(`{"push":{"channel":"r","join":{"info":{}}}}`),
		"centrifuge: disconnect":                  upgraded + texts(`{"push":{"disconnect":{"code":3000,"reason":"x"}}}`),
		"centrifuge: empty line":                  upgraded + texts("{}\n\n{}"),
	} {
		kind, _, _ := strings.Cut(name, ":")
		w := newWire(kind)
		if n, err := w.read([]byte(stream), &heard{}); err == nil {
			t.Errorf("%s: took %d of %d bytes", name, n, len(stream))
		}
	}
}
