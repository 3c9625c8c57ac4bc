package router

import (
	"bytes"

	"github.com/pomelod/pomelod/auth"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
	"github.com/pomelod/pomelod/netpoll"
)

// hybrid speaks Pomelo's own protocol of packages, over TCP or in WebSocket frames (protocol.md §2).
type hybrid struct{ base }

func newHybrid(b base) protocol { return &hybrid{b} }

// What session.step is while the session opens.
const (
	hybridInited  uint8 = iota // waits for the handshake
	hybridWaitAck              // waits for the handshake's ack
)

// The transports of the table.
const (
	hybridTCP = iota
	hybridWS
)

func variantsHybrid(p *Profile) (list []codec.Variant) {
	for _, framing := range []codec.Framing{codec.FramingTCP, codec.FramingWS} {
		v := codec.Variant{Framing: framing, Dict: p.Dict, Protos: p.Protos}
		list = append(list, v)
		if v.CESU = true; p.Protos != nil {
			list = append(list, v)
		}
	}
	return list
}

// begin makes s speak packages. Text and protobuf may change the variant at the handshake.
func (p *hybrid) begin(s *session, framing codec.Framing) {
	p.speak(s)
	p.frame(s, framing)
	transport := hybridTCP
	if framing == codec.FramingWS {
		transport = hybridWS
	}
	p.count(s, transport)
}

// owns implements endpoint: any path that nobody else wants may be upgraded.
func (p *hybrid) owns(r *request) bool { return r.head.IsUpgrade() }

func (p *hybrid) serve(*session, *request) bool { panic("a plain request is for pages") }

// upgrade opens a WebSocket that carries packages.
func (p *hybrid) upgrade(s *session, r *request) *codec.HTTPError {
	l, handshake := p.l, s.x.http.handshake
	if err := l.http.acceptWebSocket(s, r); err != nil {
		return err
	}
	if l.profile(s).Type == Gate {
		l.extra(s).host = l.http.hostOf(s, r)
	}
	l.keepToken(s, r)
	p.begin(s, codec.FramingWS)
	if l.profile(s).Protos != nil && len(r.head.Origin) > 0 {
		l.extra(s).origin = true
	}
	l.until(s, max(handshake, l.np.Now()+l.limits.HeadSeconds))
	return nil
}

func (p *hybrid) data(s *session, b []byte) int {
	if p.l.variant(s).Framing.WebSocket() {
		return p.l.frames(s, b, p)
	}
	return p.packages(s, b, false)
}

// packages takes packages that stand back to back. whole says that the last one must end where b does. It returns how many bytes it
// took: all whole packages, unless the session has to wait or has ended.
func (p *hybrid) packages(s *session, b []byte, whole bool) (used int) {
	for used < len(b) {
		pkg, n, err := codec.ParsePackage(b[used:], p.l.limiter.longest(&s.meter))
		switch {
		case err == codec.ErrPackageTooLong:
			p.l.endWith(s, p.l.limiter.tooLong(&s.meter), codec.WSCloseTooBig, "package exceeds the limit")
			return used
		case err != nil || n == 0 && whole: // trailing bytes that are no package
			p.l.end(s, reasonProtocol)
			return used
		case n == 0 || !p.take(s, pkg):
			return used
		}
		used += n
		if s.phase == ended || whole && used == len(b) { // a frame asks for its last package (frames)
			return used
		}
		if p.l.np.Throttle(s.conn) {
			return used
		}
	}
	return used
}

// message takes the packages of one frame. Text ones carry some as well (protocol.md §2.2).
func (p *hybrid) message(s *session, payload []byte, _ bool) (left []byte) {
	if len(payload) == 0 {
		p.l.end(s, reasonProtocol)
		return nil
	}
	n := p.packages(s, payload, true)
	if s.phase == ended || n == len(payload) {
		return nil
	}
	return bytes.Clone(payload[n:])
}

func (p *hybrid) again(s *session, left []byte) int { return p.packages(s, left, true) }

// alive: heartbeats are life, and any other package (protocol.md §2.7).
func (p *hybrid) alive(s *session) uint32 { return p.l.np.Now() + p.l.silence(p.l.profile(s)) }

func (p *hybrid) silent(s *session, waiting bool) {
	if s.phase == working && p.l.profile(s).HeartbeatSeconds == 0 { // then bytes in either direction are life
		if until := s.conn.Active() + p.l.limits.IdleSeconds; until > p.l.np.Now() {
			s.alive = until
			return
		}
	}
	p.base.silent(s, waiting)
}

