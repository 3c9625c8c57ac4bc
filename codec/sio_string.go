package codec

import (
	"encoding/binary"
	"unicode/utf16"
)

// The string that a client sends inside a socket.io message (protocol.md §4.1), in UTF-16 code
// units of which the header counts the low bytes only:
//
//	+----------------+------------------+-------------+------------+
//	| id, big-endian | route length (n) | route       | body, JSON |
//	| 4 units        | 1 unit           | n units     | the rest   |
//	+----------------+------------------+-------------+------------+
const sioHeadUnits = 5

// SIOMessage is a client's message in the string format of the socket.io connector.
type SIOMessage struct {
	ID    int32 // signed, as the original reads it; 0: a notify
	Route []byte
	Body  []byte // may be empty or no JSON: a request is answered with code 500 then
}

// ParseSIOMessage reads a client's string, given as UTF-8 (protocol.md §4.1). A lone surrogate may
// stand in it as its three WTF-8 bytes or have become U+FFFD, it is one code unit either way. The
// slices alias text. ok is false if text is shorter than the header, or than its route.
//
// Where a border cuts a character above U+FFFF in half, the whole of it is left to the part behind:
// that part was no route and no JSON to begin with, and still is none.
func ParseSIOMessage(text []byte) (m SIOMessage, ok bool) {
	var head [sioHeadUnits]byte
	start, lent, ok := sioHead(&head, text)
	if !ok {
		return SIOMessage{}, false
	}
	n, missing := skipUnits(text[start:], int(head[4])+lent)
	end := start + n
	if missing > 0 && end == len(text) {
		return SIOMessage{}, false
	}
	return SIOMessage{
		ID:    int32(binary.BigEndian.Uint32(head[:4])),
		Route: text[start:end:end],
		Body:  text[end:],
	}, true
}

// sioHead fills head with the low bytes of the first code units of text and returns where the rest
// starts. A character of which the last unit is one half still starts at next, and lent is 1.
func sioHead(head *[sioHeadUnits]byte, text []byte) (next, lent int, ok bool) {
	for i := 0; i < sioHeadUnits; i++ {
		if next == len(text) {
			return 0, 0, false
		}
		r, n := decodeWTF8(text[next:])
		if r > 0xFFFF {
			hi, lo := utf16.EncodeRune(r)
			head[i] = byte(hi)
			if i++; i == sioHeadUnits {
				return next, 1, true
			}
			r = lo
		}
		head[i] = byte(r)
		next += n
	}
	return next, 0, true
}
