package router

import (
	"bytes"

	"github.com/pomelod/pomelod/codec"
)

// eio3 is Engine.IO 3, of socket.io 1 and 2 (protocol.md §6). The server connects the session by itself, and it is the client that pings.
type eio3 struct{ engineIO }

func newEIO3(b base) protocol {
	p := &eio3{engineIO{packets: packets{base: b, closeCode: codec.WSCloseNormal}}}
	p.take, p.generation = p.packet, p
	p.probe, p.preflight, p.timeout = protoProbe3, 200, b.l.limits.PingTimeoutSeconds
	p.asksWith = true
	p.noSuchNamespace = `,"Invalid namespace"`
	return p
}

func (p *eio3) owns(r *request) bool { return ownsEIO(r, false) }

// alive: whatever the client says is life.
func (p *eio3) alive(s *session) uint32 {
	if s.phase != working { // it has its time for the connect
		return s.alive
	}
	return p.l.np.Now() + p.l.limits.PingSeconds + p.timeout
}

func (p *eio3) welcomed(s *session) {
	p.send(s, []byte("40"))
	p.work(s)
}

func (p *eio3) appendLimits(b []byte) []byte { return b }

func (p *eio3) connected(*session, []byte) {} // it was told so long ago

func (p *eio3) form(rep *reply, r *request, text bool) (jsonp bool) {
	j, jsonp := codec.QueryValue(r.head.Query, "j")
	if jsonp {
		rep.callback = "___eio[" + digits(j) + "]"
	}
	rep.form = codec.PayloadEIO3Binary
	if text || jsonp {
		rep.form = codec.PayloadEIO3Text
	}
	rep.cookie = len(r.sid) == 0
	return jsonp
}

func (p *eio3) postForm(r *request, jsonp bool) codec.PayloadForm {
	if !jsonp && bytes.HasPrefix(r.head.ContentType, []byte("application/octet-stream")) {
		return codec.PayloadEIO3Binary
	}
	return codec.PayloadEIO3Text
}

func (p *eio3) postHeaders(headers []codec.HTTPHeader) []codec.HTTPHeader { return headers }