func (p *hybrid) beat(s *session) {
	p.l.np.Commit(s.conn, p.l.variant(s).AppendPackage(p.l.np.Stage(s.conn), codec.PackageHeartbeat, nil))
}

func (p *hybrid) goodbye(s *session, code uint16, reason string) {
	p.l.closeFrame(s, code, codec.WSCloseNormal, reason)
}

// take takes one package, by the table of protocol.md §2.3. It returns false, having done nothing, when the session must wait for
// a worker first; it is paused then.
func (p *hybrid) take(s *session, pkg codec.Package) bool {
	l := p.l
	if s.shaking() {
		l.np.Pause(s.conn)
		return false
	}
	if s.phase != working || pkg.Type != codec.PackageData && pkg.Type != codec.PackageHeartbeat {
		if !l.charge(s, codec.PackageHeadBytes+len(pkg.Body)) {
			return true
		}
	}
	switch pkg.Type {
	case codec.PackageHandshake:
		if s.phase == opening && s.step == hybridInited {
			p.handshake(s, pkg.Body)
		}
	case codec.PackageHandshakeAck:
		if s.phase == opening && s.step == hybridWaitAck {
			l.become(s, working)
			l.heard(s)
			if l.profile(s).HeartbeatSeconds > 0 {
				p.beat(s)
			}
		}
	case codec.PackageHeartbeat:
		switch {
		case s.phase != working:
		case l.profile(s).HeartbeatSeconds == 0:
			l.charge(s, codec.PackageHeadBytes+len(pkg.Body))
			l.heard(s)
		default:
			if l.answersNow(s, owesBeat, codec.PackageHeadBytes+len(pkg.Body)) {
				p.beat(s)
			}
			l.heard(s) // also one that is answered later
		}
	case codec.PackageData:
		if s.phase == working {
			if !p.call(s, pkg.Body) {
				return false
			}
			l.heard(s)
		}
	default: // a kick is only ever sent by servers
		l.end(s, reasonProtocol)
	}
	return true
}

// call makes a call of the body of a data package, and dispatches it. It returns false, having done nothing, when the session must wait.
func (p *hybrid) call(s *session, b []byte) bool {
	l := p.l
	m, err := codec.ParseMessage(b)
	if err != nil {
		return l.ignore(s, b)
	}
	c := &l.current
	*c = call{id: m.ID, idBytes: m.IDBytes, body: m.Body, packed: m.Gzip}
	switch m.Type {
	case codec.MessageRequest:
	case codec.MessageNotify, codec.MessagePush: // the original takes a client's push for a notify (protocol.md §2.5)
		c.id = 0
	default:
		return l.ignore(s, b)
	}
	at := l.profile(s)
	if !m.Compressed {
		c.route = orUnknown(at.routes[string(m.Route)], m.Route)
	} else if name, ok := at.Dict.Route(m.Code); ok {
		c.route = orUnknown(at.routes[name], name)
	} else {
		l.counters.unknownRoutes++
		l.charge(s, len(b))
		return true // dropped silently (protocol.md §2.5)
	}
	return l.dispatch(s, c)
}

// clientSys is what matters of a handshake.
type clientSys struct {
	user                      []byte // raw JSON
	clientType, version       string
	dictVersion, protoVersion string
	extended                  bool
}

// handshake is protocol.md §2.4.
func (p *hybrid) handshake(s *session, body []byte) {
	l := p.l
	client, ok := parseHandshake(body)
	at := l.profile(s)
	var user []byte
	code := ""
	switch {
	case !ok, !l.node.access.handshake(s.conn.Peer().Addr()):
		code = `{"code":500}`
	case at.CheckClient != nil && !at.CheckClient(client.clientType, client.version):
		code = `{"code":501}`
	case at.User != nil:
		var err error
		if user, err = at.User(client.user); err != nil {
			code = `{"code":500}`
		} else if !codec.IsCanonical(user) {
			user = codec.AppendCanonical(nil, user)
		}
	}
	if code != "" {
		p.refuse(s, code, reasonHandshake)
		return
	}
	if key := userKey(client.user); key != 0 {
		s.needRare().secret = key
	}
	l.chooseText(s, &client, body)
	token := ""
	if l.node.logins != nil && at.Type != Gate { // which tells everybody
		token = tokenIn(client.user)
	}
	given := client.user
	client.user = nil // of the read buffer
	if app := l.node.app; app != nil && app.shake != nil && at.Type != Gate {
		l.carriers.handlers.greet(s, &hosting.Handshake{User: bytes.Clone(given), Type: client.clientType, Version: client.version}, func(s *session, answer []byte, ok bool) {
			if ok {
				p.identify(s, &client, answer, token)
			} else {
				p.refuse(s, string(answer), reasonHandshake)
			}
			if !s.shaking() {
				l.schedule(s)
				l.goOn(s)
			}
		})
		return
	}
	p.identify(s, &client, user, token)
}

