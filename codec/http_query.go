package codec

import "bytes"

// QueryValue finds a parameter of a URL query or an urlencoded form and returns its value decoded,
// percent and plus. ok tells whether the parameter is there, be it empty. Of several the first
// counts. The value aliases query unless something had to be decoded; a percent sign without two hex
// digits behind it stands for itself, as the URL standard has it.
func QueryValue(query []byte, name string) (value []byte, ok bool) {
	raw, ok := findQueryValue(query, name)
	if bytes.IndexByte(raw, '%') < 0 && bytes.IndexByte(raw, '+') < 0 {
		return raw, ok
	}
	return appendQueryUnescaped(make([]byte, 0, len(raw)), raw), true
}

// findQueryValue returns the value as it stands in query.
func findQueryValue(query []byte, name string) (raw []byte, ok bool) {
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte{'&'})
		key, value, _ := bytes.Cut(pair, []byte{'='})
		if len(pair) > 0 && isQueryName(key, name) {
			return value[:len(value):len(value)], true
		}
	}
	return nil, false
}

// isQueryName tells whether key, still encoded, is name.
func isQueryName(key []byte, name string) bool {
	for i := range len(name) {
		if len(key) == 0 {
			return false
		}
		c, n := queryByte(key)
		if c != name[i] {
			return false
		}
		key = key[n:]
	}
	return len(key) == 0
}

func appendQueryUnescaped(dst, raw []byte) []byte {
	for len(raw) > 0 {
		c, n := queryByte(raw)
		dst = append(dst, c)
		raw = raw[n:]
	}
	return dst
}

// queryByte decodes the byte at the head of raw and returns how long its code is.
func queryByte(raw []byte) (c byte, n int) {
	switch {
	case raw[0] == '+':
		return ' ', 1
	case raw[0] == '%' && len(raw) >= 3:
		hi, ok1 := hexValue(raw[1])
		lo, ok2 := hexValue(raw[2])
		if ok1 && ok2 {
			return hi<<4 | lo, 3
		}
	}
	return raw[0], 1
}

// hexValue reads one hex digit.
func hexValue(c byte) (v byte, ok bool) {
	switch {
	case isDigit(c):
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}
