package codec

import (
	"bufio"
	"bytes"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
)

var chunkedHead = HTTPHead{ContentLength: -1, Chunked: true}

// What is refused, the first byte that shows it, and how.
var bodyRefusals = []struct {
	name, body string
	at, status int
}{
	{"no size", "\r\n", 0, 400},
	{"only an extension", ";a\r\n", 0, 400},
	{"no digit", "g\r\n", 0, 400},
	{"sign", "+1\r\n", 0, 400},
	{"minus", "-1\r\n", 0, 400},
	{"0x", "0x1\r\n", 1, 400},
	{"underscore", "1_0\r\n", 1, 400},
	{"white space before a size", " 1\r\n", 0, 400},
	{"white space behind a size", "1 \r\n", 1, 400},
	{"tab behind a size", "1\t\r\n", 1, 400},
	{"white space before an extension", "1 ;a\r\n", 1, 400},
	{"bare line feed behind a size", "1\nx\r\n0\r\n\r\n", 1, 400},
	{"bare line feed in an extension", "1;a\nx\r\n", 3, 400},
	{"bare carriage return in an extension", "1;a\rb\r\n", 4, 400},
	{"control character in an extension", "1;a\x00\r\n", 3, 400},
	{"bare carriage return behind a size", "1\rx\r\n", 2, 400},
	{"data too long for its size", "1\r\nxy\r\n", 4, 400},
	{"bare line feed behind data", "1\r\nx\n0\r\n\r\n", 4, 400},
	{"bare carriage return behind data", "1\r\nx\r0\r\n\r\n", 5, 400},
	{"bare line feed at the end", "0\r\n\n", 3, 400},
	{"bare line feed behind a trailer", "0\r\na: b\n\r\n", 7, 400},
	{"bare carriage return in a trailer", "0\r\na: b\rc\r\n", 8, 400},
	{"trailer without a name", "0\r\n: b\r\n\r\n", 3, 400},
	{"trailer without a colon", "0\r\nab\r\n\r\n", 5, 400},
	{"white space in a trailer's name", "0\r\na : b\r\n\r\n", 4, 400},
	{"folded trailer", "0\r\na: b\r\n c\r\n\r\n", 9, 400},
	{"17 digits", "00000000000000001\r\n", 16, 400},
	{"longer than the limit", "65\r\n", 1, 413},
	{"longer than any limit", "fffffffffffffffff", 1, 413},
	{"together longer than the limit", "60\r\n" + strings.Repeat("x", 96) + "\r\n5\r\n", 102, 413},
	{"extension too long", "1;" + strings.Repeat("a", 1024), 1025, 413},
	{"trailers too long", "0\r\n" + strings.Repeat("a:b\r\n", 400), 3 + 341*5 + 1, 413},
}

// bodyLimit is the limit of all of them.
const bodyLimit = 100

func TestHTTPBodyRefusesWhatMayBeReadInTwoWays(t *testing.T) {
	for _, c := range bodyRefusals {
		var s HTTPBody
		if n, done, err := s.End(&chunkedHead, []byte(c.body[:c.at]), bodyLimit); n != 0 || done || err != nil {
			t.Errorf("%s: %d, %v, %v before the byte that is wrong", c.name, n, done, err)
		}
		n, done, err := s.End(&chunkedHead, []byte(c.body[:c.at+1]), bodyLimit)
		if n != 0 || done || err == nil || err.Status != c.status {
			t.Errorf("%s: got %d, %v, %v, want status %d", c.name, n, done, err, c.status)
		}
	}
}

