//go:build linux

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/netpoll"
	"github.com/pomelod/pomelod/router"
)

// Socket activation (sd_listen_fds(3)): systemd, or another program that starts pomelod, holds the listening sockets and passes them on.
// While pomelod restarts they stay open, so clients wait in the kernel's queue and none is refused.
//
//	LISTEN_PID      the process they are for; for another one they are not ours
//	LISTEN_FDS      how many; the first is descriptor 3
//	LISTEN_FDNAMES  their names, with colons between; may be missing
//
// passedSockets reads these by hand. activation.Files of coreos/go-systemd takes variables that make no sense for none, and believes a
// LISTEN_FDS that is too large: it makes files, which close their descriptors when they are collected, of what Go itself has open there.
// Operators need to hear of both (TestActivationMistakes). What is left, which socket is for which listener, is pomelod's own.
//
// A name says which listener a socket is for. One without a name, or with a name that systemd makes up, goes to the listener
// that is configured for its port.

// listenFDsStart is the first descriptor passed.
const listenFDsStart = 3

// maxInherited is more than there can be listeners; it keeps a mistyped LISTEN_FDS from a long search.
const maxInherited = 1024

// adminName is how operators call the listener of -admin.
const adminName = "admin"

// passedSocket is a listening socket that was passed.
type passedSocket struct {
	fd   int
	name string // empty: the port decides
	addr *net.TCPAddr
}

// inherit takes over the sockets passed to process pid, if any, and gives each to a listener, which then binds nothing.
func (p *plan) inherit(environ []string, pid int) error {
	sockets, err := passedSockets(environ, pid)
	if err != nil {
		return fmt.Errorf("socket activation: %w", err)
	}
	return p.assign(sockets)
}

// assign gives each socket to a listener.
func (p *plan) assign(sockets []passedSocket) error {
	p.inherited = make(map[int]int, len(sockets))
	for _, named := range []bool{true, false} { // names first: a socket without one must not take the place of one that has
		for _, s := range sockets {
			if (s.name != "") != named {
				continue
			}
			i, err := p.slot(s)
			if err != nil {
				return fmt.Errorf("socket activation: descriptor %d (%s): %w", s.fd, s.addr, err)
			}
			if other, taken := p.inherited[i]; taken {
				return fmt.Errorf("socket activation: descriptors %d and %d are both for %s, which takes one: pass one of them only, or name them after different listeners", other, s.fd, p.nameOf(i))
			}
			p.inherited[i] = s.fd
		}
	}
	return nil
}

// passedSockets reads the variables and looks at each descriptor.
func passedSockets(environ []string, pid int) ([]passedSocket, error) {
	env := variables(environ, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
	if env["LISTEN_FDS"] == "" || env["LISTEN_PID"] == "" {
		return nil, nil
	}
	for key, value := range env {
		if key == "LISTEN_FDNAMES" {
			continue
		}
		if n, err := strconv.Atoi(value); err != nil || n < 0 {
			return nil, fmt.Errorf("%s=%q is no number; systemd sets it, see sd_listen_fds(3), or unset it", key, value)
		}
	}
	if env["LISTEN_PID"] != strconv.Itoa(pid) { // they were for our parent, which has not unset them
		slog.Warn("LISTEN_FDS is set, but LISTEN_PID names another process: no socket is taken over", "listen_pid", env["LISTEN_PID"], "pid", pid)
		return nil, nil
	}
	n, _ := strconv.Atoi(env["LISTEN_FDS"])
	if n > maxInherited {
		return nil, fmt.Errorf("LISTEN_FDS=%d: pomelod takes at most %d sockets", n, maxInherited)
	}
	var names []string
	if list := env["LISTEN_FDNAMES"]; list != "" {
		if names = strings.Split(list, ":"); len(names) != n {
			return nil, fmt.Errorf("LISTEN_FDNAMES has %d names and LISTEN_FDS says %d: give every descriptor a name, or none", len(names), n)
		}
	}
	sockets := make([]passedSocket, n)
	for i := range sockets {
		s := passedSocket{fd: listenFDsStart + i}
		if names != nil && !madeUp(names[i]) {
			s.name = names[i]
		}
		var err error
		if s.addr, err = netpoll.ListenerAddr(s.fd); err != nil {
			return nil, fmt.Errorf("descriptor %d of the %d of LISTEN_FDS: %w; pass listening TCP sockets only (in a .socket unit: ListenStream= with a port, and Accept=no)", s.fd, n, err)
		}
		sockets[i] = s
	}
	for _, s := range sockets { // an App may start programs; the sockets are not for them
		unix.CloseOnExec(s.fd)
	}
	return sockets, nil
}

// managerVariables are what a service manager tells its child in the environment.
var managerVariables = []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}

