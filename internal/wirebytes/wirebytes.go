// Package wirebytes reads and writes what all encodings of state and messages between processes are made of: bytes, varints, and blocks,
// which are bytes behind their length.
package wirebytes

import (
	"encoding/binary"
	"math"
)

// Reader takes an encoding apart. After the first fault everything it returns is zero, so that a decoder asks once, at its end,
// whether its input was good (End, OK). The zero Reader has nothing to read. Blocks lie in the input.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader reads b.
func NewReader(b []byte) Reader { return Reader{b: b} }

// OK tells whether there was no fault so far.
func (r *Reader) OK() bool { return !r.bad }

// End tells whether there was no fault, and nothing is left.
func (r *Reader) End() bool { return !r.bad && len(r.b) == 0 }

// More tells whether there was no fault, and something is left.
func (r *Reader) More() bool { return !r.bad && len(r.b) > 0 }

// Fail says that what was read is out of place.
func (r *Reader) Fail() { r.b, r.bad = nil, true }

// Rest is what has not been read yet.
func (r *Reader) Rest() []byte { return r.b }

// Parse has another decoder read the rest, and goes on with what that leaves.
func (r *Reader) Parse(decode func(b []byte) (rest []byte, err error)) {
	rest, err := decode(r.b)
	if r.b = rest; err != nil {
		r.Fail()
	}
}

// Take returns the next n bytes.
func (r *Reader) Take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.Fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// Byte returns the next byte.
func (r *Reader) Byte() byte {
	if b := r.Take(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint returns a varint.
func (r *Reader) Uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// UpTo returns a varint that must not be greater than most.
func (r *Reader) UpTo(most uint64) uint64 {
	v := r.Uint()
	if v > most {
		r.Fail()
		return 0
	}
	return v
}

// Uint32 returns a varint of at most 32 bits.
func (r *Reader) Uint32() uint32 { return uint32(r.UpTo(math.MaxUint32)) }

// Fixed64 returns a number of eight bytes, the highest first.
func (r *Reader) Fixed64() uint64 {
	if b := r.Take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Block returns the bytes of a block, nil when there are none.
func (r *Reader) Block() []byte {
	if n := r.Uint(); n > 0 {
		return r.Take(n)
	}
	return nil
}

// AppendBlock appends s as a block.
func AppendBlock[T string | []byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// AppendUints appends varints.
func AppendUints(dst []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		dst = binary.AppendUvarint(dst, n)
	}
	return dst
}
