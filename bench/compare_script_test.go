//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The script with a go that builds nothing and a load generator that writes down what it is asked. Not beside other tests:
// one that writes a program and starts it fails when a process is forked here between the two.
func TestCompareScriptCleansUp(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	const calls = "broadcast broadcast-w1;broadcast broadcast-w16;echo echo;broadcast room-of-one;rooms rooms-20;compare ;"
	for _, c := range []struct {
		name, revision, env string
		code                int
		calls               string
	}{
		{"all is well", "HEAD", "", 0, calls},
		{"void runs, and something slower", "HEAD", "BENCH_EXIT=1", 1, calls},
		{"no measurement", "HEAD", "BENCH_EXIT=2", 2, "broadcast broadcast-w1;"},
		{"the revision does not build", "HEAD", "BROKEN=compare-tree", 2, ""},
		{"this tree does not build", "HEAD", "BROKEN=compared", 2, ""},
		{"no such revision", "nothing", "", 2, ""},
	} {
		dir := scriptTree(t)
		cmd := exec.Command("sh", "scripts/bench-compare.sh", c.revision)
		cmd.Dir = dir
		cmd.Env = append(gitless(), "GO="+dir+"/go", c.env)
		said, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", c.name, code, c.code, said)
		}
		if got, _ := os.ReadFile(dir + "/calls"); string(got) != c.calls {
			t.Errorf("%s: calls %s", c.name, got)
		}
		if trees := git(t, dir, "worktree", "list"); strings.Count(trees, "\n") != 1 {
			t.Errorf("%s: left behind\n%s", c.name, trees)
		}
		if _, err := os.Stat(dir + "/bin/compare-tree"); err == nil {
			t.Errorf("%s: the tree is still there", c.name)
		}
	}
}

// scriptTree is a repository with the script, and the two that it calls.
func scriptTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "compared")
	script, err := os.ReadFile("../scripts/bench-compare.sh")
	if err != nil {
		t.Fatal(err)
	}
	os.MkdirAll(dir+"/scripts", 0o755)
	os.WriteFile(dir+"/scripts/bench-compare.sh", script, 0o755)
	os.WriteFile(dir+"/go", []byte("#!/bin/sh\n"+
		`case $PWD in *"${BROKEN:-/none}") exit 1 ;; esac
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\nprintf "%%s %%s;" "$1" "$([ "$2" = -row ] && echo "$3")" >>calls\nexit ${BENCH_EXIT:-0}\n' >"$2"
chmod +x "$2"
`), 0o755)
	git(t, dir, "init", "-q")
	git(t, dir, "add", "-A")
	git(t, dir, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "all")
	return dir
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = dir, gitless()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// gitless is the environment without what would lead git to another repository, as when a hook runs the tests.
func gitless() (env []string) {
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GIT_") {
			env = append(env, e)
		}
	}
	return env
}
