package codec

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// inlineFields is how many fields of a message encoding and decoding keep track of without
// allocating.
const inlineFields = 16

// AppendEncode appends the JSON object body, valid UTF-8, in pomelo-protobuf (protocol.md §3.2).
// Fields come in the order of body's keys; keys without a definition are left out, and of equal
// keys the last value counts. A null is a missing field.
//
// Values are made to fit as far as the original or a Rule of §3.2 does it: anything becomes a
// string (objects and arrays as their JSON text), numbers are truncated to integers, strings
// that begin with an integer become it, strings that are JSON numbers become floats and so do
// booleans (0 and 1), a repeated field that is no array is left out.
//
// It fails when a required field is missing, when nothing would be written, when a field cannot hold
// its value, and for nesting that is too deep; dst is returned as it was then. body is not kept.
func (m *ProtoMessage) AppendEncode(dst, body []byte, opts ProtoOptions) ([]byte, error) {
	out, err := m.appendFields(dst, body, opts, 1)
	if err == nil && len(out) == len(dst) {
		err = errProtoEmpty
	}
	if err != nil {
		return dst, fmt.Errorf("encode protobuf: %w", err)
	}
	return out, nil
}

// slot is a field that a message has a value for.
type slot struct {
	field int
	raw   []byte
}

func (m *ProtoMessage) appendFields(dst, body []byte, opts ProtoOptions, depth int) ([]byte, error) {
	if depth > maxProtoDepth {
		return nil, errProtoDepth
	}
	var inline [inlineFields]slot
	slots, err := m.collect(inline[:0], body)
	if err != nil {
		return nil, err
	}
	for _, i := range m.required {
		if at := slotOf(slots, i); at >= 0 && slots[at].raw != nil {
			continue
		}
		if !opts.FillStrings || m.fields[i].kind != kindString {
			return nil, fmt.Errorf("%w: %s", errProtoRequired, m.fields[i].name)
		}
		slots = append(slots, slot{i, []byte(`""`)})
	}
	for _, s := range slots {
		if s.raw == nil {
			continue
		}
		f := &m.fields[s.field]
		if f.repeated() {
			dst, err = f.appendRepeated(dst, s.raw, opts, depth)
		} else {
			dst, err = f.appendValue(append(dst, f.head...), s.raw, opts, depth)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return dst, nil
}

// collect gathers body's members that have a definition, in the order of their keys: of equal
// keys the first place and the last value, as in a JavaScript object. The value of null is nil.
func (m *ProtoMessage) collect(slots []slot, body []byte) ([]slot, error) {
	o := ScanObject(body)
	for {
		key, raw, ok := o.Next()
		if !ok {
			return slots, o.Err()
		}
		i, known := m.byName[string(key)]
		if !known {
			continue
		}
		if raw[0] == 'n' {
			raw = nil
		}
		if at := slotOf(slots, i); at >= 0 {
			slots[at].raw = raw
		} else {
			slots = append(slots, slot{i, raw})
		}
	}
}

func slotOf(slots []slot, field int) int {
	return slices.IndexFunc(slots, func(s slot) bool { return s.field == field })
}

// appendRepeated appends all elements of an array. Null elements are not missing but wrong,
// except that as a string they are empty.
func (f *protoField) appendRepeated(dst, raw []byte, opts ProtoOptions, depth int) ([]byte, error) {
	if raw[0] != '[' {
		return dst, nil
	}
	count := uint64(0)
	for a := scanArray(raw); ; count++ {
		if _, ok := a.next(); !ok {
			break
		}
	}
	if count == 0 {
		return dst, nil
	}
	if f.kind == kindUnknown {
		return nil, errProtoType // elements without bytes would be nothing but a count
	}
	counted := f.kind != kindString && f.kind != kindMessage
	if counted {
		dst = appendUvarint(append(dst, f.head...), count)
	}
	a := scanArray(raw)
	for {
		element, ok := a.next()
		if !ok {
			return dst, a.err
		}
		if !counted {
			dst = append(dst, f.head...)
		}
		var err error
		if dst, err = f.appendValue(dst, element, opts, depth); err != nil {
			return nil, err
		}
	}
}

// appendValue appends one value, without its head.
func (f *protoField) appendValue(dst, raw []byte, opts ProtoOptions, depth int) ([]byte, error) {
	switch f.kind {
	case kindUint, kindSint:
		n, err := jsonInteger(raw)
		if err != nil {
			return nil, err
		}
		u := uint64(n)
		if f.kind == kindSint {
			u = zigzag(n)
		}
		if u > maxProtoInteger { // so are negative numbers in a uInt32
			return nil, errProtoRange
		}
		return appendUvarint(dst, u), nil
	case kindFloat, kindDouble:
		x, err := jsonFloat(raw)
		if err != nil {
			return nil, err
		}
		if f.kind == kindFloat {
			return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(x))), nil
		}
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(x)), nil
	case kindString:
		start := len(dst) + 1
		return endDelimited(appendText(append(dst, 0), raw, opts), start), nil
	case kindMessage:
		if raw[0] != '{' {
			return nil, errProtoType
		}
		start := len(dst) + 1
		dst, err := f.message.appendFields(append(dst, 0), raw, opts, depth+1)
		if err != nil {
			return nil, err
		}
		return endDelimited(dst, start), nil
	}
	return dst, nil // of an unknown type only the head is written
}

