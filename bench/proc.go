//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticks per second of the times in /proc: fixed for user space.
const ticks = 100

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
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	want := fmt.Sprintf("ksoftirqd/%d", cpu)
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && string(bytes.TrimSpace(b)) == want {
			p.ksoftirqd, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
			break
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
		rss, anon := memory(pid)
		u = usage{cpu: u.cpu + own, rss: u.rss + rss, anon: u.anon + anon, known: true}
	}
	if !u.known {
		return u
	}
	if p.ksoftirqd != 0 {
		u.ksoftirqd, _ = cpuTime(p.ksoftirqd)
	}
	if p.cpu >= 0 {
		u.softirq = softirqTime(p.cpu)
	}
	u.cpu += u.ksoftirqd
	return u
}

// cpuTime is utime and stime of a process.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(b))
}

// parseStat reads fields 14 and 15. The name before them may hold anything, so fields are counted from its end.
func parseStat(s string) (time.Duration, error) {
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 13 {
		return 0, fmt.Errorf("stat is cut short: %.80q", s)
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * (time.Second / ticks), err
}

// softirqTime is the column softirq of a cpu in /proc/stat.
func softirqTime(cpu int) time.Duration {
	b, _ := os.ReadFile("/proc/stat")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 7 && f[0] == fmt.Sprintf("cpu%d", cpu) {
			n, _ := strconv.ParseInt(f[7], 10, 64)
			return time.Duration(n) * (time.Second / ticks)
		}
	}
	return 0
}

// memory is VmRSS and RssAnon of a process, in bytes.
func memory(pid int) (rss, anon int64) {
	s := status(pid)
	return s["VmRSS"], s["RssAnon"]
}

// status is what /proc/PID/status has in kB, in bytes.
func status(pid int) map[string]int64 {
	s := map[string]int64{}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		if kb, ok := strings.CutSuffix(strings.TrimSpace(value), " kB"); ok {
			n, _ := strconv.ParseInt(kb, 10, 64)
			s[name] = n << 10
		}
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
		sum += status(pid)["VmHWM"]
	}
	return sum
}

// machine says in a few words where figures come from.
func machine() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	model, n := "?", 0
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "processor":
			n++
		case "model name":
			model = strings.TrimSpace(value)
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d × %s, Linux %s", n, model, bytes.TrimSpace(kernel))
}
