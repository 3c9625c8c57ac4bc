package router

import (
	"bytes"

	"github.com/pomelod/pomelod/codec"
)

// File is a file that is served as it is, at one path of every listener. Static once the node is made.
type File struct {
	Path        string // from the root, with its slash
	ContentType string
	ETag        string // quoted and weak: it is the same for Gzip
	Body        []byte
	Gzip        []byte // the same compressed; nil for none
	// Headers are sent with it.
	Headers []codec.HTTPHeader
}

// fileUnit is how many bytes of a file count as one more request of those that its client's address may make: else it would get hundreds of
// bytes for each that it sends, 50,000 times a second.
const fileUnit = 1 << 10

var errFileMethod = &codec.HTTPError{Status: 405, Reason: "only GET and HEAD"}

// serveFile answers from memory. A browser asks each time whether its copy is still good: a new version of the server
// shows at once, and costs an answer of a few bytes otherwise.
func (p *httpServer) serveFile(s *session, r *request) {
	l := p.l
	f := l.node.files[string(r.head.Path)]
	if m := string(r.head.Method); m != "GET" && m != "HEAD" {
		p.refuse(s, errFileMethod, false)
		return
	}
	headers := append(make([]codec.HTTPHeader, 0, 8), codec.HTTPHeader{Name: "Cache-Control", Value: "no-cache"},
		codec.HTTPHeader{Name: "X-Content-Type-Options", Value: "nosniff"})
	headers = append(headers, f.Headers...)
	body := f.Body
	if f.Gzip != nil {
		headers = append(headers, codec.HTTPHeader{Name: "Vary", Value: "Accept-Encoding"})
		if r.head.AcceptsGzip() {
			body = f.Gzip
			headers = append(headers, codec.HTTPHeader{Name: "Content-Encoding", Value: "gzip"})
		}
	}
	headers = append(headers, codec.HTTPHeader{Name: "ETag", Value: f.ETag})
	if bytes.Contains(r.head.IfNoneMatch, []byte(f.ETag)) { // RFC 9110 §13.1.2
		p.respond(s, 304, "", nil, headers...)
		return
	}
	if !s.x.http.reply.headOnly {
		l.node.access.charge(s.conn.Pass(), r.client.Addr(), len(body)/fileUnit)
	}
	p.respond(s, 200, f.ContentType, body, headers...)
}
