package router

import (
	"bytes"
	"slices"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/internal/hosting"
)

// Where a user may have so many sessions and no more (channel.Limits.Sessions), a session is counted when its login has been judged and before it may do
// anything with it: the partition of the user's name is asked, as an enter asks that of the room. A session is no longer counted when it has ended, or is somebody
// else's. While it is counted it stays on its loop, as it is known by its name there.

// maxClaims is as how many users' session one is counted at the most: who it is, who it will be when it has entered, and whose a program says that it is (bind.go).
const maxClaims = 3

// limitsSessions tells whether sessions are counted.
func (l *loop) limitsSessions() bool { return l.limits.Rooms.Sessions.Most > 0 }

// claims tells whether s is counted as a user's session.
func (s *session) claims(user string) bool {
	return s.rare != nil && slices.Contains(s.rare.claims, user)
}

// claim has s counted as a session of the user who, and then calls then.
func (l *loop) claim(s *session, who *identity, then loggedIn) {
	part := channel.Partition(who.user)
	in := l.inlet(part)
	if in.Full() {
		l.counters.logins[loginBusy]++
		then(s, nil, "")
		return
	}
	l.releaseClaims(s, s.identity()) // those of logins that entered nothing
	req := l.number()
	l.extra(s).login = &login{claim: req, who: who, then: then} // first: the answer may come before Post returns
	in.Post(channel.Request{Op: channel.OpClaim, Part: part, Req: req, From: l.addr(s.conn), User: who.user, Key: s.secret()})
}

// claimed takes the answer to a claim.
func (l *loop) claimed(s *session, answer []byte) {
	j := s.x.login
	s.x.login = nil
	switch {
	case bytes.Equal(answer, channel.Done):
		l.counters.logins[loginAccepted]++
		s.needRare().claims = append(s.rare.claims, j.who.user)
		j.then(s, j.who, "")
	case bytes.Equal(answer, channel.ClaimRefused):
		l.counters.logins[loginEnough]++
		j.then(s, nil, channel.ReasonNames[channel.ReasonSessions])
	default:
		if bytes.Equal(answer, channel.Unknown) { // it may be counted, and must not stay so
			l.release(s, j.who.user)
		}
		l.counters.logins[loginBusy]++
		j.then(s, nil, "")
	}
}

// identifyAs makes s the session of the user that its login has shown, and of no other.
func (l *loop) identifyAs(s *session, who *identity) {
	s.needRare().who = who
	l.releaseClaims(s, who)
}

// releaseClaims has s counted as a session of the user who and of no other; nil: of none.
func (l *loop) releaseClaims(s *session, who *identity) {
	if s.rare == nil {
		return
	}
	s.rare.claims = slices.DeleteFunc(s.rare.claims, func(user string) bool {
		if who != nil && user == who.user || hosting.IsBoundUser(user) {
			return false
		}
		l.release(s, user)
		return true
	})
}

// releaseBound has s no longer counted as the session of a uid.
func (l *loop) releaseBound(s *session) {
	s.rare.claims = slices.DeleteFunc(s.rare.claims, func(user string) bool {
		if hosting.IsBoundUser(user) {
			l.release(s, user)
			return true
		}
		return false
	})
}

// releaseAll has s, which ends, no longer counted.
func (l *loop) releaseAll(s *session) {
	if s.rare == nil {
		return
	}
	for _, user := range s.rare.claims {
		l.release(s, user)
	}
	s.rare.claims = nil
}

// release has s no longer counted as a session of a user.
func (l *loop) release(s *session, user string) {
	r := releaseOf(l.addr(s.conn), user)
	l.inlet(r.Part).Post(r)
}

func releaseOf(from channel.Addr, user string) channel.Request {
	return channel.Request{Op: channel.OpRelease, Part: channel.Partition(user), From: from, User: user}
}

// counted are the users as one of whose sessions s is counted, or may be: by a login that waits for that, too.
func (s *session) counted() (users []string) {
	if s.rare != nil {
		users = s.rare.claims
	}
	if s.x != nil && s.x.login != nil && s.x.login.claim != 0 {
		users = append(slices.Clip(users), s.x.login.who.user)
	}
	return users
}