// Whole bodies, and what they hold.
var chunkedBodies = []struct{ wire, want string }{
	{"0\r\n\r\n", ""},
	{"5\r\nhello\r\n0\r\n\r\n", "hello"},
	{"5\r\nhello\r\n6\r\n world\r\n000\r\n\r\n", "hello world"},
	{"a\r\n0\r\n\r\n12345\r\n0\r\n\r\n", "0\r\n\r\n12345"},
	{"0A\r\n0123456789\r\n0\r\n\r\n", "0123456789"},
	{"64\r\n" + strings.Repeat("x", 100) + "\r\n0\r\n\r\n", strings.Repeat("x", 100)},
	{"1;a\r\nx\r\n0;b=\"c\"\r\n\r\n", "x"},
	{"1;\r\nx\r\n0\r\n\r\n", "x"},
	{"1\r\nx\r\n0\r\nA: b\r\nC:\t\r\nd:\xe9\r\n\r\n", "x"},
	{"0000000000000001\r\nx\r\n0\r\n\r\n", "x"},
	{strings.Repeat("1\r\nx\r\n", 100) + "0\r\n\r\n", strings.Repeat("x", 100)},
}

func TestHTTPBodyFindsTheEnd(t *testing.T) {
	for _, c := range chunkedBodies {
		for _, step := range []int{1, 3, 1 << 20} {
			n := bodyFeed(t, []byte(c.wire+"GET /"), step, bodyLimit)
			if got := HTTPBodyBytes(&chunkedHead, []byte(c.wire)[:n], []byte("dst")); n != len(c.wire) || string(got) != "dst"+c.want {
				t.Errorf("%q in steps of %d: took %d, holds %q", c.wire, step, n, got)
			}
		}
	}
}

// bodyFeed gives a body to an HTTPBody in steps, at another address each time, and returns where it
// ends, 0 if it is incomplete and -1 if it is refused.
func bodyFeed(t testing.TB, wire []byte, step, limit int) int {
	t.Helper()
	var s HTTPBody
	for end := 0; ; end = min(end+step, len(wire)) {
		n, done, err := s.End(&chunkedHead, bytes.Clone(wire[:end]), limit)
		switch {
		case err != nil:
			if n != 0 || done || err.Status != 400 && err.Status != 413 {
				t.Fatalf("%q: %d, %v, %v", wire[:end], n, done, err)
			}
			return -1
		case done:
			if again, done, err := s.End(&chunkedHead, wire, limit); again != n || !done || err != nil || n > end {
				t.Fatalf("%q: ends at %d, then at %d, %v, %v", wire[:end], n, again, done, err)
			}
			return n
		case n != 0:
			t.Fatalf("%q: %d bytes of an incomplete body", wire[:end], n)
		case end == len(wire):
			return 0
		}
	}
}

func TestHTTPBodyBoundsTheWire(t *testing.T) {
	// With limit 1000, chunks of one byte are 6 bytes each; the body may have 1000, the wire 5024
	// before the last of them starts.
	wire := []byte(strings.Repeat("1\r\nx\r\n", 1000))
	if n := bodyFeed(t, append(wire, "0\r\n\r\n"...), 1<<20, 1000); n != -1 {
		t.Errorf("took %d", n)
	}
	if n := bodyFeed(t, append(wire[:800*6:800*6], "0\r\n\r\n"...), 1<<20, 1000); n != 800*6+5 {
		t.Errorf("took %d", n)
	}
}

func TestHTTPBodyWithoutChunks(t *testing.T) {
	for _, c := range []struct {
		length      int64
		have, limit int
		n           int
		done        bool
		status      int
	}{
		{-1, 10, 100, 0, true, 0},
		{0, 10, 100, 0, true, 0},
		{5, 4, 100, 0, false, 0},
		{5, 5, 100, 5, true, 0},
		{5, 9, 100, 5, true, 0},
		{100, 100, 100, 100, true, 0},
		{101, 0, 100, 0, false, 413},
		{math.MaxInt64, 0, 100, 0, false, 413},
		{math.MaxInt64, 0, math.MaxInt, 0, false, 0},
	} {
		h := HTTPHead{ContentLength: c.length}
		var s HTTPBody
		wire := make([]byte, c.have)
		n, done, err := s.End(&h, wire, c.limit)
		if n != c.n || done != c.done || (err != nil) != (c.status != 0) || err != nil && err.Status != c.status {
			t.Errorf("length %d, %d bytes, limit %d: %d, %v, %v", c.length, c.have, c.limit, n, done, err)
		}
		if got := HTTPBodyBytes(&h, wire[:n], nil); len(got) != n || n > 0 && &got[0] != &wire[0] {
			t.Errorf("body of %d bytes does not alias its %d", len(got), n)
		}
	}
}

