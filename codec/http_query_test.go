package codec

import (
	"bytes"
	"net/url"
	"testing"
)

func TestQueryValue(t *testing.T) {
	for _, c := range []struct {
		query, name, want string
		ok                bool
	}{
		{"", "a", "", false},
		{"EIO=3&transport=polling&t=Q8&b64=1", "transport", "polling", true},
		{"EIO=3&transport=polling", "EIO", "3", true},
		{"EIO=3", "eio", "", false},
		{"EIO=3", "EI", "", false},
		{"EI=3", "EIO", "", false},
		{"disconnect", "disconnect", "", true},
		{"a&b=", "b", "", true},
		{"a=1&a=2", "a", "1", true},
		{"&&=x&a=b=c", "a", "b=c", true},
		{"=x", "", "x", true},
		{"&", "", "", false},
		{"a=1;b=2", "b", "", false},
		{"d=%e4%BD%a0+%2B%26", "d", "你 +&", true},
		{"%64=x", "d", "x", true},
		{"a+b=x", "a b", "x", true},
		{"a=%", "a", "%", true},
		{"a=%4", "a", "%4", true},
		{"a=%4g%g4%%41", "a", "%4g%g4%A", true},
		{"a=%00%ff", "a", "\x00\xff", true},
	} {
		if got, ok := QueryValue([]byte(c.query), c.name); string(got) != c.want || ok != c.ok {
			t.Errorf("%s of %s: got %q, %v", c.name, c.query, got, ok)
		}
	}
}

func TestQueryValueAliasesWhatNeedsNoDecoding(t *testing.T) {
	query := []byte("EIO=3&transport=websocket&sid=abc")
	if n := testing.AllocsPerRun(100, func() { QueryValue(query, "transport") }); n != 0 {
		t.Errorf("%v allocs", n)
	}
	value, _ := QueryValue(query, "transport")
	_ = append(value, 'x')
	if string(query) != "EIO=3&transport=websocket&sid=abc" {
		t.Errorf("appending to the value changed the query: %s", query)
	}
}

// FuzzQueryValue: net/url reads the same wherever it accepts the query.
func FuzzQueryValue(f *testing.F) {
	for _, q := range []string{"", "EIO=3&transport=polling", "a&b=", "&&=x&a=b=c", "d=%e4%BD%a0+%2B%26", "%64=x", "a=%", "a;b=1&d=%zz"} {
		f.Add([]byte(q), "a")
		f.Add([]byte(q), "d")
		f.Add([]byte(q), "")
	}
	f.Fuzz(func(t *testing.T, query []byte, name string) {
		before := bytes.Clone(query)
		value, ok := QueryValue(query, name)
		if !bytes.Equal(query, before) || len(value) > len(query) || !ok && value != nil {
			t.Fatalf("%q of %q: %q, %v", name, before, value, ok)
		}
		values, err := url.ParseQuery(string(query))
		if err != nil {
			return
		}
		if values.Has(name) != ok || values.Get(name) != string(value) {
			t.Fatalf("%q of %q: %q, %v, net/url reads %q", name, query, value, ok, values[name])
		}
	})
}
