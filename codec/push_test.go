package codec

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// everyVariant is each way in which the bytes of a push may differ: framing, dictionary, protobuf, text.
func everyVariant(t testing.TB) (all []*Variant) {
	dict, protos := NewDictionary(nil, []string{"onChat"}), mustProtos(t, chatProtos)
	for i := range 16 {
		v := &Variant{Index: uint8(i), Framing: Framing(i & 1), CESU: i&2 != 0}
		if i&4 != 0 {
			v.Dict = dict
		}
		if i&8 != 0 {
			v.Protos = protos
		}
		all = append(all, v)
	}
	return all
}

// The examples of protocol.md §2.5 and of the original's transcripts, to the byte.
func TestAppendFrame(t *testing.T) {
	dict := NewDictionary([]string{"onAdd", "onChat"}, nil)
	protos := mustProtos(t, chatProtos)
	add := &Push{Route: "onAdd", Body: []byte(`{"route":"onAdd","user":"bob"}`)}
	chat := &Push{Route: "onChat", Body: []byte(`{"msg":"hi \ud83d\ude00","from":"alice","target":"*"}`)}
	const text = "\x06\x05onAdd" + `{"route":"onAdd","user":"bob"}`
	const fields = "\x12\x05alice\x1a\x01*"
	for _, tc := range []struct {
		name string
		push *Push
		v    Variant
		want string
	}{
		{"text route, tcp", add, Variant{Framing: FramingTCP}, "\x04\x00\x00\x25" + text},
		{"text route, ws", add, Variant{Framing: FramingWS}, "\x82\x29\x04\x00\x00\x25" + text},
		{"code, tcp", add, Variant{Dict: dict}, "\x04\x00\x00\x21\x07\x00\x01" + text[7:]},
		{"code, ws", add, Variant{Framing: FramingWS, Dict: dict}, "\x82\x25\x04\x00\x00\x21\x07\x00\x01" + text[7:]},
		{"no proto for the route", add, Variant{Protos: protos}, "\x04\x00\x00\x25" + text},
		{"protobuf", chat, Variant{Protos: protos}, "\x04\x00\x00\x1b\x06\x06onChat\x0a\x07hi \U0001F600" + fields},
		{"protobuf, browser", chat, Variant{Protos: protos, CESU: true}, "\x04\x00\x00\x1d\x06\x06onChat\x0a\x09hi \xed\xa0\xbd\xed\xb8\x80" + fields},
		{"protobuf, code, ws", chat, Variant{Framing: FramingWS, Dict: dict, Protos: protos}, "\x82\x1a\x04\x00\x00\x16\x07\x00\x02\x0a\x07hi \U0001F600" + fields},
		{"JSON keeps its escapes for browsers", chat, Variant{CESU: true}, "\x04\x00\x00\x3d\x06\x06onChat" + string(chat.Body)},
		{"the original's own", &Push{Route: "onChat", Body: []byte(`{"msg":"hello everyone 你好","from":"alice","target":"*"}`)}, Variant{Protos: protos},
			"\x04\x00\x00\x29\x06\x06onChat\x0a\x15hello everyone \xe4\xbd\xa0\xe5\xa5\xbd" + fields}, // hybrid-ws-dict-proto.jsonl
		{"empty body", &Push{Route: "x"}, Variant{}, "\x04\x00\x00\x03\x06\x01x"},
		{"empty route", &Push{Body: []byte(`{}`)}, Variant{}, "\x04\x00\x00\x04\x06\x00{}"},
		{"a route too long for the wire is cut", &Push{Route: strings.Repeat("r", 256)}, Variant{}, "\x04\x00\x01\x01\x06\xff" + strings.Repeat("r", 255)},
	} {
		got := tc.push.AppendFrame([]byte("before"), &tc.v)
		if string(got) != "before"+tc.want {
			t.Errorf("%s:\ngot  %q\nwant %q", tc.name, got, "before"+tc.want)
		}
	}
}

