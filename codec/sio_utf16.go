package codec

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// Clients of every socket.io generation are JavaScript and give lengths in UTF-16 code units
// (protocol.md §4.1, §5.4, §6.3), while text is UTF-8 here. Counting needs no decoding: each byte
// that is no continuation starts a character, and those from 0xF0 on start one of two units. It is
// exact for UTF-8, and for surrogates that stand alone in three bytes (WTF-8); for other bytes the
// counts mean nothing but agree with one another.

// utf16Len is how many UTF-16 code units s has, its length in JavaScript.
func utf16Len(s []byte) int {
	units := 0
	for ; len(s) >= 8; s = s[8:] {
		units += units8(binary.LittleEndian.Uint64(s))
	}
	for _, c := range s {
		units += unitsOf(c)
	}
	return units
}

// skipUnits returns where the first n code units of s end. missing is how many of the n are not in
// s[:end]: all that s is too short by, with end == len(s), or 1 when the border cuts the character
// at s[end] in half.
func skipUnits(s []byte, n int) (end, missing int) {
	for end+8 <= len(s) {
		units := units8(binary.LittleEndian.Uint64(s[end:]))
		if units > n {
			break
		}
		end, n = end+8, n-units
	}
	for ; end < len(s); end++ {
		units := unitsOf(s[end])
		if units > n {
			break
		}
		n -= units
	}
	return end, n
}

func unitsOf(c byte) int {
	switch {
	case c&0xC0 == 0x80:
		return 0
	case c >= 0xF0:
		return 2
	}
	return 1
}

// units8 is the sum of unitsOf over eight bytes.
func units8(x uint64) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	continuations := x >> 7 &^ (x >> 6) & ones
	astral := x & (x << 1) & (x << 2) & (x << 3) & tops
	return 8 - bits.OnesCount64(continuations) + bits.OnesCount64(astral)
}

// decodeWTF8 is utf8.DecodeRune for text that may hold surrogates.
func decodeWTF8(s []byte) (rune, int) {
	r, n := utf8.DecodeRune(s)
	if n == 1 && len(s) >= 3 && s[0] == 0xED && s[1]&0xE0 == 0xA0 && continues(s[2]) {
		return 0xD000 | rune(s[1]&0x3F)<<6 | rune(s[2]&0x3F), 3
	}
	return r, n
}
