package fleet

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pomelod is the path of the binary, built once.
var pomelod = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pomelod-fleet-")
	if err != nil {
		return "", err
	}
	built = dir
	binary := filepath.Join(dir, "pomelod")
	return binary, build("../..", binary, "./cmd/pomelod")
})

// build builds a program of a module as it is shipped, and with the flags of make: what the tests compile need not be compiled again for it, nor what another version has unchanged.
func build(source, binary, program string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-trimpath", "-buildvcs=false", "-o", binary}, flags...), program)...)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", program, err, out)
	}
	return nil
}

var built string // folder of the binary, and of others that tests build

func TestMain(m *testing.M) {
	if os.Getenv(earsOf) != "" {
		hearInAProcess()
		return
	}
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// web asks nodes, and no proxy that the environment may name. A process that is stopped answers nobody.
var web = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}

// process is a pomelod of its own.
type process struct {
	*board
	cmd   *exec.Cmd
	name  string
	lines []string
	addrs map[string]string // by server: gate, connector, admin
	gone  bool              // the log has ended, and so the process
	ended bool              // it was waited for
	read  chan struct{}     // closed when the log has ended
}

// launch starts one, whose -id is name unless that is empty, and which is killed at the end of the test.
func launch(t *testing.T, name string, args ...string) *process {
	t.Helper()
	binary, err := pomelod()
	if err != nil {
		t.Fatal(err)
	}
	return launchAs(t, binary, name, args...)
}

// launchAs starts a binary.
func launchAs(t *testing.T, binary, name string, args ...string) *process {
	t.Helper()
	args = append(nodeFlags("127.0.0.1"), args...)
	if name != "" {
		args = append(args, "-id", name)
	}
	return beginCommand(t, name, exec.Command(binary, args...))
}

// nodeFlags are the flags of all nodes of tests.
func nodeFlags(host string) []string {
	return []string{"-loops", "2", "-admin", host + ":0", "-admin-socket", "none", "-limits", "off", "-drain", "100ms"}
}

// begin starts a pomelod with a command line, which is killed at the end of the test.
func begin(t *testing.T, name string, args ...string) *process {
	t.Helper()
	binary, err := pomelod()
	if err != nil {
		t.Fatal(err)
	}
	return beginCommand(t, name, exec.Command(binary, args...))
}

func beginCommand(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{board: newBoard(t), cmd: cmd, name: name, addrs: map[string]string{}, read: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.follow(out)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, p.log())
		}
		p.kill()
	})
	return p
}

func (p *process) follow(out io.Reader) {
	defer close(p.read)
	defer p.do(func() { p.gone = true })
	s := bufio.NewScanner(out)
	for s.Buffer(nil, 4<<20); s.Scan(); { // a line may have the stacks of all goroutines
		var line struct{ Msg, Server, Addr string }
		_ = json.Unmarshal(s.Bytes(), &line)
		p.do(func() {
			p.lines = append(p.lines, s.Text())
			if line.Msg == "listening" && !strings.HasPrefix(line.Addr, "/") { // the admin socket is found by its path
				p.addrs[line.Server] = line.Addr
			}
		})
	}
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// beginGroup is beginCommand of a process that others follow: the end of the test kills them all.
func beginGroup(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := beginCommand(t, name, cmd)
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	return p
}

// addr is where a server of the process listens.
func (p *process) addr(server string) string {
	p.t.Helper()
	p.wait(p.name+" to listen", func() bool { return p.addrs[server] != "" || p.gone })
	if p.addrs[server] == "" {
		p.t.Fatalf("%s has ended", p.name)
	}
	return p.addrs[server]
}

// readyz is what the process answers, and with which status.
func (p *process) readyz() (int, string) {
	r, err := web.Get("http://" + p.addr("admin") + "/readyz")
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	text, _ := io.ReadAll(r.Body)
	return r.StatusCode, strings.TrimSpace(string(text))
}

// metric is a figure of the process, -1 if there is none of that name.
func (p *process) metric(name string) float64 {
	r, err := web.Get("http://" + p.addr("admin") + "/metrics")
	if err != nil {
		return -1
	}
	defer r.Body.Close()
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), name+" "); ok {
			var v float64
			if _, err := fmt.Sscan(rest, &v); err == nil {
				return v
			}
		}
	}
	return -1
}

func (p *process) waitReady() {
	p.t.Helper()
	p.addr("admin")
	eventually(p.t, p.name+" to be ready", func() bool { status, _ := p.readyz(); return status == http.StatusOK })
}

// eventually asks now and then.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("there is no end of the wait for %s", what)
		}
	}
}

// kill is kill -9.
func (p *process) kill() {
	if !p.ended {
		p.cmd.Process.Kill()
		p.end()
	}
}

// stop is SIGTERM; it returns the exit code.
func (p *process) stop() int {
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.end()
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) end() {
	p.ended = true
	<-p.read
	_ = p.cmd.Wait()
}
