package main

import (
	"fmt"
	"strings"
	"testing"
)

// What servers without routes say, the usual and the unusual, and what is heard of it. The usual is as gws, socket.io 4.8.4 and
// centrifuge 0.38.0 said it in bench/peers. All of it is behind an enter with id 1.
var (
	plainTexts = []string{`{"id":1}`, `{"msg":"<one>","from":"m"}`, `{"id":2}`, `{ "from":"m", "msg":"<ä>" }`, `{"id":300,"error":"full"}`, `{"error":"","id":301}`}
	heardPlain = []string{"ready 0s", `answer 1 {"users":[]}`, "push msg one", "answer 2 {}", "push msg ä", `answer 300 {"id":300,"error":"full"}`, "answer 301 {}"}

	ackedPackets = []string{opened4, `40{"sid":"x"}`, `431[]`, "2", `42["chat",{"msg":"<one>","from":"m"}]`, `432[]`, `42[ "chat", {"from":"m","msg":"<ä>"} ]`, `43300["full"]`}
	heardAcked   = []string{"ready 25s", `answer 1 {"users":[]}`, "push chat one", "answer 2 {}", "push chat ä", `answer 300 ["full"]`}

	centrifugeTexts = []string{
		`{"id":1,"connect":{"client":"c","ping":25,"pong":true}}`, "{}", `{"id":2,"subscribe":{}}`,
		`{"push":{"channel":"r","pub":{"data":{"msg":"<one>"},"info":{"user":"m","client":"c"}}}}` + "\n" + `{"id":3,"publish":{}}` + "\n",
		`{"push":{"pub":{"data":{"msg":"<ä>"}},"channel":"r"}}`, `{"id":301,"error":{"code":103,"message":"no"}}`,
	}
	heardCentrifuge = []string{"ready 0s", `answer 1 {"users":[]}`, "push pub one", "answer 2 {}", "push pub ä", `answer 300 {"id":301,"error":{"code":103,"message":"no"}}`}
)

// clientTexts takes what a client has said by WebSocket apart, behind its upgrade.
func clientTexts(t *testing.T, b []byte) string {
	t.Helper()
	var texts []string
	for len(b) > 0 {
		n := 6 + int(b[1]&0x7F)
		if b[1]&0x7F == 126 {
			n = 8 + int(b[2])<<8 + int(b[3])
		}
		opcode, payload := unmask(t, b[:n])
		texts = append(texts, fmt.Sprintf("%x %s", opcode, payload))
		b = b[n:]
	}
	return strings.Join(texts, "\n")
}

// The texts that these wires promise to speak, enter, send and what nobody knows, and what is said of itself to the server's.
func TestRequestsWithoutRoutes(t *testing.T) {
	for name, c := range map[string]struct {
		path, said, stream, then string
	}{
		"plain": {"/", `1 {"id":1,"enter":"room","name":"m1"}
1 {"id":300,"msg":"~@hello.."}
1 {"id":301}`, upgraded + texts(plainTexts...), ""},
		"sio4": {"/socket.io/?EIO=4&transport=websocket", `1 421["enter","room","m1"]
1 42300["send","~@hello.."]
1 42["message","\u0000\u0000\u0001-\u001bgate.gateHandler.queryEntry{}"]`, upgraded + texts(ackedPackets...), "1 40\n1 3"},
		"centrifuge": {"/connection/websocket", `1 {"id":1,"connect":{"data":{"name":"m1"}}}
1 {"id":301,"publish":{"channel":"room","data":{"msg":"~@hello.."}}}
1 {"id":302,"rpc":{"method":"gate.gateHandler.queryEntry"}}`, upgraded + texts(centrifugeTexts[:3]...), "1 {\"id\":2,\"subscribe\":{\"channel\":\"room\"}}\n1 {}"},
	} {
		w, h := wires[name](), &heard{}
		w.hello(h, "h:1")
		if got, want := h.taken(), string(appendUpgrade(nil, "h:1", c.path)); got != want {
			t.Errorf("%s: hello is %q", name, got)
		}
		w.request(h, 1, routeEnter, []byte(`{"username":"m1","rid":"room"}`))
		w.request(h, 300, routeSend, []byte(`{"content":"~@hello..","target":"*"}`))
		w.request(h, 301, routeGate, []byte(`{}`))
		if got := clientTexts(t, []byte(h.taken())); got != c.said {
			t.Errorf("%s: said\n%s\nwant\n%s", name, got, c.said)
		}
		if n, err := w.read([]byte(c.stream), h); n != len(c.stream) || err != nil {
			t.Fatal(name, n, err)
		}
		if got := clientTexts(t, []byte(h.taken())); got != c.then {
			t.Errorf("%s: then said\n%s\nwant\n%s", name, got, c.then)
		}
	}
}

// A connect that is refused is the answer to who wanted to enter, and no users.
func TestCentrifugeRefusesToConnect(t *testing.T) {
	w := newWire("centrifuge")
	got := listen(t, w, []byte(upgraded+texts(`{"id":1,"error":{"code":107}}`)))
	if strings.Join(got, "|") != `ready 0s|answer 1 {"id":1,"error":{"code":107}}` {
		t.Errorf("heard %q", got)
	}
}
