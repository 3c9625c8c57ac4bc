package codec

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Dictionary numbers routes so that a message can carry two bytes instead of the route's text
// (protocol.md §2.4). It is static after construction and safe from any goroutine. A nil
// *Dictionary is one that knows nothing: dictionaries are off.
type Dictionary struct {
	codes     map[string]uint16
	routes    []string // the route of code n is routes[n-1]
	version   string
	handshake []byte
}

// NewDictionary numbers the handler routes from 1, in the order JavaScript sorts strings, then
// the user's entries in their own order. A route that occurs twice takes two numbers and is sent
// by the later one, as the original's tables come out; both are understood. Routes past code
// 65535 cannot be numbered and travel as text. The arguments are not kept or changed.
func NewDictionary(handlerRoutes, user []string) *Dictionary {
	sorted := slices.Clone(handlerRoutes)
	slices.SortFunc(sorted, compareUTF16)
	routes := append(sorted, user...)
	routes = routes[:min(len(routes), math.MaxUint16)]
	d := &Dictionary{codes: make(map[string]uint16, len(routes)), routes: routes}
	keys := make([]string, 0, len(routes))
	for i, route := range routes {
		if _, known := d.codes[route]; !known {
			keys = append(keys, route)
		}
		d.codes[route] = uint16(i + 1)
	}
	sortKeys(keys, func(key string) string { return key })
	codes := d.codesText(keys)
	d.version = versionOf(codes)
	d.handshake = d.handshakeText(codes)
	return d
}

// Code is the number of a route; ok is false for a route that travels as text.
func (d *Dictionary) Code(route string) (code uint16, ok bool) {
	if d == nil {
		return 0, false
	}
	code, ok = d.codes[route]
	return code, ok
}

// Route is the route with a number; ok is false for a number never given out.
func (d *Dictionary) Route(code uint16) (route string, ok bool) {
	if d == nil || code == 0 || int(code) > len(d.routes) {
		return "", false
	}
	return d.routes[code-1], true
}

// Version is the dictVersion of the handshake: base64 of the MD5 of the dict member as
// JSON.stringify writes it. It is empty for a nil dictionary.
func (d *Dictionary) Version() string {
	if d == nil {
		return ""
	}
	return d.version
}

// AppendHandshake appends the members dict, routeToCode, codeToRoute and dictVersion of the
// handshake's sys, without braces or a comma around them. A nil dictionary appends nothing.
func (d *Dictionary) AppendHandshake(dst []byte) []byte {
	if d == nil {
		return dst
	}
	return append(dst, d.handshake...)
}

// codesText is the dict object as JSON.stringify writes it.
func (d *Dictionary) codesText(keys []string) []byte {
	b := []byte{'{'}
	for i, route := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, []byte(route), false), ':')
		b = strconv.AppendUint(b, uint64(d.codes[route]), 10)
	}
	return append(b, '}')
}

func (d *Dictionary) handshakeText(codes []byte) []byte {
	b := AppendCanonical([]byte(`"dict":`), codes)
	b = AppendCanonical(append(b, `,"routeToCode":`...), codes)
	b = append(b, `,"codeToRoute":{`...)
	for i, route := range d.routes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = strconv.AppendUint(b, uint64(i+1), 10)
		b = append(b, `":`...)
		b = AppendString(b, route)
	}
	b = append(b, `},"dictVersion":`...)
	return AppendString(b, d.version)
}

// ParseUserDictionary reads the text of config/dictionary.json: an array of routes. An object
// contributes nothing, whatever is in it, and neither does an empty text (protocol.md §2.4).
func ParseUserDictionary(b []byte) ([]string, error) {
	b = configText(b)
	if len(b) == 0 {
		return nil, nil
	}
	if err := checkJSON(b); err != nil {
		return nil, fmt.Errorf("parse dictionary: %w", err)
	}
	switch b[0] {
	case '{':
		return nil, nil
	case '[':
	default:
		return nil, fmt.Errorf("parse dictionary: neither an array nor an object")
	}
	var routes []string
	a := scanArray(b)
	for {
		raw, ok := a.next()
		if !ok {
			return routes, nil // a.err is nil: the text has been checked
		}
		route, ok := StringValue(raw)
		if !ok {
			return nil, fmt.Errorf("parse dictionary: entry %d is not a string", len(routes)+1)
		}
		routes = append(routes, route)
	}
}

// configText is a file's text as JSON: valid UTF-8 without byte order mark and outer space.
func configText(b []byte) []byte {
	b = NormalizeUTF8(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))
	return bytes.Trim(b, " \t\r\n")
}

// versionOf is the version by which a client recognizes what it already has.
func versionOf(text []byte) string {
	sum := md5.Sum(text)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// compareUTF16 orders valid UTF-8 strings by UTF-16 code units, as JavaScript does. That is
// byte order, except that surrogates (U+10000 up, lead byte 0xF0 up) come before U+E000..U+FFFF.
func compareUTF16(a, b string) int {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x >= 0xEE && y >= 0xEE && (x >= 0xF0) != (y >= 0xF0) {
			return cmp.Compare(y, x)
		}
		return cmp.Compare(x, y)
	}
	return cmp.Compare(len(a), len(b))
}

// sortKeys puts items into the order in which JavaScript enumerates their keys: those that look
// like array indices first, ascending, then the others as they were inserted.
func sortKeys[T any](items []T, key func(T) string) {
	slices.SortStableFunc(items, func(a, b T) int {
		return cmp.Compare(arrayIndex(key(a)), arrayIndex(key(b)))
	})
}

// arrayIndex is the index a key stands for, or a number above all of them if it stands for none.
func arrayIndex(key string) uint64 {
	n, err := strconv.ParseUint(key, 10, 32)
	if err != nil || n == math.MaxUint32 || strconv.FormatUint(n, 10) != key {
		return math.MaxUint32
	}
	return n
}
