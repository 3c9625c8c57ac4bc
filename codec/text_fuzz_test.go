package codec

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzNormalizeUTF8(f *testing.F) {
	for _, s := range []string{"", "a", "é", "😀", "\xed\xa0\xbd\xed\xb8\x80", "\xed\xa0\xbd", "\xf0\x9f\x98", "\xe2\x82", "\xc0\xaf", "\xf5\x80"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		got := NormalizeUTF8(b)
		switch {
		case !bytes.Equal(b, before):
			t.Fatal("input changed")
		case !utf8.Valid(got):
			t.Fatalf("%q is not UTF-8", got)
		case utf8.Valid(b) && !bytes.Equal(got, b):
			t.Fatalf("valid %q became %q", b, got)
		case len(got) > 3*len(b):
			t.Fatalf("%d bytes from %d", len(got), len(b))
		}
		ascii := func(r rune) rune {
			if r >= utf8.RuneSelf {
				return -1
			}
			return r
		}
		if x, y := strings.Map(ascii, string(b)), strings.Map(ascii, string(got)); x != y {
			t.Fatalf("ASCII %q became %q", x, y)
		}
		// What a browser would have sent of the same text reads the same.
		if back := NormalizeUTF8(appendCESU8(nil, string(got))); !bytes.Equal(back, got) {
			t.Fatalf("%q came back from CESU-8 as %q", got, back)
		}
		// The fast scan and the plain one agree.
		if hasAstral(got) != (bytes.IndexFunc(got, func(r rune) bool { return r >= 0x10000 }) >= 0) {
			t.Fatalf("hasAstral(%q) is wrong", got)
		}
	})
}

var jsonSeeds = []string{
	`{}`, `{"a":1}`, ` { "a" : [ 1 , -0.5e+3 , true , false , null , "x" ] , "b" : { "c" : {} } } `,
	`{"\u0061\n":"\ud83d\ude00\ud83d"}`, `{"a":"😀"}`, `{"a":01}`, `{"a":1.}`, `{"a":1e}`, `{"a":-}`, `{"a":"\x"}`,
	"{\"a\":\"\n\"}", `{"a":1,}`, `{,}`, `{"a"}`, `{"a":[}`, `{"a":[1,]}`, `{} x`, `{"a":tru}`, `[[[[]]]]`, `"s"`, `1e999`, ``,
	`{"content":"hello there, everybody","target":"*","rid":"room1","from":"alice"}`, "{\"a\":\"\xed\xa0\xbd\xed\xb8\x80\"}", `-0`, `{"a":1,"a":2}`,
	`{"a":"0123456789\"abcdef\\0123456\u001f"}`, "{\"a\":\"01234567\x1f\"}", `nul`, `{"k":1e5}`, `[1 2]`, `"\uD800\u0041"`,
}

// jsonDepth counts the containers open at once in valid JSON.
func jsonDepth(b []byte) (deepest int) {
	dec := json.NewDecoder(bytes.NewReader(b))
	for depth := 0; ; {
		token, err := dec.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

// FuzzScanObject holds the scanner against encoding/json: it accepts the same objects, up to
// the depth limit, and finds the same members in them.
func FuzzScanObject(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	f.Add([]byte(strings.Repeat(`{"a":`, maxJSONDepth) + "1" + strings.Repeat("}", maxJSONDepth)))
	f.Add([]byte(strings.Repeat(`{"a":`, maxJSONDepth) + "{}" + strings.Repeat("}", maxJSONDepth)))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = NormalizeUTF8(b)
		valid := json.Valid(b)
		if valid && jsonDepth(b) > maxJSONDepth {
			if checkJSON(b) != errDepth {
				t.Fatalf("deep %q: %v", b, checkJSON(b))
			}
			return
		}
		if ValidJSON(b) != valid {
			t.Fatalf("%q: valid is %v", b, valid)
		}
		got := map[string]json.RawMessage{}
		o := ScanObject(b)
		for {
			key, raw, ok := o.Next()
			if !ok {
				break
			}
			if !json.Valid(raw) {
				t.Fatalf("%q yields %q", b, raw)
			}
			if s, ok := StringValue(raw); ok {
				var want string
				if err := json.Unmarshal(raw, &want); err != nil || s != want {
					t.Fatalf("%s is %q, want %q, %v", raw, s, want, err)
				}
			}
			got[string(key)] = raw
		}
		var want map[string]json.RawMessage
		err := json.Unmarshal(b, &want)
		if object := err == nil && want != nil; object != (o.Err() == nil) {
			t.Fatalf("%q: %v, want %v", b, o.Err(), err)
		} else if object && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %q, want %q", b, got, want)
		}
	})
}

