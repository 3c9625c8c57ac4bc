package router

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/pomelod/pomelod/auth"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/wirebytes"
)

// identity is the user that a session is, as its login has shown. The session keeps it until its end. Immutable.
type identity struct {
	auth.Identity
	user  string // Identity.User
	key   uint64 // proves that two sessions are one user's (channel.Request.Key)
	until uint32 // tick at which it expires; neverDue: never
}

// called is what operators call the user: its UID or, without one, its name.
func (who *identity) called() string { return cmp.Or(who.UID, who.Name) }

// identify makes an identity of what a judge has said; nil if it has expired already.
func (l *loop) identify(id auth.Identity) *identity {
	who := &identity{Identity: id, until: neverDue, user: id.User()}
	if !id.Until.IsZero() {
		left := id.Until.UnixMilli() - l.node.wall()
		if left <= 0 {
			return nil
		}
		who.until = l.np.Now() + uint32(min((left+999)/1000, maxLoginSeconds))
	}
	who.key = keyOf("login", who.user)
	return who
}

// keyOf hashes what proves that a session is a user's (channel.Request.Key). Proofs of two kinds never have one key, whatever a client makes its secret.
func keyOf(kind, proof string) uint64 {
	sum := sha256.Sum256([]byte(kind + "\x00" + proof))
	return binary.BigEndian.Uint64(sum[:]) | 1 // never 0
}

// maxLoginSeconds is how long a login lasts at most: ten years, so that a tick has room for it.
const maxLoginSeconds = 10 * 365 * 24 * 3600

// identity is the user that s is; nil while it has not logged in.
func (s *session) identity() *identity {
	if s.rare == nil {
		return nil
	}
	return s.rare.who
}

// tokenFor is the token of an enter: the raw one of its body, else, if s has shown no login, the one of its URL.
func (s *session) tokenFor(raw []byte) string {
	if token, _ := codec.StringValue(raw); token != "" {
		return token
	}
	if s.rare == nil || s.rare.who != nil {
		return ""
	}
	return s.rare.token
}

// expireLogin ends a session whose login has expired. One that has a new one judged gets to know first whether it is good.
func (l *loop) expireLogin(s *session) {
	if who := s.identity(); who != nil && who.until <= l.np.Now() && s.phase == working && s.conn.Alive() && (s.x == nil || s.x.login == nil && s.x.enters == nil) {
		l.kickFor(s, "login expired", reasonLogin)
	}
}

// Answers about logins.
var (
	// loginNeeded refuses an enter for its login, whatever is wrong with it.
	loginNeeded = []byte(`{"code":401,"error":true}`)
	// loginElsewhere refuses an enter of a room that the login is not for.
	loginElsewhere = channel.EnterRefusedFor("login")
)

// tokenIn is the string member token of a JSON object, empty if there is none.
func tokenIn(object []byte) (token string) {
	members := codec.ScanObject(object)
	for name, value, more := members.Next(); more; name, value, more = members.Next() {
		if string(name) == "token" {
			token, _ = codec.StringValue(value)
		}
	}
	if members.Err() != nil {
		return ""
	}
	return token
}

// keepToken keeps the token in a request's URL for the session's first enter, where that is allowed.
func (l *loop) keepToken(s *session, r *request) {
	if l.node.logins == nil || !l.node.logins.Query {
		return
	}
	if token, has := codec.QueryValue(r.head.Query, "token"); has && len(token) > 0 && len(token) <= auth.MaxToken {
		s.needRare().token = string(token)
	}
}

// loginFor implements calls: it has the token of an enter judged, and then carries out the enter.
func (l *loop) loginFor(s *session, c *call, shown auth.Login) {
	body, _ := c.json() // it was read before
	again := call{id: c.id, idBytes: c.idBytes, route: c.route, body: append([]byte(nil), body...)}
	req := l.await(s, c, 0, channel.EnterRefused, l.limits.RequestSeconds)
	s.x.handling = true
	l.login(s, shown, func(s *session, who *identity, why string) {
		if s.inflight() == 0 || s.x.pending[0].req != req { // given up; it waited alone
			return
		}
		switch {
		case who == nil && why != "":
			l.finish(s, channel.EnterRefusedFor(why), "")
			return
		case who == nil:
			l.finish(s, loginNeeded, "")
			return
		}
		if s.needRare().token = ""; s.room == nil {
			l.identifyAs(s, who)
		} // else it stays who it is until it has entered: the members of its room know it by that login
		s.x.pending, s.x.handling = s.x.pending[:0], false
		l.carriers.chat.enterAs(s, &again, who)
		l.schedule(s)
		l.resume(s)
	})
}

// append encodes what of a session few have: its identity, a token that was kept, and the users as whose session it is counted.
func (r *rare) append(b []byte) []byte {
	if r == nil {
		r = new(rare)
	}
	b = wirebytes.AppendUints(wirebytes.AppendBlock(b, r.token), r.key, uint64(len(r.claims)))
	for _, user := range r.claims {
		b = wirebytes.AppendBlock(b, user)
	}
	return r.who.append(b)
}

// append encodes an identity; nil is none.
func (who *identity) append(b []byte) []byte {
	if who == nil {
		return wirebytes.AppendUints(b, 0)
	}
	id := &who.Identity
	until := uint64(0)
	if !id.Until.IsZero() {
		until = uint64(id.Until.UnixMilli())
	}
	rooms := uint64(0) // one more than there are; 0: all
	if id.Rooms != nil {
		rooms = 1 + uint64(len(id.Rooms))
	}
	b = wirebytes.AppendUints(b, 1, until, rooms)
	for _, text := range id.Rooms {
		b = wirebytes.AppendBlock(b, text)
	}
	return wirebytes.AppendBlock(wirebytes.AppendBlock(b, id.Name), id.UID)
}

// parseLogin decodes what rare.append has encoded, into s.
func (l *loop) parseLogin(s *session, r *wirebytes.Reader) {
	if token := string(r.Block()); token != "" {
		s.needRare().token = token
	}
	if key := r.Uint(); key != 0 {
		s.needRare().key = key
	}
	for range r.UpTo(maxClaims) {
		s.needRare().claims = append(s.needRare().claims, string(r.Block()))
	}
	if who := l.parseIdentity(r); who != nil {
		s.needRare().who = who
	}
}

// parseIdentity decodes what identity.append has encoded.
func (l *loop) parseIdentity(r *wirebytes.Reader) *identity {
	if r.UpTo(1) == 0 {
		return nil
	}
	var id auth.Identity
	if until := r.Uint(); until != 0 {
		id.Until = time.UnixMilli(int64(until))
	}
	if n := r.UpTo(1 + auth.MaxRooms); n > 0 {
		id.Rooms = make([]string, 0, n-1)
		for range n - 1 {
			id.Rooms = append(id.Rooms, string(r.Block()))
		}
	}
	id.Name, id.UID = string(r.Block()), string(r.Block())
	if id.Check() != nil {
		r.Fail()
		return nil
	}
	who := l.identify(id)
	if who == nil { // it has expired on the way
		who = &identity{Identity: id, user: id.User(), until: l.np.Now()}
	}
	return who
}
