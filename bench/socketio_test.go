package main

import (
	"bytes"
	"strings"
	"testing"
)

// The texts are those of the codec vectors made with the reference implementation.
func TestRequestInTheStringFormat(t *testing.T) {
	const route, body = "gate.gateHandler.queryEntry", `{"uid":"a\"é"}`
	for _, c := range []struct {
		id   uint32
		head string
	}{{1, "\x00\x00\x00\x01\x1b"}, {200, "\x00\x00\x00\u00c8\x1b"}, {0x7f80ff0a, "\x7f\u0080\u00ff\x0a\x1b"}} {
		if got, want := string((&sio09{}).appendRequest(nil, c.id, route, []byte(body))), "3:::"+c.head+route+body; got != want {
			t.Errorf("0.9: %q, want %q", got, want)
		}
	}
	got := string((&engine{version: 4}).appendRequest([]byte("x"), 200, route, []byte(body)))
	want := `x42["message","\u0000\u0000\u0000` + "\u00c8" + `\u001bgate.gateHandler.queryEntry{\"uid\":\"a\\\"é\"}"]`
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// The quick way may only do what the long one does.
func TestQuickIsTheLongWay(t *testing.T) {
	for _, text := range []string{
		`{"route":"onChat","msg":"<a>"}`, `{"route":"onChat","body":{"msg":"<a>"}}`, `{"id":7,"body":{}}`, `{"id":134217727,"body":{"users":["a"]}}`,
		`{"id":7,"body":{"a":"\u00e4"}}`, `{"id":0,"body":{}}`, `{"id":-5,"body":{}}`, `{"id":7}`, `{"id":7,"body":{}`, `{"id":99999999999,"body":{}}`,
		`{"route":"onKick","reason":"x"}`, `{"route":"onChat"`, `{"route":""}`, `{"route":"a\"b","x":1}`, `{}`, ``, `[]`, `}`,
	} {
		for name, l := range map[string]struct {
			*spelling
			text string
		}{"plain": {&plain, text}, "escaped": {&escaped, string(appendEscaped(nil, []byte(text)))}} {
			var quick, long heard
			if !l.quick([]byte(l.text), &quick) {
				if len(quick.events) > 0 {
					t.Errorf("%s %s: refused, and yet %q", name, text, quick.events)
				}
				continue
			}
			if err := takeText([]byte(text), &long); err != nil {
				t.Errorf("%s %s: quick %q, long %v", name, text, quick.events, err)
			} else if got, want := strings.Join(quick.events, "|"), strings.Join(long.events, "|"); got != want {
				t.Errorf("%s %s: quick %s, long %s", name, text, got, want)
			}
		}
	}
}

func TestMarksAreFoundOnEveryWire(t *testing.T) {
	want := mark{4711, 42, 123456789012345}
	m := string(want.append(nil))
	for _, body := range []string{
		`{"route":"onChat","msg":"` + m + `","from":"m00001","target":"*"}`,
		`{\"route\":\"onChat\",\"body\":{\"route\":\"onChat\",\"msg\":\"` + m + `\",\"from\":\"m00001\"}}`,
	} {
		if got, ok := findMark([]byte(body)); !ok || got != want {
			t.Errorf("%s: %v, %v", body, got, ok)
		}
	}
}

// What each dialect packs, it unpacks: characters of one, two, three and four bytes count as JavaScript counts them.
func TestPayloadsComeBack(t *testing.T) {
	for name, d := range map[string]dialect{"0.9": &sio09{}, "3": &engine{version: 3}, "4": &engine{version: 4}} {
		for _, packets := range [][]string{{"a"}, {"3:::é€", "8::"}, {"42[\"message\",\"\u00c8\"]", "2", "x😀y", "z"}} {
			var b [][]byte
			for _, p := range packets {
				b = append(b, []byte(p))
			}
			var got []string
			body := d.appendPayload([]byte("before"), b)
			if err := d.payload(bytes.TrimPrefix(body, []byte("before")), func(p []byte) error { got = append(got, string(p)); return nil }); err != nil {
				t.Errorf("%s: %q: %v", name, body, err)
			}
			if strings.Join(got, "|") != strings.Join(packets, "|") {
				t.Errorf("%s: %q came back as %q", name, packets, got)
			}
		}
	}
	if n := units([]byte("é€😀x")); n != 5 {
		t.Errorf("%d code units", n)
	}
}

// A WebSocket of each generation says what opens its session, and answers the server's pings at once.
func TestOpening(t *testing.T) {
	upgrade := func(path string) string { return string(appendUpgrade(nil, "h:1", path)) }
	for name, c := range map[string]struct {
		hello  string
		stream string
		then   string // what is said to the stream; frames without their masks
	}{
		"sio09": {string(appendGet(nil, "h:1", "/socket.io/1/")), ok("abc:60:60:websocket") + upgraded + texts("1::", "2::"), upgrade("/socket.io/1/websocket/abc") + "2::"},
		"eio3":  {upgrade("/socket.io/?EIO=3&transport=websocket"), upgraded + texts(opened3, "40"), ""},
		"eio4":  {upgrade("/socket.io/?EIO=4&transport=websocket"), upgraded + texts(opened4, `40{"sid":"x"}`, "2"), "403"},
	} {
		w, h := wires[name](), &heard{}
		w.hello(h, "h:1")
		if got := h.taken(); got != c.hello {
			t.Errorf("%s: hello is %q", name, got)
		}
		if n, err := w.read([]byte(c.stream), h); n != len(c.stream) || err != nil {
			t.Fatal(name, n, err)
		}
		got := ""
		for b := h.said; len(b) > 0; {
			if strings.HasPrefix(string(b), "GET ") {
				head, rest, _ := strings.Cut(string(b), "\r\n\r\n")
				got, b = got+head+"\r\n\r\n", []byte(rest)
				continue
			}
			n := 6 + int(b[1]&0x7F)
			_, payload := unmask(t, b[:n])
			got, b = got+string(payload), b[n:]
		}
		if got != c.then {
			t.Errorf("%s: said %q, want %q", name, got, c.then)
		}
	}
}
