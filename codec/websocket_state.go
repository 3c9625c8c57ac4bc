package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// errWSState is the error of ParseState: the input was not written by AppendState.
var errWSState = errors.New("malformed state of a WebSocket reader")

// AppendState appends what the reader keeps of a message that has begun and not ended, so that another reader, perhaps of another process,
// can go on where this one stopped: one byte mostly.
func (r *WSReader) AppendState(dst []byte) []byte {
	f := r.open
	if f == nil {
		return append(dst, 0)
	}
	flags := byte(1)
	if f.more {
		flags |= 2
	}
	dst = append(dst, flags, byte(f.kind))
	dst = binary.AppendUvarint(dst, uint64(f.valid))
	return append(binary.AppendUvarint(dst, uint64(len(f.buf))), f.buf...)
}

// ParseState makes r the reader whose state AppendState has put at the start of b, and returns what comes behind it. Nothing of r
// lies in b.
func (r *WSReader) ParseState(b []byte) (rest []byte, err error) {
	*r = WSReader{}
	if len(b) == 0 || b[0] > 3 || b[0] == 2 {
		return nil, errWSState
	}
	flags, b := b[0], b[1:]
	if flags == 0 {
		return b, nil
	}
	if len(b) == 0 || WSKind(b[0]) != WSText && WSKind(b[0]) != WSBinary {
		return nil, errWSState
	}
	f := &wsFragments{kind: WSKind(b[0]), more: flags&2 != 0}
	b = b[1:]
	valid, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, errWSState
	}
	b = b[n:]
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) || valid > size {
		return nil, errWSState
	}
	b = b[n:]
	f.valid, f.buf = int(valid), bytes.Clone(b[:size])
	r.open = f
	return b[size:], nil
}
