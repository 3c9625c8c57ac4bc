//go:build linux

package server

import (
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// Times of processes.
const (
	// livedLong is how long a process lives that is started again at once. One that dies sooner waits: what killed it is likely to be there still.
	livedLong             = 10 * time.Second
	leastPause, mostPause = time.Second, 30 * time.Second
	killPatience          = 5 * time.Second // for processes that were killed to be gone
)

// nodeProcess is one process of several.
type nodeProcess struct {
	id      string
	clients bool // they come to it: it ends before those that serve them
	args    []string
	admin   string       // address, empty: none
	check   func() error // whether it could start, as far as flags and files go

	// Owned by run.
	cmd     *exec.Cmd // nil: it does not run
	began   time.Time
	pause   time.Duration // before the next start
	waiting bool          // for that
	told    bool          // to end
}

// processes runs several processes, starts again what dies, and ends all together.
type processes struct {
	program program
	environ []string
	nodes   []*nodeProcess

	exits    chan *nodeProcess
	due      chan *nodeProcess
	stopping bool
	since    time.Time // stopping
	code     int
}

func newProcesses(p program, environ []string, nodes []*nodeProcess) *processes {
	return &processes{program: p, environ: environ, nodes: nodes, exits: make(chan *nodeProcess, len(nodes)), due: make(chan *nodeProcess, len(nodes))}
}

// run returns the exit code when all have ended: 0 if in order. flush writes the log before a second signal ends everything at once.
func (s *processes) run(flush func()) int {
	runtime.LockOSThread() // the death of the thread that started a process is told to that (Pdeathsig)
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	for _, n := range s.nodes {
		s.launch(n)
	}
	for s.left() {
		select {
		case n := <-s.exits:
			s.ended(n)
		case n := <-s.due:
			if n.waiting = false; !s.stopping {
				s.launch(n)
			}
		case got := <-signals:
			switch {
			case got == syscall.SIGHUP: // each reads its certificates again, or ends with the terminal
				s.signal(func(*nodeProcess) bool { return true }, syscall.SIGHUP)
			case !s.stopping:
				slog.Info("ending all nodes; those with clients first")
				s.stopping, s.since = true, time.Now()
			case time.Since(s.since) >= sameSignal:
				slog.Warn("a second signal: ending all nodes at once", "signal", got.String())
				s.kill()
				flush()
				return 1
			}
		}
		s.stop()
	}
	return s.code
}

// left tells whether something runs, or will.
func (s *processes) left() bool {
	for _, n := range s.nodes {
		if n.cmd != nil || n.waiting && !s.stopping {
			return true
		}
	}
	return false
}

// launch starts a process. That it cannot be is as if it had died.
func (s *processes) launch(n *nodeProcess) {
	cmd := &exec.Cmd{Path: s.program.path, Args: append([]string{s.program.args[0]}, n.args...), Dir: s.program.dir, Env: s.environ, Stdout: os.Stdout, Stderr: os.Stderr,
		// A group of its own: Ctrl-C is for this process, which has them end in order.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}}
	n.began = time.Now()
	if err := cmd.Start(); err != nil {
		s.again(n, err.Error())
		return
	}
	n.cmd = cmd
	slog.Info("started", "node", n.id, "pid", cmd.Process.Pid, "admin", n.admin)
	go func() {
		_ = cmd.Wait()
		s.exits <- n
	}()
}

// ended decides what becomes of a process that is gone.
func (s *processes) ended(n *nodeProcess) {
	state := n.cmd.ProcessState
	n.cmd = nil
	switch code := state.ExitCode(); {
	case code == 0 && s.stopping:
	case code == 0:
		slog.Info("a node has ended in order; it stays down", "node", n.id)
	case s.stopping:
		slog.Warn("a node did not end in order", "node", n.id, "how", state.String())
		s.code = 1
	case code == exitCode(settingsError{}) && n.check() != nil: // a panic ends with this code too
		slog.Error("a node's settings are wrong; it stays down", "node", n.id)
		s.code = code
	default:
		s.again(n, state.String())
	}
}

// again has a process started once more, later if it has not lived long.
func (s *processes) again(n *nodeProcess, how string) {
	if time.Since(n.began) >= livedLong {
		n.pause = 0
	} else {
		n.pause = min(max(2*n.pause, leastPause), mostPause)
	}
	slog.Error("a node died and is started again", "node", n.id, "how", how, "after", n.pause.String())
	n.waiting = true
	time.AfterFunc(n.pause, func() { s.due <- n })
}

// stop has processes end: those with clients, and when they are gone the others.
func (s *processes) stop() {
	if !s.stopping {
		return
	}
	first := false
	for _, n := range s.nodes {
		first = first || n.clients && n.cmd != nil
	}
	s.signal(func(n *nodeProcess) bool {
		if n.told || n.clients != first {
			return false
		}
		n.told = true
		return true
	}, syscall.SIGTERM)
}

func (s *processes) signal(whom func(*nodeProcess) bool, sig os.Signal) {
	for _, n := range s.nodes {
		if n.cmd != nil && whom(n) {
			_ = n.cmd.Process.Signal(sig) // gone already: its exit is on the way
		}
	}
}

// kill ends all at once, and waits until they are gone.
func (s *processes) kill() {
	s.signal(func(*nodeProcess) bool { return true }, syscall.SIGKILL)
	late := time.After(killPatience)
	for s.left() {
		select {
		case n := <-s.exits:
			n.cmd = nil
		case <-late:
			return
		}
	}
}
