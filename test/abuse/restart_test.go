//go:build linux

package abuse

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// reborn is a server on the addresses of one that has ended, yet to be started.
func reborn(t *testing.T, before *server, binary string, flags ...string) *server {
	t.Helper()
	s := newServer(t, binary, append([]string{"-listen", before.addr, "-admin", before.admin}, flags...)...)
	s.addr, s.admin = before.addr, before.admin
	return s
}

// kill kills the server, as the kernel does when there is no memory.
func (s *server) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	<-s.ended
}

// A server that is killed in the middle of a chat, twice, can be started again at once, on the same address, though the kernel still
// knows its connections. The guests come back, into the same rooms under the same names, and nobody of them was owed anything.
func TestKilledAndRestarted(t *testing.T) {
	const rooms, members, kills = 2, 20, 2
	contrast(t, func(t *testing.T, binary string, flags ...string) (failures []string) {
		fail := func(format string, args ...any) { failures = append(failures, fmt.Sprintf(format, args...)) }
		s := start(t, binary, flags...)
		for n := range kills + 1 {
			began := time.Now()
			all := party(t, s.addr, rooms, members)
			back := time.Since(began)
			var talking sync.WaitGroup
			for _, room := range all {
				for _, g := range room[:5] { // by every wire
					talking.Go(func() { g.talk(25 * time.Millisecond) })
				}
			}
			late := watchLateness()
			if err := s.await(atLeast(rooms*100), "pomelod_sends_total"); err != nil {
				t.Fatal("the attack did not land: ", err)
			}
			if m := s.metrics(); m["pomelod_members"] != rooms*members {
				fail("%v members are in, not %d", m["pomelod_members"], rooms*members)
			}
			s.kill()
			if f := ends(slices.Concat(all...), patience); len(f) > 0 {
				return append(failures, f...)
			}
			talking.Wait()
			moment := 500*time.Millisecond + late.end()
			for i, room := range all {
				acked := 0
				for _, g := range room {
					acked += len(g.acked)
					if len(g.refused) > 0 {
						fail("%s was refused: %s", g.name, g.refused[0])
					}
				}
				// What the kernel had of a push when the process died is delivered; the moment is for what it had not.
				failures = append(failures, owed(room, moment)...)
				if acked < 10 {
					t.Errorf("the attack did not land: %d were acknowledged in room %d", acked, i)
				}
			}
			t.Logf("life %d: all were in within %v", n, back)
			if n == kills {
				return failures
			}
			s = reborn(t, s, binary, flags...)
			if err := s.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if !s.binds() {
				return append(failures, "the address is not free: "+s.said())
			}
		}
		return failures
	}, weakness{edits: []edit{{"netpoll/listener_linux.go", "		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},",
		"		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},\n		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 0},"}}, fails: "the address is not free"})
}

// binds waits until a server that was started listens, or has ended.
func (s *server) binds() bool {
	go func() { s.err = s.cmd.Wait(); close(s.ended) }()
	s.t.Cleanup(func() { _ = s.end() })
	waitFor(s.t, "the server to listen or end", func() bool {
		return s.over() || strings.Contains(s.stderr.String(), `"msg":"ready"`)
	})
	return !s.over()
}

// What keeps pomelod from starting is said in a line that tells what to change, and by the exit code.
func TestCannotStart(t *testing.T) {
	binary := build(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	for _, tc := range []struct {
		name, flags, limits string
		code                int
		says                string
	}{
		{"port taken", "-listen " + addr, "", 1, "another process has this port; stop it (ss -ltnp shows it) or change -listen"},
		{"port of the gate taken", "-gate " + addr, "", 1, "another process has this port"},
		{"port of the admin taken", "-admin " + addr, "", 1, "another process has this port; stop it (ss -ltnp shows it) or change -admin"},
		{"an address of nobody", "-listen 192.0.2.1:0", "", 1, "this machine does not have that address; change -listen"},
		{"more clients than descriptors", "-max-conns 1000", "-n 256", 2, "raise the limit (ulimit -n, LimitNOFILE=) or lower -max-conns"},
		{"next to no descriptors", "", "-n 12", 1, "too many open files"},
		{"a directory that is not there", "-config /nowhere/config", "", 2, "/nowhere/config"},
		{"output to a full disk", "-print-config", "", 1, "no space left on device"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"-listen", "127.0.0.1:0", "-gate", "", "-admin", "127.0.0.1:0"}, strings.Fields(tc.flags)...)
			limits := "ulimit -c 0"
			if tc.limits != "" {
				limits = "ulimit " + tc.limits
			}
			cmd := exec.Command("timeout", append([]string{"10", "sh", "-c", limits + ` && exec "$0" "$@" >/dev/full`, binary}, args...)...)
			out, err := cmd.CombinedOutput()
			if got := cmd.ProcessState.ExitCode(); got != tc.code || !strings.Contains(string(out), tc.says) {
				t.Errorf("ended with %v, not with %d and %q:\n%s", err, tc.code, tc.says, out)
			}
		})
	}
}
