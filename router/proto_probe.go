package router

import "github.com/pomelod/pomelod/codec"

// probe is a WebSocket by which an Engine.IO client that polls tries whether WebSockets work (protocol.md §6.4). If so, the session
// takes over its socket.
type probe struct{ packets }

func newProbe3(b base) protocol { return newProbe(b, codec.WSCloseNormal) }
func newProbe4(b base) protocol { return newProbe(b, codec.WSCloseNoStatus) }

func newProbe(b base, closeCode uint16) protocol {
	p := &probe{packets{base: b, closeCode: closeCode}}
	p.take = p.packet
	return p
}

// begin makes s, a WebSocket, one that may take over in. There is one at a time.
func (p *probe) begin(s, in *session) {
	l := p.l
	p.speak(s)
	if !in.x.pull.try(s.conn.ID(l.np)) {
		l.end(s, reasonProtocol)
		return
	}
	l.extra(s).errand = errand{taskProbe, in.conn.ID(l.np)}
	l.until(s, l.np.Now()+l.limits.UpgradeSeconds)
}

func (p *probe) fits(s *session, x *extra) bool {
	return x.http == nil && x.errand.task == taskProbe && s.phase == opening
}

// packet takes one packet.
func (p *probe) packet(s *session, b []byte, _ bool) bool {
	l := p.l
	if !l.chargeEarly(s, len(b)) {
		return true
	}
	in := l.byID(s.x.errand.session)
	switch {
	case in == nil || in.x == nil || in.x.pull == nil:
		l.end(s, reasonProtocol)
	case string(b) == "2probe":
		l.np.Commit(s.conn, l.variant(s).AppendPacket(l.np.Stage(s.conn), []byte("3probe")))
		in.x.pull.probed = true
		if in.x.pull.get != 0 { // the client waits for this GET's end
			l.polls.idle(in)
		}
	case string(b) == "5" && in.x.pull.ended: // the client will not fetch the reason, so it goes this way
		l.np.Commit(s.conn, appendPackets(l.np.Stage(s.conn), l.variant(s), l.np.TakeOutput(in.conn)))
		l.np.Close(in.conn, in.x.pull.why)
	case string(b) == "5":
		l.polls.takeSocket(in, s, codec.FramingEIOWS, "")
		l.engineOf(in).count(in, eioWS)
		l.counters.upgrades++
		l.heard(in)
	default:
		l.end(s, reasonProtocol)
	}
	return true
}
