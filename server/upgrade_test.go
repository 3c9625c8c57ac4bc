//go:build linux

package server

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/codec"
)

// upgradeEnv says what a pomelod of a test does in an upgrade, as a list of key=value with commas between: a step and kill, hang or block; times (of all steps);
// format; app.
const upgradeEnv = "GO_TEST_UPGRADE"

// Whatever is wrong with the new binary, the running process says why, and goes on with its clients as if nothing had been; and the next upgrade succeeds.
func TestUpgradeRefused(t *testing.T) {
	u := startUpgradable(t, "", nil)
	c := newCouple(t, u.addr("connector"))
	for _, tc := range []struct{ name, script, want string }{
		{"missing", "", "no such file or directory"},
		{"not executable", "exec $POMELOD", "permission denied"},
		{"exits", "exit 3", "the new process has ended (exit status 3)"},
		{"no pomelod", "exec cat /dev/null", "the new process has ended (exit status 0)"},
		{"a script that stays", "$POMELOD \"$@\"\nexit $?", "have the script use exec"},
		{"another format", upgradeEnv + "=format=x exec $POMELOD \"$@\"", "has another format of what it hands over"},
		{"broken flags", "exec $POMELOD \"$@\" -nonsense", "there is no flag -nonsense"},
		{"broken configuration", "exec $POMELOD \"$@\" -config /nonexistent", "is no directory; give the config/ directory"},
		{"a node of a fleet", "exec $POMELOD \"$@\" -nats nats://127.0.0.1:1", "cannot become a node of a fleet by an upgrade"},
		{"other loops", "exec $POMELOD \"$@\" -loops 3", "-loops 3: must stay 2 while a running server is taken over"},
		{"no such address", "exec $POMELOD \"$@\" -gate 192.0.2.1:4", "this machine does not have that address; change -gate"},
	} {
		mode := os.FileMode(0o755)
		if tc.name == "not executable" {
			mode = 0o644
		}
		if u.replace(tc.script, mode); tc.script == "" {
			_ = os.Remove(u.path)
		}
		said, code := u.upgrade()
		if code != 1 || !strings.Contains(said, "was not upgraded and goes on: ") || !strings.Contains(said, tc.want) {
			t.Errorf("%s: exit %d, %s\nwant %s", tc.name, code, said, tc.want)
		}
		if err := c.chat(tc.name); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
	}
	if n := len(u.pids()); n != 1 {
		t.Errorf("%d processes were ready", n)
	}
	u.restore(t)
	u.mustUpgrade()
	if err := c.chat("at last"); err != nil {
		t.Error(err)
	}
	if err := <-u.done; err != nil {
		t.Error("the old process ended with", err)
	}
}

// A node of a fleet says that it cannot be upgraded without NATS, and goes on.
func TestUpgradeRefusedWithoutNATS(t *testing.T) {
	for role, flags := range map[string][]string{
		"gate,connector,chat": {"-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0"}, "connector": {"-listen", "127.0.0.1:0", "-gate", "none"}, "chat": nil,
	} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			u := startUpgradableAs(t, "x=y", nil, append(flags, "-nats", "nats://127.0.0.1:"+freePort(t), "-id", "a", "-role", role, "-admin", "none", "-loops", "2")...)
			if said, code := u.upgrade(); code != 1 || !strings.Contains(said, "could not go on as this node without NATS") {
				t.Errorf("exit %d, %s", code, said)
			}
			if n := len(u.pids()); n != 1 || strings.Contains(u.log(), `"msg":"ended"`) {
				t.Errorf("%d processes were ready, or the node has ended", n)
			}
		})
	}
}

// What pomelod start runs is not upgraded: that command would take it for dead.
func TestUpgradeRefusedBelowStart(t *testing.T) {
	u := startUpgradable(t, "x=y", []string{startedEnv + "=1"})
	if said, code := u.upgrade(); code != 1 || !strings.Contains(said, "pomelod start runs this process") {
		t.Errorf("exit %d, %s", code, said)
	}
}

