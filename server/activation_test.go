//go:build linux

package server

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/client"
	"github.com/pomelod/pomelod/internal/freeport"
)

// mainEnv makes the test binary a pomelod whose command line is the test binary's.
const mainEnv = "GO_TEST_POMELOD"

func init() {
	upgradeHooks()
	if os.Getenv(mainEnv) != "" {
		if os.Getenv(handoverEnv) == "" { // else its parent is to end before it
			_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0) // a test that is killed leaves none behind
		}
		os.Exit(Main(nil))
	}
}

// need finds a program of Debian's package systemd. It skips the test where that is missing, but not in CI.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		from := map[string]string{"systemd-analyze": "systemd", "systemd-socket-activate": "systemd", "dpkg-deb": "dpkg"}
		text := program + " is missing; install it, on Debian: apt-get install --no-install-recommends " + cmp.Or(from[program], program)
		if os.Getenv("CI") != "" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	return path
}

// process is a pomelod of its own, started by a test.
type process struct {
	t   testing.TB
	cmd *exec.Cmd

	mu    sync.Mutex
	lines []string      // guarded by mu; what it logged
	ended chan struct{} // closed when its log ended
	once  sync.Once
	err   error
}

// spawn starts cmd, whose standard error is the log, and ends it with the test at the latest.
func spawn(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, ended: make(chan struct{})}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		in := bufio.NewScanner(stderr)
		for in.Buffer(nil, 4<<20); in.Scan(); { // a line may have the stacks of all goroutines
			p.mu.Lock()
			p.lines = append(p.lines, in.Text())
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = p.wait()
	})
	return p
}

// wait waits for the end.
func (p *process) wait() error {
	p.once.Do(func() {
		<-p.ended
		p.err = p.cmd.Wait()
	})
	return p.err
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// waitLog waits for a line with text, and returns it.
func (p *process) waitLog(text string) string {
	p.t.Helper()
	for i, end := 0, time.Now().Add(deadline); ; {
		p.mu.Lock()
		for ; i < len(p.lines); i++ {
			if strings.Contains(p.lines[i], text) {
				defer p.mu.Unlock()
				return p.lines[i]
			}
		}
		p.mu.Unlock()
		if time.Now().After(end) {
			p.t.Fatalf("nothing about %q in the log:\n%s", text, p.log())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// addr is the address that the process logged for a listener.
func (p *process) addr(id string) *net.TCPAddr {
	p.t.Helper()
	var line struct{ Addr string }
	if err := json.Unmarshal([]byte(p.waitLog(fmt.Sprintf("\"id\":%q,\"addr\"", id))), &line); err != nil {
		p.t.Fatal(err)
	}
	addr, err := net.ResolveTCPAddr("tcp", line.Addr)
	if err != nil {
		p.t.Fatal(err)
	}
	return addr
}

// stop asks it to end, and expects that it does in order.
func (p *process) stop() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.wait(); err != nil {
		p.t.Errorf("pomelod ended with %v:\n%s", err, p.log())
	}
}

// pomelodCommand is a pomelod with these flags and variables.
func pomelodCommand(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), mainEnv+"=1", "GORACE=atexit_sleep_ms=0"), env...) // a detector of races would sleep at the end
	return cmd
}