func FuzzStringRoundTrip(f *testing.F) {
	for _, s := range []string{"", "plain", "a\"b\\c/", "\x00\x1f\b\f\n\r\t\x7f", "é漢😀\U0010FFFF", "\u2028\ufffd", "\xff", "\xed\xa0\xbd\xed\xb8\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := string(NormalizeUTF8([]byte(s)))
		literal := AppendString([]byte("x"), s)[1:]
		if hasAstral(literal) || !ValidJSON(literal) {
			t.Fatalf("%q: literal %s", s, literal)
		}
		if got, ok := StringValue(literal); !ok || got != want {
			t.Fatalf("%q: %s read as %q, %v", s, literal, got, ok)
		}
		var std string
		if err := json.Unmarshal(literal, &std); err != nil || std != want {
			t.Fatalf("%q: encoding/json reads %s as %q, %v", s, literal, std, err)
		}
		plain := appendQuoted(nil, []byte(want), false)
		if canonical := AppendCanonical(nil, plain); !bytes.Equal(canonical, literal) {
			t.Fatalf("%s made canonical is %s, want %s", plain, canonical, literal)
		}
	})
}

// FuzzJSONEngines holds the engine this is built with against encoding/json, for an any and for
// a map. No difference is tolerated in reading but the depth limit, which is ours.
func FuzzJSONEngines(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		text := NormalizeUTF8(bytes.Clone(b))
		if json.Valid(text) && jsonDepth(text) > maxJSONDepth {
			return
		}
		var got, want any
		gotErr, wantErr := Unmarshal(b, &got), json.Unmarshal(text, &want)
		if (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, want %v", b, gotErr, wantErr)
		}
		if gotErr == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %#v, want %#v", b, got, want)
		}
		var gotMap, wantMap map[string]any
		gotErr, wantErr = Unmarshal(b, &gotMap), json.Unmarshal(text, &wantMap)
		if (gotErr == nil) != (wantErr == nil) || gotErr == nil && !reflect.DeepEqual(gotMap, wantMap) {
			t.Fatalf("%q: map %#v, %v, want %#v, %v", b, gotMap, gotErr, wantMap, wantErr)
		}
		if !bytes.Equal(b, before) {
			t.Fatal("input changed")
		}
		if gotErr == nil {
			checkMarshal(t, got)
		}
	})
}

func checkMarshal(t *testing.T, v any) {
	t.Helper()
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	out, err := Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var again any
	if err := json.Unmarshal(out, &again); err != nil || !reflect.DeepEqual(again, v) {
		t.Fatalf("marshalled %s is %#v, %v", out, again, err)
	}
	// The spelling may differ (sonic writes \u0008 for \b, encoding/json escapes U+2028), the
	// order of members may not.
	if !reflect.DeepEqual(jsonTokens(t, out), jsonTokens(t, buf.Bytes())) {
		t.Fatalf("marshalled %s, want %s", out, buf.Bytes())
	}
}

const fuzzDefinitions = `{
	"message Node":{"optional string s":1,"optional Node next":2,"repeated Node kids":3},
	"all":{"optional uInt32 u":1,"optional int32 i":2,"optional float f":3,"optional double d":4,"optional string t":5,
		"repeated uInt32 us":6,"repeated sInt32 ss":7,"repeated float fs":8,"repeated double ds":9,"repeated string ts":10,
		"message In":{"required uInt32 x":1,"optional string y":2},"optional In in":11,"repeated In ins":12,
		"optional Node node":13,"optional bool b":14,"repeated uInt64 bad":15,"optional uInt32 far":2048}}`

func FuzzProtoDecode(f *testing.F) {
	p, err := ParseProtos([]byte(fuzzDefinitions), nil)
	if err != nil {
		f.Fatal(err)
	}
	m := p.Server("all")
	for _, body := range []string{
		`{"u":300,"i":-5,"f":0.5,"d":1e-7,"t":"é😀\u0000"}`, `{"us":[1,128],"ss":[-1],"fs":[1.5],"ds":[2],"ts":["a",""]}`,
		`{"in":{"x":1,"y":"z"},"ins":[{"x":2},{"x":3}],"node":{"s":"a","next":{"kids":[{},{"s":"b"}]}},"far":9007199254740991}`,
	} {
		wire, err := m.AppendEncode(nil, []byte(body), ProtoOptions{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
		f.Add(wire[:len(wire)-1])
	}
	f.Add([]byte("\x30\xff\xff\xff\xff\xff\xff\xff\x0f"))
	f.Add([]byte(`{"u":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		text, err := m.AppendDecode(nil, b)
		if !bytes.Equal(b, before) {
			t.Fatal("input changed")
		}
		if err != nil {
			if text != nil {
				t.Fatalf("%x: output with %v", b, err)
			}
			return
		}
		if !json.Valid(text) || !ValidJSON(text) || hasAstral(text) {
			t.Fatalf("%x decodes to %s", b, text)
		}
		if len(text) > 64+32*len(b) {
			t.Fatalf("%d bytes of JSON from %d", len(text), len(b))
		}
		// A null was NaN or infinite, which JSON cannot say; an empty array writes nothing.
		if bytes.Contains(text, []byte("null")) || bytes.Contains(text, []byte("[]")) {
			return
		}
		for _, opts := range []ProtoOptions{{}, {CESU8: true}} {
			wire, err := m.AppendEncode(nil, text, opts)
			if err != nil {
				continue // a required field was not there
			}
			again, err := m.AppendDecode(nil, wire)
			if err != nil || !bytes.Equal(again, text) {
				t.Fatalf("%s comes back as %s, %v", text, again, err)
			}
		}
	})
}
