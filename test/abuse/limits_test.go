//go:build linux

package abuse

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// under has the server start with limits, as ulimit of the shell sets them.
func under(limits string) func(s *server) {
	return func(s *server) {
		s.cmd.Args = append([]string{"sh", "-c", "ulimit " + limits + ` && exec "$0" "$@"`, s.cmd.Path}, s.cmd.Args[1:]...)
		s.cmd.Path = "/bin/sh"
	}
}

// spent is the processor time that the server has taken.
func (s *server) spent() time.Duration {
	s.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	fields := strings.Fields(string(rest))
	var ticks int
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(f)
		if err != nil {
			s.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ is 100 everywhere
}

// spins is an error when the server, which has little to do, takes more than a third of one processor for a second.
func (s *server) spins() error {
	const while = time.Second
	before := s.spent()
	time.Sleep(while)
	if took := s.spent() - before; took > while/3 {
		return fmt.Errorf("the server spins: %v of processor time in %v", took, while)
	}
	return nil
}

// A thousand clients come to a server that may open 256 files. It takes what it has room for, refuses the others at once, and goes
// on when they have left.
func TestFewDescriptors(t *testing.T) {
	const files, crowd = 256, 1000
	scenario{
		name:    "few descriptors",
		prepare: under(fmt.Sprint("-n ", files)),
		attack: func(a *arena) error {
			defer a.close() // or the server could not tell its metrics, if it has no descriptor left
			peers := make([]*peer, crowd)
			for i := range peers {
				p, err := a.dial(i % 4)
				if err != nil {
					a.t.Fatal(err)
				}
				p.late = soon
				peers[i] = p
			}
			in, refused := 0, 0
			for i, p := range peers {
				switch err := p.login(); {
				case err == nil:
					in++
				case errors.Is(err, os.ErrDeadlineExceeded):
					return fmt.Errorf("connection %d was neither taken nor refused", i)
				default:
					refused++
				}
			}
			if in > files || in < files/2 {
				return fmt.Errorf("%d got in and %d did not", in, refused)
			}
			return a.spins()
		},
		landed: func(d delta) error { return d.atLeast("pomelod_accepted_total", files/2) },
		held: func(d delta) error {
			return errors.Join(d.atLeast(`pomelod_refused_total{reason="max_conns"}`, crowd-files),
				d.atMost("pomelod_accept_pauses_total", 0))
		},
		without: weakness{
			edits: []edit{{"netpoll/acceptor_linux.go", "if total >= a.max || ", "if "}},
			fails: `pomelod_refused_total{reason="max_conns"} has grown by 0`,
		},
	}.run(t)
}

// atMost is an error when a counter has grown by more.
func (d delta) atMost(name string, n float64) error {
	if got := d.grown(name); got > n {
		return fmt.Errorf("%s has grown by %v, not by %v at most", name, got, n)
	}
	return nil
}

// files is the number of files beyond which nothing is open but what the tests were started with, far above.
func (s *server) files() uint64 {
	s.t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	var open []int
	for _, name := range names {
		fd, _ := strconv.Atoi(name.Name())
		open = append(open, fd)
	}
	slices.Sort(open)
	most := 0
	for _, fd := range open {
		if fd < most+64 {
			most = fd
		}
	}
	return uint64(most) + 1
}

// The limit of open files sinks to what is open already (EMFILE) while clients go on coming: those who are in notice nothing,
// accepting rests instead of spinning, and goes on by itself when there are descriptors again.
func TestNoDescriptors(t *testing.T) {
	const crowd = 200
	scenario{
		name: "no descriptors",
		attack: func(a *arena) error {
			pid := a.server.cmd.Process.Pid
			var was unix.Rlimit
			if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
				a.t.Fatal(err)
			}
			if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: a.files(), Max: was.Max}, nil); err != nil {
				a.t.Fatal(err)
			}
			var waiting []*peer
			for i := range crowd {
				p, err := a.dial(i % 4) // by the kernel
				if err != nil {
					a.t.Fatal(err)
				}
				waiting = append(waiting, p)
			}
			err := a.spins()
			if e := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &was, nil); e != nil {
				a.t.Fatal(e)
			}
			in := 0
			for _, p := range waiting { // some were let go, so that they need not wait
				if p.login() == nil {
					in++
				}
			}
			if in < crowd/2 {
				err = errors.Join(err, fmt.Errorf("%d of %d clients that had waited got in", in, crowd))
			}
			return err
		},
		landed: func(d delta) error { return d.atLeast("pomelod_accept_pauses_total", 1) },
		held: func(d delta) error {
			return errors.Join(d.atLeast(`pomelod_refused_total{reason="descriptors"}`, 1), d.atMost("pomelod_accept_pauses_total", 30))
		},
		without: weakness{
			edits: []edit{{"netpoll/acceptor_linux.go", "	time.AfterFunc(a.pause, a.resume)", "	go a.resume()"}},
			fails: "pomelod_accept_pauses_total has grown by",
		},
	}.run(t)
}

