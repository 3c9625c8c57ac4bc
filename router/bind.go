package router

import (
	"bytes"
	"slices"
	"strconv"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
)

// A program says which user's a session is (app.Session.Bind, Login). The partition of the uid knows that, as it knows of logins (claim.go): so two sessions that are bound at once
// are decided one after the other, a whole fleet can push to a uid and end its sessions, and a session that ends with its node is counted no more.
//
// The App knows which user's the session is (hosting.Session.UID), and nobody here keeps a copy. A session is counted for that uid, and for those of logins that have no answer yet; whenever that
// changes, settle has it counted no more for any other.

// binding is one that waits for the answer of the uid's partition.
type binding struct {
	req  uint32
	user string
	had  bool // the session was counted, or might have been, before it was asked for
	*hosting.Login
}

// maxBindings is how many of a session wait at a time; more fail with app.ErrBusy.
const maxBindings = 16

// bindPause is how long a session waits that could not be counted as one of its uid's, before it is tried again.
const bindPause = time.Second

// Bound implements hosting.Client.
func (k *appClient) Bound() {
	if !k.ended.Load() && !k.telling.Swap(true) {
		k.courier.postBound(k)
	}
}

// Login implements hosting.Client.
func (k *appClient) Login(b *hosting.Login) error {
	if k.ended.Load() {
		return app.ErrClosed
	}
	return k.courier.postLogin(k, b)
}

// LoggingIn implements hosting.Client.
func (k *appClient) LoggingIn() (done func()) {
	k.logins.Add(1)
	return func() { k.logins.Add(-1) }
}

// postBound implements courier. There is at most one for each session, so it is taken however busy the loop is.
func (l *loop) postBound(k *appClient) {
	l.node.posting.RLock() // what rests stays at rest (Rest)
	defer l.node.posting.RUnlock()
	l.postRun(0, func() {
		k.telling.Store(false) // first: what is bound from now on is told again
		if s := l.clientOf(k); s != nil {
			l.countBound(s, k)
		}
	})
}

// postLogin implements courier.
func (l *loop) postLogin(k *appClient, b *hosting.Login) error {
	if l.busy() {
		return app.ErrBusy
	}
	l.node.posting.RLock()
	defer l.node.posting.RUnlock()
	l.postRun(len(b.UID), func() {
		s := l.clientOf(k)
		if s == nil {
			b.Done(0, app.ErrClosed)
			return
		}
		user := hosting.BoundUser(b.UID)
		switch {
		case b.Again && !s.claims(user): // it has been bound to another meanwhile
			b.Done(0, nil)
		case !l.askBind(s, k, user, b.Most, b):
			b.Done(0, app.ErrBusy)
		}
	})
	return nil
}

// clientOf is the session that an App knows as k, nil if it has ended.
func (l *loop) clientOf(k *appClient) *session {
	if s := l.byAddr(k.addr); s != nil && s.phase != ended && s.appClient() == k {
		return s
	}
	return nil
}

// countBound has s counted as a session of its user.
func (l *loop) countBound(s *session, k *appClient) {
	l.settle(s, k)
	if uid := k.UID(); uid != "" && !l.askBind(s, k, hosting.BoundUser(uid), 0, nil) {
		l.bindLater(k)
	}
}

// bindLater is countBound after a pause.
func (l *loop) bindLater(k *appClient) { l.node.after(bindPause, k.Bound) }

// askBind asks the partition of a user to count s as one of its sessions, unless too much waits. A login is told the answer.
func (l *loop) askBind(s *session, k *appClient, user string, most int, login *hosting.Login) bool {
	part := channel.Partition(user)
	in := l.inlet(part)
	if in.Full() || len(k.bindings) == maxBindings {
		l.counters.busy++
		return false
	}
	had := s.claims(user)
	if !had { // now: it may be counted before the answer is here, and must not stay so when it ends
		s.needRare().claims = append(s.rare.claims, user)
	}
	req := l.number()
	k.bindings = append(k.bindings, binding{req, user, had, login}) // first: the answer may come before Post returns
	in.Post(channel.Request{Op: channel.OpBind, Part: part, Req: req, From: l.addr(s.conn), User: user, Content: strconv.AppendInt(nil, int64(most), 10)})
	return true
}

// bound takes an answer if it is one to a binding.
func (l *loop) bound(s *session, it *channel.Item) bool {
	k := s.appClient()
	if k == nil {
		return false
	}
	i := slices.IndexFunc(k.bindings, func(b binding) bool { return b.req == it.Req })
	if i < 0 {
		return false
	}
	b := k.bindings[i]
	k.bindings = slices.Delete(k.bindings, i, i+1)
	waits, err := boundAnswer(it.Body)
	if err == nil && b.Login != nil && b.Taken != nil {
		b.Taken()
	}
	if err != nil && err != app.ErrUnknown && !b.had && !k.wants(b.user) { // it was not counted
		s.rare.claims = slices.DeleteFunc(s.rare.claims, func(user string) bool { return user == b.user })
	}
	l.settle(s, k)
	switch {
	case b.Login != nil:
		b.Done(waits, err)
	case err != nil:
		l.bindLater(k)
	}
	return true
}

// wants tells whether the session is a user's, or asks to be.
func (k *appClient) wants(user string) bool {
	return user == hosting.BoundUser(k.UID()) || slices.ContainsFunc(k.bindings, func(b binding) bool { return b.user == user })
}

// loggingIn tells whether a login has no answer yet. Nobody may wait for it any more.
func (k *appClient) loggingIn() bool {
	return slices.ContainsFunc(k.bindings, func(b binding) bool { return b.Login != nil })
}

// settle has s no longer counted as a session of users whose it is not.
func (l *loop) settle(s *session, k *appClient) {
	if s.rare == nil {
		return
	}
	s.rare.claims = slices.DeleteFunc(s.rare.claims, func(user string) bool {
		if !hosting.IsBoundUser(user) || k.wants(user) {
			return false
		}
		l.release(s, user)
		return true
	})
}

// boundAnswer is what the answer to a binding says.
func boundAnswer(body []byte) (waits int, err error) {
	switch {
	case bytes.Equal(body, channel.Done):
		return 0, nil
	case bytes.Equal(body, channel.ClaimRefused):
		return 0, &app.RefusedError{Reason: channel.ReasonNames[channel.ReasonSessions]}
	case bytes.Equal(body, channel.NotSent):
		return 0, app.ErrNotSent
	case bytes.Equal(body, channel.Unknown):
		return 0, app.ErrUnknown
	}
	var answer struct{ Waits int }
	if codec.Unmarshal(body, &answer) != nil || answer.Waits == 0 {
		return 0, app.ErrBusy
	}
	return answer.Waits, nil
}

// dropBindings gives up what s, which ends, waits for.
func (k *appClient) dropBindings() {
	list := k.bindings
	k.bindings = nil
	for _, b := range list {
		if b.Login != nil {
			b.Done(0, app.ErrClosed)
		}
	}
}
