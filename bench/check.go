package main

import (
	"bytes"
	"fmt"
)

// A mark travels at the start of a message's content and comes back in each delivery: who sent it, the how-manieth of that
// sender it is, and when it was meant to be sent. Whatever packages, frames and segments a server merges deliveries
// into, counting marks counts them right.
//
//	~@ | sender, 3 digits | number, 5 digits | intended time in ns, 9 digits      digits of base 64, most significant first
type mark struct {
	sender int
	number uint32 // from 1
	at     int64  // of clock
}

const (
	markStart = "~@"
	markBytes = len(markStart) + 3 + 5 + 9

	maxSenders = 1 << (3 * 6)
	maxNumber  = 1<<(5*6) - 1

	markDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
)

// digitValue is 255 for what is no digit.
var digitValue = func() (t [256]uint8) {
	for i := range t {
		t[i] = 255
	}
	for i := range len(markDigits) {
		t[markDigits[i]] = uint8(i)
	}
	return t
}()

func (m mark) append(dst []byte) []byte {
	dst = append(dst, markStart...)
	dst = appendDigits(dst, uint64(m.sender), 3)
	dst = appendDigits(dst, uint64(m.number), 5)
	return appendDigits(dst, uint64(m.at), 9)
}

func appendDigits(dst []byte, v uint64, n int) []byte {
	for shift := 6 * (n - 1); shift >= 0; shift -= 6 {
		dst = append(dst, markDigits[v>>shift&63])
	}
	return dst
}

// findMark looks for a mark in a push's body, whatever its encoding.
func findMark(body []byte) (m mark, ok bool) {
	const first = len(`{"msg":"`) // where JSON of the usual member order has it
	if len(body) >= first+markBytes && string(body[first:first+len(markStart)]) == markStart {
		body = body[first:]
	} else if i := bytes.Index(body, []byte(markStart)); i >= 0 && len(body)-i >= markBytes {
		body = body[i:]
	} else {
		return m, false
	}
	body = body[len(markStart):markBytes]
	var v [3]uint64
	var bad uint8
	for i, c := range body {
		d := digitValue[c]
		bad |= d
		field := 0
		if i >= 8 {
			field = 2
		} else if i >= 3 {
			field = 1
		}
		v[field] = v[field]<<6 | uint64(d&63)
	}
	return mark{int(v[0]), uint32(v[1]), int64(v[2])}, bad < 64
}

// faults are what makes a run void. None of them is a matter of speed: a server that loses a message, or closes a
// connection, has done less work than one that does not.
type faults struct {
	Lost       int64 `json:"lost"`       // accepted by the server, not delivered to a member
	Disordered int64 `json:"disordered"` // delivered behind a later message of the same sender
	Duplicated int64 `json:"duplicated"` // delivered to the same member before
	Strange    int64 `json:"strange"`    // delivered to the wrong room, though refused, without a mark; answers out of order
	Closed     int64 `json:"closed"`     // connections that ended

	Reasons []string `json:"reasons,omitempty"` // the first few, in words
}

// maxReasons bounds what is said about faults.
const maxReasons = 5

func (f *faults) reason(format string, args ...any) {
	if len(f.Reasons) < maxReasons {
		f.Reasons = append(f.Reasons, fmt.Sprintf(format, args...))
	}
}

// void tells that the run's figures must not be used.
func (f *faults) void() bool {
	return f.Lost+f.Disordered+f.Duplicated+f.Strange+f.Closed > 0 || len(f.Reasons) > 0
}

// stream is what one member has seen of one sender.
type stream struct {
	seen uint64 // bit i: number last-i was delivered
	last uint32
	n    uint32 // delivered, duplicates not counted
}

// take notes a delivery and tells whether it is new. A gap is no fault yet: what fills it may be late, or may have
// been refused.
func (s *stream) take(number uint32, f *faults) bool {
	if number > s.last {
		s.seen = s.seen<<(number-s.last) | 1 // shifts of 64 and more give 0
		s.last = number
		s.n++
		return true
	}
	behind := s.last - number
	switch {
	case behind >= 64: // too far back to tell which; void either way
		f.Disordered++
		return false
	case s.seen&(1<<behind) != 0:
		f.Duplicated++
		return false
	}
	f.Disordered++
	s.seen |= 1 << behind
	s.n++
	return true
}

// end compares with what the server accepted of the sender: at least and at most so many, as some may have no answer.
func (s *stream) end(least, most uint32, f *faults) {
	switch {
	case s.n < least:
		f.Lost += int64(least - s.n)
	case s.n > most:
		f.Strange += int64(s.n - most)
	}
}
