package codec

import (
	"strconv"
	"strings"
)

// Stream is the sequence of a room's pushes. Static; safe from any goroutine.
type Stream struct {
	Room string // its name
	// Incarnation tells this stream from all others that a room of that name has had or will have.
	Incarnation uint64
}

// Seq names a place in a room's stream: the pushes up to Number. Clients have it as "incarnation.number", in base 36 and 10, and compare it for
// equality only.
type Seq struct {
	Incarnation, Number uint64
}

// Append appends the text of q.
func (q Seq) Append(dst []byte) []byte {
	dst = strconv.AppendUint(dst, q.Incarnation, 36)
	return strconv.AppendUint(append(dst, '.'), q.Number, 10)
}

// ParseSeq reads what Append has written, and nothing else.
func ParseSeq(s string) (q Seq, ok bool) {
	incarnation, number, _ := strings.Cut(s, ".")
	var err1, err2 error
	q.Incarnation, err1 = strconv.ParseUint(incarnation, 36, 64)
	q.Number, err2 = strconv.ParseUint(number, 10, 64)
	if err1 != nil || err2 != nil || string(q.Append(make([]byte, 0, 40))) != s {
		return Seq{}, false
	}
	return q, true
}

// AppendPlace appends the members that tell extended clients of a place in a stream, without braces. A number of 0 is left out.
func AppendPlace(dst []byte, q Seq, time int64) []byte {
	if q.Number != 0 {
		dst = append(q.Append(append(dst, `"seq":"`...)), `",`...)
	}
	return strconv.AppendInt(append(dst, `"time":`...), time, 10)
}

// placed is the body as extended clients get it: with the room's name, the number and the time of the push at its end, so that they win where a
// program has members of those names.
func (p *Push) placed() []byte {
	at := len(p.Body) - 1
	for at > 0 && p.Body[at] != '}' {
		at--
	}
	b := append(make([]byte, 0, len(p.Body)+len(p.Stream.Room)+72), p.Body[:at]...)
	members := ScanObject(p.Body)
	if _, _, any := members.Next(); any {
		b = append(b, ',')
	}
	b = AppendString(append(b, `"rid":`...), p.Stream.Room)
	b = AppendPlace(append(b, ','), Seq{p.Stream.Incarnation, p.Seq}, p.Time)
	return append(b, '}')
}
