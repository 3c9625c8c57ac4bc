//go:build linux

package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pomelod/pomelod/admin"
	"github.com/pomelod/pomelod/codec"
)

// administered is a pomelod with an admin socket, which commands ask.
type administered struct {
	*process
	socket string
}

// administer starts a pomelod, on two loops.
func administer(t *testing.T, args ...string) *administered {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run", "admin.sock")
	a := &administered{socket: socket}
	a.process = spawn(t, pomelodCommand(nil, append([]string{"-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none", "-loops", "2", "-admin-socket", socket}, args...)...))
	a.waitLog(`"msg":"ready"`)
	return a
}

// command runs a command, and returns what it writes and how it exits.
func (a *administered) command(args ...string) (out string, code int) {
	a.t.Helper()
	var b bytes.Buffer
	code = runCommand(args, &caller{environ: []string{"POMELOD_ADMIN_SOCKET=" + a.socket}, stdout: &b, stderr: &b})
	return b.String(), code
}

// must is command that has to succeed.
func (a *administered) must(args ...string) string {
	a.t.Helper()
	out, code := a.command(args...)
	if code != 0 {
		a.t.Fatalf("pomelod %q: exit %d, %s", args, code, out)
	}
	return out
}

// kicked reads until a client is kicked, and returns what it is told.
func (c *tcpClient) kicked() string {
	c.t.Helper()
	for {
		if p := c.next(); p.Type == codec.PackageKick {
			if _, err := c.read(); err == nil {
				c.t.Error("something came behind the kick")
			}
			return string(p.Body)
		}
	}
}

// What an operator deletes is gone for members and operators alike, by place, id or user; extended clients are told, others nothing. What is asked wrongly, or is not there, is said.
func TestDeleteCommand(t *testing.T) {
	a := administer(t, "-history", "10")
	at := a.addr("connector")
	plain := login(t, at)
	plain.enter("plain", "lobby")
	d, err := newDiarist(at.String(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer d.conn.Close()
	if _, err := d.enter("ann", "lobby", ""); err != nil {
		t.Fatal(err)
	}
	say := func(text, mid string) (seq string) {
		t.Helper()
		body, _ := json.Marshal(map[string]string{"content": text, "target": "*", "mid": mid})
		answer, err := d.request("chat.chatHandler.send", string(body))
		var a struct{ Seq string }
		if err == nil {
			err = json.Unmarshal([]byte(answer), &a)
		}
		if err != nil || a.Seq == "" {
			t.Fatalf("%s: %s, %v", text, answer, err)
		}
		return a.Seq
	}
	told := func(n int) []said { // what the extended client is told is deleted
		t.Helper()
		if err := d.read(func() bool { return len(d.deleted) >= n }); err != nil {
			t.Fatal(err)
		}
		defer func() { d.deleted = nil }()
		return d.deleted
	}
	first := say("one\x1b[2J", "the first message")
	second := say("two", "the second message")
	third := say("three", "the third message")

	if got := a.must("history", "lobby"); !strings.Contains(got, first) || !strings.Contains(got, "ann") || !strings.Contains(got, `one\x1b[2J`) || strings.Contains(got, "older ones") {
		t.Errorf("history: %q", got)
	}
	if got := a.must("history", "lobby", "-limit", "1"); !strings.Contains(got, "three") || strings.Contains(got, second) || !strings.Contains(got, "(there are older ones)") {
		t.Errorf("history of one: %q", got)
	}
	if got := a.must("delete", "lobby", second); got != "deleted: 1\n" {
		t.Errorf("delete: %q", got)
	}
	if got := told(1); len(got) != 1 || got[0].Deleted != second || got[0].Mid != "" || got[0].Seq == "" || got[0].Rid != "lobby" {
		t.Errorf("told %+v", got)
	}
	if got := a.must("delete", "lobby", "-mid", "the first message", "-o", "json"); got != `{"scope":"fleet","count":1}`+"\n" {
		t.Errorf("delete -mid: %q", got)
	}
	if got := told(1); len(got) != 1 || got[0].Deleted != first || got[0].Mid != "the first message" {
		t.Errorf("told %+v", got)
	}
	if got := a.must("history", "lobby"); strings.Contains(got, "one") || strings.Contains(got, "two") || !strings.Contains(got, third) {
		t.Errorf("history after that: %q", got)
	}
	if got := a.must("rooms"); !strings.Contains(got, "2        1           lobby\n") {
		t.Errorf("rooms: %q", got)
	}
	say("four", "the fourth message")
	if got := a.must("delete", "lobby", "-user", "ann"); got != "deleted: 2\n" || len(told(2)) != 2 {
		t.Errorf("delete -user: %q", got)
	}
	say("five", "the fifth message")
	answer, err := d.request("chat.chatHandler.history", `{}`)
	if err != nil || !strings.Contains(answer, "five") || strings.Count(answer, `"seq"`) != 1 || !strings.Contains(answer, `"more":false`) {
		t.Errorf("a member reads %s, %v", answer, err)
	}

	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"lobby", 2, "give SEQ, -mid or -user"},
		{"lobby " + third + " -user ann", 2, "give SEQ, -mid or -user"},
		{"lobby nonsense", 1, "no message can have this seq or mid"},
		{"lobby -mid short", 1, "no message can have this seq or mid"},
		{"lobby 1.1", 1, "the room keeps no such message"},
		{"lobby -user nobody", 1, "the room keeps no such message"},
		{"nowhere " + third, 1, "the room keeps no such message"},
	} {
		if got, code := a.command(append([]string{"delete"}, strings.Fields(tc.args)...)...); code != tc.code || !strings.Contains(got, tc.want) {
			t.Errorf("delete %s: %d %q", tc.args, code, got)
		}
	}
	if line := a.waitLog(`"what":"delete"`); !strings.Contains(line, second) || !strings.Contains(line, `"room":"lobby"`) || strings.Contains(a.log(), "five") {
		t.Errorf("the log: %s", line)
	}

	for seen := 0; seen < 5; { // up to the last message a plain client has had each, and nothing else
		m, err := codec.ParseMessage(plain.next().Body)
		switch {
		case err != nil:
			t.Fatal(err)
		case string(m.Route) == "onDelete":
			t.Fatalf("a plain client is told %s", m.Body)
		case string(m.Route) == "onChat":
			seen++
		}
	}
}

