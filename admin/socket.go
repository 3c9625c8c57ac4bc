package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The admin's unix socket. Who may reach it is what the file system says: its mode is 0660, in a directory of mode 0750. So nobody needs a token, and no
// page of the web can ask by it.

// Modes of the socket, and of the directory where it is made.
const (
	socketMode    = 0o660
	directoryMode = 0o750
)

// ErrTaken means that another process answers at the path of a socket.
var ErrTaken = errors.New("another process answers there")

// Socket is a listening socket with a path.
type Socket struct {
	net.Listener
	path   string
	inode  unix.Stat_t // which file is ours
	remove func()      // the file, once
}

// ListenSocket makes a socket at path, and its directory if that is missing. Nobody can connect before its mode is what it shall be: it is bound under
// another name, and renamed. What is left there of a process that has ended is replaced, and so is the socket of process heir (0: of none). It fails
// with ErrTaken when another process answers.
func ListenSocket(path string, heir int) (*Socket, error) {
	if err := os.Mkdir(filepath.Dir(path), directoryMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the directory of the admin socket: %w", err)
	}
	if err := probe(path, heir); err != nil {
		return nil, err
	}
	aside := path + "." + strconv.Itoa(os.Getpid())
	_ = os.Remove(aside) // of a process that had this id
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: aside, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on the admin socket %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	s := &Socket{Listener: ln, path: path}
	s.remove = sync.OnceFunc(s.unlink)
	err = os.Chmod(aside, socketMode)
	if err == nil {
		err = unix.Lstat(aside, &s.inode)
	}
	if err == nil {
		err = os.Rename(aside, path)
	}
	if err != nil {
		_ = ln.Close()
		_ = os.Remove(aside)
		return nil, fmt.Errorf("make the admin socket %s: %w", path, err)
	}
	return s, nil
}

// probe tells whether a socket may be made at path.
func probe(path string, heir int) error {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the admin socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("the admin socket %s: there is a file of that name, which is no socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT): // nobody listens any more
		return nil
	case err == nil:
		defer c.Close()
		if cred := peer(c); heir != 0 && cred != nil && int(cred.Pid) == heir {
			return nil
		}
	}
	return fmt.Errorf("the admin socket %s: %w", path, ErrTaken)
}

// Addr is the path.
func (s *Socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// Close removes the file too.
func (s *Socket) Close() error {
	s.remove()
	return s.Listener.Close()
}

// unlink removes the file, unless another process has made its own there.
func (s *Socket) unlink() {
	var now unix.Stat_t
	if unix.Lstat(s.path, &now) == nil && now.Dev == s.inode.Dev && now.Ino == s.inode.Ino {
		_ = os.Remove(s.path)
	}
}

// Who a request is from: the value of a context.
type whoKey struct{}

// withPeer notes in ctx who has made a connection by the socket, for who.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if few, ok := c.(*fewConn); ok {
		c = few.Conn
	}
	if cred := peer(c); cred != nil {
		return context.WithValue(ctx, whoKey{}, fmt.Sprintf("%s (pid %d)", userName(cred.Uid), cred.Pid))
	}
	return ctx
}

// peer is the process at the other end of a unix socket, nil for another conn.
func peer(c net.Conn) (cred *unix.Ucred) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return nil
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nil
	}
	_ = raw.Control(func(fd uintptr) { cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred
}

// userName is the name of a user, or its number where it has none.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}
