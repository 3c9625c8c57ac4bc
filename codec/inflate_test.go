package codec

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"math/rand"
	"strings"
	"testing"
)

func compress(t testing.TB, kind string, b []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&out)
	if kind == "zlib" {
		w = zlib.NewWriter(&out)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestInflate(t *testing.T) {
	var f Inflater
	body := []byte(chatBody)
	text := bytes.Repeat([]byte("0123456789 some text, and some more of it: "), 100)
	noise := make([]byte, 20_000)
	rand.New(rand.NewSource(1)).Read(noise)
	for _, kind := range []string{"gzip", "zlib"} {
		for i, want := range [][]byte{body, {}, text, noise, body} {
			b := compress(t, kind, want)
			if !IsCompressed(b) {
				t.Errorf("%s %d is not taken for compressed", kind, i)
			}
			for _, behind := range []string{"", "rest"} {
				got, err := f.AppendInflated([]byte("x"), append(b[:len(b):len(b)], behind...), 1<<18)
				if err != nil || string(got) != "x"+string(want) {
					t.Errorf("%s %d: %v, %d bytes", kind, i, err, len(got))
				}
			}
			if _, err := f.AppendInflated(nil, b, len(want)); err != nil {
				t.Errorf("%s %d: its own length is too long: %v", kind, i, err)
			}
			if len(want) > 0 {
				if got, err := f.AppendInflated([]byte("x"), b, len(want)-1); err != errInflate || string(got) != "x" {
					t.Errorf("%s %d: a byte more than may be: %v", kind, i, err)
				}
			}
			for _, n := range []int{0, 1, 3, len(b) / 2, len(b) - 1} {
				if _, err := f.AppendInflated(nil, b[:n], 1<<18); err != errInflate {
					t.Errorf("%s %d cut at %d: %v", kind, i, n, err)
				}
			}
			damaged := bytes.Clone(b)
			damaged[len(b)-5] ^= 1 // in the checksum
			if _, err := f.AppendInflated(nil, damaged, 1<<18); err != errInflate {
				t.Errorf("%s %d damaged: %v", kind, i, err)
			}
		}
		for _, n := range []int{8 << 10, 200 << 10, 100 << 20} {
			if got, err := f.AppendInflated(nil, compress(t, kind, make([]byte, n))[:min(maxCompressed, len(compress(t, kind, make([]byte, n))))], 256<<10); err != errInflate || got != nil {
				t.Errorf("%s: %d zeros are accepted: %v", kind, n, err)
			}
		}
		if _, err := f.AppendInflated(nil, compress(t, kind, make([]byte, minInflated)), 256<<10); err != nil {
			t.Errorf("%s: %d zeros: %v", kind, minInflated, err)
		}
	}
	for _, in := range []string{"", "{", `{"content":"x"}`, "[1]", "\x0a\x01x", `"x"`} {
		if IsCompressed([]byte(in)) {
			t.Errorf("%q is taken for compressed", in)
		}
	}
}

// A kept Inflater allocates nothing for a short body, but for the checksum that zlib's reader makes anew.
func TestInflateDoesNotAllocate(t *testing.T) {
	for _, kind := range []string{"gzip", "zlib"} {
		var f Inflater
		b, dst := compress(t, kind, []byte(chatBody)), make([]byte, 0, 4096)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := f.AppendInflated(dst, b, 1<<18); err != nil {
				t.Fatal(err)
			}
		}); n > 1 || n > 0 && kind == "gzip" {
			t.Errorf("%s: %v allocations", kind, n)
		}
	}
}

func FuzzInflate(f *testing.F) {
	for _, kind := range []string{"gzip", "zlib"} {
		f.Add(compress(f, kind, []byte(chatBody)))
		f.Add(compress(f, kind, make([]byte, 10_000)))
	}
	var kept Inflater
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 64 << 10
		got, err := kept.AppendInflated(nil, b, limit)
		if len(got) > limit || err != nil && got != nil {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		var fresh Inflater
		if again, err2 := fresh.AppendInflated(nil, b, limit); err != err2 || !bytes.Equal(got, again) {
			t.Fatalf("a kept one says %d bytes, %v; a new one %d bytes, %v", len(got), err, len(again), err2)
		}
	})
}

// tables is zlib data of n bytes that is nothing but Huffman tables: the dearest there is.
func tables(n int) []byte {
	var one bytes.Buffer
	w, _ := flate.NewWriter(&one, flate.HuffmanOnly)
	out := bytes.NewBuffer([]byte{0x78, 0x9c})
	for i := 0; out.Len()+one.Len() < n; i++ {
		one.Reset()
		w.Reset(&one)
		_, _ = io.WriteString(w, strings.Repeat("abcdefghijklmnopqrstuvwxyz", 2)+fmt.Sprint(i))
		_ = w.Flush()
		out.Write(one.Bytes())
	}
	return out.Bytes()
}

func BenchmarkInflate(b *testing.B) {
	for _, kind := range []string{"gzip", "zlib"} {
		in := compress(b, kind, []byte(chatBody))
		b.Run("kept/"+kind, func(b *testing.B) {
			var f Inflater
			dst := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = f.AppendInflated(dst, in, 1<<18)
			}
		})
		b.Run("new/"+kind, func(b *testing.B) {
			dst := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				var f Inflater
				_, _ = f.AppendInflated(dst, in, 1<<18)
			}
		})
	}
	for name, in := range map[string][]byte{"tables": tables(maxCompressed), "zeros": compress(b, "zlib", make([]byte, 256<<10)), "stored": append([]byte{0x78, 0x9c}, bytes.Repeat([]byte{0, 0, 0, 255, 255}, maxCompressed/5-1)...)} {
		b.Run("hostile/"+name, func(b *testing.B) {
			var f Inflater
			dst := make([]byte, 0, 300<<10)
			for b.Loop() {
				_, _ = f.AppendInflated(dst, in, 1<<18)
			}
		})
	}
}