// Around the borders of a WebSocket frame's length a push is one frame with one package.
func TestAppendFrameLengths(t *testing.T) {
	v := &Variant{Framing: FramingWS}
	for _, payload := range []int{125, 126, 127, 65535, 65536} {
		body := make([]byte, payload-PackageHeadBytes-len("\x06\x01x"))
		got := (&Push{Route: "x", Body: body}).AppendFrame(nil, v)
		want := AppendWSFrame(nil, WSBinary, AppendPackage(nil, PackageData, append([]byte("\x06\x01x"), body...)))
		if !bytes.Equal(got, want) {
			t.Errorf("payload of %d: head %x, want %x", payload, got[:14], want[:14])
		}
	}
}

// A shared push is the same bytes as another, is encoded once a variant, and gives everybody bytes of their own.
func TestSharedFrames(t *testing.T) {
	body := []byte(`{"msg":"hi \ud83d\ude00","from":"alice","target":"*"}`)
	shared := &Push{Route: "onChat", Body: body, Shared: new(SharedFrames)}
	for _, v := range everyVariant(t) {
		want := (&Push{Route: "onChat", Body: body}).AppendFrame(nil, v)
		first := shared.AppendFrame([]byte("before"), v)
		kept := shared.Shared[v.Index].Load()
		if string(first) != "before"+string(want) || kept == nil || !bytes.Equal(*kept, want) {
			t.Fatalf("variant %d: got %q, want %q", v.Index, first, want)
		}
		clear(first) // whose it is
		if again := shared.AppendFrame(nil, v); !bytes.Equal(again, want) || shared.Shared[v.Index].Load() != kept {
			t.Errorf("variant %d: the second time %q, want %q", v.Index, again, want)
		}
		room := make([]byte, 0, 200)
		if n := testing.AllocsPerRun(10, func() { shared.AppendFrame(room, v) }); n != 0 {
			t.Errorf("variant %d: %v allocations for a frame that is there", v.Index, n)
		}
	}
	for i := 16; i < MaxVariants; i++ {
		if shared.Shared[i].Load() != nil {
			t.Errorf("a frame is kept for variant %d, which nobody asked for", i)
		}
	}
}

// Loops that encode one push at the same time all get the same bytes.
func TestSharedFramesAtTheSameTime(t *testing.T) {
	variants := everyVariant(t)
	for round := range 50 {
		body := fmt.Appendf(nil, `{"msg":"%d","from":"alice","target":"*"}`, round)
		p := &Push{Route: "onChat", Body: body, Shared: new(SharedFrames)}
		got := make([][][]byte, 4)
		var loops sync.WaitGroup
		for i := range got {
			loops.Go(func() {
				for k := range variants {
					got[i] = append(got[i], p.AppendFrame(nil, variants[(k+i*5)%len(variants)]))
				}
			})
		}
		loops.Wait()
		for i := range got {
			for k, frame := range got[i] {
				v := variants[(k+i*5)%len(variants)]
				if want := (&Push{Route: "onChat", Body: body}).AppendFrame(nil, v); !bytes.Equal(frame, want) {
					t.Fatalf("loop %d, variant %d: got %q, want %q", i, v.Index, frame, want)
				}
			}
		}
	}
}

