//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pomelo "github.com/pomelod/pomelod/client"
)

var (
	upgradesFlag = flag.Int("upgrades", 3, "how often TestUpgrades upgrades")
	upgradeCrowd = flag.String("upgrade-crowd", "-members 160 -rooms 8 -rate 200", "who chats meanwhile")
	upgradeWires = flag.String("upgrade-wires", "tcp,ws,sio09,eio3,eio4,sio09-polling,eio3-polling,eio4-polling", "by which wires")
	upgradeChurn = flag.Int("upgrade-churn", 2, "how many others come, say something and go all the time")
)

// succession is a pomelod that is replaced by the next one again and again.
type succession struct {
	cmd   *exec.Cmd
	stdin *os.File
	ready chan int // pids of processes that serve
	addr  chan string
	took  []taken  // what they say of it; the reader's until ended is closed
	bad   []string // warnings and errors; the same
	ended chan struct{}
}

// taken is the log line of a process that has taken over.
type taken struct {
	Connections, Lost, Closed, Bytes int
	P50                              string `json:"freeze_p50"`
	Max                              string `json:"freeze_max"`
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
	u.cmd = exec.Command("sh", "-c", `"$0" "$@" </dev/null & exec 2>/dev/null; cat; kill -TERM 0`, path, "-loops", "2", "-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none", "-admin-socket", "none", "-drain", "0s", "-heartbeat", "5s")
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
			case l.Msg == "took over":
				var f taken
				_ = json.Unmarshal(lines.Bytes(), &f)
				u.took = append(u.took, f)
			case l.Level == "ERROR", l.Level == "WARN":
				u.bad = append(u.bad, lines.Text())
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
	begin func() // called when all are in their rooms
	done  func() bool
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
	s.begin()
	for !s.done() && !r.faults().void() {
		if err := t.window(newMeter(r)); err != nil {
			return err
		}
	}
	return t.drainAndSum()
}

// While clients of every wire chat, the server is replaced again and again: nobody is disconnected or misses a heartbeat, and nothing is lost, doubled or out
// of order. Latency counts from when a message was due, so the longest one is the longest silence of any member. A table tells of each upgrade.
func TestUpgrades(t *testing.T) {
	u := startSuccession(t)
	addr, pid := <-u.addr, <-u.ready
	var done atomic.Bool
	var failed error
	var visits visits
	var files []int
	var memory []int64
	upgrades := func() {
		defer func() { visits.stop.Store(true); done.Store(true) }()
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
			open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			files, memory = append(files, len(open)), append(memory, residentBytes(pid))
		}
	}
	s := &upgrading{done: func() bool { return done.Load() }, begin: func() { visits.visit(addr, *upgradeChurn); go upgrades() }}
	r := trialOf(t, s, "broadcast", *upgradeWires, addr, append([]string{"-time", "1s", "-patience", "60s"}, strings.Fields(*upgradeCrowd)...)...)
	for !done.Load() {
		time.Sleep(time.Millisecond)
	}
	visits.end(t)
	if failed != nil {
		t.Error(failed)
	}
	if r.Void {
		t.Errorf("%+v", r.Faults)
	}
	u.stdin.Close()
	<-u.ended
	var table strings.Builder
	fmt.Fprintln(&table, "upgrade conns closed lost   KiB freeze p50/max (ms)  files  MiB")
	for i, k := range u.took[:min(len(u.took), len(files))] {
		p50, _ := time.ParseDuration(k.P50)
		most, _ := time.ParseDuration(k.Max)
		fmt.Fprintf(&table, "%7d %5d %6d %4d %5d %15.1f %7.1f %6d %4d\n", i+1, k.Connections, k.Closed, k.Lost, k.Bytes>>10, ms(p50), ms(most), files[i], memory[i]>>20)
		if k.Closed+k.Lost > 0 || k.Connections < s.members {
			t.Errorf("upgrade %d: %+v of %d members", i+1, k, s.members)
		}
		// Who polls may have a connection more for a moment; what is in memory besides is what was said last.
		if files[i] > files[0]+s.members || memory[i] > 2*memory[0]+64<<20 {
			t.Errorf("upgrade %d: %d open files and %d MiB, after the first one %d and %d", i+1, files[i], memory[i]>>20, files[0], memory[0]>>20)
		}
	}
	longest, _ := r.Figures.get("max_us")
	deliveries, _ := r.Figures.get("deliveries")
	t.Logf("%d members, %d upgrades, %v deliveries\n%s\n%d closed (whoever misses a heartbeat is), %d lost, %d doubled, %d out of order, %d strange; longest silence %v ms%s; %s", s.members, len(u.took), deliveries,
		table.String(), r.Faults.Closed, r.Faults.Lost, r.Faults.Duplicated, r.Faults.Disordered, r.Faults.Strange, longest/1000, visits.String(), firstAndLast(files, memory))
	for _, line := range u.bad {
		if t.Log(line); strings.Contains(line, `"level":"ERROR"`) {
			t.Fail()
		}
	}
	if n := len(u.took); n != *upgradesFlag {
		t.Errorf("%d processes have taken over in %d upgrades", n, *upgradesFlag)
	}
}

