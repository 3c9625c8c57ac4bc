package codec

import (
	"strings"
	"testing"
)

func TestNormalizeUTF8ReplacesLikeNode(t *testing.T) {
	const r = "\ufffd"
	for in, want := range map[string]string{
		"":                                     "",
		"plain é漢😀":                            "plain é漢😀",
		"\xed\xa0\xbd\xed\xb8\x80":             "😀",
		"a\xed\xa0\x80\xed\xb0\x80b":           "a\U00010000b",
		"\xed\xaf\xbf\xed\xbf\xbf":             "\U0010FFFF",
		"\xed\xa0\xbd":                         r + r + r, // lone high surrogate
		"\xed\xb8\x80\xed\xa0\xbd":             strings.Repeat(r, 6),
		"\xed\xa0\xbd\xed\xa0\xbd\xed\xb8\x80": r + r + r + "😀",
		"\xf0\x9f\x98":                         r, // one truncated character is one mark
		"\xf0\x9f\x98x":                        r + "x",
		"\xf0\x9f\xe2\x82":                     r + r,
		"\xe2\x82":                             r,
		"\xe0\x80\x80":                         r + r + r, // overlong
		"\xf0\x80\x80\x80":                     r + r + r + r,
		"\xf4\x90\x80\x80":                     r + r + r + r,
		"\xf5\x80\xff\xc0\x80\x80":             strings.Repeat(r, 6),
		"\xc3":                                 r,
		"\xef\xbf\xbd":                         r, // U+FFFD itself stays
	} {
		if got := string(NormalizeUTF8([]byte(in))); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestNormalizeUTF8ReturnsValidTextItself(t *testing.T) {
	b := []byte("hello, 世界 😀")
	if got := NormalizeUTF8(b); &got[0] != &b[0] {
		t.Error("valid text was copied")
	}
	if n := testing.AllocsPerRun(100, func() { NormalizeUTF8(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAppendCESU8(t *testing.T) {
	if got := string(appendCESU8([]byte("x"), "aé漢😀\U0010FFFF\xff")); got !=
		"xaé漢\xed\xa0\xbd\xed\xb8\x80\xed\xaf\xbf\xed\xbf\xbf\ufffd" {
		t.Errorf("%q", got)
	}
}

func TestHasAstralAtEveryOffset(t *testing.T) {
	for i := range 20 {
		pad := strings.Repeat("\uffff", i)
		if hasAstral([]byte(pad)) || !hasAstral([]byte(pad+"\U00010000")) || !hasAstral([]byte("😀"+pad)) {
			t.Errorf("wrong at %d", i)
		}
	}
}

func BenchmarkNormalizeUTF8(b *testing.B) {
	for name, text := range map[string]string{
		"kind=ascii": strings.Repeat("hello, world. ", 6),
		"kind=cjk":   strings.Repeat("房间内容", 7),
		"kind=cesu8": strings.Repeat("\xed\xa0\xbd\xed\xb8\x80 hello ", 6),
	} {
		b.Run(name, func(b *testing.B) {
			in := []byte(text)
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				NormalizeUTF8(in)
			}
		})
	}
}
