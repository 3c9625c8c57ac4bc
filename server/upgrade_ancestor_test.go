//go:build linux

package server

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// versions is what a line looks like, for git, that says the version of something that is handed over.
const versions = `(Protocol|[sS]tateVersion|StateVersion|sessionVersion|namesVersion) += [0-9]+`

// versioned are the files that have one.
var versioned = []string{"channel/*.go", "router/*.go", "netpoll/*.go", "internal/handover/*.go", ":!*_test.go"}

// git runs git in the checkout that these tests are from, and returns what it says; false: it fails.
func git(args ...string) (string, bool) {
	cmd := exec.Command("git", args...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err == nil
}

// format is all versions in what git grep is told to look through: a commit, or nothing for the files as they are.
func format(commit ...string) string {
	args := append([]string{"grep", "-hoE", versions}, commit...)
	out, _ := git(append(append(args, "--"), versioned...)...)
	lines := strings.Split(out, "\n")
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// ancestors is how many commits back one is looked for that can be built: one that is broken by itself says nothing about this one.
const ancestors = 5

// buildBefore builds a commit, or the first before it that can be built.
func buildBefore(t *testing.T, first string) (commit, binary string) {
	t.Helper()
	for i := range ancestors {
		commit, ok := git("rev-parse", fmt.Sprintf("%s~%d", first, i))
		if !ok {
			t.Skipf("of the commits up to %s that this checkout has, none can be built", first)
		}
		binary, err := buildAt(t, commit)
		if err == nil {
			return commit, binary
		}
		t.Log(err)
	}
	t.Fatalf("of the %d commits up to %s none can be built", ancestors, first)
	return "", ""
}

// buildAt builds pomelod as a commit has it.
func buildAt(t *testing.T, commit string) (binary string, err error) {
	t.Helper()
	dir := t.TempDir()
	archive := exec.Command("git", "archive", commit)
	archive.Dir = ".."
	tree, err := archive.Output()
	if err != nil {
		t.Fatal(err)
	}
	unpack := exec.Command("tar", "-x", "-C", dir)
	unpack.Stdin = bytes.NewReader(tree)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	binary = filepath.Join(dir, "pomelod-"+commit)
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-X github.com/pomelod/pomelod/server.Version="+commit, "-o", binary, "./cmd/pomelod")
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build commit %s: %v: %s", commit, err, out)
	}
	return binary, nil
}

// startBinary starts a binary that knows nothing of tests, and has u go on with whatever is at u.path then. A shell ends it, and all that follow it, with the
// test, or when that is killed: they are a group of processes.
func startBinary(t *testing.T, binary string, args ...string) *upgradable {
	t.Helper()
	u := &upgradable{path: filepath.Join(t.TempDir(), "pomelod"), done: make(chan error, 1)}
	u.use(binary)
	cmd := pomelodCommand(nil, upgradableArgs(append([]string{"-drain", "0s"}, args...))...)
	cmd.Args = append([]string{"sh", "-c", `"$0" "$@" </dev/null & exec 2>/dev/null; cat; kill -TERM 0`, u.path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	u.run(t, cmd)
	return u
}

// use makes another binary pomelod.
func (u *upgradable) use(binary string) {
	_ = os.Remove(u.path)
	if err := os.Symlink(binary, u.path); err != nil {
		panic(err)
	}
}

// From the commit before to this one, and back: clients stay where what is handed over has the same versions, and else the upgrade is refused with a sentence
// and nothing has happened. The last commit with other versions is refused for certain, in both directions.
func TestUpgradeFromAncestors(t *testing.T) {
	if testing.Short() {
		t.Skip("builds pomelod twice")
	}
	before, ok := git("rev-parse", "HEAD~1")
	if !ok {
		t.Skip("this checkout has no history: there is no commit before this one to upgrade from")
	}
	if n := strings.Count(format(), "="); n < 6 {
		t.Fatalf("only %d versions were found: %s", n, format())
	}
	t.Run("the commit before", func(t *testing.T) { t.Parallel(); upgradeBetween(t, before) })

	changed, _ := git(append([]string{"log", "-1", "--format=%H", "-G", versions, "HEAD", "--"}, versioned...)...)
	older, ok := git("rev-parse", changed+"~1")
	if _, has := git("cat-file", "-e", older+":server/upgrade.go"); changed == "" || !ok || !has {
		t.Log("the history of this checkout does not go back to other versions of what is handed over")
		return
	}
	if older != before && format(older) != format() {
		t.Run("the last commit with other versions", func(t *testing.T) { t.Parallel(); upgradeBetween(t, older) })
	}
}

// upgradeBetween upgrades from a commit, or one before it that can be built, to this one and back, or is refused both.
func upgradeBetween(t *testing.T, commit string) {
	commit, theirs := buildBefore(t, commit)
	works := format(commit) == format()
	t.Logf("commit %s has %s", commit, format(commit))
	ours, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range [][2]string{{theirs, ours}, {ours, theirs}} {
		u := startBinary(t, way[0])
		c := newCouple(t, u.addr("connector"))
		for i, binary := range []string{way[1], way[0]} {
			u.use(binary)
			if works {
				u.mustUpgrade()
			} else if said, code := u.upgrade(); code != 1 || !strings.Contains(said, "was not upgraded and goes on: ") || !strings.Contains(said, "restart instead of upgrading") {
				t.Errorf("exit %d, %s", code, said)
			}
			if err := c.chat(fmt.Sprint("upgrade ", i)); err != nil {
				t.Fatal(err)
			}
			if !works {
				break // the other binary is the one that runs
			}
		}
		if n := len(u.pids()); works != (n == 3) {
			t.Errorf("%d processes were ready", n)
		}
	}
}
