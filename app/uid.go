package app

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/pomelod/pomelod/codec"
)

// bound are the sessions of each uid. Safe from any goroutine.
type bound struct {
	mu    sync.RWMutex
	byUID map[string][]*Session // oldest first
}

// Bind says whose session it is. A uid is what the program knows a user by, say the key of its account, and nobody else sees it; the name that
// a session shows in a room is User. The session keeps the uid until it ends or is bound to another; the empty uid takes it away.
//
// It returns the other sessions of that uid, oldest first. Of two sessions that bind the same uid at the same time exactly one sees the other. So
// the program decides what a second login means: it kicks the others, or this one, or lets them be. A session that has ended is bound to nothing.
func (s *Session) Bind(uid string) (others []*Session) {
	b := &s.app.bound
	b.mu.Lock()
	defer b.mu.Unlock()
	b.take(s)
	if uid == "" || s.Closed() { // one that is closed later takes itself out again
		return nil
	}
	others = slices.Clone(b.byUID[uid])
	if b.byUID == nil {
		b.byUID = make(map[string][]*Session)
	}
	s.uid = uid
	b.byUID[uid] = append(b.byUID[uid], s)
	return others
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

// SessionsOf returns the sessions that are bound to uid (Session.Bind), oldest first.
func (a *App) SessionsOf(uid string) []*Session {
	a.bound.mu.RLock()
	defer a.bound.mu.RUnlock()
	return slices.Clone(a.bound.byUID[uid])
}

// UIDs are the uids to which sessions are bound, in no order. It looks at all of them: for what is done now and then.
func (a *App) UIDs() []string {
	a.bound.mu.RLock()
	defer a.bound.mu.RUnlock()
	return slices.Collect(maps.Keys(a.bound.byUID))
}

// PushUIDs sends a push to all sessions that are bound to any of uids, in whatever rooms they are, and returns to how many; a uid of which there is no session
// is no error, and one that is named twice gets it once. With ErrBusy some of them have too much to take already, and did not get it.
func (a *App) PushUIDs(uids []string, route string, body any) (reached int, err error) {
	_, content, err := a.encodePush(route, body)
	if err != nil {
		return 0, err
	}
	p := &codec.Push{Route: route, Body: content}
	if len(uids) > 1 {
		p.Shared = new(codec.SharedFrames)
	}
	told := make(map[string]struct{}, len(uids))
	for _, uid := range uids {
		if _, twice := told[uid]; twice {
			continue
		}
		told[uid] = struct{}{}
		for _, s := range a.SessionsOf(uid) {
			switch e := s.client.Push(p); {
			case e == nil:
				reached++
			case err == nil || errors.Is(err, ErrBusy):
				err = e
			}
		}
	}
	return reached, err
}
