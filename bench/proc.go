//go:build linux

package main

import (
	"fmt"
	"os"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// usage is what a server has used so far.
type usage struct {
	cpu       time.Duration // user and system, with the ksoftirqd of its cpu when that is known
	ksoftirqd time.Duration
	softirq   time.Duration // of the whole cpu, wherever it was charged to
	rss, anon int64         // bytes
	known     bool
}

// plus adds the times.
func (u usage) plus(o usage) usage {
	u.cpu += o.cpu
	u.ksoftirqd += o.ksoftirqd
	u.softirq += o.softirq
	u.known = u.known && o.known
	return u
}

// process is a server seen through /proc: mostly one process, else the sum of several. What they share in memory counts in each.
type process struct {
	pids      []int // none: not known
	cpu       int   // -1: not known, or several
	ksoftirqd int   // its pid; 0: not known
}

func newProcess(cpu int, pids ...int) process {
	p := process{pids: pids, cpu: cpu}
	if cpu < 0 {
		return p
	}
	all, _ := procfs.AllProcs()
	for _, proc := range all {
		if name, err := proc.Comm(); err == nil && name == fmt.Sprintf("ksoftirqd/%d", cpu) {
			p.ksoftirqd = proc.PID
		}
	}
	return p
}

func (p process) usage() (u usage) {
	for _, pid := range p.pids {
		own, err := cpuTime(pid)
		if err != nil {
			return usage{}
		}
		s := status(pid)
		u = usage{cpu: u.cpu + own, rss: u.rss + int64(s.VmRSS), anon: u.anon + int64(s.RssAnon), known: true}
	}
	if !u.known {
		return u
	}
	if p.ksoftirqd != 0 {
		u.ksoftirqd, _ = cpuTime(p.ksoftirqd)
	}
	if fs, err := procfs.NewDefaultFS(); err == nil && p.cpu >= 0 {
		if stat, err := fs.Stat(); err == nil {
			u.softirq = seconds(stat.CPU[int64(p.cpu)].SoftIRQ)
		}
	}
	u.cpu += u.ksoftirqd
	return u
}

// cpuTime is user and system time of a process.
func cpuTime(pid int) (time.Duration, error) {
	proc, err := procfs.NewProc(pid)
	if err != nil {
		return 0, err
	}
	stat, err := proc.Stat()
	return seconds(stat.CPUTime()), err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// status is what /proc/PID/status says of a process; the zero value when that has ended.
func status(pid int) (s procfs.ProcStatus) {
	if proc, err := procfs.NewProc(pid); err == nil {
		s, _ = proc.NewStatus()
	}
	return s
}

// resetPeak has peak count from now on (proc(5), clear_refs).
func (p process) resetPeak() error {
	for _, pid := range p.pids {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			return err
		}
	}
	return nil
}

// peak is VmHWM: the most that VmRSS was. Of several processes, the sum of what each had at most, though perhaps not at once.
func (p process) peak() (sum int64) {
	for _, pid := range p.pids {
		sum += int64(status(pid).VmHWM)
	}
	return sum
}

// machine says in a few words where figures come from.
func machine() string {
	model, n := "?", 0
	if fs, err := procfs.NewDefaultFS(); err == nil {
		if cpus, err := fs.CPUInfo(); err == nil && len(cpus) > 0 {
			model, n = cpus[0].ModelName, len(cpus)
		}
	}
	var u unix.Utsname
	_ = unix.Uname(&u)
	return fmt.Sprintf("%d × %s, Linux %s", n, model, unix.ByteSliceToString(u.Release[:]))
}
