package codec

import (
	"math/rand/v2"
	"testing"
	"unicode/utf8"
)

// canBecomeUTF8 is the slow truth that checkText is held against: some ending makes p valid.
func canBecomeUTF8(p string) bool {
	for _, second := range []string{"", "\x80", "\x90", "\xa0"} {
		for _, rest := range []string{"", "\x80", "\x80\x80"} {
			if utf8.ValidString(p + second + rest) {
				return true
			}
		}
	}
	return false
}

// feedTextFragments sends fragments as one text message and returns the index of the one
// that was refused, -1 if none was.
func feedTextFragments(t *testing.T, fragments []string) int {
	t.Helper()
	var r WSReader
	for i, f := range fragments {
		b0 := byte(0x00)
		if i == 0 {
			b0 = 0x01
		}
		if i == len(fragments)-1 {
			b0 |= 0x80
		}
		_, n, err := r.Next(wsClientFrame(b0, f), 1<<20)
		if err == errWSText {
			return i
		}
		if err != nil || n == 0 {
			t.Fatalf("fragment %d: %d, %v", i, n, err)
		}
	}
	return -1
}

func checkTextFragments(t *testing.T, fragments []string) {
	t.Helper()
	want, text := -1, ""
	for i, f := range fragments {
		text += f
		last := i == len(fragments)-1
		if !last && !canBecomeUTF8(text) || last && !utf8.ValidString(text) {
			want = i
			break
		}
	}
	if got := feedTextFragments(t, fragments); got != want {
		t.Errorf("%q: refused at fragment %d, want %d", fragments, got, want)
	}
}

func TestWSTextSplitAnywhere(t *testing.T) {
	text := "aé☃😀ß\U0010ffff"
	for i := range len(text) + 1 {
		for j := i; j <= len(text); j++ {
			checkTextFragments(t, []string{text[:i], text[i:j], text[j:]})
		}
	}
	var bytewise []string
	for i := range len(text) {
		bytewise = append(bytewise, text[i:i+1])
	}
	checkTextFragments(t, bytewise)
}

// Text fails at the first fragment that no later one can mend, and not before.
func TestWSTextFailsFast(t *testing.T) {
	for _, fragments := range [][]string{
		{"ok", "\xff", "never"},
		{"\xed", "\xa0", "\x80"},          // a surrogate, known after two bytes
		{"\xf4", "\x90", "\x80\x80"},      // beyond U+10FFFF, likewise
		{"\xe0", "\x80", "\x80"},          // overlong
		{"\xf0\x8f", "\x80"},              // overlong
		{"\xc0", "\x80"},                  // never a lead byte
		{"\xe2\x98", "x"},                 // cut off by a letter
		{"\xe2", "\x98", ""},              // cut off by the end
		{"\x80", ""},                      // no lead byte at all
		{"a\xe2", "\x98\x83\xe2", "\x98"}, // second rune cut off by the end
		{"\xf0", "\x9f", "\x98", "\x80"},  // fine
		{"", "", ""},
	} {
		checkTextFragments(t, fragments)
	}
}

// What is known to be valid is not read again: many small fragments must not cost O(n²).
func TestWSTextIsCheckedOnce(t *testing.T) {
	var r WSReader
	for i, f := range []string{"abc", "\xe2", "\x98", "\x83d"} {
		b0 := byte(0x00)
		if i == 0 {
			b0 = 0x01
		}
		if _, _, err := r.Next(wsClientFrame(b0, f), 100); err != nil {
			t.Fatal(err)
		}
		if want := []int{3, 3, 3, 7}[i]; r.open.valid != want {
			t.Errorf("after fragment %d: %d bytes are known, want %d", i, r.open.valid, want)
		}
	}
}

func TestWSTextRandomFragments(t *testing.T) {
	const seed = 20261122
	rnd := rand.New(rand.NewPCG(seed, 1))
	alphabet := []string{"a", "é", "☃", "😀", "\xe2\x98", "\xf0\x9f\x98", "\x80", "\xed\xa0", "\xf4\x8f", "\xc3"}
	for range 20000 {
		text := ""
		for range 1 + rnd.IntN(4) {
			text += alphabet[rnd.IntN(len(alphabet))]
		}
		var fragments []string
		for len(text) > 0 && len(fragments) < 4 {
			n := rnd.IntN(len(text) + 1)
			fragments = append(fragments, text[:n])
			text = text[n:]
		}
		checkTextFragments(t, append(fragments, text))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
