package codec

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// maxJSONDepth is how many arrays and objects may stand inside one another, the outermost
// counted. Chat bodies use two or three. The limit bounds the stack of our scanner and of
// every parser a forwarded value reaches; deeper text is refused with errDepth.
const maxJSONDepth = 128

var (
	// errSyntax is returned for text that is not exactly one JSON value (RFC 8259).
	errSyntax = errors.New("malformed JSON")

	// errDepth is returned for JSON nested deeper than maxJSONDepth.
	errDepth = errors.New("JSON nested too deeply")

	// errNotObject is returned by Object.Err for text that does not begin with a brace.
	errNotObject = errors.New("JSON is not an object")
)

// Object iterates over the members of a JSON object without allocating:
//
//	o := ScanObject(body)
//	for {
//		key, value, ok := o.Next()
//		if !ok {
//			break
//		}
//		...
//	}
//	if o.Err() != nil { the members seen so far are not to be trusted }
//
// The text is checked strictly, nested values too, but only as far as it has been read: act on
// the members after Err. Bytes above 0x7F are not examined; give it NormalizeUTF8's result.
// A key that occurs twice comes twice; JSON.parse would keep the last.
type Object struct {
	b    []byte
	i    int // next unread byte; after an error, near where it was found
	done bool
	err  error
}

// ScanObject starts on the object that is the whole of b but for white space around it.
// What it yields aliases b and is valid as long as b is.
func ScanObject(b []byte) Object {
	i := skipSpace(b, 0)
	switch {
	case i == len(b):
		return Object{i: i, done: true, err: errSyntax}
	case b[i] != '{':
		return Object{i: i, done: true, err: errNotObject}
	}
	o := Object{b: b, i: skipSpace(b, i+1)}
	if o.i < len(b) && b[o.i] == '}' {
		o.finish(o.i + 1)
	}
	return o
}

// Next returns the next member: its key, unescaped, and the raw text of its value without white
// space around it. Both alias the scanned text, except a key that had escapes, which is a copy.
// It returns false at the end and at the first error.
func (o *Object) Next() (key, value []byte, ok bool) {
	if o.done {
		return nil, nil, false
	}
	b := o.b
	key, i, ok := scanKey(b, o.i)
	if !ok {
		return nil, nil, o.fail(i, errSyntax)
	}
	end, err := skipValue(b, i, maxJSONDepth-1)
	if err != nil {
		return nil, nil, o.fail(end, err)
	}
	value = b[i:end:end]
	i = skipSpace(b, end)
	switch {
	case i < len(b) && b[i] == ',':
		o.i = skipSpace(b, i+1)
	case i < len(b) && b[i] == '}':
		o.finish(i + 1)
	default:
		return nil, nil, o.fail(i, errSyntax)
	}
	return key, value, true
}

// Err says why the iteration ended early: the text is no object, no JSON, or nested too deeply. Nil when it did not.
func (o *Object) Err() error { return o.err }

func (o *Object) fail(i int, err error) bool {
	o.i, o.done, o.err = i, true, err
	return false
}

// finish ends the iteration behind the closing brace, where only white space may follow.
func (o *Object) finish(i int) {
	o.i, o.done = skipSpace(o.b, i), true
	if o.i < len(o.b) {
		o.err = errSyntax
	}
}

// scanKey reads a key and its colon at b[i] and returns where the value starts.
func scanKey(b []byte, i int) (key []byte, next int, ok bool) {
	if i >= len(b) || b[i] != '"' {
		return nil, i, false
	}
	end, escaped, ok := skipString(b, i)
	if !ok {
		return nil, end, false
	}
	key = b[i+1 : end-1 : end-1]
	if escaped {
		key = appendUnescaped(make([]byte, 0, len(key)), key)
	}
	i = skipSpace(b, end)
	if i >= len(b) || b[i] != ':' {
		return nil, i, false
	}
	return key, skipSpace(b, i+1), true
}

// array iterates over the raw elements of a JSON array, with the same promises as Object.
type array struct {
	b    []byte
	i    int
	done bool
	err  error
}

// scanArray starts on b, which begins with a bracket.
func scanArray(b []byte) array {
	a := array{b: b, i: skipSpace(b, 1)}
	if a.i < len(b) && b[a.i] == ']' {
		a.finish(a.i + 1)
	}
	return a
}

func (a *array) next() (value []byte, ok bool) {
	if a.done {
		return nil, false
	}
	end, err := skipValue(a.b, a.i, maxJSONDepth-1)
	if err != nil {
		a.done, a.err = true, err
		return nil, false
	}
	value = a.b[a.i:end:end]
	i := skipSpace(a.b, end)
	switch {
	case i < len(a.b) && a.b[i] == ',':
		a.i = skipSpace(a.b, i+1)
	case i < len(a.b) && a.b[i] == ']':
		a.finish(i + 1)
	default:
		a.done, a.err = true, errSyntax
		return nil, false
	}
	return value, true
}

