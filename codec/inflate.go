package codec

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
)

// errInflate is returned for a compressed body that is damaged, or that is longer than it may be.
var errInflate = errors.New("compressed body cannot be inflated")

const (
	// maxRatio is how much longer than its compressed form a body may be: JSON and text come to 20 at the most, zeros to 1000.
	maxRatio = 100
	// minInflated is the length that is allowed whatever the ratio: short repetitive text compresses well.
	minInflated = 4 << 10
	// maxCompressed is how long the compressed form may be, in bytes. The time that inflating takes is bounded by it and not by what
	// comes out: 40 bytes are enough for another Huffman table.
	maxCompressed = 32 << 10
)

// Inflater inflates bodies whose message flag has bit 4 (protocol.md §2.5). Its readers, some 40 KiB each, are made when they are
// first needed and kept: to make one for each body costs ten times what inflating a short one does. Not safe for concurrent
// use.
type Inflater struct {
	in   bytes.Reader
	gzip *gzip.Reader
	zlib io.ReadCloser
}

// IsCompressed tells whether b begins as gzip or zlib data does. The bit alone does not say it: the original never looked at it.
func IsCompressed(b []byte) bool { return isGzip(b) || isZlib(b) }

func isGzip(b []byte) bool { return len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b }

// isZlib looks for the two bytes of RFC 1950 §2.2. No JSON object begins like this.
func isZlib(b []byte) bool {
	return len(b) > 2 && b[0]&0x0f == 8 && b[0]>>4 <= 7 && (uint(b[0])<<8|uint(b[1]))%31 == 0
}

// AppendInflated inflates b, which is gzip or zlib data, and appends the result, at most limit bytes. On an error, which is the peer's
// fault, dst is returned as it was. What follows the data is ignored.
func (f *Inflater) AppendInflated(dst, b []byte, limit int) ([]byte, error) {
	if len(b) > maxCompressed {
		return dst, errInflate
	}
	f.in.Reset(b)
	defer f.in.Reset(nil)
	r, err := f.reader(b)
	if err != nil {
		return dst, errInflate
	}
	limit = min(limit, max(minInflated, maxRatio*len(b)))
	out := dst
	for {
		if len(out) == cap(out) {
			out = append(out, 0)[:len(out)]
		}
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case len(out)-len(dst) > limit:
			return dst, errInflate
		case err == io.EOF:
			return out, nil
		case err != nil:
			return dst, errInflate
		}
	}
}

// reader begins to read b.
func (f *Inflater) reader(b []byte) (r io.Reader, err error) {
	switch {
	case isGzip(b) && f.gzip == nil:
		f.gzip, err = gzip.NewReader(&f.in)
	case isGzip(b):
		err = f.gzip.Reset(&f.in)
	case isZlib(b) && f.zlib == nil:
		f.zlib, err = zlib.NewReader(&f.in)
	case isZlib(b):
		err = f.zlib.(zlib.Resetter).Reset(&f.in, nil)
	default:
		return nil, errInflate
	}
	switch {
	case err != nil:
		return nil, err
	case isGzip(b):
		f.gzip.Multistream(false) // a stream of empty members would be work without an end
		return f.gzip, nil
	}
	return f.zlib, nil
}
