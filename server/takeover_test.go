//go:build linux

package server

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/internal/handover"
	"github.com/pomelod/pomelod/router"
)

// A listener has the socket of the one with its address and name; of another name only where the address says which port that is.
func TestSucceedListeners(t *testing.T) {
	const any, port = "127.0.0.1:0", "127.0.0.1:3050"
	for _, tc := range []struct {
		what     string
		old, now [][2]string // name, address
		want     []int       // by listener now: which of the old ones it has the socket of; -1: it is bound
	}{
		{"the same", [][2]string{{"a", any}, {"b", any}}, [][2]string{{"b", any}, {"a", any}}, []int{1, 0}},
		{"a new name and any port", [][2]string{{"a", any}, {"b", any}}, [][2]string{{"c", any}, {"b", any}}, []int{-1, 1}},
		{"a new name", [][2]string{{"a", port}}, [][2]string{{"c", port}}, []int{0}},
		{"another address", [][2]string{{"a", port}}, [][2]string{{"a", any}}, []int{-1}},
	} {
		took, p := &takeover{hello: new(handover.Greeting)}, &plan{inherited: map[int]int{}}
		for _, l := range tc.old {
			var fds [2]int
			if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			_ = unix.Close(fds[1])
			took.hello.Listeners = append(took.hello.Listeners, handover.Listener{Name: l[0], Addr: l[1]})
			took.files = append(took.files, fds[0])
		}
		for _, l := range tc.now {
			p.listeners = append(p.listeners, plannedListener{addr: l[1], profile: &router.Profile{Name: l[0]}})
		}
		files := took.files
		p.succeed(took)
		for i, old := range tc.want {
			fd, has := p.inherited[i]
			if has != (old >= 0) || has && fd != files[old] {
				t.Errorf("%s: listener %d has socket %d (%v), the old ones were %v", tc.what, i, fd, has, files)
			}
		}
		taken := make(map[int]bool)
		for _, fd := range p.inherited {
			taken[fd] = true
		}
		for _, fd := range files {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); (err == nil) != taken[fd] {
				t.Errorf("%s: socket %d is open: %v, used: %v", tc.what, fd, err == nil, taken[fd])
			}
			if taken[fd] {
				_ = unix.Close(fd)
			}
		}
	}
}