func (a *array) finish(i int) {
	a.done = true
	if skipSpace(a.b, i) < len(a.b) {
		a.err = errSyntax
	}
}

// ValidJSON tells whether b is one JSON value, nested no deeper than maxJSONDepth, with at most
// white space around it. Like Object it does not examine bytes above 0x7F.
func ValidJSON(b []byte) bool { return checkJSON(b) == nil }

func checkJSON(b []byte) error {
	end, err := skipValue(b, skipSpace(b, 0), maxJSONDepth)
	if err == nil && skipSpace(b, end) < len(b) {
		err = errSyntax
	}
	return err
}

// skipValue checks the value at b[i] and returns where it ends. depth is how many containers
// may still be opened.
func skipValue(b []byte, i, depth int) (end int, err error) {
	if i >= len(b) {
		return i, errSyntax
	}
	ok := false
	switch b[i] {
	case '"':
		end, _, ok = skipString(b, i)
	case '{':
		if depth == 0 {
			return i, errDepth
		}
		return skipObject(b, i, depth-1)
	case '[':
		if depth == 0 {
			return i, errDepth
		}
		return skipArray(b, i, depth-1)
	case 't':
		end, ok = skipWord(b, i, "true")
	case 'f':
		end, ok = skipWord(b, i, "false")
	case 'n':
		end, ok = skipWord(b, i, "null")
	default:
		end, ok = skipNumber(b, i)
	}
	if !ok {
		return end, errSyntax
	}
	return end, nil
}

func skipObject(b []byte, i, depth int) (end int, err error) {
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return i, errSyntax
		}
		end, _, ok := skipString(b, i)
		if !ok {
			return end, errSyntax
		}
		i = skipSpace(b, end)
		if i >= len(b) || b[i] != ':' {
			return i, errSyntax
		}
		if i, err = skipValue(b, skipSpace(b, i+1), depth); err != nil {
			return i, err
		}
		i = skipSpace(b, i)
		switch {
		case i < len(b) && b[i] == ',':
			i = skipSpace(b, i+1)
		case i < len(b) && b[i] == '}':
			return i + 1, nil
		default:
			return i, errSyntax
		}
	}
}

func skipArray(b []byte, i, depth int) (end int, err error) {
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == ']' {
		return i + 1, nil
	}
	for {
		if i, err = skipValue(b, i, depth); err != nil {
			return i, err
		}
		i = skipSpace(b, i)
		switch {
		case i < len(b) && b[i] == ',':
			i = skipSpace(b, i+1)
		case i < len(b) && b[i] == ']':
			return i + 1, nil
		default:
			return i, errSyntax
		}
	}
}

func skipWord(b []byte, i int, word string) (end int, ok bool) {
	end = i + len(word)
	if end > len(b) || string(b[i:end]) != word {
		return i, false
	}
	return end, true
}

func skipNumber(b []byte, i int) (end int, ok bool) {
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++ // no digit may follow: the caller finds it where a separator should be
	} else if i, ok = skipDigits(b, i); !ok {
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		if i, ok = skipDigits(b, i+1); !ok {
			return i, false
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return skipDigits(b, i)
	}
	return i, true
}

// skipDigits wants at least one.
func skipDigits(b []byte, i int) (end int, ok bool) {
	for i < len(b) && b[i]-'0' < 10 {
		i, ok = i+1, true
	}
	return i, ok
}

func skipSpace(b []byte, i int) int {
	if i < len(b) && b[i] > ' ' {
		return i // nearly always; small enough to be inlined
	}
	return skipSpaces(b, i)
}

func skipSpaces(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// skipString checks the literal whose opening quote is b[i] and returns where it ends, and
// whether it has escapes.
func skipString(b []byte, i int) (end int, escaped, ok bool) {
	for i++; ; {
		if i = skipPlain(b, i); i >= len(b) {
			return i, escaped, false
		}
		switch b[i] {
		case '"':
			return i + 1, escaped, true
		case '\\':
			n := escapeLen(b[i:])
			if n == 0 {
				return i, escaped, false
			}
			i, escaped = i+n, true
		default: // a control character
			return i, escaped, false
		}
	}
}

// skipPlain returns the index of the first byte from i on that is a quote, a backslash or a
// control character, eight bytes at a step: most of a body is the inside of its strings.
func skipPlain(b []byte, i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^ones*'"', x^ones*'\\'
		// Each term sets the top bit of the bytes it looks for. A borrow may set more,
		// but only above a byte that was found, and the lowest is all that counts.
		found := (x - ones*' ') &^ x
		found |= (quote - ones) &^ quote
		found |= (slash - ones) &^ slash
		if found &= tops; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// escapeLen is the length of the escape at the head of b, 0 if it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := codeUnit(b); ok {
			return 6
		}
	}
	return 0
}