// identify goes on with a handshake that nobody has refused yet, and judges the token that came with it; empty: there was none.
func (p *hybrid) identify(s *session, client *clientSys, user []byte, token string) {
	l := p.l
	if token == "" {
		p.welcome(s, client, user)
		return
	}
	user = bytes.Clone(user)
	l.login(s, auth.Login{Token: token}, func(s *session, who *identity, why string) {
		switch {
		case who == nil && why != "":
			p.refuse(s, string(channel.RefusedFor(why)), reasonLogin)
		case who == nil:
			p.refuse(s, `{"code":500}`, reasonLogin)
		default:
			l.identifyAs(s, who)
			p.welcome(s, client, user)
		}
		l.schedule(s)
		l.goOn(s)
	})
}

// refuse answers a handshake with a code, and ends the session.
func (p *hybrid) refuse(s *session, code string, why netpoll.Reason) {
	l := p.l
	l.counters.handshakesRefused++
	l.np.Commit(s.conn, l.variant(s).AppendPackage(l.np.Stage(s.conn), codec.PackageHandshake, []byte(code)))
	l.end(s, why)
}

// welcome answers a handshake that is accepted. user is the JSON of the answer's user member, nil for none.
func (p *hybrid) welcome(s *session, client *clientSys, user []byte) {
	l, at := p.l, p.l.profile(s)
	dict := same(at.Dict.Version(), client.dictVersion)
	text := at.handshakes[dict][same(at.Protos.Version(), client.protoVersion)]
	if v := at.extendedVariant(l.variant(s).Framing); client.extended && v != 0 {
		s.variant, text = v, at.extended[dict]
	}
	n := len(text) + 1
	if len(user) > 0 {
		n += len(`,"user":`) + len(user)
	}
	out := l.variant(s).AppendPackageHead(l.np.Stage(s.conn), codec.PackageHandshake, n)
	out = append(out, text...)
	if len(user) > 0 {
		out = append(append(out, `,"user":`...), user...)
	}
	l.np.Commit(s.conn, append(out, '}'))
	s.step = hybridWaitAck
}

// same is 1 when the client has this version already.
func same(ours, theirs string) int {
	if ours != "" && ours == theirs {
		return 1
	}
	return 0
}

// parseHandshake reads the client's handshake. It is refused when the body is no JSON object or sys is missing or falsy.
func parseHandshake(body []byte) (c clientSys, ok bool) {
	var sys []byte
	members := codec.ScanObject(codec.NormalizeUTF8(body))
	for key, value, more := members.Next(); more; key, value, more = members.Next() {
		switch string(key) {
		case "sys":
			sys = value
		case "user":
			c.user = value
		}
	}
	if members.Err() != nil || falsy(sys) {
		return c, false
	}
	inner := codec.ScanObject(sys) // a truthy sys that is no object has no members, as in JavaScript
	for key, value, more := inner.Next(); more; key, value, more = inner.Next() {
		switch string(key) {
		case "type":
			c.clientType, _ = codec.StringValue(value)
		case "version":
			c.version, _ = codec.StringValue(value)
		case "dictVersion":
			c.dictVersion, _ = codec.StringValue(value)
		case "protoVersion":
			c.protoVersion, _ = codec.StringValue(value)
		case "extended":
			c.extended = string(value) == "1"
		}
	}
	return c, true
}

// falsy tells whether a raw JSON value (nil: a missing one) is false in JavaScript.
func falsy(raw []byte) bool {
	switch {
	case len(raw) == 0, string(raw) == "null", string(raw) == "false", string(raw) == `""`:
		return true
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		mantissa, _, _ := bytes.Cut(bytes.ToLower(raw), []byte("e"))
		return len(bytes.Trim(mantissa, "-.0")) == 0
	}
	return false
}
