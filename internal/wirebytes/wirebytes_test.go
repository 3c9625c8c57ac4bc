package wirebytes

import (
	"errors"
	"math"
	"testing"
)

// What was appended is read again; any shorter input is a fault, and nothing is read after one.
func TestReader(t *testing.T) {
	b := AppendUints(AppendBlock([]byte{7}, "block"), 0, 300, math.MaxUint64)
	b = AppendBlock(append(b, 0, 0, 0, 0, 0, 0, 1, 2), []byte(nil))
	read := func(b []byte) (got []any, r Reader) {
		r = NewReader(b)
		got = []any{r.Byte(), string(r.Block()), r.UpTo(0), r.UpTo(300), r.Uint(), r.Fixed64(), r.Block() == nil}
		return got, r
	}
	got, r := read(b)
	for i, want := range []any{byte(7), "block", uint64(0), uint64(300), uint64(math.MaxUint64), uint64(258), true} {
		if got[i] != want {
			t.Errorf("%d: got %v, want %v", i, got[i], want)
		}
	}
	if !r.OK() || !r.End() || r.More() {
		t.Error("it is not at its end")
	}
	for n := range b {
		if _, r := read(b[:n]); r.OK() || r.End() || r.More() || r.Rest() != nil {
			t.Errorf("%d bytes were enough", n)
		}
	}
	r = NewReader([]byte{2, 3, 4})
	if r.UpTo(1) != 0 || r.Byte() != 0 || r.OK() {
		t.Error("a number that is too large is no fault")
	}
	r = NewReader([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1})
	if r.Uint() != 0 || r.OK() {
		t.Error("a number of more than 64 bits is no fault")
	}
}

// Parse goes on behind what the other decoder has read, and takes its error for a fault.
func TestReaderParse(t *testing.T) {
	r := NewReader([]byte{1, 2, 3})
	r.Parse(func(b []byte) ([]byte, error) { return b[2:], nil })
	if r.Byte() != 3 || !r.End() {
		t.Error("it is elsewhere")
	}
	r = NewReader([]byte{1, 2, 3})
	r.Parse(func(b []byte) ([]byte, error) { return b, errors.New("no") })
	if r.OK() || r.More() {
		t.Error("an error is no fault")
	}
}
