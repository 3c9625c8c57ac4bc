package netpoll

// leastLent is the length from which on not copying pays: shorter ones fit into stages as they are pooled. What lending
// spares: of 4,000 who enter one room, 97 of 100 MB of garbage.
const leastLent = 4 << 10

// stage is what is to be written to a conn in one write: bytes, and in between, if anything was lent (Loop.Lend), that.
type stage struct {
	b    []byte
	lent []byte // immutable, and not copied; nil mostly
	at   int    // its place in b
}

// len is the number of bytes.
func (s *stage) len() int { return len(s.b) + len(s.lent) }

// lend puts b behind what is there. The lender must not change it any more.
func (s *stage) lend(b []byte) { s.lent, s.at = b, len(s.b) }

// appendTo appends what is staged from from up to, but not including, to.
func (s *stage) appendTo(dst []byte, from, to int) []byte {
	at, n := s.at, len(s.lent)
	if from < at {
		dst = append(dst, s.b[from:min(to, at)]...)
	}
	if from < at+n && to > at {
		dst = append(dst, s.lent[max(from-at, 0):min(to-at, n)]...)
	}
	if to > at+n {
		dst = append(dst, s.b[max(from-n, at):to-n]...)
	}
	return dst
}

// clear empties the stage; it keeps up to maxStageKept of its memory.
func (s *stage) clear() {
	if cap(s.b) > maxStageKept {
		s.b = nil
	}
	s.b, s.lent, s.at = s.b[:0], nil, 0
}

// maxStageKept is how much memory a stage keeps.
const maxStageKept = 16 << 10
