//go:build linux

package server

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/codec"
)

// What is shown of two looks: sums, rates, loops, and rooms, whose names bring no terminal to do anything.
func TestTopLines(t *testing.T) {
	stats := func(at int64, sends, loop uint64) *admin.Stats {
		return &admin.Stats{Version: "v1", Time: at, Connections: 3, Sessions: map[string]int64{"tcp": 1, "websocket": 2, "sio": 0}, Rooms: 2, Members: 3, Away: 1, Memory: 3 << 20, MemoryBudget: 1 << 30,
			Totals: map[string]uint64{admin.TotalSends: sends, admin.TotalRead: sends * 2048}, Loops: []admin.LoopStats{{Connections: 3, DelayMS: 0.25, Requests: loop}}}
	}
	rooms := []admin.Room{{Name: "lobby\x1b[2J\nx\u202e", Members: 2, Kept: 5}, {Name: "大厅", Members: 1}}
	text := strings.Join(topLines(stats(1000, 10, 10), stats(3000, 25, 410), rooms), "\n")
	for _, want := range []string{"2 rooms  3 members, 1 away", "3 connections: websocket 2, tcp 1  memory 3.0MiB of 1.0GiB", "messages 7.5 ", "read 15.0KiB", "requests 0 ", "       200", `lobby\x1b[2J\nx\u202e`, "大厅"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, before := range []*admin.Stats{nil, stats(3000, 1, 1), stats(1000, 99, 999)} { // none, at the same time, of another process
		if text := strings.Join(topLines(before, stats(3000, 25, 410), nil), "\n"); !strings.Contains(text, "messages - ") {
			t.Errorf("a rate of nothing:\n%s", text)
		}
	}
}

// No line is wider than the terminal, and there are no more than it has rows.
func TestTopFits(t *testing.T) {
	lines := []string{"abcdef", "大厅大厅", "", "last", "too much"}
	if got := topScreen(lines, 5, 4); got != "\x1b[Habcde\x1b[K\r\n大厅\x1b[K\r\n\x1b[K\r\nlast" {
		t.Errorf("%q", got)
	}
	if got := topScreen(lines[:1], 10, 4); got != "\x1b[Habcdef\x1b[K\r\n\x1b[J" {
		t.Errorf("%q", got)
	}
	if got := topScreen(nil, 1, 1); got != "\x1b[H\x1b[J" {
		t.Errorf("%q", got)
	}
}

// pty is a terminal: what a program sees of it, and what a person does.
func pty(t *testing.T) (program, person *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no terminals here:", err)
	}
	t.Cleanup(func() { person.Close() })
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(person.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 12, Col: 40})
	}
	if err == nil {
		program, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skip("there are no terminals here:", err)
	}
	t.Cleanup(func() { program.Close() })
	return program, person
}