// activated is a pomelod that files were passed to. The shell knows the number of the process that will be pomelod, as the
// protocol demands, and Go does not.
func activated(files []*os.File, env []string, args ...string) *exec.Cmd {
	cmd := pomelodCommand(append([]string{"LISTEN_FDS=" + strconv.Itoa(len(files))}, env...), args...)
	cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$; export LISTEN_PID; exec "$0" "$@"`}, cmd.Args...)
	cmd.Path = "/bin/sh"
	cmd.ExtraFiles = files
	return cmd
}

// listening is a TCP socket of this process that listens, to be passed.
func listening(t testing.TB, addr string) (*os.File, *net.TCPAddr) {
	t.Helper()
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, ln.Addr().(*net.TCPAddr)
}

// freePort is one that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	return strconv.Itoa(freeport.Get(t))
}

// chats proves that the connector at addr works.
func chats(addr, user string) error {
	c, err := client.Dial(addr, deadline)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Request("connector.entryHandler.enter", map[string]string{"username": user, "rid": "r"}, nil)
}

// Names come first, then ports; and whatever fits nowhere is explained.
func TestActivationNames(t *testing.T) {
	servers := configDir(t, map[string]string{"servers.json": `{"gate":[{"id":"gate-1","host":"h","clientPort":3014}],
		"connector":[{"id":"connector-1","host":"h","clientPort":3050},{"id":"connector-2","host":"h","clientPort":3051}]}`})
	for _, tc := range []struct {
		flags, sockets string // sockets: name@address
		want           string // listener=descriptor, or part of the error
	}{
		{"", "connector@:1 gate@:2 admin@:3", "connector=3 gate=4 admin=5"},
		{"", "gate@:2 ws@:1", "connector=4 gate=3"},
		{"", "@[::]:3014 @0.0.0.0:3050", "connector=4 gate=3"},
		{"", "@127.0.0.1:3005", "admin=3"},
		{"", "@:3050 connector@:3014", "no listener is left for port 3050"},
		{"", "@:3014 gate@:3050", "no listener is left for port 3014"},
		{"-listen 127.0.0.1:7 -gate 127.0.0.2:7", "@127.0.0.2:7 @127.0.0.1:7", "connector=4 gate=3"},
		{"-listen :7 -gate 127.0.0.2:7", "@127.0.0.3:7 @127.0.0.2:7", "connector=3 gate=4"},
		{"-listen :http", "@:80", "connector=3"},
		{"-listen :0", "@:80", "no listener is left for port 80: configured are connector :0, gate :3014, admin 127.0.0.1:3005"},
		{"", "connector@:1 connector@:2", "descriptors 3 and 4 are both for connector"},
		{"", "connector@:1 ws@:2", "both for connector"},
		{"", "@:3050 @[::1]:3050", "no listener is left for port 3050"},
		{"", "chat@:1", `no listener is called "chat": set FileDescriptorName= to one of connector, gate, admin`},
		{"-gate=", "gate@:1", "named gate, and none is configured"},
		{"-admin=", "admin@:1", "-admin"},
		{"-config " + servers, "connector-2@:1 gate@:2 connector-1@:3", "connector-1=5 connector-2=3 gate-1=4"},
		{"-config " + servers, "@:3051", "connector-2=3"},
		{"-config " + servers, "connector@:1", "there are several: name it after its id in servers.json, one of gate-1, connector-1, connector-2, admin"},
	} {
		_, p, err := planned(nil, strings.Fields(tc.flags)...)
		if err != nil {
			t.Fatal(err)
		}
		var sockets []passedSocket
		for i, s := range strings.Fields(tc.sockets) {
			name, at, _ := strings.Cut(s, "@")
			addr, err := net.ResolveTCPAddr("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			sockets = append(sockets, passedSocket{fd: listenFDsStart + i, name: name, addr: addr})
		}
		if err := p.assign(sockets); err != nil {
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s %s: %v, want %s", tc.flags, tc.sockets, err, tc.want)
			}
			continue
		}
		got := make(map[string]int)
		for i, fd := range p.inherited {
			got[p.nameOf(i)] = fd
		}
		want := make(map[string]int)
		for _, pair := range strings.Fields(tc.want) {
			name, fd, _ := strings.Cut(pair, "=")
			want[name], _ = strconv.Atoi(fd)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s %s: %v, want %v", tc.flags, tc.sockets, got, want)
		}
	}
}

// What was not passed as the protocol says ends pomelod with a sentence that names what to change.
func TestActivationMistakes(t *testing.T) {
	tcp, addr := listening(t, "127.0.0.1:0")
	udpConn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udpConn.Close()
	udp, err := udpConn.File()
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, tc := range []struct {
		name  string
		files []*os.File
		env   []string
		want  string
	}{
		{"too few", []*os.File{tcp}, []string{"LISTEN_FDS=3"}, "descriptor 4 of the 3 of LISTEN_FDS: not a listening TCP socket"},
		{"too few names", []*os.File{tcp, tcp}, []string{"LISTEN_FDNAMES=connector"}, "LISTEN_FDNAMES has 1 names and LISTEN_FDS says 2"},
		{"unknown name", []*os.File{tcp}, []string{"LISTEN_FDNAMES=lobby"}, "FileDescriptorName= to one of connector, gate, admin"},
		{"unknown port", []*os.File{tcp}, nil, "no listener is left for port " + strconv.Itoa(addr.Port)},
		{"UDP", []*os.File{udp}, nil, "ListenStream= with a port"},
		{"no number", nil, []string{"LISTEN_FDS=many"}, `LISTEN_FDS="many" is no number`},
		{"too many", nil, []string{"LISTEN_FDS=1000000"}, "at most 1024"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := spawn(t, activated(tc.files, tc.env, "-listen", ":3050"))
			var exit *exec.ExitError
			if err := p.wait(); !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(p.log(), tc.want) {
				t.Errorf("ended with %v, and said:\n%s\nwant 2 and something about %q", err, p.log(), tc.want)
			}
		})
	}
}

// Sockets for another process, say a parent that did not clear its environment, are left alone.
func TestActivationOfAnother(t *testing.T) {
	for _, env := range [][]string{
		nil,
		{"LISTEN_FDS=2"},
		{"LISTEN_PID=7", "LISTEN_FDS=0"},
		{"LISTEN_PID=8", "LISTEN_FDS=2", "LISTEN_FDNAMES=gate:connector"},
	} {
		_, p, err := planned(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.inherit(env, 7); err != nil || len(p.inherited) != 0 {
			t.Errorf("%q: %v, %v", env, p.inherited, err)
		}
	}
}

// systemd's own tool holds the sockets, waits for the first client and becomes pomelod, which serves that client. What was
// passed is not bound: the ports of -listen and -gate stay free.
func TestActivationBySystemdSocketActivate(t *testing.T) {
	tool := need(t, "systemd-socket-activate")
	for name, tc := range map[string]struct{ fdnames, listen, gate, admin string }{
		"by name": {"--fdname=connector:gate:admin", "127.0.0.1:" + freePort(t), "127.0.0.1:" + freePort(t), "127.0.0.1:" + freePort(t)},
		"by port": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			connector, gate, admin := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
			args := []string{"-l", connector, "-l", gate, "-l", admin, "-E", mainEnv + "=1", "-E", "GORACE=atexit_sleep_ms=0"}
			if tc.fdnames == "" {
				tc.listen, tc.gate, tc.admin = connector, gate, admin
			} else {
				args = append(args, tc.fdnames)
			}
			args = append(args, os.Args[0], "-listen", tc.listen, "-gate", tc.gate, "-admin", tc.admin)
			p := spawn(t, exec.Command(tool, args...))
			p.waitLog("Listening on " + admin)
			if err := chats(connector, "first"); err != nil { // it waits in the queue until pomelod has started
				t.Fatal(err, "\n", p.log())
			}
			p.waitLog(`"msg":"ready"`)
			tcp, err := net.ResolveTCPAddr("tcp", gate)
			if err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(connector)
			c := login(t, tcp)
			if got, want := c.ask("gate.gateHandler.queryEntry", `{"uid":"a"}`), `{"code":200,"host":"127.0.0.1","port":`+port+`}`; got != want {
				t.Errorf("the gate answered %s, want %s", got, want)
			}
			c.conn.Close() // it would be waited for
			resp, err := http.Get("http://" + admin + "/readyz")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("/readyz: %s", resp.Status)
			}
			if tc.listen != connector {
				for _, addr := range []string{tc.listen, tc.gate, tc.admin} {
					if conn, err := net.Dial("tcp", addr); err == nil {
						conn.Close()
						t.Errorf("%s is bound, although there is a socket for it", addr)
					}
				}
			}
			p.stop()
		})
	}
}

// A parent holds the sockets, as systemd does, and restarts pomelod while clients keep coming: none is refused, and those who
// were in are sent away in order. After a crash, too, clients only wait.
func TestActivationRestart(t *testing.T) {
	connector, addr := listening(t, "127.0.0.1:0")
	gate, gateAddr := listening(t, "127.0.0.1:0")
	begin := func() *process {
		p := spawn(t, activated([]*os.File{connector, gate}, nil, "-listen", addr.String(), "-gate", gateAddr.String(), "-admin", ""))
		p.waitLog(`"msg":"ready"`)
		return p
	}
	p := begin()

	var served, sentAway atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				switch err := chats(addr.String(), fmt.Sprintf("%d-%d", i, n)); {
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
	more := func() {
		before := served.Load()
		waitFor(t, func() bool { return served.Load() > before+20 || t.Failed() })
	}
	for range 3 {
		more()
		p.stop()
		p = begin()
	}
	more()
	close(stop)
	clients.Wait()
	t.Logf("%d served, %d sent away", served.Load(), sentAway.Load())

	_ = p.cmd.Process.Kill()
	_ = p.wait()
	answer := make(chan error, 1)
	conn, err := net.DialTCP("tcp", nil, addr)
	if err != nil {
		t.Fatal("refused while nothing runs:", err)
	}
	conn.Close()
	go func() { answer <- chats(addr.String(), "early") }()
	p = begin()
	if err := <-answer; err != nil {
		t.Error("a client who came before the server:", err)
	}
	p.stop()
}

// A socket for one listener only: the other is bound as ever, and the operator is told.
func TestActivationOfSome(t *testing.T) {
	connector, addr := listening(t, "127.0.0.1:0")
	p := spawn(t, activated([]*os.File{connector}, []string{"LISTEN_FDNAMES=connector"}, "-gate", "127.0.0.1:0", "-admin", ""))
	p.waitLog(`"msg":"ready"`)
	if err := chats(addr.String(), "a"); err != nil {
		t.Error(err)
	}
	if line := p.waitLog("no socket was passed"); !strings.Contains(line, `"id":"gate"`) {
		t.Error(line)
	}
	c := login(t, p.addr("gate"))
	if got := c.ask("gate.gateHandler.queryEntry", `{"uid":"a"}`); !strings.Contains(got, strconv.Itoa(addr.Port)) {
		t.Errorf("the gate says %s, the connector is at %s", got, addr)
	}
	c.conn.Close() // it would be waited for
	p.stop()
}