// A new process that hangs is killed when its time is over, at whichever step it does, and the old one goes on.
func TestUpgradeHangs(t *testing.T) {
	for _, tc := range []struct{ name, hooks, script string }{
		{"at once", "x=y", "exec sleep 1000"}, {"greeted", string(newGreeted) + "=hang", ""}, {"ready", string(newReady) + "=hang", ""}, {"loop", string(newLoop) + "=hang", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u := startUpgradable(t, "times=1s,"+tc.hooks, nil)
			c := newCouple(t, u.addr("connector"))
			if tc.script != "" {
				u.replace(tc.script, 0o755)
			}
			if said, code := u.upgrade(); code != 1 || !strings.Contains(said, "goes on") {
				t.Errorf("exit %d, %s", code, said)
			}
			if err := c.chat("still here"); err != nil {
				t.Error(err)
			}
			select {
			case err := <-u.done:
				t.Error("the old process has ended:", err)
			default:
			}
		})
	}
}

// An old process that hangs after Commit keeps nobody from being served, and is ended.
func TestUpgradeOldHangs(t *testing.T) {
	for _, at := range []step{oldCommit, oldReleased} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			u := startUpgradable(t, "times=10s,"+string(at)+"=block", nil)
			old := u.pid()
			c := newCouple(t, u.addr("connector"))
			_, _ = u.upgrade() // it has no answer
			if err := c.chat("after"); err != nil {
				t.Error(err)
			}
			waitFor(t, func() bool { return syscall.Kill(old, 0) != nil || strings.Contains(u.log(), "does not end by itself") })
			if err := c.chat("at last"); err != nil {
				t.Error(err)
			}
			if n := len(u.pids()); n != 2 {
				t.Errorf("%d processes were ready", n)
			}
		})
	}
}

// Either process is killed at each step. Before all has come to the new one, the old one goes on if it lives, and if it does not all clients are cut off, as
// they are by any crash; from then on they are the new one's. They are served by one, or cut off: never by both, and never left hanging.
func TestUpgradeKilled(t *testing.T) {
	const (
		served = "served"
		cut    = "cut off"
		either = "either" // the process has died after its word, which may have been heard or not
	)
	const kept, replaced = "goes on as before: ", "the upgrade has happened: process "
	for _, tc := range []struct {
		at   step
		want string
		api  string // what an upgrade by the admin API says, where it is asked for by that
	}{
		{oldStarted, cut, ""}, {oldGreeted, cut, ""}, {oldReady, cut, ""}, {oldStopped, cut, ""}, {oldExported, cut, ""}, {oldSentLoop, cut, ""},
		{oldSentAll, served, ""}, {oldTaken, served, ""}, {oldCommit, served, ""}, {oldReleased, served, ""},
		{newGreeted, served, kept}, {newReady, served, ""}, {newLoop, served, kept}, {newTaken, either, ""},
		{newCommit, cut, replaced}, {newServing, cut, ""}, {newReleased, cut, ""},
	} {
		t.Run(string(tc.at), func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(t.TempDir(), "s")
			u := startUpgradable(t, string(tc.at)+"=kill", nil, "-admin-socket", socket)
			c := newCouple(t, u.addr("connector"))
			var ask []string
			if tc.api != "" {
				ask = []string{"-admin-socket", socket}
			}
			said, code := u.upgrade(ask...)
			if tc.api != "" && (code != 1 || !strings.Contains(said, tc.api)) {
				t.Errorf("exit %d: %s", code, said)
			}
			err := c.chat("after")
			for end := time.Now().Add(deadline); tc.want == cut && err == nil && time.Now().Before(end); { // it dies after its last words, some time
				err = c.chat("after")
			}
			switch tc.want {
			case served:
				if err != nil {
					t.Errorf("%v; %d, %s", err, code, said)
				}
			case cut:
				if err == nil {
					t.Errorf("somebody serves; %d, %s", code, said)
				}
			}
			if err != nil { // and not just silent
				_ = c.a.conn.SetDeadline(time.Now().Add(deadline))
				if _, err := io.Copy(io.Discard, c.a.r); err != nil && os.IsTimeout(err) {
					t.Error("a client is left hanging")
				}
				<-u.ended // both processes
			}
		})
	}
}

