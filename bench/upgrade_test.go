//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	upgradesFlag = flag.Int("upgrades", 5, "how often TestUpgrades upgrades")
	upgradeCrowd = flag.String("upgrade-crowd", "-members 160 -rooms 8 -rate 200", "who chats meanwhile")
)

// succession is a pomelod that is replaced by the next one again and again.
type succession struct {
	cmd   *exec.Cmd
	stdin *os.File
	ready chan int // pids of processes that serve
	addr  chan string
	took  []string // the lines in which they say so; the reader's until ended is closed
	ended chan struct{}
}

// startSuccession starts one in a group of processes of its own, which ends when the test does, whatever becomes of it: a shell waits for that.
func startSuccession(t *testing.T) *succession {
	t.Helper()
	path := pomelodOf(t)
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// Those who follow are the shell's to reap.
	u := &succession{stdin: stdin, ready: make(chan int, 1000), addr: make(chan string, 1000), ended: make(chan struct{})}
	u.cmd = exec.Command("sh", "-c", `"$0" "$@" </dev/null & exec 2>/dev/null; cat; kill -TERM 0`, path, "-loops", "2", "-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none", "-admin-socket", "none", "-drain", "0s")
	u.cmd.Stdin, u.cmd.Stderr = in, w
	u.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = u.cmd.Start()
	in.Close()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(u.ended)
		defer r.Close()
		lines := bufio.NewScanner(r)
		for lines.Buffer(nil, 4<<20); lines.Scan(); { // a line may have the stacks of all goroutines
			var l struct {
				Msg, Server, Addr, Level string
				Pid                      int
			}
			if json.Unmarshal(lines.Bytes(), &l) != nil {
				continue
			}
			switch {
			case l.Msg == "listening" && l.Server == "connector":
				u.addr <- l.Addr
			case l.Msg == "ready":
				u.ready <- l.Pid
			case l.Msg == "took over", l.Level == "ERROR", l.Level == "WARN":
				u.took = append(u.took, lines.Text())
			}
		}
	}()
	t.Cleanup(func() {
		stdin.Close()
		_ = u.cmd.Wait() // the shell ends with its group
		<-u.ended
	})
	return u
}

// upgrading is traffic in rooms that goes on for as long as something else does.
type upgrading struct {
	broadcast
	done func() bool
}

func (s *upgrading) run(r *run) error {
	t := s.traffic
	if err := t.check(); err != nil {
		return err
	}
	w := newCrowd(r)
	if err := w.join(s.members, s.members/s.rooms); err != nil {
		return err
	}
	if err := t.begin(w); err != nil {
		return err
	}
	for !s.done() && !r.faults().void() {
		if err := t.window(newMeter(r)); err != nil {
			return err
		}
	}
	return t.drainAndSum()
}

// While clients of every wire chat, the server is replaced again and again: nobody is disconnected, and nothing is lost, doubled or out of order. Latency
// counts from when a message was due, so the longest one is the longest silence of any member.
func TestUpgrades(t *testing.T) {
	u := startSuccession(t)
	addr, pid := <-u.addr, <-u.ready
	var done atomic.Bool
	var failed error
	before, after := 0, 0
	memory := []int64{}
	upgrades := func() {
		defer done.Store(true)
		for i := range *upgradesFlag {
			time.Sleep(300 * time.Millisecond) // some chat in between
			out, err := exec.Command(built+"/pomelod", "upgrade", "-pid", fmt.Sprint(pid)).CombinedOutput()
			if err != nil {
				failed = fmt.Errorf("upgrade %d: %w: %s", i+1, err, out)
				return
			}
			select {
			case pid = <-u.ready:
			case <-u.ended:
				failed = errors.New("the server has ended")
				return
			}
			files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			if after = len(files); before == 0 {
				before = after
			}
			memory = append(memory, residentBytes(pid))
		}
	}
	s := &upgrading{done: func() bool { return done.Load() }}
	go upgrades()
	wires := "tcp,ws,sio09,eio3,eio4,sio09-polling,eio3-polling,eio4-polling"
	r := trialOf(t, s, "broadcast", wires, addr, append([]string{"-time", "1s", "-patience", "60s"}, strings.Fields(*upgradeCrowd)...)...)
	for !done.Load() {
		time.Sleep(time.Millisecond)
	}
	if failed != nil {
		t.Error(failed)
	}
	if r.Void {
		t.Errorf("%+v", r.Faults)
	}
	if after > before+s.members*3/8 { // of eight clients three poll, and may have taken a second connection meanwhile
		t.Errorf("%d open files after the first upgrade, %d after the last", before, after)
	}
	longest, _ := r.Figures.get("max_us")
	deliveries, _ := r.Figures.get("deliveries")
	t.Logf("%d upgrades, %v deliveries, longest silence %v ms; open files %d to %d, memory %d to %d MiB", *upgradesFlag, deliveries, longest/1000, before, after,
		memory[0]>>20, memory[len(memory)-1]>>20)
	u.stdin.Close()
	<-u.ended
	for i, line := range u.took {
		if i < 3 || i > len(u.took)-3 || !strings.Contains(line, "took over") {
			t.Log(line)
		}
	}
	if n := len(u.took); n != *upgradesFlag {
		t.Errorf("%d lines about %d upgrades", n, *upgradesFlag)
	}
}

// residentBytes is what a process has in memory.
func residentBytes(pid int) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	var all, resident int64
	_, _ = fmt.Sscan(string(b), &all, &resident)
	return resident * int64(unix.Getpagesize())
}
