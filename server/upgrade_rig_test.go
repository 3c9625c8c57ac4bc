package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/app"
	"github.com/pomelod/pomelod/codec"
)

// upgradeHooks makes this process, if it is such a pomelod, do what upgradeEnv says. It ends when the test does, which holds its standard input open.
func upgradeHooks() {
	text := os.Getenv(upgradeEnv)
	if text == "" {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(9)
	}()
	acts := make(map[step]string)
	for _, item := range strings.Split(text, ",") {
		key, value, _ := strings.Cut(item, "=")
		switch key {
		case "times":
			d, err := time.ParseDuration(value)
			if err != nil {
				panic(err)
			}
			upgradeTimes.ready, upgradeTimes.frozen, upgradeTimes.serving, upgradeTimes.end = d, d, d, d
		case "format":
			handoverFormat = func() string { return value }
		case "app":
			os.Exit(Main(testApp(value)))
		default:
			acts[step(key)] = value
		}
	}
	atStep = func(s step) {
		switch acts[s] {
		case "kill":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case "hang":
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		case "block":
			select {}
		}
	}
}

// testApp is an App that knows every session. One that carries says to whom it is asked how often it has asked, before and since an upgrade.
func testApp(kind string) *app.App {
	a := app.New()
	a.OnOpen(func(s *app.Session) { s.Set("asked", 0) })
	a.HandleInline("game.count.ask", func(c *app.Call) (any, error) {
		asked, known := c.Session.Get("asked").(int)
		c.Session.Set("asked", asked+1)
		return map[string]any{"asked": asked + 1, "known": known, "uid": c.Session.UID(), "room": c.Session.Room()}, nil
	})
	a.HandleInline("game.count.bind", func(c *app.Call) (any, error) { c.Session.Bind("account 7"); return nil, nil })
	if kind == "carries" {
		a.Carry(func(s *app.Session) ([]byte, error) {
			return []byte(strconv.Itoa(s.Get("asked").(int))), nil
		}, func(s *app.Session, b []byte) error {
			asked, err := strconv.Atoi(string(b))
			s.Set("asked", asked)
			return err
		})
	}
	return a
}

// upgradable is a pomelod whose binary the test replaces, with all the processes that follow it.
type upgradable struct {
	*process
	path string
	done chan error // how the first process ended
}

// startUpgradable starts one on a connector of any port. hooks are for upgradeEnv; env are variables.
func startUpgradable(t *testing.T, hooks string, env []string, args ...string) *upgradable {
	t.Helper()
	return startUpgradableAs(t, hooks, env, upgradableArgs(args)...)
}

// startUpgradableAs starts one with these flags and no others.
func startUpgradableAs(t *testing.T, hooks string, env []string, args ...string) *upgradable {
	t.Helper()
	u := &upgradable{path: filepath.Join(t.TempDir(), "pomelod"), done: make(chan error, 1)}
	u.restore(t)
	if !strings.Contains(hooks, "times=") {
		hooks = "times=1m," + hooks // first: what stands behind app is not read
	}
	cmd := pomelodCommand(append([]string{upgradeEnv + "=" + hooks}, env...), args...)
	cmd.Path, cmd.Args[0] = u.path, u.path
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	u.run(t, cmd)
	return u
}

// upgradableArgs are flags of a connector, and more. However long upgrades take, nobody is cut off for being silent or not reading meanwhile.
func upgradableArgs(more []string) []string {
	return append([]string{"-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none", "-loops", "2", "-heartbeat", "5m", "-stuck-timeout", "10m"}, more...)
}

// run starts the first process, which ends, with all that follow it, when its standard input does.
func (u *upgradable) run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	in, stdin, err := os.Pipe() // by hand: those of Cmd end with the first process
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stderr = in, w
	err = cmd.Start()
	in.Close()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	u.process = &process{t: t, cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(u.ended)
		defer r.Close()
		in := bufio.NewScanner(r)
		for in.Buffer(nil, 4<<20); in.Scan(); { // a line may have the stacks of all goroutines
			u.mu.Lock()
			u.lines = append(u.lines, in.Text())
			u.mu.Unlock()
		}
	}()
	go func() { u.done <- cmd.Wait() }()
	t.Cleanup(func() {
		stdin.Close() // ends whichever process there is
		<-u.ended
		if t.Failed() {
			t.Log(u.log())
		}
	})
	u.waitLog(`"msg":"ready"`)
}

