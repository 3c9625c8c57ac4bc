package codec

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

const hexDigits = "0123456789abcdef"

// StringValue decodes raw, the text of a JSON string literal with its quotes, as Object.Next
// yields it. It returns false if raw is anything else. The result is a copy and valid UTF-8:
// an unpaired surrogate escape becomes U+FFFD, invalid bytes what NormalizeUTF8 makes of them.
func StringValue(raw []byte) (s string, ok bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	end, escaped, ok := skipString(raw, 0)
	if !ok || end != len(raw) {
		return "", false
	}
	text := raw[1 : end-1]
	if escaped {
		text = appendUnescaped(make([]byte, 0, len(text)), text)
	}
	return string(NormalizeUTF8(text)), true
}

// appendUnescaped appends the inside of a string literal that skipString has accepted. No
// escape yields more bytes than it has, so the result is no longer than s.
func appendUnescaped(dst, s []byte) []byte {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		s = s[i:]
		if s[1] == 'u' {
			r, n := escapedRune(s)
			dst = utf8.AppendRune(dst, r)
			s = s[n:]
			continue
		}
		dst = append(dst, unescape(s[1]))
		s = s[2:]
	}
}

func unescape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c // quote, backslash, slash
}

// escapedRune reads the \u escape at the head of s, with its second half if it is a pair, and
// returns its length. An unpaired half is U+FFFD by itself.
func escapedRune(s []byte) (rune, int) {
	r, _ := codeUnit(s)
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if lo, ok := codeUnit(s[6:]); ok {
		if pair := utf16.DecodeRune(r, lo); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

// codeUnit reads \uXXXX at the head of b.
func codeUnit(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case c-'0' < 10:
			c -= '0'
		case (c|0x20)-'a' < 6:
			c = (c | 0x20) - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// AppendString appends s as a JSON string literal, byte for byte as JSON.stringify would write
// it, except that characters above U+FFFF become pairs of \u escapes: browser clients misread
// them as UTF-8 (protocol.md §2.6). Invalid UTF-8 is read as NormalizeUTF8 reads it.
func AppendString(dst []byte, s string) []byte {
	// A view, not a copy: what follows only reads it, and keeps nothing of it.
	b := unsafe.Slice(unsafe.StringData(s), len(s))
	return appendQuoted(dst, NormalizeUTF8(b), true)
}

// appendQuoted writes the literal of s, which must be valid UTF-8. Without escapeAstral it is
// JSON.stringify's very text, which version hashes are made of.
func appendQuoted(dst, s []byte, escapeAstral bool) []byte {
	dst = append(dst, '"')
	for {
		n := skipPlain(s, 0)
		if escapeAstral {
			dst = appendEscaped(dst, s[:n])
		} else {
			dst = append(dst, s[:n]...)
		}
		if n == len(s) {
			return append(dst, '"')
		}
		dst = appendEscape(dst, s[n])
		s = s[n+1:]
	}
}

// appendEscape writes a control character, quote or backslash.
func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// appendPair writes a character above U+FFFF as two \u escapes.
func appendPair(dst []byte, r rune) []byte {
	hi, lo := utf16.EncodeRune(r)
	return appendUnit(appendUnit(dst, hi), lo)
}

func appendUnit(dst []byte, r rune) []byte {
	return append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// appendEscaped appends raw, the inside of a string or JSON, both in valid UTF-8, with characters above U+FFFF as pairs
// of \u escapes (protocol.md §2.6).
func appendEscaped(dst, raw []byte) []byte {
	if !hasAstral(raw) {
		return append(dst, raw...)
	}
	from := 0
	for i := 0; i < len(raw); {
		if raw[i] < 0xF0 {
			i++
			continue
		}
		dst = append(dst, raw[from:i]...)
		r, n := utf8.DecodeRune(raw[i:])
		if n == utf8.UTFMax {
			dst = appendPair(dst, r)
		} else {
			dst = append(dst, replacement...) // raw was not UTF-8 after all; the output still is
		}
		i += n
		from = i
	}
	return append(dst, raw[from:]...)
}
