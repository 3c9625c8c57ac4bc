package codec

import (
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"
)

// Text a lenient engine would pass on to every member of a room.
func TestUnmarshalRejects(t *testing.T) {
	for _, in := range []string{
		"", " ", `{"a":1} x`, `{"a":1}}`, `{"a":"\x"}`, "{\"a\":\"\n\"}", "{\"a\":\"\x00\"}", `{"a":01}`, `{"a" 1}`, `{"a":[1}`,
		`{"a":.5}`, `{"a":+1}`, `{'a':1}`, `{a:1}`, `{"a":1,}`, `[1,]`, `NaN`, `{"a":"\ud8"}`, `{"a":tru}`, `{"b":{"a":"\x"}}`, "\ufeff{}",
	} {
		var v any
		if err := Unmarshal([]byte(in), &v); !errors.Is(err, errSyntax) {
			t.Errorf("%q: %v, %v", in, v, err)
		}
		var s struct{ A string }
		if err := Unmarshal([]byte(in), &s); !errors.Is(err, errSyntax) {
			t.Errorf("%q into a struct: %v, %v", in, s, err)
		}
	}
}

func TestUnmarshalDepth(t *testing.T) {
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	var v any
	if err := Unmarshal(nested(maxJSONDepth), &v); err != nil {
		t.Error(err)
	}
	for _, n := range []int{maxJSONDepth + 1, 100_000, 5_000_000} {
		if err := Unmarshal(nested(n), &v); err != errDepth {
			t.Errorf("%d: %v", n, err)
		}
		if err := Unmarshal([]byte(strings.Repeat(`{"a":`, n)), &v); err != errDepth {
			t.Errorf("%d: %v", n, err)
		}
	}
}

func TestUnmarshalKeepsNothingOfItsInput(t *testing.T) {
	in := []byte(`{"key":"value","raw":{"x":"y"},"list":["element"],"n":123}`)
	var s struct {
		Key  string
		Raw  json.RawMessage
		List []string
		N    json.Number
	}
	var v any
	if err := errors.Join(Unmarshal(in, &s), Unmarshal(in, &v)); err != nil {
		t.Fatal(err)
	}
	for i := range in {
		in[i] = '#'
	}
	out, err := Marshal([]any{s.Key, s.Raw, s.List, s.N, v})
	want := `["value",{"x":"y"},["element"],123,{"key":"value","list":["element"],"n":123,"raw":{"x":"y"}}]`
	if err != nil || string(out) != want {
		t.Errorf("%s, %v", out, err)
	}
}

func TestUnmarshalReadsCESU8(t *testing.T) {
	var v map[string]string
	if err := Unmarshal([]byte("{\"a\":\"\xed\xa0\xbd\xed\xb8\x80\xff\"}"), &v); err != nil || v["a"] != "😀\ufffd" {
		t.Errorf("%q, %v", v, err)
	}
}

func TestMarshal(t *testing.T) {
	out, err := Marshal(map[string]any{"b": "<&>😀", "a": []int(nil), "c": json.RawMessage(` [ 1 ] `)})
	if err != nil || string(out) != `{"a":null,"b":"<&>😀","c":[1]}` {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := Marshal(make(chan int)); err == nil {
		t.Error("marshalled a Go channel")
	}
	if out, err := Marshal("a\xff"); err != nil || string(out) != `"a\ufffd"` && string(out) != "\"a\ufffd\"" {
		t.Errorf("%s, %v", out, err)
	}
}

func TestJSONEngine(t *testing.T) {
	t.Log(JSONEngine())
	switch name := JSONEngine(); {
	case name == "std":
	case runtime.GOARCH == "amd64" && name == "sonic-jit":
	case runtime.GOARCH == "arm64" && name == "sonic-native":
	default:
		t.Error(name)
	}
}
