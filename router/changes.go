package router

import (
	"bytes"
	"slices"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/channel"
	"github.com/pomelod/pomelod/codec"
	"github.com/pomelod/pomelod/internal/hosting"
)

// A program may have a session enter, join and leave rooms (app.Session.Enter, Join, Leave). These changes of a session are carried out one after the other,
// and neither while an enter of its client is under way nor the other way round: so it always knows which name it has. What else its client asks for goes on
// meanwhile, as a handler may wait for a change of its own session.

// change is what a program asks of a session's rooms, until that is done.
type change struct {
	hosting.Change
	req    uint32 // number of its request; 0: it waits for its turn
	due    uint32 // tick at which it is given up
	uid    string // user*room, as a member of which its answer makes the session
	star   uint8
	rename bool // same room, new name
}

// maxChanges is how many changes of a session wait at a time; more are refused with app.ErrBusy.
const maxChanges = 16

// changing is the change of s that is under way; nil: none is.
func (s *session) changing() *change {
	if s.x == nil || len(s.x.changes) == 0 || s.x.changes[0].req == 0 {
		return nil
	}
	return &s.x.changes[0]
}

// postChange implements courier.
func (l *loop) postChange(to channel.Addr, c hosting.Change) error {
	if l.busy() {
		return app.ErrBusy
	}
	l.node.posting.RLock() // what rests stays at rest (Rest)
	defer l.node.posting.RUnlock()
	l.postRun(len(c.Room)+len(c.User), func() {
		s := l.byAddr(to)
		switch {
		case s == nil || s.phase != working:
			c.Done(app.ErrClosed)
		case l.profile(s).Type == Gate:
			c.Done(app.ErrGate)
		case len(l.extra(s).changes) == maxChanges:
			c.Done(app.ErrBusy)
		default:
			s.x.changes = append(s.x.changes, change{Change: c})
			l.nextChange(s)
			l.tidy(s)
		}
	})
	return nil
}

// nextChange begins the changes of s that wait, up to one that has to be answered by an owner.
func (l *loop) nextChange(s *session) {
	for s.x != nil && len(s.x.changes) > 0 && s.x.entering == "" && s.changing() == nil {
		if done, err := l.beginChange(s, &s.x.changes[0]); done {
			l.popChange(s, err)
		}
	}
}

// popChange tells the program what has come of the oldest change.
func (l *loop) popChange(s *session, err error) {
	done := s.x.changes[0].Done
	s.x.changes = slices.Delete(s.x.changes, 0, 1)
	done(err)
}

// beginChange begins a change, and tells whether it is done already.
func (l *loop) beginChange(s *session, c *change) (done bool, err error) {
	joins := c.Kind == hosting.ChangeJoin
	switch {
	case c.Kind == hosting.ChangeLeave:
		if !l.leaveRoom(s, c.Room) {
			return true, app.ErrAbsent
		}
		return true, nil
	case joins && s.room == nil:
		return true, app.ErrNowhere
	case joins && s.named(c.Room) != nil:
		return true, nil
	case joins && len(s.further()) == maxFurther:
		return true, app.ErrTooMany
	case joins:
		c.User = s.user()
	case s.room != nil && c.User == "":
		c.User = s.user()
	}
	if s.room != nil && !joins && s.named(c.Room) != nil {
		if c.User == s.user() && s.roomName() == c.Room {
			for i := len(s.further()) - 1; i >= 0; i-- {
				l.leaveRoom(s, s.furtherName(i))
			}
			return true, nil
		}
		if c.User != s.user() {
			if len(s.further()) > 0 {
				return true, app.ErrRename
			}
			c.rename = true
		}
	}
	a := l.carriers.chat.admission(s, c.User, c.Room, s.keyAs(c.User), channel.Partition(c.Room))
	in := l.inlet(a.req.Part)
	switch {
	case a.refusal != nil:
		if bytes.Equal(a.refusal, channel.EnterRefused) { // nobody can have it
			return true, &app.RefusedError{Reason: "name"}
		}
		return true, refusalOf(a.refusal)
	case in.Full():
		l.counters.busy++
		return true, app.ErrBusy
	}
	if c.rename {
		a.req.Prev = s.user()
	}
	a.req.Near, a.req.From, a.req.Silent = l.node.access.near(s.conn.Peer().Addr()), l.addr(s.conn), true
	a.req.Pass = channel.PassAll
	a.req.Req = l.number()
	c.uid, c.star, c.req, c.due = a.uid, uint8(len(c.User)), a.req.Req, l.np.Now()+l.patience(a.req.Part) // first: the answer may come before Post returns
	l.schedule(s)
	in.Post(a.req)
	return false, nil
}

// changed makes s a member of the room that its change was about.
func (l *loop) changed(s *session, it *channel.Item) {
	c := s.changing()
	l.arrive(s, it, c.uid, c.star, c.rename, c.Kind == hosting.ChangeJoin)
	l.endChange(s, nil)
	l.endBanned(s)
}

// endChange ends the change that is under way, and has what waits for it go on: the next one, or an enter of the client's.
func (l *loop) endChange(s *session, err error) {
	l.popChange(s, err)
	l.nextChange(s)
	l.resume(s)
}

// expireChange gives up a change that is not answered in time.
func (l *loop) expireChange(s *session, now uint32) {
	c := s.changing()
	if c == nil || c.due > now {
		return
	}
	l.counters.timeouts++
	l.forsake(s, c.uid, c.star)
	l.endChange(s, app.ErrUnknown)
}

// refused takes the answer that refuses the change that is under way.
func (l *loop) refused(s *session, body []byte) {
	err := refusalOf(body)
	if c := s.changing(); err == app.ErrUnknown {
		l.forsake(s, c.uid, c.star)
	}
	l.endChange(s, err)
}

// dropChanges forgets the changes of s, which ends or leaves all its rooms. end is what a leave says of that.
func (l *loop) dropChanges(s *session, end channel.Request) {
	if c := s.changing(); c != nil {
		end.Handed = channel.Unheard
		l.leave(l.addr(s.conn), c.uid[:c.star], c.Room, channel.Partition(c.Room), end)
	}
	for s.x != nil && len(s.x.changes) > 0 {
		l.popChange(s, app.ErrClosed)
	}
}

// refusalOf is the error that an owner's, or this loop's, refusal of an enter is.
func refusalOf(body []byte) error {
	switch {
	case bytes.Equal(body, channel.EnterNotSent):
		return app.ErrNotSent
	case bytes.Equal(body, channel.EnterUnknown):
		return app.ErrUnknown
	case bytes.Equal(body, channel.EnterBusy):
		return app.ErrBusy
	}
	members := codec.ScanObject(body)
	for key, value, more := members.Next(); more; key, value, more = members.Next() {
		if string(key) == "reason" {
			reason, _ := codec.StringValue(value)
			return &app.RefusedError{Reason: reason}
		}
	}
	return &app.RefusedError{Reason: "taken"}
}

// keyAs is what proves that s may be called user: its login, if that has this name, else the secret that it gave last.
func (s *session) keyAs(user string) uint64 {
	if who := s.identity(); who != nil && who.Name == user {
		return who.key
	}
	if s.rare != nil && s.rare.key != 0 {
		return s.rare.key
	}
	return s.secret()
}

// keepKey keeps a key by which s asks to enter, for the rooms that a program has it join beside.
func (l *loop) keepKey(s *session, key uint64) {
	switch {
	case l.node.app == nil:
	case key != s.secret():
		s.needRare().key = key
	case s.rare != nil:
		s.rare.key = 0
	}
}
