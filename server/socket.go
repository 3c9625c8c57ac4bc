//go:build linux

package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/router"
)

// Where the admin's socket is unless -admin-socket says it: systemd makes the first directory for the unit, and logind the second for each user.
const (
	autoSocket   = "auto"
	systemSocket = "/run/pomelod/admin.sock"
)

// findSocket is the path that autoSocket stands for in a process with that environment; empty: there is no place. node is the process's -id in a fleet, whose
// nodes may share a machine, else empty.
func findSocket(environ []string, node string) string {
	if dir := filepath.Dir(systemSocket); isDirectory(dir) {
		return filepath.Join(dir, socketName(node))
	}
	if dir := variables(environ, "XDG_RUNTIME_DIR")["XDG_RUNTIME_DIR"]; filepath.IsAbs(dir) && isDirectory(dir) {
		return filepath.Join(dir, "pomelod", socketName(node))
	}
	return ""
}

// socketName is what the socket of a node is called, or that of a process that is in no fleet.
func socketName(node string) string {
	if node == "" {
		return filepath.Base(systemSocket)
	}
	return url.PathEscape(node) + ".sock"
}

// liveSockets are the sockets of this machine at which somebody listens, where processes have them by themselves and where the unit for nodes
// (deploy/pomelod@.service) has them.
func liveSockets(environ []string) (paths []string) {
	patterns := []string{filepath.Join(filepath.Dir(systemSocket), "*.sock"), filepath.Dir(systemSocket) + "-*/*.sock"}
	if dir := variables(environ, "XDG_RUNTIME_DIR")["XDG_RUNTIME_DIR"]; filepath.IsAbs(dir) {
		patterns = append(patterns, filepath.Join(dir, "pomelod", "*.sock"))
	}
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern) // a name with [ in it is not found
		for _, path := range found {
			if c, err := net.DialTimeout("unix", path, time.Second); err == nil { // else its process was killed
				_ = c.Close()
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// theSocket is the one that a command asks when it was told none.
func theSocket(environ []string) (string, error) {
	live, usual := liveSockets(environ), findSocket(environ, "")
	switch {
	case len(live) == 1:
		return live[0], nil
	case len(live) > 1 && !slices.Contains(live, usual):
		return "", fmt.Errorf("several nodes of this machine have admin sockets, and each answers for itself; give one of them: -admin-socket %s", strings.Join(live, " or "))
	case usual == "":
		return "", errors.New("no pomelod is to be found: neither the directory of " + systemSocket + " is there nor XDG_RUNTIME_DIR; give the -admin-socket of the server")
	}
	return usual, nil
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// listenSocket makes the socket. That there is none where nobody has asked for one is no error.
func (s *server) listenSocket() error {
	path, asked := s.cfg.adminSocket, true
	if path == autoSocket {
		path, asked = findSocket(os.Environ(), s.cfg.fleet.node()), false
		if path == "" {
			slog.Warn("no admin socket: commands such as pomelod kick cannot reach this process", "hint", "give -admin-socket a path in a directory that only operators may enter; none stops this warning")
			return nil
		}
	}
	if path == "" {
		return nil
	}
	predecessor := 0
	if s.took != nil {
		predecessor = os.Getppid()
	}
	ln, err := admin.ListenSocket(path, predecessor)
	if err != nil && !asked {
		slog.Warn("no admin socket: commands such as pomelod kick cannot reach this process", "err", err, "hint", "give -admin-socket another path; none stops this warning")
		return nil
	}
	switch {
	case errors.Is(err, syscall.EINVAL): // longer than sockaddr_un has room for
		return settingsError{errors.Join(err, errors.New("-admin-socket: give a path of at most 90 bytes"))}
	case errors.Is(err, fs.ErrNotExist):
		return settingsError{errors.Join(err, errors.New("-admin-socket: make the directory above it"))}
	case err != nil:
		return err
	}
	src := s.source()
	src.Profiles = true
	s.socket = admin.New(ln, src)
	return nil
}

// serveSocket begins to answer on the socket. It makes it, if the process before this one had its own until now.
func (s *server) serveSocket() {
	if s.took != nil {
		if err := s.listenSocket(); err != nil {
			slog.Error("no admin socket: commands such as pomelod kick cannot reach this process", "err", err)
		}
	}
	if s.socket != nil {
		s.socket.Serve()
		slog.Info("listening", "server", "admin", "addr", s.socket.Addr().String())
	}
}

// api is what the admin API asks of a server.
type api struct {
	*router.Node
	*moderation
	s *server
}

// Reload implements admin.API.
func (a api) Reload() (admin.Reloaded, error) { return a.s.plan.reload() }

// Process implements admin.API.
func (a api) Process() admin.Process {
	return admin.Process{Version: Version, Memory: a.s.memory.state()}
}

// Nodes implements admin.API.
func (a api) Nodes(ctx context.Context) (*admin.Nodes, error) {
	if a.s.fleet == nil {
		return new(admin.Nodes), nil
	}
	return a.s.fleet.nodes(ctx)
}

// Times of Drain: how long a node may take to hear that it is to end, how often it is told, as the word may be lost, and how often we look.
const (
	drainHeard = 3 * time.Second
	drainTell  = 500 * time.Millisecond
	drainSee   = 20 * time.Millisecond
)

// Drain implements admin.API.
func (a api) Drain(ctx context.Context, name string) (node admin.Node, err error) {
	if a.s.fleet == nil {
		return node, admin.Refuse(errors.New("there is no fleet; this process ends in order by SIGTERM"))
	}
	began, told, run := time.Now(), time.Time{}, uint64(0)
	for {
		all, err := a.s.fleet.nodes(ctx)
		if err != nil {
			return node, err
		}
		now := findNode(all, name)
		switch {
		case now == nil && told.IsZero():
			return node, fmt.Errorf("no node %q is in this fleet: %w", name, app.ErrAbsent)
		case now == nil || !told.IsZero() && now.Run != run: // it has gone already
			node.State = "gone"
			return node, nil
		}
		if node, run = *now, now.Run; node.State == "draining" || !told.IsZero() && time.Since(began) > drainHeard {
			return node, nil
		}
		if time.Since(told) >= drainTell {
			if err := a.s.fleet.Retire(ctx, name); err != nil {
				return node, err
			}
			told = time.Now()
		}
		select {
		case <-ctx.Done():
			return node, ctx.Err()
		case <-time.After(drainSee):
		}
	}
}

// Upgrade implements admin.API.
func (a api) Upgrade(ctx context.Context) (string, error) { return a.s.control.upgrade(ctx) }

// limitGroups are the groups of flags, in -help, that are limits.
var limitGroups = []string{"Who may connect", "What a session or a room may do", "What rooms keep", "Times", "Sizes"}

// Limits implements admin.API.
func (a api) Limits() map[string]string {
	values, all := make(map[string]string), a.s.plan.reloads.values()
	for _, g := range helpGroups {
		if !slices.Contains(limitGroups, g.title) {
			continue
		}
		for _, name := range strings.Fields(g.names) {
			if value, is := all[name]; is {
				values[name] = value
			}
		}
	}
	return values
}

// socketFlag adds -admin-socket to the flags of a command.
func socketFlag(f *flag.FlagSet, c *caller) *string {
	path := variables(c.environ, "POMELOD_ADMIN_SOCKET")["POMELOD_ADMIN_SOCKET"]
	if path == "" {
		path = autoSocket
	}
	return f.String("admin-socket", path, "`path` that is the server's -admin-socket; POMELOD_ADMIN_SOCKET says another default")
}
