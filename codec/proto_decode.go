package codec

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// AppendDecode appends the pomelo-protobuf message b as JSON text (protocol.md §3.3), fit for
// every client: strings as AppendString writes them after NormalizeUTF8, numbers as
// JSON.stringify does. Members come in the order their fields first appear, as the original has
// them; of a single field the last value counts, and one that is overwritten is only measured,
// not looked into. Required fields are not enforced; an empty b is {}.
//
// On an error, which is the peer's fault, dst is returned as it was. The work is bounded by the size of
// b times the number of repeated fields and levels, the output by the size of b times the longest
// name of a field; b is not kept.
func (m *ProtoMessage) AppendDecode(dst, b []byte) ([]byte, error) {
	out, err := m.appendObject(dst, b, 1)
	if err != nil {
		return dst, fmt.Errorf("decode protobuf: %w", err)
	}
	return out, nil
}

// HasFourByteUTF8 is the function of this name for the strings of the message b. Behind a fault it looks no further.
func (m *ProtoMessage) HasFourByteUTF8(b []byte) bool { return m.hasFourByteUTF8(b, 1) }

func (m *ProtoMessage) hasFourByteUTF8(b []byte, depth int) bool {
	if depth > maxProtoDepth || !hasAstral(b) {
		return false
	}
	for i := 0; i < len(b); {
		field, start, err := m.readHead(b, i)
		if err != nil {
			return false
		}
		f := &m.fields[field]
		if i, err = f.skip(b, start); err != nil {
			return false
		}
		if f.kind != kindString && f.kind != kindMessage {
			continue
		}
		start, end, err := readLength(b, start)
		switch {
		case err != nil:
			return false
		case f.kind == kindString && HasFourByteUTF8(b[start:end]), f.kind == kindMessage && f.message.hasFourByteUTF8(b[start:end], depth+1):
			return true
		}
	}
	return false
}

// span is the part of a message in which a field occurs.
type span struct {
	field       int
	first, last int // of a single field both its last value; else first head to end of the last
}

func (m *ProtoMessage) appendObject(dst, b []byte, depth int) ([]byte, error) {
	if depth > maxProtoDepth {
		return nil, errProtoDepth
	}
	var inline [inlineFields]span
	spans, err := m.survey(inline[:0], b)
	if err != nil {
		return nil, err
	}
	dst = append(dst, '{')
	for i, s := range spans {
		if i > 0 {
			dst = append(dst, ',')
		}
		f := &m.fields[s.field]
		dst = append(dst, f.label...)
		if f.repeated() {
			dst, err = m.appendArray(dst, b[:s.last], s, depth)
		} else {
			dst, _, err = f.appendJSON(dst, b, s.first, depth)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return append(dst, '}'), nil
}

// survey checks the message at its own level and notes where each field stands, so that values
// can be written in JavaScript's order without being kept.
func (m *ProtoMessage) survey(spans []span, b []byte) ([]span, error) {
	for i := 0; i < len(b); {
		field, start, err := m.readHead(b, i)
		if err != nil {
			return nil, err
		}
		f := &m.fields[field]
		end, err := f.skip(b, start)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		first, last := start, start
		if f.repeated() {
			first, last = i, end
		}
		if f.kind != kindUnknown {
			spans = note(spans, span{field, first, last}, f.repeated())
		}
		i = end
	}
	return spans, nil
}

func note(spans []span, s span, repeated bool) []span {
	for i := range spans {
		if spans[i].field != s.field {
			continue
		}
		if repeated {
			s.first = spans[i].first
		}
		spans[i] = s
		return spans
	}
	return append(spans, s)
}

// readHead reads the head at b[i] and returns where its value starts.
func (m *ProtoMessage) readHead(b []byte, i int) (field, start int, err error) {
	head, start, err := readUvarint(b, i)
	if err != nil {
		return 0, 0, err
	}
	field, ok := m.byTag(head >> 3)
	if !ok {
		return 0, 0, fmt.Errorf("%w %d", errProtoTag, head>>3)
	}
	return field, start, nil
}

// skip returns where the value or chunk of values ends that starts at b[i].
func (f *protoField) skip(b []byte, i int) (end int, err error) {
	if !f.repeated() || f.kind == kindString || f.kind == kindMessage {
		return f.skipOne(b, i)
	}
	if f.kind == kindUnknown {
		return 0, errProtoType // elements without bytes: any count would be possible
	}
	count, i, err := readUvarint(b, i)
	if err != nil {
		return 0, err
	}
	if count > uint64(len(b)-i) { // an element has a byte at least: no lying count loops
		return 0, errProtoTruncated
	}
	for ; count > 0; count-- {
		if i, err = f.skipOne(b, i); err != nil {
			return 0, err
		}
	}
	return i, nil
}

func (f *protoField) skipOne(b []byte, i int) (end int, err error) {
	switch f.kind {
	case kindUint, kindSint:
		_, end, err = readUvarint(b, i)
	case kindFloat:
		end = i + 4
	case kindDouble:
		end = i + 8
	case kindString, kindMessage:
		_, end, err = readLength(b, i)
	default:
		end = i
	}
	if err == nil && end > len(b) {
		err = errProtoTruncated
	}
	return end, err
}

// appendArray appends the elements of every chunk of a field in b from s.first on. The survey
// has been through b, so heads and lengths are known to be good.
func (m *ProtoMessage) appendArray(dst, b []byte, s span, depth int) ([]byte, error) {
	dst = append(dst, '[')
	empty := true
	for i := s.first; i < len(b); {
		field, start, err := m.readHead(b, i)
		if err != nil {
			return nil, err
		}
		f := &m.fields[field]
		if i, err = f.skip(b, start); err != nil {
			return nil, err
		}
		if field != s.field {
			continue
		}
		count := uint64(1)
		if f.kind != kindString && f.kind != kindMessage {
			count, start, _ = readUvarint(b, start)
		}
		for ; count > 0; count-- {
			if !empty {
				dst = append(dst, ',')
			}
			empty = false
			if dst, start, err = f.appendJSON(dst, b, start, depth); err != nil {
				return nil, err
			}
		}
	}
	return append(dst, ']'), nil
}

// appendJSON appends the value at b[i], which skip has accepted, and returns where it ends.
func (f *protoField) appendJSON(dst, b []byte, i, depth int) ([]byte, int, error) {
	switch f.kind {
	case kindUint:
		n, end, err := readUvarint(b, i)
		return strconv.AppendUint(dst, n, 10), end, err
	case kindSint:
		n, end, err := readUvarint(b, i)
		return strconv.AppendInt(dst, unzigzag(n), 10), end, err
	case kindFloat:
		x := math.Float32frombits(binary.LittleEndian.Uint32(b[i:]))
		return appendJSONFloat(dst, float64(x)), i + 4, nil
	case kindDouble:
		x := math.Float64frombits(binary.LittleEndian.Uint64(b[i:]))
		return appendJSONFloat(dst, x), i + 8, nil
	}
	start, end, err := readLength(b, i)
	if err != nil {
		return nil, 0, err
	}
	if f.kind == kindString {
		return appendQuoted(dst, NormalizeUTF8(b[start:end]), true), end, nil
	}
	dst, err = f.message.appendObject(dst, b[start:end], depth+1)
	return dst, end, err
}
