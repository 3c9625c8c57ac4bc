package router

import (
	"strconv"

	"github.com/pomelod/pomelod/auth"
	"github.com/pomelod/pomelod/codec"
)

// eio4 is Engine.IO 4, of socket.io 3 and 4 (protocol.md §7). The client connects the session, and it is we who ping.
type eio4 struct{ engineIO }

func newEIO4(b base) protocol {
	p := &eio4{engineIO{packets: packets{base: b, closeCode: codec.WSCloseNoStatus}}}
	p.take, p.generation = p.packet, p
	p.probe, p.preflight, p.timeout = protoProbe4, 204, b.l.limits.PingTimeout4Seconds
	p.acks, p.strict = true, true
	p.noSuchNamespace = `,{"message":"Invalid namespace"}`
	return p
}

func (p *eio4) owns(r *request) bool { return ownsEIO(r, true) }

func (p *eio4) alive(s *session) uint32 {
	if s.phase != working { // it has its time for the connect
		return s.alive
	}
	return p.nextPing(s)
}

func (p *eio4) silent(s *session, waiting bool) {
	if !p.ping(s, "2", p.timeout) {
		p.base.silent(s, waiting)
	}
}

func (p *eio4) acknowledge(s *session, id []byte) {
	if len(id) > 0 {
		b := append(append(append(p.l.packet[:0], "43"...), id...), "[]"...)
		p.l.packet = keep(b)
		p.send(s, b)
	}
}

func (p *eio4) welcomed(s *session) {
	p.l.until(s, p.l.np.Now()+p.l.limits.ConnectSeconds)
}

func (p *eio4) appendLimits(b []byte) []byte {
	return strconv.AppendInt(append(b, `,"maxPayload":`...), int64(p.l.limits.PackageBytes), 10)
}

func (p *eio4) connected(s *session, data []byte) {
	l := p.l
	if s.phase != opening {
		return
	}
	token := ""
	if l.node.logins != nil && l.profile(s).Type != Gate { // which tells everybody
		token = tokenIn(data)
	}
	if token != "" {
		if key := userKey(data); key != 0 { // it tells which client this is, before and after a cut
			s.needRare().secret = key
		}
	}
	if token == "" {
		p.welcomeSIO(s)
		return
	}
	l.login(s, auth.Login{Token: token}, func(s *session, who *identity, why string) {
		switch {
		case who == nil && why != "":
			p.send(s, []byte(`44{"message":"login refused: `+why+`"}`))
			l.end(s, reasonLogin)
		case who == nil:
			p.send(s, []byte(`44{"message":"login refused"}`))
			l.end(s, reasonLogin)
		default:
			l.identifyAs(s, who)
			p.welcomeSIO(s)
		}
		l.schedule(s)
		l.goOn(s)
	})
}

// welcomeSIO accepts the connect of socket.io.
func (p *eio4) welcomeSIO(s *session) {
	l := p.l
	b := append(l.node.sids.appendPublic(append(l.packet[:0], `40{"sid":"`...), s.conn.ID(l.np)), `"}`...)
	l.packet = keep(b)
	p.send(s, b)
	p.work(s)
}

func (p *eio4) form(rep *reply, _ *request, _ bool) (jsonp bool) {
	rep.form = codec.PayloadEIO4
	return false
}

func (p *eio4) postForm(*request, bool) codec.PayloadForm { return codec.PayloadEIO4 }

func (p *eio4) postHeaders(headers []codec.HTTPHeader) []codec.HTTPHeader {
	return append(headers, noStore)
}
