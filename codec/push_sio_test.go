package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pomelod/pomelod/internal/seed"
)

// sioVariants are the ways in which packets reach socket.io clients.
var sioVariants = map[string]*Variant{
	"0.9 websocket":     {Framing: FramingSIO09WS},
	"0.9 polling":       {Framing: FramingSIO09Pull},
	"Engine.IO":         {Framing: FramingEIOWS},
	"Engine.IO polling": {Framing: FramingEIOPull},
}

// framed is packets as v frames them, by hand.
func framed(v *Variant, packets ...string) string {
	var b []byte
	for _, p := range packets {
		n := len(p)
		switch {
		case v.Framing.pull():
			b = append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		case n < 126:
			b = append(b, 0x81, byte(n))
		case n < 1<<16:
			b = append(b, 0x81, 126, byte(n>>8), byte(n))
		default:
			b = append(b, 0x81, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		}
		b = append(b, p...)
	}
	return string(b)
}

// What a push looks like to each generation (protocol.md §4.2), to the byte: over polling Engine.IO is ASCII.
func TestSIOPushes(t *testing.T) {
	for _, tc := range []struct{ name, route, body, flat, text, ascii string }{
		{"chat", "onChat", `{"msg":"hi","from":"a","target":"*"}`, `{"route":"onChat","msg":"hi","from":"a","target":"*"}`,
			`{\"route\":\"onChat\",\"body\":{\"route\":\"onChat\",\"msg\":\"hi\",\"from\":\"a\",\"target\":\"*\"}}`, ""},
		{"with its route", "onAdd", `{"route":"onAdd","user":"b"}`, `{"route":"onAdd","user":"b"}`,
			`{\"route\":\"onAdd\",\"body\":{\"route\":\"onAdd\",\"user\":\"b\"}}`, ""},
		{"with its route last", "onAdd", `{"user":"b","route":"onAdd"}`, `{"user":"b","route":"onAdd"}`,
			`{\"route\":\"onAdd\",\"body\":{\"user\":\"b\",\"route\":\"onAdd\"}}`, ""},
		{"a route deeper down", "r", `{"a":{"route":"x"}}`, `{"route":"r","a":{"route":"x"}}`, `{\"route\":\"r\",\"body\":{\"route\":\"r\",\"a\":{\"route\":\"x\"}}}`, ""},
		{"empty", "r", `{}`, `{"route":"r"}`, `{\"route\":\"r\",\"body\":{\"route\":\"r\"}}`, ""},
		{"with spaces", "r", ` { "a" : 1 } `, `{"route":"r", "a" : 1 } `, `{\"route\":\"r\",\"body\":{\"route\":\"r\", \"a\" : 1 } }`, ""},
		{"a route that needs escapes", "é\"\n", `{"a":1}`, `{"route":"é\"\n","a":1}`,
			`{\"route\":\"é\\\"\\n\",\"body\":{\"route\":\"é\\\"\\n\",\"a\":1}}`, `{\"route\":\"\u00e9\\\"\\n\",\"body\":{\"route\":\"\u00e9\\\"\\n\",\"a\":1}}`},
		{"text", "r", "{\"a\":\"é王\u2028\\ud83d\\ude00\\u0000\x7f\"}", "{\"route\":\"r\",\"a\":\"é王\u2028\\ud83d\\ude00\\u0000\x7f\"}",
			"{\\\"route\\\":\\\"r\\\",\\\"body\\\":{\\\"route\\\":\\\"r\\\",\\\"a\\\":\\\"é王\u2028\\\\ud83d\\\\ude00\\\\u0000\x7f\\\"}}",
			"{\\\"route\\\":\\\"r\\\",\\\"body\\\":{\\\"route\\\":\\\"r\\\",\\\"a\\\":\\\"\\u00e9\\u738b\\u2028\\\\ud83d\\\\ude00\\\\u0000\x7f\\\"}}"},
		{"long", "r", `{"a":"` + strings.Repeat("é", 70_000) + `"}`, `{"route":"r","a":"` + strings.Repeat("é", 70_000) + `"}`,
			`{\"route\":\"r\",\"body\":{\"route\":\"r\",\"a\":\"` + strings.Repeat("é", 70_000) + `\"}}`,
			`{\"route\":\"r\",\"body\":{\"route\":\"r\",\"a\":\"` + strings.Repeat(`\u00e9`, 70_000) + `\"}}`},
	} {
		if tc.ascii == "" {
			tc.ascii = tc.text
		}
		flat, text, ascii := `3:::[`+tc.flat+`]`, `42["message","`+tc.text+`"]`, `42["message","`+tc.ascii+`"]`
		want := map[string]string{"0.9 websocket": flat, "0.9 polling": flat, "Engine.IO": text, "Engine.IO polling": ascii}
		for name, v := range sioVariants {
			p := &Push{Route: tc.route, Body: []byte(tc.body)}
			got := string(p.AppendFrame([]byte("before"), v))
			if got != "before"+framed(v, want[name]) {
				t.Errorf("%s, %s:\ngot  %.300q\nwant %.300q", tc.name, name, got, "before"+framed(v, want[name]))
			}
			p.Shared = new(SharedFrames)
			for range 2 {
				if again := string(p.AppendFrame([]byte("before"), v)); again != got {
					t.Errorf("%s, %s: shared %.300q", tc.name, name, again)
				}
			}
		}
	}
}

// Ids are signed, as the original reads them.
func TestSIOResponses(t *testing.T) {
	for id, number := range map[uint32]string{1: "1", 255: "255", 0x7FFFFFFF: "2147483647", 0x80000000: "-2147483648", 0xFFFFFFFF: "-1"} {
		flat, text := `3:::[{"id":`+number+`,"body":{"a":"é"}}]`, `42["message","{\"id\":`+number+`,\"body\":{\"a\":\"é\"}}"]`
		want := map[string]string{"0.9 websocket": flat, "0.9 polling": flat, "Engine.IO": text, "Engine.IO polling": strings.Replace(text, "é", `\u00e9`, 1)}
		for name, v := range sioVariants {
			if got := string(v.AppendResponse(nil, id, 0, []byte(`{"a":"é"}`), nil)); got != framed(v, want[name]) {
				t.Errorf("%s: got %q", name, got)
			}
		}
	}
}

// A kick is followed by the disconnect of the generation.
func TestSIOKicks(t *testing.T) {
	flat, text := `3:::[{"route":"onKick","reason":"é\n"}]`, `42["message","{\"route\":\"onKick\",\"reason\":\"é\\n\"}"]`
	want := map[string][]string{
		"0.9 websocket": {flat, "0::"}, "0.9 polling": {flat, "0::"},
		"Engine.IO": {text, "41"}, "Engine.IO polling": {strings.Replace(text, "é", `\u00e9`, 1), "41"},
	}
	for name, v := range sioVariants {
		if got := string(v.AppendKick([]byte("before"), []byte(`"é\n"`))); got != "before"+framed(v, want[name]...) {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// What a client of 0.9 is sent at once is one array, in order; what is no array stays by itself, and other clients get one element
// at a time.
func TestAnswersJoinTheArrayBefore(t *testing.T) {
	const push, answer, second = `{"route":"onChat","msg":"x"}`, `{"id":9,"body":{}}`, `{"id":10,"body":{"code":500}}`
	for name, v := range sioVariants {
		frame := (&Push{Route: "onChat", Body: []byte(`{"msg":"x"}`)}).AppendFrame(nil, v)
		respond := func(dst []byte) []byte {
			return v.AppendResponse(v.AppendResponse(dst, 9, 0, []byte(`{}`), nil), 10, 0, []byte(`{"code":500}`), nil)
		}
		if v.Framing == FramingEIOWS || v.Framing == FramingEIOPull {
			text := func(s string) string { return `42["message",` + string(AppendString(nil, s)) + `]` }
			if got := string(respond(bytes.Clone(frame))); got != string(frame)+framed(v, text(answer), text(second)) {
				t.Errorf("%s: got %q", name, got)
			}
			continue
		}
		for _, tc := range []struct {
			name   string
			before []string
			want   []string
		}{
			{"nothing", nil, []string{"3:::[" + answer + "," + second + "]"}},
			{"a push", []string{"3:::[" + push + "]"}, []string{"3:::[" + push + "," + answer + "," + second + "]"}},
			{"two pushes", []string{"3:::[" + push + "]", "3:::[" + push + "]"}, []string{"3:::[" + push + "]", "3:::[" + push + "," + answer + "," + second + "]"}},
			{"a push and an ack", []string{"3:::[" + push + "]", "6:::1"}, []string{"3:::[" + push + "]", "6:::1", "3:::[" + answer + "," + second + "]"}},
			{"a heartbeat", []string{"2::"}, []string{"2::", "3:::[" + answer + "," + second + "]"}},
		} {
			if got := string(respond([]byte(framed(v, tc.before...)))); got != framed(v, tc.want...) {
				t.Errorf("%s, behind %s:\ngot  %q\nwant %q", name, tc.name, got, framed(v, tc.want...))
			}
		}
		if string(frame) != framed(v, "3:::["+push+"]") {
			t.Errorf("%s: %q", name, frame)
		}
	}
	ws := sioVariants["0.9 websocket"]
	const head = "HTTP/1.1 101 Switching Protocols\r\n\r\n"
	if got := string(ws.AppendResponse([]byte(head+framed(ws, "1::")), 9, 0, []byte(`{}`), nil)); got != head+framed(ws, "1::", "3:::["+answer+"]") {
		t.Errorf("behind an upgrade's answer %q", got)
	}
}

// Arrays end somewhere, and however much is staged an answer costs no more than a look at a few frames. All of it is valid and in
// order all the time.
func TestJoiningIsBounded(t *testing.T) {
	rng := seed.Rand(t)
	for _, name := range []string{"0.9 websocket", "0.9 polling"} {
		v := sioVariants[name]
		for range 200 {
			var staged []byte
			var want, got []string
			for i := range uint32(1 + rng.IntN(400)) {
				switch rng.IntN(5) {
				case 0:
					staged = v.AppendPacket(staged, []byte("6:::1"))
					want = append(want, "6:::1")
				case 1:
					body := fmt.Sprintf(`{"n":%d,"x":"%s"}`, i, strings.Repeat("x", rng.IntN(rng.IntN(3000)+1)))
					staged = (&Push{Route: "p", Body: []byte(body)}).AppendFrame(staged, v)
					want = append(want, `{"route":"p",`+body[1:])
				default:
					body := `{"x":"` + strings.Repeat("é", rng.IntN(rng.IntN(300)+1)) + `"}`
					staged = v.AppendResponse(staged, i, 0, []byte(body), nil)
					want = append(want, fmt.Sprintf(`{"id":%d,"body":%s}`, i, body))
				}
			}
			for rest := staged; len(rest) > 0; {
				head, n := v.frameSize(rest)
				packet := string(rest[head : head+n])
				rest = rest[head+n:]
				if !utf8.ValidString(packet) || n > maxMerged+4000 {
					t.Fatalf("a packet of %d bytes: %.100q", n, packet)
				}
				array, ok := strings.CutPrefix(packet, "3:::")
				if !ok {
					got = append(got, packet)
					continue
				}
				var elements []json.RawMessage
				if err := json.Unmarshal([]byte(array), &elements); err != nil {
					t.Fatalf("%v: %.200q", err, array)
				}
				for _, e := range elements {
					got = append(got, string(e))
				}
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("%s:\ngot  %.500q\nwant %.500q", name, got, want)
			}
		}
	}
}

// BenchmarkAnswersAmongAcks is a client that has every message acknowledged: what an answer costs must not depend on how
// many were staged before it.
func BenchmarkAnswersAmongAcks(b *testing.B) {
	v := sioVariants["0.9 websocket"]
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("staged=%d", n), func(b *testing.B) {
			var staged []byte
			b.ReportAllocs()
			for b.Loop() {
				staged = staged[:0]
				for i := range n {
					staged = v.AppendPacket(staged, []byte("6:::1"))
					staged = v.AppendResponse(staged, uint32(i), 0, []byte(`{}`), nil)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/answer")
		})
	}
}

// Encoding costs no memory but what the frame itself needs.
func TestSIOEncodingAllocations(t *testing.T) {
	p := &Push{Route: "onChat", Body: []byte(`{"msg":"good morning é","from":"alice","target":"*"}`)}
	body, reason := []byte(`{"a":"é"}`), []byte(`"é"`)
	for name, v := range sioVariants {
		dst := make([]byte, 0, 4096)
		if n := testing.AllocsPerRun(100, func() {
			dst = p.AppendFrame(dst[:0], v)
			dst = v.AppendResponse(dst, 77, 0, body, nil)
			dst = v.AppendKick(dst, reason)
		}); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
