package router

import (
	"bytes"
	"net/netip"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/pomelod/pomelod/auth"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/filter"
	"github.com/pomelod/pomelod/internal/hosting"
	"github.com/pomelod/pomelod/internal/names"
)

// chat carries out the routes of the chat application. It has of its loop what it needs, and no more. Owned by the loop.
type chat struct {
	calls     calls
	logins    bool // sessions log in before they enter
	names     *names.Rules
	moderator *moderator
	limits    *Limits
	limiter   *limiter
	counters  *counters
	filters   bool // what is said is looked at
}

// calls is how the chat application answers calls. The loop implements it.
type calls interface {
	// answer answers a call that needs no partition, after those before it.
	answer(s *session, c *call, body []byte)
	// submit posts the request that a call leads to, to the owner of its room, and has the owner's answer answer the call. It answers by
	// itself, and returns false, when the owner has too much to do.
	submit(s *session, c *call, req channel.Request) bool
	// submitEnter is submit for an enter: uid is user*room, who the session will be, and who is the login by which it enters, if that is new.
	submitEnter(s *session, c *call, req channel.Request, uid string, who *identity)
	// loginFor has the token of an enter judged, and goes on with enterAs if it is good, else refuses the enter.
	loginFor(s *session, c *call, shown auth.Login)
	// sift has what a call says looked at, and then says it, if it may be said.
	sift(s *session, c *call, said filter.Said)
	// extended tells whether the client of s is extended, which one of socket.io becomes if it asks.
	extended(s *session, asks bool) bool
	// entryOf is the gate's answer to a raw JSON uid, for a client that reached us by host.
	entryOf(s *session, uid []byte, host string) []byte
}

// unknown answers 500 to a route that nobody handles, whatever else is wrong with the call (protocol.md §1, Rule).
func (ch *chat) unknown(s *session, c *call) {
	ch.counters.unknownRoutes++
	ch.calls.answer(s, c, channel.Refused)
}

// queryEntry tells a client which connector to use (protocol.md §9.1, §9.2).
func (ch *chat) queryEntry(s *session, c *call) {
	b, ok := c.json()
	if !ok {
		ch.calls.answer(s, c, channel.Refused)
		return
	}
	host := ""
	if s.x != nil {
		host = s.x.host
	}
	ch.calls.answer(s, c, ch.calls.entryOf(s, uidOf(b), host))
}

// uidOf is the raw member uid of a JSON object, nil when there is none.
func uidOf(b []byte) (uid []byte) {
	body := codec.ScanObject(b)
	for key, value, more := body.Next(); more; key, value, more = body.Next() {
		if string(key) == "uid" {
			uid = value
		}
	}
	if body.Err() != nil {
		return nil
	}
	return uid
}

// noConnector is the answer of a gate that has nobody to name.
var noConnector = channel.RefusedFor("no_connector")

// entryOf is the gate's answer to a raw JSON uid. host is the one by which the client reached us, as far as it told.
func (l *loop) entryOf(s *session, uid []byte, host string) []byte {
	secured := 0
	if l.profile(s).TLS {
		secured = 1
	}
	d := l.node.connectors[secured].Load()
	switch {
	case falsy(uid) || uid[0] == '[':
		return channel.Refused
	case len(d.list) == 0:
		return noConnector
	}
	to := d.pick(uid)
	if name := l.nameFor(s, &to); name != "" {
		host = name
	} else if to.Host != "" {
		host = to.Host
	} else if host == "" {
		if local := l.localAddr(s); local.IsValid() {
			host = local.String()
		}
	}
	return entry(host, to.Port)
}

func entry(host string, port int) []byte {
	b := append(make([]byte, 0, 64), `{"code":200,"host":`...)
	b = codec.AppendString(b, host)
	b = append(b, `,"port":`...)
	b = strconv.AppendInt(b, int64(port), 10)
	return append(b, '}')
}

// localAddr is the address by which the client itself reached us: where a gate is reachable, so is a connector beside it.
func (l *loop) localAddr(s *session) netip.Addr {
	if at := l.profile(s); at.Addr.IsValid() {
		return at.Addr
	}
	return l.np.LocalAddr(s.conn).Addr()
}

// enter binds the session to a name in a room (protocol.md §9.3, §9.5).
func (ch *chat) enter(s *session, c *call) { ch.enterAs(s, c, nil) }