// endDelimited writes the length of dst[start:] before it, where one byte has been left for it.
func endDelimited(dst []byte, start int) []byte {
	n := len(dst) - start
	if n < 0x80 {
		dst[start-1] = byte(n)
		return dst
	}
	var prefix [10]byte
	length := appendUvarint(prefix[:0], uint64(n))
	dst[start-1] = length[0]
	return slices.Insert(dst, start, length[1:]...)
}

// appendText appends a value as the text of a string field.
func appendText(dst, raw []byte, opts ProtoOptions) []byte {
	start := len(dst)
	switch raw[0] {
	case '"':
		dst = appendUnescaped(dst, raw[1:len(raw)-1])
	case 'n':
	default:
		dst = append(dst, raw...)
	}
	if opts.CESU8 && hasAstral(dst[start:]) {
		dst = appendCESU8(dst[:start], string(dst[start:]))
	}
	return dst
}

// jsonInteger reads a number without its fraction, or the integer a string begins with, as
// JavaScript's parseInt would. The result is within ±maxProtoInteger.
func jsonInteger(raw []byte) (int64, error) {
	text := string(raw)
	if raw[0] == '"' {
		text, _ = StringValue(raw)
		text = integerPrefix(strings.TrimLeft(text, " \t\r\n"))
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(x, 0) { // text is a boolean, a container or no number
		return 0, errProtoType
	}
	if x = math.Trunc(x); math.Abs(x) > maxProtoInteger {
		return 0, errProtoRange
	}
	return int64(x), nil
}

// integerPrefix is the sign and digits s begins with.
func integerPrefix(s string) string {
	i := 0
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		i++
	}
	for i < len(s) && s[i]-'0' < 10 {
		i++
	}
	return s[:i]
}

// jsonFloat reads a number, a string that is one, or a boolean.
func jsonFloat(raw []byte) (float64, error) {
	switch raw[0] {
	case 't':
		return 1, nil
	case 'f':
		return 0, nil
	case '"':
		s, _ := StringValue(raw)
		raw = []byte(strings.TrimSpace(s))
	}
	if len(raw) == 0 {
		return 0, errProtoType
	}
	if end, ok := skipNumber(raw, 0); !ok || end < len(raw) {
		return 0, errProtoType
	}
	x, _ := strconv.ParseFloat(string(raw), 64) // out of range is infinite, as in JavaScript
	return x, nil
}
