package codec

import "bytes"

// Where the body of a request ends (RFC 9112 §6, §7.1). Of chunked bodies only those are accepted that
// no two parties can read in two ways, as with heads: lines end in CRLF, a size is hex digits and
// nothing else.

const (
	// maxChunkDigits is how long the size of a chunk may be, leading zeros counted; more would
	// not fit into 64 bits.
	maxChunkDigits = 16

	// maxBodyExtras is how many bytes the chunk extensions and trailers of a body may have, all
	// together. They are checked and dropped; no client of ours sends any.
	maxBodyExtras = 1024

	// freeWireBytes is how much of a chunked body may arrive before the share of its framing
	// matters.
	freeWireBytes = 1024
)

var (
	errBodyTooLong = &HTTPError{413, "request body too long"}
	errBodyFraming = &HTTPError{413, "too much framing for the request body"}
	errBodyChunk   = &HTTPError{400, "malformed chunk"}
	errBodyTrailer = &HTTPError{400, "malformed trailer"}
)

// bodyState is what the next byte of a chunked body belongs to.
type bodyState uint8

const (
	bodySize      bodyState = iota // a chunk's size, of which one digit there must be
	bodySizeMore                   // more digits, or what ends them
	bodyExtension                  // chunk extensions
	bodySizeLF
	bodyData
	bodyDataCR
	bodyDataLF
	bodyTrailer // behind the last chunk: a trailer or the last line
	bodyTrailerName
	bodyTrailerValue
	bodyTrailerLF
	bodyEndLF
	bodyDone
)

// HTTPBody finds the end of a request body that is being received. The zero value is ready, for one
// body. It holds offsets only, so the bytes may move between calls, and it looks at each of them
// once, however they come.
type HTTPBody struct {
	pos    int // bytes taken
	left   int // the chunk's size while that is read, then what is missing of its data
	total  int // the sizes of the chunks so far, this one included
	extras int // bytes of extensions and trailers
	digits int // of the chunk's size
	state  bodyState
}

// End is given a request's head and all that has been received behind it so far. done tells whether
// the body is complete; then n is how many bytes it takes on the wire. A request with neither
// Content-Length nor chunked coding has an empty body.
//
// limit bounds the decoded body: one that will be longer is refused with 413 as soon as that is
// known. It bounds the wire too, lest many tiny chunks pass: none may start after more than 1 KiB
// and four times limit have arrived (413). A malformed body is refused with 400. s is of no use
// after an error.
func (s *HTTPBody) End(h *HTTPHead, b []byte, limit int) (n int, done bool, err *HTTPError) {
	if !h.Chunked {
		size := max(h.ContentLength, 0)
		switch {
		case size > int64(limit):
			return 0, false, errBodyTooLong
		case size > int64(len(b)):
			return 0, false, nil
		}
		return int(size), true, nil
	}
	for s.state != bodyDone {
		if s.pos == len(b) {
			return 0, false, nil
		}
		if s.state == bodyData {
			s.skipData(len(b) - s.pos)
			continue
		}
		if err := s.step(b[s.pos], limit); err != nil {
			return 0, false, err
		}
		s.pos++
	}
	return s.pos, true, nil
}

// skipData takes what is there of a chunk's data.
func (s *HTTPBody) skipData(available int) {
	n := min(s.left, available)
	s.pos += n
	s.left -= n
	if s.left == 0 {
		s.state = bodyDataCR
	}
}

// step takes one byte of the framing.
func (s *HTTPBody) step(c byte, limit int) *HTTPError {
	switch s.state {
	case bodySize:
		s.left, s.digits = 0, 0
		return s.sizeDigit(c, limit)
	case bodySizeMore:
		switch c {
		case '\r':
			s.state = bodySizeLF
			return nil
		case ';':
			return s.skip(c, bodyExtension)
		}
		return s.sizeDigit(c, limit)
	case bodyExtension:
		return s.skipLine(c, bodyExtension, bodySizeLF)
	case bodySizeLF:
		return s.startChunk(c, limit)
	case bodyDataCR:
		return s.expect(c, '\r', bodyDataLF)
	case bodyDataLF:
		return s.expect(c, '\n', bodySize)
	case bodyTrailer:
		if c == '\r' {
			s.state = bodyEndLF
			return nil
		}
		return s.trailerName(c)
	case bodyTrailerName:
		if c == ':' {
			return s.skip(c, bodyTrailerValue)
		}
		return s.trailerName(c)
	case bodyTrailerValue:
		return s.skipLine(c, bodyTrailerValue, bodyTrailerLF)
	case bodyTrailerLF:
		return s.expect(c, '\n', bodyTrailer)
	}
	return s.expect(c, '\n', bodyDone) // bodyEndLF
}

// sizeDigit takes a digit of a chunk's size, which must fit into what the limit leaves.
func (s *HTTPBody) sizeDigit(c byte, limit int) *HTTPError {
	v, ok := hexValue(c)
	if !ok || s.digits == maxChunkDigits {
		return errBodyChunk
	}
	size := uint64(s.left)<<4 | uint64(v)
	if size > uint64(limit-s.total) {
		return errBodyTooLong
	}
	s.left, s.digits, s.state = int(size), s.digits+1, bodySizeMore
	return nil
}

// startChunk takes the line feed behind a chunk's size.
func (s *HTTPBody) startChunk(c byte, limit int) *HTTPError {
	if (s.pos-freeWireBytes)/4 > limit { // a product might overflow
		return errBodyFraming
	}
	s.total += s.left
	if s.left == 0 {
		return s.expect(c, '\n', bodyTrailer)
	}
	return s.expect(c, '\n', bodyData)
}

func (s *HTTPBody) trailerName(c byte) *HTTPError {
	if !isToken([]byte{c}) { // white space too: neither folded lines nor a space before the colon
		return errBodyTrailer
	}
	return s.skip(c, bodyTrailerName)
}

// skipLine skips up to the carriage return, which leads to the state end.
func (s *HTTPBody) skipLine(c byte, inside, end bodyState) *HTTPError {
	if c == '\r' {
		s.state = end
		return nil
	}
	return s.skip(c, inside)
}

// skip takes a byte of an extension or a trailer.
func (s *HTTPBody) skip(c byte, next bodyState) *HTTPError {
	if !isFieldValue([]byte{c}) {
		return errBodyChunk
	}
	if s.extras++; s.extras > maxBodyExtras {
		return errBodyFraming
	}
	s.state = next
	return nil
}

func (s *HTTPBody) expect(c, want byte, next bodyState) *HTTPError {
	if c != want {
		return errBodyChunk
	}
	s.state = next
	return nil
}

// HTTPBodyBytes returns the body of a request without its framing. wire is the bytes of which
// HTTPBody.End has found the number. Chunks are joined behind dst; any other body is wire itself.
func HTTPBodyBytes(h *HTTPHead, wire, dst []byte) []byte {
	if !h.Chunked {
		return wire
	}
	for {
		size, start := chunkAt(wire)
		if size <= 0 || size > len(wire)-start-len("\r\n") {
			return dst
		}
		dst = append(dst, wire[start:start+size]...)
		wire = wire[start+size+len("\r\n"):]
	}
}

// chunkAt reads the first line of a chunk that End has accepted.
func chunkAt(wire []byte) (size, start int) {
	for start < len(wire) {
		v, ok := hexValue(wire[start])
		if !ok {
			break
		}
		size = size<<4 | int(v)
		start++
	}
	return size, start + bytes.IndexByte(wire[start:], '\n') + 1
}
