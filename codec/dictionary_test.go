package codec

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
)

func TestDictionarySortsLikeJavaScript(t *testing.T) {
	d := NewDictionary([]string{"b", "a.\uffff", "a.😀", "B", "a", "a.\ue000", "é"}, []string{"z", "c"})
	want := []string{"B", "a", "a.😀", "a.\ue000", "a.\uffff", "b", "é", "z", "c"}
	if !slices.Equal(d.routes, want) {
		t.Errorf("%q, want %q", d.routes, want)
	}
	if got := d.AppendHandshake(nil); hasAstral(got) || !ValidJSON(append(append([]byte("{"), got...), '}')) {
		t.Errorf("handshake %s", got)
	}
}

func TestDictionaryNumbersDuplicatesTwice(t *testing.T) {
	d := NewDictionary([]string{"a.b.c"}, []string{"onChat", "a.b.c", "7"})
	if code, _ := d.Code("a.b.c"); code != 3 {
		t.Errorf("sent as %d", code)
	}
	for _, code := range []uint16{1, 3} {
		if route, _ := d.Route(code); route != "a.b.c" {
			t.Errorf("%d is %q", code, route)
		}
	}
	if got := string(d.AppendHandshake([]byte("x"))[:50]); got != `x"dict":{"7":4,"a.b.c":3,"onChat":2},"routeToCode"` {
		t.Error(got)
	}
}

func TestDictionaryStopsAtItsLastCode(t *testing.T) {
	user := make([]string, 70000)
	for i := range user {
		user[i] = fmt.Sprintf("r%d", i)
	}
	d := NewDictionary(nil, user)
	if code, ok := d.Code("r65534"); !ok || code != 65535 {
		t.Error(code, ok)
	}
	if _, ok := d.Code("r65535"); ok {
		t.Error("more than two bytes")
	}
	if _, ok := d.Route(0); ok {
		t.Error("route 0")
	}
}

func TestNilDictionaryKnowsNothing(t *testing.T) {
	var d *Dictionary
	_, code := d.Code("a")
	_, route := d.Route(1)
	if code || route || d.Version() != "" || len(d.AppendHandshake(nil)) != 0 {
		t.Error("it knows something")
	}
}

func TestEmptyDictionaryHandshake(t *testing.T) {
	var v struct {
		Dict, RouteToCode, CodeToRoute map[string]any
		DictVersion                    string
	}
	text := append(NewDictionary(nil, nil).AppendHandshake([]byte("{")), '}')
	if err := json.Unmarshal(text, &v); err != nil || v.Dict == nil || v.CodeToRoute == nil || v.DictVersion == "" {
		t.Errorf("%s: %v", text, err)
	}
}

func TestParseUserDictionary(t *testing.T) {
	for in, want := range map[string][]string{
		`["onChat", "on\u0041dd"]`: {"onChat", "onAdd"},
		"\xef\xbb\xbf [\"a\"]\n":   {"a"},
		`[]`:                       nil,
		`{}`:                       nil,
		`{"a":1}`:                  nil,
		``:                         nil,
	} {
		if got, err := ParseUserDictionary([]byte(in)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{`["a",1]`, `"a"`, `["a"`, `null`, `["a"] x`} {
		if got, err := ParseUserDictionary([]byte(in)); err == nil {
			t.Errorf("%s: %q", in, got)
		}
	}
}
