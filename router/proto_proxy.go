package router

import "github.com/pomelod/pomelod/codec"

// proxy reads the PROXY header with which a trusted proxy begins each of its connections (access.go).
type proxy struct{ base }

func newProxy(b base) protocol { return &proxy{b} }

// proxySeconds is the time for a PROXY header: proxies send it with the first packet.
const proxySeconds = 3

// awaitProxyHeader begins the time for a PROXY header.
func (l *loop) awaitProxyHeader(s *session) {
	s.proto = protoProxy
	l.until(s, l.np.Now()+proxySeconds)
}

func (p *proxy) data(s *session, b []byte) int {
	client, n, err := codec.ParseProxyHeader(b)
	switch {
	case err != nil:
		p.l.end(s, reasonProtocol)
		return 0
	case n == 0:
		return 0
	}
	if client.IsValid() {
		s.conn.SetPeer(client)
	}
	if !p.l.node.access.claim(s.conn, s.conn.Peer()) {
		p.l.turnAway(s)
		return 0
	}
	p.l.sniffing(s)
	return n
}

func (p *proxy) late(s *session) { p.l.end(s, reasonHandshakeTimeout) }