// firstAndLast is what a process has after the first upgrade and after the last.
func firstAndLast(files []int, memory []int64) string {
	n := len(files) - 1
	if n < 0 {
		return "no upgrade"
	}
	return fmt.Sprintf("open files %d, then %d; memory %d MiB, then %d", files[0], files[n], memory[0]>>20, memory[n]>>20)
}

// visits are clients who come, say something, hear it and go, all the time.
type visits struct {
	stop    atomic.Bool
	running sync.WaitGroup
	count   atomic.Int64
	longest atomic.Int64 // ns, from the dial to what was heard

	mu     sync.Mutex
	failed []error // guarded by mu
}

// visit has so many come.
func (v *visits) visit(addr string, visitors int) {
	for i := range visitors {
		v.running.Go(func() {
			for n := 0; !v.stop.Load(); n++ {
				time.Sleep(20 * time.Millisecond) // a room of thousands of leaves is another test
				began := time.Now()
				if err := visitOnce(addr, fmt.Sprintf("visitor-%d-%d", i, n)); err != nil {
					v.mu.Lock()
					v.failed = append(v.failed, err)
					v.mu.Unlock()
					return
				}
				v.count.Add(1)
				if took := int64(time.Since(began)); took > v.longest.Load() {
					v.longest.Store(took) // about
				}
			}
		})
	}
}

func visitOnce(addr, name string) error {
	c, err := pomelo.Dial(addr, time.Minute)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Request("connector.entryHandler.enter", map[string]string{"username": name, "rid": "visitors"}, nil); err != nil {
		return fmt.Errorf("%s enters: %w", name, err)
	}
	if err := c.Request("chat.chatHandler.send", map[string]string{"rid": "visitors", "from": name, "content": name, "target": "*"}, nil); err != nil {
		return fmt.Errorf("%s says something: %w", name, err)
	}
	for {
		push, err := c.Next()
		if err != nil {
			return fmt.Errorf("%s has not heard itself: %w", name, err)
		}
		if push.Route == "onChat" && bytes.Contains(push.Body, []byte(name)) {
			return nil
		}
	}
}

// end has nobody come any more.
func (v *visits) end(t *testing.T) {
	v.stop.Store(true)
	v.running.Wait()
	for _, err := range v.failed {
		t.Error(err)
	}
}

// String says how many there were, if there were any.
func (v *visits) String() string {
	if n := v.count.Load(); n > 0 {
		return fmt.Sprintf("; %d others came and went, the longest visit took %d ms", n, v.longest.Load()/1e6)
	}
	return ""
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// residentBytes is what a process has in memory.
func residentBytes(pid int) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	var all, resident int64
	_, _ = fmt.Sscan(string(b), &all, &resident)
	return resident * int64(unix.Getpagesize())
}
