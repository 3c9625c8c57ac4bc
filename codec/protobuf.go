package codec

import (
	"errors"
	"math"
	"strconv"
)

// pomelo-protobuf is not Google's protobuf (protocol.md §3):
//
//	message   fields, each its head and its value, in the order of the JSON object's keys
//	head      varint of tag<<3 | wire; readers ignore wire and go by the definition
//	uInt32    varint
//	sInt32    varint of the zigzag form
//	int32     the same: there is no plain signed varint
//	float     4 bytes IEEE 754, little-endian
//	double    8 bytes IEEE 754, little-endian
//	string    varint length in bytes, then that many bytes of text
//	message   varint length in bytes, then its fields
//	repeated  numbers: one head, varint count of elements, the elements;
//	          strings and messages: head and value for every element
//
// A varint holds seven bits a byte, least significant first; bit 7 means more follows. A field
// of an unknown type has no value on the wire, only its head.

// Wire types, as the original server writes them. The browser encoder writes wireLength where
// the server writes wireVarint.
const (
	wireVarint = 0
	wireDouble = 1
	wireLength = 2
	wireFloat  = 5
)

const (
	// maxProtoDepth is how many messages may stand inside one another, the outermost counted,
	// in definitions and on the wire. It bounds the stack when a definition contains itself,
	// and keeps what is decoded within maxJSONDepth.
	maxProtoDepth = 32

	// maxProtoInteger is the largest integer that is exact in JavaScript, on the wire after
	// zigzag. Larger ones are refused in both directions.
	maxProtoInteger = 1<<53 - 1

	// maxProtoTag is the largest tag whose head fits JavaScript's 32-bit shift.
	maxProtoTag = 1<<28 - 1
)

var (
	// errProtoDefinition is returned for definition files with parts no codec could use:
	// values of the wrong kind, tags out of range, nesting beyond 32 levels.
	errProtoDefinition = errors.New("bad protobuf definition")

	// errProtoRequired is returned on encoding when a required field is missing or null.
	errProtoRequired = errors.New("required field missing")

	// errProtoEmpty is returned on encoding when no field would be written at all, which the
	// original counts as a failure.
	errProtoEmpty = errors.New("no field to write")

	// errProtoType is returned on encoding for a value its field cannot hold, and in both
	// directions for elements of a type that has no form on the wire.
	errProtoType = errors.New("value does not fit its field")

	// errProtoRange is returned for integers a field cannot hold: negative ones in a uInt32,
	// and those that JavaScript could not hold exactly.
	errProtoRange = errors.New("integer out of range")

	// errProtoTruncated is returned on decoding when a message ends inside a field.
	errProtoTruncated = errors.New("message ends inside a field")

	// errProtoTag is returned on decoding for a tag the definition does not have.
	errProtoTag = errors.New("unknown tag")

	// errProtoDepth is returned for messages nested deeper than 32 levels.
	errProtoDepth = errors.New("messages nested too deeply")
)

// ProtoOptions are what AppendEncode leaves to its caller.
type ProtoOptions struct {
	// CESU8 writes characters above U+FFFF as surrogates: for clients whose handshake
	// sys.type is js-websocket and for no others (protocol.md §2.6).
	CESU8 bool

	// FillStrings writes "" for required strings that are missing or null, at any level,
	// after the fields that are there, instead of failing. For onChat,
	// so that every recipient gets a message it can decode (protocol.md §3.2).
	FillStrings bool
}

// LooksLikeJSON tells whether a body on a protobuf route is JSON instead: it opens with a brace.
// As a head a brace is tag 15 with wire type 3, and no encoder writes 3: the server's writes 0,
// 1, 2 and 5, the browser's 1, 2 and 5. White space before the brace is not allowed for, because
// a space or newline may open a message (tag 4 wire 0, tag 1 wire 2).
func LooksLikeJSON(b []byte) bool { return len(b) > 0 && b[0] == '{' }

// appendUvarint appends n, at most maxProtoInteger.
func appendUvarint(dst []byte, n uint64) []byte {
	for ; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// readUvarint reads the varint at b[i] and returns where it ends. Redundant zero groups are
// accepted, as the original does, up to ten bytes in all.
func readUvarint(b []byte, i int) (n uint64, end int, err error) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1, nil // nearly all are
	}
	for shift := uint(0); shift < 70; shift += 7 {
		if i >= len(b) {
			return 0, i, errProtoTruncated
		}
		c := b[i]
		i++
		if shift < 56 {
			n |= uint64(c&0x7F) << shift
		} else if c&0x7F != 0 {
			return 0, i, errProtoRange
		}
		if c < 0x80 {
			if n > maxProtoInteger {
				return 0, i, errProtoRange
			}
			return n, i, nil
		}
	}
	return 0, i, errProtoRange
}

// readLength reads the varint length at b[i], which must not reach past the end of b, and
// returns where what it measures starts and ends.
func readLength(b []byte, i int) (start, end int, err error) {
	n, start, err := readUvarint(b, i)
	if err != nil {
		return 0, 0, err
	}
	if n > uint64(len(b)-start) {
		return 0, 0, errProtoTruncated
	}
	return start, start + int(n), nil
}

func zigzag(n int64) uint64 { return uint64(n)<<1 ^ uint64(n>>63) }

func unzigzag(n uint64) int64 { return int64(n>>1) ^ -int64(n&1) }

// appendJSONFloat appends f as JSON.stringify would: NaN and the infinities, which JSON has no
// form for, are null, and -0 loses its sign.
func appendJSONFloat(dst []byte, f float64) []byte {
	abs := math.Abs(f)
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return append(dst, "null"...)
	case f == 0:
		return append(dst, '0')
	case abs >= 1e-6 && abs < 1e21:
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	if n := len(dst); dst[n-3] == '-' && dst[n-2] == '0' {
		dst = append(dst[:n-2], dst[n-1]) // Go writes 1e-07 where JavaScript writes 1e-7
	}
	return dst
}