// Clients who read nothing make the server keep more than its address space has room for (ulimit -v): it finds that limit by itself
// and closes them before Go runs out of memory, which would end the process.
func TestSmallAddressSpace(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs all of it")
	}
	const kib, senders, each, messages, size = 1_500_000, 15, 39, 5, 100 << 10 // Go takes 1.3 million of them before it begins
	const rounds = 3                                                           // a server that is busy refuses some of it
	scenario{
		name:    "small address space",
		flags:   []string{"-heartbeat", "0", "-idle-timeout", "10m", "-stuck-timeout", "10m"}, // on a slow machine they would be ended for that before
		prepare: under(fmt.Sprint("-v ", kib)),
		busy:    "messages of 100 KiB, as fast as two processors take them, and a heap near its limit",
		attack: func(a *arena) error {
			for i := range senders {
				room := fmt.Sprint("heap", i)
				for j := range each {
					p, err := dialSmall(fmt.Sprint(attackers, i+1), a.addr)
					if err != nil {
						a.t.Fatal(err)
					}
					a.keep(p)
					if err = p.login(); err == nil {
						_, err = p.enter(fmt.Sprint("hoarder", j), room)
					}
					if err != nil {
						return err
					}
				}
			}
			text := strings.Repeat("x", size)
			for n := range rounds * senders {
				i := n % senders
				p, err := a.chatter(i, fmt.Sprint("sender", n), fmt.Sprint("heap", i))
				if err != nil { // refused for lack of memory, or there is no server any more
					if a.dies() {
						return err
					}
					continue
				}
				for range messages {
					for j := range each { // to each its own, which nobody shares
						if err := p.send(message(0, routeSend, fmt.Sprintf(`{"content":%q,"target":"hoarder%d"}`, text, j))); err != nil {
							break // let go, for the same reasons
						}
					}
				}
				if _, err := p.ask(routeSend, `{"content":"x","target":"*"}`); err != nil && a.dies() {
					return err
				}
			}
			return nil
		},
		landed: func(d delta) error { return d.atLeast("pomelod_read_bytes_total", senders*each*messages*size/4) },
		held: func(d delta) error {
			return errors.Join(d.atLeast(`pomelod_closed_total{reason="memory"}`, 1), d.atMost("pomelod_panics_total", 0))
		},
		without: weakness{flags: []string{"-memory", "0"}, fails: "pomelod ended"},
	}.run(t)
}

// dies waits a moment for a server to end that does not answer any more.
func (s *server) dies() bool {
	select {
	case <-s.ended:
		return true
	case <-time.After(3 * time.Second):
		return false
	}
}

// dialSmall is dial with a small receive buffer: the kernel takes little of what is not read.
func dialSmall(from, to string) (*peer, error) {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
		return errors.Join(e, err)
	}}
	conn, err := d.Dial("tcp", to)
	if err != nil {
		return nil, err
	}
	return newPeer(conn), nil
}
