package app

import (
	"fmt"
	"log/slog"

	"github.com/pomelod/pomelod/internal/hosting"
)

// maxCarried bounds what goes along with a session.
const maxCarried = 1 << 20

// carry is what Carry was given; nil functions: nothing was.
type carry struct {
	pack   func(*Session) ([]byte, error)
	unpack func(*Session, []byte) error
}

// Carry lets sessions that functions of the App know stay connected in an upgrade (pomelod upgrade), in which another process takes this one's place. Without it
// they are sent away, and come back, as at a restart.
//
// Data that are registered (NewData) go along by themselves, and may be all that is needed; Carry is for what else there is. pack is called in the process that ends, for each such session, and returns what the next one must know of it, at most 1 MiB: of what Set has stored nothing goes
// along by itself. unpack is called there in the place of OnOpen, with those bytes; room, name and uid (Bind) are the session's again by then. What belongs to
// no session is the program's to keep, say in a file or a database. The next program may be newer, or older: give the bytes a version, and return an error
// for one that is not known. A session is sent away if either function fails. A program without Carry is refused as the next one.
//
// For a session that goes along OnClose is not called in the process that ends, and OnOpen not in the next. One with a call, a change of its rooms or a Login under way stays and is sent
// away. Both functions run while nobody is served, so they must not block, push nothing, kick nobody, and ask nothing of rooms. An upgrade may yet fail when they
// have been called: then the sessions go on where they were, and pack is called again by the next one. So pack only reads, and what unpack does in the
// world must bear being done for nothing.
func (a *App) Carry(pack func(*Session) ([]byte, error), unpack func(*Session, []byte) error) {
	a.carry = carry{pack, unpack}
}

// Carries implements hosting.App.
func (h *hosted) Carries() bool {
	return h.carry.pack != nil && h.carry.unpack != nil || h.carry.pack == nil && len(h.kinds) > 0
}

// Pack implements hosting.App.
func (h *hosted) Pack(s hosting.Session) (c hosting.Carried, ok bool) {
	of := session(s)
	err := alone(func() (err error) {
		if h.carry.pack != nil {
			if c.State, err = h.carry.pack(of); err != nil {
				return err
			}
		}
		c.State, err = h.app().packData(of, c.State)
		return err
	})
	if err == nil && len(c.State) > maxCarried {
		err = fmt.Errorf("%d bytes are more than %d", len(c.State), maxCarried)
	}
	if err != nil {
		slog.Warn("a session cannot go along in the upgrade: the program's Carry has failed to pack it", "peer", of.remote, "err", err)
		return hosting.Carried{}, false
	}
	c.UID = of.UID()
	return c, true
}

// Unpack implements hosting.App.
func (h *hosted) Unpack(s hosting.Session, c hosting.Carried) bool {
	of := session(s)
	if c.UID != "" {
		of.Bind(c.UID)
	}
	of.open()
	err := alone(func() error {
		state, err := h.app().unpackData(of, c.State)
		if err != nil || h.carry.unpack == nil {
			return err
		}
		return h.carry.unpack(of, state)
	})
	if err != nil {
		slog.Warn("a session that came along in the upgrade is sent away: the program's Carry has failed to unpack it", "peer", of.remote, "err", err)
	}
	return err == nil
}
