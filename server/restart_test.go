//go:build linux

package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/client"
)

// supervisor holds the sockets that systemd-socket-activate passed, as systemd does, and runs pomelod on them. For each line of its
// input it starts a new one and then ends the old one; at the end of the input it ends the last.
const supervisor = `
begin() { sh -c 'LISTEN_PID=$$; export LISTEN_PID; exec "$0" "$@"' "$@" & }
begin "$@"; old=$!
while read -r line; do
	begin "$@"; new=$!
	kill -TERM $old; wait $old || { kill -KILL $new; exit 1; }
	old=$new
done
kill -TERM $old; wait $old
`

// supervised is a pomelod on a socket of systemd-socket-activate.
type supervised struct {
	*process
	addr   string
	input  io.WriteCloser
	starts int
}

func supervise(t *testing.T, flags ...string) *supervised {
	t.Helper()
	tool := need(t, "systemd-socket-activate")
	addr := "127.0.0.1:" + freePort(t)
	args := []string{"-l", addr, "-E", mainEnv + "=1", "-E", "GORACE=atexit_sleep_ms=0", "sh", "-c", supervisor, "sh",
		os.Args[0], "-listen", addr, "-gate", "", "-admin", ""}
	cmd := exec.Command(tool, append(args, flags...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &supervised{process: spawn(t, cmd), addr: addr, input: input, starts: 1}
	t.Cleanup(func() { // before spawn's, which would leave pomelod behind
		input.Close()
		last := time.AfterFunc(2*deadline, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		defer last.Stop()
		if err := s.wait(); err != nil {
			t.Errorf("ended with %v:\n%s", err, s.log())
		}
	})
	s.waitLog("Listening on " + addr)
	if err := chats(addr, "first"); err != nil {
		t.Fatal(err, "\n", s.log())
	}
	s.waitLog(`"inherited":true`)
	s.waitLog(`"msg":"ready"`) // it serves before it says so, and one that is ended in between never does: restart counts on it
	return s
}

// restart has a new process begin and the old one end, and waits for the first.
func (s *supervised) restart() {
	s.t.Helper()
	if _, err := io.WriteString(s.input, "restart\n"); err != nil {
		s.t.Fatal(err)
	}
	s.starts++
	waitFor(s.t, func() bool { return s.logged("ready") == s.starts }) // a signal that came earlier would not find anybody to take it
}

// logged is how many lines have this text, of all processes.
func (s *supervised) logged(msg string) int {
	return strings.Count(s.log(), fmt.Sprintf(`"msg":%q`, msg))
}

// While one process after the other takes over the socket of systemd-socket-activate, and the old one sends its clients away, nobody
// who connects is refused.
func TestRestartRefusesNobody(t *testing.T) {
	s := supervise(t, "-drain", "300ms")
	var served, sentAway atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); clients.Wait() })
	defer end()
	for i := range 4 {
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				switch err := chats(s.addr, fmt.Sprintf("%d-%d", i, n)); {
				case err == nil:
					served.Add(1)
				case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
					sentAway.Add(1)
				default:
					t.Errorf("client %d of loop %d: %v", n, i, err)
					return
				}
			}
		})
	}
	for round := range 3 {
		before := served.Load()
		s.restart()
		waitFor(t, func() bool { return s.logged("ended") == round+1 && served.Load() > before+20 || t.Failed() })
	}
	end()
	t.Logf("%d served, %d sent away", served.Load(), sentAway.Load())
}

// Two thousand clients whom the end of one process sends away come back all in the same moment. All get in: no queue of the server's is too short for them.
func TestRestartLockStep(t *testing.T) {
	const crowd, patience = 2000, time.Minute
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 2*crowd+1000 {
		t.Skipf("needs some %d open files, the limit is %d", 2*crowd+1000, limit.Cur)
	}
	s := supervise(t, "-drain", "1s", "-max-delay", "0") // on a slow machine a loop is late with so many
	in := make([]*client.Client, crowd)
	defer func() {
		for _, c := range in {
			if c != nil {
				c.Close()
			}
		}
	}()
	enter := func(i int) error {
		c, err := client.Dial(s.addr, patience)
		if err != nil {
			return err
		}
		in[i] = c
		return c.Request("connector.entryHandler.enter", map[string]string{"username": fmt.Sprint("n", i), "rid": fmt.Sprint("r", i%100)}, nil)
	}
	var wg sync.WaitGroup
	turns := make(chan int)
	for range 50 {
		wg.Go(func() {
			for i := range turns {
				if err := enter(i); err != nil {
					t.Errorf("client %d: %v", i, err)
				}
			}
		})
	}
	for i := range crowd {
		turns <- i
	}
	close(turns)
	wg.Wait()
	if t.Failed() {
		return
	}

	began := time.Now()
	left := make([]time.Duration, crowd)
	for i, c := range in {
		wg.Go(func() {
			var err error
			for err == nil {
				_, err = c.Next()
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("client %d was sent away with %v", i, err)
			}
			c.Close()
			left[i] = time.Since(began)
		})
	}
	s.restart()
	wg.Wait()
	spread := slices.Max(left) - slices.Min(left)
	if spread < 500*time.Millisecond {
		t.Errorf("all were sent away within %v", spread)
	}

	gate := make(chan struct{})
	for i := range crowd {
		wg.Go(func() {
			<-gate
			if err := enter(i); err != nil {
				t.Errorf("client %d did not come back: %v", i, err)
			}
		})
	}
	back := time.Now()
	close(gate)
	wg.Wait()
	t.Logf("sent away over %v; back in %v", spread, time.Since(back))
}