// enterAs is enter for a session that has shown a login just now; nil: it has not.
func (ch *chat) enterAs(s *session, c *call, shown *identity) {
	if ch.limiter.overrun() {
		ch.calls.answer(s, c, channel.EnterRefused)
		return
	}
	body, ok := c.object()
	m := enterMembers(&body)
	rawUser, rawRoom, secret := m.user, m.room, m.secret
	user, room := nameValue(rawUser), nameValue(rawRoom)
	key := s.secret()
	renewed := false
	if ch.logins && ok && body.Err() == nil {
		who := shown
		if who == nil {
			who = s.identity()
		}
		if token := s.tokenFor(m.token); token != "" && shown == nil {
			if given := secretKey(secret); given != 0 { // it tells which client this is, before and after a cut
				s.needRare().secret = given
			}
			ch.calls.loginFor(s, c, auth.Login{Token: token, Name: user, Room: room})
			return
		}
		if who == nil || who.until <= ch.limiter.np.Now() || user != "" && user != who.Name {
			ch.calls.answer(s, c, loginNeeded)
			return
		}
		if !who.May(room) {
			ch.calls.answer(s, c, loginElsewhere)
			return
		}
		user, key, secret, renewed = who.Name, who.key, nil, shown != nil
	}
	if secret != nil { // where the handshake cannot carry one, as with socket.io
		key = secretKey(secret)
	}
	if !ok || body.Err() != nil {
		user = "" // nobody's name
	}
	a := ch.admission(s, user, room, key, c.partition(room))
	if a.refusal != nil {
		ch.calls.answer(s, c, a.refusal)
		return
	}
	if s.changing() != nil { // which has begun while a filter, or a judge of logins, was at work
		ch.calls.answer(s, c, channel.EnterRefused)
		return
	}
	if s.room != nil && s.named(room) != nil {
		first := s.roomName() == room
		switch {
		case s.user() != user && len(s.further()) > 0, s.user() == user && first && !renewed: // it has one name in all its rooms
			ch.calls.answer(s, c, channel.EnterRefused)
			return
		case first && len(s.further()) == 0:
			a.req.Prev = s.user()
		}
	}
	a.req.Locked = a.req.Locked || ch.moderator.keeps(room)
	if password, _ := codec.StringValue(m.password); password != "" {
		a.req.Pass = hosting.PassOf(room, password)
	}
	a.req.Silent = c.id == 0
	a.req.Ext = ch.extendedEnter(s, &m)
	ch.calls.submitEnter(s, c, a.req, a.uid, shown)
}

// admission is how s would enter a room: by the request of an enter and as uid, which is user*room, if there is no refusal.
type admission struct {
	req     channel.Request
	uid     string
	refusal []byte
}

// admission judges the names by which s would enter, and whether it may. part is the room's.
func (ch *chat) admission(s *session, user, room string, key uint64, part uint16) admission {
	most := ch.limits.NameBytes
	if !validName(user, most) || !validName(room, most) {
		ch.counters.namesRefused++
		return admission{refusal: channel.EnterRefused}
	}
	fold, verdict := ch.names.Check(user)
	if verdict != names.OK {
		ch.counters.namesRefused++
		return admission{refusal: nameAnswers[verdict]}
	}
	banned, locked := ch.moderator.checkEnter(user, room, s.conn.Peer().Addr())
	if banned != nil {
		ch.limiter.refused[limitBan]++
		return admission{refusal: banned}
	}
	uid := user + "*" + room
	return admission{uid: uid, req: channel.Request{
		Op: channel.OpEnter, Locked: locked, Part: part, Room: uid[len(user)+1:], User: uid[:len(user)], Fold: fold, Key: key, Short: ch.limiter.short.Load(),
	}}
}

// nameAnswers refuse an enter for its name.
var nameAnswers = map[names.Verdict][]byte{names.Unfit: channel.EnterRefusedFor("name"), names.Reserved: channel.EnterRefusedFor("reserved")}

// enterMembers reads an enter's body. Of those that come twice the last one counts, and
// nobody looks closer at the others: a body has room for thousands.
func enterMembers(body *codec.Object) (m enterAsk) {
	for key, value, more := body.Next(); more; key, value, more = body.Next() {
		switch string(key) {
		case "username":
			m.user = value
		case "rid":
			m.room = value
		case "secret":
			m.secret = value
		case "token":
			m.token = value
		case "seq":
			m.seq = value
		case "since":
			m.since = value
		case "history":
			m.history = value
		case "password":
			m.password = value
		}
	}
	return m
}

// enterAsk is the raw members of an enter's body; nil where there is none.
type enterAsk struct {
	user, room          []byte
	secret, token       []byte
	seq, since, history []byte // of extended clients (extended.go)
	password            []byte // of the room
}

// userKey is the key of a session whose handshake has a secret in its user member, else 0. A later session with the same
// secret may take over the name: a client that was cut off is not locked out by what is left of its old session.
func userKey(user []byte) (key uint64) {
	members := codec.ScanObject(user)
	for name, value, more := members.Next(); more; name, value, more = members.Next() {
		if string(name) == "secret" {
			key = secretKey(value)
		}
	}
	return key
}

