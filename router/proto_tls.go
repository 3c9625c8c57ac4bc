package router

import "github.com/pomelod/pomelod/codec"

// tlsStart is what a client speaks on a listener with TLS before its handshake has begun, and, as it hears nothing of that, until it is done. A
// PROXY header comes before it, in the clear.
type tlsStart struct{ base }

func newTLSStart(b base) protocol { return &tlsStart{b} }

// recordHandshake is the first byte of TLS (RFC 8446 §5.1). No wire of ours begins with it.
const recordHandshake = 22

// answerPlain is for browsers and programs that speak HTTP in the clear where TLS is spoken.
const answerPlain = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: 54\r\n\r\n" +
	"This port speaks TLS: write https:// or wss:// to it.\n"

func (p *tlsStart) data(s *session, b []byte) int {
	switch {
	case s.conn.Secured(): // b is what has been decrypted
		s.proto = protoSniff
	case len(b) == 0:
	case b[0] == recordHandshake:
		p.l.np.Secure(s.conn)
	default:
		transport, known := codec.SniffTransport(b)
		if !known {
			return 0
		}
		if transport == codec.TransportHTTP {
			p.l.counters.httpErrors++
			p.l.np.Write(s.conn, []byte(answerPlain))
		}
		p.l.end(s, reasonProtocol)
	}
	return 0
}

func (p *tlsStart) late(s *session) { p.l.end(s, reasonHandshakeTimeout) }
