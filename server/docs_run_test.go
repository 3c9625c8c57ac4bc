//go:build linux

package server

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pomelod/pomelod/internal/freeport"
)

// Commands that documents show stand in fences, of which each says what becomes of it:
//
//	```sh                    this package's tests run it, line by line (readers)
//	```sh fleet              test/fleet runs it
//	```sh not-run: REASON    nobody does
//
// What they print, settings and texts stand in other fences, or are indented.

// shFence is a fence of commands.
type shFence struct {
	path  string // of the document, from the root
	at    int    // the line on which it begins
	mark  string // what stands behind ```sh
	lines []string
}

var openFence = regexp.MustCompile("^```sh(?: (.*))?$")

// shFences are those of a document, in their order. A line that ends with a backslash is one with the next.
func shFences(t *testing.T, path string) (found []shFence) {
	t.Helper()
	var in *shFence
	joined := ""
	for i, line := range strings.Split(readFile(t, "../"+path), "\n") {
		open := openFence.FindStringSubmatch(line)
		switch {
		case in == nil && open != nil:
			in = &shFence{path: path, at: i + 1, mark: open[1]}
		case in == nil:
		case line == "```":
			found, in = append(found, *in), nil
		case strings.HasSuffix(line, `\`):
			joined += strings.TrimSuffix(line, `\`)
		default:
			in.lines, joined = append(in.lines, joined+line), ""
		}
	}
	if in != nil {
		t.Fatalf("%s: the fence of line %d does not end", path, in.at)
	}
	return found
}

// isShell tells of a line of code whether a person would type it into a terminal.
var isShell = regexp.MustCompile(`^(\$ |sudo |\(set |\(umask |[A-Z_]+=\S* )*((bin/|\./)?pomelod|bin/bench|bench \w+ -\S+|make|curl|systemctl|journalctl|docker|podman|git|go|npm|node|ssh|cd|openssl|cc|apt-get|cargo|source|echo|install|set|umask|for \w+ in)( |$)`)

// Every command of every document is run by a test, or is marked as one that is not, with the reason.
func TestEveryCommandIsRunOrMarked(t *testing.T) {
	run, fleet, marked := 0, 0, 0
	docs := documents(t)
	for _, file := range slices.Sorted(maps.Keys(docs)) {
		path := strings.TrimPrefix(file, "../")
		if path == "bench/report/report.md" { // made by a run: the calls that have measured it
			continue
		}
		fenced := map[string]bool{}
		for _, fence := range shFences(t, path) {
			for _, line := range strings.Split(strings.Join(fence.lines, "\n"), "\n") {
				fenced[strings.TrimSpace(line)] = true
			}
			reason, not := strings.CutPrefix(fence.mark, "not-run: ")
			switch {
			case not && len(reason) > 8:
				marked += len(fence.lines)
			case fence.mark == "fleet":
				if !strings.Contains(readFile(t, "../test/fleet/docs_test.go"), `"`+path+`"`) {
					t.Errorf("%s:%d: test/fleet does not read this document", path, fence.at)
				}
				fleet += len(fence.lines)
			case fence.mark == "":
				if readers[strings.Replace(path, ".zh-CN", "", 1)] == nil { // which has the same fences (TestDocumentsInChineseAreEqual)
					t.Errorf("%s:%d: no test runs these commands; give readers a row, or mark them: ```sh not-run: REASON", path, fence.at)
				}
				run += len(fence.lines)
			default:
				t.Errorf("%s:%d: ```sh %s: what is that? There are ```sh, ```sh fleet and ```sh not-run: REASON", path, fence.at, fence.mark)
			}
		}
		for _, line := range docs[file] {
			if line = strings.TrimSpace(strings.TrimSuffix(line, `\`)); isShell.MatchString(line) && !fenced[line] && !joinedIn(fenced, line) {
				t.Errorf("%s: %s: is a command: put it into a fence ```sh", path, line)
			}
		}
	}
	t.Logf("%d lines are run here, %d in fleets, %d are marked", run, fleet, marked)
	if run < 60 || fleet < 10 {
		t.Errorf("only %d and %d lines are run", run, fleet)
	}
}

// joinedIn tells whether a line is part of one that goes on.
func joinedIn(fenced map[string]bool, line string) bool {
	for whole := range fenced {
		if strings.Contains(whole, line) {
			return true
		}
	}
	return false
}

// reader carries out the commands of a document, line by line, as a person would, on one machine: a folder of its own. sudo, systemctl and pomelod are the test's.
type reader struct {
	*newcomer
	ports   map[string]string   // of this run, by those that the document names
	u       *upgradable         // the pomelod that serves
	replace []string            // pairs: what the document says, and what stands for it here
	steps   map[string]expected // by line, without what is said of it behind #
	unused  map[string]bool     // of steps
}

// expected is what a line takes for granted, and how else than by exit code 0 it is judged.
type expected struct {
	before  func()        // has happened by then: somebody has come, say
	instead func()        // is done in its place: it ends by a key or a signal only
	replace func() string // what to run; nil: the line
	prints  string        // is in what it prints
	after   func(out string)
}

// readers are how each document is read. A row says what is on the machine, and what its lines take for granted.
var readers = map[string]func(t *testing.T){
	"README.md":                readReadme,
	"examples/world/README.md": readWorld,
	"docs/FIRST-HOUR.md":       readFirstHour,
	"docs/OPERATIONS.md":       readOperations,
	"docs/ADMIN.md":            readAdmin,
	"docs/HANDLERS.md":         readHandlers,
}

// The commands of documents do what they say: line by line, with no replacements but ports, folders and what the table says.
func TestDocumentsAreFollowed(t *testing.T) {
	for _, path := range slices.Sorted(maps.Keys(readers)) {
		t.Run(path, readers[path])
	}
}

// newReader has an empty machine with pomelod on its path.
func newReader(t *testing.T) *reader {
	t.Helper()
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "docs") // not t.TempDir: with the test's name in it, the path of the admin socket may be too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // behind all that runs in it
	r := &reader{newcomer: &newcomer{t, dir}, ports: map[string]string{}, steps: map[string]expected{}}
	// What documents have Go build is built as pomelod is shipped, so that nothing is compiled anew for it with the race detector, and without asking git.
	t.Setenv("CGO_ENABLED", "0")
	t.Setenv("GOFLAGS", strings.TrimSpace(os.Getenv("GOFLAGS")+" -buildvcs=false"))
	first := freeport.Row(t, 4)
	for i, port := range []string{"3050", "3014", "3005", "3006"} {
		r.ports[port] = fmt.Sprint(first + i)
	}
	for name, text := range map[string]string{
		"sudo":      `exec "$@"`,
		"systemctl": `echo "$@" >>"` + r.file("systemctl.asked") + `"`, // carried out when the line is over
	} {
		r.write("bin/"+name, "#!/bin/sh\n"+text+"\n", 0o755)
	}
	if err := os.Symlink(self, r.file("bin/pomelod")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"etc/default", "run/pomelod", "var/lib/pomelod"} {
		if err := os.MkdirAll(r.file(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.replace = []string{
		"make build", "make -C " + root + " --dry-run build", // CI builds by it before the tests that are not Go's
		"make install", "make -C " + root + " install PREFIX=/usr BINARY=" + self + " DESTDIR=" + r.dir,
		"/etc/", r.file("etc") + "/",
		"/run/pomelod/", r.file("run/pomelod") + "/",
		"127.0.0.1:3005", "127.0.0.1:" + r.ports["3005"],
		"go run ./examples/", "go run -C " + root + " ./examples/",
		"curl ", "curl -sSf --noproxy '*' ", // what is refused is an error
	}
	return r
}

// write makes a file below the machine's folder.
func (r *reader) write(name, text string, mode os.FileMode) {
	r.t.Helper()
	err := os.MkdirAll(filepath.Dir(r.file(name)), 0o755)
	if err == nil {
		err = os.WriteFile(r.file(name), []byte(text), mode)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// environ is what each process of the machine has: where things are that are at the root of a real one.
func (r *reader) environ() []string {
	return append(os.Environ(), mainEnv+"=1", "GORACE=atexit_sleep_ms=0", "PATH="+r.file("usr/bin")+":"+r.file("bin")+":"+os.Getenv("PATH"),
		"POMELOD_ADMIN_SOCKET="+r.file("run/pomelod/admin.sock"))
}

// serve starts pomelod, on the machine's ports where neither flags nor env say others, and waits until it is ready.
func (r *reader) serve(env []string, args ...string) {
	r.t.Helper()
	r.stop()
	path := r.file("usr/bin/pomelod")
	if _, err := os.Stat(path); err != nil {
		path = r.file("bin/pomelod")
	}
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.SysProcAttr = r.dir, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(append(r.environ(), upgradeEnv+"=times=1m", "POMELOD_LISTEN=127.0.0.1:"+r.ports["3050"], "POMELOD_GATE=127.0.0.1:"+r.ports["3014"], "POMELOD_ADMIN=127.0.0.1:"+r.ports["3005"],
		"POMELOD_RULES_FILE="+r.file("var/lib/pomelod/rules.json"), "POMELOD_DRAIN=100ms"), env...)
	r.u = &upgradable{path: path, done: make(chan error, 1)}
	r.u.run(r.t, cmd)
}

// stop ends the pomelod that serves in order. Of one that was upgraded, only the first process can be asked how it ended.
func (r *reader) stop() {
	r.t.Helper()
	if r.u != nil {
		_ = syscall.Kill(r.u.pid(), syscall.SIGTERM)
		<-r.u.ended
		if err := <-r.u.done; err != nil {
			r.t.Errorf("pomelod ended with %v\n%s", err, r.u.log())
		}
		r.u = nil
	}
}

// unit does what systemd would with `systemctl WORDS`: start and restart by the unit, of which the settings are its environment file.
func (r *reader) unit(words string) {
	r.t.Helper()
	switch words {
	case "daemon-reload":
	case "enable --now pomelod", "restart pomelod":
		if unit := readFile(r.t, r.file("usr/lib/systemd/system/pomelod.service")); !strings.Contains(unit, "\nExecStart=/usr/bin/pomelod\n") || !strings.Contains(unit, "\nEnvironmentFile=-/etc/default/pomelod\n") {
			r.t.Fatalf("the unit is\n%s", unit)
		}
		var env []string
		for line := range strings.Lines(readFile(r.t, r.file("etc/default/pomelod"))) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				env = append(env, line)
			}
		}
		r.serve(env)
	default:
		r.t.Fatalf("systemctl %s: systemd is not here", words)
	}
}

// read carries out the commands of a document.
func (r *reader) read(path string) {
	r.t.Helper()
	fences := shFences(r.t, path)
	for _, fence := range fences {
		for _, tool := range []string{"curl", "openssl"} {
			if fence.mark == "" && strings.Contains(strings.Join(fence.lines, "\n"), tool+" ") {
				need(r.t, tool)
			}
		}
	}
	r.unused = map[string]bool{}
	for line := range r.steps {
		r.unused[line] = true
	}
	for _, fence := range fences {
		if fence.mark != "" {
			continue
		}
		for i, line := range fence.lines {
			r.follow(fmt.Sprintf("%s:%d", path, fence.at+1+i), line)
		}
	}
	for line := range r.unused {
		r.t.Errorf("%s has no command %s", path, line)
	}
}

// follow carries out a line.
func (r *reader) follow(at, line string) {
	r.t.Helper()
	bare, said, _ := strings.Cut(line, " #")
	bare = strings.TrimSpace(bare)
	if bare == "" {
		return
	}
	s := r.steps[bare]
	delete(r.unused, bare)
	if s.before != nil {
		s.before()
	}
	if s.instead != nil {
		s.instead()
		return
	}
	if strings.HasPrefix(bare, "pomelod -") { // serves, until the next one does
		r.serve(nil, strings.Fields(bare)[1:]...)
		return
	}
	script := strings.NewReplacer(r.replace...).Replace(bare)
	if s.replace != nil {
		script = s.replace()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // some build a program; one that hangs fails, and not the whole package
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env, cmd.WaitDelay = r.dir, r.environ(), 10*time.Second
	b, err := cmd.CombinedOutput()
	out := string(b)
	if err != nil {
		r.t.Fatalf("%s: %s\nwhich is here %s\n%v\n%s", at, line, script, err, out)
	}
	if !strings.Contains(out, s.prints) {
		r.t.Errorf("%s: %s\nprints\n%s\nwithout %q", at, line, out, s.prints)
	}
	if said = strings.TrimSpace(said); strings.HasPrefix(bare, "curl ") && said != "" && strings.TrimSpace(out) != said {
		r.t.Errorf("%s: %s\nprints\n%s", at, line, out)
	}
	if s.after != nil {
		s.after(out)
	}
	if asked, err := os.ReadFile(r.file("systemctl.asked")); err == nil {
		_ = os.Remove(r.file("systemctl.asked"))
		for words := range strings.Lines(string(asked)) {
			r.unit(strings.TrimSpace(words))
		}
	}
}

// upgraded waits until the process that has taken over has said that it is ready.
func (r *reader) upgraded(string) {
	waitFor(r.t, func() bool { return len(r.u.pids()) == 2 })
}

// come has somebody enter a room of the pomelod that serves.
func (r *reader) come(name, room string) *tcpClient {
	r.t.Helper()
	c := login(r.t, r.u.addr("connector"))
	if got := c.enter(name, room); !strings.Contains(got, `"users"`) {
		r.t.Fatalf("%s into %s: %s", name, room, got)
	}
	return c
}

func readReadme(t *testing.T) {
	r := newReader(t)
	text := readFile(t, "../README.md")
	r.steps["make run"] = expected{instead: func() { // of which the recipe is the command that serves
		recipe := strings.Fields(outputOf(t, "make", "-C", "..", "--no-print-directory", "--dry-run", "run"))
		at := slices.Index(recipe, "bin/pomelod")
		for at >= 0 && slices.Contains(recipe[at+1:], "bin/pomelod") { // the build names it before
			at += 1 + slices.Index(recipe[at+1:], "bin/pomelod")
		}
		if at < 0 || len(recipe) == at+1 {
			t.Fatalf("make run would do %q", recipe)
		}
		r.serve(nil, recipe[at+1:]...)
	}}
	r.steps["go run ./examples/twoclients"] = expected{
		replace: func() string {
			return strings.NewReplacer(r.replace...).Replace("go run ./examples/twoclients -gate 127.0.0.1:" + r.ports["3014"])
		},
		after: func(out string) { // as the document shows it
			for line := range strings.Lines(out) {
				if !strings.Contains(text, "\n    "+line) {
					t.Errorf("the two clients say, and the document does not: %s", line)
				}
			}
			if strings.Count(out, "\n") != 7 {
				t.Errorf("the two clients say\n%s", out)
			}
		},
	}
	r.read("README.md")
}

func readWorld(t *testing.T) {
	r := newReader(t)
	line := "go run ./examples/world -rooms-file examples/world/rooms.json -history 0"
	r.steps[line] = expected{instead: func() {
		outputOf(t, "go", "build", "-C", "..", "-o", r.file("bin/world"), "./examples/world")
		cmd := exec.Command(r.file("bin/world"), append(strings.Fields(line)[3:], "-listen", "127.0.0.1:0", "-gate", "none", "-admin", "none", "-admin-socket", "none")...)
		cmd.Dir = ".."
		p := spawn(t, cmd)
		p.waitLog(`"msg":"ready"`)
		if got := login(t, p.addr("connector")).enter("alice", "world"); !strings.Contains(got, `"alice"`) {
			t.Errorf("enter: %s", got)
		}
		p.stop()
	}}
	r.read("examples/world/README.md")
}

func readFirstHour(t *testing.T) {
	r := newReader(t)
	var alice *tcpClient
	kicked := func(c **tcpClient, reason string) func(string) {
		return func(string) {
			if got := (*c).kicked(); !strings.Contains(got, reason) {
				t.Errorf("the kick says %s", got)
			}
		}
	}
	r.steps["(set -a; . /etc/default/pomelod; pomelod -check-config) && sudo systemctl restart pomelod"] = expected{before: func() {
		r.settings("docs/FIRST-HOUR.md", "POMELOD_ADVERTISE=chat.example.com", "POMELOD_ORIGINS=https://chat.example.com")
	}}
	r.steps["sudo pomelod rooms"] = expected{before: func() { alice = r.come("alice", "lobby"); r.come("bob", "lobby"); r.come("mallory", "lobby") }, prints: "lobby"}
	r.steps["sudo pomelod who lobby"] = expected{prints: "mallory"}
	r.steps[`sudo pomelod kick alice -reason "a rehearsal"`] = expected{after: kicked(&alice, "a rehearsal")}
	r.steps["sudo pomelod sessions -name mallory"] = expected{prints: "127.0.0.1"}
	r.steps["sudo pomelod rules"] = expected{prints: "192.0.2.7"}
	r.steps["make build && sudo make install && sudo pomelod upgrade"] = expected{after: r.upgraded}
	r.read("docs/FIRST-HOUR.md")
}

// settings adds lines to /etc/default/pomelod that a document says.
func (r *reader) settings(path string, lines ...string) {
	r.t.Helper()
	text := readFile(r.t, "../"+path)
	have := readFile(r.t, r.file("etc/default/pomelod"))
	for _, line := range lines {
		if !strings.Contains(text, "    "+line+"\n") {
			r.t.Errorf("%s does not say %s", path, line)
		}
		have += line + "\n"
	}
	r.write("etc/default/pomelod", have, 0o644)
}

func readOperations(t *testing.T) {
	r := newReader(t)
	r.steps["make build && sudo make install && sudo pomelod upgrade"] = expected{after: r.upgraded}
	r.steps["pomelod token -key key -name alice -ttl 1h"] = expected{after: func(out string) {
		if got := login(t, r.u.addr("connector")).enterBy("", "lobby", strings.TrimSpace(out)); got != `{"users":["alice"]}` {
			t.Errorf("by that token: %s", got)
		}
	}}
	r.read("docs/OPERATIONS.md")
}

func readAdmin(t *testing.T) {
	r := newReader(t)
	r.serve(nil)
	var place string
	alice, bob := r.come("alice", "lobby"), r.come("bob", "lobby")
	r.steps["pomelod top"] = expected{prints: "lobby"}
	r.steps["pomelod dashboard"] = expected{instead: func() { // until it is interrupted
		cmd := exec.Command(r.file("bin/pomelod"), "dashboard")
		cmd.Env, cmd.Stdout = r.environ(), nil
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		p := spawn(t, cmd)
		b := make([]byte, 4096)
		if n, err := out.Read(b); err != nil || !strings.Contains(string(b[:n]), "/dashboard/#token=") {
			t.Errorf("it prints %q, %v", b[:n], err)
		}
		_ = cmd.Process.Signal(os.Interrupt)
		if err := p.wait(); err != nil {
			t.Errorf("interrupted it ends with %v\n%s", err, p.log())
		}
	}}
	r.steps["pomelod rooms"] = expected{prints: "lobby"}
	r.steps["pomelod who lobby"] = expected{prints: "bob"}
	r.steps["pomelod say lobby back in five minutes"] = expected{after: func(string) {
		if got := bob.pushed("onChat"); !strings.Contains(got, "back in five minutes") {
			t.Errorf("bob is told %s", got)
		}
	}}
	r.steps[`pomelod publish onNews '{"n":1}' -all`] = expected{after: func(string) {
		if got := bob.pushed("onNews"); !strings.Contains(got, `"n":1`) {
			t.Errorf("bob is told %s", got)
		}
	}}
	r.steps[`pomelod kick alice -reason "please read the rules"`] = expected{after: func(string) {
		if got := alice.kicked(); !strings.Contains(got, "please read the rules") {
			t.Errorf("the kick says %s", got)
		}
	}}
	r.steps["pomelod history lobby"] = expected{before: func() { bob.ask("chat.chatHandler.send", `{"content":"hello","target":"*"}`) }, prints: "hello", after: func(out string) {
		if place = regexp.MustCompile(`[0-9a-z]{9,}\.[0-9]+`).FindString(out); place == "" {
			t.Fatalf("no message has a place:\n%s", out)
		}
	}}
	r.steps["pomelod delete lobby 18jlpgk3hbsul.2"] = expected{replace: func() string { return "pomelod delete lobby " + place }}
	r.steps[`pomelod close lobby -reason "closed for today"`] = expected{after: func(string) {
		if got := bob.kicked(); !strings.Contains(got, "closed for today") {
			t.Errorf("bob is told %s", got)
		}
	}}
	r.steps["pomelod rules"] = expected{prints: "policy"}
	r.steps["pomelod upgrade"] = expected{after: r.upgraded}
	r.steps["sudo install -d /etc/pomelod"] = expected{before: func() { // a machine with the unit, on which nothing is forbidden
		r.stop()
		_ = os.Remove(r.file("var/lib/pomelod/rules.json"))
		r.sh(strings.NewReplacer(r.replace...).Replace("make install"))
	}}
	r.steps[`curl --unix-socket /run/pomelod/admin.sock 'http://pomelod/v1/rooms?prefix=lobby'`] = expected{before: func() { r.come("alice", "lobby") }, prints: `"name":"lobby"`}
	r.steps["sudo pomelod reload"] = expected{prints: "changed: -session-rate="}
	r.read("docs/ADMIN.md")
}

// A program begins as the page says, of the code that stands there, in a module of its own.
func readHandlers(t *testing.T) {
	r := newReader(t)
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	const get = "go get github.com/pomelod/pomelod/server github.com/pomelod/pomelod/app/apptest"
	r.steps[get] = expected{replace: func() string { // from here, and what it needs from the cache
		offline := "GOSUMDB=off GOPROXY=off " + get
		return "go mod edit -replace=github.com/pomelod/pomelod=" + root + " && { " + offline + " || { go -C " + root + " mod download && " + offline + "; }; }"
	}}
	page := readFile(t, "../docs/HANDLERS.md")
	code := func(begin, end string) string {
		_, rest, found := strings.Cut(page, "```go\n"+begin)
		text, _, closed := strings.Cut(rest, "```\n")
		if !found || !closed {
			t.Fatalf("the page has no code that begins with %s", begin)
		}
		return begin + text + end
	}
	r.steps["go test ./..."] = expected{before: func() {
		r.write("main.go", "package main\n\nimport (\n\t\"os\"\n\n\t\"github.com/pomelod/pomelod/app\"\n\t\"github.com/pomelod/pomelod/server\"\n)\n\n"+code("// dice is", "")+"\nfunc main() { os.Exit(server.Main(dice())) }\n", 0o644)
		r.write("main_test.go", "package main\n\nimport (\n\t\"testing\"\n\n\t\"github.com/pomelod/pomelod/app/apptest\"\n)\n\n"+code("func TestRoll", "}\n"), 0o644)
	}, prints: "ok"}
	r.steps["go run ."] = expected{instead: func() {
		outputOf(t, "go", "build", "-C", r.dir, "-o", "dice", ".")
		p := spawn(t, exec.Command(r.file("dice"), "-listen", "127.0.0.1:0", "-gate", "127.0.0.1:0", "-admin", "none", "-admin-socket", "none"))
		if got := login(t, p.addr("connector")).ask("area.areaHandler.roll", `{"sides":6}`); got != `{"dice":6}` {
			t.Errorf("it rolls %s", got)
		}
		p.stop()
	}}
	r.read("docs/HANDLERS.md")
}