func TestHTTPBodyWithoutALimit(t *testing.T) {
	wire := []byte("5\r\nhello\r\n0\r\n\r\n")
	if n := bodyFeed(t, wire, 1, math.MaxInt); n != len(wire) {
		t.Errorf("took %d", n)
	}
	var s HTTPBody
	if n, done, err := s.End(&chunkedHead, []byte("7fffffffffffffff\r\nx"), math.MaxInt); n != 0 || done || err != nil {
		t.Errorf("the longest chunk: %d, %v, %v", n, done, err)
	}
	s = HTTPBody{}
	if _, _, err := s.End(&chunkedHead, []byte("8000000000000000\r\nx"), math.MaxInt); err != errBodyTooLong {
		t.Errorf("a longer chunk: %v", err)
	}
}

// FuzzHTTPBody: the answer does not depend on how the bytes are cut, and of what is accepted net/http
// reads the same body and leaves the same rest.
func FuzzHTTPBody(f *testing.F) {
	for _, c := range chunkedBodies {
		f.Add([]byte(c.wire), uint16(bodyLimit), uint8(3))
		f.Add([]byte(c.wire+c.wire), uint16(10), uint8(7))
	}
	for _, c := range bodyRefusals {
		f.Add([]byte(c.body), uint16(bodyLimit), uint8(2))
		f.Add([]byte("1\r\nx\r\n"+c.body), uint16(bodyLimit), uint8(2))
	}
	f.Fuzz(func(t *testing.T, wire []byte, limit16 uint16, step uint8) {
		limit := int(limit16)
		n := bodyFeed(t, wire, 1<<30, limit)
		for _, step := range []int{1, int(step) + 1} {
			if got := bodyFeed(t, wire, step, limit); got != n {
				t.Fatalf("%q: %d in steps of %d, %d at once", wire, got, step, n)
			}
		}
		HTTPBodyBytes(&chunkedHead, wire, nil) // whatever it is
		if n <= 0 {
			return
		}
		before := bytes.Clone(wire)
		body := HTTPBodyBytes(&chunkedHead, wire[:n], nil)
		if !bytes.Equal(wire, before) || len(body) > limit || n > 5*limit+freeWireBytes+2*maxBodyExtras+64 {
			t.Fatalf("%q: body of %d bytes, limit %d", before, len(body), limit)
		}
		in := bufio.NewReaderSize(io.MultiReader(strings.NewReader("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(wire)), 1<<16)
		r, err := http.ReadRequest(in)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(theirs, body) {
			t.Fatalf("%q: net/http reads %q, %v, we %q", wire[:n], theirs, err, body)
		}
		if rest, _ := io.ReadAll(in); !bytes.Equal(rest, wire[n:]) {
			t.Fatalf("%q: net/http leaves %q, we %q", wire, rest, wire[n:])
		}
	})
}

func BenchmarkHTTPBody(b *testing.B) {
	wire := []byte("400\r\n" + strings.Repeat("x", 1024) + "\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n")
	dst := make([]byte, 0, 2048)
	b.Run("arrival=whole", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(wire)))
		for b.Loop() {
			var s HTTPBody
			n, done, err := s.End(&chunkedHead, wire, 2048)
			if !done || err != nil {
				b.Fatal(n, done, err)
			}
			HTTPBodyBytes(&chunkedHead, wire[:n], dst)
		}
	})
	b.Run("arrival=bytewise", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(wire)))
		for b.Loop() {
			var s HTTPBody
			for end := range len(wire) + 1 {
				if _, _, err := s.End(&chunkedHead, wire[:end], 2048); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
