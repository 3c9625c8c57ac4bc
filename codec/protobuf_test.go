package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

const chatProtos = `{"onChat":{"required string msg":1,"required string from":2,"required string target":3}}`

func mustProtos(t testing.TB, server string) *Protos {
	t.Helper()
	p, err := ParseProtos([]byte(server), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseProtosRejects(t *testing.T) {
	deep := strings.Repeat(`{"message A":`, 40) + "{}" + strings.Repeat("}", 40)
	for in, want := range map[string]error{
		`{`: errSyntax, `[]`: errNotObject, `{"r":5}`: errNotObject, `{"r":{"message X":5}}`: errNotObject,
		`{"r":{"optional uInt32 a":"1"}}`: errProtoDefinition, `{"r":{"optional uInt32 a":1.5}}`: errProtoDefinition,
		`{"r":{"optional uInt32 a":-1}}`: errProtoDefinition, `{"r":{"optional uInt32 a":268435456}}`: errProtoDefinition,
		`{"r":{"optional uInt32 __tags":1}}`: errProtoDefinition, `{"r":` + deep + `}`: errProtoDefinition,
	} {
		if _, err := ParseProtos([]byte(in), nil); !errors.Is(err, want) {
			t.Errorf("server %s: %v", in, err)
		}
		if _, err := ParseProtos(nil, []byte(in)); !errors.Is(err, want) {
			t.Errorf("client %s: %v", in, err)
		}
	}
	_, err := ParseProtos([]byte("{\n\"a\":\n}"), nil)
	if err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("no line in %v", err)
	}
}

// Duplicate names, keys like numbers and odd spacing come out as JavaScript's objects do.
func TestParsedDefinitionHasJavaScriptsOrder(t *testing.T) {
	p := mustProtos(t, "\xef\xbb\xbf"+`{"r":{"optional string b":9,"optional string 7":10,"optional  string x":3,"optional uInt32 b":2,
		"message Z":{},"message 1":{},"message":{},"note":1}, "5":{}, "r2":{"optional 😀 é":1}}`)
	want := `{"5":{"__messages":{},"__tags":{}},"r":{"7":{"option":"optional","type":"string","tag":10},` +
		`"b":{"option":"optional","type":"uInt32","tag":2},` +
		`"__messages":{"1":{"__messages":{},"__tags":{}},"Z":{"__messages":{},"__tags":{}}},"__tags":{"2":"b","9":"b","10":"7"}},` +
		`"r2":{"é":{"option":"optional","type":"😀","tag":1},"__messages":{},"__tags":{"1":"é"}}}`
	if got := string(p.server.text); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if text := p.AppendHandshake([]byte("{")); hasAstral(text) || !json.Valid(append(text, '}')) {
		t.Errorf("handshake %s", text)
	}
	// Both tags of the name that was taken mean its last declaration.
	if got, err := p.Server("r").AppendDecode(nil, []byte{9 << 3, 5, 10<<3 | 2, 1, 'x'}); err != nil || string(got) != `{"b":5,"7":"x"}` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestNilProtosDefineNothing(t *testing.T) {
	var p *Protos
	if p.Server("a") != nil || p.Client("a") != nil || p.Version() != "" || len(p.AppendHandshake(nil)) != 0 {
		t.Error("they define something")
	}
	empty := mustProtos(t, "")
	if string(empty.AppendHandshake(nil)) != `"protos":{"server":{},"client":{},"version":"xT9OvpsqULwrUv2IpdUD4Q=="}` {
		t.Errorf("%s", empty.AppendHandshake(nil))
	}
}

func TestEncodeFillsRequiredStrings(t *testing.T) {
	m := mustProtos(t, chatProtos).Server("onChat")
	fill := ProtoOptions{FillStrings: true}
	for in, want := range map[string]string{
		`{"from":"a","target":"*"}`:            `{"from":"a","target":"*","msg":""}`,
		`{"msg":null,"from":"a","target":"*"}`: `{"from":"a","target":"*","msg":""}`,
		`{}`:                                   `{"msg":"","from":"","target":""}`,
		`{"msg":"x","from":"a","target":"*","msg":1}`: `{"msg":"1","from":"a","target":"*"}`,
	} {
		wire, err := m.AppendEncode(nil, []byte(in), fill)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got, err := m.AppendDecode(nil, wire); err != nil || string(got) != want {
			t.Errorf("%s arrives as %s, %v", in, got, err)
		}
	}
	if _, err := m.AppendEncode(nil, []byte(`{"msg":null,"from":"a","target":"*"}`), ProtoOptions{}); !errors.Is(err, errProtoRequired) {
		t.Errorf("without the option: %v", err)
	}
	number := mustProtos(t, `{"r":{"required uInt32 a":1}}`).Server("r")
	if _, err := number.AppendEncode(nil, []byte(`{}`), fill); !errors.Is(err, errProtoRequired) {
		t.Errorf("a number: %v", err)
	}
}

const fitProtos = `{"r":{"optional string s":1,"optional uInt32 u":2,"optional sInt32 i":3,"optional double d":4,"repeated uInt32 us":5,
	"repeated string ss":6,"message M":{"optional string x":1},"optional M m":7,"repeated M ms":8,"repeated bool bs":9,"optional float f":10}}`

func TestEncodeMakesValuesFit(t *testing.T) {
	m := mustProtos(t, fitProtos).Server("r")
	for in, want := range map[string]string{
		`{"s":5}`: `{"s":"5"}`, `{"s":true}`: `{"s":"true"}`, `{"s":-1.5e3}`: `{"s":"-1.5e3"}`,
		`{"s":{"a":[1,"\n"]}}`: `{"s":"{\"a\":[1,\"\\n\"]}"}`, `{"s":[1]}`: `{"s":"[1]"}`,
		`{"u":"42"}`: `{"u":42}`, `{"u":" 42px"}`: `{"u":42}`, `{"u":"3.9"}`: `{"u":3}`, `{"u":3.99}`: `{"u":3}`, `{"u":-0.5}`: `{"u":0}`,
		`{"u":1e3}`: `{"u":1000}`, `{"u":9007199254740991}`: `{"u":9007199254740991}`, `{"i":-4503599627370496}`: `{"i":-4503599627370496}`,
		`{"i":"-7"}`: `{"i":-7}`, `{"d":"1.5"}`: `{"d":1.5}`, `{"d":true}`: `{"d":1}`, `{"d":-0}`: `{"d":0}`, `{"d":1e-7}`: `{"d":1e-7}`,
		`{"d":1e21}`: `{"d":1e+21}`, `{"d":1e999}`: `{"d":null}`, `{"f":1e39}`: `{"f":null}`, `{"ss":["a",null,1]}`: `{"ss":["a","","1"]}`,
		`{"us":5,"s":"x"}`: `{"s":"x"}`, `{"m":{}}`: `{"m":{}}`, `{"ms":[{},{"x":"y"},{"z":1}]}`: `{"ms":[{},{"x":"y"},{}]}`,
		`{"bs":[],"u":1}`: `{"u":1}`, `{"u":null,"i":1,"us":null}`: `{"i":1}`, `{"u":1,"s":"a","u":2}`: `{"u":2,"s":"a"}`,
		`{"us":[1],"s":"a","us":[2,3]}`: `{"us":[2,3],"s":"a"}`,
	} {
		wire, err := m.AppendEncode([]byte("x"), []byte(in), ProtoOptions{})
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got, err := m.AppendDecode([]byte("y"), wire[1:]); err != nil || string(got) != "y"+want {
			t.Errorf("%s arrives as %s, %v", in, got, err)
		}
	}
	for in, want := range map[string]error{
		`{"u":-1}`: errProtoRange, `{"u":9007199254740992}`: errProtoRange, `{"u":1e999}`: errProtoRange, `{"u":"-1"}`: errProtoRange,
		`{"i":4503599627370496}`: errProtoRange, `{"u":"abc"}`: errProtoType, `{"u":""}`: errProtoType, `{"u":"-"}`: errProtoType,
		`{"u":true}`: errProtoType, `{"u":[1]}`: errProtoType, `{"u":{}}`: errProtoType, `{"d":"x"}`: errProtoType, `{"d":"inf"}`: errProtoType,
		`{"d":""}`: errProtoType, `{"d":[]}`: errProtoType, `{"us":[1,null]}`: errProtoType, `{"us":["a"]}`: errProtoType, `{"m":5}`: errProtoType,
		`{"ms":[null]}`: errProtoType, `{"bs":[true]}`: errProtoType, `{}`: errProtoEmpty, `{"x":1}`: errProtoEmpty, `{"us":[]}`: errProtoEmpty,
		`{"u":1`: errSyntax, `[]`: errNotObject,
	} {
		if got, err := m.AppendEncode([]byte("x"), []byte(in), ProtoOptions{}); !errors.Is(err, want) || string(got) != "x" {
			t.Errorf("%s: %q, %v; want %v", in, got, err, want)
		}
	}
}

// A length of two and more bytes is inserted before what it measures.
func TestEncodeLongTexts(t *testing.T) {
	m := mustProtos(t, `{"message L":{"optional string s":1,"optional L l":2},"r":{"optional L l":1}}`).Server("r")
	for _, n := range []int{0, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 16379, 16380, 16383, 16384, 70000} {
		in := fmt.Sprintf(`{"l":{"s":%q,"l":{"s":%q}}}`, strings.Repeat("a", n), strings.Repeat("b", n))
		wire, err := m.AppendEncode(nil, []byte(in), ProtoOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.AppendDecode(nil, wire); err != nil || string(got) != in {
			t.Errorf("%d bytes do not come back: %v", n, err)
		}
	}
}

func TestEncodeForBrowsers(t *testing.T) {
	m := mustProtos(t, `{"r":{"optional string s":1}}`).Server("r")
	for _, in := range []string{`{"s":"a😀é"}`, `{"s":"a\ud83d\ude00é"}`} {
		wire, err := m.AppendEncode(nil, []byte(in), ProtoOptions{CESU8: true})
		if err != nil || string(wire) != "\x0a\x09a\xed\xa0\xbd\xed\xb8\x80é" {
			t.Errorf("%q, %v", wire, err)
		}
		if wire, err = m.AppendEncode(nil, []byte(in), ProtoOptions{}); err != nil || string(wire) != "\x0a\x07a😀é" {
			t.Errorf("%q, %v", wire, err)
		}
	}
}

func TestRecursiveDefinitionIsBounded(t *testing.T) {
	m := mustProtos(t, `{"message N":{"optional N n":1,"repeated N ns":2,"optional uInt32 v":3},"r":{"optional N n":1}}`).Server("r")
	nest := func(n int) []byte {
		return []byte(strings.Repeat(`{"n":`, n-1) + `{"v":1}` + strings.Repeat("}", n-1))
	}
	wire, err := m.AppendEncode(nil, nest(maxProtoDepth), ProtoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.AppendDecode(nil, wire); err != nil || !bytes.Equal(got, nest(maxProtoDepth)) {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := m.AppendEncode(nil, nest(maxProtoDepth+1), ProtoOptions{}); !errors.Is(err, errProtoDepth) {
		t.Error(err)
	}
	deeper := append([]byte{1<<3 | 2, byte(len(wire))}, wire...)
	if _, err := m.AppendDecode(nil, deeper); !errors.Is(err, errProtoDepth) {
		t.Error(err)
	}
}

func TestDecodeRejects(t *testing.T) {
	m := mustProtos(t, fitProtos).Server("r")
	for in, want := range map[string]error{
		"\x0a\x05ab":   errProtoTruncated, // string
		"\x0a":         errProtoTruncated,
		"\x10\x80":     errProtoTruncated, // uInt32
		"\x21\x00\x00": errProtoTruncated, // double
		"\x28\xff\xff\xff\xff\xff\xff\xff\x0f\x01": errProtoTruncated, // count of nearly everything
		"\x28\x02\x01": errProtoTruncated,
		"\x3a\x02\x0a\x05\x10\x05\x10\x05\x10\x05":         errProtoTruncated, // text that leaves its message
		"\x10\x80\x80\x80\x80\x80\x80\x80\x10":             errProtoRange,     // 2^53
		"\x10\xff\xff\xff\xff\xff\xff\xff\xff\x7f":         errProtoRange,
		"\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00": errProtoRange,
		"\x48\xff\xff\xff\xff\x0f":                         errProtoType, // many elements without bytes
		"\x78\x01":                                         errProtoTag,
		"\x00":                                             errProtoTag,
		"\xff\xff\xff\xff\xff\xff\xff\x0f":                 errProtoTag,
	} {
		if got, err := m.AppendDecode([]byte("x"), []byte(in)); !errors.Is(err, want) || string(got) != "x" {
			t.Errorf("%x: %s, %v; want %v", in, got, err, want)
		}
	}
	// Redundant groups are only odd.
	if got, err := m.AppendDecode(nil, []byte("\x10\x81\x80\x80\x00")); err != nil || string(got) != `{"u":1}` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestDecodeOrderAndRepeats(t *testing.T) {
	m := mustProtos(t, fitProtos).Server("r")
	// us 1; s a; us 2 3; ss x; s b; ss y; empty us
	in := "\x28\x01\x01" + "\x0a\x01a" + "\x28\x02\x02\x03" + "\x32\x01x" + "\x0a\x01b" + "\x32\x01y" + "\x28\x00"
	got, err := m.AppendDecode(nil, []byte(in))
	if want := `{"us":[1,2,3],"s":"b","ss":["x","y"]}`; err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

// A JSON body is told from a message by its brace, which as a head is tag 15 with wire type 3.
// Neither flavour of the original writes that, whatever the type; only a foreign encoder with
// wire types of its own could, for a field with tag 15 in first place.
func TestNoEncoderOpensAMessageWithABrace(t *testing.T) {
	for _, typ := range []string{"uInt32", "sInt32", "int32", "uInt64", "sInt64", "float", "double", "string", "bool", "M"} {
		for tag := range 3000 {
			m := mustProtos(t, fmt.Sprintf(`{"message M":{},"r":{"optional %s a":%d}}`, typ, tag)).Server("r")
			server := m.fields[0].head
			browser := appendUvarint(nil, uint64(tag)<<3|wireLength)
			if LooksLikeJSON(server) || LooksLikeJSON(browser) {
				t.Errorf("%s with tag %d opens with a brace", typ, tag)
			}
		}
	}
	m := mustProtos(t, `{"r":{"optional uInt32 a":15}}`).Server("r")
	got, err := m.AppendDecode(nil, []byte("{\x05"))
	if err != nil || string(got) != `{"a":5}` || !LooksLikeJSON([]byte("{\x05")) {
		t.Errorf("the one ambiguous head: %s, %v", got, err)
	}
	if LooksLikeJSON(nil) || LooksLikeJSON([]byte(" {}")) || !LooksLikeJSON([]byte("{}")) {
		t.Error("LooksLikeJSON is wrong")
	}
}

func TestProtobufDoesNotAllocate(t *testing.T) {
	m := mustProtos(t, chatProtos).Server("onChat")
	body, dst := []byte(`{"msg":"hello there","from":"alice","target":"*"}`), make([]byte, 0, 256)
	wire, err := m.AppendEncode(nil, body, ProtoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = m.AppendEncode(dst, body, ProtoOptions{}) }); n != 0 {
		t.Errorf("encode: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = m.AppendDecode(dst, wire) }); n != 0 {
		t.Errorf("decode: %v allocations", n)
	}
}

func BenchmarkProtobuf(b *testing.B) {
	m := mustProtos(b, chatProtos).Server("onChat")
	body, dst := []byte(`{"msg":"hello there, how are you","from":"alice","target":"*"}`), make([]byte, 0, 256)
	wire, err := m.AppendEncode(nil, body, ProtoOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("op=encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = m.AppendEncode(dst, body, ProtoOptions{})
		}
	})
	b.Run("op=decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = m.AppendDecode(dst, wire)
		}
	})
}
