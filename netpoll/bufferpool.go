package netpoll

// bufferPool keeps a loop's recently used buffers. Bounded in number and in the size of what it keeps.
type bufferPool struct{ free [][]byte }

const (
	maxPooledBuffers = 64
	maxPooledBytes   = 2 * chunkBytes
)

func (p *bufferPool) get() []byte {
	n := len(p.free)
	if n == 0 {
		return nil
	}
	b := p.free[n-1]
	p.free[n-1] = nil
	p.free = p.free[:n-1]
	return b
}

func (p *bufferPool) put(b []byte) {
	if cap(b) > 0 && cap(b) <= maxPooledBytes && len(p.free) < maxPooledBuffers {
		p.free = append(p.free, b[:0])
	}
}
