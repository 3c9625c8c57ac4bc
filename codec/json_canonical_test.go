package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestAppendCanonicalForStrictParsers(t *testing.T) {
	long := "0." + strings.Repeat("1", maxNumber)
	for in, want := range map[string]string{
		`1e400`: `null`, `-1e400`: `null`, `[1e309,1.8e308,1.7e308]`: `[null,null,1.7e308]`, `{"a":{"b":[1E+999]}}`: `{"a":{"b":[null]}}`,
		`1` + strings.Repeat("0", 400): `null`, `0e99999`: `0`, `1e-99999`: `0`, long: `0.1111111111111111`, `1e00000005`: `100000`,
		`1e5`: `1e5`, `-0`: `-0`, `12345678901234567890`: `1.2345678901234567e+19`, ` [ 1 , 2 ] `: ` [ 1 , 2 ] `,
		`[9223372036854775807,-9223372036854775808]`: `[9223372036854775807,-9223372036854775808]`, `9223372036854775808`: `9.223372036854776e+18`,
		`[-9223372036854775809]`: `[-9.223372036854776e+18]`, `123456789012345678901234567890`: `1.2345678901234568e+29`, `1` + strings.Repeat("0", 20) + "." + strings.Repeat("0", maxNumber): `1e+20`,
		`{"a":1,"b":2,"a":3}`: `{"a":3,"b":2}`, `{"a":1,"\u0061":2}`: `{"\u0061":2}`, `{ "a" : 1 , "a" : [ ] }`: `{"a":[]}`,
		`{"a":{"x":1,"x":2},"b":[{"y":1,"y":{"z":1,"z":2}}],"a":{"x":3,"x":4,"w":5}}`: `{"a":{"x":4,"w":5},"b":[{"y":{"z":2}}]}`,
		`{"2":1,"1":2,"2":3}`: `{"2":3,"1":2}`, `{"":1,"":2}`: `{"":2}`, `{"__proto__":1,"__proto__":2}`: `{"__proto__":2}`,
		`{"😀":1,"\ud83d\ude00":2}`: `{"\ud83d\ude00":2}`, `{"a":"😀","a":"😀😀"}`: `{"a":"\ud83d\ude00\ud83d\ude00"}`,
		`"\ud800"`: `"\ud800"`, `{"\ud800":"\udfff x"}`: `{"\ud800":"\udfff x"}`, `true`: `true`, `[null,false,"1e400"]`: `[null,false,"1e400"]`,
		`{"a":1,"a"`: `{"a":1,"a"`, `[1e400`: `[1e400`, `[1e400] x`: `[1e400] x`,
	} {
		if got := string(AppendCanonical([]byte("x"), []byte(in))); got != "x"+want {
			t.Errorf("%s\nbecame %s\nwant   %s", in, got[1:], want)
		}
		if got := IsCanonical([]byte(in)); got != (in == want) && json.Valid([]byte(in)) {
			t.Errorf("%s: IsCanonical is %v", in, got)
		}
	}
}

// Of many members, too, the last of equal ones counts, in the first one's place.
func TestAppendCanonicalOfManyMembers(t *testing.T) {
	var in, want []string
	for i := range 3000 {
		in = append(in, fmt.Sprintf(`"k%d":%d`, i%1000, i))
	}
	for i := range 1000 {
		want = append(want, fmt.Sprintf(`"k%d":%d`, i, i+2000))
	}
	if got, want := string(AppendCanonical(nil, []byte("{"+strings.Join(in, ",")+"}"))), "{"+strings.Join(want, ",")+"}"; got != want {
		t.Errorf("%.80s…", got)
	}
	if in := []byte("{" + strings.Join(want, ",") + "}"); !IsCanonical(in) {
		t.Error("1000 members that all differ need a change")
	}
}

// The longest message that is meant to be slow is not: equal keys at all levels and in great number, numbers that are hard to read.
func TestAppendCanonicalIsNotQuadratic(t *testing.T) {
	const size = 256 << 10
	filler := strings.Repeat("x", size/2)
	for name, in := range map[string]string{
		"equal keys":       `{` + strings.Repeat(`"a":1,`, size/6) + `"a":1}`,
		"different keys":   `{` + manyKeys(size) + `"k0":1}`,
		"levels":           strings.Repeat(`{"a":1,"a":`, 127) + `"` + filler + `"` + strings.Repeat("}", 127),
		"levels, first":    strings.Repeat(`{"a":`, 127) + `"` + filler + `"` + strings.Repeat(`,"a":1}`, 127),
		"hard numbers":     `[` + strings.Repeat(`1.00000000000000011102230246251565404e0,`, size/40) + `1e400]`,
		"long numbers":     `[` + strings.Repeat("1."+strings.Repeat("1", 100)+"e-300,", size/108) + `1e400]`,
		"beyond":           `[` + strings.Repeat(`1e308,`, size/6) + `1e400]`,
		"a number":         strings.Repeat("1", size),
		"escaped keys":     `{` + strings.Repeat(`"\u0061":1,`, size/11) + `"a":1}`,
		"one object, deep": strings.Repeat(`[`, 126) + `{` + strings.Repeat(`"a":{"b":1,"b":2},`, size/18) + `"a":1}` + strings.Repeat(`]`, 126),
	} {
		var out []byte
		took := time.Hour
		for range 5 { // what is slow is slow each time; a busy machine is not
			began := time.Now()
			out = AppendCanonical(out[:0], []byte(in))
			if took = min(took, time.Since(began)); took < time.Second {
				break
			}
		}
		t.Logf("%s: %v", name, took)
		if took > time.Second { // a hundred times what it takes
			t.Errorf("%s: %v", name, took)
		}
		if !json.Valid(out) {
			t.Errorf("%s: %.80s…", name, out)
		}
	}
}