// restore makes the binary pomelod again.
func (u *upgradable) restore(t *testing.T) {
	t.Helper()
	binary, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(u.path)
	if err := os.Symlink(binary, u.path); err != nil {
		t.Fatal(err)
	}
}

// replace makes the binary a shell script, in which $POMELOD is pomelod.
func (u *upgradable) replace(script string, mode os.FileMode) {
	u.t.Helper()
	_ = os.Remove(u.path)
	text := "#!/bin/sh\nPOMELOD='" + os.Args[0] + "'\n" + script + "\n"
	if err := os.WriteFile(u.path, []byte(text), mode); err != nil {
		u.t.Fatal(err)
	}
}

var readyPid = regexp.MustCompile(`"msg":"ready".*"pid":(\d+)`)

// pids are the processes that have been ready, in their order.
func (u *upgradable) pids() (pids []int) {
	for _, m := range readyPid.FindAllStringSubmatch(u.log(), -1) {
		pid, _ := strconv.Atoi(m[1])
		pids = append(pids, pid)
	}
	return pids
}

// pid is the process that serves.
func (u *upgradable) pid() int {
	pids := u.pids()
	return pids[len(pids)-1]
}

// upgrade runs `pomelod upgrade` and returns what that says, and its exit code.
func (u *upgradable) upgrade(args ...string) (said string, code int) {
	u.t.Helper()
	if len(args) == 0 {
		args = []string{"-pid", strconv.Itoa(u.pid())}
	}
	cmd := pomelodCommand(nil, append([]string{"upgrade"}, args...)...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		u.t.Fatal(err)
	}
	return strings.TrimSpace(string(out)), cmd.ProcessState.ExitCode()
}

// mustUpgrade is upgrade that has to succeed, and waits until the new process is ready.
func (u *upgradable) mustUpgrade(args ...string) {
	u.t.Helper()
	n := len(u.pids())
	if said, code := u.upgrade(args...); code != 0 {
		u.t.Fatalf("exit %d: %s", code, said)
	}
	waitFor(u.t, func() bool { return len(u.pids()) == n+1 })
}

// couple is two clients in one room.
type couple struct{ a, b *talker }

func newCouple(t *testing.T, addr *net.TCPAddr) *couple {
	t.Helper()
	c := &couple{newTalker(t, addr, false), newTalker(t, addr, true)}
	for i, x := range []*talker{c.a, c.b} {
		x.say(x.message(1, "connector.entryHandler.enter", fmt.Sprintf(`{"username":"u%d","rid":"r"}`, i)))
		if err := x.answer(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// answer waits for the answer to a request; pushes before it are left out.
func (c *talker) answer() error {
	for {
		_ = c.conn.SetDeadline(time.Now().Add(deadline))
		p, code, err := c.hear()
		if err != nil || code != 0 {
			return fmt.Errorf("code %d, %w", code, err)
		}
		if m, err := codec.ParseMessage(p.Body); err == nil && m.Type == codec.MessageResponse {
			return nil
		}
	}
}

// heard waits for a push with text.
func (c *talker) heard(text string) error {
	for {
		_ = c.conn.SetDeadline(time.Now().Add(deadline))
		p, code, err := c.hear()
		if err != nil || code != 0 {
			return fmt.Errorf("code %d, %w", code, err)
		}
		if strings.Contains(string(p.Body), text) {
			return nil
		}
	}
}

// chat has each say something that the other hears.
func (c *couple) chat(text string) error {
	for _, way := range [][2]*talker{{c.a, c.b}, {c.b, c.a}} {
		way[0].say(way[0].message(2, "chat.chatHandler.send", `{"content":"`+text+`","target":"*"}`))
		if err := way[1].heard(text); err != nil {
			return err
		}
	}
	return nil
}
