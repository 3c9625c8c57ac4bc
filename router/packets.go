package router

import "github.com/pomelod/pomelod/codec"

// packets is what protocols of packets have in common, which socket.io's are: one comes in each WebSocket frame, or several in a POST.
type packets struct {
	base
	closeCode uint16 // said in the close frame of a session that ends without a reason
	// take takes one packet. It returns false, having done nothing, when the session must wait for a worker first; it is paused then.
	take func(s *session, b []byte, binary bool) bool
}

func (p *packets) data(s *session, b []byte) int {
	if s.conn.IsPull() {
		return p.stream(s, b)
	}
	return p.l.frames(s, b, p)
}

// stream takes a stream of packets (codec.AppendPacket): what POSTs have fed to a session, or what a pause has left.
func (p *packets) stream(s *session, b []byte) (used int) {
	for used < len(b) && s.phase != ended {
		packet, binary, n := codec.NextPacket(b[used:])
		if n == 0 || !p.take(s, packet, binary) {
			return used
		}
		used += n
		if p.l.np.Throttle(s.conn) {
			return used
		}
	}
	p.l.polls.drained(s)
	return len(b)
}

func (p *packets) message(s *session, payload []byte, binary bool) (left []byte) {
	if p.take(s, payload, binary) || s.phase == ended || len(payload) == 0 {
		return nil
	}
	return codec.AppendPacket(nil, payload)
}

func (p *packets) again(s *session, left []byte) int { return p.stream(s, left) }

func (p *packets) goodbye(s *session, code uint16, reason string) {
	p.l.closeFrame(s, code, p.closeCode, reason)
}

// send stages a packet.
func (p *packets) send(s *session, packet []byte) {
	p.l.np.Commit(s.conn, p.l.variant(s).AppendPacket(p.l.np.Stage(s.conn), packet))
}

// pinged, in session.step, says that we asked whether the client is there, and wait for its word.
const pinged uint8 = 1

// work makes a session working. Its handshake counts as a ping that was answered.
func (p *packets) work(s *session) {
	p.l.become(s, working)
	p.startPings(s)
}

// startPings begins the time until a session's first ping.
func (p *packets) startPings(s *session) {
	s.step |= pinged
	p.l.heard(s)
}

// nextPing is alive where it is we who ping. If no ping waits for its answer the next one comes in its time, whatever the client says:
// some count our pings and nothing else.
func (p *packets) nextPing(s *session) uint32 {
	if s.step&pinged == 0 {
		return s.alive
	}
	s.step &^= pinged
	return p.l.np.Now() + p.l.limits.PingSeconds
}

// ping asks a working client whether it is there, and gives it timeout seconds. It returns false when it was asked and has not answered.
func (p *packets) ping(s *session, packet string, timeout uint32) bool {
	if s.phase != working || s.step&pinged != 0 {
		return false
	}
	p.send(s, []byte(packet))
	s.step |= pinged
	p.l.until(s, p.l.np.Now()+timeout)
	return true
}