// What a definition cannot hold goes out with an empty body: the client still learns that there was something.
func TestUnencodableBodiesAreEmpty(t *testing.T) {
	v := &Variant{Protos: mustProtos(t, `{
		"number":{"required uInt32 n":1},
		"nested":{"optional Inner inner":1,"message Inner":{"required uInt32 n":1}},
		"filled":{"required string s":1}}`)}
	for _, tc := range []struct{ route, body, want string }{
		{"number", `{"n":7}`, "\x08\x07"},
		{"number", `{}`, ""},
		{"number", `{"n":null}`, ""},
		{"number", `{"n":-1}`, ""},
		{"number", `{"n":"x"}`, ""},
		{"number", `{"n":1e300}`, ""},
		{"number", `[7]`, ""},
		{"number", `{"n":7`, ""},
		{"number", ``, ""},
		{"nested", `{"inner":{"n":7}}`, "\x0a\x02\x08\x07"},
		{"nested", `{"inner":{}}`, ""},
		{"nested", `{"inner":7}`, ""},
		{"nested", `{"other":7}`, ""},
		{"filled", `{}`, "\x0a\x00"},
		{"filled", `{"s":{"a":[1]}}`, "\x0a\x09" + `{"a":[1]}`},
	} {
		got := (&Push{Route: tc.route, Body: []byte(tc.body)}).AppendFrame(nil, v)
		want := AppendPackage(nil, PackageData, []byte("\x06\x06"+tc.route+tc.want))
		if !bytes.Equal(got, want) {
			t.Errorf("push %s %s: got %q, want %q", tc.route, tc.body, got, want)
		}
		got = v.AppendResponse(nil, 1, 0, []byte(tc.body), v.Protos.Server(tc.route))
		if want = AppendPackage(nil, PackageData, []byte("\x04\x01"+tc.want)); !bytes.Equal(got, want) {
			t.Errorf("response %s %s: got %q, want %q", tc.route, tc.body, got, want)
		}
	}
}

// Answers carry the request's id in as many bytes as it needs, and no route.
func TestAppendResponse(t *testing.T) {
	body := []byte(`{"users":["alice"]}`)
	if got, want := (&Variant{}).AppendResponse(nil, 1, 0, body, nil), "\x04\x00\x00\x15\x04\x01"+string(body); string(got) != want {
		t.Errorf("got %q, want %q", got, want) // protocol.md §2.5
	}
	for _, tc := range []struct {
		id   uint32
		want string
	}{
		{0, "\x00"}, {1, "\x01"}, {1<<7 - 1, "\x7f"}, {1 << 7, "\x80\x01"}, {1<<14 - 1, "\xff\x7f"}, {1 << 14, "\x80\x80\x01"},
		{1<<21 - 1, "\xff\xff\x7f"}, {1 << 21, "\x80\x80\x80\x01"}, {1<<28 - 1, "\xff\xff\xff\x7f"}, {1 << 28, "\x80\x80\x80\x80\x01"},
		{1<<31 - 1, "\xff\xff\xff\xff\x07"}, {1 << 31, "\x80\x80\x80\x80\x08"}, {1<<32 - 1, "\xff\xff\xff\xff\x0f"},
	} {
		p := AppendPackage(nil, PackageData, []byte("\x04"+tc.want+string(body)))
		for framing, want := range map[Framing][]byte{FramingTCP: p, FramingWS: AppendWSFrame(nil, WSBinary, p)} {
			v := &Variant{Framing: framing}
			got := v.AppendResponse([]byte("before"), tc.id, 0, body, nil)
			if string(got) != "before"+string(want) {
				t.Errorf("id %d, framing %d: got %q, want %q", tc.id, framing, got, want)
			}
		}
		if m, err := ParseMessage(p[PackageHeadBytes:]); err != nil || m.ID != tc.id || m.Type != MessageResponse || !bytes.Equal(m.Body, body) {
			t.Errorf("id %d reads back as %+v, %v", tc.id, m, err)
		}
	}
}

// Packages without a body, as heartbeats are.
func TestVariantAppendPackage(t *testing.T) {
	for framing, want := range map[Framing]string{FramingTCP: "\x03\x00\x00\x00", FramingWS: "\x82\x04\x03\x00\x00\x00"} {
		if got := (&Variant{Framing: framing}).AppendPackage(nil, PackageHeartbeat, nil); string(got) != want {
			t.Errorf("framing %d: got %q, want %q", framing, got, want)
		}
	}
}