// pomelod top is plain text where there is no terminal. On one it draws until q is pressed, and leaves the terminal as it was.
func TestTop(t *testing.T) {
	a := administer(t)
	c := login(t, a.addr("connector"))
	c.enter("alice", "lobby")
	if out := a.must("top", "-every", "100ms"); strings.Contains(out, "\x1b") || !strings.Contains(out, "1 rooms  1 members") || !strings.Contains(out, "lobby") || strings.Contains(out, "messages -") {
		t.Errorf("top:\n%s", out)
	}
	var stats admin.Stats
	if err := json.Unmarshal([]byte(a.must("top", "-o", "json")), &stats); err != nil || stats.Members != 1 || len(stats.Loops) != 2 {
		t.Errorf("%+v, %v", stats, err)
	}
	if out, code := a.command("top", "-every", "1ms"); code != 2 {
		t.Errorf("-every 1ms: exit %d, %s", code, out)
	}

	program, person := pty(t)
	before, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	cmd := pomelodCommand(nil, "top", "-every", "100ms", "-admin-socket", a.socket)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var seen strings.Builder
	b := make([]byte, 4096)
	_ = person.SetReadDeadline(time.Now().Add(time.Minute))
	for pressed := false; !strings.Contains(seen.String(), screenEnd); {
		n, err := person.Read(b)
		if seen.Write(b[:n]); err != nil {
			t.Fatalf("%v behind %q", err, seen.String())
		}
		if !pressed && strings.Count(seen.String(), screenHome) >= 3 {
			pressed = true
			if _, err := person.Write([]byte("xq")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
	if !strings.HasPrefix(seen.String(), screenBegin) || !strings.Contains(seen.String(), "lobby") {
		t.Errorf("drawn: %q", seen.String())
	}
	after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil || after.Lflag != before.Lflag {
		t.Errorf("the terminal is left as %+v, %v", after, err)
	}
}

// pushed reads until a push of a route comes, and returns its body.
func (c *tcpClient) pushed(route string) string {
	c.t.Helper()
	for {
		p := c.next()
		if p.Type != codec.PackageData {
			continue
		}
		m, err := codec.ParseMessage(p.Body)
		if err != nil {
			c.t.Fatal(err)
		}
		if string(m.Route) == route {
			return string(m.Body)
		}
	}
}

// What is published reaches a room once, however often it is said with a mid, and what is said stands in its history, with the mid, also after a restart.
func TestPublishCommand(t *testing.T) {
	dir := t.TempDir()
	a := administer(t, "-history-dir", dir)
	c := login(t, a.addr("connector"))
	c.enter("alice", "lobby")
	for i := range 2 {
		if out := a.must("publish", "onNews", `{"n":1}`, "-room", "lobby", "-mid", "m1"); strings.Contains(out, "before") != (i > 0) || !strings.Contains(out, "1 members, seq ") {
			t.Errorf("time %d: %s", i, out)
		}
	}
	if out := a.must("publish", "onNews", `{"n":2}`, "-all"); out != "published: 1 on this node\n" {
		t.Errorf("to all: %s", out)
	}
	said := a.must("say", "lobby", "back in five", "-mid", "m2")
	if seq, has := strings.CutPrefix(said, "said: 1 members, seq "); !has || !strings.Contains(a.must("history", "lobby"), strings.TrimSpace(seq)) || !strings.Contains(a.must("history", "lobby"), "back in five") {
		t.Errorf("%s: %s", said, a.must("history", "lobby"))
	}
	for _, want := range []string{`{"n":1}`, `{"n":2}`} {
		if got := c.pushed("onNews"); got != want {
			t.Errorf("%s came, want %s", got, want)
		}
	}
	if got := c.pushed("onChat"); got != `{"msg":"back in five","from":"system","target":"*"}` {
		t.Errorf("said: %s", got)
	}
	for args, want := range map[string]int{"publish onNews {} -uid nobody": 1, "publish onNews {": 2, "publish onNews {}": 1, "publish onChat {} -room lobby": 1} {
		if out, code := a.command(strings.Fields(args)...); code != want {
			t.Errorf("%s: exit %d, %s", args, code, out)
		}
	}
	a.stop()
	a = administer(t, "-history-dir", dir)
	c = login(t, a.addr("connector"))
	c.enter("alice", "lobby")
	if out := a.must("say", "lobby", "back in five", "-mid", "m2"); out != strings.TrimSpace(said)+", before\n" {
		t.Errorf("after a restart: %s, before %s", out, said)
	}
	if out := a.must("history", "lobby"); strings.Count(out, "back in five") != 1 {
		t.Errorf("after a restart: %s", out)
	}
}

// Each shell takes the script, and completes by it.
func TestCompletionScripts(t *testing.T) {
	for shell, check := range map[string]string{"zsh": "-n", "fish": "--no-execute"} {
		script, err := completionFor(shell)
		if err != nil || !strings.Contains(script, "unmute") || !strings.Contains(script, "reason") || !strings.Contains(script, "max-conns") {
			t.Errorf("%s: %v\n%.300s", shell, err, script)
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			continue // the text was looked at all the same
		}
		cmd := exec.Command(path, check)
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s does not take it: %v\n%s", shell, err, out)
		}
	}
}

// The manual has each command and flag once, in the language of man.
func TestManPages(t *testing.T) {
	page, err := manPage("")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".TH POMELOD 1", ".SH COMMANDS", ".B pomelod kick", `\fB\-max\-conns\fR`, ".SH EXIT STATUS"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the manual", want)
		}
	}
	for _, cmd := range commands() {
		page, err := manPage(cmd.name)
		if err != nil || !strings.HasPrefix(page, ".TH POMELOD\\-"+strings.ToUpper(cmd.name)+" 1") {
			t.Errorf("%s: %v, %.100s", cmd.name, err, page)
		}
		for line := range strings.Lines(page) { // none is taken for a request by chance
			if (line[0] == '.' || line[0] == '\'') && !strings.HasPrefix(line, ".TH ") && !strings.HasPrefix(line, ".SH ") && !strings.HasPrefix(line, ".B ") && line != ".TP\n" && line != ".PP\n" && line != ".nf\n" && line != ".fi\n" {
				t.Errorf("%s: %q", cmd.name, line)
			}
		}
	}
	if path, err := exec.LookPath("mandoc"); err == nil {
		cmd := exec.Command(path, "-T", "lint", "-W", "error")
		cmd.Stdin = strings.NewReader(page)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("mandoc: %v\n%s", err, out)
		}
	}
}