// What an operator does on the first day: looks, says something, kicks one of a room, one by name, an address, and closes a room.
func TestOperatorCommands(t *testing.T) {
	a := administer(t, "-history", "10", "-names", "original") // which lets names turn text around
	at := a.addr("connector")
	alice, bob, carol, dave := login(t, at), login(t, at), login(t, at), login(t, at)
	alice.enter("alice", "lobby")
	bob.enter("bob", "lobby")
	carol.enter("carol", "room 2")
	dave.enter("dave\u202e", "lobby")

	if got := a.must("who", "lobby"); got != "alice\nbob\ndave\\u202e\n" {
		t.Errorf("who: %q", got)
	}
	if got := a.must("rooms"); !strings.Contains(got, "3        0           lobby\n") {
		t.Errorf("rooms: %q", got)
	}
	if got, code := a.command("who", "nowhere"); code != 1 || !strings.Contains(got, "nobody of that name is in the room") {
		t.Errorf("who nowhere: %d %q", code, got)
	}
	var list admin.Sessions
	if err := json.Unmarshal([]byte(a.must("sessions", "-o", "json", "-name", "alice")), &list); err != nil || len(list.Sessions) != 1 || list.Sessions[0].Room != "lobby" ||
		list.Sessions[0].Address != alice.conn.LocalAddr().String() || list.Scope != "node" {
		t.Errorf("sessions: %+v, %v", list, err)
	}
	for page, after := 0, ""; ; page++ {
		list = admin.Sessions{}
		if err := json.Unmarshal([]byte(a.must("sessions", "-limit", "1", "-after", after, "-o", "json")), &list); err != nil || len(list.Sessions) != 1 {
			t.Fatalf("page %d: %+v, %v", page, list, err)
		}
		if after = list.Next; after == "" {
			if page != 3 {
				t.Errorf("%d pages of one session", page+1)
			}
			break
		}
	}

	a.must("say", "lobby", "back", "in", "five", "-from", "ops")
	for _, c := range []*tcpClient{alice, bob} {
		for {
			m, err := codec.ParseMessage(c.next().Body)
			if err != nil {
				t.Fatal(err)
			}
			if string(m.Route) == "onChat" {
				var said map[string]string
				if err := json.Unmarshal(m.Body, &said); err != nil || said["msg"] != "back in five" || said["from"] != "ops" || said["target"] != "*" {
					t.Errorf("said: %s", m.Body)
				}
				break
			}
		}
	}

	a.must("kick", "alice", "-room", "lobby", "-reason", "spam\n")
	if got := alice.kicked(); got != `{"reason":"spam\n"}` {
		t.Errorf("alice is told %s", got)
	}
	if got, code := a.command("kick", "alice", "-room", "lobby"); code != 1 {
		t.Errorf("alice is kicked again: %d %q", code, got)
	}
	if got := a.must("kick", "carol"); got != "kicked: 1 on this node\n" {
		t.Errorf("kick carol: %q", got)
	}
	carol.kicked()
	if got, code := a.command("kick", "-address", "192.0.2.0/24"); code != 1 || !strings.Contains(got, "no session of this node is meant") {
		t.Errorf("kick of nobody: %d %q", code, got)
	}
	a.must("close", "lobby", "-reason", "done for today")
	for _, c := range []*tcpClient{bob, dave} {
		if got := c.kicked(); got != `{"reason":"done for today"}` {
			t.Errorf("a member of the closed room is told %s", got)
		}
	}
	if got := a.must("rooms", "-o", "json"); got != `{"scope":"node","rooms":[]}`+"\n" {
		t.Errorf("rooms: %s", got)
	}
	eve := login(t, at)
	if got := eve.enter("eve", "lobby"); got != `{"users":["eve"]}` {
		t.Errorf("the room is not new: %s", got)
	}
	a.must("kick", "-address", "127.0.0.1")
	eve.kicked()

	line := a.waitLog(`"what":"close"`)
	if user := fmt.Sprintf("(pid %d)", os.Getpid()); !strings.Contains(line, user) || !strings.Contains(line, `"room":"lobby"`) || !strings.Contains(line, "done for today") {
		t.Errorf("the log does not say who has done what: %s", line)
	}
	if strings.Contains(a.log(), "back in five") {
		t.Error("the log has what was said")
	}
	a.stop()
	if _, err := os.Lstat(a.socket); err == nil {
		t.Error("the socket is left behind")
	}
}

