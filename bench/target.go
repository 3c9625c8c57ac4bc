//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// target is the server that a run is about: started for it, or running already.
type target struct {
	connectors, gates []endpoint // in the order in which the server names them
	process

	cmd *exec.Cmd // nil: not ours to end
	log *os.File
}

// endpoint is where a server listens.
type endpoint struct {
	netip.AddrPort
	tls bool
}

// endpoints reads a list of [tls+]HOST:PORT, with commas between; an empty one if there is nothing.
func endpoints(list string) (all []endpoint, err error) {
	for text := range strings.SplitSeq(list, ",") {
		if list == "" {
			break
		}
		var e endpoint
		text, e.tls = strings.CutPrefix(text, "tls+")
		if e.AddrPort, err = netip.ParseAddrPort(text); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// pick is the one of those with TLS, or without, that has a number from 0.
func pick(all []endpoint, tls bool, number int) (endpoint, error) {
	n := 0
	for _, e := range all {
		if e.tls != tls {
			continue
		}
		if n == number {
			return e, nil
		}
		n++
	}
	kind := "without TLS"
	if tls {
		kind = "with TLS"
	}
	return endpoint{}, fmt.Errorf("the server has %d %s", n, kind)
}

// variant is one server that takes part in the comparison: a name and how to start it.
type variant struct {
	name    string
	wire    mixes    // the one that its clients speak, whatever -wire says; empty: those of -wire
	command []string // empty: it runs already
}

var variantName = regexp.MustCompile(`^([A-Za-z0-9._-]+)(@[A-Za-z0-9@,+-]*)?=`)

// parseVariant reads "name=command arg arg" or "name@wire=command arg arg". Without a name it is the command's own, or that
// of what timeout starts. No quoting.
func parseVariant(s string) (v variant, err error) {
	if m := variantName.FindStringSubmatch(s); m != nil {
		v.name, s = m[1], s[len(m[0]):]
		if m[2] != "" {
			if err := v.wire.Set(m[2][1:]); err != nil {
				return v, fmt.Errorf("-server %s: %w", v.name, err)
			}
		}
	}
	if v.command = strings.Fields(s); len(v.command) == 0 {
		return v, errors.New("-server: no command")
	}
	if v.name == "" {
		v.name = filepath.Base(v.command[0])
		if v.name == "timeout" && len(v.command) > 2 {
			v.name = filepath.Base(v.command[2])
		}
	}
	return v, nil
}

// readyTime bounds how long a server may take until it says that it is ready.
const readyTime = 20 * time.Second

// start runs a server on the given cpus and waits until it is ready. It must write, as pomelod does, JSON lines to
// stderr: {"msg":"listening","server":"connector","addr":"host:port"}, with "tls":true where it speaks TLS, likewise "gate", and {"msg":"ready"}, which may
// give its "pid" when it was started by a wrapper such as timeout, or "pids" when it is several processes.
func start(v variant, extra []string, cpus []int, own unix.CPUSet) (_ *target, err error) {
	t := &target{}
	if t.log, err = os.CreateTemp("", "bench-server-*.log"); err != nil {
		return nil, err
	}
	os.Remove(t.log.Name())
	t.cmd = exec.Command(v.command[0], append(v.command[1:len(v.command):len(v.command)], extra...)...)
	t.cmd.Stderr = t.log
	// Should we be killed, nobody is left behind. Who runs this is locked to its thread, as this needs.
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if len(cpus) > 0 { // a child inherits the cpus of the thread that starts it
		set := cpuSet(cpus)
		if err = unix.SchedSetaffinity(0, &set); err != nil {
			return nil, fmt.Errorf("pin the server: %w", err)
		}
		defer unix.SchedSetaffinity(0, &own)
	}
	if err = t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	pids, err := t.await()
	if err != nil {
		said := t.said()
		t.stop()
		return nil, fmt.Errorf("start %s: %w; it said:\n%s", v.name, err, said)
	}
	cpu := -1
	if len(cpus) == 1 {
		cpu = cpus[0]
	}
	t.process = newProcess(cpu, pids...)
	return t, nil
}

// await reads the log until the server is ready.
func (t *target) await() (pids []int, err error) {
	for end := time.Now().Add(readyTime); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if !alive(t.cmd.Process.Pid) {
			return nil, errors.New("it ended")
		}
		t.connectors, t.gates = nil, nil
		for line := range bytes.Lines(t.read()) {
			var l struct {
				Msg, Server, Addr string
				TLS               bool
				Pid               int
				Pids              []int
			}
			if json.Unmarshal(line, &l) != nil {
				continue
			}
			switch addr, _ := netip.ParseAddrPort(l.Addr); {
			case l.Msg == "listening" && l.Server == "connector" && addr.IsValid():
				t.connectors = append(t.connectors, endpoint{addr, l.TLS})
			case l.Msg == "listening" && l.Server == "gate" && addr.IsValid():
				t.gates = append(t.gates, endpoint{addr, l.TLS})
			case l.Msg == "ready":
				if len(t.connectors) == 0 {
					return nil, errors.New("it is ready but names no address of a connector")
				}
				switch {
				case len(l.Pids) > 0:
					return l.Pids, nil
				case l.Pid != 0:
					return []int{l.Pid}, nil
				}
				return []int{t.cmd.Process.Pid}, nil
			}
		}
	}
	return nil, fmt.Errorf("not ready after %v", readyTime)
}

// alive tells whether a child runs: one that has ended stays a zombie until it is waited for.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := bytes.LastIndexByte(b, ')')
	return err == nil && i >= 0 && i+2 < len(b) && b[i+2] != 'Z' && b[i+2] != 'X'
}

// maxLog bounds what is read of a server's log.
const maxLog = 256 << 10

func (t *target) read() []byte {
	b := make([]byte, maxLog)
	n, _ := t.log.ReadAt(b, 0)
	return b[:n]
}

// said is the end of the server's log.
func (t *target) said() string {
	if t.log == nil {
		return ""
	}
	info, err := t.log.Stat()
	if err != nil {
		return ""
	}
	b := make([]byte, min(info.Size(), 2<<10))
	n, _ := t.log.ReadAt(b, info.Size()-int64(len(b)))
	return string(bytes.TrimSpace(b[:n]))
}

// stop ends a server that start has started.
func (t *target) stop() {
	if t.cmd == nil {
		return
	}
	t.cmd.Process.Signal(syscall.SIGTERM)
	for end := time.Now().Add(10 * time.Second); alive(t.cmd.Process.Pid) && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	t.cmd.Process.Kill()
	t.cmd.Wait()
	t.log.Close()
}

func (t *target) softirqs() bool { return t.ksoftirqd != 0 }

func cpuSet(cpus []int) (s unix.CPUSet) {
	for _, c := range cpus {
		s.Set(c)
	}
	return s
}

// pin moves every thread of this process to one cpu; later threads inherit it.
func pin(set unix.CPUSet) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		var tid int
		fmt.Sscan(t.Name(), &tid)
		if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
			return fmt.Errorf("pin the load generator: %w", err)
		}
	}
	return nil
}