// secretKey hashes a secret, which is not kept. One that is too short to be safe from guessing, or no string, is none.
func secretKey(raw []byte) uint64 {
	s, ok := codec.StringValue(raw)
	if !ok || len(s) < minSecret || len(s) > maxSecret {
		return 0
	}
	return keyOf("secret", s)
}

// Bytes of a secret.
const minSecret, maxSecret = 16, 128

// nameValue is a raw JSON value as a name: a string, or a number as it is written. Anything else is no name, nor is nil.
func nameValue(raw []byte) string {
	if len(raw) == 0 {
		return ""
	}
	if raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9' {
		return string(raw)
	}
	s, _ := codec.StringValue(raw)
	return s
}

// validName tells whether s may name a user or a room: UTF-8 that takes 1 to max bytes as lists and pushes have it (codec.AppendString),
// nothing that is not shown, and no star, which parts user from room in a uid (protocol.md §9.3).
func validName(s string, max int) bool {
	if s == "" || len(s) > max || !utf8.ValidString(s) {
		return false
	}
	encoded := len(s)
	for _, r := range s {
		switch {
		case r == '*' || unicode.IsControl(r):
			return false
		case r == '"' || r == '\\':
			encoded++
		case r > 0xffff:
			encoded += len(`\ud83d\ude00`) - 4
		}
	}
	return encoded <= max
}

// send says something to a room or to one of its members (protocol.md §9.4). The sender comes from the session, and so does the room: of several it is the first
// one unless rid names another.
func (ch *chat) send(s *session, c *call) {
	if s.room == nil {
		ch.calls.answer(s, c, channel.Refused)
		return
	}
	if ch.limiter.overrun() {
		ch.calls.answer(s, c, channel.Refused)
		return
	}
	body, ok := c.object()
	content, target := emptyText, ""
	var rawTarget, mid, rid []byte
	for key, value, more := body.Next(); more; key, value, more = body.Next() {
		switch string(key) {
		case "content":
			content = value
		case "target":
			rawTarget = value
		case "mid":
			mid = value
		case "rid":
			rid = value
		}
	}
	room, name := s.meant(rid)
	if c.sifted != "" && c.sifted != name { // a program has it in another room by now, whose members it was not meant for
		ch.calls.answer(s, c, channel.Refused)
		return
	}
	if muted := ch.moderator.checkSend(s.user(), name); muted != nil {
		ch.limiter.refused[limitMute]++
		ch.calls.answer(s, c, muted)
		return
	}
	if string(rawTarget) == `"*"` {
		target = channel.Everybody
	} else {
		target, _ = codec.StringValue(rawTarget)
	}
	content, readable := ch.canonical(s, content)
	if !ok || body.Err() != nil || !readable || !ch.limits.fits(len(content)) {
		content, target = nil, "" // nobody's name: the worker refuses it, in its turn
	}
	if ch.filters && c.sifted == "" && content != nil {
		said := filter.Said{Room: name, Name: s.user(), Content: bytes.Clone(content)}
		if target != channel.Everybody {
			said.Target = target
		}
		ch.calls.sift(s, c, said)
		return
	}
	ch.calls.submit(s, c, channel.Request{Op: channel.OpSend, Part: room.id.Partition(), Room: name, User: s.user(), Target: target, Fold: ch.foldOf(target), Content: content, Ext: ch.extendedSend(s, mid)})
}

// foldOf is the fold of a target. One that is longer than any name is nobody's.
func (ch *chat) foldOf(target string) string {
	if len(target) > ch.limits.NameBytes {
		return ""
	}
	return ch.names.Fold(target)
}

// canonical is content in the form that every member can read (protocol.md §9.4), and false when making it would take too long. What
// has to be written anew counts as several messages of the session's rate.
func (ch *chat) canonical(s *session, content []byte) (_ []byte, ok bool) {
	if codec.IsCanonical(content) {
		return content, true
	}
	if !codec.IsPlain(content) {
		if len(content) > maxRewritten {
			ch.counters.malformed++
			return nil, false
		}
		ch.limiter.spend(&s.meter, len(content)/packedUnit)
	}
	return codec.AppendCanonical(nil, content), true
}

// maxRewritten is how many bytes of content are written anew at most: 3 ms of work. Real clients' libraries write nothing of the kind.
const maxRewritten = 32 << 10

// emptyText is the content of a message without one.
var emptyText = []byte(`""`)

// fits tells whether a push with n bytes of content may be encoded at all: no push may be longer than half of what a conn
// may have unsent, so that a healthy member is never ended by a single one (docs/ARCHITECTURE.md, "What is bounded"), nor than the format allows.
func (l *Limits) fits(n int) bool {
	return n+pushOverhead <= min(l.Conn.Outbound/2, codec.MaxPackageBody)
}

// pushOverhead is what names, heads and JSON add to the content of a push at the most.
const pushOverhead = 2048