// What a terminal would obey is shown, and does not become another line.
func TestEscaped(t *testing.T) {
	const evil = "a\x1b[2Jb\nc\u009bd\u202ee\tf\U000e0001"
	if got := escaped(evil); got != `a\x1b[2Jb\nc\u009bd\u202ee\tf\U000e0001` {
		t.Error(got)
	}
	b, err := json.Marshal(evil)
	if err != nil {
		t.Fatal(err)
	}
	var back string
	text := escapedJSON(string(b))
	if err := json.Unmarshal([]byte(text), &back); err != nil || back != evil || strings.ContainsAny(text, "\x1b\u009b\u202e\U000e0001") {
		t.Errorf("%q, %q, %v", text, back, err)
	}
}

// The place at which a list goes on is a word that a shell takes for what it is, and a terminal for text.
func TestShellWord(t *testing.T) {
	for _, word := range []string{"lobby", "it's", `a\b $HOME`, "\u200b大厅", "it's \\\u202ea\U000e0001'\x1b[2J", "\x7f\u009bf"} {
		got := shellWord(word)
		if escaped(got) != got {
			t.Errorf("%q is not safe to show", got)
		}
		cmd := exec.Command("bash", "-c", "printf %s "+got)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != word {
			t.Errorf("%s is %q to a shell, and not %q (%v)", got, out, word, err)
		}
	}
}

// A command that reaches nobody says so, and where it has looked.
func TestCommandWithoutServer(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "admin.sock")
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"rooms -admin-socket " + nowhere, 1, "no pomelod answers at " + nowhere},
		{"kick", 2, "give a name, -address, -uid or -all"},
		{"kick alice -address 10.0.0.1", 2, "give a name, -address, -uid or -all"},
		{"say lobby", 2, "TEXT… is missing; pomelod say -help tells how"},
		{"who -o xml lobby", 2, "-o xml: must be text or json"},
		{"who a b", 2, `unexpected "b"`},
		{"whom a", 2, "did you mean who?"},
	} {
		if out, stderr, code := outcome(t, []string{"XDG_RUNTIME_DIR="}, strings.Fields(tc.args)...); code != tc.code || !strings.Contains(stderr, tc.want) || out != "" {
			t.Errorf("%s: exit %d, %s%s", tc.args, code, out, stderr)
		}
	}
}

