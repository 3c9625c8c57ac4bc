package router

import "github.com/pomelod/pomelod/codec"

// sniff tells HTTP from the raw TCP of hybrid clients, by the first four bytes (protocol.md §2.1).
type sniff struct{ base }

func newSniff(b base) protocol { return &sniff{b} }

// sniffing begins the time for the handshake.
func (l *loop) sniffing(s *session) {
	if s.proto = protoSniff; l.profile(s).TLS {
		s.proto = protoTLS
	}
	l.until(s, l.np.Now()+l.limits.HandshakeSeconds)
}

func (p *sniff) data(s *session, b []byte) int {
	transport, known := codec.SniffTransport(b)
	switch {
	case !known:
	case transport == codec.TransportHTTP:
		s.proto = protoHTTP
	case s.conn.Pass() != 0 || p.l.node.access.claim(s.conn, s.conn.Peer()): // nothing more will be told of where its client is
		p.l.protocols[protoHybrid].(*hybrid).begin(s, codec.FramingTCP)
	default:
		p.l.turnAway(s)
	}
	return 0
}

func (p *sniff) late(s *session) { p.l.end(s, reasonHandshakeTimeout) }
