//go:build linux

package abuse

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/internal/freeport"
	"github.com/pomelod/pomelod/internal/overlay"
)

const (
	// patience is for what happens within a moment on a machine that has nothing else to do.
	patience = 20 * time.Second
	// soon is for what has to happen within a second or a few, by the server's own clock, as seen from a slow machine.
	soon = 10 * time.Second
	// root is the module's folder, from here.
	root = "../.."
)

// edit replaces a text that a file of the module has once (overlay.Edit).
type edit struct{ File, Old, New string }

var builds struct {
	dir  string   // of the binaries, removed by TestMain
	done sync.Map // by program and edits: a function that returns the binary, once it is built
}

// build returns a pomelod, with the race detector where the tests have it. With edits it is one without some of its defences: the
// files are left as they are (go help build, -overlay).
func build(t testing.TB, edits ...edit) string {
	t.Helper()
	return buildProgram(t, "./cmd/pomelod", edits...)
}

// buildProgram is build for a program that has an App.
func buildProgram(t testing.TB, program string, edits ...edit) string {
	t.Helper()
	once, _ := builds.done.LoadOrStore(fmt.Sprint(program, edits), sync.OnceValues(func() (string, error) { return buildOnce(program, edits) }))
	binary, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

func buildOnce(program string, edits []edit) (string, error) {
	dir, err := os.MkdirTemp(builds.dir, "")
	if err != nil {
		return "", err
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dir, "pomelod")}
	if raceEnabled {
		args = append(args, "-race")
	} else {
		args = append(args, "-ldflags=-s -w") // as it is shipped, and sooner linked: some forty are built
	}
	if len(edits) > 0 {
		planted := make([]overlay.Edit, len(edits))
		for i, e := range edits {
			planted[i] = overlay.Edit(e)
		}
		name, err := overlay.Write(root, dir, planted)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", name)
	}
	cmd := exec.Command("go", append(args, program)...)
	cmd.Dir = root
	if !raceEnabled {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return filepath.Join(dir, "pomelod"), nil
}

// server is a pomelod of its own process.
type server struct {
	t           testing.TB
	cmd         *exec.Cmd
	addr, admin string
	stderr      buffer
	ended       chan struct{} // closed when it has; err is its end
	err         error
}

// buffer is written by one goroutine while others read it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// freeAddr is an address of loopback nobody listens on.
func freeAddr(t testing.TB) string {
	t.Helper()
	return fmt.Sprint("127.0.0.1:", freeport.Get(t))
}

// start runs a binary and waits until it is ready; it is ended with the test. Addresses of loopback are held to limits like others.
func start(t testing.TB, binary string, flags ...string) *server {
	t.Helper()
	s := newServer(t, binary, flags...)
	s.start()
	return s
}

// newServer is start for who changes cmd before calling start, on it.
func newServer(t testing.TB, binary string, flags ...string) *server {
	t.Helper()
	s := &server{t: t, addr: freeAddr(t), admin: freeAddr(t), ended: make(chan struct{})}
	if i := slices.Index(flags, "-listen"); i >= 0 { // on every address: ours is one of them
		s.addr = strings.Replace(flags[i+1], "0.0.0.0", "127.0.0.1", 1)
	}
	s.cmd = exec.Command(binary, append([]string{"-listen", s.addr, "-gate", "", "-admin", s.admin, "-limit-loopback"}, flags...)...)
	s.cmd.Stderr = &s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that is killed leaves none behind
	s.cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	return s
}

func (s *server) start() {
	s.t.Helper()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	prefer(s.cmd.Process.Pid)
	go func() { s.err = s.cmd.Wait(); close(s.ended) }()
	s.t.Cleanup(func() {
		if err := s.end(); err != nil {
			s.t.Errorf("%v; it said:\n%s", err, s.said())
		}
	})
	waitFor(s.t, "the server to be ready", func() bool {
		if s.over() {
			s.t.Fatalf("pomelod ended with %v:\n%s", s.err, s.said())
		}
		resp, err := http.Get("http://" + s.admin + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// said is the end of what the server has logged.
func (s *server) said() string {
	text := s.stderr.String()
	return text[max(0, len(text)-4000):]
}

// over tells that the server has ended.
func (s *server) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// end ends a server that still runs; whoever has ended it has looked at how.
func (s *server) end() error {
	if s.over() {
		return nil
	}
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
		if s.err != nil {
			return fmt.Errorf("pomelod ended with %w", s.err)
		}
		return nil
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		<-s.ended
		return errors.New("pomelod did not end")
	}
}

// metrics are sums over loops, workers and transports by name, and over all other labels by name{label="…"}, one label at a time.
type metrics map[string]float64

// metrics asks the server. It fails the test when the server does not answer. An attacker may keep this process from asking in the time that the server
// gives a request, so it asks again.
func (s *server) metrics() metrics {
	s.t.Helper()
	const tries = 3
	resp, err := httpClient.Get("http://" + s.admin + "/metrics")
	for try := 1; err != nil && try < tries && !s.over(); try++ {
		resp, err = httpClient.Get("http://" + s.admin + "/metrics")
	}
	if err != nil {
		s.t.Fatalf("%v; the server said:\n%s", err, s.said())
	}
	defer resp.Body.Close()
	m := make(metrics)
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()
		name, value, ok := strings.Cut(line, " ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
		name, labels, _ := strings.Cut(name, "{")
		m[name] += v
		for l := range strings.SplitSeq(strings.TrimSuffix(labels, "}"), ",") {
			if l != "" {
				m[name+"{"+l+"}"] += v
			}
		}
	}
	if err := lines.Err(); err != nil {
		s.t.Fatal(err)
	}
	return m
}

// await waits until a metric, or the sum of some, is as it should be. On a slow machine that may take long, as long as it goes on: the
// error is that it has come no nearer for patience.
func (s *server) await(lacks func(sum float64) float64, names ...string) error {
	s.t.Helper()
	return s.awaitFor(patience, lacks, names...)
}

// awaitFor is await with another patience.
func (s *server) awaitFor(patience time.Duration, lacks func(sum float64) float64, names ...string) error {
	s.t.Helper()
	nearest := math.Inf(1)
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		m, sum := s.metrics(), 0.0
		for _, name := range names {
			sum += m[name]
		}
		switch lack := lacks(sum); {
		case lack <= 0:
			return nil
		case lack < nearest:
			nearest, end = lack, time.Now().Add(patience)
		case time.Now().After(end):
			return fmt.Errorf("%s has stayed at %v", strings.Join(names, " and "), sum)
		}
	}
}

// atLeast and atMost say for await how much is lacking.
func atLeast(n float64) func(float64) float64 { return func(sum float64) float64 { return n - sum } }

func atMost(n float64) func(float64) float64 { return func(sum float64) float64 { return sum - n } }

// collect has the server collect its garbage.
func (s *server) collect() {
	resp, err := httpClient.Get("http://" + s.admin + "/debug/pprof/heap?gc=1")
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// httpClient keeps no connection, so that none is counted among the server's descriptors and goroutines.
var httpClient = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// waitFor polls until ok.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// yield makes this process less urgent than the servers and the witnesses it starts: attackers are elsewhere, in the world.
func yield() { nice(os.Getpid(), 19) }

// prefer undoes yield for a process just started. Only root may, or CAP_SYS_NICE; for others all are equally urgent.
func prefer(pid int) { nice(pid, 0) }

// nice is set for every thread: the kernel has it for each of its own. New threads have it from the one that makes them, so twice.
func nice(pid, value int) {
	for range 2 {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, task := range tasks {
			if tid, err := strconv.Atoi(task.Name()); err == nil {
				_ = syscall.Setpriority(syscall.PRIO_PROCESS, tid, value)
			}
		}
	}
}
