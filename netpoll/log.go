package netpoll

// log is the part of a group's stream that some member may lack, and the pass that brings it to them: a cursor that goes
// round the members. Each gets, at its visit, everything that has been pushed until then (up to chunkBytes), in one write. So
// under load a push waits for no pass to end: the member visited next has it at once, all have it one round later, and a
// write carries what came within a round.
type log struct {
	chunks []chunk
	cursor int    // conns[:cursor] have been visited in this round
	todo   int    // every member that lacks something is among the next todo visits
	low    uint64 // the least cut of those visited in this round
	copies []piece
	fresh  bool // something was pushed since the last slice
}

// chunk is one stretch of the stream, whole pushes only.
type chunk struct {
	base uint64
	b    []byte
}

func (k *chunk) end() uint64 { return k.base + uint64(len(k.b)) }

// piece is an exact copy of a stretch of the stream that conns with a backlog refer to; made once, by the first that
// needs it. So chunks can always be recycled, and a frozen conn never pins a large buffer for a small push. The pieces of
// a log are next to each other and begin and end between pushes.
type piece struct {
	base uint64
	*shared
}

func (s *piece) end() uint64 { return s.base + uint64(len(s.b)) }

// base is where the log begins. It always has a chunk.
func (p *log) base() uint64 { return p.chunks[0].base }

// appendTo appends the stream from from on to dst.
func (p *log) appendTo(dst []byte, from, to uint64) []byte {
	for i := range p.chunks {
		if k := &p.chunks[i]; from < k.end() && to > k.base {
			dst = append(dst, k.b[max(from, k.base)-k.base:min(to, k.end())-k.base]...)
		}
	}
	return dst
}

// reach is how far a conn that has everything before from gets at a visit: as much as a healthy socket takes in one write.
func (p *log) reach(from, end uint64) (to uint64) {
	if end-from <= chunkBytes {
		return end
	}
	for i := range p.chunks {
		if k := &p.chunks[i]; k.end() > from && (to == 0 || k.end()-from <= chunkBytes) {
			to = k.end()
		}
	}
	return to
}

// drop takes the first n away and keeps nothing of them.
func drop[T any](list []T, n int) []T {
	kept := copy(list, list[n:])
	clear(list[kept:])
	return list[:kept]
}
