package router

import (
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
)

// inflate makes the body of a message whose flag says that it is compressed what it is (protocol.md §2.5). One that does not look
// compressed is left alone, as the original does. It returns false when the message has been dealt with: the session may say
// nothing now, or the body is damaged or a bomb, which a request is told by a refusal.
func (l *loop) inflate(s *session, c *call) bool {
	if !codec.IsCompressed(c.body) {
		return true
	}
	if l.limiter.spent(&s.meter) { // before any work is done
		l.refuse(s, c, limitSession)
		return false
	}
	packed := len(c.body)
	body, err := l.inflater.AppendInflated(l.inflated[:0], c.body, l.limits.PackageBytes)
	l.inflated = keep(body)
	l.limiter.spend(&s.meter, packed/packedUnit+len(body)/inflatedUnit)
	if err != nil {
		l.counters.malformed++
		l.charge(s, packed)
		if refusal := channel.Refused; s.phase != ended {
			if c.route.handle.enters {
				refusal = channel.EnterRefused
			}
			l.answer(s, c, refusal)
		}
		return false
	}
	c.body = body
	return true
}

// How many bytes count as one more message of the session's rate: of what was sent, as 32 KiB of nothing but Huffman tables take
// 5 ms, and of what came out.
const (
	packedUnit   = 512
	inflatedUnit = 4 << 10
)
