package codec

import (
	"encoding/binary"
	"unicode/utf8"
)

// replacement is U+FFFD in UTF-8.
const replacement = "\ufffd"

// NormalizeUTF8 returns b as valid UTF-8 (protocol.md §2.6). Text that is valid already is
// returned as it is, without a copy; otherwise the result is a fresh slice and b is untouched.
//
// A surrogate pair in CESU-8, the way browser clients send characters above U+FFFF, is joined
// into one character. What else is invalid, a lone surrogate included, becomes U+FFFD as Node
// and the WHATWG decoder have it: one for each maximal prefix of a well-formed sequence, one
// for each byte that starts none. The result is at most three times as long as b.
func NormalizeUTF8(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	out := make([]byte, 0, len(b)+len(b)/2)
	for i := 0; i < len(b); {
		if b[i] < utf8.RuneSelf {
			out = append(out, b[i])
			i++
			continue
		}
		if r, n := utf8.DecodeRune(b[i:]); r != utf8.RuneError || n > 1 {
			out = append(out, b[i:i+n]...)
			i += n
			continue
		}
		if r, ok := surrogatePair(b[i:]); ok {
			out = utf8.AppendRune(out, r)
			i += 6
			continue
		}
		out = append(out, replacement...)
		i += brokenPrefix(b[i:])
	}
	return out
}

// surrogatePair reads the two three-byte sequences that CESU-8 makes of one character.
func surrogatePair(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != 0xED || b[3] != 0xED ||
		b[1]&0xF0 != 0xA0 || !continues(b[2]) || b[4]&0xF0 != 0xB0 || !continues(b[5]) {
		return 0, false
	}
	hi := rune(b[1]&0x0F)<<6 | rune(b[2]&0x3F)
	lo := rune(b[4]&0x0F)<<6 | rune(b[5]&0x3F)
	return 0x10000 + hi<<10 | lo, true
}

func continues(c byte) bool { return c&0xC0 == 0x80 }

// brokenPrefix is how many bytes one U+FFFD stands for at the head of b, where no well-formed
// sequence starts: the bytes that could have begun one (Unicode, "maximal subpart"), or one.
func brokenPrefix(b []byte) int {
	c := b[0]
	if c < 0xC2 || c > 0xF4 || len(b) == 1 {
		return 1
	}
	lo, hi := byte(0x80), byte(0xBF) // of the second byte
	switch c {
	case 0xE0:
		lo = 0xA0 // below it is overlong
	case 0xED:
		hi = 0x9F // above it is a surrogate
	case 0xF0:
		lo = 0x90 // below it is overlong
	case 0xF4:
		hi = 0x8F // above it is past U+10FFFF
	}
	if b[1] < lo || b[1] > hi {
		return 1
	}
	if c >= 0xF0 && len(b) > 2 && continues(b[2]) {
		return 3
	}
	return 2
}

// appendCESU8 appends s with every character above U+FFFF as two three-byte surrogates, the
// only form browser clients read back (protocol.md §2.6). An invalid byte becomes U+FFFD.
func appendCESU8(dst []byte, s string) []byte {
	for _, r := range s {
		if r < 0x10000 {
			dst = utf8.AppendRune(dst, r)
			continue
		}
		r -= 0x10000 // 20 bits: the high ten to one surrogate, the low ten to the other
		dst = append(dst,
			0xED, 0xA0|byte(r>>16), 0x80|byte(r>>10&0x3F),
			0xED, 0xB0|byte(r>>6&0x0F), 0x80|byte(r&0x3F))
	}
	return dst
}

// HasFourByteUTF8 tells whether b holds a well-formed sequence of four bytes: a character above U+FFFF in UTF-8, which a client that
// writes CESU-8 never sends.
func HasFourByteUTF8(b []byte) bool {
	if !hasAstral(b) {
		return false
	}
	for i, c := range b {
		if c >= 0xF0 {
			if _, n := utf8.DecodeRune(b[i:]); n == utf8.UTFMax {
				return true
			}
		}
	}
	return false
}

// hasAstral tells whether b, valid UTF-8, holds a character above U+FFFF: a byte of 0xF0 or more.
func hasAstral(b []byte) bool {
	const top = 0x8080808080808080
	i := 0
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		// The top bit of a byte stays only where its four high bits are all set.
		if x&(x<<1)&(x<<2)&(x<<3)&top != 0 {
			return true
		}
	}
	for ; i < len(b); i++ {
		if b[i] >= 0xF0 {
			return true
		}
	}
	return false
}
