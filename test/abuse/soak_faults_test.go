//go:build linux

package abuse

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// faults has things go wrong on the server's machine, one after another, and operators look, until end.
func (s *soak) faults(rng *rand.Rand, end time.Time) {
	all := []struct {
		name string
		make func()
	}{
		{"stopped for 200 ms", s.stop},
		{"without descriptors for 300 ms", s.starve},
		{"hangup", func() { _ = s.cmd.Process.Signal(syscall.SIGHUP) }},
		{"log not read for a second", s.muteLog},
		{"scrape", func() { s.operate("/metrics") }},
		{"scrape that is broken off", s.breakOff},
		{"health asked for", func() { s.operate("/livez"); s.operate("/readyz") }},
		{"heap profile", func() { s.operate("/debug/pprof/heap") }},
		{"goroutine profile", func() { s.operate("/debug/pprof/goroutine?debug=2") }},
		{"profile of a second", func() { s.operate("/debug/pprof/profile?seconds=1") }},
		{"trace of half a second", func() { s.operate("/debug/pprof/trace?seconds=0.5") }},
	}
	for time.Now().Before(end) {
		f := all[rng.IntN(len(all))]
		s.did(f.name)
		f.make()
		time.Sleep(time.Duration(rng.Int64N(int64(time.Second)))) // between faults, the server has time to recover
	}
}

// stop stops the server for a while.
func (s *soak) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(200 * time.Millisecond)
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
}

// starve leaves the server no more descriptors than it has. Whoever connects meanwhile may be refused.
func (s *soak) starve() {
	pid := s.cmd.Process.Pid
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		s.problem("descriptors: %v", err)
		return
	}
	s.starved.Add(1)
	defer s.starved.Add(1)
	var was unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		s.problem("prlimit: %v", err)
		return
	}
	few := unix.Rlimit{Cur: uint64(len(open)), Max: was.Max}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &few, nil); err != nil {
		s.problem("prlimit: %v", err)
		return
	}
	time.Sleep(300 * time.Millisecond)
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &was, nil); err != nil {
		s.problem("prlimit: %v", err)
	}
}

// muteLog does not read the log for a second, and has enough logged that its pipe is full.
func (s *soak) muteLog() {
	s.log.reading.Lock()
	defer s.log.reading.Unlock()
	for range 50 {
		_ = s.cmd.Process.Signal(syscall.SIGHUP)
		time.Sleep(20 * time.Millisecond) // signals of a kind that wait are one
	}
}

// operate asks the admin server, which has no descriptors at times.
func (s *soak) operate(path string) {
	resp, err := httpClient.Get("http://" + s.admin + path)
	if err != nil {
		s.problem("admin: %v", err)
		return
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
		s.problem("admin: %s: %s, %v", path, resp.Status, err)
	}
}

// breakOff asks the admin server, and does not read what it says.
func (s *soak) breakOff() {
	conn, err := net.Dial("tcp", s.admin)
	if err != nil {
		s.problem("admin: %v", err)
		return
	}
	_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// logPipe takes a server's log, unless reading is held.
type logPipe struct {
	reading sync.Mutex
	write   *os.File
}

// newLogPipe is a pipe of the least size whose end a server may have for its stderr. What is read goes to w.
func newLogPipe(w io.Writer) (*logPipe, error) {
	r, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(write.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		return nil, err
	}
	l := &logPipe{write: write}
	go func() {
		defer r.Close()
		for b := make([]byte, 4096); ; {
			n, err := r.Read(b)
			if err != nil {
				return
			}
			l.reading.Lock()
			_, _ = w.Write(b[:n])
			l.reading.Unlock()
		}
	}()
	return l, nil
}
