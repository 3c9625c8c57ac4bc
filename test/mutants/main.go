// Mutants plants bugs, one at a time, and says which of them no test noticed:
//
//	go run ./test/mutants [-only REGEXP] [-timeout 3m]
//
// The bugs stand in testdata/mutants.txt of the package that they are in, beside its tests, one paragraph each:
//
//	bug: what is wrong, in words
//	file: output.go
//	-a line of the file, or several next to one another, without what they are indented by
//	+what stands there instead; several lines, or none
//	run: TestGroupModel
//	also: router,server
//
// The lines must be in the file once. The package's own tests must fail with the bug, or those that run names. Where they cannot, as what
// is wrong shows only further up, also names the packages whose tests must, and behind a
// space which of these (a regexp as of -run). What begins with # is a comment. Files are left as they
// are (go help build, -overlay). With -check no bug is planted, but each is looked for, as CI does.
//
// It ends with status 1 if a bug was not noticed, and 2 if one could not be planted.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/pomelod/pomelod/internal/overlay"
)

var (
	only    = flag.String("only", "", "plant only bugs whose package or words match this `regexp`")
	timeout = flag.Duration("timeout", 3*time.Minute, "how long the tests of one package may take; a bug that makes them take longer was noticed")
	check   = flag.Bool("check", false, "plant nothing, but say which bugs do not fit the code any more")
)

func main() {
	flag.Parse()
	which, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "-only:", err)
		os.Exit(2)
	}
	all, err := readAll(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	figures, failed := map[outcome]int{}, false
	for _, m := range all {
		if !which.MatchString(m.pkg + ": " + m.bug) {
			continue
		}
		began := time.Now()
		out, detail := m.try()
		figures[out]++
		failed = failed || out == unfit
		fmt.Printf("%-9s %3.0fs %s: %s%s\n", out, time.Since(began).Seconds(), m.pkg, m.bug, detail)
	}
	if *check {
		fmt.Printf("%d bugs can be planted, %d cannot\n", figures[fits], figures[unfit])
	} else {
		fmt.Printf("%d bugs planted: %d noticed by the package's own tests, %d by those of others, %d survived\n",
			figures[own]+figures[others]+figures[survived], figures[own], figures[others], figures[survived])
	}
	switch {
	case failed:
		os.Exit(2)
	case figures[survived] > 0:
		os.Exit(1)
	}
}

// outcome is what became of a bug.
type outcome string

const (
	own      outcome = "noticed"   // by the package's own tests
	others   outcome = "elsewhere" // by those of others
	survived outcome = "SURVIVED"
	unfit    outcome = "UNFIT" // its lines are not in the file, or it does not compile, or not in time
	fits     outcome = "fits"
)

// try plants m and runs the tests that should notice it.
func (m *mutant) try() (out outcome, detail string) {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return unfit, "\n" + err.Error()
	}
	defer os.RemoveAll(dir)
	edit, err := m.edit(".")
	if err != nil {
		return unfit, "\n" + err.Error()
	}
	if *check {
		return fits, ""
	}
	name, err := overlay.Write(".", dir, []overlay.Edit{edit})
	if err != nil {
		return unfit, "\n" + err.Error()
	}
	for i, pkg := range append([]string{m.pkg}, m.also...) {
		run := m.run
		if i > 0 {
			run = m.alsoRun
		}
		switch text, err := test(name, pkg, run); {
		case errors.Is(err, context.DeadlineExceeded):
			return unfit, " could not be compiled in time"
		case strings.Contains(text, "[build failed]") || strings.Contains(text, "[setup failed]"):
			return unfit, " does not compile\n" + text
		case err != nil && i == 0:
			return own, " (" + failing(text) + ")"
		case err != nil:
			return others, " (" + pkg + ": " + failing(text) + ")"
		}
	}
	return survived, ""
}

// test runs a package's tests with an overlay.
func test(overlay, pkg, run string) (text string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), *timeout+5*time.Minute) // the compiler has its own time
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-vet=off", "-short", "-failfast", "-count=1", "-timeout", timeout.String(), "-run", run, "-overlay", overlay, "./"+pkg)
	cmd.WaitDelay = 10 * time.Second
	b, err := cmd.CombinedOutput()
	return string(b), cmp.Or(ctx.Err(), err)
}

var failingTest = regexp.MustCompile(`(?m)^--- FAIL: (\S+)|^(panic: .{0,60})`)

// failing is the first test that failed.
func failing(text string) string {
	if m := failingTest.FindStringSubmatch(text); m != nil {
		return m[1] + m[2]
	}
	return "ended early"
}
