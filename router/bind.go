package router

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
)

// A program says of a session whose it is (app.Session.Bind, Login). The partition of the uid knows that, as it knows of logins (claim.go): so two sessions that are bound at once
// are decided one after the other, a whole fleet can push to a uid and end its sessions, and who ends with its node is counted no more.

// binding is one that waits for the answer of the uid's partition.
type binding struct {
	req   uint32
	user  string
	again bool
	done  func(waits int, err error)
}

// maxBindings is how many of a session wait at a time; more fail with app.ErrBusy.
const maxBindings = 16

// Bind implements hosting.Client.
func (k *appClient) Bind(b hosting.Binding) error {
	if k.ended.Load() {
		return app.ErrClosed
	}
	return k.courier.postBind(k.addr, b)
}

// postBind implements courier.
func (l *loop) postBind(to channel.Addr, b hosting.Binding) error {
	if l.busy() {
		return app.ErrBusy
	}
	l.node.posting.RLock() // what rests stays at rest (Rest)
	defer l.node.posting.RUnlock()
	l.postRun(len(b.UID), func() {
		s := l.byAddr(to)
		if s == nil || s.phase == ended || s.appClient() == nil {
			b.Done(0, app.ErrClosed)
			return
		}
		l.bind(s, &b)
	})
	return nil
}

// bind has s counted as one of a uid's sessions, and of no other uid's.
func (l *loop) bind(s *session, b *hosting.Binding) {
	user := ""
	if b.UID != "" {
		user = hosting.BoundUser(b.UID)
	}
	s.rare.claims = slices.DeleteFunc(s.rare.claims, func(old string) bool {
		if !hosting.IsBoundUser(old) || old == user && b.Again {
			return false
		}
		l.release(s, old)
		return true
	})
	k := s.appClient()
	if user == "" {
		b.Done(0, nil)
		return
	}
	part := channel.Partition(user)
	in := l.inlet(part)
	if in.Full() || len(k.bindings) == maxBindings {
		l.counters.busy++
		b.Done(0, app.ErrBusy)
		return
	}
	if !s.claims(user) { // now: it may be counted before the answer is here, and must not stay so when it ends
		s.rare.claims = append(s.rare.claims, user)
	}
	req := l.number()
	k.bindings = append(k.bindings, binding{req, user, b.Again, b.Done}) // first: the answer may come before Post returns
	in.Post(channel.Request{Op: channel.OpBind, Part: part, Req: req, From: l.addr(s.conn), User: user, Content: strconv.AppendInt(nil, int64(b.Most), 10)})
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
	if err != nil && !b.again && s.claims(b.user) { // one that was asked again may have been counted before: that ends with the session
		s.rare.claims = slices.DeleteFunc(s.rare.claims, func(user string) bool { return user == b.user })
		if err == app.ErrUnknown { // it may be counted, and must not stay so
			l.release(s, b.user)
		}
	}
	b.done(waits, err)
	return true
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
		b.done(0, app.ErrClosed)
	}
}