// The socket of a process that was killed is replaced; that of one which lives is not, nor is a file of the same name.
func TestSocketLeftBehind(t *testing.T) {
	a := administer(t)
	info, err := os.Stat(a.socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket's mode: %v, %v", info.Mode(), err)
	}
	if info, err = os.Stat(filepath.Dir(a.socket)); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("its directory's mode: %v, %v", info.Mode(), err)
	}
	args := []string{"-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none", "-admin-socket", a.socket}
	if _, stderr, code := outcome(t, nil, args...); code != 1 || !strings.Contains(stderr, "another process answers there") {
		t.Errorf("a second server: exit %d, %s", code, stderr)
	}
	a.must("rooms")
	_ = a.cmd.Process.Signal(syscall.SIGKILL)
	_ = a.wait()
	if _, err := os.Lstat(a.socket); err != nil {
		t.Fatal("nothing was left behind:", err)
	}
	p := spawn(t, pomelodCommand(nil, args...))
	p.waitLog(`"msg":"ready"`)
	a.must("rooms")
	p.stop()

	if err := os.WriteFile(a.socket, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := outcome(t, nil, args...); code != 1 || !strings.Contains(stderr, "which is no socket") {
		t.Errorf("with a file in its place: exit %d, %s", code, stderr)
	}
	if b, err := os.ReadFile(a.socket); err != nil || string(b) != "mine" {
		t.Errorf("the file: %q, %v", b, err)
	}
}

// After an upgrade the new process answers by the same path.
func TestSocketAfterUpgrade(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	u := startUpgradable(t, "", nil, "-admin-socket", socket)
	c := login(t, u.addr("connector"))
	c.enter("alice", "lobby")
	a := &administered{u.process, socket}
	a.must("who", "lobby")
	u.mustUpgrade()
	<-u.done // the old one leaves the path alone
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if cred := peerOf(conn.(*net.UnixConn)); cred == nil || int(cred.Pid) != u.pid() {
		t.Errorf("%+v answers, not %d", cred, u.pid())
	}
	a.must("kick", "alice")
	c.kicked()
}

// Where nobody has said where the socket shall be it is in the user's directory; without that there is a warning and no socket.
func TestSocketByItself(t *testing.T) {
	if isDirectory(filepath.Dir(systemSocket)) {
		t.Skip(systemSocket + " is this machine's pomelod's")
	}
	dir := t.TempDir()
	args := []string{"-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none"}
	p := spawn(t, pomelodCommand([]string{"XDG_RUNTIME_DIR=" + dir}, args...))
	p.waitLog(`"msg":"ready"`)
	if out, stderr, code := outcome(t, []string{"XDG_RUNTIME_DIR=" + dir}, "rooms"); code != 0 || !strings.Contains(out, "MEMBERS") {
		t.Errorf("rooms: exit %d, %s%s", code, out, stderr)
	}
	second := spawn(t, pomelodCommand([]string{"XDG_RUNTIME_DIR=" + dir}, args...)) // the first one's is left alone
	second.waitLog("another process answers there")
	second.waitLog(`"msg":"ready"`)
	second.stop()
	p.stop()
	p = spawn(t, pomelodCommand([]string{"XDG_RUNTIME_DIR="}, args...))
	p.waitLog("no admin socket: commands such as pomelod kick cannot reach this process")
	p.waitLog(`"msg":"ready"`)
	p.stop()
}

// The API by TCP wants a token, and is not there without the file of tokens.
func TestAPIByTCP(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("# who\nann 0123456789abcdef0123\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args  []string
		token string
		want  int
	}{
		{nil, "", 404},
		{nil, "0123456789abcdef0123", 404},
		{[]string{"-admin-token-file", tokens}, "", 401},
		{[]string{"-admin-token-file", tokens}, "0123456789abcdef012", 401},
		{[]string{"-admin-token-file", tokens}, "0123456789abcdef0123", 200},
	} {
		s := start(t, tc.args...)
		if got := getStatus(t, "http://"+s.admin.Addr().String()+"/v1/rooms", tc.token); got != tc.want {
			t.Errorf("%v with %q: %d, want %d", tc.args, tc.token, got, tc.want)
		}
		if got := getStatus(t, "http://"+s.admin.Addr().String()+"/metrics", ""); got != 200 {
			t.Errorf("metrics: %d", got)
		}
	}
	for _, tc := range []struct{ text, want string }{
		{"ann short\n", "is shorter than 16 bytes"},
		{"ann\n", "must be NAME TOKEN"},
		{strings.Repeat("n", 65) + " 0123456789abcdef\n", "longer than 64 bytes"},
		{"# nobody\n", "has none"},
	} {
		if err := os.WriteFile(tokens, []byte(tc.text), 0o640); err != nil {
			t.Fatal(err)
		}
		if _, stderr, code := outcome(t, nil, "-admin-token-file", tokens, "-check-config"); code != 2 || !strings.Contains(stderr, tc.want) {
			t.Errorf("%q: exit %d, %s", tc.text, code, stderr)
		}
	}
	if err := os.Chmod(tokens, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := outcome(t, nil, "-admin-token-file", tokens, "-check-config"); code != 2 || !strings.Contains(stderr, "chmod o=") {
		t.Errorf("a file for everybody: exit %d, %s", code, stderr)
	}
}