// variables are the values of these keys in environ.
func variables(environ []string, keys ...string) map[string]string {
	found := make(map[string]string)
	for _, kv := range environ {
		if key, value, _ := strings.Cut(kv, "="); slices.Contains(keys, key) {
			found[key] = value
		}
	}
	return found
}

// madeUp tells a name that nobody chose: systemd names a socket after its unit when the unit has no FileDescriptorName=.
func madeUp(name string) bool {
	return name == "" || name == "unknown" || strings.HasSuffix(name, ".socket")
}

// slot is the index of the listener that s is for; the admin's is the one after the last.
func (p *plan) slot(s passedSocket) (int, error) {
	if s.name != "" {
		return p.slotByName(s.name)
	}
	return p.slotByPort(s.addr)
}

func (p *plan) slotByName(name string) (int, error) {
	for i, l := range p.listeners {
		if l.profile.Name == name { // an id of servers.json, or the only connector or gate of the flags
			return i, nil
		}
	}
	var kind router.ServerType
	switch name {
	case "connector", "ws":
		kind = router.Connector
	case "gate":
		kind = router.Gate
	case adminName:
		if p.admin == "" {
			return 0, errors.New("it is named admin, and there is none: give -admin an address, or do not pass it")
		}
		return len(p.listeners), nil
	default:
		return 0, fmt.Errorf("no listener is called %q: set FileDescriptorName= to one of %s, or leave it out and the port decides", name, p.listenerNames())
	}
	found := -1
	for i, l := range p.listeners {
		switch {
		case l.profile.Type != kind:
		case found >= 0:
			return 0, fmt.Errorf("it is named %s, and there are several: name it after its id in servers.json, one of %s", name, p.listenerNames())
		default:
			found = i
		}
	}
	if found < 0 {
		return 0, fmt.Errorf("it is named %s, and none is configured: do not pass it, or configure one", name)
	}
	return found, nil
}

// slotByPort finds the listener that is configured for addr's port. Among several it prefers the one whose host is addr's
// too, then the first that has none yet.
func (p *plan) slotByPort(addr *net.TCPAddr) (int, error) {
	found := -1
	for i := range len(p.listeners) + 1 {
		host, port := splitAddr(p.addrOf(i))
		if _, taken := p.inherited[i]; taken || port != addr.Port || port == 0 {
			continue
		}
		if ip := net.ParseIP(host); ip != nil && ip.Equal(addr.IP) {
			return i, nil
		}
		if found < 0 {
			found = i
		}
	}
	if found >= 0 {
		return found, nil
	}
	var configured []string
	for i := range len(p.listeners) + 1 {
		if a := p.addrOf(i); a != "" {
			configured = append(configured, p.nameOf(i)+" "+a)
		}
	}
	return 0, fmt.Errorf("no listener is left for port %d: configured are %s. Set the port there and in ListenStream= to the same, or FileDescriptorName= to one of %s",
		addr.Port, strings.Join(configured, ", "), p.listenerNames())
}

// splitAddr takes a configured address apart; the port may be a name.
func splitAddr(addr string) (host string, port int) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0
	}
	if port, err = net.DefaultResolver.LookupPort(context.Background(), "tcp", service); err != nil {
		return host, 0
	}
	return host, port
}

// addrOf is the configured address of a listener by its index, the admin's last.
func (p *plan) addrOf(i int) string {
	if i == len(p.listeners) {
		return p.admin
	}
	return p.listeners[i].addr
}

// nameOf is a listener's name by its index, the admin's last.
func (p *plan) nameOf(i int) string {
	if i == len(p.listeners) {
		return adminName
	}
	return p.listeners[i].profile.Name
}

func (p *plan) listenerNames() string {
	var names []string
	for i := range p.listeners {
		names = append(names, p.nameOf(i))
	}
	if p.admin != "" {
		names = append(names, adminName)
	}
	return strings.Join(names, ", ")
}

// inheritedAdmin is the socket passed for the admin as Go's listener, or nil.
func (p *plan) inheritedAdmin() (net.Listener, error) {
	fd, ok := p.inherited[len(p.listeners)]
	if !ok {
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), adminName)
	defer f.Close() // FileListener has a duplicate
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over descriptor %d for admin: %w", fd, err)
	}
	return ln, nil
}
