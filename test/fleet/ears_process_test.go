package fleet

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process may have so many files open that one cannot hear for all members of a room on several connectors: those of each connector are heard by a process of their own, which is the test's binary once more.

// earsOf is the environment of such a process: what it is to do, as JSON (audiencePart). It does that, and says so. Its input is the number of messages that were said in all: when all have heard them, or after
// a minute, it tells what was heard, and ends.
const earsOf = "POMELOD_TEST_EARS"

// audiencePart is a part of a room's members: on which connector they are, and the first one's number.
type audiencePart struct {
	Addr, Room  string
	First, Many int
}

// name is a member's name.
func (audiencePart) name(i int) string { return fmt.Sprint("member-", i) }

// hasEntered is the first word of a process that hears, and hasHeard the last one.
type hasEntered struct {
	Error string
	Took  time.Duration
}

type hasHeard struct {
	Heard   []int64         // how many have heard so many messages: the number of members by messages
	Late    []time.Duration // in order, at most lateTold of them, evenly picked
	Most    time.Duration
	Ended   int // members who were disconnected
	Because string
}

// lateTold is of how many deliveries a process tells how late they were.
const lateTold = 20_000

// hearInAProcess is that process.
func hearInAProcess() {
	var part audiencePart
	say := json.NewEncoder(os.Stdout)
	if err := json.Unmarshal([]byte(os.Getenv(earsOf)), &part); err != nil {
		_ = say.Encode(hasEntered{Error: err.Error()})
		return
	}
	began := time.Now()
	e, members, err := part.enter()
	if err != nil {
		_ = say.Encode(hasEntered{Error: err.Error()})
		return
	}
	_ = say.Encode(hasEntered{Took: time.Since(began)})
	var said int64
	if _, err := fmt.Fscan(os.Stdin, &said); err != nil {
		return // the test has ended
	}
	least := func() (n int64) {
		n = said
		for _, l := range members {
			n = min(n, l.next.Load())
		}
		return n
	}
	for late := time.Now().Add(patience); time.Now().Before(late) && least() < said; time.Sleep(20 * time.Millisecond) {
	}
	e.close()
	_ = say.Encode(summary(e, members))
}

// enter has all members of a part enter, a few at a time, each however often that takes.
func (part audiencePart) enter() (*ears, []*listener, error) {
	e, err := newEars()
	if err != nil {
		return nil, nil, err
	}
	members, next := make([]*listener, part.Many), make(chan int)
	var (
		coming sync.WaitGroup
		mu     sync.Mutex
		failed error
	)
	for range 4 {
		coming.Go(func() {
			for i := range next {
				var err error
				for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(50 * time.Millisecond) {
					if members[i], err = e.enter(part.Addr, part.Room, part.name(part.First+i)); err == nil {
						break
					}
				}
				if err != nil {
					mu.Lock()
					failed = errors.Join(failed, fmt.Errorf("%s cannot enter: %w", part.name(part.First+i), err))
					mu.Unlock()
				}
			}
		})
	}
	for i := range members {
		mu.Lock()
		stop := failed != nil
		mu.Unlock()
		if stop {
			break
		}
		next <- i
	}
	close(next)
	coming.Wait()
	return e, members, failed
}

func summary(e *ears, members []*listener) (all hasHeard) {
	for _, l := range members {
		heard := int(l.next.Load())
		for len(all.Heard) <= heard {
			all.Heard = append(all.Heard, 0)
		}
		all.Heard[heard]++
		if !errors.Is(l.why, errMuted) {
			all.Ended++
			all.Because = fmt.Sprint(l.why)
		}
	}
	slices.Sort(e.late)
	if n := len(e.late); n > 0 {
		all.Most = e.late[n-1]
		for i := range min(n, lateTold) {
			all.Late = append(all.Late, e.late[i*n/min(n, lateTold)])
		}
	}
	return all
}

// earsProcess is such a process, as the test sees it.
type earsProcess struct {
	t     *testing.T
	part  audiencePart
	cmd   *exec.Cmd
	in    io.Writer
	words *json.Decoder
	ended bool
}

// hearElsewhere has a part of a room's members enter, and hear, in a process of their own.
func hearElsewhere(t *testing.T, part audiencePart) *earsProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	do, _ := json.Marshal(part)
	p := &earsProcess{t: t, part: part, cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), earsOf+"="+string(do))
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.words = in, json.NewDecoder(bufio.NewReader(out))
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !p.ended {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p
}

// entered waits until all have.
func (p *earsProcess) entered() time.Duration {
	p.t.Helper()
	var word hasEntered
	if err := p.words.Decode(&word); err != nil || word.Error != "" {
		p.t.Fatalf("members of %s: %v, %s", p.part.Addr, err, word.Error)
	}
	return word.Took
}

// end waits until they have heard so many messages, sends them away, and tells what they have heard.
func (p *earsProcess) end(said int) (all hasHeard) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, said); err != nil {
		p.t.Fatalf("members of %s: %v", p.part.Addr, err)
	}
	if err := p.words.Decode(&all); err != nil {
		p.t.Fatalf("members of %s: %v", p.part.Addr, err)
	}
	p.ended = true
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("members of %s: %v", p.part.Addr, err)
	}
	return all
}