// Upgrade after upgrade, by the command and by the signal, clients stay: in the middle of a package or a frame in either direction, and those that do not
// read; descriptors do not gather. SIGTERM ends the last process in order.
func TestUpgradeAgain(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	u := startUpgradable(t, "x=y", nil, "-admin-socket", socket)
	addr := u.addr("connector")
	c := newCouple(t, addr)
	slow := newTalker(t, addr, true)
	slow.say(slow.message(1, "connector.entryHandler.enter", `{"username":"slow","rid":"r"}`))
	if err := slow.answer(); err != nil {
		t.Fatal(err)
	}
	if err := slow.conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	const rounds, each = 5, 4
	pad := strings.Repeat("x", 20<<10)
	files := make([]int, 0, rounds)
	for round := range rounds {
		for i := range each { // more than the socket of slow takes
			c.a.say(c.a.message(2, "chat.chatHandler.send", fmt.Sprintf(`{"content":"<%d>%s","target":"*"}`, round*each+i, pad)))
			if err := c.b.heard(fmt.Sprintf("<%d>", round*each+i)); err != nil {
				t.Fatal(err)
			}
		}
		whole := c.a.message(3, "chat.chatHandler.send", fmt.Sprintf(`{"content":"half %d","target":"*"}`, round))
		frames := frame(0x82, c.b.message(3, "chat.chatHandler.send", fmt.Sprintf(`{"content":"frame %d","target":"*"}`, round)))
		cut := 1 + round*7
		c.a.write(whole[:cut])
		c.b.write(frames[:cut])
		switch round {
		case 0:
			u.mustUpgrade("-admin-socket", socket)
		case 1:
			n := len(u.pids())
			_ = syscall.Kill(u.pid(), syscall.SIGUSR2)
			waitFor(t, func() bool { return len(u.pids()) > n })
		default:
			u.mustUpgrade()
		}
		c.a.write(whole[cut:])
		if err := c.b.heard(fmt.Sprint("half ", round)); err != nil {
			t.Fatal(err)
		}
		c.b.write(frames[cut:])
		if err := c.a.heard(fmt.Sprint("frame ", round)); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return strings.Count(u.log(), "another process has taken over") == round+1 })
		files = append(files, descriptorsOf(t, u.pid()))
	}
	for i := range rounds * each {
		if err := slow.heard(fmt.Sprintf("<%d>%s", i, pad)); err != nil {
			t.Fatalf("message %d for the one who did not read: %v", i, err)
		}
	}
	if files[rounds-1] > files[0]+3 { // -admin may have a connection more
		t.Errorf("open files after each upgrade: %v", files)
	}
	_ = syscall.Kill(u.pid(), syscall.SIGTERM)
	<-u.ended
	if log := u.log(); !strings.Contains(log, `"msg":"ended"`) || strings.Contains(log, `"level":"ERROR"`) || strings.Contains(log, "panic") {
		t.Error("the last process did not end in order")
	}
}

func descriptorsOf(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Clients of a listener that the new configuration lacks are sent away as at the end of the server; all others stay.
func TestUpgradeDropsListener(t *testing.T) {
	u := startUpgradable(t, "x=y", nil, "-gate", "127.0.0.1:0")
	c := newCouple(t, u.addr("connector"))
	atGate := login(t, u.addr("gate"))
	u.replace(`exec $POMELOD "$@" -gate none`, 0o755)
	u.mustUpgrade()
	if err := c.chat("no gate"); err != nil {
		t.Error(err)
	}
	_ = atGate.conn.SetDeadline(time.Now().Add(deadline))
	if _, err := atGate.read(); err != io.EOF {
		t.Error("at the gate that is gone:", err)
	}
	if line := u.waitLog("took over"); !strings.Contains(line, `"closed":1,"reasons":"its listener is gone, or tells clients something else: 1"`) {
		t.Error(line)
	}
}

// Clients that were told of another heartbeat interval are sent away as at the end of the server, when the listener that came serves already.
func TestUpgradeChangesHeartbeat(t *testing.T) {
	u := startUpgradable(t, "x=y", nil)
	c := newCouple(t, u.addr("connector"))
	u.replace(`exec $POMELOD "$@" -gate 127.0.0.1:0 -heartbeat 20s`, 0o755)
	u.mustUpgrade()
	login(t, u.addr("gate"))
	if err := c.a.heard("nothing"); err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Error("a client with another heartbeat:", err)
	}
	if err := c.b.heard("nothing"); err == nil || !strings.Contains(err.Error(), strconv.Itoa(codec.WSCloseGoingAway)) {
		t.Error("a client with another heartbeat:", err)
	}
}

