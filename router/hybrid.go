package router

import (
	"bytes"

	"github.com/pomelod/pomelod/codec"
)

// take processes one package by the table of protocol.md §2.3. It returns false, having done nothing, when the session
// must wait for a worker first; it is paused then.
func (l *loop) take(s *session, p codec.Package) bool {
	if s.state != stateWorking || p.Type != codec.PackageData && p.Type != codec.PackageHeartbeat {
		if !l.charge(s, codec.PackageHeadBytes+len(p.Body)) {
			return true
		}
	}
	switch p.Type {
	case codec.PackageHandshake:
		if s.state == stateInited {
			l.handshake(s, p.Body)
		}
	case codec.PackageHandshakeAck:
		if s.state == stateWaitAck {
			s.state = stateWorking
			l.heard(s)
			if s.profile.HeartbeatSeconds > 0 {
				l.heartbeat(s)
			}
			l.opened(s)
		}
	case codec.PackageHeartbeat:
		switch {
		case s.state != stateWorking:
		case s.profile.HeartbeatSeconds == 0:
			l.charge(s, codec.PackageHeadBytes+len(p.Body))
			l.heard(s)
		default:
			if l.answers(s, owesBeat, codec.PackageHeadBytes+len(p.Body)) {
				l.heartbeat(s)
			}
			l.heard(s) // also one that is answered later
		}
	case codec.PackageData:
		if s.state == stateWorking {
			if !l.message(s, p.Body) {
				return false
			}
			l.heard(s)
		}
	default: // a kick is only ever sent by servers
		l.end(s, reasonProtocol)
	}
	return true
}

// clientSys is what matters of a handshake.
type clientSys struct {
	user                      []byte // raw JSON
	clientType, version       string
	dictVersion, protoVersion string
}

// handshake is protocol.md §2.4.
func (l *loop) handshake(s *session, body []byte) {
	client, ok := parseHandshake(body)
	p := s.profile
	var user []byte
	code := ""
	switch {
	case !ok, !l.node.access.handshake(s.conn.Peer().Addr()):
		code = `{"code":500}`
	case p.CheckClient != nil && !p.CheckClient(client.clientType, client.version):
		code = `{"code":501}`
	case p.User != nil:
		var err error
		if user, err = p.User(client.user); err != nil {
			code = `{"code":500}`
		} else if !codec.IsCanonical(user) {
			user = codec.AppendCanonical(nil, user)
		}
	}
	if code != "" {
		l.counters.handshakesRefused++
		l.np.Commit(s.conn, s.variant.AppendPackage(l.np.Stage(s.conn), codec.PackageHandshake, []byte(code)))
		l.end(s, reasonHandshake)
		return
	}
	if key := userKey(client.user); key != 0 {
		l.keys[s.conn.Slot()] = key
	}
	l.settleText(s, &client, body)
	text := p.handshakes[same(p.Dict.Version(), client.dictVersion)][same(p.Protos.Version(), client.protoVersion)]
	n := len(text) + 1
	if len(user) > 0 {
		n += len(`,"user":`) + len(user)
	}
	out := s.variant.AppendPackageHead(l.np.Stage(s.conn), codec.PackageHandshake, n)
	out = append(out, text...)
	if len(user) > 0 {
		out = append(append(out, `,"user":`...), user...)
	}
	l.np.Commit(s.conn, append(out, '}'))
	s.state = stateWaitAck
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
