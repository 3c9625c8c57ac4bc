package codec

import (
	"strings"
	"testing"
)

const chatBody = `{"rid":"room1","content":"hello there, how are you","from":"alice","target":"*"}`

func TestScanObjectYieldsMembers(t *testing.T) {
	in := []byte(" {\"a\" : 1 ,\n\"\\u0062\\n\":[ {} ],\"a\":\"x\\\"\", \"\":{ } } ")
	var got []string
	o := ScanObject(in)
	for {
		key, value, ok := o.Next()
		if !ok {
			break
		}
		got = append(got, string(key)+"="+string(value))
	}
	if want := "a=1|b\n=[ {} ]|a=\"x\\\"\"|={ }"; o.Err() != nil || strings.Join(got, "|") != want {
		t.Errorf("%q, %v", got, o.Err())
	}
}

func TestScanObjectErrors(t *testing.T) {
	for in, want := range map[string]error{
		"": errSyntax, " ": errSyntax, "[]": errNotObject, "null": errNotObject, `"{"`: errNotObject,
		"{": errSyntax, "{}}": errSyntax, `{"a":1}x`: errSyntax, `{"a":1`: errSyntax, `{"a":1,`: errSyntax,
		`{"a":1,}`: errSyntax, `{"a":[1,{"b":"\q"}]}`: errSyntax, `{"a`: errSyntax, `{"a\`: errSyntax, `{"a":"\u12`: errSyntax,
		strings.Repeat(`{"a":`, 129): errDepth, `{"a":` + strings.Repeat("[", 100_000): errDepth, "{}": nil, " { } ": nil,
	} {
		o := ScanObject([]byte(in))
		for {
			if _, _, ok := o.Next(); !ok {
				break
			}
		}
		if o.Err() != want {
			t.Errorf("%.40q: %v, want %v", in, o.Err(), want)
		}
		if _, _, ok := o.Next(); ok {
			t.Errorf("%.40q goes on after its end", in)
		}
	}
}

// Appending to what is yielded must not write into the body.
func TestScanObjectYieldsFullSlices(t *testing.T) {
	in := []byte(`{"a":1,"b":2}`)
	o := ScanObject(in)
	key, value, _ := o.Next()
	_, _ = append(key, 'X'), append(value, 'X')
	if string(in) != `{"a":1,"b":2}` {
		t.Errorf("%s", in)
	}
}

func TestStringValueRefusesOtherText(t *testing.T) {
	for _, in := range []string{``, `"`, `1`, `null`, `"a`, `a"`, `"a"b"`, `"\"`, "\"\x01\"", `"a" `, `"\ud83"`} {
		if s, ok := StringValue([]byte(in)); ok {
			t.Errorf("%s is %q", in, s)
		}
	}
	for in, want := range map[string]string{
		`"\ud83d\ude00"`: "😀", `"\ud83d"`: "\ufffd", `"\ude00\ud83d"`: "\ufffd\ufffd", `"\ud83d\n"`: "\ufffd\n",
		`"\ud83d\u0041"`: "\ufffdA", `"\/\b\f\n\r\t\"\\"`: "/\b\f\n\r\t\"\\", `"\ud83d\ud83d\ude00"`: "\ufffd😀",
	} {
		if s, ok := StringValue([]byte(in)); !ok || s != want {
			t.Errorf("%s is %q, %v", in, s, ok)
		}
	}
}

func TestAppendStringWritesLikeStringify(t *testing.T) {
	got := string(AppendString(nil, "\x00\b\t\n\v\f\r\x1f \"\\/<>&\x7f\u2028é😀"))
	if want := `"\u0000\b\t\n\u000b\f\r\u001f \"\\/<>&` + "\x7f\u2028é" + `\ud83d\ude00"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAppendCanonical(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"é"}`:        `{"a":"é"}`,
		`{"😀":["😀a","😀"]}`: `{"\ud83d\ude00":["\ud83d\ude00a","\ud83d\ude00"]}`,
		"\"\xff\"":         "\"\ufffd\"",
	} {
		if got := string(AppendCanonical([]byte("x"), []byte(in))); got != "x"+want {
			t.Errorf("%s became %s", in, got)
		}
	}
}

func TestScanningDoesNotAllocate(t *testing.T) {
	in, dst := []byte(chatBody), make([]byte, 0, 256)
	for name, f := range map[string]func(){
		"scan":      func() { scanAll(in) },
		"valid":     func() { ValidJSON(in) },
		"canonical": func() { AppendCanonical(dst, in) },
		"string":    func() { AppendString(dst, "hello\n😀") },
	} {
		if raceEnabled && name == "canonical" {
			continue // what it keeps in a pool is thrown away at random
		}
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func scanAll(b []byte) (members int, err error) {
	for o := ScanObject(b); ; members++ {
		if _, _, ok := o.Next(); !ok {
			return members, o.Err()
		}
	}
}

func BenchmarkScanObject(b *testing.B) {
	in := []byte(chatBody)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if n, err := scanAll(in); n != 4 || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkAppendString(b *testing.B) {
	dst := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		AppendString(dst, "hello there, how are you")
	}
}

func BenchmarkAppendCanonical(b *testing.B) {
	in, dst := []byte(chatBody), make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		AppendCanonical(dst, in)
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	in := []byte(chatBody)
	b.Run("engine="+JSONEngine(), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var v struct{ Rid, Content, From, Target string }
			if err := Unmarshal(in, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