// Sessions that a program knows cannot go along; they are sent away by the old process, and others hear that they left.
func TestUpgradeWithApp(t *testing.T) {
	u := startUpgradable(t, "times=1m,app=1", nil)
	c := newCouple(t, u.addr("connector"))
	u.mustUpgrade()
	if err := c.a.heard("nothing"); err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Error(err)
	}
	if err := c.b.heard("nothing"); err == nil || !strings.Contains(err.Error(), strconv.Itoa(codec.WSCloseGoingAway)) {
		t.Error(err)
	}
	if line := u.waitLog("took over"); !strings.Contains(line, `"closed":2,"reasons":"the App knows it: 2"`) {
		t.Error(line)
	}
	if err := newCouple(t, u.addr("connector")).chat("again"); err != nil { // the names are free
		t.Error(err)
	}
	if err := <-u.done; err != nil {
		t.Error(err)
	}
}

// The service manager hears from the old process which one is the main process from then on, and from the new one that it is ready and lives.
func TestUpgradeNotify(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn := listenNotify(t, socket)
	u := startUpgradable(t, "x=y", []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=600000000"})
	expectTold(t, conn, "READY=1\n")
	u.mustUpgrade()
	expectTold(t, conn, fmt.Sprintf("MAINPID=%d", u.pid()))
	expectTold(t, conn, fmt.Sprintf("MAINPID=%d", u.pid()))
	expectTold(t, conn, "READY=1\n")
	<-u.done
	_ = syscall.Kill(u.pid(), syscall.SIGTERM)
	expectTold(t, conn, "STOPPING=1\n")
}

// The command says what is wrong.
func TestUpgradeCommand(t *testing.T) {
	nobody := filepath.Join(t.TempDir(), "nobody.sock")
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"upgrade -pid x", 2, "pomelod upgrade -help tells how"},
		{"upgrade now", 2, `unexpected "now"; pomelod upgrade -help tells how`},
		{"upgrade -pid -4", 2, "-pid -4: must be the id of a process"},
		{"upgrade -admin-socket " + nobody, 1, "no pomelod answers at " + nobody},
		{fmt.Sprint("upgrade -pid ", os.Getpid()), 1, "is no pomelod that can be upgraded"},
		{"upgrade -help", 0, "its clients stay connected"},
		{"upgrade -pi 4", 2, "there is no flag -pi; pomelod upgrade -help tells how"},
		{"help upgrade", 0, "pomelod upgrade: replace"},
		{"help", 0, "\n  pomelod upgrade "},
		{"help upgrad", 2, `there is no command "upgrad"; did you mean upgrade?`},
		{"upgrade 5 6", 2, `unexpected "5"`},
	} {
		stdout, stderr, code := outcome(t, nil, strings.Fields(tc.args)...)
		if code != tc.code || !strings.Contains(stdout+stderr, tc.want) {
			t.Errorf("%s: exit %d, %s%s", tc.args, code, stdout, stderr)
		}
	}
	for _, fd := range []string{"x", "0", "999"} {
		if _, stderr, code := outcome(t, []string{handoverEnv + "=" + fd}, "-listen", "127.0.0.1:0"); code != 1 || !strings.Contains(stderr, "only pomelod itself sets it") {
			t.Errorf("%s=%s: exit %d, %s", handoverEnv, fd, code, stderr)
		}
	}
}