func manyKeys(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, `"k%d":1,`, i)
	}
	return b.String()
}

func TestCanonicalDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("what IsCanonical keeps in a pool is thrown away at random")
	}
	for _, in := range []string{`"hello"`, `{"a":{"b":[1,2.5e3,{"c":"d","e":null}]},"f":true}`, `12`} {
		raw := []byte(in)
		if n := testing.AllocsPerRun(100, func() {
			if !IsCanonical(raw) {
				t.Fatal(in)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", in, n)
		}
	}
}

// parsed reads JSON token by token with encoding/json and makes of it what JSON.parse and JSON.stringify would, but for the order of
// array indices. It fails where strict is set and there is something that strict parsers refuse.
func parsed(d *json.Decoder, strict bool) (string, error) {
	tok, err := d.Token()
	if err != nil {
		return "", err
	}
	switch v := tok.(type) {
	case json.Number:
		f, err := strconv.ParseFloat(string(v), 64)
		switch {
		case errors.Is(err, strconv.ErrRange):
			if strict {
				return "", err
			}
			return "null", nil
		case len(v) > maxNumber && strict:
			return "", fmt.Errorf("a number of %d bytes", len(v))
		}
		return string(appendJSONFloat(nil, f)), err
	case json.Delim:
		var keys, list []string
		values := map[string]string{}
		for d.More() {
			key := ""
			if v == '{' {
				t, err := d.Token()
				if err != nil {
					return "", err
				}
				key = t.(string)
				if _, twice := values[key]; !twice {
					keys = append(keys, key)
				} else if strict {
					return "", fmt.Errorf("%q twice", key)
				}
			}
			s, err := parsed(d, strict)
			if err != nil {
				return "", err
			}
			values[key], list = s, append(list, s)
		}
		if _, err := d.Token(); err != nil {
			return "", err
		}
		if v == '[' {
			return "[" + strings.Join(list, ",") + "]", nil
		}
		for i, key := range keys {
			name, _ := json.Marshal(key)
			keys[i] = string(name) + ":" + values[key]
		}
		return "{" + strings.Join(keys, ",") + "}", nil
	}
	b, err := json.Marshal(tok)
	return string(b), err
}

func parsedWhole(b []byte, strict bool) (string, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	s, err := parsed(d, strict)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return s, nil
		}
		err = errors.New("more than one value")
	}
	return "", err
}

// Whatever valid JSON becomes, encoding/json reads it, finds nothing that a strict parser refuses, and it means what JavaScript would
// have made of it.
func FuzzAppendCanonical(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	for _, s := range []string{`{"a":1,"a":{"b":1e400,"b":2},"\u0061":[1e999]}`, `{"\ud800":1,"\ud801":2}`, `[1e308,1e309,0e9999,123456789012345678901234567890]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		in = NormalizeUTF8(in)
		if !ValidJSON(in) || len(in) > 1<<16 {
			return
		}
		before := bytes.Clone(in)
		out := AppendCanonical(nil, in)
		if !bytes.Equal(in, before) {
			t.Fatal("input changed")
		}
		var v any
		if err := json.Unmarshal(out, &v); err != nil {
			t.Fatalf("%q became %q: %v", in, out, err)
		}
		want, err := parsedWhole(in, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parsedWhole(out, true)
		if err != nil || got != want {
			t.Fatalf("%q became %q: %v\ngot  %s\nwant %s", in, out, err, got, want)
		}
		if !IsCanonical(out) || !bytes.Equal(AppendCanonical(nil, out), out) {
			t.Fatalf("%q is not canonical yet", out)
		}
		if IsCanonical(in) && !bytes.Equal(in, out) {
			t.Fatalf("%q was changed to %q", in, out)
		}
		var fromJS, fromUs any
		if json.Unmarshal([]byte(want), &fromJS) != nil || json.Unmarshal(out, &fromUs) != nil || !reflect.DeepEqual(fromJS, fromUs) {
			t.Fatalf("%q and %q differ", want, out)
		}
	})
}

func BenchmarkIsCanonical(b *testing.B) {
	for name, in := range map[string]string{
		"string": `"hello there, how are you"`, "object": `{"type":"move","x":12.5,"y":-3,"path":[[1,2],[3,4]],"by":{"id":17,"name":"alice"}}`,
	} {
		b.Run("content="+name, func(b *testing.B) {
			raw := []byte(in)
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				if !IsCanonical(raw) {
					b.Fatal(in)
				}
			}
		})
	}
}
