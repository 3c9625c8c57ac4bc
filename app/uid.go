package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
)

// bound are the sessions of each uid. Safe from any goroutine.
type bound struct {
	mu    sync.RWMutex
	byUID map[string][]*Session // oldest first
}

// Bind says whose session it is. A uid is what the program knows a user by, say the key of its account, and nobody else sees it; the name that
// a session shows in a room is User. The session keeps the uid until it ends or is bound to another; the empty uid takes it away.
//
// It does not wait, and returns the other sessions of that uid in this process, oldest first. Of two sessions that bind the same uid at the same time exactly one sees
// the other. So the program decides what a second login means: it kicks the others, or this one, or lets them be. In a fleet others may be on other nodes: Login has
// the fleet decide. Of what is asked for one session at a time the last Bind holds, also where a Login was under way. A session that has ended is bound to nothing.
func (s *Session) Bind(uid string) (others []*Session) {
	others = s.app.bound.bind(s, uid)
	s.client.Bound()
	return others
}

// bind makes s one of a uid's sessions, of which it returns the others.
func (b *bound) bind(s *Session, uid string) (others []*Session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.binds++
	if b.put(s, uid); s.uid == "" {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(b.byUID[uid]), func(other *Session) bool { return other == s })
}

// login makes s one of a uid's sessions, unless it was bound to one since it was bound so many times: then it is that one's.
func (b *bound) login(s *Session, uid string, binds uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.binds == binds {
		b.put(s, uid)
	}
}

// put puts s in as one of a uid's sessions, unless it has ended: one that ends later takes itself out again. Guarded by mu.
func (b *bound) put(s *Session, uid string) {
	if uid == s.uid && uid != "" {
		return // it stays as old as it was among those
	}
	b.take(s)
	if uid == "" || s.Closed() {
		return
	}
	if b.byUID == nil {
		b.byUID = make(map[string][]*Session)
	}
	s.uid = uid
	b.byUID[uid] = append(b.byUID[uid], s)
}

// bindsOf is how many times s was bound by Bind.
func (b *bound) bindsOf(s *Session) uint32 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return s.binds
}

// Logins says how many sessions a uid may have, wherever they are in a fleet.
type Logins struct {
	Most    int  // 0: any number
	KickOld bool // the oldest are ended for a new one; else that is refused
}

// Login is Bind that lets no more sessions have the uid than it may, in the whole fleet: one that is too many is refused with a *RefusedError, whose reason is
// "sessions", and stays what it was; or with KickOld the oldest are ended. Then Login returns when they have left their rooms. So their names are free, but in a fleet a
// leave may take a moment longer than Login: an enter that is refused with "taken" may be tried again. Of several logins at once the last one stays.
//
// It fails as Enter does, with ErrClosed, ErrBusy, ErrNotSent; with ErrUnknown, and when ctx ends, or two minutes if it has no deadline, nobody knows whether the session
// is the uid's, or whether the others have ended. It waits, so it must not be called on an event loop.
func (s *Session) Login(ctx context.Context, uid string, of Logins) error {
	if uid == "" {
		return errors.New("a login needs a uid")
	}
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	defer s.client.LoggingIn()()
	binds := s.app.bound.bindsOf(s)
	l := hosting.Login{UID: uid, Most: max(of.Most, 0), Taken: func() { s.app.bound.login(s, uid, binds) }}
	if of.KickOld {
		l.Most = -l.Most
	}
	for pause := leastPause; ; pause = min(2*pause, mostPause) {
		switch waits, err := s.loginOnce(ctx, l); {
		case err != nil:
			return err
		case waits == 0:
			return nil
		}
		l.Again, l.Taken = true, nil
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("other sessions of the user have not ended: %w: %w", ErrUnknown, ctx.Err())
		}
	}
}

// How long Login waits before it asks again whether old sessions have ended.
const leastPause, mostPause = 2 * time.Millisecond, 100 * time.Millisecond

