package app

import (
	"fmt"
	"log/slog"

	"github.com/pomelod/pomelod/internal/hosting"
)

// maxCarried bounds what pack may return.
const maxCarried = 1 << 20

// carry is what Carry was given; nil functions: nothing was.
type carry struct {
	pack   func(*Session) ([]byte, error)
	unpack func(*Session, []byte) error
}

// Carry lets sessions that functions of the App know stay connected in an upgrade (pomelod upgrade), in which another process takes this one's place. Without it
// they are sent away, and come back, as at a restart.
//
// pack is called in the process that ends, for each such session, and returns what the next one must know of it, at most 1 MiB: of what Set has stored nothing goes
// along by itself. unpack is called there in the place of OnOpen, with those bytes; room, name and uid (Bind) are the session's again by then. What belongs to
// no session is the program's to keep, say in a file or a database. The next program may be newer, or older: give the bytes a version, and return an error
// for one that is not known. A session is sent away if either function fails. A program without Carry is refused as the next one.
//
// For a session that goes along OnClose is not called in the process that ends, and OnOpen not in the next. One with a call under way stays and is sent
// away. Both functions run while nobody is served, so they must not block, push nothing, kick nobody, and ask nothing of rooms. An upgrade may yet fail when they
// have been called: then the sessions go on where they were, and pack is called again by the next one. So pack only reads, and what unpack does in the
// world must bear being done for nothing.
func (a *App) Carry(pack func(*Session) ([]byte, error), unpack func(*Session, []byte) error) {
	a.carry = carry{pack, unpack}
}

// Carries implements hosting.App.
func (h *hosted) Carries() bool { return h.carry.pack != nil && h.carry.unpack != nil }

// Pack implements hosting.App.
func (h *hosted) Pack(s hosting.Session) (c hosting.Carried, ok bool) {
	of := session(s)
	err := guarded(func() (err error) {
		c.State, err = h.carry.pack(of)
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
	err := guarded(func() error { return h.carry.unpack(of, c.State) })
	if err != nil {
		slog.Warn("a session that came along in the upgrade is sent away: the program's Carry has failed to unpack it", "peer", of.remote, "err", err)
	}
	return err == nil
}
