//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// idler is a process that has started and does nothing any more: cat, which has given back a byte and waits for the next.
func idler(t *testing.T) (pid int) {
	t.Helper()
	cmd := exec.Command("cat")
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	in.Write([]byte("x"))
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func memoryOf(pid int) int64 { return int64(status(pid).VmRSS) }

func TestUsageOfSeveralProcessesIsTheirSum(t *testing.T) {
	t.Parallel()
	mine, other := os.Getpid(), idler(t)
	mineUsed, _ := cpuTime(mine)
	otherUsed, _ := cpuTime(other)
	both := newProcess(-1, mine, other).usage()
	one := newProcess(-1, other).usage()
	twice := newProcess(-1, other, other).usage()
	if !both.known || both.cpu < mineUsed+otherUsed || mineUsed == 0 || both.rss <= one.rss {
		t.Errorf("both %+v, one %+v, this one used %v", both, one, mineUsed)
	}
	if one.rss == 0 || twice.rss != 2*one.rss || twice.anon != 2*one.anon || twice.cpu != 2*one.cpu {
		t.Errorf("one %+v, twice %+v", one, twice)
	}
	p := newProcess(-1, other, other)
	if err := p.resetPeak(); err != nil || p.peak() != 2*newProcess(-1, other).peak() || p.peak() == 0 {
		t.Errorf("peak %d, %v", p.peak(), err)
	}
	for _, none := range []process{newProcess(-1), newProcess(-1, other, 1<<30)} {
		if u := none.usage(); u.known {
			t.Errorf("usage of %v is %+v", none.pids, u)
		}
	}
}

// A server of several processes names them all, and its usage is theirs.
func TestReadyNamesSeveralProcesses(t *testing.T) {
	t.Parallel()
	other := idler(t)
	path := t.TempDir() + "/server"
	script := "#!/bin/sh\ncat >&2 <<E\n" + `{"msg":"listening","server":"connector","addr":"127.0.0.1:1234"}` + "\n" + `{"msg":"ready","pid":1,"pids":[$$,%d]}` + "\nE\nexec sleep 60\n"
	if err := os.WriteFile(path, fmt.Appendf(nil, script, other), 0o755); err != nil {
		t.Fatal(err)
	}
	v, _ := parseVariant("mine=sh " + path)
	s, err := start(v, nil, nil, cpuSet(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	if len(s.pids) != 2 || s.pids[0] != s.cmd.Process.Pid || s.pids[1] != other || s.usage().rss <= memoryOf(other) {
		t.Errorf("processes %v, usage %+v", s.pids, s.usage())
	}
}