// loginOnce has s counted and waits for that.
func (s *Session) loginOnce(ctx context.Context, l hosting.Login) (waits int, err error) {
	type outcome struct {
		waits int
		err   error
	}
	done := make(chan outcome, 1)
	l.Done = func(waits int, err error) { done <- outcome{waits, err} }
	if err := s.client.Login(&l); err != nil {
		return 0, err
	}
	select {
	case o := <-done:
		return o.waits, o.err
	case <-ctx.Done():
		return 0, fmt.Errorf("login: %w: %w", ErrUnknown, ctx.Err())
	}
}

// KickUID ends all sessions of a uid, in the whole fleet, and tells their clients the reason. It does not wait, and is no error if there is none. One that was bound a moment
// ago by Bind may be missed; one that Login has returned for is not.
func (a *App) KickUID(uid, reason string) error {
	node, err := a.running()
	if err != nil {
		return err
	}
	return node.Request(channel.Request{Op: channel.OpKick, User: hosting.BoundUser(uid), Content: codec.AppendString(nil, reason)})
}

// CountUID tells how many sessions a uid has in the whole fleet. It waits as methods of Room.Wait do, and misses what KickUID does.
func (a *App) CountUID(ctx context.Context, uid string) (int, error) {
	node, err := a.running()
	if err != nil {
		return 0, err
	}
	var answer struct{ Count int }
	b, err := node.Ask(ctx, channel.Request{Op: channel.OpCount, User: hosting.BoundUser(uid)})
	if err != nil {
		return 0, fmt.Errorf("count sessions of a user: %w", err)
	}
	if err := codec.Unmarshal(b, &answer); err != nil {
		return 0, fmt.Errorf("count sessions of a user: %w", err)
	}
	return answer.Count, nil
}

// take takes s out. Guarded by mu.
func (b *bound) take(s *Session) {
	if s.uid == "" {
		return
	}
	list := b.byUID[s.uid]
	if i := slices.Index(list, s); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(b.byUID, s.uid)
	} else {
		b.byUID[s.uid] = list
	}
	s.uid = ""
}

// unbind takes s, which has ended, out.
func (b *bound) unbind(s *Session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.take(s)
}

// UID is what the session was bound to (Bind), empty if it is bound to nothing, or has ended and OnClose was called for it.
func (s *Session) UID() string {
	b := &s.app.bound
	b.mu.RLock()
	defer b.mu.RUnlock()
	return s.uid
}

// SessionsOf returns the sessions of this process that are bound to uid (Session.Bind, Login), oldest first. Of those on other nodes of a fleet there are CountUID, KickUID
// and PushUIDs.
func (a *App) SessionsOf(uid string) []*Session {
	a.bound.mu.RLock()
	defer a.bound.mu.RUnlock()
	return slices.Clone(a.bound.byUID[uid])
}

// UIDs are the uids to which sessions of this process are bound, in no order. It looks at all of them: for what is done now and then.
func (a *App) UIDs() []string {
	a.bound.mu.RLock()
	defer a.bound.mu.RUnlock()
	return slices.Collect(maps.Keys(a.bound.byUID))
}

// PushUIDs sends a push to all sessions that are bound to any of uids, in whatever rooms they are, and on whatever nodes of a fleet, and returns to how many of this process; a uid of which there is no session
// is no error, and one that is named twice gets it once. With ErrBusy some of them have too much to take already, and did not get it. It does not wait for other nodes.
func (a *App) PushUIDs(uids []string, route string, body any) (reached int, err error) {
	node, content, err := a.encodePush(route, body)
	if err != nil {
		return 0, err
	}
	p := &codec.Push{Route: route, Body: content}
	if len(uids) > 1 {
		p.Shared = new(codec.SharedFrames)
	}
	failed := func(e error) {
		if e != nil && (err == nil || errors.Is(err, ErrBusy)) {
			err = e
		}
	}
	told := make(map[string]struct{}, len(uids))
	for _, uid := range uids {
		if _, twice := told[uid]; twice {
			continue
		}
		told[uid] = struct{}{}
		for _, s := range a.SessionsOf(uid) {
			e := s.client.Push(p)
			if failed(e); e == nil {
				reached++
			}
		}
		if node.InFleet() {
			failed(node.Request(channel.Request{Op: channel.OpPush, User: hosting.BoundUser(uid), Route: route, Content: content, Silent: true}))
		}
	}
	return reached, err
}
